# SPDX-License-Identifier: GPL-2.0
"""A 32-bit guest, for tests that say `# needs: i386`: vmlinux, and base.cpio to boot it with.

Debian 12 is the last release with a 32-bit kernel; it is a PVH guest.
"""

import glob
import lzma
import os
import re
import struct

from . import config, images, sandbox
from .cpio import Cpio
from .progress import Failure, command

KERNEL_RE = re.compile(r"linux-image-([\d.]+-\d+)-686-pae-unsigned$")
MODULES = ["xen-blkfront", "ext4"]


def vmlinux(bzimage):
    """The ELF image inside, which xz has packed (Documentation/arch/x86/boot.rst)."""
    with open(bzimage, "rb") as f:
        data = f.read()
    start = ((data[0x1f1] or 4) + 1) * 512 + struct.unpack_from("<I", data, 0x248)[0]
    return lzma.LZMADecompressor().decompress(data[start:])


def build_i386(part, directory):
    from .build import Archive, mirror
    work = os.path.join(directory, "apt")
    archive = Archive(work, mirror(part.root), part.log, config.I386_SUITE, "i386")
    found = [m for m in map(KERNEL_RE.match, archive.ask("pkgnames", "linux-image-").split()) if m]
    if not found:
        raise Failure("no 32-bit kernel in " + config.I386_SUITE)
    kernel = max(found, key=lambda m: [int(n) for n in re.findall(r"\d+", m.group(1))]).group(0)
    for name in (kernel, "busybox-static"):
        command(["apt-get", "download", name], part.log, env=archive.env, cwd=work)
    for name in glob.glob(os.path.join(work, "*.deb")):
        command(["dpkg-deb", "-x", name, work], part.log)

    with open(os.path.join(directory, "vmlinux"), "wb") as f:
        f.write(vmlinux(glob.glob(os.path.join(work, "boot/vmlinuz-*"))[0]))
    source = glob.glob(os.path.join(work, "lib/modules/*"))[0]
    release = os.path.basename(source)
    tree = os.path.join(work, "tree")
    modules = os.path.join(tree, "lib/modules", release)
    os.makedirs(modules)
    for path in images.closure(source, MODULES):
        with open(os.path.join(modules, images.module_name(path) + ".ko"), "wb") as f:
            f.write(images.module_data(path))
    sandbox.run(part.root.path, ["depmod", "-b", "/tree", release], part.log, binds=[(tree, "/tree")])
    archive = Cpio()
    for name in ("dev", "proc", "sys", "tmp", "run", "mnt", "root", "lab", "sbin"):
        archive.directory(name)
    archive.copy(os.path.join(work, "bin/busybox"), "bin/busybox")
    # that of the build root has the same applets, and can be asked for them
    listed = os.path.join(work, "applets")
    sandbox.run(part.root.path, ["sh", "-c", "/usr/bin/busybox --list >/lab/applets"], part.log,
                binds=[(work, "/lab")])
    with open(listed) as f:
        for applet in f.read().split():
            if applet != "busybox":
                archive.link("bin/" + applet, "busybox")
    archive.link("sbin/modprobe", "../bin/busybox")
    archive.tree(tree)
    archive.write(os.path.join(directory, "base.cpio"))
    sandbox.remove(work)
