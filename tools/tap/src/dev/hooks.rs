// SPDX-License-Identifier: GPL-2.0
//! The lower form: requests that are looked at as they pass between a guest and its disk.
//!
//! What an extension passes on goes by the guest's own pages: no byte of data is copied, and no
//! task is made. It is for those that delay, count, refuse or reorder. An extension of a chain says
//! that it can be had so by [`Extension::is_hook`](crate::Extension::is_hook); if all of a chain can, the
//! chain is made of hooks where it is put between a guest and its disk.

use super::queue::Queue;
use crate::rt::{self, Notify};
use protocol::tap::{flag, op, status, Request, Response, NO_DATA};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};

/// What a hook says of a request, or of a reply.
pub enum Verdict {
    /// It goes on.
    Pass(Passing),
    /// The hook has it, and will [resume](Passing::resume) or [answer](Passing::answer) it.
    Consume,
}

/// What looks at requests and replies. All calls come from one thread, and must not wait.
pub trait Hook: 'static {
    /// A request, on its way to the disk. The hooks are asked in the chain's order.
    fn request(&self, request: Passing) -> Verdict {
        Verdict::Pass(request)
    }

    /// A request that the disk has answered, on its way back; the hooks are asked from the last to
    /// the first. One that a hook has [answered](Passing::answer) comes by those before that hook.
    fn reply(&self, reply: Passing) -> Verdict {
        Verdict::Pass(reply)
    }

    /// Whether it needs to see what the disk answers. If none of a chain's hooks does, the disk
    /// answers the guest by itself, which is faster; a request whose sector a hook has changed comes
    /// back nevertheless.
    fn wants_replies(&self) -> bool {
        true
    }

    /// All requests and replies that there were have been seen.
    fn batch_done(&self) {}

    /// The end, as [`Disk::close`](crate::Disk::close).
    fn close(&self) -> Closing<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// What [`Hook::close`] does.
pub type Closing<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

/// What requests come by, and go on by: a queue, but for tests.
pub(super) trait Way {
    fn number(&self) -> u32;
    /// Asks the disk; `false` if there is no room now.
    fn submit(&self, request: &Request) -> bool;
    /// Answers a request of the guest's.
    fn answer(&self, response: &Response);
}

impl Way for Queue {
    fn number(&self) -> u32 {
        self.index
    }
    fn submit(&self, request: &Request) -> bool {
        Queue::submit(self, request)
    }
    fn answer(&self, response: &Response) {
        Queue::answer(self, response);
    }
}

/// A request of the guest's. If it is dropped, it fails.
pub struct Passing {
    request: Request,
    status: i16,
    /// The number of the hook that has it.
    at: usize,
    back: bool,
    disk: Weak<Inner>,
    way: Rc<dyn Way>,
    /// It goes to another place than the guest has asked for.
    moved: bool,
    over: bool,
}

impl Passing {
    /// One of [`op`].
    pub fn op(&self) -> u8 {
        self.request.op
    }

    /// Of [`flag`]: whether it is a barrier, or a secure discard.
    pub fn flags(&self) -> u8 {
        self.request.flags
    }

    /// Its first sector, of 512 bytes.
    pub fn sector(&self) -> u64 {
        self.request.sector
    }

    /// How many sectors; 0 for a flush.
    pub fn nr_sectors(&self) -> u64 {
        self.request.nr_sectors
    }

    /// Has it go to another place of the disk.
    pub fn set_sector(&mut self, sector: u64) {
        self.moved |= self.request.sector != sector;
        self.request.sector = sector;
    }

    /// Of a reply: one of [`status`].
    pub fn status(&self) -> i16 {
        self.status
    }

    /// Of a reply: has it say this.
    pub fn set_status(&mut self, status: i16) {
        self.status = status;
    }

    /// The same for a request and its reply, and for no other one at the time.
    pub fn key(&self) -> u64 {
        u64::from(self.way.number()) << 32 | u64::from(self.request.guest)
    }

    /// Whether it is on its way back.
    pub fn is_reply(&self) -> bool {
        self.back
    }

    /// A consumed one goes on, as if its hook had passed it now.
    pub fn resume(self) {
        if let Some(disk) = self.disk.upgrade() {
            disk.pass_on(self);
        }
    }

    /// A consumed request is answered without the disk.
    pub fn answer(mut self, status: i16) {
        self.back = true;
        self.status = status;
        self.resume();
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.over {
            self.status = status::ERROR;
            self.respond();
        }
    }
}

impl Passing {
    fn respond(&mut self) {
        let here = self.request.op == op::READ && self.status == status::OKAY;
        self.end(if here { flag::GUEST } else { 0 });
    }

    fn end(&mut self, flags: u8) {
        self.over = true;
        self.way.answer(&Response {
            id: self.request.guest,
            op: self.request.op,
            flags,
            status: self.status,
        });
        if let Some(disk) = self.disk.upgrade() {
            disk.busy.set(disk.busy.get() - 1);
            if disk.busy.get() == 0 {
                disk.changed.notify();
            }
        }
    }
}

/// A guest's disk, seen through hooks. Clones are the same.
#[derive(Clone)]
pub struct VirtualDisk(Rc<Inner>);

struct Inner {
    hooks: RefCell<Vec<Rc<dyn Hook>>>,
    takes: Cell<bool>,
    /// A hook wants to see replies.
    replies: Cell<bool>,
    /// What the disk has, by number.
    asked: RefCell<Vec<Option<Passing>>>,
    free: RefCell<Vec<usize>>,
    busy: Cell<u32>,
    changed: Notify,
    bell: Notify,
}

impl Inner {
    /// Takes it to the next hook in its direction, to the disk, or to the guest.
    fn pass_on(&self, mut passing: Passing) {
        loop {
            let next = match passing.back {
                false => passing.at + 1,
                true => match passing.at.checked_sub(1) {
                    Some(next) => next,
                    None => return passing.respond(),
                },
            };
            let hook = self.hooks.borrow().get(next).cloned();
            passing.at = next;
            let verdict = match hook {
                None => return self.submit(passing),
                Some(hook) if passing.back => hook.reply(passing),
                Some(hook) => hook.request(passing),
            };
            match verdict {
                Verdict::Pass(same) => passing = same,
                Verdict::Consume => return,
            }
        }
    }

    /// Asks the disk.
    fn submit(&self, mut passing: Passing) {
        if !self.replies.get() && !passing.moved {
            return passing.end(flag::PASS);
        }
        let id = self.free.borrow_mut().pop();
        let mut asked = self.asked.borrow_mut();
        let id = id.unwrap_or_else(|| {
            asked.push(None);
            asked.len() - 1
        });
        let data = matches!(passing.request.op, op::READ | op::WRITE);
        let request = Request {
            id: id as u32,
            flags: passing.request.flags | if data { flag::GUEST } else { 0 },
            data: NO_DATA,
            ..passing.request
        };
        // There is room: both rings have as many entries, and each request is of one of the guest's.
        if passing.way.submit(&request) {
            asked[id] = Some(passing);
        } else {
            self.free.borrow_mut().push(id);
            drop(asked);
            drop(passing);
        }
    }

    fn replied(&self, response: &Response) {
        let id = response.id as usize;
        let passing = self.asked.borrow_mut().get_mut(id).and_then(Option::take);
        let Some(mut passing) = passing else { return };
        self.free.borrow_mut().push(id);
        passing.back = true;
        passing.status = response.status;
        self.pass_on(passing);
    }
}

/// So many batches may follow each other before other tasks have their turn.
const BATCHES: u32 = 16;

impl VirtualDisk {
    /// `bell` is that of the queues' door.
    pub(super) fn new(bell: &Notify) -> Self {
        Self(Rc::new(Inner {
            hooks: RefCell::default(),
            takes: Cell::new(false),
            replies: Cell::new(true),
            asked: RefCell::default(),
            free: RefCell::default(),
            busy: Cell::new(0),
            changed: Notify::new(),
            bell: bell.clone(),
        }))
    }

    /// Requests go by these hooks from now on; the first is nearest to the guest.
    pub(super) fn start(&self, hooks: Vec<Rc<dyn Hook>>) {
        self.0
            .replies
            .set(hooks.iter().any(|hook| hook.wants_replies()));
        *self.0.hooks.borrow_mut() = hooks;
        self.0.takes.set(true);
        self.0.bell.notify();
    }

    /// Takes no further requests, and waits for those that are under way.
    pub(super) async fn finish(&self) {
        self.0.takes.set(false);
        let idle = || (self.0.busy.get() == 0).then_some(());
        self.0.changed.until(idle).await;
        // They may keep requests, which keep the queues.
        self.0.hooks.borrow_mut().clear();
    }

    /// The guest asks for something.
    pub(super) fn came(&self, mut request: Request, way: Rc<dyn Way>) {
        let disk = &self.0;
        request.guest = request.id;
        disk.busy.set(disk.busy.get() + 1);
        disk.enter(Passing {
            request,
            status: status::OKAY,
            at: 0,
            back: false,
            disk: Rc::downgrade(disk),
            way,
            moved: false,
            over: false,
        });
    }

    /// The disk has answered.
    pub(super) fn replied(&self, response: &Response) {
        self.0.replied(response);
    }

    /// Looks after a queue, which is one of `all` of this thread, until its rings are broken.
    pub(super) async fn run(self, queue: Rc<Queue>, all: Rc<[Rc<Queue>]>) -> io::Result<()> {
        let disk = &self.0;
        let mut batches = 0;
        loop {
            let ((), pushed) = queue.door.batch(&all, || self.look(&queue))?;
            if pushed && batches < BATCHES {
                // The kernel may have put more into the rings.
                batches += 1;
                continue;
            }
            batches = 0;
            if !pushed && !queue.final_check(disk.takes.get())? {
                disk.bell.notified().await;
            } else {
                rt::yield_now().await;
            }
        }
    }

    /// Takes what is in a queue's rings.
    fn look(&self, queue: &Rc<Queue>) -> io::Result<()> {
        let disk = &self.0;
        let mut some = false;
        while let Some(response) = queue.response()? {
            disk.replied(&response);
            some = true;
        }
        while disk.takes.get() {
            let Some(request) = queue.request()? else {
                break;
            };
            self.came(request, queue.clone());
            some = true;
        }
        if some {
            let hooks = disk.hooks.borrow();
            hooks.iter().for_each(|hook| hook.batch_done());
        }
        Ok(())
    }
}

impl Inner {
    /// Takes it to the first hook.
    fn enter(&self, passing: Passing) {
        let first = self.hooks.borrow().first().cloned();
        match first {
            None => self.submit(passing),
            Some(hook) => match hook.request(passing) {
                Verdict::Pass(passing) => self.pass_on(passing),
                Verdict::Consume => (),
            },
        }
    }
}
