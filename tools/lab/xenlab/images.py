# SPDX-License-Identifier: GPL-2.0
"""What is booted.

  boot    Xen, the kernel, and dom0's initramfs, which finds the root among the NVMe namespaces
  guest   the guests' base initramfs: busybox, fio, e2fsprogs, modules
  driver  what a driver domain has beyond that: xl, bash, the hotplug scripts
  image   dom0's root file system as an ext4 image
"""

import lzma
import os
import re
import shutil
import stat
import struct
import subprocess

from . import config, sandbox
from .cpio import Cpio
from .progress import command

INITRD_MODULES = ["ext4", "nvme"]
GUEST_MODULES = ["ext4", "xen-blkfront", "xen-netfront", "xen-evtchn", "xen-gntdev", "xen-gntalloc",
                 "xen-privcmd", "xenfs", "loop", "brd", "null_blk", "bridge", "netconsole",
                 "pktgen"]
# Directories of modules that dom0 has, below kernel/.
DOM0_MODULES = ["drivers/block", "drivers/nvme", "drivers/md", "drivers/xen", "drivers/net/xen-netfront",
                "drivers/net/xen-netback", "drivers/net/dummy", "drivers/net/tun", "drivers/scsi/scsi",
                "drivers/scsi/sd_mod", "fs/ext4", "fs/jbd2", "fs/mbcache", "fs/xfs", "fs/configfs",
                "fs/btrfs", "net/bridge", "net/core/pktgen", "net/802", "net/llc", "net/openvswitch", "net/nsh", "net/mpls",
                "net/psample", "net/netfilter", "net/ipv4/netfilter", "net/ipv6/netfilter", "lib", "crypto",
                "arch", "block", "mm"]


def texts(*names):
    """What the images depend on: the text of this file, and of files of the lab."""
    result = [open(__file__).read()]
    for name in names:
        with open(os.path.join(config.LAB, name)) as f:
            result.append(f.read())
    return result


def module_tree(kernel):
    with open(kernel.file("version")) as f:
        return kernel.file("usr/lib/modules", f.read())


def all_modules(tree):
    """The module files below tree, by name."""
    return {module_name(f): os.path.join(d, f) for d, _, files in os.walk(os.path.join(tree, "kernel"))
            for f in files if ".ko" in f}


def closure(tree, names):
    """Paths of the modules called names and of all that they need, in the order to load them."""
    have, order = all_modules(tree), []

    def need(name):
        path = have.get(name.replace("_", "-")) or have.get(name.replace("-", "_"))
        if not path or path in order:
            return
        data = module_data(path)
        at = data.find(b"\0depends=")
        for other in data[at + 9:data.find(b"\0", at + 9)].decode().split(","):
            if other:
                need(other)
        order.append(path)

    for name in names:
        need(name)
    return order


def module_data(path):
    with open(path, "rb") as f:
        data = f.read()
    return lzma.decompress(data) if path.endswith(".xz") else data


def module_name(path):
    return re.sub(r"\.ko(\.xz)?$", "", os.path.basename(path))


def unpacked_kernel(part, vmlinuz, out):
    """The ELF image inside a bzImage (Documentation/arch/x86/boot.rst, payload_offset)."""
    with open(vmlinuz, "rb") as f:
        data = f.read()
    start = ((data[0x1f1] or 4) + 1) * 512 + struct.unpack_from("<I", data, 0x248)[0]
    length = struct.unpack_from("<I", data, 0x24c)[0]
    with open(out + ".zst", "wb") as f:
        f.write(data[start:start + length - 4])
    directory, name = os.path.split(out)
    sandbox.run(part.root.path, ["zstd", "-q", "-d", name + ".zst", "-o", name], part.log,
                binds=[(directory, "/lab")], cwd="/lab")
    os.unlink(out + ".zst")


def build_boot(part, directory):
    tree = module_tree(part.kernel)
    vmlinuz = os.path.join(tree, "vmlinuz")
    if not os.path.exists(vmlinuz):
        vmlinuz = part.kernel.file("boot", "vmlinuz-" + os.path.basename(tree))
    shutil.copy(vmlinuz, os.path.join(directory, "vmlinuz"))
    unpacked_kernel(part, vmlinuz, os.path.join(directory, "vmlinux"))
    sandbox.run(part.root.path, ["sh", "-c", "gunzip -c /boot/xen-%s-amd64.gz >/lab/xen" % config.XEN],
                part.log, binds=[(directory, "/lab")])
    archive = Cpio()
    for name in ("dev", "proc", "sys", "root", "payload"):
        archive.directory(name)
    archive.copy(part.root.file("usr/bin/busybox"), "bin/busybox")
    archive.copy(os.path.join(config.LAB, "dom0", "initrd-init"), "init")
    for number, path in enumerate(closure(tree, INITRD_MODULES)):
        archive.file("mod/%02d-%s.ko" % (number, module_name(path)), module_data(path), 0o644)
    archive.write(os.path.join(directory, "initrd"))


def build_guest(part, directory):
    """guest.cpio, and in fio/ the library that stands in for fio's storage libraries."""
    sandbox.run(part.root.path, ["bash", "/collect", "/dom0", "/out"], part.log,
                binds=[(part.dom0.path, "/dom0"), (directory, "/out"),
                       (os.path.join(config.LAB, "guest/collect"), "/collect")])
    archive = Cpio()
    for name in ("dev", "proc", "sys", "tmp", "run", "mnt", "root", "lab"):
        archive.directory(name)
    archive.node("dev/console", stat.S_IFCHR, 5, 1)
    source = module_tree(part.kernel)
    release = os.path.basename(source)
    modules = os.path.join(directory, "tree/lib/modules", release)
    os.makedirs(modules)
    for path in closure(source, GUEST_MODULES):
        with open(os.path.join(modules, module_name(path) + ".ko"), "wb") as f:
            f.write(module_data(path))
    sandbox.run(part.root.path, ["depmod", "-b", "/out/tree", release], part.log,
                binds=[(directory, "/out")])
    for name in os.listdir(modules):
        if name.endswith(".bin"):
            os.unlink(os.path.join(modules, name))
    archive.tree(os.path.join(directory, "tree"))
    archive.write(os.path.join(directory, "guest.cpio"))
    sandbox.remove(os.path.join(directory, "tree"))


def build_driver(part, directory):
    """driver.cpio, which follows guest.cpio in a driver domain's initramfs."""
    sandbox.run(part.root.path, ["bash", "/collect", "/dom0", "/out"], part.log,
                binds=[(part.dom0.path, "/dom0"), (directory, "/out"),
                       (os.path.join(config.LAB, "guest/collect-driver"), "/collect")])
    archive = Cpio()
    for path in closure(module_tree(part.kernel), ["xen-blkback", "xen-netback"]):
        archive.file("lab/c/%s.ko" % module_name(path), module_data(path), 0o644)
    archive.tree(os.path.join(directory, "tree"))
    archive.write(os.path.join(directory, "driver.cpio"))
    sandbox.remove(os.path.join(directory, "tree"))


def build_image(part, directory):
    """dom0.img: dom0's files, some modules (unpacked, so that loading is quick), the guests' files."""
    tree = module_tree(part.kernel)
    release = os.path.basename(tree)
    root = os.path.join(directory, "root")
    command(["cp", "-a", part.dom0.path, root], part.log)
    target = os.path.join(root, "usr/lib/modules", release)
    os.makedirs(target)
    for name in os.listdir(tree):
        if name.startswith("modules.") and name.split(".")[1] in ("order", "builtin"):
            shutil.copy(os.path.join(tree, name), target)
    for path in all_modules(tree).values():
        name = os.path.relpath(path, os.path.join(tree, "kernel"))
        if any(name.startswith(d) for d in DOM0_MODULES):
            out = os.path.join(target, "kernel", re.sub(r"\.xz$", "", name))
            os.makedirs(os.path.dirname(out), exist_ok=True)
            with open(out, "wb") as f:
                f.write(module_data(path))
    sandbox.run(part.root.path, ["depmod", "-b", "/out/root", release], part.log,
                binds=[(directory, "/out")])
    os.makedirs(os.path.join(root, "guest"))
    for path in (part.boot.file("vmlinux"), part.boot.file("vmlinuz"), part.guest.file("guest.cpio"),
                 part.driver.file("driver.cpio")):
        shutil.copy(path, os.path.join(root, "guest"))
    command(["cp", "-a", part.guest.file("fio"), os.path.join(root, "opt/fio")], part.log)
    os.makedirs(os.path.join(root, "payload"))
    image = os.path.join(directory, "dom0.img")
    size = int(subprocess.run(["du", "-sm", root], stdout=subprocess.PIPE, check=True).stdout.split()[0])
    with open(image, "wb") as f:
        f.truncate((size + size // 8 + 128) << 20)
    command(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, image], part.log)
    sandbox.remove(root)
