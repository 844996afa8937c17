# SPDX-License-Identifier: GPL-2.0
"""Initramfs archives in the "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst).

Not compressed: under emulation, unpacking costs more than copying.
"""

import os
import stat


class Cpio:
    """Entries are added to an archive in memory; write() ends it."""

    def __init__(self):
        self.parts, self.names, self.inode = [], set(), 0

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        name = name.strip("/")
        if name in self.names:
            return
        parent = os.path.dirname(name)
        if parent and parent not in self.names:
            self.directory(parent)
        self.names.add(name)
        self._raw(name, mode, data, rdev)

    def _raw(self, name, mode, data, rdev=(0, 0)):
        self.inode += 1
        raw = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def directory(self, name, mode=0o755):
        self._entry(name, stat.S_IFDIR | mode)

    def file(self, name, data, mode=0o755):
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def node(self, name, kind, major, minor, mode=0o600):
        self._entry(name, kind | mode, b"", (major, minor))

    def copy(self, path, name=None):
        """A file of the host's, with its mode."""
        with open(path, "rb") as f:
            self.file(name or path, f.read(), os.stat(path).st_mode & 0o777)

    def tree(self, top, prefix=""):
        """All below the directory top."""
        for directory, names, files in os.walk(top):
            for name in sorted(names + files):
                path = os.path.join(directory, name)
                inner = os.path.join(prefix, os.path.relpath(path, top))
                if os.path.islink(path):
                    self.link(inner, os.readlink(path))
                elif os.path.isdir(path):
                    self.directory(inner)
                else:
                    self.copy(path, inner)

    def write(self, path):
        self._raw("TRAILER!!!", 0, b"")
        with open(path, "wb") as f:
            for part in self.parts:
                f.write(part)
            f.write(b"\0" * (-f.tell() % 512))
