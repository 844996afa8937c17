# SPDX-License-Identifier: GPL-2.0
"""The command line."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys

from . import accel, config, modules, payload, run, sandbox
from .build import Lab
from .progress import Failure, kill_children, say, step

EPILOG = """The cache is in ${XEN_LAB_CACHE:-/var/cache/xen-lab}. Documentation/lab.md says
how to write a test."""


def arguments():
    parser = argparse.ArgumentParser(prog="lab", epilog=EPILOG,
                                     description="A real Xen host in QEMU, from Debian packages alone.")
    sub = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name, text, boots=False):
        p = sub.add_parser(name, help=text, description=text)
        if boots:
            p.add_argument("--mode", choices=["fast", "exact"], default="fast",
                           help="as quick as it goes, or virtual time by instruction count")
            p.add_argument("--pin", action="store_true", help="dom0 has one vCPU, pinned")
            p.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto",
                           help="KVM where it can run Xen, else emulation (auto)")
            p.add_argument("--modules", default=os.environ.get("MODULES", "ours"), metavar="WHICH",
                           help="ours, c, or FRONT/BACK such as ours/c: the drivers that tests use by default")
        return p

    def debug(p):
        p.add_argument("--debug-kernel", action="store_true",
                       help="with a kernel that looks for errors: KASAN, lockdep and others; slow")

    debug(add("build", "build what is missing of the lab"))
    p = add("run", "run tests in dom0", True)
    p.add_argument("-v", "--verbose", action="store_true", help="show all that the tests print")
    debug(p)
    p.add_argument("-j", "--jobs", type=int, default=1, metavar="N",
                   help="boot so many hosts, and run as many tests at a time; each needs 5 GB of memory")
    p.add_argument("tests", nargs="*", metavar="TEST", help="a name in tools/lab/tests, or a file or directory")
    p = add("demo", "the demonstration: a disk served to running guests", True)
    debug(add("shell", "an interactive dom0", True))
    debug(add("modules", "build the project's modules and tools for the lab's kernel"))
    p = add("host", "run a command of the checkout inside the build root (default tools/host-tests)")
    p.add_argument("argv", nargs=argparse.REMAINDER)
    p = add("logs", "list the runs' logs, or show where a run's are")
    p.add_argument("run", nargs="?", help="a run's name, or latest: list its files")
    p = add("list", "list the tests")
    p = add("clean", "remove this checkout's products and the logs")
    p.add_argument("--all", action="store_true", help="remove the whole cache")
    return parser.parse_args()


def acceleration(args, lab):
    """The mode for accel.command, after saying in one line what is used."""
    if args.mode == "exact":
        say("# emulation, exact: virtual time by instruction count")
        return "exact"
    good, why = (False, "asked for") if args.accel == "tcg" else accel.usable(
        lambda: run.probe_kvm(lab), config.CACHE)
    if args.accel == "kvm" and not good:
        raise Failure("KVM cannot run Xen here: " + why)
    say("# KVM" if good else "# emulation, fast (KVM: %s)" % why)
    return "kvm" if good else "fast"


def drivers(args):
    """(front, back) of --modules."""
    words = args.modules.split("/")
    if len(words) > 2 or any(w not in ("ours", "c") for w in words):
        raise Failure("--modules: ours, c, ours/c or c/ours, not " + args.modules)
    return words[0], words[-1]


# What takes long to compile, and the demonstration does not need.
NOT_SHOWN = "blktap"


def boots(args, lab, tests, without="", **kw):
    """A Run with the modules built and the settings of the command line."""
    mode = acceleration(args, lab)
    front, back = drivers(args)
    have = os.path.exists(os.path.join(config.TOP, "Kbuild"))
    built = modules.build(lab, terminal=False, without=without) if have else None
    if built:
        step("modules", "built")
    given = {name: os.environ[name] for name in config.TEST_ENV if os.environ.get(name)}
    return run.Run(lab, built, tests, mode, accel.PINNED if args.pin else 0, verbose=getattr(args, "verbose", False), jobs=max(1, getattr(args, "jobs", 1)),
                   settings=dict(MODULES_FRONT=front, MODULES_BACK=back, **given), **kw)


def logs(args):
    if not args.run:
        for name in sorted(os.listdir(config.LOGS)) if os.path.isdir(config.LOGS) else []:
            print(os.path.join(config.LOGS, name))
        return 0
    top = os.path.realpath(os.path.join(config.LOGS, args.run))
    if not os.path.isdir(top):
        raise Failure("no logs of a run called " + args.run)
    for directory, _, files in sorted(os.walk(top)):
        for name in sorted(files):
            path = os.path.join(directory, name)
            print("%9d %s" % (os.path.getsize(path), path))
    return 0


def clean(args):
    ours = [modules.directory(), modules.directory(True)]
    with contextlib.ExitStack() as locks:
        for where in ours:
            locks.enter_context(modules.locked(where))
        for name in os.listdir(config.CACHE):
            if args.all or name == "logs" or os.path.join(config.CACHE, name) in ours:
                if not name.startswith("lock-"):
                    sandbox.remove(os.path.join(config.CACHE, name))
    return 0


def command(args):
    if args.command == "logs":
        return logs(args)
    if args.command == "clean":
        return clean(args)
    if args.command == "list":
        for test in payload.find_tests([]):
            print("%-24s %3d s  %s" % (test.name, test.limit, test.about))
        return 0
    tests = payload.find_tests(args.tests) if args.command == "run" else []
    if os.geteuid():
        raise Failure("the lab needs root")
    lab = Lab(getattr(args, "debug_kernel", False)).build({n for t in tests for n in t.needs})
    run.forget_old_logs()
    if args.command == "modules":
        return 0 if modules.build(lab) else 1
    if args.command == "host":
        return modules.host(lab, args.argv or ["tools/host-tests"])
    if args.command == "run":
        return 0 if boots(args, lab, tests).run() else 1
    if args.command == "demo":
        tests = payload.find_tests([os.path.join(config.LAB, "demo.sh")])
        return 0 if boots(args, lab, tests, without=NOT_SHOWN, plain=True).run() else 1
    if args.command == "shell":
        return run.shell(lab, boots(args, lab, []))
    return 0


def stop(number, frame):
    raise KeyboardInterrupt


def main(argv):
    args = arguments()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        return command(args)
    except Failure as failure:
        print("lab: %s" % failure, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as failure:
        print("lab: %s" % failure, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        kill_children()
        print("lab: interrupted", file=sys.stderr)
        return 130
