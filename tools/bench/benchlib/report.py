# SPDX-License-Identifier: GPL-2.0
"""The table, and JSON."""

import json

from . import jobs as names

COUNTS = [("guest_events", "guest event interrupts"), ("guest_switches", "guest context switches"),
          ("dom0_events", "dom0 event interrupts"), ("dom0_switches", "dom0 context switches")]


def layout(rows, markdown):
    """Rows of words as lines; the first is the head. All but the first column are flush right."""
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
        return lines
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(w.ljust(n) if i == 0 else w.rjust(n)
                      for i, (w, n) in enumerate(zip(row, widths))).rstrip() for row in rows]


def table(results, pairs, jobs, requests=None, markdown=False, head="requests/s", one="request"):
    """IOPS and the ratio to the first pair; then counts for each request."""
    base = pairs[0]
    rows = [[head] + [names.TITLES[p] for p in pairs]]
    for job in jobs:
        row = [job.name]
        for pair in pairs:
            iops, first = results.iops(pair, job.name), results.iops(base, job.name)
            row.append("-" if iops is None else "%.0f" % iops if pair == base or not first else
                       "%.0f  %.2f" % (iops, iops / first))
        rows.append(row)
    lines = layout(rows, markdown)
    spreads = [(results.spread(p, j.name), p, j.name) for p in pairs for j in jobs]
    spreads = [s for s in spreads if s[0] is not None]
    if spreads:
        lines += ["", "Repetitions differ by at most %.1f %% (%s, %s)."
                  % (100 * max(spreads)[0], names.TITLES[max(spreads)[1]], max(spreads)[2])]
    for key, title in COUNTS:
        rows = [[title + " a " + one] + [names.TITLES[p] for p in pairs]]
        for job in jobs:
            values = [results.per_request(p, job.name, key, requests or job.requests) for p in pairs]
            rows.append([job.name] + ["-" if v is None else "%.2f" % v for v in values])
        lines += [""] + layout(rows, markdown)
    return "\n".join(lines)


def write_json(path, results, pairs, jobs, requests, kernel):
    """All samples, their means, ratios and spreads."""
    figures = []
    for job in jobs:
        for pair in pairs:
            samples = results.samples.get((pair, job.name))
            if samples:
                first = results.iops(pairs[0], job.name)
                figures.append({
                    "job": job.name, "front_back": pair, "requests": requests or job.requests,
                    "block": job.block, "depth": job.depth, "rw": job.rw,
                    "disk": job.disk, "queues": job.queues,
                    "iops": results.iops(pair, job.name),
                    "ratio": results.iops(pair, job.name) / first if first else None,
                    "spread": results.spread(pair, job.name), "samples": samples})
    with open(path, "w") as f:
        json.dump({"kernel": kernel, "mode": "exact, 2 ns an instruction, vCPUs pinned",
                   "disks": {"null": "null_blk queue_mode=2 irqmode=0",
                             "image": "a loop device on a file in dom0's memory",
                             "ram": "brd in dom0"},
                   "compared_to": pairs[0],
                   "figures": figures}, f, indent=1)
        f.write("\n")
