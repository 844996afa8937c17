// SPDX-License-Identifier: GPL-2.0

//! A queue and its tap, if there is one: when the tap is called, and what it is called with.

use super::Queue;
use crate::bio;
use crate::session::Session;
use crate::tap::{Bell, Desk, Load, Tapped, OWN_REQUESTS};
use kernel::{
    dev_err,
    time::{delay::fsleep, Delta, Instant, Monotonic},
};
use xenbus::{kthread::Current, prelude::*};

/// What a queue knows of its tap.
#[derive(Default)]
pub(super) struct Side {
    tap: Option<Tapped>,
    /// That of the slot when it was looked at last.
    version: u32,
    /// What the tap has said last.
    load: Load,
    /// Requests of the guest's that are for the tap; there is room for all that the ring holds.
    arrived: KVec<u16>,
    /// There is room for the tap's own requests in the stage.
    grown: bool,
    /// Another queue has a barrier.
    paused: bool,
    /// Something has changed since the tap was called, of which nothing else tells.
    more: bool,
}

/// How long a program has to answer what it has when the service ends, in milliseconds.
const PATIENCE: i64 = 500;

impl Side {
    /// Whether [`Queue::attend`] has something to do.
    #[inline]
    pub(super) fn calls(&self, session: &Session) -> bool {
        session.vbd().slot.version() != self.version
            || (self.tap.as_ref()).is_some_and(|tap| self.more || tap.queue.attention())
    }

    /// Whether there is a tap.
    #[inline]
    pub(super) fn is_some(&self) -> bool {
        self.tap.is_some()
    }

    /// Whether requests of the guest's go to the tap.
    #[inline]
    pub(super) fn diverts(&self) -> bool {
        self.load.divert
    }

    /// Takes a request of the guest's, if it is for the tap.
    #[inline]
    pub(super) fn takes(&mut self, number: u16) -> bool {
        self.load.divert && self.arrived.push_within_capacity(number).is_ok()
    }

    /// The other queue's barrier is through.
    pub(super) fn resume(&mut self) {
        self.paused = false;
        // There may be requests that waited for this, and no event to come.
        self.more = true;
    }

    fn sent(&self) -> usize {
        self.load.sent
    }

    fn pending(&self) -> usize {
        (self.load.sent)
            .wrapping_add(self.load.waiting)
            .wrapping_add(self.arrived.len())
    }
}

impl Queue {
    /// Looks whether there is another tap, and calls the tap if it has something to do.
    #[inline]
    pub(super) fn attend(&mut self, thread: &Current) {
        if self.session.vbd().slot.version() != self.tap.version {
            self.look_for_tap(thread);
        }
        if self.tap.tap.is_some() {
            self.call_tap(thread);
        }
    }

    fn look_for_tap(&mut self, thread: &Current) {
        let slot = self.session.vbd().slot.clone();
        let mut failed = false;
        loop {
            self.tap.version = slot.version();
            self.session.refresh(&mut self.limits);
            let new = slot.tapped(self.index);
            match (&self.tap.tap, &new) {
                (None, None) => return,
                (Some(old), Some(new)) if Arc::ptr_eq(&old.queue, &new.queue) => return,
                _ => {}
            }
            self.close_tap();
            let Some(new) = new else {
                return;
            };
            let Err(e) = self.open_tap(new) else {
                return;
            };
            // The guest must not come past the tap: it waits until there is memory.
            if !core::mem::replace(&mut failed, true) {
                dev_err!(
                    self.session.dev().dev(),
                    "cannot attach to the tap: {e:?}; the disk waits\n"
                );
            }
            if self.is_over(thread) {
                self.broken = true;
                return;
            }
            fsleep(Delta::from_millis(100));
            self.finish(thread);
        }
    }

    fn open_tap(&mut self, tap: Tapped) -> Result {
        if !self.tap.grown {
            self.responder.stage.grow(OWN_REQUESTS)?;
            self.tap
                .arrived
                .reserve(self.responder.ring.size() as usize, GFP_KERNEL)?;
            self.tap.grown = true;
        }
        tap.queue
            .open(Bell::new(&self.events.waker), self.responder.stage.places())?;
        self.tap.tap = Some(tap);
        Ok(())
    }

    fn call_tap(&mut self, thread: &Current) {
        // Twice at most, as what goes to a disk as fast as memory comes back at once.
        for round in 0..2 {
            let Some(tap) = &self.tap.tap else {
                return;
            };
            let work = core::mem::take(&mut self.tap.more)
                || tap.queue.attention()
                || !self.tap.arrived.is_empty()
                || self.responder.stage.any_tap_done()
                || (round == 0 && self.tap.load.restless);
            if !work {
                return;
            }
            let queue = tap.queue.clone();
            let bad = bio::plugged(|| {
                let bad = self.at_desk(false, |desk| queue.pass(desk));
                self.responder.stage.send();
                bad
            });
            self.back_off(bad, thread);
            // What the disk has done by now is not in its list any more, so that it wakes nobody.
            self.tap.more = self.finish(thread);
        }
    }

    /// Lends the desk to `f`; how many requests were bad.
    fn at_desk(&mut self, ending: bool, f: impl FnOnce(&mut Desk<'_>) -> Load) -> usize {
        let mut desk = Desk {
            stage: &mut self.responder.stage,
            ring: &mut self.responder.ring,
            session: &self.session,
            arrived: &mut self.tap.arrived,
            taken: 0,
            answered: false,
            bad: 0,
            paused: self.tap.paused,
            ending,
        };
        let load = f(&mut desk);
        let (answered, bad) = (desk.answered, desk.bad);
        self.tap.arrived.clear();
        self.tap.load = load;
        if answered {
            self.responder.notify();
        }
        bad
    }

    /// Waits until the tap has answered all that it was given.
    pub(super) fn drain_tap(&mut self, thread: &Current) {
        if self.tap.tap.is_some() {
            self.attend(thread);
            self.wait(thread, |this| this.tap.pending() == 0);
        }
    }

    /// Waits until the program has nothing of this queue's, and gives it nothing more.
    pub(super) fn pause_tap(&mut self, thread: &Current) {
        self.tap.paused = true;
        if self.tap.tap.is_some() {
            self.wait(thread, |this| this.tap.sent() == 0);
        }
    }

    /// The service ends: gives the program a little time to answer what it has.
    pub(super) fn end_tap(&mut self, thread: &Current) {
        if self.tap.tap.is_none() {
            return;
        }
        let from = Instant::<Monotonic>::now();
        // By the clock: the program can make a pass take long.
        while from.elapsed().as_millis() < PATIENCE {
            self.attend(thread);
            if !self.tap.load.alive || self.tap.pending() == 0 {
                break;
            }
            fsleep(Delta::from_millis(1));
            self.finish(thread);
        }
        if let Some(tap) = &self.tap.tap {
            let queue = tap.queue.clone();
            self.at_desk(true, |desk| queue.pass(desk));
        }
    }

    /// The tap has nothing on its way to the disk any more: lets go of it.
    pub(super) fn close_tap(&mut self) {
        if let Some(tap) = self.tap.tap.take() {
            self.at_desk(true, |desk| {
                tap.queue.close(desk);
                Load::default()
            });
        }
    }
}
