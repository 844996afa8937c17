# SPDX-License-Identifier: GPL-2.0
"""Lines on the terminal, and commands that run into a log."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

START = time.monotonic()
_lock = threading.Lock()
_children = set()


class Failure(Exception):
    """Something the user should read, without a traceback."""


def say(text):
    """Print one whole line at once (many threads call this)."""
    with _lock:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def step(name, what):
    say("[%5.1f s] %-12s %s" % (time.monotonic() - START, name, what))


def die_with_parent():
    """In a child, before exec: be killed when the lab dies, however it dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def before_others():
    """The same, and take the CPUs before others who want them."""
    die_with_parent()
    with contextlib.suppress(OSError):
        os.nice(-10)


def command(argv, log, env=None, cwd=None):
    """Run argv with its output appended to the file log; Failure with the tail on error."""
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "ab") as out:
        out.write(("+ " + " ".join(argv) + "\n").encode())
        out.flush()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 env=env, cwd=cwd, preexec_fn=die_with_parent)
        _children.add(child)
        try:
            code = child.wait()
        finally:
            _children.discard(child)
            if child.poll() is None:
                child.kill()
                child.wait()
    if code:
        with open(log, "rb") as f:
            tail = f.read().decode(errors="replace").splitlines()[-25:]
        raise Failure("%s failed (%d); the end of %s:\n  %s"
                      % (argv[0], code, log, "\n  ".join(tail)))


def kill_children():
    """Called once when the lab gives up: end what its threads have started."""
    for child in list(_children):
        try:
            child.kill()
        except OSError:
            pass
