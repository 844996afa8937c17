#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR MIT
"""What a program behind /dev/blktap has to do, with nothing but Python's own library.

Documentation/blktap.md explains it. Run as a program, it is what the tests need:

    blktap.py noop DOMID HANDLE [...]     passes all on, the data through the window
    blktap.py guest DOMID HANDLE [...]    passes all on, with the guest's own pages (--barrier: each
                                          write as a barrier)
    blktap.py pass DOMID HANDLE [...]     has the disk do all, and hears no more of it
    blktap.py ram DOMID HANDLE [...]      is the disk, in memory (--sectors N, --file PATH)
    blktap.py be DOMID HANDLE [...]       reads and writes the disk by itself (--check)
    blktap.py bad CASE DOMID HANDLE       breaks a rule
    blktap.py last DOMID HANDLE           answers what comes first, and is gone at once
    blktap.py cross DOMID HANDLE          gets a request by one queue, and asks the disk by another
    blktap.py stuck DOMID HANDLE          waits for a change that waits for its answers
    blktap.py abuse DOMID HANDLE          makes calls that are refused
    blktap.py cycle|fork|exec DOMID HANDLE
    blktap.py info|queues DOMID HANDLE, list, set DOMID HANDLE mode|policy|remove [VALUE]
"""

import argparse
import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import struct
import sys
import time

VERSION = 1
RING_BYTES = 32768
ENTRIES = 512
ENTRY = 32
HEADER = 64
SECTOR = 512
NO_DATA = 0xffffffff
READ, WRITE, FLUSH, DISCARD = 0, 1, 3, 5
BARRIER, SECURE, GUEST, PASS = 1, 2, 4, 8
OKAY, ERROR, EOPNOTSUPP = 0, -1, -2
MODES = ["passthrough", "interpose", "intercept-fe", "intercept-be"]
POLICIES = ["hold", "passthrough", "error"]
STATES = ["idle", "connected", "gone", "broken"]
WAIT, NO_WINDOW, POLLS = 1, 2, 4
REQUEST = struct.Struct("<IBBxxQQII")
RESPONSE = struct.Struct("<IBBh")

ATTACH = struct.Struct("<10IQ")
GEOMETRY = struct.Struct("<QIIII")
INFO = struct.Struct("<10IQIIII")
QUEUE_INFO = struct.Struct("<10I4Q2Q24Q")
SET = struct.Struct("<4I")


def ioc(direction, number, size):
    return direction << 30 | size << 16 | 0xbc << 8 | number


IOC_ATTACH = ioc(3, 0, ATTACH.size)
IOC_KICK = ioc(1, 1, 8)
IOC_INFO = ioc(3, 2, INFO.size)
IOC_QUEUE_INFO = ioc(3, 3, QUEUE_INFO.size)
IOC_SET = ioc(1, 4, SET.size)
IOC_SET_GEOMETRY = ioc(1, 5, GEOMETRY.size)


def less(a, b):
    """The distance from a to b of two free-running indices."""
    return (b - a) & 0xffffffff


class Ring:
    """One ring of a queue. The indices: 0 req_prod, 1 req_event, 2 rsp_prod, 3 rsp_event.

    `words` gives them as words, which are read and written in one go.
    """

    def __init__(self, memory, at):
        self.memory = memory
        self.at = at
        self.words = memory[at:at + 16].cast("I")
        self.consumed = 0
        self.produced = 0

    def entry(self, index):
        return self.at + HEADER + index % ENTRIES * ENTRY


class Queue:
    """The rings and the window of one queue."""

    def __init__(self, memory, window):
        self.memory = memoryview(memory)
        self.fe = Ring(self.memory, 0)
        self.be = Ring(self.memory, RING_BYTES)
        self.window = 2 * RING_BYTES
        self.sent = 0

    def data(self, sector, count):
        """The bytes of some sectors of the window."""
        start = self.window + sector * SECTOR
        return self.memory[start:start + count * SECTOR]

    def requests(self):
        """The guest's requests that have come."""
        ring = self.fe
        while less(ring.consumed, ring.words[0]):
            request = REQUEST.unpack_from(self.memory, ring.entry(ring.consumed))
            ring.consumed = ring.consumed + 1 & 0xffffffff
            yield request

    def answer(self, ident, op, status=OKAY, flags=0):
        """Answers one of the guest's requests; to be followed by publish()."""
        ring = self.fe
        RESPONSE.pack_into(self.memory, ring.entry(ring.produced), ident, op, flags, status)
        ring.produced = ring.produced + 1 & 0xffffffff

    def room(self):
        """How many requests can be sent."""
        return ENTRIES - less(self.be.consumed, self.be.produced)

    def send(self, ident, op, sector, count, data=NO_DATA, flags=0, guest=0):
        """Asks the disk; to be followed by publish()."""
        ring = self.be
        REQUEST.pack_into(self.memory, ring.entry(ring.produced),
                          ident, op, flags, sector, count, data, guest)
        ring.produced = ring.produced + 1 & 0xffffffff

    def responses(self):
        """What the disk has answered."""
        ring = self.be
        while less(ring.consumed, ring.words[2]):
            response = RESPONSE.unpack_from(self.memory, ring.entry(ring.consumed))
            ring.consumed = ring.consumed + 1 & 0xffffffff
            yield response

    def publish(self):
        """Shows what has been written; true if there was anything, so that a kick is due.

        Whoever looks at rsp_event and req_event, after a full barrier, can save some kicks.
        """
        new = self.fe.words[2] != self.fe.produced or self.be.words[0] != self.be.produced
        self.fe.words[2] = self.fe.produced
        self.be.words[0] = self.be.produced
        return new

    def arm(self):
        """Asks to be woken for whatever comes next; poll() then says at once if it is there."""
        self.fe.words[1] = self.fe.consumed + 1 & 0xffffffff
        self.be.words[3] = self.be.consumed + 1 & 0xffffffff


class Tap:
    """An attached disk."""

    def __init__(self, domid, handle, mode, policy="hold", flags=0, guest_bytes=0, own_bytes=0,
                 nonblock=False):
        self.fd = os.open("/dev/blktap", os.O_RDWR | os.O_CLOEXEC | (os.O_NONBLOCK if nonblock else 0))
        it = bytearray(ATTACH.pack(VERSION, domid, handle, flags, MODES.index(mode),
                                   POLICIES.index(policy), guest_bytes, own_bytes, 0, 0, 0))
        fcntl.ioctl(self.fd, IOC_ATTACH, it)
        (_, _, _, _, _, _, self.guest_bytes, self.own_bytes, count, _, self.region) = ATTACH.unpack(it)
        self.maps = [mmap.mmap(self.fd, self.region, offset=i * self.region) for i in range(count)]
        self.queues = [Queue(m, self.guest_bytes + self.own_bytes) for m in self.maps]
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN | select.POLLPRI)

    def kick(self, mask):
        fcntl.ioctl(self.fd, IOC_KICK, struct.pack("<Q", mask))

    def publish(self):
        """Publishes all queues, and kicks those in which there is something new."""
        mask = 0
        for i, queue in enumerate(self.queues):
            if queue.publish():
                mask |= 1 << i
        if mask:
            self.kick(mask)
        return mask

    def wait(self, seconds=None):
        """Sleeps until there is something to do; the events of poll(2)."""
        for queue in self.queues:
            queue.arm()
        events = self.poll.poll(None if seconds is None else seconds * 1000)
        return events[0][1] if events else 0

    def info(self):
        return info(self.fd)

    def set_geometry(self, sectors, sector_size=512, physical=4096, features=0, granularity=0):
        fcntl.ioctl(self.fd, IOC_SET_GEOMETRY,
                    GEOMETRY.pack(sectors, sector_size, physical, features, granularity))


def info(fd, domid=0, handle=0, flags=0):
    it = bytearray(INFO.pack(domid, handle, flags, *[0] * 12))
    fcntl.ioctl(fd, IOC_INFO, it)
    names = ("domid handle flags state mode policy pid nr_queues nr_connected generation sectors"
             " sector_size physical features granularity").split()
    it = dict(zip(names, INFO.unpack(it)))
    it["state"] = STATES[it["state"]]
    it["mode"] = MODES[it["mode"]]
    it["policy"] = POLICIES[it["policy"]]
    return it


def queue_info(fd, domid, handle, queue):
    it = bytearray(QUEUE_INFO.pack(domid, handle, queue, *[0] * 37))
    fcntl.ioctl(fd, IOC_QUEUE_INFO, it)
    it = QUEUE_INFO.unpack(it)
    names = ("domid handle queue fe_in_flight be_in_flight fe_req_prod fe_rsp_prod be_req_prod"
             " be_rsp_prod refused").split()
    result = dict(zip(names, it))
    result["requests"], result["sectors"], result["latency"] = it[10:14], it[14:16], it[16:]
    return result


def set_it(fd, what, value=0, domid=0, handle=0):
    fcntl.ioctl(fd, IOC_SET, SET.pack(domid, handle, what, value))


class Noop:
    """Passes all on. `guest`: with the guest's own pages; `barrier`: each write as a barrier."""

    def __init__(self, tap, guest=False, barrier=False):
        self.tap = tap
        self.guest = guest
        self.barrier = barrier
        self.waiting = [[] for _ in tap.queues]

    def work(self, queue, index):
        pending = self.waiting[index]
        pending.extend(queue.requests())
        while pending and queue.room():
            ident, op, flags, sector, count, data, _ = pending.pop(0)
            if self.barrier and op == WRITE:
                flags |= BARRIER
            if self.guest and op in (READ, WRITE):
                queue.send(ident, op, sector, count, NO_DATA, flags | GUEST, ident)
            else:
                queue.send(ident, op, sector, count, data, flags)
        for ident, op, flags, status in queue.responses():
            queue.answer(ident, op, status, flags & GUEST)


class Pass:
    """Has the disk do all, of each third request with an answer by way of this program."""

    def __init__(self, tap):
        self.noop, self.count = Noop(tap, True), 0

    def work(self, queue, index):
        for request in queue.requests():
            self.count += 1
            if self.count % 3:
                queue.answer(request[0], request[1], OKAY, PASS)
            else:
                self.noop.waiting[index].append(request)
        self.noop.work(queue, index)


class Disk:
    """Is the disk: in memory, or a file that is read and written past the page cache."""

    def __init__(self, tap, sectors, path=None):
        self.size = sectors * SECTOR
        self.file = os.open(path, os.O_RDWR | os.O_DIRECT) if path else -1
        self.memory = None if path else memoryview(mmap.mmap(-1, self.size))

    def work(self, queue, index):
        for ident, op, flags, sector, count, data, _ in queue.requests():
            at, status = sector * SECTOR, OKAY
            window = queue.data(data, count) if op in (READ, WRITE) else None
            try:
                if self.file >= 0:
                    if op == READ and os.preadv(self.file, [window], at) != len(window):
                        status = ERROR
                    if op == WRITE and os.pwritev(self.file, [window], at) != len(window):
                        status = ERROR
                    if op == FLUSH or flags & BARRIER:
                        os.fdatasync(self.file)
                elif op == READ:
                    window[:] = self.memory[at:at + len(window)]
                elif op == WRITE:
                    self.memory[at:at + len(window)] = window
            except OSError as e:
                print("request failed: %s" % e, file=sys.stderr)
                status = ERROR
            queue.answer(ident, op, status)


def serve(tap, worker, stall=None, limit=None):
    """Does what there is to do until it is told to end. `stall`: while that file is there, requests
    are taken and not answered."""
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    while not ended:
        if not (stall and os.path.exists(stall)):
            for index, queue in enumerate(tap.queues):
                worker.work(queue, index)
            tap.publish()
        else:
            tap.poll.poll(0)
            time.sleep(0.05)
            continue
        try:
            events = tap.wait(0.5)
        except InterruptedError:
            continue
        if events & select.POLLPRI:
            tap.info()
        if events & select.POLLHUP:
            print("gone", flush=True)
            return
        if events & select.POLLERR:
            print("broken", flush=True)
            return
    print("ended", flush=True)


def client(tap, count):
    """Writes and reads back by the back-end ring, with memory of its own, in all connected queues."""
    info = tap.info()
    own = tap.guest_bytes // SECTOR
    bad = 0
    for index, queue in enumerate(tap.queues[:info["nr_connected"]]):
        def run(op, sector, sectors, data):
            queue.send(7, op, sector, sectors, data)
            tap.publish()
            until = time.time() + 60
            while time.time() < until:
                for response in queue.responses():
                    return response[3]
                tap.wait(1)
            return "timeout"
        for i in range(count):
            # Not on a page's boundary, nor on that of the place for the result.
            sector, sectors = (i * 97 + index * 5000) % 30000, i % 40 + 1
            pattern = os.urandom(sectors * SECTOR)
            queue.data(own + 1, sectors)[:] = pattern
            status = [run(WRITE, sector, sectors, own + 1)]
            status.append(run(READ, sector, sectors, own + 1003))
            if status != [0, 0] or queue.data(own + 1003, sectors) != pattern:
                bad += 1
                print("queue %d, %d sectors at %d: %s" % (index, sectors, sector, status))
        if run(FLUSH, 0, 0, NO_DATA) not in (OKAY, EOPNOTSUPP):
            bad += 1
    print("bad: %d" % bad, flush=True)
    return bad


def fails(what, *args, **more):
    """The name of the error that a call ends with."""
    try:
        what(*args, **more)
    except OSError as e:
        return errno.errorcode.get(e.errno, e.errno)
    return "nothing"


def abuse(domid, handle):
    """Calls that are refused, of a program that is none the worse for them. How many were not."""
    wrong = []

    def check(name, got, wanted):
        if got != wanted:
            wrong.append(name)
            print("%s: %s, and not %s" % (name, got, wanted))

    def attach(fd, version=VERSION, flags=0, mode=0, policy=0, guest=0, own=0, reserved=0, disk=(domid, handle)):
        it = bytearray(ATTACH.pack(version, *disk, flags, mode, policy, guest, own, 0, reserved, 0))
        try:
            fcntl.ioctl(fd, IOC_ATTACH, it)
        finally:
            attach.version = ATTACH.unpack(it)[0]
            attach.region = ATTACH.unpack(it)[-1]
            attach.queues = ATTACH.unpack(it)[8]

    fd = os.open("/dev/blktap", os.O_RDWR | os.O_CLOEXEC)
    kick = struct.pack("<Q", 1)
    check("a kick before the attach", fails(fcntl.ioctl, fd, IOC_KICK, kick), "ENOTCONN")
    check("a map before the attach", fails(mmap.mmap, fd, 4096), "ENOTCONN")
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    check("a poll before the attach", poll.poll(0), [(fd, select.POLLERR)])
    check("an ioctl that there is not", fails(fcntl.ioctl, fd, ioc(3, 77, 8), kick), "ENOTTY")
    check("another size", fails(fcntl.ioctl, fd, ioc(1, 1, 4), kick), "ENOTTY")
    check("a bad address", fails(fcntl.ioctl, fd, IOC_ATTACH, 8), "EFAULT")
    check("another version", fails(attach, fd, version=99), "EPROTO")
    check("our version", attach.version, VERSION)
    check("reserved", fails(attach, fd, reserved=1), "EINVAL")
    check("flags", fails(attach, fd, flags=8), "EINVAL")
    check("mode", fails(attach, fd, mode=4), "EINVAL")
    check("policy", fails(attach, fd, policy=3), "EINVAL")
    check("a huge window", fails(attach, fd, guest=0xffffffff), "EINVAL")
    check("a huge window of its own", fails(attach, fd, own=0xffffffff), "EINVAL")
    check("no tap is made for what is refused", fails(info, fd, domid, handle), "ENOENT")
    check("no such disk", fails(attach, fd, disk=(domid, handle + 1)), "ENODEV")
    check("no such guest", fails(attach, fd, disk=(1 << 20, handle)), "ENODEV")
    nonblock = os.open("/dev/blktap", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    check("no wait", fails(attach, nonblock, flags=WAIT, disk=(domid, handle + 1)), "EAGAIN")

    attach(fd, own=4097)
    region, queues = attach.region, attach.queues
    check("the region", region, 65536 + (4 << 20) + 8192)
    check("a second attach", fails(attach, fd), "EISCONN")
    check("a second program", fails(attach, nonblock), "EBUSY")
    check("... that does not wait", fails(attach, nonblock, flags=WAIT), "EAGAIN")
    check("a mode that there is not", fails(set_it, fd, 0, 4), "EINVAL")
    check("a policy that there is not", fails(set_it, fd, 1, 3), "EINVAL")
    check("an order that there is not", fails(set_it, fd, 3), "EINVAL")
    check("a bad geometry", fails(fcntl.ioctl, fd, IOC_SET_GEOMETRY, GEOMETRY.pack(8, 300, 4096, 0, 0)), "EINVAL")
    check("a queue that there is not", fails(queue_info, fd, 0, 0, 64), "EINVAL")
    everything = region * queues
    page = mmap.PAGESIZE
    check("private", fails(mmap.mmap, fd, region, mmap.MAP_PRIVATE), "EINVAL")
    check("too long", fails(mmap.mmap, fd, region + page), "EINVAL")
    check("over the end", fails(mmap.mmap, fd, 2 * page, offset=region - page), "EINVAL")
    check("behind the end", fails(mmap.mmap, fd, page, offset=everything), "EINVAL")
    check("far behind it", fails(mmap.mmap, fd, page, offset=1 << 50), "EINVAL")
    execute = mmap.PROT_READ | mmap.PROT_EXEC
    check("code", fails(mmap.mmap, fd, page, mmap.MAP_SHARED, execute), "EINVAL")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    libc.mremap.restype = ctypes.c_void_p
    libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    failed = ctypes.c_void_p(-1).value
    check("not on a page", libc.mmap(None, page, 3, 1, fd, 100), failed)
    last = mmap.mmap(fd, page, offset=region - page)
    last[:4] = b"abcd"
    again = mmap.mmap(fd, region)
    check("two maps, one memory", again[region - page:region - page + 4], b"abcd")
    at = libc.mmap(None, page, 3, 1, fd, 0)
    check("a map", at != failed, True)
    check("a longer one", libc.mremap(at, page, 2 * page, 1), failed)
    child = os.fork()
    if child == 0:
        print(again[0])
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    check("a child has no map", os.WIFSIGNALED(status) and os.WTERMSIG(status), signal.SIGSEGV)
    if os.geteuid() == 0:
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            denied = fails(os.open, "/dev/blktap", os.O_RDWR) == "EACCES"
            os._exit(0 if denied else 1)
        check("not for everybody", os.waitpid(child, 0)[1], 0)
    print("wrong: %d" % len(wrong), flush=True)
    return len(wrong)


def cycle(domid, handle, count):
    """Attaches again and again, and writes to all of the window."""
    for _ in range(count):
        tap = Tap(domid, handle, "interpose", guest_bytes=16 << 20, own_bytes=8 << 20)
        for memory in tap.maps:
            for at in range(0, len(memory), 4096):
                memory[at] = 1
        for queue in tap.queues:
            for ring in (queue.fe, queue.be):
                ring.words.release()
            queue.memory.release()
        for memory in tap.maps:
            memory.close()
        os.close(tap.fd)
    print("cycled", flush=True)


def first(tap, count=1):
    """The queue that is the first to have `count` requests, and these."""
    got, until = [[] for _ in tap.queues], time.time() + 60
    while time.time() < until:
        for queue, requests in zip(tap.queues, got):
            requests.extend(queue.requests())
            if len(requests) >= count:
                return queue, requests
        tap.wait(1)
    raise TimeoutError("no requests")


def last(tap):
    """Answers, and is gone before anybody has been told of the answers."""
    queue, requests = first(tap)
    for ident, op, *_ in requests:
        queue.answer(ident, op)
    queue.publish()
    os._exit(0)


def cross(tap):
    """Has a request of one queue, and reads from the disk by another one."""
    queue, _ = first(tap)
    other = next(q for q in tap.queues if q is not queue)
    other.send(1, READ, 0, 8, tap.guest_bytes // SECTOR)
    tap.publish()
    print("sent", flush=True)
    time.sleep(600)


def stuck(tap):
    """Has a request, and waits for a change that waits for the answer. After the tap has been taken
    away, says what the disk of the next program is like."""
    first(tap)
    print("stuck", flush=True)
    try:
        set_it(tap.fd, 0, MODES.index("intercept-fe"))
    except OSError as e:
        print("change: %s" % errno.errorcode.get(e.errno, e.errno), flush=True)
    while not tap.wait(1) & select.POLLHUP:
        pass
    time.sleep(2)
    print("geometry: %s" % fails(tap.set_geometry, 8), flush=True)
    time.sleep(600)


def bad(tap, case):
    """Breaks a rule as soon as there is a request. True: the disk was taken away for it."""
    queue = tap.queues[0]

    def is_broken():
        until = time.time() + 10
        while time.time() < until:
            if tap.wait(0.2) & select.POLLERR:
                return tap.info()["state"] == "broken"
            time.sleep(0.05)
        return False

    def responses(count):
        got, until = [], time.time() + 20
        while len(got) < count and time.time() < until:
            got.extend(queue.responses())
            tap.wait(0.2)
        return got

    if case == "unknown":
        queue, _ = first(tap)
        queue.answer(0x77770001, READ)
    elif case == "twice":
        # As many answers as there were requests, so that it is the second one that is wrong.
        queue, requests = first(tap, 2)
        ident, op = requests[0][:2]
        queue.answer(ident, op, ERROR)
        queue.answer(ident, op, ERROR)
    elif case == "overrun-fe":
        queue, _ = first(tap)
        queue.fe.words[2] = 1000
        tap.kick((1 << len(tap.queues)) - 1)
        return is_broken()
    elif case == "overrun-be":
        queue.be.words[0] = 1000
        tap.kick(1)
        return is_broken()
    elif case == "guest":
        for i, ident in enumerate([0, 0x1234, 0x10000, 0xffffffff]):
            queue.send(i, READ, 0, 8, NO_DATA, GUEST, ident)
        tap.publish()
        return [r[3] for r in responses(4)] == [ERROR] * 4
    elif case == "fuzz":
        import random
        random.seed(1)
        numbers = [0, 1, 7, 8, 100, 2047, 2048, 2049, 8191, 8192, 8193, 1 << 31, (1 << 32) - 1]
        large = numbers + [1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
        for _ in range(40):
            sent = 0
            for _ in range(256):
                queue.send(sent, random.choice([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 255]),
                           random.choice(large), random.choice(large), random.choice(numbers),
                           random.choice([0, 0, 0, 1, 2, 4, 8, 255]), random.choice(numbers))
                sent += 1
            tap.publish()
            got = responses(sent)
            if sorted(r[0] for r in got) != list(range(sent)) or tap.info()["state"] != "connected":
                return False
        return True
    tap.publish()
    return is_broken()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--mode")
    parser.add_argument("--policy", default="hold")
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--nonblock", action="store_true")
    parser.add_argument("--no-data", action="store_true")
    parser.add_argument("--polls", action="store_true")
    parser.add_argument("--stall")
    parser.add_argument("--barrier", action="store_true")
    parser.add_argument("--sectors", type=int, default=131072)
    parser.add_argument("--sector-size", type=int, default=512)
    parser.add_argument("--features", type=int, default=1)
    parser.add_argument("--geometry", action="store_true")
    parser.add_argument("--file")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--guest-bytes", type=int, default=0)
    a = parser.parse_args()

    def attach(mode, **more):
        flags = WAIT * a.wait | NO_WINDOW * a.no_data | POLLS * a.polls
        tap = Tap(int(a.words[-2]), int(a.words[-1]), a.mode or mode, a.policy, flags,
                  guest_bytes=a.guest_bytes, nonblock=a.nonblock, **more)
        print("attached", flush=True)
        return tap

    if a.what in ("noop", "guest"):
        tap = attach("interpose")
        serve(tap, Noop(tap, a.what == "guest", a.barrier), a.stall)
    elif a.what == "pass":
        tap = attach("interpose")
        serve(tap, Pass(tap), a.stall)
    elif a.what == "ram":
        tap = attach("intercept-fe")
        disk = Disk(tap, a.sectors, a.file)
        if a.geometry:
            tap.set_geometry(a.sectors, a.sector_size, 4096, a.features)
        serve(tap, disk, a.stall)
    elif a.what == "be":
        tap = attach("intercept-be", own_bytes=1 << 20)
        sys.exit(client(tap, a.count) != 0)
    elif a.what == "bad":
        tap = attach("interpose")
        sys.exit(not bad(tap, a.words[0]))
    elif a.what == "last":
        last(attach("interpose"))
    elif a.what == "cross":
        cross(attach("interpose", own_bytes=1 << 20))
    elif a.what == "stuck":
        stuck(attach("interpose"))
    elif a.what == "abuse":
        sys.exit(abuse(int(a.words[0]), int(a.words[1])) != 0)
    elif a.what == "cycle":
        cycle(int(a.words[0]), int(a.words[1]), a.count)
    elif a.what == "fork":
        # The child keeps the disk; or, of exec, nobody does.
        attach("interpose")
        if os.fork() == 0:
            while os.path.exists(a.stall):
                time.sleep(0.1)
            print("child ends", flush=True)
        os._exit(0)
    elif a.what == "exec":
        attach("interpose")
        os.execvp("sleep", ["sleep", "3"])
    else:
        fd = os.open("/dev/blktap", os.O_RDWR)
        if a.what == "list":
            domid, handle = 0, 0
            try:
                while True:
                    it = info(fd, domid, handle, 1)
                    domid, handle = it["domid"], it["handle"]
                    print(it)
            except OSError as e:
                if e.errno != errno.ENOENT:
                    raise
            return
        domid, handle = int(a.words[0]), int(a.words[1])
        if a.what == "info":
            it = info(fd, domid, handle)
            print(it[a.words[2]] if len(a.words) > 2 else it)
        elif a.what == "queues":
            for i in range(info(fd, domid, handle)["nr_queues"]):
                it = queue_info(fd, domid, handle, i)
                print(it[a.words[2]] if len(a.words) > 2 else it)
        elif a.what == "set":
            what = ["mode", "policy", "remove"].index(a.words[2])
            value = [MODES, POLICIES, [""]][what].index(a.words[3] if len(a.words) > 3 else "")
            set_it(fd, what, value, domid, handle)
        else:
            parser.error(a.what)


if __name__ == "__main__":
    try:
        main()
    except OSError as e:
        print("%s: %s" % (errno.errorcode.get(e.errno, e.errno), e), file=sys.stderr)
        sys.exit(2)
