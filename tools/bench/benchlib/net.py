# SPDX-License-Identifier: GPL-2.0
"""The network drivers: what a guest sends to dom0 and receives from it."""

import json

from . import jobs as names
from . import measure, profile, report, svg
from xenlab.progress import Failure, say

PAIRS = ["c/c", "ours/ours", "ours/c", "c/ours"]


class Job:
    """An amount of traffic, as net.inc takes it; unit is that of the rate."""

    def __init__(self, name, kind, requests, unit, profiled, less_is_better=False):
        self.name, self.kind, self.requests, self.unit = name, kind, requests, unit
        self.profiled, self.less_is_better = profiled, less_is_better

    def word(self, requests=None):
        return "%s:%s:%d" % (self.name, self.kind, requests or self.requests)


# The third is how many times 64 KiB, packets, or round trips.
JOBS = [
    Job("tcp-transmit", "tcp-tx", 2400, "Mb/s", 400),
    Job("tcp-receive", "tcp-rx", 2400, "Mb/s", 400),
    Job("udp64-transmit", "udp-tx", 40000, "packets/s", 5000),
    Job("udp64-receive", "udp-rx", 40000, "packets/s", 5000),
    Job("pktgen-transmit", "pktgen-tx", 40000, "packets/s", 5000),
    Job("pktgen-receive", "pktgen-rx", 40000, "packets/s", 5000),
    Job("tcp-rr", "rr", 3000, "us", 500, True),
    Job("ping", "ping", 300, "us", 100, True),
]
QUICK = 4


class Measurement(measure.Measurement):
    unit = ""


class Profiled(profile.Profiled):
    unit = ""


def chosen_jobs(args):
    patterns = args.profile.split(",") if args.profile else args.only
    return names.choose(JOBS, patterns, "of the network's ")


def chosen_pairs(args):
    pairs = args.pairs.split(",") if args.pairs else PAIRS
    for pair in pairs:
        if pair not in PAIRS:
            raise Failure("--pairs: of %s, not %s" % (", ".join(PAIRS), pair))
    return pairs


def command(args):
    pairs, chosen = chosen_pairs(args), chosen_jobs(args)
    lab, built = measure.prepare()
    if args.profile:
        for job in chosen:
            job.requests = job.profiled
    elif args.quick:
        for job in chosen:
            job.requests //= QUICK
    words = {"BENCH_PAIRS": " ".join(pairs), "BENCH_JOBS": " ".join(j.word() for j in chosen),
             "BENCH_REPEAT": args.repeat or (1 if args.quick else 3)}
    results = measure.Results()
    if args.profile:
        boot = Profiled(lab, built, results, words, args.verbose, "net-profile.sh")
        return 0 if boot.run() and profile.show(boot, [(p, j) for p in pairs for j in chosen], args, None) else 1
    good = Measurement(lab, built, results, words, args.verbose, "net.sh").run()
    say("")
    for job in chosen:
        job.name += ", " + job.unit
    results.samples = {(p, next((j.name for j in chosen if j.name.startswith(n + ",")), n)): s
                       for (p, n), s in results.samples.items()}
    say(report.table(results, pairs, chosen, None, args.markdown, "", "packet, 64 KiB or round trip"))
    if args.json:
        write_json(args.json, results, pairs, chosen, lab.version)
    if args.svg:
        with open(args.svg, "w") as f:
            f.write(chart(results, pairs, chosen))
    return 0 if good and results.samples else 1


def write_json(path, results, pairs, chosen, kernel):
    figures = []
    for job in chosen:
        first = results.iops(pairs[0], job.name)
        for pair in pairs:
            value = results.iops(pair, job.name)
            if value:
                figures.append({"job": job.name.split(",")[0], "kind": job.kind, "front_back": pair,
                                "amount": job.requests, "unit": job.unit, "rate": value,
                                "ratio": value / first if first else None,
                                "spread": results.spread(pair, job.name),
                                "samples": results.samples[pair, job.name]})
    with open(path, "w") as f:
        json.dump({"kernel": kernel, "mode": "exact, 2 ns an instruction, vCPUs pinned",
                   "compared_to": pairs[0], "figures": figures}, f, indent=1)
        f.write("\n")


def chart(results, pairs, chosen):
    def ratio(pair, job):
        return (results.iops(pair, job.name) or 0) / (results.iops(pairs[0], job.name) or 1)
    return svg.groups("Network, compared to %s (exact mode; of the times in us, less is better)"
                      % names.TITLES[pairs[0]], [names.TITLES[p] for p in pairs],
                      [(j.name.replace(", ", "\n"), [ratio(p, j) for p in pairs]) for j in chosen])
