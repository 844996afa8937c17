# SPDX-License-Identifier: GPL-2.0
"""Pauses of a guest: their distribution as a table, and as a chart."""

import math

from . import svg

PICKS = [("min", 0), ("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1)]


def percentile(values, part):
    """The smallest value that is not below this part of all."""
    values = sorted(values)
    return values[max(0, math.ceil(part * len(values) - 1e-9) - 1)]


def table(rows, columns):
    """A line for each of the columns, (key, title), that there are values for."""
    lines = ["%-32s" % "ms" + "".join("%8s" % name for name, _ in PICKS)]
    for key, title in columns:
        values = [row[key] for row in rows if key in row]
        if values:
            lines.append("%-32s" % title + "".join("%8.0f" % percentile(values, part) for _, part in PICKS))
    return lines


def histogram(rows, title):
    """How many pauses were of what length, as SVG."""
    pauses = [row["pause"] for row in rows]
    width = next((w for w in (10, 20, 50, 100, 200, 500, 1000, 2000)
                  if (max(pauses) - min(pauses)) / w <= 24), 5000)
    first = int(min(pauses) // width)
    counts = [0] * (int(max(pauses) // width) - first + 1)
    for pause in pauses:
        counts[int(pause // width) - first] += 1
    step = max(22, 600 // len(counts))
    chart = svg.Chart(title, max(640, svg.Chart.LEFT + svg.Chart.RIGHT + step * len(counts)),
                      max(5, 1.1 * max(counts)), "count")
    for i, count in enumerate(counts):
        at = chart.LEFT + step * i
        chart.bar(at + 1, step - 2, 0, count, svg.COLOURS[1])
        if count:
            chart.text(at + step / 2, chart.y(count) - 3, "%d" % count, size=9)
        if i % max(1, 44 // step) == 0:
            chart.text(at, chart.UPPER + chart.HEIGHT + 16, "%g" % ((first + i) * width / 1000))
    chart.text(chart.LEFT, chart.UPPER + chart.HEIGHT + 34, "pause in the guest, s", anchor="start")
    named = ", ".join("%s %.2f" % (name, percentile(pauses, part) / 1000) for name, part in PICKS)
    chart.text(chart.LEFT, chart.UPPER + chart.HEIGHT + 54, "%d pauses: %s" % (len(pauses), named), anchor="start")
    return str(chart)
