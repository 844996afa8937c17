# SPDX-License-Identifier: GPL-2.0
"""The command line."""

import argparse
import signal
import subprocess
import sys

from . import jobs, measure, net, polling, profile, report, scale, svg, taps
from xenlab.progress import Failure, kill_children, say


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench", description="The drivers against the C ones, in the lab: virtual time "
        "by instruction count, one vCPU each for dom0 and a PV guest, null_blk as the disk. Without an option for something else, the block drivers.",
        epilog="Documentation/benchmarks.md says what the figures show and what they do not.")
    parser.add_argument("--quick", action="store_true", help="few jobs of few requests: a smoke test")
    parser.add_argument("--repeat", type=int, metavar="N", help="repetitions of each job (3; 1 with --quick)")
    parser.add_argument("--only", action="append", metavar="PATTERN",
                        help="only the jobs with such a name, as randread-4k-*; may be repeated")
    parser.add_argument("--pairs", metavar="LIST",
                        help="front/back pairs with commas, of %s" % ", ".join(jobs.NAMES))
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--svg", metavar="FILE", help="write a bar chart there")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--scheduler", default="", metavar="NAME",
                        help="the I/O scheduler of the guest's disk, if not the one that the kernel chooses")
    parser.add_argument("--profile", metavar="JOBS",
                        help="instead: where the instructions of a request of these jobs go")
    parser.add_argument("--scale", action="store_true",
                        help="instead: time and memory of a disk more, with 1, 16 and 64 disks; with --net: of an interface")
    parser.add_argument("--polling", action="store_true",
                        help="instead: event channels against polling, in real time; on a quiet machine")
    parser.add_argument("--net", action="store_true", help="instead: the network drivers")
    parser.add_argument("--tap", action="store_true",
                        help="instead: what taps cost, compared to the same disk without one")
    parser.add_argument("--taps", metavar="LIST", default="",
                        help="with --tap: only these, with commas, of %s" % ", ".join(t.name for t in taps.TAPS))
    parser.add_argument("--top", type=int, default=15, metavar="N", help="symbols that --profile lists (15)")
    parser.add_argument("--list", action="store_true", help="list the jobs")
    parser.add_argument("-v", "--verbose", action="store_true", help="show all that the boot prints")
    return parser.parse_args()


def chosen_jobs(args):
    chosen = jobs.choose(jobs.JOBS, args.only)
    if args.quick and not args.only:
        chosen = [j for j in chosen if j.name in jobs.QUICK]
    return chosen


def chosen_pairs(args):
    pairs = args.pairs.split(",") if args.pairs else jobs.PAIRS
    for pair in pairs:
        if pair not in jobs.NAMES:
            raise Failure("--pairs: of %s, not %s" % (", ".join(jobs.NAMES), pair))
    return pairs


def refuse(args, mode, *names):
    """Options that a mode has no use for are errors, not ignored."""
    for name in names:
        if getattr(args, name) not in (None, False, ""):
            raise Failure("--%s has no use for --%s" % (mode, name))


def command(args):
    if args.list:
        for job in net.JOBS if args.net else taps.JOBS if args.tap else jobs.JOBS:
            print("%-20s %d requests" % (job.name, job.requests))
        return 0
    if args.net:
        refuse(args, "net", "tap", "polling", "scheduler")
        if args.scale:
            refuse(args, "scale", "only", "quick", "repeat", "svg", "profile")
            return scale.command(args, scale.INTERFACES)
        if args.profile:
            refuse(args, "profile", "only", "repeat", "quick")
        return net.command(args)
    if args.tap:
        refuse(args, "tap", "pairs", "polling", "scale")
        if args.profile:
            refuse(args, "profile", "only", "repeat")
        return taps.command(args)
    if args.taps:
        raise Failure("--taps goes with --tap")
    pairs = chosen_pairs(args)
    if args.profile:
        refuse(args, "profile", "only", "repeat")
        return profile.command(args, pairs)
    if args.polling:
        refuse(args, "polling", "pairs", "only", "quick", "scheduler")
        return polling.command(args)
    if args.scale:
        refuse(args, "scale", "only", "quick", "repeat", "scheduler", "svg")
        return scale.command(args)
    chosen = chosen_jobs(args)
    requests = jobs.QUICK_REQUESTS if args.quick else None
    lab, built = measure.prepare()
    results, good = measure.measure(lab, built, args, pairs, chosen, requests)
    say("")
    say(report.table(results, pairs, chosen, requests, args.markdown))
    if args.json:
        report.write_json(args.json, results, pairs, chosen, requests, lab.version)
    if args.svg:
        with open(args.svg, "w") as f:
            f.write(svg.ratios(results, pairs, chosen))
    return 0 if good and results.samples else 1


def stop(number, frame):
    raise KeyboardInterrupt


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        return command(args)
    except (Failure, subprocess.CalledProcessError) as failure:
        print("bench: %s" % failure, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        kill_children()
        print("bench: interrupted", file=sys.stderr)
        return 130
