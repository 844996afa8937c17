// SPDX-License-Identifier: GPL-2.0

//! Where a tap comes between the queues and the disk; what it is made of is another module's.
//!
//! Each disk that is bound to this driver has a [`Slot`], whether or not there is a device behind it
//! yet. A [`Tap`] in it has a [`TapQueue`] for each queue, which the queue's thread calls: what the
//! guest asks for goes there instead of to the [`Stage`], as long as the tap wants it so. A tap
//! answers the guest, and asks the disk, by the [`Desk`] that the thread lends it.
//!
//! Without a tap, this costs a queue's thread a look at a word in each pass.
//!
//! - this file: what a tap is to a disk, and a disk to a tap.
//! - `tap/slot.rs`: [`Slot`].

mod slot;

pub use slot::Slot;
pub(crate) use slot::Tapped;

use crate::{
    bio::slots,
    session::{Events, Session},
    stage::Stage,
    vbd,
};
use xenbus::{
    prelude::*,
    protocol::{
        blkif::{status, Abi, Limits, Op, Request, Segment},
        ring::Back,
    },
    region::Region,
    ring::BackArea,
};

/// Requests of its own that a tap may have on their way at a time, for each queue.
pub const OWN_REQUESTS: usize = 512;

/// Who wants to know that there are other disks than before.
pub trait Observer: Send + Sync {
    /// A disk has come or gone. Called with a lock held: it must not look for one itself.
    fn changed(&self);
}

/// Sets who is told of disks that come and go; `None`: nobody, from the return on.
pub fn observe(observer: Option<Arc<dyn Observer>>) {
    slots::observe(observer);
}

/// The disk of the guest `domid` with the number `handle`, if there is such a one.
pub fn find(domid: u32, handle: u32) -> Option<Arc<Slot>> {
    slots::find(domid, handle)
}

/// A tap, as a disk sees it.
pub trait Tap: Send + Sync {
    /// The tap's side of queue `index`.
    fn queue(&self, index: usize) -> Option<Arc<dyn TapQueue>>;

    /// The front end has connected so many queues; 0: it has gone.
    fn connected(&self, queues: usize);

    /// The disk has another geometry.
    fn resized(&self);

    /// The disk has been detached. The slot has let go of the tap.
    fn gone(&self);
}

/// A tap's side of a queue. But for [`Self::attention`] and [`Self::event`] all is called by the queue's thread, or by one
/// that has its place for a pass ([`Bell::answer`]).
pub trait TapQueue: Send + Sync {
    /// The thread begins. It is to be woken by `bell`; requests have numbers below `places`, and as
    /// many can be there.
    fn open(&self, bell: Bell, places: usize) -> Result;

    /// Whether [`Self::pass`] is to be called. Must not sleep.
    fn attention(&self) -> bool;

    /// The front end has sent an event while the thread sleeps. True: [`Bell::answer`] will be called
    /// for it; if that should not come about, [`Bell::ring`]. In any context.
    fn event(&self) -> bool;

    /// Does what there is to do; says how things are after that.
    fn pass(&self, desk: &mut Desk<'_>) -> Load;

    /// The thread ends: nothing of the tap's is on its way to the disk any more. The guest's
    /// requests that it still has are to be answered.
    fn close(&self, desk: &mut Desk<'_>);
}

/// How things are with a tap's side of a queue.
#[derive(Clone, Copy, Default)]
pub struct Load {
    /// The guest's requests go to the tap.
    pub divert: bool,
    /// The guest's requests that wait to be sent.
    pub waiting: usize,
    /// The guest's requests that are with the program.
    pub sent: usize,
    /// There is a program.
    pub alive: bool,
    /// A pass may find something to do though nothing has come.
    pub restless: bool,
}

/// Wakes the thread of a queue.
#[derive(Clone)]
pub struct Bell(Arc<Events>);

impl Bell {
    pub(crate) fn new(events: &Arc<Events>) -> Self {
        Bell(events.clone())
    }

    /// Wakes the thread, so that it looks at [`TapQueue::attention`], which has been made true with
    /// a full barrier after it. In any context.
    pub fn ring(&self) {
        self.0.waker.wake();
    }

    /// Has the calling thread do what that of the queue would do if it were woken, if it sleeps, and
    /// wakes it otherwise; [`TapQueue::attention`] has been made true as for [`Self::ring`]. `tap` is
    /// whose bell it is. Sleeps; with no lock held that a pass takes.
    pub fn answer(&self, tap: &dyn TapQueue) {
        if self.0.tapped.with(|queue| queue.help(tap)) != Some(true) {
            self.ring();
        }
    }
}

/// What a tap gets back with the end of a request of its own: its own numbers.
#[derive(Clone, Copy)]
pub struct Token {
    /// Of the program.
    pub id: u32,
    /// Of the tap.
    pub tag: u32,
    /// Of the tap.
    pub generation: u32,
    /// Of the tap.
    pub op: u8,
}

/// What a queue's thread lends to its tap for a pass.
pub struct Desk<'a> {
    pub(crate) stage: &'a mut Stage,
    pub(crate) ring: &'a mut Back<BackArea, Abi>,
    pub(crate) session: &'a Session,
    /// Requests of the guest's that have come, in their order, and how many have been taken.
    pub(crate) arrived: &'a mut KVec<u16>,
    pub(crate) taken: usize,
    /// Responses have been written.
    pub(crate) answered: bool,
    /// Requests that could not be served for the guest's own fault.
    pub(crate) bad: usize,
    pub(crate) paused: bool,
    pub(crate) ending: bool,
    pub(crate) helped: bool,
}

impl Desk<'_> {
    /// The next request of the guest's that has come.
    pub fn arrived(&mut self) -> Option<u16> {
        let number = *self.arrived.get(self.taken)?;
        self.taken = self.taken.wrapping_add(1);
        Some(number)
    }

    /// The next of the tap's own requests that is done, and its status.
    pub fn done(&mut self) -> Option<(Token, i16)> {
        self.stage.tap_done()
    }

    /// A request of the guest's that has not been answered, and is not [lent](Self::lend).
    pub fn request(&mut self, number: u16) -> Option<(&Request, &[Segment])> {
        let transfer = self.stage.get(number)?;
        Some((&transfer.request, &transfer.segments))
    }

    /// Answers a request of the guest's. Its number is free then.
    pub fn answer(&mut self, number: u16, status: i16) {
        let Some(transfer) = self.stage.get(number) else {
            return;
        };
        let request = transfer.request;
        let status = match (status, request.op) {
            // There is no disk that cannot read or write.
            (status::EOPNOTSUPP, Op::Read | Op::Write) => status::ERROR,
            (status::EOPNOTSUPP, op) => {
                self.session.revoke(op);
                status
            }
            _ => status,
        };
        // There is a request that waits for a response: this one.
        let _ = self.ring.push(&request.response(status));
        self.stage.forget(number);
        self.answered = true;
    }

    /// Answers a request of the guest's that has failed for what the guest did; it has to wait for
    /// the next one.
    pub fn refuse(&mut self, number: u16) {
        self.answer(number, status::ERROR);
        self.bad = self.bad.wrapping_add(1);
    }

    /// Gives a request of the guest's to the disk, as if there were no tap.
    pub fn to_disk(&mut self, number: u16) {
        self.stage.send_later(number);
    }

    /// Carries out a request of the tap's with the pages of one of the guest's, which must be as
    /// long and be a read or a write as it is; [`Self::done`] gives `token` back, and the guest's
    /// request is still to be answered.
    pub fn lend(&mut self, number: u16, request: Request, token: Token) -> Result {
        self.stage.lend(number, request, token)
    }

    /// Carries out a request of the tap's, with data from the byte `at` of `region` on;
    /// [`Self::done`] gives `token` back.
    ///
    /// # Errors
    ///
    /// `EBUSY` when [`OWN_REQUESTS`] are on their way, `EINVAL` when that leaves the region,
    /// `ENOMEM`.
    pub fn submit(
        &mut self,
        request: Request,
        region: &Arc<Region>,
        at: usize,
        token: Token,
    ) -> Result {
        self.stage.take_own(request, region, at, token)
    }

    /// Whether none of the guest's requests is on its way to the disk by itself.
    pub fn is_idle(&self) -> bool {
        self.stage.own() == 0
    }

    /// What the disk allows a tap, whatever the guest is told.
    pub fn disk_limits(&self) -> Limits {
        vbd::limits(&self.session.vbd().disk_geometry())
    }

    /// Whether requests of the guest's are to wait, since a barrier of another queue is on its way.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether this is not the queue's thread, but one that has its place ([`Bell::answer`]).
    pub fn is_helped(&self) -> bool {
        self.helped
    }

    /// Whether the queue ends: nothing new is to be begun.
    pub fn is_ending(&self) -> bool {
        self.ending
    }
}
