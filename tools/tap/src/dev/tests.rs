// SPDX-License-Identifier: GPL-2.0
//! The fronts against a kernel's end in the same thread.

use super::below::Below;
use super::front::Front;
use super::hooks::{Hook, Passing, Verdict, VirtualDisk};
use super::queue::{Door, Queue};
use crate::log::Log;
use crate::rt::{self, Notify};
use crate::sys::map::{Region, Ring};
use crate::{AnyDisk, Buf, Disk, Info as DiskInfo};
use protocol::ring::{self, Memory};
use protocol::tap::ioctl::{Geometry, Info};
use protocol::tap::{flag, op, status, Entries, Request, Response, NO_DATA, RING_BYTES};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

const GUEST: usize = 1 << 20;
const OWN: usize = 1 << 20;
const SECTORS: u64 = 4096;

/// The kernel's side of one queue: rings, and the disk behind the back-end ring.
struct Kernel {
    region: Rc<Region>,
    front: RefCell<ring::Front<Ring, Entries>>,
    back: RefCell<ring::Back<Ring, Entries>>,
    answers: RefCell<HashMap<u32, i16>>,
    flags: RefCell<HashMap<u32, u8>>,
    answered: Notify,
    disk: RefCell<Vec<u8>>,
    /// What the disk was asked for.
    seen: RefCell<Vec<Request>>,
    /// The disk does not answer for now.
    stuck: Cell<bool>,
    kicks: Cell<u32>,
    bell: Notify,
}

impl Kernel {
    fn new() -> (Rc<Self>, Rc<Queue>, Rc<Door>) {
        let region = Region::anonymous(2 * RING_BYTES + GUEST + OWN).unwrap();
        let (front, back) = region.rings();
        let front = ring::Front::new(front, Entries).unwrap();
        let own = ring::Front::new(back, Entries).unwrap();
        let back = ring::Back::attach(own.into_memory(), Entries).unwrap();
        let kicked = Notify::new();
        let kicks = Rc::new(Cell::new(0));
        let door = Door::new(false, {
            let (kicked, kicks) = (kicked.clone(), kicks.clone());
            move |mask| {
                assert_eq!(mask, 1);
                kicks.set(kicks.get() + 1);
                kicked.notify();
                Ok(())
            }
        });
        let queue = Queue::new(0, region.clone(), GUEST, &door).unwrap();
        let kernel = Rc::new(Kernel {
            region,
            front: front.into(),
            back: back.into(),
            answers: RefCell::default(),
            flags: RefCell::default(),
            answered: Notify::new(),
            disk: vec![0; SECTORS as usize * 512].into(),
            seen: RefCell::default(),
            stuck: Cell::new(false),
            kicks: Cell::new(0),
            bell: door.bell.clone(),
        });
        let thread = kernel.clone();
        rt::spawn(async move {
            loop {
                thread.pass();
                thread.kicks.set(kicks.get());
                let (front, back) = (
                    thread.front.borrow_mut().final_check().unwrap(),
                    !thread.stuck.get() && thread.back.borrow_mut().final_check().unwrap(),
                );
                if !front && !back {
                    kicked.notified().await;
                }
            }
        })
        .detach();
        (kernel, queue, door)
    }

    fn bytes(&self, sector: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.region.peek(sector, &mut bytes);
        bytes
    }

    fn pass(&self) {
        while let Some(answer) = self.front.borrow_mut().pop().unwrap() {
            let old = self.answers.borrow_mut().insert(answer.id, answer.status);
            assert_eq!(old, None, "answered twice");
            self.flags.borrow_mut().insert(answer.id, answer.flags);
            self.answered.notify();
        }
        while !self.stuck.get() {
            let Some(request) = self.back.borrow_mut().pop().unwrap() else {
                break;
            };
            self.seen.borrow_mut().push(request);
            let (at, len) = (
                request.sector as usize * 512,
                request.nr_sectors as usize * 512,
            );
            let mut disk = self.disk.borrow_mut();
            match request.op {
                // The guest's own pages, which are not here.
                _ if request.flags & flag::GUEST != 0 => (),
                op::READ => self.region.poke(request.data, &disk[at..at + len]),
                op::WRITE => {
                    let bytes = self.bytes(request.data, len);
                    disk[at..at + len].copy_from_slice(&bytes);
                }
                _ => (),
            }
            let response = Response {
                id: request.id,
                op: request.op,
                flags: 0,
                status: status::OKAY,
            };
            self.back.borrow_mut().push(&response).unwrap();
        }
        if self.back.borrow_mut().publish() {
            self.bell.notify();
        }
    }

    /// What a guest asks for.
    fn send(&self, requests: &[Request]) {
        for request in requests {
            self.front.borrow_mut().push(request).unwrap();
        }
        if self.front.borrow_mut().publish() {
            self.bell.notify();
        }
    }

    async fn answer(&self, id: u32) -> i16 {
        let answer = || self.answers.borrow().get(&id).copied();
        let answer = self.answered.until(answer);
        rt::timeout(Duration::from_secs(5), answer)
            .await
            .expect("an answer")
    }
}

/// One request of the guest's; data is at sector 8 × `id` of the window.
fn ask(id: u32, op: u8, sector: u64, nr_sectors: u64) -> Request {
    let data = match op {
        op::READ | op::WRITE => 8 * id,
        _ => NO_DATA,
    };
    Request {
        id,
        op,
        flags: 0,
        sector,
        nr_sectors,
        data,
        guest: 0,
    }
}

/// A disk that remembers, and fails beyond its middle.
#[derive(Default)]
struct Contents {
    bytes: RefCell<Vec<u8>>,
    calls: RefCell<Vec<String>>,
}

#[derive(Clone)]
struct Shown(Rc<Contents>);

impl Disk for Shown {
    fn info(&self) -> DiskInfo {
        DiskInfo::new(self.0.bytes.borrow().len() as u64)
    }
    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        rt::yield_now().await;
        let bytes = self.0.bytes.borrow();
        if at as usize >= bytes.len() / 2 {
            return Err(io::Error::other("beyond the middle"));
        }
        buf.copy_from_slice(&bytes[at as usize..at as usize + buf.len()]);
        Ok(())
    }
    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        rt::yield_now().await;
        self.0.calls.borrow_mut().push(format!("write {at} {fua}"));
        self.0.bytes.borrow_mut()[at as usize..at as usize + buf.len()].copy_from_slice(buf);
        Ok(())
    }
    async fn flush(&self) -> io::Result<()> {
        self.0.calls.borrow_mut().push("flush".into());
        Ok(())
    }
}

/// Starts the front for a queue.
fn front(queue: &Rc<Queue>, door: &Rc<Door>, below: Option<Below>) -> Rc<Front> {
    let front = Front::new(below, Log::new("test"), &door.bell);
    rt::spawn(front.clone().run(queue.clone())).detach();
    let (door, queues) = (door.clone(), vec![queue.clone()]);
    rt::spawn(async move { door.run(&queues).await }).detach();
    front
}

#[test]
fn a_disk_serves_a_guest() {
    rt::run(async {
        let (kernel, queue, door) = Kernel::new();
        let memory = Rc::new(Contents {
            bytes: vec![7; 1 << 20].into(),
            ..Contents::default()
        });
        let front = front(&queue, &door, None);
        // Before the chain is open, requests wait.
        kernel.send(&[ask(1, op::READ, 4, 8)]);
        rt::idle().await;
        rt::idle().await;
        assert!(kernel.answers.borrow().is_empty());
        front.start(&AnyDisk::new(Shown(memory.clone())));
        assert_eq!(kernel.answer(1).await, status::OKAY);
        assert_eq!(kernel.bytes(8, 4096), [7; 4096]);

        kernel.region.poke(16, &[9; 4096]);
        let barrier = Request {
            flags: flag::BARRIER,
            ..ask(2, op::WRITE, 16, 8)
        };
        kernel.send(&[barrier]);
        assert_eq!(kernel.answer(2).await, status::OKAY);
        assert_eq!(memory.bytes.borrow()[8192..12288], [9; 4096]);
        assert_eq!(*memory.calls.borrow(), ["flush", "write 8192 true"]);

        kernel.send(&[
            ask(3, op::FLUSH, 0, 0),
            ask(4, op::DISCARD, 0, 2000),
            ask(5, 99, 0, 0),
            ask(6, op::READ, 1024, 8),
        ]);
        assert_eq!(kernel.answer(3).await, status::OKAY);
        assert_eq!(kernel.answer(4).await, status::OKAY);
        assert_eq!(kernel.answer(5).await, status::EOPNOTSUPP);
        assert_eq!(kernel.answer(6).await, status::ERROR);
        front.finish().await;
        kernel.send(&[ask(7, op::FLUSH, 0, 0)]);
        rt::sleep(Duration::from_millis(10)).await;
        assert!(!kernel.answers.borrow().contains_key(&7));
    })
    .unwrap();
}

#[test]
fn a_batch_costs_one_kick() {
    rt::run(async {
        let (kernel, queue, door) = Kernel::new();
        let memory = Rc::new(Contents {
            bytes: vec![7; 1 << 20].into(),
            ..Contents::default()
        });
        front(&queue, &door, None).start(&AnyDisk::new(Shown(memory)));
        let batch: Vec<Request> = (0..100).map(|id| ask(id, op::READ, 8, 8)).collect();
        kernel.send(&batch);
        for id in 0..100 {
            assert_eq!(kernel.answer(id).await, status::OKAY);
        }
        assert_eq!(kernel.kicks.get(), 1);
    })
    .unwrap();
}

/// Every byte of the disk below, turned around.
struct Invert(AnyDisk);

impl Disk for Invert {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.0)
    }
    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        self.0.read(at, buf).await?;
        buf.iter_mut().for_each(|byte| *byte = !*byte);
        Ok(())
    }
    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let mut copy = Buf::copy_of(buf);
        copy.iter_mut().for_each(|byte| *byte = !*byte);
        self.0.write(at, &copy, fua).await
    }
}

fn info() -> Info {
    Info {
        geometry: Geometry {
            sectors: SECTORS,
            sector_size: 512,
            physical_sector_size: 4096,
            features: 3,
            discard_granularity: 4096,
        },
        ..Info::default()
    }
}

#[test]
fn a_filter_is_between_a_guest_and_its_disk() {
    rt::run(async {
        let (kernel, queue, door) = Kernel::new();
        let below = Below::new(&[queue.clone()], &info());
        let front = front(&queue, &door, Some(below.clone()));
        let disk = AnyDisk::new(Invert(AnyDisk::new(below.clone())));
        assert_eq!(disk.info().size, SECTORS * 512);
        front.start(&disk);
        kernel.region.poke(8, &[1; 4096]);
        kernel.send(&[ask(1, op::WRITE, 16, 8)]);
        assert_eq!(kernel.answer(1).await, status::OKAY);
        assert_eq!(kernel.disk.borrow()[8192..12288], [0xfe; 4096]);
        kernel.send(&[ask(2, op::READ, 16, 8)]);
        assert_eq!(kernel.answer(2).await, status::OKAY);
        assert_eq!(kernel.bytes(16, 4096), [1; 4096]);
        // Data that was copied came by the program's own part, the other stayed where it was.
        let seen: Vec<(u8, bool)> = {
            let seen = kernel.seen.borrow();
            let own = |request: &Request| request.data as usize * 512 >= GUEST;
            seen.iter()
                .map(|request| (request.op, own(request)))
                .collect()
        };
        assert_eq!(seen, [(op::WRITE, true), (op::READ, false)]);

        // More than a piece of the own part, and from the heap.
        let mut buf = Buf::new(600 << 10);
        buf.iter_mut()
            .enumerate()
            .for_each(|(i, byte)| *byte = (i / 512) as u8);
        let copy = buf.to_vec();
        below.write(0, &buf, true).await.unwrap();
        buf.fill(0);
        below.read(0, &mut buf).await.unwrap();
        assert!(buf[..] == copy[..]);
        assert_eq!(
            kernel
                .seen
                .borrow()
                .iter()
                .filter(|it| it.op == op::FLUSH)
                .count(),
            1
        );
    })
    .unwrap();
}

#[test]
fn requests_that_nobody_waits_for_keep_their_memory() {
    rt::run(async {
        let (kernel, queue, door) = Kernel::new();
        let below = Below::new(&[queue.clone()], &info());
        let front = front(&queue, &door, Some(below.clone()));
        let impatient = Impatient(AnyDisk::new(below.clone()));
        front.start(&AnyDisk::new(impatient));
        kernel.stuck.set(true);
        kernel.send(&[ask(1, op::READ, 0, 8)]);
        rt::sleep(Duration::from_millis(50)).await;
        // It has given up, but its memory may still be written to.
        assert!(kernel.answers.borrow().is_empty());
        // All of the own part, and more.
        for _ in 0..8 {
            let mut buf = Buf::new(256 << 10);
            let read = below.read(0, &mut buf);
            assert!(rt::timeout(Duration::from_millis(5), read).await.is_none());
        }
        kernel.stuck.set(false);
        kernel.pass();
        assert_eq!(kernel.answer(1).await, status::ERROR);
        let mut buf = Buf::new(1 << 20);
        below.read(0, &mut buf).await.unwrap();
    })
    .unwrap();
}

struct Impatient(AnyDisk);

impl Disk for Impatient {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.0)
    }
    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let read = self.0.read(at, buf);
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        rt::timeout(Duration::from_millis(10), read)
            .await
            .ok_or_else(late)?
    }
}

#[test]
fn a_kernel_that_breaks_the_rules_is_left() {
    rt::run(async {
        let (kernel, queue, door) = Kernel::new();
        let front = Front::new(None, Log::new("test"), &door.bell);
        let task = rt::spawn(front.clone().run(queue.clone()));
        front.start(&AnyDisk::new(Shown(Rc::default())));
        // Data behind the guest's part.
        let mut outside = ask(1, op::READ, 0, 8);
        outside.data = (GUEST / 512 - 4) as u32;
        kernel.send(&[outside]);
        assert!(task.await.unwrap_err().to_string().contains("broken"));
        let task = rt::spawn(front.clone().run(queue.clone()));
        kernel.front.borrow().memory().store(0, 0x1234_5678);
        door.bell.notify();
        assert!(task.await.unwrap_err().to_string().contains("broken"));
    })
    .unwrap();
}

/// Says what it sees; has what is at certain sectors.
struct Watcher {
    name: &'static str,
    seen: Rc<RefCell<Vec<String>>>,
    kept: Rc<RefCell<Vec<Passing>>>,
}

impl Watcher {
    fn say(&self, what: &str, passing: &Passing) {
        let (name, sector) = (self.name, passing.sector());
        self.seen
            .borrow_mut()
            .push(format!("{name} {what} {sector}"));
    }
}

impl Hook for Watcher {
    fn request(&self, mut request: Passing) -> Verdict {
        self.say("request", &request);
        match (self.name, request.sector()) {
            ("b", 8) => {
                self.kept.borrow_mut().push(request);
                return Verdict::Consume;
            }
            ("b", 16) => {
                request.answer(status::OKAY);
                return Verdict::Consume;
            }
            // forgotten
            ("b", 24) => return Verdict::Consume,
            ("a", 32) => request.set_sector(40),
            _ => (),
        }
        Verdict::Pass(request)
    }

    fn reply(&self, mut reply: Passing) -> Verdict {
        assert!(reply.is_reply());
        self.say("reply", &reply);
        if reply.sector() == 48 {
            reply.set_status(status::ERROR);
        }
        Verdict::Pass(reply)
    }

    fn batch_done(&self) {
        self.seen.borrow_mut().push(format!("{} done", self.name));
    }
}

/// Looks at requests only, and moves one of them.
struct Counter(Cell<u32>);

impl Hook for Counter {
    fn request(&self, mut request: Passing) -> Verdict {
        self.0.set(self.0.get() + 1);
        if request.sector() == 16 {
            request.set_sector(24);
        }
        Verdict::Pass(request)
    }
    fn wants_replies(&self) -> bool {
        false
    }
}

#[test]
fn where_nobody_wants_replies_the_disk_answers() {
    rt::run(async {
        let (kernel, queue, door) = Kernel::new();
        let disk = VirtualDisk::new(&door.bell);
        rt::spawn(disk.clone().run(queue.clone(), [queue.clone()].into())).detach();
        let (publisher, queues) = (door.clone(), vec![queue.clone()]);
        rt::spawn(async move { publisher.run(&queues).await }).detach();
        let hook = Rc::new(Counter(Cell::new(0)));
        disk.start(vec![hook.clone()]);
        for (id, op, sector) in [(1, op::READ, 0), (2, op::WRITE, 8), (3, op::READ, 16)] {
            kernel.send(&[Request {
                data: NO_DATA,
                ..ask(id, op, sector, 8)
            }]);
            assert_eq!(kernel.answer(id).await, status::OKAY);
        }
        let flags = kernel.flags.borrow().clone();
        assert_eq!(
            (flags[&1], flags[&2], flags[&3]),
            (flag::PASS, flag::PASS, flag::GUEST)
        );
        // Only the one that was moved went by us.
        let asked = kernel.seen.take();
        assert_eq!((asked.len(), asked[0].sector), (1, 24));
        assert_eq!(hook.0.get(), 3);
        let finish = rt::timeout(Duration::from_secs(5), disk.finish());
        assert!(finish.await.is_some());
    })
    .unwrap();
}

#[test]
fn hooks_see_requests_and_replies() {
    rt::run(async {
        let (kernel, queue, door) = Kernel::new();
        let disk = VirtualDisk::new(&door.bell);
        rt::spawn(disk.clone().run(queue.clone(), [queue.clone()].into())).detach();
        let (publisher, queues) = (door.clone(), vec![queue.clone()]);
        rt::spawn(async move { publisher.run(&queues).await }).detach();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::new(RefCell::new(Vec::new()));
        let hook = |name| -> Rc<dyn Hook> {
            Rc::new(Watcher {
                name,
                seen: seen.clone(),
                kept: kept.clone(),
            })
        };
        disk.start(vec![hook("a"), hook("b")]);
        let send = |id, op, sector| {
            kernel.send(&[Request {
                data: NO_DATA,
                ..ask(id, op, sector, 8)
            }])
        };

        send(1, op::READ, 0);
        assert_eq!(kernel.answer(1).await, status::OKAY);
        let all = [
            "a request 0",
            "b request 0",
            "a done",
            "b done",
            "b reply 0",
            "a reply 0",
        ];
        assert_eq!(seen.take()[..6], all);
        let asked = kernel.seen.take();
        assert_eq!(
            (asked[0].flags, asked[0].guest, asked[0].data),
            (flag::GUEST, 1, NO_DATA)
        );
        assert_eq!(kernel.flags.borrow()[&1], flag::GUEST);

        // One that is kept, and goes on later; the others overtake it.
        send(2, op::WRITE, 8);
        send(3, op::WRITE, 16);
        assert_eq!(kernel.answer(3).await, status::OKAY);
        assert!(kernel.seen.borrow().is_empty());
        assert!(!kernel.answers.borrow().contains_key(&2));
        kept.borrow_mut().pop().unwrap().resume();
        assert_eq!(kernel.answer(2).await, status::OKAY);
        assert_eq!(kernel.seen.take().len(), 1);
        assert!(seen.take().contains(&"a reply 16".to_string()));

        send(4, op::WRITE, 24);
        assert_eq!(kernel.answer(4).await, status::ERROR);
        send(5, op::READ, 32);
        assert_eq!(kernel.answer(5).await, status::OKAY);
        assert_eq!(kernel.seen.take()[0].sector, 40);
        send(6, op::READ, 48);
        assert_eq!(kernel.answer(6).await, status::ERROR);
        assert_eq!(kernel.flags.borrow()[&6], 0);
        let finish = rt::timeout(Duration::from_secs(5), disk.finish());
        assert!(finish.await.is_some());
    })
    .unwrap();
}
