# SPDX-License-Identifier: GPL-2.0
"""What a tap costs: the same disk without one, in each mode, with chains of filters, with each extension."""

import fnmatch
import os

from . import jobs, measure, profile, report, svg
from xenlab.progress import Failure, say


class Tap:
    """A tap as taps.sh takes it, and on which disks it is of interest."""

    def __init__(self, name, title, how, chain="", disks=("null",)):
        self.name, self.title, self.how, self.chain, self.disks = name, title, how, chain, disks

    @property
    def word(self):
        return "|".join((self.name, self.how, ",".join(self.disks), self.chain))


# dom0's vCPU has one, the guest's the other.
CPUS = 2
BOTH = ("null", "ram")
RAM = ("ram",)
TAPS = [
    Tap("off", "no tap", "off", disks=BOTH),
    Tap("passthrough", "passthrough", "passthrough", "noop"),
    Tap("noop", "no-op", "on", "noop"),
    Tap("noop2", "2 no-ops", "on", "noop+noop"),
    Tap("noop8", "8 no-ops", "on", "noop" + "+noop" * 7),
    # a filter that is no hook has the data copied to the window
    Tap("copy", "with data", "on", "fault:corrupt=1,p=0", BOTH),
    Tap("copy2", "with data, a no-op", "on", "noop+fault:corrupt=1,p=0"),
    Tap("copy8", "with data, 7 no-ops", "on", "noop+" * 7 + "fault:corrupt=1,p=0"),
    Tap("disk", "the disk itself", "on", "raw:@", BOTH),
    Tap("throttle", "throttle", "on", "throttle:iops=100000000", RAM),
    Tap("trace", "trace", "on", "trace:file=/dev/null,format=blktrace", RAM),
    Tap("cow", "cow", "on", "cow:base=@,delta=@delta", RAM),
    Tap("qcow2", "qcow2", "on", "qcow2:@", RAM),
    Tap("crypt", "crypt", "on", "crypt:key-file=/payload/bin/bench.key+raw:@", RAM),
    Tap("compress", "compress", "on", "compress:create=8M+raw:@", RAM),
    Tap("mirror", "mirror", "on", "mirror:to=@2,map=@map,first=equal+raw:@", RAM),
    Tap("remote", "remote, by blktap serve", "on", "remote:@socket", RAM),
    Tap("qemu", "QEMU", "qemu", disks=BOTH),
]
TITLES = {tap.name: tap.title for tap in TAPS}
jobs.TITLES.update(TITLES)

JOBS = [
    jobs.Job("randread-4k-qd1", "randread", "4k", 1, 3000),
    jobs.Job("randread-4k-qd32", "randread", "4k", 32, 8000),
    jobs.Job("randwrite-4k-qd32", "randwrite", "4k", 32, 8000),
    jobs.Job("read-64k-qd32", "read", "64k", 32, 3000),
    jobs.Job("write-64k-qd32", "write", "64k", 32, 3000),
    jobs.Job("ram-randread-4k-qd32", "randread", "4k", 32, 4000, "ram"),
    jobs.Job("ram-randwrite-4k-qd32", "randwrite", "4k", 32, 4000, "ram"),
    jobs.Job("ram-read-64k-qd32", "read", "64k", 32, 1000, "ram"),
    jobs.Job("ram-write-64k-qd32", "write", "64k", 32, 1000, "ram"),
]


def chosen_taps(words):
    """The taps with such names, and first of all none."""
    if not words:
        return TAPS
    found = [t for t in TAPS if t.name == "off" or any(fnmatch.fnmatch(t.name, p) for p in words.split(","))]
    if len(found) == 1 and words != "off":
        raise Failure("--taps: of %s" % ", ".join(t.name for t in TAPS))
    return found


def chosen_jobs(args):
    patterns = args.profile.split(",") if args.profile else args.only
    return jobs.choose(JOBS, patterns, "of a tap ")


def command(args):
    taps, chosen = chosen_taps(args.taps), chosen_jobs(args)
    requests = jobs.QUICK_REQUESTS if args.quick else profile.REQUESTS if args.profile else None
    names = [t.name for t in taps]
    settings = dict(measure.settings(args, names, chosen, requests),
                    BENCH_TAPS=" ".join(t.word for t in taps), BENCH_PROFILE=1 if args.profile else "",
                    BENCH_REPEAT=args.repeat or (1 if args.quick else 2))
    lab, built = measure.prepare()
    results = measure.Results()
    if args.profile:
        boot = profile.Profiled(lab, built, results, settings, args.verbose, "taps.sh", CPUS)
        return 0 if boot.run() and profile.show(boot, order(taps, chosen), args) else 1
    good = measure.Measurement(lab, built, results, settings, args.verbose, "taps.sh", CPUS).run()
    for disk in ("null", "ram"):
        some = [j for j in chosen if j.disk == disk]
        if some:
            on = [t.name for t in taps if disk in t.disks]
            say("\n" + report.table(results, on, some, requests, args.markdown))
    if args.json:
        report.write_json(args.json, results, names, chosen, requests, lab.version)
    if args.svg:
        base, ext = os.path.splitext(args.svg)
        for disk, suffix in (("null", ""), ("ram", "-ram")):
            some = [j for j in chosen if j.disk == disk]
            if some:
                with open(base + suffix + ext, "w") as f:
                    f.write(svg.ratios(results, [t.name for t in taps if disk in t.disks], some))
    return 0 if good and results.samples else 1


def order(taps, chosen):
    """(tap, job) as taps.sh measures them."""
    return [(t.name, j) for disk in ("null", "ram") for t in taps if disk in t.disks
            for j in chosen if j.disk == disk]
