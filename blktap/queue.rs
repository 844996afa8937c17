// SPDX-License-Identifier: GPL-2.0

//! A tap's side of a queue, which the thread of the queue calls.
//!
//! A request of the guest's is in one of two places: it waits (`waiting`), or the program has it
//! (`sent`). The numbers of both are those of blkback, so that a tap holds no copy of a request, and
//! what it gives back to blkback is what it got.

mod back;
mod front;

use crate::{
    program::Program,
    shared::{Phase, Shared},
};
use blkback::tap::{Bell, Desk, Load, TapQueue};
use kernel::{new_mutex, sync::Mutex};
use xenbus::{
    prelude::*,
    protocol::{
        blkif::{status, Op},
        ring::{index, Memory, Overrun},
        tap::{
            ioctl::{QueueInfo, BUCKETS},
            op, ring_entries, Mode, Policy,
        },
        tapped::{Entry, Fifo, Sent},
    },
};

/// The program has broken a rule of the rings.
pub(crate) struct Broken;

impl From<Overrun> for Broken {
    fn from(_: Overrun) -> Self {
        Broken
    }
}

/// How often a pass looks at the rings again before other things have their turn.
const ROUNDS: usize = 8;

/// What has been counted since the tap was made.
#[derive(Default)]
struct Counters {
    refused: u32,
    requests: [u64; 4],
    sectors: [u64; 2],
    latency: [u64; BUCKETS],
}

/// What the thread works with.
struct Inner {
    program: Option<Program>,
    /// The program has gone, but requests of its are still on their way to the disk.
    dying: bool,
    /// There is a thread.
    open: bool,
    waiting: Fifo<KVec<u16>>,
    sent: Sent<KVec<Entry>>,
    /// Room for requests that are about to be sent, and answers that are about to be given.
    going: KVec<front::Going>,
    coming: KVec<front::Coming>,
    /// The program's requests that are on their way to the disk.
    own: u32,
    counters: Counters,
    /// The number of the last change of which it has been said that nothing goes the old way.
    reported: u16,
}

/// A tap's side of a queue.
#[pin_data]
pub(crate) struct Queue {
    index: usize,
    shared: Arc<Shared>,
    /// The program that comes next.
    #[pin]
    next: Mutex<Option<Program>>,
    #[pin]
    inner: Mutex<Inner>,
}

impl Queue {
    pub(crate) fn new(index: usize, shared: &Arc<Shared>) -> Result<Arc<Self>> {
        let mut entries = KVec::new();
        entries.extend_with(ring_entries() as usize, Entry::default(), GFP_KERNEL)?;
        let inner = Inner {
            program: None,
            dying: false,
            open: false,
            waiting: Fifo::new(KVec::new()),
            sent: Sent::new(entries),
            going: KVec::with_capacity(front::BATCH, GFP_KERNEL)?,
            coming: KVec::with_capacity(front::BATCH, GFP_KERNEL)?,
            own: 0,
            counters: Counters::default(),
            reported: 0,
        };
        Arc::pin_init(
            pin_init!(Queue {
                index,
                shared: shared.clone(),
                next <- new_mutex!(None),
                inner <- new_mutex!(inner),
            }),
            GFP_KERNEL,
        )
    }

    /// The program that is served as soon as [`Shared::program`] says so.
    pub(crate) fn set_next(&self, program: Program) {
        let old = self.next.lock().replace(program);
        drop(old);
    }

    /// The program of this generation has gone; it may not have been served yet.
    pub(crate) fn forget(&self, generation: u32) {
        let mut next = self.next.lock();
        if next
            .as_ref()
            .is_some_and(|next| next.generation == generation)
        {
            *next = None;
        }
        drop(next);
        // With a thread this is the thread's, which has been woken.
        let mut inner = self.inner.lock();
        let of = |program: &Program| program.generation == generation;
        if !inner.open && inner.program.as_ref().is_some_and(of) {
            inner.let_go();
        }
    }

    /// What there is to know, but for whose it is.
    pub(crate) fn info(&self) -> QueueInfo {
        let inner = self.inner.lock();
        let counters = &inner.counters;
        let waiting = inner.waiting.len().wrapping_add(inner.sent.len());
        let at = |front: bool, at: usize| match (&inner.program, front) {
            (Some(program), true) => program.front.memory().load(at),
            (Some(program), false) => program.back.memory().load(at),
            (None, _) => 0,
        };
        QueueInfo {
            fe_req_prod: at(true, index::REQ_PROD),
            fe_rsp_prod: at(true, index::RSP_PROD),
            be_req_prod: at(false, index::REQ_PROD),
            be_rsp_prod: at(false, index::RSP_PROD),
            queue: self.index as u32,
            fe_in_flight: waiting as u32,
            be_in_flight: inner.own,
            refused: counters.refused,
            requests: counters.requests,
            sectors: counters.sectors,
            latency: counters.latency,
            ..QueueInfo::default()
        }
    }
}

impl TapQueue for Queue {
    fn open(&self, bell: Bell, places: usize) -> Result {
        let mut inner = self.inner.lock();
        let mut numbers = KVec::new();
        numbers.extend_with(places, 0, GFP_KERNEL)?;
        inner.waiting = Fifo::new(numbers);
        inner.own = 0;
        inner.open = true;
        drop(inner);
        self.shared.set_bell(self.index, Some(bell));
        Ok(())
    }

    fn attention(&self) -> bool {
        self.shared.attention(self.index)
    }

    fn event(&self) -> bool {
        self.shared.event(self.index)
    }

    fn pass(&self, desk: &mut Desk<'_>) -> Load {
        self.shared.take_attention(self.index);
        let mut inner = self.inner.lock();
        inner.take_done(desk);
        let parted = inner.follow(self, desk);
        while let Some(number) = desk.arrived() {
            inner.count(desk, number);
            // There is room for all that the guest's ring holds.
            let _ = inner.waiting.push(number);
        }
        let phase = self.shared.phase();
        let program = inner.program.as_ref().map(|program| program.generation);
        if let Some(generation) = program.filter(|_| !inner.dying) {
            match inner.serve(&self.shared, phase, desk) {
                Ok(false) => {}
                Ok(true) => self.shared.again(self.index),
                Err(Broken) => {
                    inner.counters.refused = inner.counters.refused.wrapping_add(1);
                    inner.dying = true;
                    // Takes locks that come before ours.
                    drop(inner);
                    self.shared.lost(generation, true);
                    self.shared.again(self.index);
                    inner = self.inner.lock();
                }
            }
        }
        inner.without_program(&self.shared, desk);
        let report = inner.is_settled(&self.shared, desk);
        let load = inner.load(&self.shared);
        drop(inner);
        if parted {
            self.shared.kick_all();
        }
        if let Some(change) = report {
            self.shared.report(self.index, change);
        }
        load
    }

    fn close(&self, desk: &mut Desk<'_>) {
        let mut inner = self.inner.lock();
        inner.take_done(desk);
        while let Some(number) = desk.arrived() {
            desk.answer(number, status::ERROR);
        }
        while let Some(number) = inner.waiting.pop() {
            desk.answer(number, status::ERROR);
        }
        inner
            .sent
            .orphan_all(|entry| desk.answer(entry.request, status::ERROR));
        if let Some(program) = &mut inner.program {
            if program.back.publish() {
                self.shared.poll.notify_all();
            }
        }
        inner.open = false;
        drop(inner);
        self.shared.set_bell(self.index, None);
    }
}

impl Inner {
    /// Follows the programs that go and come. True: nothing of one that has gone is on its way to
    /// the disk any more, and all queues are to be told.
    fn follow(&mut self, queue: &Queue, desk: &mut Desk<'_>) -> bool {
        let now = queue.shared.program();
        let left = |program: &Program| program.generation != now;
        if !self.dying && self.program.as_ref().is_some_and(left) {
            // What it has answered before is done; whether it then broke a rule is all the same.
            let _ = self.take_answers(desk);
            self.dying = true;
        }
        // What is on its way to the disk, by any queue, is to come there before what is sent again.
        let gone = self.own == 0 && (self.dying || self.program.is_none());
        let parted = gone && queue.shared.parted(queue.index);
        // After that: the one that was there before may be one of those that have gone. And before
        // what follows: this one may have come after one whose requests are on their way.
        let now = queue.shared.program();
        if !gone || queue.shared.is_parting() {
            return parted;
        }
        if self.dying {
            self.let_go();
        }
        if self.program.is_none() && now != 0 {
            let mut next = queue.next.lock();
            if next.as_ref().is_some_and(|next| next.generation == now) {
                self.program = next.take();
            }
        }
        parted
    }

    /// Takes back what the program has, and lets go of it.
    fn let_go(&mut self) {
        let waiting = &mut self.waiting;
        self.sent.take_back(|entry| {
            // There is room, as before.
            let _ = waiting.push_first(entry.request);
        });
        self.program = None;
        self.dying = false;
    }

    /// Serves the rings; true: there is more to do.
    fn serve(
        &mut self,
        shared: &Shared,
        phase: Phase,
        desk: &mut Desk<'_>,
    ) -> Result<bool, Broken> {
        let mut more = true;
        for _ in 0..ROUNDS {
            self.take_answers(desk)?;
            let own = self.serves_own(phase, desk);
            if own {
                self.take_requests(desk)?;
            }
            if self.sends(phase, desk) {
                self.send(desk);
            }
            let full = self.is_full();
            let Some(program) = &mut self.program else {
                return Ok(false);
            };
            let wake = program.front.publish() | program.back.publish();
            // A program that is here looks at the rings when it comes back; but one thread of it may be
            // here for a queue that is another one's.
            if wake && !(desk.is_helped() && shared.has_one_queue()) {
                shared.poll.notify_all();
            }
            more = program.front.final_check()?;
            if own && !full {
                more |= program.back.final_check()?;
            }
            if !more {
                break;
            }
        }
        Ok(more)
    }

    /// Whether the guest's requests go to the program now.
    fn sends(&self, phase: Phase, desk: &Desk<'_>) -> bool {
        phase.sends() && !desk.is_paused() && !desk.is_ending()
    }

    /// Whether the program's requests go to the disk now. Before the mode changes they do as long as
    /// the program may need that to answer what it has.
    fn serves_own(&self, phase: Phase, desk: &Desk<'_>) -> bool {
        matches!(phase.mode, Mode::Interpose | Mode::InterceptBe)
            && !(phase.switching && self.sent.is_empty())
            && !desk.is_ending()
    }

    /// Sends requests where they go while no program has them.
    fn without_program(&mut self, shared: &Shared, desk: &mut Desk<'_>) {
        let phase = shared.phase();
        if self.dying || desk.is_ending() || shared.is_parting() {
            return;
        }
        let orphaned = self.program.is_none() && shared.program() == 0;
        if phase.mode == Mode::Passthrough && !phase.switching {
            if !desk.is_paused() {
                while let Some(number) = self.waiting.pop() {
                    desk.to_disk(number);
                }
            }
        } else if orphaned && shared.policy() == Policy::Error {
            while let Some(number) = self.waiting.pop() {
                desk.answer(number, status::ERROR);
            }
        }
    }

    /// The change of which it is to be reported that nothing goes the old way any more.
    fn is_settled(&mut self, shared: &Shared, desk: &Desk<'_>) -> Option<u16> {
        let phase = shared.phase();
        // While another queue is waited for, requests come here, and must not be found by the end.
        let settled = !self.dying && self.own == 0 && self.sent.is_empty() && !shared.is_parting();
        let settled = match (phase.switching, phase.removing) {
            (false, false) => false,
            (true, _) => settled && desk.is_idle(),
            (false, true) => settled && self.waiting.is_empty(),
        };
        if !settled || self.reported == phase.change {
            return None;
        }
        self.reported = phase.change;
        Some(phase.change)
    }

    fn load(&self, shared: &Shared) -> Load {
        let phase = shared.phase();
        Load {
            divert: phase.mode != Mode::Passthrough
                || phase.switching
                || self.dying
                || !self.waiting.is_empty()
                || !self.sent.is_empty()
                || self.own > 0
                || shared.is_parting(),
            waiting: self.waiting.len(),
            sent: self.sent.len(),
            alive: self.program.is_some() && !self.dying,
            restless: phase.switching || phase.removing || self.dying || !self.waiting.is_empty(),
        }
    }

    /// Counts a request of the guest's.
    fn count(&mut self, desk: &mut Desk<'_>, number: u16) {
        let Some((request, _)) = desk.request(number) else {
            return;
        };
        let add = |to: Option<&mut u64>, more: u64| {
            if let Some(to) = to {
                *to = to.wrapping_add(more);
            }
        };
        let (which, sectors) = match request.op {
            Op::Read => (0, Some(0)),
            Op::Write => (1, Some(1)),
            Op::WriteBarrier if request.nr_sectors > 0 => (1, Some(1)),
            Op::WriteBarrier | Op::Flush => (2, Some(1)),
            Op::Discard { .. } => (3, None),
        };
        add(self.counters.requests.get_mut(which), 1);
        if let Some(sectors) = sectors {
            add(self.counters.sectors.get_mut(sectors), request.nr_sectors);
        }
    }
}

/// What an operation is called on the front-end ring.
fn code(op: Op, nr_sectors: u64) -> u8 {
    match op {
        Op::Read => op::READ,
        Op::Write => op::WRITE,
        Op::WriteBarrier | Op::Flush if nr_sectors > 0 => op::WRITE,
        Op::WriteBarrier | Op::Flush => op::FLUSH,
        Op::Discard { .. } => op::DISCARD,
    }
}
