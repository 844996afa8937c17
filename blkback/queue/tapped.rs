// SPDX-License-Identifier: GPL-2.0

//! A queue and its tap, if there is one: when the tap is called, and what it is called with.

use super::{has_chores, has_work, Queue};
use crate::bio;
use crate::session::Session;
use crate::tap::{Bell, Desk, Load, TapQueue, Tapped, OWN_REQUESTS};
use kernel::{
    dev_err,
    time::{delay::fsleep, Delta, Instant, Monotonic},
};
use xenbus::{
    kthread::Current,
    noio,
    prelude::*,
    protocol::{
        blkif::{Parsed, Request},
        ring::Overrun,
    },
};

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
    /// Bad requests of which the guest has not been made to wait for the next one.
    bad: usize,
}

/// How long a program has to answer what it has when the service ends, in milliseconds.
const PATIENCE: i64 = 500;

/// How often one who helps looks at the ring again.
const ROUNDS: usize = 8;

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
            self.events.take_rest();
            self.call_tap();
            let bad = core::mem::take(&mut self.tap.bad);
            self.back_off(bad, thread);
        }
    }

    /// Sleeps until there is something to do. Meanwhile others may [`Self::help`].
    pub(super) fn sleep_with_tap(&mut self, thread: &Current) {
        let Some(queue) = self.tap.tap.as_ref().map(|tap| tap.queue.clone()) else {
            return;
        };
        if self.tap.more {
            return;
        }
        let (done, events, session) =
            (self.done.clone(), self.events.clone(), self.session.clone());
        let (index, broken, version) = (self.index, self.broken, self.tap.version);
        let work = || {
            has_work(&done, &events, broken)
                || has_chores(&events, &session, index)
                || events.rest()
                || queue.attention()
                || session.vbd().slot.version() != version
        };
        // An event that comes before the tap is lent is seen by the thread before it sleeps.
        let mut tap = queue.clone();
        events.tap.lend(&mut tap, || {
            events.tapped.lend(self, || thread.wait(work));
        });
    }

    /// Does what the thread would do if it were woken, which sleeps: calls the tap, and takes requests
    /// from the ring if there is an event. False: this is left to the thread. Sleeps.
    ///
    /// What waits for something, a barrier or the front end's punishment, is left to the thread, too.
    pub(crate) fn help(&mut self, tap: &dyn TapQueue) -> bool {
        let of = |it: &Tapped| core::ptr::addr_eq(&raw const *it.queue, core::ptr::from_ref(tap));
        if self.events.told_to_stop()
            || self.session.vbd().slot.version() != self.tap.version
            // The caller may come late, when there is another one.
            || !self.tap.tap.as_ref().is_some_and(of)
        {
            return false;
        }
        // The thread is so all the time.
        let events = self.events.clone();
        events.help(|| {
            noio::scope(|| {
                self.call_tap();
                // What has been left to the thread comes before the rest of the ring.
                if self.events.event() && !self.broken && self.left.is_none() {
                    self.consume_some();
                }
                self.tidy();
            });
        });
        self.responder.set_timer();
        if self.tap.calls(&self.session)
            || self.tap.bad > 0
            || self.left.is_some()
            || self.responder.stage.any_done()
        {
            self.events.leave_rest();
        }
        true
    }

    /// As [`Queue::consume`], but for what is left to the thread.
    fn consume_some(&mut self) {
        self.events.take_event();
        for _ in 0..ROUNDS {
            self.session.refresh(&mut self.limits);
            let taken = bio::plugged(|| self.take_some());
            self.call_tap();
            if self.left.is_some() || self.tap.bad > 0 || self.session.must_stand_aside(self.index)
            {
                break;
            }
            let result = match taken.and_then(|()| self.responder.ring.final_check()) {
                Ok(true) => continue,
                Ok(false) => Ok(()),
                Err(e) => Err(e),
            };
            self.broken = result.is_err();
            self.consumed(&result);
            return;
        }
        // The event is not done with.
        self.events.again();
        self.events.leave_rest();
    }

    /// Takes requests from the ring, as many as fit, up to one that is for the thread.
    fn take_some(&mut self) -> Result<(), Overrun> {
        for _ in 0..self.responder.ring.size() {
            let Some(raw) = self.responder.ring.pop()? else {
                break;
            };
            self.useful = true;
            let parsed = Request::parse(&raw, &self.limits);
            if let Ok(Parsed::Whole(request, _)) = &parsed {
                if self.is_barrier(request) {
                    self.left = Some(raw);
                    break;
                }
            }
            if let Err(response) = self.pass_on(parsed) {
                self.responder.refuse(&response);
                self.tap.bad = self.tap.bad.wrapping_add(1);
                break;
            }
        }
        self.responder.stage.send();
        Ok(())
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
            .open(Bell::new(&self.events), self.responder.stage.places())?;
        self.tap.tap = Some(tap);
        Ok(())
    }

    fn call_tap(&mut self) {
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
            self.tap.bad = self.tap.bad.wrapping_add(bad);
            if self.responder.stage.any_done() {
                let failed = self.responder.respond();
                self.tap.bad = self.tap.bad.wrapping_add(failed);
                // It is not in the disk's list any more, so that it wakes nobody.
                self.tap.more = self.tap.load.restless || self.responder.stage.any_tap_done();
            }
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
            helped: self.events.is_helped(),
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
