# SPDX-License-Identifier: GPL-2.0
"""What is measured."""

# front/back; "none" is fio in dom0, without a split. The first is what the others are compared to.
PAIRS = ["c/c", "ours/ours", "ours/c", "c/ours", "none"]
NAMES = {"c/c": "C/C", "ours/ours": "ours/ours", "ours/c": "ours/C", "c/ours": "C/ours",
         "none": "no split"}


class Job:
    """A job of fio's: a fixed number of requests."""

    def __init__(self, name, rw, block, depth, requests):
        self.name, self.rw, self.block, self.depth, self.requests = name, rw, block, depth, requests

    def word(self, requests=None):
        """As tools/bench/block.sh takes it."""
        return ":".join(str(x) for x in (self.name, self.rw, self.block, self.depth,
                                         requests or self.requests))


JOBS = [
    Job("randread-4k-qd1", "randread", "4k", 1, 4000),
    Job("randwrite-4k-qd1", "randwrite", "4k", 1, 4000),
    Job("randread-4k-qd32", "randread", "4k", 32, 10000),
    Job("randwrite-4k-qd32", "randwrite", "4k", 32, 10000),
    Job("mix70-4k-qd32", "randrw", "4k", 32, 10000),
    Job("read-64k-qd32", "read", "64k", 32, 4000),
    Job("write-64k-qd32", "write", "64k", 32, 4000),
]

# For --quick: few requests, and only these.
QUICK = ["randread-4k-qd1", "randread-4k-qd32", "read-64k-qd32"]
QUICK_REQUESTS = 1000
