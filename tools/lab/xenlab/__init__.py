# SPDX-License-Identifier: GPL-2.0
"""The Xen lab: a real Xen host in QEMU, built from Debian packages alone.

config    names, package lists, where things are
progress  lines on the terminal, running commands into a log
sandbox   a command inside the build root, in name spaces of its own
parts     the cache: parts, keys, the lock, building in parallel
build     what each part is made of
modules   the project's modules and tools, built inside the build root
cpio      initramfs archives
payload   the job image: what a boot is given to do
accel     KVM or emulation, and how QEMU is called
ktap      test output, line by line, to results
run       boots, tests, time limits, summary
"""
