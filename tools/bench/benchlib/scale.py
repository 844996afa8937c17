# SPDX-License-Identifier: GPL-2.0
"""What a disk or an interface more costs: time to attach, memory, and work while idle."""

import json

from . import jobs, measure
from .report import layout
from xenlab.progress import say

COUNTS = [1, 16, 64]
PAIRS = ["c/c", "ours/ours"]
COLUMNS = [("attach_ms", "attach, ms each"), ("dom0_kb", "dom0, kB each"), ("guest_kb", "guest, kB each"),
           ("dom0_switches", "dom0 task switches in 20 s"), ("guest_switches", "guest task switches in 20 s")]


class Devices:
    """What there are more and more of: the script, and columns of its own."""

    def __init__(self, name, script, columns=()):
        self.name, self.script, self.columns = name, script, COLUMNS + list(columns)


DISKS = Devices("disks", "scale.sh")
INTERFACES = Devices("interfaces", "net-scale.sh", [("rr_us", "round trip by the first one, us")])


class Scale(measure.Measurement):
    """The lab's run of the script."""

    devices = DISKS

    def _show(self, kind, line):
        found = self.figures.line(line)
        if found:
            pair, count, sample = found
            say("  %-10s %2s %s %s" % (pair, count, self.devices.name, " ".join("%s=%g" % x for x in sample.items())))
        elif kind == "not ok" or self.verbose or line.startswith("#"):
            say("    " + line)


def table(results, devices, pairs, markdown):
    """A row for each pair and number of devices."""
    rows = [[devices.name] + [title for _, title in devices.columns]]
    for pair in pairs:
        for count in [0] + COUNTS:
            for sample in results.samples.get((pair, str(count)), ()):
                rows.append(["%s, %d" % (jobs.TITLES[pair], count)] + [
                    "-" if key.endswith(("_kb", "_ms", "_us")) and not count else "%d" % sample[key]
                    for key, _ in devices.columns])
    return "\n".join(layout(rows, markdown))


def command(args, devices=DISKS):
    pairs = args.pairs.split(",") if args.pairs else PAIRS
    lab, built = measure.prepare()
    results = measure.Results()
    boot = Scale(lab, built, results, {
        "BENCH_PAIRS": " ".join(pairs), "BENCH_SCALE": " ".join(map(str, COUNTS))},
        args.verbose, script=devices.script)
    boot.devices = devices
    good = boot.run()
    say("")
    say(table(results, devices, pairs, args.markdown))
    if args.json:
        with open(args.json, "w") as f:
            json.dump([{"front_back": pair, devices.name: int(count), **samples[0]}
                       for (pair, count), samples in results.samples.items()], f, indent=1)
            f.write("\n")
    return 0 if good and results.samples else 1
