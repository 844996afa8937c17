# SPDX-License-Identifier: GPL-2.0
"""What is measured."""

import fnmatch

from xenlab.progress import Failure

# front/back; "none" is fio in dom0, without a split, and a back end with -map offers no persistent grants, so
# that each request's pages are mapped. The first is what the others are compared to.
PAIRS = ["c/c", "ours/ours", "ours/c", "c/ours", "c/qemu", "none"]
NAMES = {"c/c": "C/C", "ours/ours": "ours/ours", "ours/c": "ours/C", "c/ours": "C/ours",
         "c/qemu": "C/QEMU", "ours/qemu": "ours/QEMU", "none": "no split",
         "c/c-map": "C/C, mapped", "ours/ours-map": "ours/ours, mapped", "c/ours-map": "C/ours, mapped"}
# How all that is measured is called; others add theirs.
TITLES = dict(NAMES)


class Job:
    """A job of fio's: a fixed number of requests, on null_blk or an image, by so many processes."""

    def __init__(self, name, rw, block, depth, requests, disk="null", queues=1):
        self.name, self.rw, self.block, self.depth, self.requests = name, rw, block, depth, requests
        self.disk, self.queues = disk, queues

    def word(self, requests=None):
        """As tools/bench/block.sh takes it."""
        return ":".join(str(x) for x in (self.name, self.rw, self.block, self.depth,
                                         requests or self.requests, self.disk, self.queues))


JOBS = [
    Job("randread-4k-qd1", "randread", "4k", 1, 4000),
    Job("randwrite-4k-qd1", "randwrite", "4k", 1, 4000),
    Job("randread-4k-qd32", "randread", "4k", 32, 10000),
    Job("randwrite-4k-qd32", "randwrite", "4k", 32, 10000),
    Job("mix70-4k-qd32", "randrw", "4k", 32, 10000),
    Job("read-64k-qd32", "read", "64k", 32, 4000),
    Job("write-64k-qd32", "write", "64k", 32, 4000),
    Job("image-randread-4k-qd1", "randread", "4k", 1, 2000, "image"),
    Job("image-randread-4k-qd32", "randread", "4k", 32, 15000, "image"),
    Job("image-randwrite-4k-qd32", "randwrite", "4k", 32, 15000, "image"),
    Job("image-read-64k-qd32", "read", "64k", 32, 2000, "image"),
    Job("4q-randread-4k-qd32", "randread", "4k", 32, 20000, "null", 4),
    Job("4q-read-64k-qd32", "read", "64k", 32, 8000, "null", 4),
]


def choose(every, patterns, whose=""):
    """Those of the jobs whose name matches one of the patterns; all without patterns."""
    found = [j for j in every if not patterns or any(fnmatch.fnmatch(j.name, p) for p in patterns)]
    if not found:
        raise Failure("no job %sis called %s" % (whose, " or ".join(patterns)))
    return found


# For --quick: few requests, and only these.
QUICK = ["randread-4k-qd1", "randread-4k-qd32", "read-64k-qd32"]
QUICK_REQUESTS = 1000
