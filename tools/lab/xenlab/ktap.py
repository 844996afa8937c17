# SPDX-License-Identifier: GPL-2.0
"""Test output, line by line, to results.

Every "ok" and "not ok" line at the left margin counts (KTAP, Documentation/dev-tools/ktap.rst
in the kernel); a failure of the test as a whole (its time limit, its exit status, its plan,
a complaint in a dmesg) counts as one more that failed.
"""

import re

POINT = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:- )?(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)")


class Result:
    """What one test has come to."""

    def __init__(self, name):
        self.name, self.points, self.passed, self.failed, self.skipped = name, 0, 0, 0, 0
        self.plan, self.failures, self.lines = None, [], []
        self.seconds = None

    def line(self, text):
        """Take a line; gives "ok", "not ok", "skip", or None for any other line."""
        self.lines.append(text)
        plan = PLAN.match(text)
        if plan:
            self.plan = int(plan.group(1))
            return None
        point = POINT.match(text)
        if not point:
            return None
        self.points += 1
        if point.group(1):
            self.failed += 1
            self.failures.append(point.group(3))
            return "not ok"
        if re.search(r"# *SKIP\b", text, re.I):
            self.skipped += 1
            return "skip"
        self.passed += 1
        return "ok"

    def fail(self, why):
        self.failed += 1
        self.failures.append(why)

    def end(self, status):
        """The test has ended with that exit status, or "timeout"."""
        if status == "timeout":
            self.fail("took longer than its time limit")
        elif self.plan is not None and self.plan != self.points:
            self.fail("planned %d results, gave %d" % (self.plan, self.points))
        elif status != "0" and not self.failed:
            self.fail("ended with status %s" % status)
        elif self.points == 0:
            self.fail("gave no result")
