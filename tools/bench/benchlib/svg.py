# SPDX-License-Identifier: GPL-2.0
"""Charts as SVG, written by hand: grouped bars, and stacked ones."""

from xml.sax.saxutils import escape

from . import jobs as names

COLOURS = ["#888888", "#c4551c", "#e3a25b", "#4878a8", "#9dbbd4", "#5d9a5d", "#b3a0c8", "#d8d8d8",
           "#8c564b", "#2f4b7c", "#f2c14e", "#7fb7be"]


class Chart:
    """A drawing area with a scale from 0 to top, and a legend."""

    LEFT, RIGHT, HEIGHT, UPPER, LOWER = 60, 20, 260, 50, 70

    def __init__(self, title, width, top, unit):
        self.width, self.top, self.parts = width, top, []
        self.text(self.LEFT, 18, title, size=14, anchor="start")
        step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if top / s <= 8)
        for i in range(int(top / step) + 1):
            y = self.y(i * step)
            self.parts.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>'
                              % (self.LEFT, width - self.RIGHT, y, y))
            self.text(self.LEFT - 6, y + 4, "%g" % round(i * step, 3), anchor="end")
        self.text(self.LEFT - 6, self.UPPER - 10, unit, anchor="end")

    def y(self, value):
        return self.UPPER + self.HEIGHT * (1 - value / self.top)

    def text(self, x, y, text, size=11, anchor="middle"):
        self.parts.append('<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s">%s</text>'
                          % (x, y, size, anchor, escape(text)))

    def bar(self, x, width, low, high, colour):
        self.parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>'
                          % (x, self.y(high), width, self.y(low) - self.y(high), colour))

    def legend(self, labels):
        x = self.LEFT
        for i, label in enumerate(labels):
            colour = COLOURS[i % len(COLOURS)]
            self.parts.append('<rect x="%d" y="%d" width="10" height="10" fill="%s"/>'
                              % (x, self.UPPER + self.HEIGHT + 48, colour))
            self.text(x + 14, self.UPPER + self.HEIGHT + 57, label, anchor="start")
            x += 28 + 7 * len(label)
        self.width = max(self.width, x)

    def __str__(self):
        height = self.UPPER + self.HEIGHT + self.LOWER
        return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
                'font-family="sans-serif">\n<rect width="100%%" height="100%%" fill="white"/>\n%s\n</svg>\n'
                % (self.width, height, self.width, height, "\n".join(self.parts)))


def groups(title, labels, columns):
    """Bars side by side, compared to the first label's: columns are (name, [a ratio for each label])."""
    top = max(1.2, 1.05 * max(max(values) for _, values in columns))
    wide = max(100, 22 * len(labels))
    chart = Chart(title, max(640, Chart.LEFT + Chart.RIGHT + (wide + 20) * len(columns)), top, "ratio")
    for i, (name, values) in enumerate(columns):
        at = Chart.LEFT + (wide + 20) * i + 10
        for k, value in enumerate(values):
            width = wide / len(labels)
            chart.bar(at + k * width, width - 2, 0, value, COLOURS[k % len(COLOURS)])
            if value:
                chart.text(at + (k + 0.5) * width - 1, chart.y(value) - 3, "%.2f" % value, size=9)
        for line, word in enumerate(name.split("\n")):
            chart.text(at + wide / 2, Chart.UPPER + Chart.HEIGHT + 16 + 14 * line, word)
    chart.legend(labels)
    return str(chart)


def ratios(results, pairs, jobs):
    """Requests a second of each pair, compared to the first; "no split" is off the scale, and left out."""
    pairs = [p for p in pairs if p != "none"]
    return groups("Requests a second, compared to %s (exact mode)" % names.TITLES[pairs[0]],
                  [names.TITLES[p] for p in pairs],
                  [(j.name, [(results.iops(p, j.name) or 0) / (results.iops(pairs[0], j.name) or 1) for p in pairs])
                   for j in jobs])


def stacks(title, unit, parts, columns):
    """Stacked bars: columns are (name, {part: value})."""
    top = 1.08 * max(sum(c.values()) for _, c in columns)
    chart = Chart(title, max(640, Chart.LEFT + Chart.RIGHT + 110 * len(columns)), top, unit)
    for i, (name, column) in enumerate(columns):
        at, low = Chart.LEFT + 110 * i + 20, 0
        for part, colour in zip(parts, COLOURS):
            value = max(column.get(part, 0), 0)
            chart.bar(at, 70, low, low + value, colour)
            if value > top / 25:
                chart.text(at + 35, chart.y(low + value / 2) + 4, "%.1f" % value)
            low += value
        chart.text(at + 35, chart.y(low) - 4, "%.1f" % low)
        for line, word in enumerate(name.split("\n")):
            chart.text(at + 35, Chart.UPPER + Chart.HEIGHT + 16 + 14 * line, word)
    chart.legend(parts)
    return str(chart)
