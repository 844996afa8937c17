# SPDX-License-Identifier: GPL-2.0
"""Addresses to names."""

import bisect
import re

# Where x86-64 Xen and a PV kernel of 64 bits have what.
USER_END = 1 << 47
XEN_BEGIN, XEN_END = 0xffff800000000000, 0xffff880000000000


def level(address):
    """Whose code is there: "user", "Xen" or "kernel"."""
    if address < USER_END:
        return "user"
    return "Xen" if XEN_BEGIN <= address < XEN_END else "kernel"


class Symbols:
    """Names of functions, from files such as /proc/kallsyms."""

    def __init__(self, *paths):
        names = {}
        for path in paths:
            with open(path) as f:
                for line in f:
                    word = line.split()
                    # weak and local names only where there is no better one
                    if len(word) >= 3 and word[1] in "tTwW" and not re.match(r"(\.L|__pfx_)", word[2]):
                        at = int(word[0], 16)
                        if at not in names or word[1] == "T":
                            names[at] = short(word[2]) + (" " + word[3] if len(word) > 3 else "")
        self.starts = sorted(names)
        self.names = [names[at] for at in self.starts]

    def find(self, address):
        """(name, whether address is its first instruction)."""
        i = bisect.bisect_right(self.starts, address) - 1
        if i < 0:
            return "?", False
        return self.names[i], self.starts[i] == address


def short(name):
    """A name without file (Xen's symbols have it); one of Rust's without its crate and hash."""
    name = name.split("#")[-1]
    if not name.startswith(("_R", "_ZN")):
        return re.sub(r"\.(isra|constprop|part|cold|llvm)\b.*", "", name)
    if name.startswith("_ZN"):
        words, rest = [], name[3:]
        found = re.match(r"(\d+)", rest)
        while found:
            n = int(found.group(1))
            words.append(rest[found.end():found.end() + n])
            rest = rest[found.end() + n:]
            found = re.match(r"(\d+)", rest)
        return "::".join(w for w in words[-3:] if not re.match(r"h[0-9a-f]{16}$", w))
    # v0: the identifiers, each its length and itself; back references (B…_) and hashes (s…_) go
    words, rest = [], name[2:]
    while rest:
        found = re.match(r"(\d+)_?", rest)
        if found and 0 < int(found.group(1)) <= len(rest) - found.end():
            n = int(found.group(1))
            words.append(rest[found.end():found.end() + n])
            rest = rest[found.end() + n:]
        else:
            skipped = re.match(r"[Bs][0-9A-Za-z]*_|.", rest)
            rest = rest[skipped.end():]
    # the crate is in the module's name; at the end there may be the one that made the instance
    if len(words) > 1 and re.search(r"Cs[0-9A-Za-z]+_\d+%s$" % words[-1], name):
        words.pop()
    return "::".join(words[1:][-3:] or words) or name
