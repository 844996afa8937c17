// SPDX-License-Identifier: GPL-2.0
//! The rings of a queue.
//!
//! What is pushed is passed on when the thread has nothing else to do ([`Door::run`]), or at the end of a
//! [batch](Door::batch): one publication for each ring, one kick for all queues.

use crate::rt::{self, Notify};
use crate::sys::map::{Region, Ring};
use protocol::ring::{AttachError, Back, Front, Overrun};
use protocol::tap::{Entries, Request, Response};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

/// How a thread and the kernel wake each other.
pub(crate) struct Door {
    /// Wakes the kernel's threads of the queues in a mask.
    kick: Box<dyn Fn(u64) -> io::Result<()>>,
    /// A kick may put something into the rings without a word.
    polls: bool,
    /// Something was pushed that is not published.
    pushed: Cell<bool>,
    /// Somebody is going to pass it on, and need not be woken.
    batch: Cell<bool>,
    changed: Notify,
    /// The kernel has woken us.
    pub(crate) bell: Notify,
}

impl Door {
    /// `polls`: attached with [`ioctl::POLLS`](protocol::tap::ioctl::POLLS).
    pub(crate) fn new(polls: bool, kick: impl Fn(u64) -> io::Result<()> + 'static) -> Rc<Self> {
        Rc::new(Self {
            kick: Box::new(kick),
            polls,
            pushed: Cell::new(false),
            batch: Cell::new(false),
            changed: Notify::new(),
            bell: Notify::new(),
        })
    }

    /// Passes on what is pushed, for ever.
    pub(crate) async fn run(&self, queues: &[Rc<Queue>]) -> io::Result<()> {
        loop {
            let pushed = || self.pushed.get().then_some(());
            self.changed.until(pushed).await;
            rt::idle().await;
            self.publish(queues)?;
            if self.polls {
                self.bell.notify();
            }
        }
    }

    /// Passes on what is pushed.
    pub(crate) fn publish(&self, queues: &[Rc<Queue>]) -> io::Result<()> {
        self.pushed.set(false);
        let mut mask = 0;
        for queue in queues {
            let front = queue.front.borrow_mut().publish();
            let back = queue.back.borrow_mut().publish();
            mask |= u64::from(front | back) << queue.index;
        }
        match mask {
            0 => Ok(()),
            mask => (self.kick)(mask),
        }
    }

    /// Runs `f`, and passes on what it has pushed; whether that was anything.
    pub(crate) fn batch<T>(
        &self,
        queues: &[Rc<Queue>],
        f: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, bool)> {
        self.batch.set(true);
        let result = f();
        self.batch.set(false);
        let pushed = self.pushed.get();
        if pushed {
            self.publish(queues)?;
        }
        Ok((result?, pushed))
    }

    fn push(&self) {
        if !self.pushed.replace(true) && !self.batch.get() {
            self.changed.notify();
        }
    }
}

/// A queue, as the program has it.
pub(crate) struct Queue {
    pub(crate) index: u32,
    pub(crate) region: Rc<Region>,
    /// Bytes of the window that are for the guest's data.
    pub(crate) guest_bytes: usize,
    front: RefCell<Back<Ring, Entries>>,
    back: RefCell<Front<Ring, Entries>>,
    pub(crate) door: Rc<Door>,
}

/// The kernel does not keep to the rules.
pub(crate) fn broken(what: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("the kernel's side of a ring is broken: {what:?}"))
}

impl From<Overrun> for Broken {
    fn from(overrun: Overrun) -> Self {
        Broken(broken(overrun))
    }
}

/// [`broken`], for `?`.
pub(crate) struct Broken(io::Error);

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        broken.0
    }
}

impl Queue {
    /// Queue `index`, whose rings are new.
    pub(crate) fn new(
        index: u32,
        region: Rc<Region>,
        guest_bytes: usize,
        door: &Rc<Door>,
    ) -> io::Result<Rc<Self>> {
        let (front, back) = region.rings();
        let front = Back::attach(front, Entries).map_err(|error: AttachError| broken(error))?;
        let back = Front::new(back, Entries).map_err(broken)?;
        Ok(Rc::new(Self {
            index,
            guest_bytes: guest_bytes.min(region.window()),
            region,
            front: front.into(),
            back: back.into(),
            door: door.clone(),
        }))
    }

    /// The guest's next request.
    pub(crate) fn request(&self) -> Result<Option<Request>, Broken> {
        Ok(self.front.borrow_mut().pop()?)
    }

    /// Answers a request of the guest's.
    pub(crate) fn answer(&self, response: &Response) {
        // There is room: each request is answered once.
        let _ = self.front.borrow_mut().push(response);
        self.door.push();
    }

    /// Asks the disk; `false` if there is no room now.
    pub(crate) fn submit(&self, request: &Request) -> bool {
        let pushed = self.back.borrow_mut().push(request).is_ok();
        if pushed {
            self.door.push();
        }
        pushed
    }

    /// The disk's next response.
    pub(crate) fn response(&self) -> Result<Option<Response>, Broken> {
        Ok(self.back.borrow_mut().pop()?)
    }

    /// Whether something has come after all, of the disk's or, if `requests`, the guest's. If not,
    /// the kernel wakes us when it comes.
    pub(crate) fn final_check(&self, requests: bool) -> Result<bool, Broken> {
        let back = self.back.borrow_mut().final_check()?;
        Ok(back || requests && self.front.borrow_mut().final_check()?)
    }
}
