# SPDX-License-Identifier: GPL-2.0
"""The cache of costly parts.

A part is a directory parts/NAME-KEY, its key a hash of what it is made of: the
text of the function that builds it, its inputs, and the keys of the parts it
needs. It is built under another name and renamed when whole, so what an
interrupted build leaves is never taken for a part. Parts that do not need one
another are built at the same time.
"""

import contextlib
import fcntl
import hashlib
import inspect
import os
import threading
import time

from . import config, sandbox
from .progress import Failure, kill_children, say, step

KEEP_DAYS = 7
_first_error = []


class Part:
    """name; build(part, dir) fills dir; inputs are strings; needs are other parts."""

    def __init__(self, name, build, inputs=(), needs=()):
        self.name, self.build, self.needs = name, build, list(needs)
        text = [inspect.getsource(build)] + list(inputs) + [n.key for n in self.needs]
        self.key = hashlib.sha256("\0".join(text).encode()).hexdigest()[:12]
        self.path = os.path.join(config.PARTS, "%s-%s" % (name, self.key))
        self.log = os.path.join(config.LOGS, "build", name + ".log")
        self.done = threading.Event()
        self.error = None

    def whole(self):
        return os.path.isdir(self.path)

    def file(self, *names):
        return os.path.join(self.path, *names)


@contextlib.contextmanager
def lock(name, text):
    """Hold one of the cache's locks; it goes when the process does."""
    os.makedirs(config.CACHE, exist_ok=True)
    with open(os.path.join(config.CACHE, name), "w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(text)
            fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _make(part):
    temporary = part.path + ".tmp"
    began = time.monotonic()
    try:
        for need in part.needs:
            need.done.wait()
            if need.error:
                part.error = need.error
                return
        if _first_error:
            raise _first_error[0]
        with lock("lock-" + part.name, "another lab builds %s; waiting for it" % part.name):
            if not part.whole():
                step(part.name, "building")
                if os.path.exists(part.log):
                    os.unlink(part.log)
                sandbox.remove(temporary)
                os.makedirs(temporary)
                part.build(part, temporary)
                os.rename(temporary, part.path)
                step(part.name, "done in %.1f s" % (time.monotonic() - began))
        os.utime(part.path)
    except Exception as error:
        part.error = error
        _first_error.append(error)
        error.part = getattr(error, "part", part.name)
    finally:
        part.done.set()


def make(parts):
    """Build those of parts (all of them, needs included) that are not in the cache."""
    if all(p.whole() for p in parts):
        return
    os.makedirs(config.PARTS, exist_ok=True)
    threads = [threading.Thread(target=_make, args=(p,), daemon=True) for p in parts]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
                if any(p.error for p in parts):
                    kill_children()
    except BaseException:
        kill_children()
        raise
    if _first_error:
        error = _first_error[0]
        raise Failure("%s: %s" % (error.part, error)) if isinstance(error, Failure) else error
    _forget_old(parts)


def _forget_old(parts):
    wanted = {os.path.basename(p.path) for p in parts}
    for name in os.listdir(config.PARTS):
        path = os.path.join(config.PARTS, name)
        if name not in wanted and time.time() - os.stat(path).st_mtime > KEEP_DAYS * 86400:
            sandbox.remove(path)
