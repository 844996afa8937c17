# SPDX-License-Identifier: GPL-2.0
"""The job image: what a boot is given to do. dom0 has it as /payload, read-only.

  dom0/        init, the runner, the functions that tests call
  tests/       NAME.sh, and tests.list: name, time limit, expected dmesg
  modules/     our modules, without debug sections
  bin/         programs of tools/ for dom0
  lab.env      settings
  bios/        and other parts that a test needs
  guest.cpio   appended to the guests' initramfs: init, modules, programs of tools/ for guests
"""

import os
import re
import shlex
import shutil
import subprocess

from . import config, sandbox
from .cpio import Cpio
from .progress import Failure, command

DEFAULT_LIMIT = 60


class Test:
    """A script and what its header says."""

    def __init__(self, path):
        self.path = path = os.path.abspath(path)
        self.name = re.sub(r"\.sh$", "", os.path.basename(path))
        with open(path) as f:
            head = [line for line in f.read().splitlines() if line.startswith("#")]
        self.about = next((line[2:].strip() for line in head
                           if not line.startswith("#!") and "SPDX" not in line), "")
        self.limit = int(self._header(head, "timeout") or DEFAULT_LIMIT)
        self.expect = self._header(head, "expect-dmesg") or ""
        self.cpus = int(self._header(head, "cpus") or 1)
        self.needs = (self._header(head, "needs") or "").split()

    @staticmethod
    def _header(head, key):
        for line in head:
            found = re.match(r"#\s*%s:\s*(.*\S)" % key, line)
            if found:
                return found.group(1)
        return None


def find_tests(names):
    """Tests by name, path, or directory; all of tools/lab/tests without names."""
    paths = []
    for name in names or [os.path.join(config.LAB, "tests")]:
        here = [name, name + ".sh", os.path.join(config.LAB, "tests", name + ".sh"),
                os.path.join(config.LAB, name), os.path.join(config.LAB, name + ".sh")]
        path = next((p for p in here if os.path.exists(p)), None)
        if not path:
            raise Failure("no test %s (in tools/lab/tests)" % name)
        if os.path.isdir(path):
            paths += sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".sh"))
        else:
            paths.append(path)
    tests = [Test(p) for p in paths]
    double = {t.name for t in tests if [u.name for u in tests].count(t.name) > 1}
    if double:
        raise Failure("two tests are called " + ", ".join(sorted(double)))
    return tests


def make(directory, tests, settings, built=None, lab=None):
    """Make directory/job.img; built is where modules.build has put modules/, bin/, guest/."""
    stage = os.path.join(directory, "payload")
    sandbox.remove(stage)
    os.makedirs(os.path.join(stage, "tests"))
    shutil.copytree(os.path.join(config.LAB, "dom0"), os.path.join(stage, "dom0"))
    guest = Cpio()
    for name in ("init", "driver", "driver-domain"):
        with open(os.path.join(config.LAB, "guest", name), "rb") as f:
            guest.file("init" if name == "init" else "lab/" + name, f.read())
    with open(os.path.join(config.LAB, "dom0/ktap.sh"), "rb") as f:
        guest.file("lab/ktap.sh", f.read(), 0o644)
    for name in ("modules", "bin"):
        source = os.path.join(built, name) if built else ""
        if os.path.isdir(source):
            shutil.copytree(source, os.path.join(stage, name))
        else:
            os.makedirs(os.path.join(stage, name))
    for name in sorted(os.listdir(os.path.join(stage, "modules"))):
        guest.copy(os.path.join(stage, "modules", name), "lab/modules/" + name)
    if built and os.path.isdir(os.path.join(built, "guest")):
        guest.tree(os.path.join(built, "guest"), "lab/bin")
    guest.write(os.path.join(stage, "guest.cpio"))
    with open(os.path.join(stage, "tests.list"), "w") as f:
        for test in tests:
            shutil.copy(test.path, os.path.join(stage, "tests", test.name + ".sh"))
            f.write("%s\t%d\t%s\n" % (test.name, test.limit, test.expect))
    shutil.copy(os.path.join(config.TOP, "tools/xen-rust.conf"), stage)
    # what tests share beside them: anything in their directories that is not a test
    for place in {os.path.dirname(t.path) for t in tests}:
        for name in os.listdir(place):
            if not name.endswith(".sh") and os.path.isfile(os.path.join(place, name)):
                shutil.copy(os.path.join(place, name), os.path.join(stage, "tests"))
    for name in {n for t in tests for n in t.needs}:
        shutil.copytree(getattr(lab, name).path, os.path.join(stage, name))
    with open(os.path.join(stage, "lab.env"), "w") as f:
        for key, value in settings.items():
            f.write("export %s=%s\n" % (key, shlex.quote(str(value))))
    image = os.path.join(directory, "job.img")
    size = int(subprocess.run(["du", "-sm", stage], stdout=subprocess.PIPE, check=True)
               .stdout.split()[0])
    with open(image, "wb") as f:
        f.truncate((size + size // 4 + 16) << 20)
    command(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", stage, image],
            os.path.join(directory, "payload.log"))
    sandbox.remove(stage)
    for name, megabytes in (("logs.img", 256), ("disk.img", 2048)):
        with open(os.path.join(directory, name), "wb") as f:
            f.truncate(megabytes << 20)
