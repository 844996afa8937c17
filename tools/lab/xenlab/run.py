# SPDX-License-Identifier: GPL-2.0
"""Boots, tests, time limits, summary."""

import contextlib
import fcntl
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time

from . import accel, config, payload, sandbox
from .ktap import Result
from .progress import START, Failure, before_others, die_with_parent, say

BOOT_LIMIT = 150        # seconds until dom0 says that it is up; it takes 10 on a quiet machine
GRACE = 60              # for dom0 to collect what a hanging test leaves
MAX_BOOTS = 6           # boots for one run, retries and those after a wrecked dom0 together, for each job


class Boot:
    """One QEMU."""

    def __init__(self, lab, directory, mode, pin, cpus=accel.CPUS, first=False):
        self.directory, self.stretch = directory, 1
        argv = sandbox.inside(lab.root.path, accel.command(mode, pin, cpus=cpus), binds=[
            (lab.boot.path, "/boot"), (lab.image.path, "/image"), (directory, "/run")])
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=open(os.path.join(directory, "qemu.log"), "wb"),
                                      preexec_fn=before_others if first else die_with_parent)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        began = time.monotonic()
        with open(os.path.join(self.directory, "results.log"), "wb") as log:
            for raw in self.child.stdout:
                log.write(b"%8.2f  " % (time.monotonic() - began) + raw)
                log.flush()
                self.lines.put(raw.decode(errors="replace").rstrip("\r\n"))
        self.lines.put(None)

    def line(self, limit):
        """The next line of results; None at the end; queue.Empty when limit seconds pass."""
        return self.lines.get(timeout=max(limit, 0.01))

    def answer(self, text):
        """A line for dom0's runner."""
        try:
            self.child.stdin.write((text + "\n").encode())
            self.child.stdin.flush()
        except OSError:
            pass

    def keys(self, text):
        """Press keys on Xen's console (three Ctrl-a first): diagnostics into serial.log."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(5)
                s.connect(os.path.join(self.directory, "console.socket"))
                s.sendall(b"\x01\x01\x01" + text.encode())
                time.sleep(3)
        except OSError:
            pass

    def stop(self, limit=0):
        try:
            self.child.wait(limit)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.reader.join(5)

    def logs(self):
        """Unpack the logs that dom0 has put on its third namespace."""
        image = os.path.join(self.directory, "logs.img")
        try:
            with open(image, "rb") as f, tarfile.open(fileobj=f, mode="r|") as tar:
                for member in tar:
                    member.name = os.path.normpath(member.name).lstrip("/")
                    if (member.isfile() or member.isdir()) and not member.name.startswith(".."):
                        member.mode |= 0o600
                        tar.extract(member, os.path.join(self.directory, "dom0"))
        except (tarfile.TarError, OSError):
            pass
        for name in ("logs.img", "job.img", "disk.img", "console.socket"):
            path = os.path.join(self.directory, name)
            if os.path.lexists(path):
                os.unlink(path)


@contextlib.contextmanager
def slot():
    """One of as many places as the machine has pairs of cores: more boots at a time only get slower."""
    files = [open(os.path.join(config.CACHE, "slot%d" % n), "w")
             for n in range(int(os.environ.get("XEN_LAB_SLOTS") or max(1, (os.cpu_count() or 1) // 2)))]
    try:
        for f in files:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
        else:
            say("# another lab is running here: waiting for it to end")
            fcntl.flock(files[os.getpid() % len(files)], fcntl.LOCK_EX)
        yield
    finally:
        for f in files:
            f.close()


class Run:
    """A run of tests: boots as needed, results, summary.

    With more than one job as many boots run at a time, of one CPU each: CPUs that share a core wait for
    each other in every interrupt from one to the other. Tests that need two have a boot of their own,
    which goes before the others.
    """

    def __init__(self, lab, built, tests, mode, pin=0, settings=None, verbose=False, plain=False, jobs=1):
        self.lab, self.built, self.tests, self.mode, self.pin = lab, built, tests, mode, pin
        self.verbose, self.plain, self.jobs = verbose, plain, jobs
        self.settings = dict(settings or {})
        self.results, self.notes, self.boots = [], [], 0
        # what is not begun yet, by the number of CPUs; several threads take from it, with the lock
        self.left, self.lock, self.held = {}, threading.RLock(), threading.local()
        self.up = threading.Semaphore(0)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.directory = os.path.join(config.LOGS, stamp)
        n = 1
        while os.path.exists(self.directory):
            n += 1
            self.directory = os.path.join(config.LOGS, "%s.%d" % (stamp, n))
        os.makedirs(self.directory)
        link = os.path.join(config.LOGS, "latest")
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(os.path.basename(self.directory), link)

    def prepare(self, directory, tests, shell=False, cpus=accel.CPUS):
        os.makedirs(directory)
        # Early messages of a PVH guest would switch its lockdep off; and nobody asks a guest's kmemleak.
        more = " kmemleak=off" if self.lab.debug else " earlyprintk=xen"
        settings = {"LAB_MODE": self.mode, "LAB_PIN": int(self.pin > 0), "LAB_CPUS": cpus, "LAB_JOBS": self.jobs,
                    "LAB_SHELL": int(shell),
                    "LAB_CMDLINE": accel.kernel_line(self.mode) + more, "LAB_VERSION": self.lab.version,
                    # the debug kernel needs more for itself
                    "LAB_MEMORY": 2 if self.lab.debug else 1}
        settings.update(self.settings)
        payload.make(directory, tests, settings, self.built, self.lab)

    def note(self, text):
        with self.lock:
            self.notes.append(text)
        say("# " + text)

    def run(self):
        """Run all the tests; gives whether all passed."""
        if self.jobs == 1:
            self.left = {accel.CPUS: list(self.tests)}
        else:
            # the long ones first, so that all boots end at about the same time
            tests = sorted(self.tests, key=lambda test: -test.limit)
            self.left = {accel.CPUS: [t for t in tests if t.cpus > 1], 1: [t for t in tests if t.cpus == 1]}
        others = min(self.jobs - 1, len(self.left.get(1, [])))
        errors = []

        def boots(kinds):
            try:
                for cpus in kinds:
                    if cpus > 1 and self.left[cpus]:
                        # it goes before the others, whose time limits are stretched by how they boot
                        for _ in range(others):
                            self.up.acquire(timeout=BOOT_LIMIT)
                    self._boots(cpus)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=boots, args=(kinds,), daemon=True)
                   for kinds in [list(self.left)] + [[1]] * others]
        with slot():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        for test in sum(self.left.values(), []):
            result = Result(test.name)
            result.fail("not run")
            self._finish(result)
        return self._summary()

    def _boots(self, cpus):
        """Boot, and again, until no test is left."""
        hung = 0
        while hung < 2:
            with self.lock:
                if not self.left[cpus] or self.boots >= MAX_BOOTS * self.jobs:
                    return
                self.boots += 1
                number, tests = self.boots, list(self.left[cpus])
            began = time.monotonic()
            directory = os.path.join(self.directory, "boot%d" % number)
            self.prepare(directory, tests, cpus=cpus)
            boot = Boot(self.lab, directory, self.mode, self.pin, cpus, first=self.jobs > 1 and cpus > 1)
            try:
                up = self._up(boot)
                self.up.release()
                if up:
                    say("# boot %d: dom0 is up after %.1f s%s" % (
                        number, time.monotonic() - began, "" if boot.stretch == 1 or self.mode == "exact" else
                        " (a slow machine: time limits are stretched by %d)" % boot.stretch))
                    self._tests(boot, number, self.left[cpus])
            finally:
                boot.stop(15 if not sys.exc_info()[0] else 0)
                boot.logs()
            if not up:
                hung += 1
                self.note("boot %d did not come up%s (%s)" % (
                    number, ": the boot is retried" if hung < 2 else " either: giving up", directory))

    def _up(self, boot, limit=BOOT_LIMIT):
        until = time.monotonic() + limit * (3 if self.mode == "exact" or self.lab.debug else 1)
        while True:
            try:
                line = boot.line(until - time.monotonic())
            except queue.Empty:
                boot.keys("0d")
                return False
            if line is None or line.startswith("#lab broken"):
                return False
            if line.startswith("#lab up "):
                boot.stretch = int(line.split(" ")[2])
                if self.mode == "exact":
                    boot.stretch = 5    # virtual seconds take longer than real ones
                return True

    def _tests(self, boot, number, left):
        """Give a boot tests until none is left, or it cannot go on, and take their results."""
        result, grace = None, GRACE * boot.stretch
        until = time.monotonic() + grace
        while True:
            try:
                line = boot.line(until - time.monotonic())
            except queue.Empty:
                boot.keys("0dq")
                if result:
                    result.fail("dom0 no longer answers")
                    self._finish(result)
                self.note("boot %d: dom0 hangs; killed" % number)
                return
            if line is None:
                if result:
                    result.fail("dom0 died")
                    self._finish(result)
                self.note("boot %d: dom0 died" % number)
                return
            word = line.split(" ")
            if not line.startswith("#lab "):
                if result:
                    self._show(result.line(line), line)
            elif word[1] == "ready":
                with self.lock:
                    test = left.pop(0) if left else None
                if test:
                    result = Result(test.name)
                    self._say(test.name)
                    boot.answer(test.name)
                    until = time.monotonic() + test.limit * boot.stretch + grace
                else:
                    boot.answer("")
            elif word[1] == "note":
                self.note("boot %d: %s" % (number, " ".join(word[2:])))
            elif word[1] == "complaint":
                result.fail(" ".join(word[3:]))
            elif word[1] == "end":
                result.seconds = int(word[4]) / 1000
                result.end(word[3])
                self._finish(result)
                result = None
                until = time.monotonic() + grace
            elif word[1] == "reboot":
                if left:
                    self.note("boot %d ends here, for the test before may have harmed dom0" % number)
            elif word[1] == "done":
                return

    def _say(self, text):
        """Print a line; where several tests run at a time, when the one that it is about has ended."""
        if self.jobs == 1:
            say(text)
        else:
            self.held.lines = getattr(self.held, "lines", []) + [text]

    def _show(self, kind, line):
        if self.plain:
            shown = re.sub(r"^ok \d+ - ", "ok      ", re.sub(r"^not ok \d+ - ", "FAILED  ", line))
            if kind or line.startswith("#"):
                self._say(shown)
        elif self.verbose or kind or line.startswith("#"):
            self._say("    " + line)

    def _finish(self, result):
        with self.lock:
            self.results.append(result)
        os.makedirs(self.directory, exist_ok=True)
        with open(os.path.join(self.directory, result.name + ".ktap"), "w") as f:
            f.write("\n".join(result.lines) + "\n")
        text = "%d passed" % result.passed
        if result.skipped:
            text += ", %d skipped" % result.skipped
        if result.failed:
            text += ", %d FAILED" % result.failed
        self._say("  %s: %s%s" % (result.name, text,
                                  "" if result.seconds is None else " (%.1f s)" % result.seconds))
        if self.jobs > 1:
            say("\n".join(self.held.lines))
            self.held.lines = []

    def _summary(self):
        say("# %.0f s in all" % (time.monotonic() - START))
        passed = sum(r.passed for r in self.results)
        failed = sum(r.failed for r in self.results)
        skipped = sum(r.skipped for r in self.results)
        for result in self.results:
            for why in result.failures:
                say("FAILED %s: %s" % (result.name, why))
        for text in self.notes:
            say("note: " + text)
        if skipped:
            say("%d skipped" % skipped)
        if failed:
            say("logs: " + self.directory)
        say("%d passed, %d failed" % (passed, failed))
        return not failed


def probe_kvm(lab):
    """Boot under KVM as far as dom0's xl, in at most 25 seconds; gives whether that went well."""
    say("# trying whether KVM runs Xen here")
    trial = Run(lab, None, [], "kvm")
    directory = os.path.join(trial.directory, "kvm")
    with slot():
        trial.prepare(directory, [])
        boot = Boot(lab, directory, "kvm", False)
        try:
            return trial._up(boot, 25)
        finally:
            boot.stop()
            boot.logs()


def shell(lab, run):
    """An interactive dom0 on this terminal; Ctrl-a x ends QEMU."""
    directory = os.path.join(run.directory, "shell")
    run.prepare(directory, [], shell=True)
    status = sandbox.call(lab.root.path, accel.command(run.mode, run.pin, terminal=True), binds=[
        (lab.boot.path, "/boot"), (lab.image.path, "/image"), (directory, "/run")])
    return status


def forget_old_logs(keep=40):
    """Remove all but the newest logs."""
    names = sorted(n for n in os.listdir(config.LOGS) if re.match(r"\d{8}-", n))
    for name in names[:-keep]:
        shutil.rmtree(os.path.join(config.LOGS, name), ignore_errors=True)
