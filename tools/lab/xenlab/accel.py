# SPDX-License-Identifier: GPL-2.0
"""How QEMU is called: which acceleration, which CPU, which devices.

The CPU models avoid what goes wrong under emulation; Documentation/lab.md has the table.
"""

import hashlib
import os

MODES = {
    # as quick as it goes, on all cores
    "fast": ["-accel", "tcg,thread=multi", "-cpu", "max,-rdtscp,-xsave"],
    # virtual time by instruction count: 2 ns each, for figures on a busy machine
    "exact": ["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off",
              "-cpu", "Opteron_G3,-rdtscp,+svm,+npt"],
    "kvm": ["-accel", "kvm", "-cpu", "host"],
}
MEMORY, DOM0_MEMORY, CPUS = 5120, 2048, 2
# dom0's, and one for each vCPU of a guest that has four: where they share one, a vCPU that waits for a
# lock takes the time of the one that has it.
PINNED = 5
XEN_LINE = "dom0_mem={0}M,max:{0}M console=com1 com1=115200,8n1 loglvl=warning guest_loglvl=none/warning"
# Under emulation these guard against nothing and cost a tenth of the boot.
XEN_FAST = "spec-ctrl=no xpti=0 bootscrub=0 ucode=no"
# The same of the kernels; and certificates, a kind of keys, and the ciphers' tests of themselves, that nobody here
# asks for. Those took a seventh of a guest's boot, and one has failed: an emulated CPU that computed a wrong hash.
# A kernel with one CPU does not write over each lock prefix that it has, which takes half a second.
KERNEL_FAST = ("mitigations=off initcall_blacklist=load_system_certificate_list "
               "initcall_blacklist=init_encrypted cryptomgr.notests noreplace-smp")
DOM0_LINE = "console=hvc0 quiet loglevel=4"


def kernel_line(mode):
    """More for the kernels' command lines, dom0's and the guests'."""
    return KERNEL_FAST if mode == "fast" else ""


def command(mode, pin=0, terminal=False, cpus=CPUS):
    """QEMU's command line; /boot, /image and /run are the lab's directories inside the build root.

    With pin, dom0 has one vCPU, pinned, and there are so many CPUs in all.

    The first serial port is Xen's console: a log, and a socket for its keys. The second carries
    the results. With terminal, the first is the terminal.
    """
    xen = XEN_LINE.format(DOM0_MEMORY)
    if mode != "exact":
        xen += " " + XEN_FAST
    if pin:
        xen += " dom0_max_vcpus=1 dom0_vcpus_pin"
    argv = ["qemu-system-x86_64"] + MODES[mode] + [
        "-smp", str(pin or cpus), "-m", str(MEMORY), "-display", "none", "-no-reboot", "-net", "none",
        "-vga", "none", "-monitor", "none",
        "-kernel", "/boot/xen", "-append", xen,
        "-initrd", "/boot/vmlinux %s %s,/boot/initrd" % (DOM0_LINE, kernel_line(mode))]
    if terminal:
        argv += ["-chardev", "stdio,id=console,mux=on,signal=off,logfile=/run/serial.log",
                 "-serial", "chardev:console", "-serial", "file:/run/results.log"]
    else:
        argv += ["-chardev", "socket,id=console,path=/run/console.socket,server=on,wait=off,"
                             "logfile=/run/serial.log", "-serial", "chardev:console",
                 "-chardev", "stdio,id=results,signal=off", "-serial", "chardev:results"]
    argv += ["-device", "nvme,id=n,serial=1"]
    for number, (path, more) in enumerate((("/image/dom0.img", ",snapshot=on"),
                                           ("/run/job.img", ""), ("/run/logs.img", ""),
                                           ("/run/disk.img", "")), 1):
        argv += ["-drive", "file=%s,if=none,id=d%d,format=raw,cache=unsafe%s" % (path, number, more),
                 "-device", "nvme-ns,drive=d%d,bus=n,nsid=%d" % (number, number)]
    return argv


def usable(probe, cache):
    """Whether KVM can run Xen here: a pair of that and, when not, why.

    What cannot be seen at once is tried, by probe(), which boots as far as dom0's xl; the answer is
    kept in the directory cache for as long as the host's kernel and CPU stay the same.
    """
    if not os.path.exists("/dev/kvm"):
        return False, "there is no /dev/kvm"
    with open("/proc/cpuinfo") as f:
        lines = f.read().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    if "svm" not in flags and "vmx" not in flags:
        return False, "the CPU offers no virtualisation of its own"
    model = next((line for line in lines if line.startswith("model name")), "")
    key = hashlib.sha256((os.uname().release + os.uname().version + model).encode()).hexdigest()[:12]
    path = os.path.join(cache, "kvm-" + key)
    if not os.path.exists(path):
        answer = "yes" if probe() else "no"
        with open(path, "w") as f:
            f.write(answer)
    with open(path) as f:
        return f.read() == "yes", "it has been tried, and does not run Xen"
