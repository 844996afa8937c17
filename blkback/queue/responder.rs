// SPDX-License-Identifier: GPL-2.0

//! What it takes to answer a request: the thread of the queue does it; or, while the thread sleeps,
//! whoever ends the last request that is on its way to the disk, so that nobody waits for a thread.

use crate::{
    session::{Events, Session},
    stage::Stage,
};
use kernel::time::{Instant, Monotonic};
use xenbus::{
    evtchn::EventChannel,
    prelude::*,
    protocol::{
        blkif::{status, Abi, Response},
        ring::Back,
    },
    ring::BackArea,
    timer::Timer,
};

/// The ring of a queue and what is behind it. The order of the fields is that of their end.
pub(crate) struct Responder {
    pub(super) stage: Stage,
    pub(super) channel: EventChannel<Events>,
    pub(super) ring: Back<BackArea, Abi>,
    /// Wakes the thread when no request does; and the time that it is set to.
    timer: Timer,
    alarm: Option<u64>,
    /// Since when the thread has slept, with nothing done meanwhile, if somebody wants to know.
    pub(super) idle: Option<Instant<Monotonic>>,
    session: Arc<Session>,
}

impl Responder {
    pub(super) fn new(
        session: &Arc<Session>,
        events: &Arc<Events>,
        (stage, channel, ring): (Stage, EventChannel<Events>, Back<BackArea, Abi>),
    ) -> Result<Self> {
        let untidy = events.clone();
        Ok(Responder {
            stage,
            channel,
            ring,
            timer: Timer::new(move || untidy.tidy_up())?,
            alarm: None,
            idle: None,
            session: session.clone(),
        })
    }

    /// Answers what the disk has done; how many of those have not come to it. Sleeps.
    pub(super) fn respond(&mut self) -> usize {
        let (stage, ring, session) = (&mut self.stage, &mut self.ring, &self.session);
        let failed = stage.finish(|request, status| {
            if status == status::EOPNOTSUPP {
                session.revoke(request.op);
            }
            // There is always a request that waits for a response: this one.
            let _ = ring.push(&request.response(status));
        });
        self.notify();
        failed
    }

    /// Answers the one request that is on its way to the disk, if it is done and there is nothing
    /// more to it (see [`Stage::finish_alone`]), and says whether it has. In any context.
    ///
    /// With more on their way it is left to the thread, which answers several in one.
    pub(crate) fn respond_alone(&mut self) -> bool {
        let Some(request) = self.stage.finish_alone() else {
            return false;
        };
        // As above.
        let _ = self.ring.push(&request.response(status::OKAY));
        self.notify();
        self.set_timer();
        if self.idle.is_some() {
            self.idle = Some(Instant::now());
        }
        true
    }

    /// Answers a request that is not carried out.
    pub(super) fn refuse(&mut self, response: &Response) {
        // As above.
        let _ = self.ring.push(response);
        self.notify();
    }

    pub(super) fn notify(&mut self) {
        if self.ring.publish() {
            self.channel.notify();
        }
    }

    /// Sets the timer, unless it is set to a time that is early enough.
    pub(super) fn set_timer(&mut self) {
        let Some(deadline) = self.stage.grants().deadline() else {
            return;
        };
        if self
            .alarm
            .is_none_or(|alarm| (deadline.wrapping_sub(alarm) as i64) < 0)
        {
            self.timer.set(deadline);
            self.alarm = Some(deadline);
        }
    }

    /// The timer has run out.
    pub(super) fn timer_ran(&mut self) {
        self.alarm = None;
    }
}
