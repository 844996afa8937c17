# SPDX-License-Identifier: GPL-2.0
"""Where the instructions of a request go: every one counted, by a plugin of QEMU's (insns.c)."""

import glob
import json
import os
import re

from . import BENCH, areas, jobs, measure, svg
from .report import layout
from .symbols import Symbols, level
from xenlab import accel, sandbox
from xenlab.progress import say

# dom0's vCPU is pinned to CPU 0, the guest's to CPU 1; Xen works on whichever it is called on.
PARTS = ["guest user", "guest kernel", "guest Xen", "dom0 user", "dom0 kernel", "dom0 Xen"]
REQUESTS = 2000


class Profiled(measure.Measurement):
    """A boot with the plugin."""

    def prepare(self, directory, tests, **more):
        super().prepare(directory, tests, **more)
        sandbox.run(self.lab.root.path, [
            "gcc", "-O2", "-Wall", "-shared", "-fPIC", "-fvisibility=hidden", "-o", "/out/insns.so",
            "/bench/insns.c"], os.path.join(directory, "insns.log"),
            binds=[(BENCH, "/bench"), (directory, "/out")])

    def run(self):
        original = accel.command
        accel.command = lambda *a, **kw: original(*a, **kw) + [
            "-plugin", "/run/insns.so,prefix=/run/blocks"]
        try:
            return super().run()
        finally:
            accel.command = original


class Profile:
    """Instructions of a request, and calls, by part and function."""

    def __init__(self, pair, job):
        self.pair, self.job = pair, job
        self.parts, self.functions, self.calls = {}, {}, {}

    def add(self, part, name, instructions, calls):
        self.parts[part] = self.parts.get(part, 0) + instructions
        key = part, name
        self.functions[key] = self.functions.get(key, 0) + instructions
        self.calls[key] = self.calls.get(key, 0) + calls

    @property
    def total(self):
        return sum(self.parts.values())

    def top(self, count, part=None):
        """The functions with most instructions: (instructions, calls, part, name)."""
        rows = [(n, self.calls[key], *key) for key, n in self.functions.items() if part in (None, key[0])]
        return sorted(rows, reverse=True)[:count]


def read_blocks(path):
    """{(address, instructions): (runs on CPU 0, on CPU 1)}."""
    result = {}
    with open(path) as f:
        for line in f:
            word = line.split()
            result[int(word[0], 16), int(word[1])] = int(word[2]), int(word[3])
    return result


def difference(marks, requests, symbols):
    """What the many requests took beyond the few: marks are the three dumps' paths."""
    first, second, third = (read_blocks(m) for m in marks)
    for key, counts in third.items():
        address, n = key
        kind = level(address)
        for cpu, domain in ((0, "dom0"), (1, "guest")):
            a, b, c = first.get(key, (0, 0))[cpu], second.get(key, (0, 0))[cpu], counts[cpu]
            runs = (c - b) - (b - a)
            if runs:
                runs /= requests
                name, start = (kind, False) if kind == "user" else symbols[domain, kind].find(address)
                yield domain + " " + kind, name, runs * n, runs if start else 0


def read(directory, order, requests):
    """The profiles that a boot has left in its directory; order: pairs and jobs, as measured; of so many
    requests, or, with None, of as many as the job has."""
    logs, = (os.path.dirname(p) for p in glob.glob(os.path.join(directory, "dom0", "*", "xen.symbols")))
    xen = Symbols(os.path.join(logs, "xen.symbols"))
    with open(os.path.join(logs, "dom0.symbols")) as f, open(os.path.join(logs, "kernel.symbols"), "w") as g:
        g.writelines(line for line in f if "[" not in line)
    result, symbols, last = [], {("dom0", "Xen"): xen, ("guest", "Xen"): xen}, None
    for number, (pair, job) in enumerate(order):
        if pair != last:
            for domain in ("dom0", "guest"):
                path = os.path.join(logs, "%s.%s.symbols" % (pair.replace("/", "-"), domain))
                symbols[domain, "kernel"] = Symbols(os.path.join(logs, "kernel.symbols"),
                                                    *[path] if os.path.exists(path) else [])
            last = pair
        marks = [os.path.join(directory, "blocks.%d" % (3 * number + i)) for i in (1, 2, 3)]
        profile = Profile(pair, job.name)
        for values in difference(marks, 2 * (requests or job.requests), symbols):
            profile.add(*values)
        result.append(profile)
    return result


def area_rows(profiles):
    """A row for each area of each part: what its functions take, by their names."""
    sums = {}
    for i, p in enumerate(profiles):
        for (part, name), n in p.functions.items():
            key = part, areas.area(part, name)
            sums.setdefault(key, [0] * len(profiles))[i] += n
    for part in PARTS:
        for key in sorted((k for k in sums if k[0] == part), key=lambda k: -max(sums[k])):
            if max(sums[key]) >= 50:
                yield ["%s: %s" % key] + ["%.0f" % n for n in sums[key]]


def call_rows(profiles):
    """Hypercalls, by number a request."""
    names = {}
    for p in profiles:
        for (part, name), calls in p.calls.items():
            if part.endswith("Xen") and calls > 0.05 and re.match(r"do_[a-z_]+$|pv_hypercall$", name):
                names.setdefault((part, name), max(calls, names.get((part, name), 0)))
    for key in sorted(names, key=lambda k: (k[0], -names[k])):
        yield ["%s: %s" % key] + ["%.2f" % p.calls.get(key, 0) for p in profiles]


def tables(profiles, top, markdown=False, one="request"):
    """By part and by area, all profiles side by side; then each one's functions."""
    rows = [["instructions a " + one] + ["%s %s" % (p.job, jobs.TITLES[p.pair]) for p in profiles]]
    for part in PARTS:
        rows.append([part] + ["%.0f" % p.parts.get(part, 0) for p in profiles])
    rows.append(["sum"] + ["%.0f" % p.total for p in profiles])
    lines = layout(rows, markdown)
    lines += [""] + layout([["by area"] + rows[0][1:]] + list(area_rows(profiles)), markdown)
    lines += [""] + layout([["calls a " + one] + rows[0][1:]] + list(call_rows(profiles)), markdown)
    for p in profiles:
        rows = [["%s %s" % (p.job, jobs.TITLES[p.pair]), "instructions", "part", "calls"]]
        for n, calls, part, name in p.top(top):
            rows.append(["%s: %s" % (part, name), "%.0f" % n, "%.1f %%" % (100 * n / p.total),
                         "%.2f" % calls if calls else "-"])
        lines += [""] + layout(rows, markdown)
    return "\n".join(lines)


def chart(profiles):
    columns = [("%s\n%s" % (re.sub("-4k", "", p.job), jobs.TITLES[p.pair]),
                {k: n / 1000 for k, n in p.parts.items()}) for p in profiles]
    return svg.stacks("Instructions of a request, in thousands, by where they run", "1000", PARTS, columns)


def write_json(path, profiles, count=100):
    out = [{"front_back": p.pair, "job": p.job, "parts": p.parts, "functions": [
        {"part": part, "name": name, "instructions": n, "calls": calls}
        for n, calls, part, name in p.top(count)]} for p in profiles]
    with open(path, "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")


def command(args, pairs):
    chosen = jobs.choose(jobs.JOBS, args.profile.split(","))
    requests = jobs.QUICK_REQUESTS if args.quick else REQUESTS
    lab, built = measure.prepare()
    boot = Profiled(lab, built, measure.Results(), measure.settings(args, pairs, chosen, requests),
                    args.verbose, "profile.sh")
    return 0 if boot.run() and show(boot, [(p, j) for p in pairs for j in chosen], args) else 1


def show(boot, order, args, requests=0):
    """Print, and write, what a boot has counted; requests as in read()."""
    directory = os.path.join(boot.directory, "boot%d" % boot.boots)
    if requests == 0:
        requests = jobs.QUICK_REQUESTS if args.quick else REQUESTS
    profiles = read(directory, order, requests)
    for path in glob.glob(os.path.join(directory, "blocks.*")):
        os.unlink(path)
    say("\n" + tables(profiles, args.top, args.markdown))
    if args.json:
        write_json(args.json, profiles)
    if args.svg:
        with open(args.svg, "w") as f:
            f.write(chart(profiles))
    return True
