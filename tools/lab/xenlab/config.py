# SPDX-License-Identifier: GPL-2.0
"""Names, package lists and places. The kernel's series is named here and nowhere else."""

import os
import re

SUITE = "trixie"
BACKPORTS = SUITE + "-backports"
# The series of the target kernel; the newest image of it in the archive is taken.
KERNEL_SERIES = "7.2"
KERNEL_RE = re.compile(r"^linux-image-(" + re.escape(KERNEL_SERIES) + r"\.\d+\+deb13-amd64)$")
XEN = "4.20"

# The toolchain of the target kernel, QEMU and Xen.
ROOT_PACKAGES = """ca-certificates build-essential g++ rustc rust-src rustfmt rust-clippy
    cargo bindgen clang lld llvm libclang-dev pahole libelf-dev libssl-dev bc bison flex kmod cpio rsync
    xz-utils zstd python3 busybox-static qemu-system-x86 seabios xen-hypervisor-{xen}-amd64
    xen-utils-{xen} xenstore-utils libxen-dev e2fsprogs procps
    qemu-utils cryptsetup-bin nbdkit libnbd-bin""".format(xen=XEN).split()

DOM0_PACKAGES = """kmod iproute2 procps xen-utils-{xen} xenstore-utils fio busybox-static
    ethtool e2fsprogs strace util-linux blktrace lvm2 dmsetup
    bridge-utils openvswitch-switch qemu-system-xen""".format(xen=XEN).split()

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
LAB = os.path.join(TOP, "tools", "lab")
DEBUG_KERNEL = os.path.join(LAB, "debug-kernel")
CACHE = os.environ.get("XEN_LAB_CACHE") or "/var/cache/xen-lab"
PARTS = os.path.join(CACHE, "parts")
LOGS = os.path.join(CACHE, "logs")

# Environment that a host needs to reach the archive, passed through to the build root.
PASS_ENV = re.compile(r"^((https?|ftp|all|no)_proxy|SSL_CERT_(FILE|DIR)|CARGO_HTTP_.*|"
                      r"CARGO_NET_.*|CARGO_REGISTR.*|CURL_CA_BUNDLE)$", re.I)


def passed_env():
    """The host's proxy and certificate settings, as a dict."""
    return {k: v for k, v in os.environ.items() if PASS_ENV.match(k)}

# What tests may be told by the environment of `lab run`.
TEST_ENV = ("FUZZ_COUNT", "HOSTILE", "SOAK_COUNT", "SOAK_SECONDS", "SOAK_SEED")
