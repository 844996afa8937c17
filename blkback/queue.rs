// SPDX-License-Identifier: GPL-2.0

//! The thread that serves the ring of one queue.
//!
//! It takes requests from the ring, has them checked, hands them to the [`Stage`], or to a tap
//! (`queue/tapped.rs`), and answers what comes back from there. It alone touches the ring, so there
//! is no lock. Event channel and disk leave word and wake it; but what the ring is answered with
//! (`queue/responder.rs`) it lends out while it sleeps.
//!
//! What a front end can do to it: an event costs one pass over the ring, and the next event comes
//! only after that pass (XSA-331, XSA-332); a request that is refused costs its sender a
//! millisecond, and the end of the service waits for none; a producer index that cannot be ends the
//! service for good. As many requests can be on their way as the ring has entries.

mod responder;
mod tapped;

pub(crate) use self::responder::Responder;

use crate::{
    bio::{self, params, Done},
    session::{Events, Session},
    stage::Stage,
    vbd::Counts,
};
use kernel::{
    dev_err,
    time::{delay::fsleep, msecs_to_jiffies, Delta, Instant, Monotonic},
};
use xenbus::{
    evtchn::EventChannel,
    kthread::{jiffies, Current},
    prelude::*,
    protocol::{
        blkif::{status, Abi, Limits, Op, Parsed, RawRequest, Refusal, Request, Response},
        negotiate,
        ring::{AttachError, Back, Overrun},
        spin::{Mode, Spin},
    },
    ring::BackArea,
};

/// What the thread of a queue works with. The order of the fields is that of their end.
pub(crate) struct Queue {
    responder: Responder,
    done: Arc<Done>,
    events: Arc<Events>,
    limits: Limits,
    /// Which one of the disk's.
    index: usize,
    /// The front end has broken the ring's rules.
    broken: bool,
    tap: tapped::Side,
    /// What has been taken from the ring, and left to the thread.
    left: Option<RawRequest>,
    spin: Spin,
    /// The event that is being served was worth it.
    useful: bool,
    log: Log,
    /// Last: with it ends the service.
    session: Arc<Session>,
}

impl Queue {
    /// Maps the ring of queue `index` that the front end has described, and binds its event
    /// channel. `name` is that of the thread. Sleeps.
    ///
    /// # Errors
    ///
    /// What Xen answers when a reference or the port are not what the front end says; `EINVAL`
    /// when the indices in the ring are garbage; `ENOMEM`.
    pub(crate) fn new(
        session: &Arc<Session>,
        index: usize,
        front: &negotiate::Queue,
        abi: Abi,
        name: CString,
    ) -> Result<KBox<Self>> {
        let dev = session.dev();
        let area = BackArea::map(dev, front.ring_refs())?;
        let ring = Back::attach(area, abi).map_err(|e| {
            if let AttachError::Overrun(Overrun { claimed, possible }) = e {
                dev_err!(
                    dev.dev(),
                    "ring overrun: front end claims {claimed} requests where {possible} fit\n"
                );
            }
            EINVAL
        })?;
        let events = session.events().get(index).ok_or(EINVAL)?.clone();
        let size = ring.size() as usize;
        let stage = Stage::new(session, index, size, events.clone())?;
        // Xen raises an event on a channel that has just been bound, so that what the front end
        // has sent already is looked at.
        let channel = EventChannel::bind_interdomain(
            dev,
            front.event_channel,
            c"blkif-backend",
            events.clone(),
        )?;
        let done = stage.done().clone();
        let queue = Queue {
            responder: Responder::new(session, &events, (stage, channel, ring))?,
            done,
            events,
            limits: session.limits(),
            index,
            broken: false,
            tap: tapped::Side::default(),
            left: None,
            spin: Spin::default(),
            useful: false,
            log: Log::new(name),
            session: session.clone(),
        };
        Ok(KBox::new(queue, GFP_KERNEL)?)
    }

    /// Serves the ring until it is told to stop, or `thread` is.
    pub(crate) fn run(&mut self, thread: &Current) {
        bio::without_io();
        self.events.waker.set_current();
        while !self.is_over(thread) {
            self.responder.set_timer();
            self.sleep(thread);
            self.finish(thread);
            self.attend(thread);
            if self.session.must_stand_aside(self.index) {
                self.stand_aside(thread);
            }
            if !self.broken && self.events.event() {
                self.broken = self.consume(thread).is_err();
            }
            self.tidy();
        }
        self.end_tap(thread);
        self.drain(thread);
        self.close_tap();
        self.session.leave(self.index);
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self, thread: &Current) {
        let max = match self.session.vbd().polling() {
            Mode::Adaptive => params::poll_ns(),
            _ => 0,
        };
        self.responder.idle = (max > 0).then(Instant::<Monotonic>::now);
        if self.responder.stage.any_done() {
            // What has failed before it came to the disk tells nobody.
        } else if self.tap.is_some() {
            self.sleep_with_tap(thread);
        } else {
            let Queue {
                responder,
                done,
                events,
                session,
                tap,
                ..
            } = self;
            let (index, broken) = (self.index, self.broken);
            let work = || {
                has_work(done, events, broken)
                    || has_chores(events, session, index)
                    || tap.calls(session)
            };
            events.asleep.lend(responder, || thread.wait(work));
        }
        if let Some(from) = self.responder.idle.take() {
            let slept = from.elapsed().as_nanos().max(0) as u64;
            self.spin.slept(slept, max);
        }
    }

    /// Whether there is something to do that is no request.
    #[inline]
    fn has_chores(&self) -> bool {
        has_chores(&self.events, &self.session, self.index) || self.tap.calls(&self.session)
    }

    /// Looks for requests and for what the disk has done, for as long as that has been worth it
    /// lately, with no event asked for. Says what has come.
    fn poll(&mut self, thread: &Current) -> Spun {
        let vbd = self.session.vbd();
        let (mut mode, max) = (vbd.polling(), params::poll_ns());
        if self.spin.length(mode, max) == 0 {
            return Spun::Nothing;
        }
        let from = Instant::<Monotonic>::now();
        loop {
            // What is wrong with the ring is found when it is read.
            if self.responder.ring.unconsumed() != Ok(0)
                || self.responder.stage.any_done()
                || self.tap.calls(&self.session)
            {
                return Spun::Work;
            }
            if self.has_chores() || thread.should_stop() {
                return Spun::Chores;
            }
            let crowded = thread.relax();
            if crowded && mode != Mode::Always {
                return Spun::Nothing;
            }
            thread.cond_resched();
            // It may have been changed meanwhile.
            mode = vbd.polling();
            if from.elapsed().as_nanos().max(0) as u64 >= self.spin.length(mode, max) {
                return Spun::Nothing;
            }
        }
    }

    fn is_over(&self, thread: &Current) -> bool {
        self.events.told_to_stop() || thread.should_stop()
    }

    /// Takes all requests that are in the ring, then gives the EOI of the event that told of them.
    fn consume(&mut self, thread: &Current) -> Result<(), Overrun> {
        self.events.take_event();
        if let Some(raw) = self.left.take() {
            self.serve(&raw, thread);
        }
        let result = loop {
            // Here, since a ring that is polled may not leave this loop for long.
            self.session.refresh(&mut self.limits);
            match bio::plugged(|| self.take(thread)) {
                Ok(got) => self.useful |= got,
                Err(e) => break Err(e),
            }
            // A disk that is as fast as memory has done them already.
            self.finish(thread);
            self.attend(thread);
            // A front end that is answered at once, as it is for bad requests, can keep this going
            // for as long as it likes; but not past the end of the service, nor past a barrier.
            if self.is_over(thread) {
                break Ok(());
            }
            if self.session.must_stand_aside(self.index) {
                self.stand_aside(thread);
            }
            match self.poll(thread) {
                Spun::Work => continue,
                Spun::Chores => {
                    // The event is not done with: there is to be another pass.
                    self.events.again();
                    return Ok(());
                }
                Spun::Nothing => {}
            }
            match self.responder.ring.final_check() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        self.consumed(&result);
        result
    }

    /// The event is done with, or the ring.
    fn consumed(&mut self, result: &Result<(), Overrun>) {
        match result {
            Ok(()) => self.responder.channel.eoi(!core::mem::take(&mut self.useful)),
            // No EOI: this front end will not be heard again.
            Err(Overrun { claimed, possible }) => dev_err!(
                self.session.dev().dev(),
                "ring overrun: front end claims {claimed} requests where {possible} fit; ring stopped\n"
            ),
        }
    }

    /// Takes as many requests as fit in the ring at most, and sends them to the disk. Says whether
    /// there was any.
    fn take(&mut self, thread: &Current) -> Result<bool, Overrun> {
        let mut result = Ok(false);
        for _ in 0..self.responder.ring.size() {
            match self.responder.ring.pop() {
                Ok(Some(raw)) => {
                    result = Ok(true);
                    self.serve(&raw, thread);
                }
                Ok(None) => break,
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
            if self.events.told_to_stop() {
                break;
            }
        }
        self.responder.stage.send();
        thread.cond_resched();
        result
    }

    /// From what the front end said to the stage.
    #[inline]
    fn serve(&mut self, raw: &RawRequest, thread: &Current) {
        match Request::parse(raw, &self.limits) {
            Ok(Parsed::Whole(request, segments)) if self.is_barrier(&request) => {
                self.barrier(request, segments, thread);
            }
            parsed => {
                if let Err(response) = self.pass_on(parsed) {
                    self.refuse(response, thread);
                }
            }
        }
    }

    /// From the checked request, which is no barrier, to the stage or the tap.
    #[inline]
    fn pass_on(&mut self, parsed: Result<Parsed<'_>, Refusal>) -> Result<(), Response> {
        let stage = &mut self.responder.stage;
        let number = match parsed.map_err(|refusal| refusal.response())? {
            Parsed::Whole(request, segments) => stage
                .take(request, segments)
                .map_err(|_| request.response(status::ERROR))?,
            Parsed::Indirect(indirect) => stage
                .take_indirect(&indirect, &self.limits)
                .map_err(|refusal| refusal.response())?,
        };
        self.forward(number);
        Ok(())
    }

    /// Whether nothing else may be on its way. A tap knows no flush with data, so that to it this is
    /// a barrier.
    #[inline]
    fn is_barrier(&self, request: &Request) -> bool {
        match request.op {
            Op::WriteBarrier => true,
            Op::Flush => request.nr_sectors > 0 && self.tap.diverts(),
            _ => false,
        }
    }

    /// From the checked request to the stage, or to the tap.
    #[inline]
    fn forward(&mut self, number: u16) {
        if !self.tap.takes(number) {
            self.responder.stage.send_later(number);
        }
    }

    /// Carries a request out when nothing else of this disk is on its way, in any queue.
    fn barrier(
        &mut self,
        request: Request,
        segments: &[xenbus::protocol::blkif::Segment],
        thread: &Current,
    ) {
        self.drain(thread);
        self.drain_tap(thread);
        self.drain(thread);
        while !self.session.raise(self.index) {
            self.stand_aside(thread);
            if self.is_over(thread) {
                return self.refuse(request.response(status::ERROR), thread);
            }
        }
        self.wait(thread, |this| this.session.are_aside(this.index));
        let taken = match self.is_over(thread) {
            true => Err(EIO),
            false => self.responder.stage.take(request, segments),
        };
        if let Ok(number) = taken {
            self.forward(number);
            self.drain(thread);
            self.drain_tap(thread);
            // What the tap has passed on.
            self.drain(thread);
        } else {
            self.refuse(request.response(status::ERROR), thread);
        }
        self.session.lower();
    }

    /// Keeps away from the disk until another queue's barrier is through.
    fn stand_aside(&mut self, thread: &Current) {
        self.drain(thread);
        self.pause_tap(thread);
        self.drain(thread);
        self.session.stand_aside(self.index);
        self.wait(thread, |this| {
            // There may be a second barrier before this thread has seen the end of the first.
            !this.session.is_fenced() || this.session.must_stand_aside(this.index)
        });
        self.tap.resume();
    }

    /// Waits until `cond` holds or the service is to end; looks after the tap meanwhile.
    fn wait(&mut self, thread: &Current, cond: impl Fn(&Self) -> bool) {
        loop {
            self.attend(thread);
            let over = || cond(self) || self.events.told_to_stop();
            thread.wait(|| {
                over() || self.tap.calls(&self.session) || self.responder.stage.any_done()
            });
            if over() || thread.should_stop() {
                return;
            }
            self.finish(thread);
        }
    }

    /// Answers a request that is not carried out, and makes its sender wait: nobody who is in
    /// order sends such.
    fn refuse(&mut self, response: Response, thread: &Current) {
        self.responder.refuse(&response);
        self.back_off(1, thread);
    }

    fn back_off(&self, bad: usize, thread: &Current) {
        for _ in 0..bad {
            if self.is_over(thread) {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
    }

    /// Answers what the disk has done; says whether there was any.
    fn finish(&mut self, thread: &Current) -> bool {
        if !self.responder.stage.any_done() {
            return false;
        }
        let failed = self.responder.respond();
        self.back_off(failed, thread);
        true
    }

    /// Waits until the disk has done all that it has been given, and answers it.
    fn drain(&mut self, thread: &Current) {
        self.responder.stage.send();
        while self.responder.stage.in_flight() > 0 {
            thread.wait_for(|| self.responder.stage.any_done());
            self.finish(thread);
        }
        self.finish(thread);
    }

    /// Gives back what is kept beyond measure.
    #[inline]
    fn tidy(&mut self) {
        let now = jiffies();
        if self.events.take_untidy() {
            self.responder.timer_ran();
        }
        let squeezed = (self.events.squeeze_end().wrapping_sub(now) as i64) > 0;
        let grants = self.responder.stage.grants();
        grants.tidy(if squeezed || self.events.squeezed() {
            0
        } else {
            params::max_buffer_pages()
        });
        self.events.tidied(grants.spare() > 0);
        if params::log_stats() && (now.wrapping_sub(self.log.next) as i64) >= 0 {
            let counts = self.session.vbd().counts(self.index);
            self.log.print(counts, grants.kept(), now);
        }
    }
}

/// Whether there are requests, unless the ring is `broken`, or their end.
#[inline]
fn has_work(done: &Done, events: &Events, broken: bool) -> bool {
    done.any() || (!broken && events.event())
}

/// Whether there is something to do for queue `index` that is no request, nor a tap's.
#[inline]
fn has_chores(events: &Events, session: &Session, index: usize) -> bool {
    events.told_to_stop() || session.must_stand_aside(index) || events.squeezed() || events.untidy()
}

/// What has come of spinning.
enum Spun {
    /// Requests, or their end.
    Work,
    /// Something else to do.
    Chores,
    /// Nothing, and it is time to sleep.
    Nothing,
}

/// The line that a queue logs every ten seconds.
struct Log {
    name: CString,
    before: Counts,
    next: u64,
}

impl Log {
    fn new(name: CString) -> Self {
        Log {
            name,
            before: Counts::default(),
            next: jiffies(),
        }
    }

    fn print(&mut self, now: Counts, kept: usize, jiffies: u64) {
        let since = |now: u64, before: u64| now.wrapping_sub(before);
        pr_info!(
            "({}): oo {:3}  |  rd {:4}  |  wr {:4}  |  f {:4}  |  ds {:4} | pg: {:4}/{:4}\n",
            &*self.name,
            0,
            since(now.rd_req, self.before.rd_req),
            since(now.wr_req, self.before.wr_req),
            now.f_req,
            since(now.ds_req, self.before.ds_req),
            kept,
            params::max_persistent_grants(),
        );
        self.before = now;
        self.next = jiffies.wrapping_add(msecs_to_jiffies(10_000) as u64);
    }
}
