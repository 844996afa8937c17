# SPDX-License-Identifier: GPL-2.0
"""A boot of the lab that measures."""

import os
import statistics

from . import BENCH
from xenlab import accel, modules, payload, run
from xenlab.build import Lab
from xenlab.progress import Failure, say, step


class Sample(dict):
    """What one repetition of a job gave: fio's figures and counts, by name."""

    @property
    def iops(self):
        """Requests a second of virtual time, reads and writes together; or what else a job gives."""
        return self["rate"] if "rate" in self else self["read_iops"] + self["write_iops"]


class Results:
    """All samples, by pair and job."""

    def __init__(self):
        self.samples = {}

    def line(self, text):
        """Take a line of results; gives (pair, job, sample), or None for any other line."""
        words = text.split()
        if words[0] != "bench" or len(words) < 5:
            return None
        sample = Sample((k, float(v)) for k, v in (w.split("=") for w in words[4:]))
        self.samples.setdefault((words[1], words[2]), []).append(sample)
        return words[1], words[2], sample

    def iops(self, pair, job):
        """The mean over the repetitions, or None."""
        samples = self.samples.get((pair, job))
        return statistics.mean(s.iops for s in samples) if samples else None

    def spread(self, pair, job):
        """The largest less the smallest, as a part of the mean; None for a single one."""
        values = [s.iops for s in self.samples.get((pair, job), ())]
        return (max(values) - min(values)) / statistics.mean(values) if len(values) > 1 else None

    def per_request(self, pair, job, name, requests):
        """A count for each request, or None."""
        values = [s[name] for s in self.samples.get((pair, job), ()) if name in s]
        return statistics.mean(values) / requests if values else None


class Measurement(run.Run):
    """The lab's run of one test, block.sh, whose "bench" lines are results."""

    unit = "IOPS"

    def __init__(self, lab, built, results, settings, verbose=False, script="block.sh", cpus=accel.PINNED):
        tests = payload.find_tests([os.path.join(BENCH, script)])
        super().__init__(lab, built, tests, "exact", pin=cpus, verbose=verbose,
                         settings=dict({"MODULES_FRONT": "c", "MODULES_BACK": "c"}, **settings))
        self.figures = results

    def _show(self, kind, line):
        found = self.figures.line(line)
        if found:
            pair, job, sample = found
            say("  %-10s %-18s %8.0f %s" % (pair, job, sample.iops, self.unit))
        elif kind == "not ok" or self.verbose or line.startswith("#"):
            say("    " + line)


def prepare():
    """The lab and the modules, built: (lab, directory of the modules)."""
    if os.geteuid():
        raise Failure("the lab needs root")
    lab = Lab().build()
    built = modules.build(lab, terminal=False)
    step("modules", "built")
    run.forget_old_logs()
    return lab, built


def settings(args, pairs, jobs, requests):
    """What the scripts of dom0 want to know."""
    return {"BENCH_PAIRS": " ".join(pairs), "BENCH_JOBS": " ".join(j.word(requests) for j in jobs),
            "BENCH_SCHEDULER": args.scheduler}


def measure(lab, built, args, pairs, jobs, requests=None):
    """Run jobs on pairs in one boot; gives (Results, whether all went well)."""
    results = Results()
    words = settings(args, pairs, jobs, requests)
    words["BENCH_REPEAT"] = args.repeat or (1 if args.quick else 3)
    return results, Measurement(lab, built, results, words, args.verbose).run()
