# SPDX-License-Identifier: GPL-2.0
"""What each part of the lab is made of.

  root     the build root: toolchain of the target kernel, QEMU, Xen
  kernel   the target kernel's packages, unpacked: image, modules, headers, source
  rust     the Rust metadata that its headers package leaves out
  debug    in place of these two: a kernel that looks for errors, built from the same source
  dom0     dom0's files
and, in images.py, what is booted: boot, guest, image.
"""

import glob
import os
import re
import shutil
import subprocess
import threading

from . import config, images, sandbox
from .parts import Part, make
from .progress import Failure, command, die_with_parent

NO_DOCS = ["--dpkgopt=path-exclude=/usr/share/%s/*" % d
           for d in ("doc", "man", "locale", "info", "lintian")]

# Not needed for `make prepare`, and most of the source by size.
SOURCE_WITHOUT = ["*/drivers/*.c", "*/sound/*.[ch]", "*/net/*.c", "*/fs/*.c",
                  "*/drivers/gpu/drm/*.h", "*/drivers/net/*.h", "*/Documentation/*/*",
                  "*/arch/[!x]*/*.[chS]", "*/tools/testing/*", "*/tools/perf/*", "*.dts*"]

_sources = threading.Event()
_sources_file = os.path.join(config.PARTS, "sources.tmp")


def debootstrap(part, directory, packages, hook=None):
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--skip=check/empty",
            "--include=" + ",".join(packages)] + NO_DOCS
    if hook:
        argv.append("--setup-hook=" + hook)
    command(sandbox.isolated(argv + [config.SUITE, directory]), part.log,
            env=dict(os.environ, LC_ALL="C.UTF-8"))


def build_root(part, directory):
    # What mirror there is, mmdebstrap knows: the kernel's download waits for it to say.
    hook = 'cat "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* 2>/dev/null >%s; mv %s %s' % (
        _sources_file + ".new", _sources_file + ".new", _sources_file)
    debootstrap(part, directory, config.ROOT_PACKAGES, hook)


def mirror(root):
    """The archive's address, as mmdebstrap wrote it down (in one line, or in stanzas)."""
    while not (root.done.is_set() or os.path.exists(_sources_file)):
        root.done.wait(0.2)
    names = [_sources_file, root.file("etc/apt/sources.list")]
    names += sorted(glob.glob(root.file("etc/apt/sources.list.d/*")))
    text = ""
    for name in names:
        if os.path.exists(name):
            with open(name) as f:
                text += f.read() + "\n"
    found = re.search(r"(\w[\w+]*://\S+?)/?\s+(?:Suites:\s*)?%s\s" % config.SUITE, text)
    if not found:
        raise Failure("no archive found in the build root's sources.list")
    return found.group(1)


class Archive:
    """apt on the backports of the target suite, with a state directory of its own."""

    def __init__(self, directory, address, log):
        self.directory, self.log = directory, log
        for name in ("lists/partial", "cache/archives/partial", "etc"):
            os.makedirs(os.path.join(directory, name))
        open(os.path.join(directory, "status"), "w").close()
        keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
        with open(os.path.join(directory, "etc/sources.list"), "w") as f:
            f.write("deb [signed-by=%s] %s %s main\n" % (keys, address, config.BACKPORTS))
        with open(os.path.join(directory, "apt.conf"), "w") as f:
            f.write('Dir::State "{0}"; Dir::State::Lists "{0}/lists"; Dir::State::status "{0}/status";\n'
                    'Dir::Cache "{0}/cache"; Dir::Etc::SourceList "{0}/etc/sources.list";\n'
                    'Dir::Etc::SourceParts "/dev/null"; Dir::Etc::Preferences "/dev/null";\n'
                    'Dir::Etc::PreferencesParts "/dev/null"; APT::Sandbox::User "root";\n'
                    'Acquire::Languages "none"; APT::Architecture "amd64"; Acquire::Retries "3";\n'
                    .format(directory))
        self.env = dict(os.environ, APT_CONFIG=os.path.join(directory, "apt.conf"), LC_ALL="C")
        command(["apt-get", "update"], log, env=self.env)

    def ask(self, *argv):
        return subprocess.run(("apt-cache",) + argv, env=self.env, check=True, text=True,
                              stdout=subprocess.PIPE, preexec_fn=die_with_parent).stdout

    def newest_kernel(self):
        """The newest kernel of the series that has headers and source in the archive."""
        names = set(self.ask("pkgnames", "linux-").split())
        found = [m.group(1) for m in map(config.KERNEL_RE.match, names) if m]
        found = [v for v in found if "linux-headers-" + v in names]
        if not found or "linux-source-" + config.KERNEL_SERIES not in names:
            raise Failure("no kernel %s with headers and source in %s"
                          % (config.KERNEL_SERIES, config.BACKPORTS))
        return max(found, key=lambda v: [int(n) for n in re.findall(r"\d+", v)])

    def closure(self, names):
        """names, and what they depend on among the kernel's own packages."""
        names, result = list(names), []
        while names:
            name = names.pop()
            if name not in result:
                result.append(name)
                names += re.findall(r"Depends: (linux-\S*%s\.\S*)" % re.escape(config.KERNEL_SERIES),
                                    self.ask("depends", name))
        return result


def build_kernel(part, directory):
    work = os.path.join(directory, "apt")
    archive = Archive(work, mirror(part.root), part.log)
    version = archive.newest_kernel()
    names = archive.closure(["linux-image-" + version, "linux-headers-" + version])
    source = "linux-source-" + config.KERNEL_SERIES
    for group in ([source], names):
        command(["apt-get", "download"] + group, part.log, env=archive.env, cwd=work)
    tar = os.path.join(directory, "usr/src/%s.tar.xz" % source)
    for name in sorted(os.listdir(work)):
        if name.endswith(".deb"):
            command(["dpkg-deb", "-x", os.path.join(work, name), directory], part.log)
    command(["tar", "-C", os.path.dirname(tar), "-xf", tar]
            + ["--exclude=" + pattern for pattern in SOURCE_WITHOUT], part.log)
    os.unlink(tar)
    sandbox.remove(work)
    modules = "lib/modules" if os.path.isdir(os.path.join(directory, "lib/modules")) else "usr/lib/modules"
    if modules == "lib/modules":
        os.makedirs(os.path.join(directory, "usr/lib"), exist_ok=True)
        os.rename(os.path.join(directory, modules), os.path.join(directory, "usr/lib/modules"))
    with open(os.path.join(directory, "version"), "w") as f:
        f.write(version)


DEBUG_TREE = "/usr/src/linux-debug"
# What modules are built with stays; of the rest neither source nor objects are wanted any more.
DEBUG_BUILD = r"""set -eu
cd "$TREE"
for patch in /debug/*.patch; do
	patch -p1 <"$patch"
done
make -s KCONFIG_ALLCONFIG=/debug/config allnoconfig
grep '^CONFIG_' /debug/config | while read -r line; do
	grep -qxF "$line" .config || { echo "the configuration does without $line"; exit 1; }
done
make -j"$(nproc)" bzImage modules
version=$(make -s kernelrelease)
make -s INSTALL_MOD_PATH=/out/usr INSTALL_MOD_STRIP=1 modules_install
mkdir /out/boot
cp arch/x86/boot/bzImage "/out/boot/vmlinuz-$version"
ln -sfn "$TREE" "/out/usr/lib/modules/$version/build"
find . \( -path ./scripts -o -path ./tools/objtool \) -prune -o \
	-type f \( -name '*.[oac]' -o -name '.*.cmd' -o -name 'vmlinux*' \) -exec rm {} +
rm -rf Documentation arch/[!x]* drivers/gpu sound tools/testing tools/perf
printf %s "$version" >/out/version
"""


def build_debug(part, directory):
    work, source = os.path.join(directory, "apt"), "linux-source-" + config.KERNEL_SERIES
    archive = Archive(work, mirror(part.root), part.log)
    command(["apt-get", "download", source], part.log, env=archive.env, cwd=work)
    command(["dpkg-deb", "-x", glob.glob(os.path.join(work, "*.deb"))[0], work], part.log)
    tree = os.path.join(directory, DEBUG_TREE[1:])
    os.makedirs(tree)
    command(["tar", "-C", tree, "--strip-components=1", "-xf",
             os.path.join(work, "usr/src", source + ".tar.xz")], part.log)
    sandbox.remove(work)
    sandbox.run(part.root.path, ["sh", "-c", DEBUG_BUILD], part.log,
                env={"TREE": DEBUG_TREE, "LLVM": "1"},
                binds=[(tree, DEBUG_TREE), (directory, "/out"), (config.DEBUG_KERNEL, "/debug")])


def build_bios(part, directory):
    """What an HVM guest starts with; dom0 has QEMU, but none of its firmware."""
    shutil.copy(part.root.file("usr/share/seabios/bios-256k.bin"), os.path.join(directory, "bios.bin"))


def read(path):
    with open(path) as f:
        return f.read()


def version(kernel):
    return read(kernel.file("version"))


def kernel_binds(kernel, rust=None):
    """The kernel's headers and modules at their usual places in the build root."""
    v = version(kernel)
    if os.path.isdir(kernel.file(DEBUG_TREE[1:])):
        return [(kernel.file(p[1:]), p) for p in (DEBUG_TREE, "/usr/lib/modules/" + v)]
    short = v.rsplit("-", 1)[0]
    paths = ["/usr/src/linux-headers-%s" % v, "/usr/src/linux-headers-%s-common" % short,
             "/usr/lib/linux-kbuild-%s" % short, "/usr/lib/modules/" + v]
    binds = [(kernel.file(p[1:]), p) for p in paths]
    if rust:
        headers = "/usr/src/linux-headers-%s" % v
        binds += [(rust.file("rust"), headers + "/rust"),
                  (rust.file("scripts/target.json"), "/usr/lib/linux-kbuild-%s/scripts/target.json" % short)]
    return binds


def build_rust(part, directory):
    kernel = part.kernel
    source = "/usr/src/linux-source-" + config.KERNEL_SERIES
    binds = kernel_binds(kernel) + [
        (kernel.file(source[1:]), source), (directory, "/out"),
        (os.path.join(config.TOP, "tools/rust-metadata"), "/rust-metadata")]
    sandbox.run(part.root.path, ["sh", "/rust-metadata", "--output", "/out",
                                 "--source", source, version(kernel)], part.log, binds=binds,
                env={"TMPDIR": "/out"})


def build_dom0(part, directory):
    debootstrap(part, directory, config.DOM0_PACKAGES)
    for name in ("var/cache/apt", "var/lib/apt/lists", "usr/share/perl", "usr/include"):
        sandbox.remove(os.path.join(directory, name))


class Lab:
    """All the parts, by name; with the debug kernel in place of the stock one, if debug."""

    def __init__(self, debug=False):
        self.debug = debug
        script = read(os.path.join(config.TOP, "tools/rust-metadata"))
        self.root = Part("root", build_root, config.ROOT_PACKAGES + NO_DOCS)
        if debug:
            files = sorted(glob.glob(os.path.join(config.DEBUG_KERNEL, "*")))
            self.kernel = Part("debug", build_debug, [config.BACKPORTS, config.KERNEL_SERIES, DEBUG_BUILD]
                               + [read(f) for f in files], [self.root])
        else:
            self.kernel = Part("kernel", build_kernel,
                               [config.BACKPORTS, config.KERNEL_SERIES] + SOURCE_WITHOUT)
        self.rust = Part("rust", build_rust, [script], [self.root, self.kernel])
        self.dom0 = Part("dom0", build_dom0, config.DOM0_PACKAGES + NO_DOCS)
        self.boot = Part("boot", images.build_boot, images.texts("dom0/initrd-init"),
                         [self.root, self.kernel])
        self.guest = Part("guest", images.build_guest, images.texts("guest/collect"),
                          [self.root, self.kernel, self.dom0])
        self.driver = Part("driver", images.build_driver, images.texts("guest/collect-driver"),
                           [self.root, self.kernel, self.dom0])
        self.image = Part("image", images.build_image, images.texts(),
                          [self.kernel, self.dom0, self.boot, self.guest, self.driver])
        # made only when a test needs it
        self.bios = Part("bios", build_bios, [], [self.root])
        self.parts = [self.root, self.kernel, self.rust, self.dom0, self.boot, self.guest, self.driver,
                      self.image]
        if debug:
            # its tree has the metadata
            self.parts.remove(self.rust)
        for part in self.parts + [self.bios]:
            part.root, part.kernel = self.root, self.kernel
            part.dom0, part.boot, part.guest = self.dom0, self.boot, self.guest
            part.driver = self.driver

    def build(self, needs=()):
        """Build what is missing; needs are names of parts that are not always made."""
        if os.path.exists(_sources_file):
            os.unlink(_sources_file)
        make(self.parts + [getattr(self, name) for name in needs])
        return self

    @property
    def version(self):
        return version(self.kernel)

    def binds(self):
        return kernel_binds(self.kernel, None if self.debug else self.rust)
