# SPDX-License-Identifier: GPL-2.0
"""The project's modules and tools, built inside the build root.

The sources are copied into the cache and built there: the checkout stays clean,
and what has not changed is not built again. Each checkout has a directory of its own.
"""

import hashlib
import os

from . import config, sandbox
from .parts import lock

SCRIPT = r"""set -eu
# What is built must not be taken for a source, nor deleted by the copy.
rsync -a --delete --exclude=/.git --exclude='/target' --exclude='*.o' --exclude='*.ko' --exclude='*.cmd' \
	--exclude='*.mod' --exclude='*.mod.c' --exclude=modules.order --exclude=Module.symvers \
	--exclude='*_generated*' --exclude='*.rmeta' --exclude=.tmp_versions --exclude='*.a' /src/ /build/src/
rm -rf /build/out.new
mkdir -p /build/out.new/modules /build/out.new/bin /build/out.new/guest
if [ -e /build/src/Kbuild ]; then
	make -C "/lib/modules/$VERSION/build" M=/build/src -j"$(nproc)" XENBUS_SELFTEST=m modules
	find /build/src -name '*.ko' | while read -r ko; do
		strip --strip-debug -o "/build/out.new/modules/${ko##*/}" "$ko"
	done
fi
# A directory of tools/ that has programs for the lab makes them: build-for-lab OUT GUEST
for tool in /build/src/tools/*/build-for-lab; do
	[ -x "$tool" ] || continue
	name=${tool%/*} name=${name##*/}
	case " $WITHOUT " in *" $name "*) continue ;; esac
	(cd "${tool%/*}" && ./build-for-lab /build/out.new/bin /build/out.new/guest)
done
rm -rf /build/out
mv /build/out.new /build/out
"""


def directory(debug=False):
    """Where this checkout's products are; those for the debug kernel, if debug."""
    key = hashlib.sha256(config.TOP.encode()).hexdigest()[:12]
    return os.path.join(config.CACHE, "build-" + key + ("-debug" if debug else ""))


def cargo(lab):
    """Environment and binds for cargo: the registry's and the compiler's cache outlive a build.

    Cargo goes by times: two checkouts, which both are /src, must not share what it has compiled."""
    home, target = os.path.join(config.CACHE, "cargo"), os.path.join(directory(), "target-" + lab.root.key)
    os.makedirs(home, exist_ok=True)
    os.makedirs(target, exist_ok=True)
    host = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
    for name in ("config.toml", "config"):
        path, copy = os.path.join(host, name), os.path.join(home, name)
        if os.path.exists(path):
            with open(path, "rb") as f, open(copy, "wb") as g:
                g.write(f.read())
        elif os.path.exists(copy):
            os.unlink(copy)
    return ({"CARGO_HOME": "/cargo", "CARGO_TARGET_DIR": "/target"}, [(home, "/cargo"), (target, "/target")])


def locked(where):
    """Hold the lock of one of those directories."""
    return lock("lock-" + os.path.basename(where), "another lab builds this checkout; waiting for it")


def build(lab, terminal=True, without=""):
    """Build modules and tools; gives the directory with modules/, bin/ and guest/.

    Tools of which the names are in `without` are left out."""
    where = directory(lab.debug)
    os.makedirs(where, exist_ok=True)
    env, binds = cargo(lab)
    env["VERSION"] = lab.version
    env["WITHOUT"] = without
    if lab.debug:
        env["LLVM"] = "1"
    with locked(where):
        argv = ["sh", "-c", SCRIPT]
        kw = dict(binds=lab.binds() + binds + [(config.TOP, "/src"), (where, "/build")], env=env)
        if terminal:
            status = sandbox.call(lab.root.path, argv, **kw)
            if status:
                return None
        else:
            log = os.path.join(config.LOGS, "build", "modules.log")
            if os.path.exists(log):
                os.unlink(log)
            sandbox.run(lab.root.path, argv, log, **kw)
    return os.path.join(where, "out")


def host(lab, argv):
    """Run a command of the checkout inside the build root, in its directory; gives its status."""
    env, binds = cargo(lab)
    return sandbox.call(lab.root.path, argv, cwd="/src", env=env,
                        binds=lab.binds() + binds + [(config.TOP, "/src")])
