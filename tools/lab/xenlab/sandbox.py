# SPDX-License-Identifier: GPL-2.0
"""A command inside the build root.

Every command gets mount and process name spaces of its own. So nothing stays
mounted when it ends or is killed, no process outlives it, and removing a part
from the cache can never walk into /dev.
"""

import os
import shutil
import subprocess

from . import config
from .progress import Failure, command, die_with_parent

UNSHARE = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork",
           "--kill-child", "--mount-proc", "--"]

ENTER = r"""set -eu
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    from=${1%%=*}; to=$root${1#*=}; shift
    if [ -d "$from" ]; then mkdir -p "$to"; else [ -e "$to" ] || { mkdir -p "${to%/*}"; : >"$to"; }; fi
    mount --bind "$from" "$to"
done
shift
exec chroot "$root" /usr/bin/env -i "$@"
"""


def isolated(argv):
    """argv with name spaces of its own, on the host's file system."""
    return UNSHARE + argv


def inside(root, argv, binds=(), env=None, cwd="/"):
    """The command line that runs argv in root; binds are (host path, path in root)."""
    pairs = list(binds)
    for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs"):
        if os.path.exists(path):
            pairs.append((os.path.realpath(path), path))
    variables = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM":
                 os.environ.get("TERM", "dumb"), "LC_ALL": "C.UTF-8",
                 "DEBIAN_FRONTEND": "noninteractive"}
    variables.update(config.passed_env())
    variables.update(env or {})
    return isolated(["sh", "-c", ENTER, "sh", root]
                    + ["%s=%s" % pair for pair in pairs] + ["--"]
                    + ["%s=%s" % item for item in variables.items()]
                    + ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", cwd] + list(argv))


def run(root, argv, log, **kw):
    """Run argv in root with its output in the file log."""
    command(inside(root, argv, **kw), log)


def call(root, argv, **kw):
    """Run argv in root on the lab's own terminal; gives its exit status."""
    child = subprocess.Popen(inside(root, argv, **kw), preexec_fn=die_with_parent)
    try:
        return child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise


def remove(path):
    """Remove a tree, unless something is mounted below it."""
    path = os.path.realpath(path)
    with open("/proc/self/mountinfo") as f:
        mounted = [line.split()[4] for line in f]
    below = [m for m in mounted if m == path or m.startswith(path + "/")]
    if below:
        raise Failure("%s is a mount point: not removing %s" % (below[0], path))
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
