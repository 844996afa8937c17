# SPDX-License-Identifier: GPL-2.0
"""Event channels against polling, in real time: exact mode charges a spin to the one it waits for."""

import json
import os
import statistics

from . import BENCH, jobs, measure, svg
from .report import layout
from xenlab import payload, run
from xenlab.progress import say

MODES = {"c": "C, events", "never": "ours, never", "adaptive": "ours, adaptive", "always": "ours, always"}
JOBS = ["randread-4k-qd1", "randread-4k-qd32"]
COLUMNS = [("read_iops", "requests/s"), ("mean_us", "mean latency, us"), ("p99_us", "99th percentile, us"),
           ("thread_ms", "thread ran, ms"), ("idle_ms", "... in 5 s idle, ms")]


class Polling(measure.Measurement):
    """The lab's run of polling.sh, in fast mode and with nothing pinned but the guest."""

    def __init__(self, lab, built, results, settings, verbose):
        tests = payload.find_tests([os.path.join(BENCH, "polling.sh")])
        run.Run.__init__(self, lab, built, tests, "fast", verbose=verbose,
                         settings=dict({"MODULES_FRONT": "c", "MODULES_BACK": "c"}, **settings))
        self.figures = results

    def _show(self, kind, line):
        found = self.figures.line(line)
        if found:
            mode, job, sample = found
            say("  %-10s %-18s %s" % (mode, job, " ".join("%s=%d" % x for x in sample.items())))
        elif kind == "not ok" or self.verbose or line.startswith("#"):
            say("    " + line)


def table(results, markdown):
    """A row for each job and mode: the median of the repetitions, and their range for the first column."""
    rows = [["job, back end"] + [title for _, title in COLUMNS]]
    for job in JOBS:
        for mode, name in MODES.items():
            samples = results.samples.get((mode, job))
            if samples:
                values = ["%.0f" % statistics.median(s[key] for s in samples) for key, _ in COLUMNS]
                values[0] += " (%.0f to %.0f)" % (min(s.iops for s in samples), max(s.iops for s in samples))
                rows.append(["%s, %s" % (job, name)] + values)
    return "\n".join(layout(rows, markdown))


def chart(results):
    """Requests a second and latency of each mode, compared to the C back end's."""
    columns = []
    for key, title in COLUMNS[:2]:
        for job in JOBS:
            values = [statistics.median(s[key] for s in results.samples.get((mode, job), [{key: 0}])) for mode in MODES]
            columns.append(("%s\n%s" % (job, title.split(",")[0]), [v / (values[0] or 1) for v in values]))
    return svg.groups("Event channels against polling, compared to C (real time)", list(MODES.values()), columns)


def command(args):
    chosen = [j for j in jobs.JOBS if j.name in JOBS]
    lab, built = measure.prepare()
    results = measure.Results()
    words = {"BENCH_JOBS": " ".join(j.word(j.requests // 2) for j in chosen), "BENCH_REPEAT": args.repeat or 5}
    good = Polling(lab, built, results, words, args.verbose).run()
    say("")
    say(table(results, args.markdown))
    if args.json:
        with open(args.json, "w") as f:
            json.dump([{"back_end": mode, "job": job, "samples": samples}
                       for (mode, job), samples in results.samples.items()], f, indent=1)
            f.write("\n")
    if args.svg:
        with open(args.svg, "w") as f:
            f.write(chart(results))
    return 0 if good and results.samples else 1
