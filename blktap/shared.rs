// SPDX-License-Identifier: GPL-2.0

//! What the queues of a tap and whoever gives it orders have in common.
//!
//! Orders are words that a queue's thread looks at in each pass: the mode and whether it is about to
//! change, the program that is served, the policy. A queue reports when nothing of its goes the old
//! way any more.

use crate::queue::Queue;
use blkback::tap::Bell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kernel::{
    new_condvar, new_mutex, new_poll_condvar,
    sync::{poll::PollCondVar, CondVar, Mutex},
};
use xenbus::{
    prelude::*,
    protocol::tap::{Mode, Policy, State},
};

/// The mode in the word of a phase.
const MODE: u32 = 0xff;

/// Says that the mode is about to change, beside the mode.
const SWITCHING: u32 = 1 << 8;

/// Says that the tap is about to be taken away, beside the mode.
const REMOVING: u32 = 1 << 9;

/// The mode, and whether it is about to change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) mode: Mode,
    /// Requests wait, until nothing goes the old way.
    pub(crate) switching: bool,
    /// All requests go to the disk, for good.
    pub(crate) removing: bool,
    /// The number of the change that is about to be, or was last.
    pub(crate) change: u16,
}

impl Phase {
    /// Whether the guest's requests go to the program.
    pub(crate) fn sends(&self) -> bool {
        matches!(self.mode, Mode::Interpose | Mode::InterceptFe) && !self.switching
    }
}

/// Where the number of the change is, beside the mode.
const CHANGE: u32 = 16;

/// A program that has the disk.
#[derive(Clone, Copy)]
pub(crate) struct Holder {
    pub(crate) generation: u32,
    pub(crate) pid: u32,
}

/// What is changed by orders only.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) holder: Option<Holder>,
    /// How many programs there have been.
    pub(crate) generations: u32,
    /// Somebody changes the mode, and waits for the queues.
    pub(crate) switching: bool,
    /// One bit for each queue that has reported.
    pub(crate) settled: u64,
    /// One bit for each queue that has a thread.
    pub(crate) open: u64,
    /// How many queues the front end has connected.
    pub(crate) connected: u32,
    pub(crate) broken: bool,
    /// The disk has been detached, or the tap taken away.
    pub(crate) gone: bool,
}

/// How a queue's thread is told that there is something to do.
#[pin_data]
struct Signal {
    attention: AtomicBool,
    #[pin]
    bell: Mutex<Option<Bell>>,
}

impl Signal {
    /// Has the queue served by the caller, or by its thread. Sleeps.
    fn answer(&self, queue: &Queue) {
        // What is done there may come here for the lock.
        let bell = self.bell.lock().clone();
        if let Some(bell) = bell {
            bell.answer(queue);
        }
    }
}

/// The part of a tap that its queues see.
#[pin_data]
pub(crate) struct Shared {
    phase: AtomicU32,
    /// The generation of the program that is served; 0: none is.
    program: AtomicU32,
    /// One bit for each queue by which a program that has gone may have requests at the disk.
    parting: AtomicU64,
    policy: AtomicU32,
    /// Counts what a program might want to ask [`ioctl::INFO`](xenbus::protocol::tap::ioctl::INFO)
    /// about.
    changes: AtomicU32,
    /// The program serves the guest's rings.
    polls: AtomicBool,
    /// One bit for each queue whose event it has been told of.
    called: AtomicU64,
    /// One for each queue.
    signals: KVec<Pin<KBox<Signal>>>,
    #[pin]
    pub(crate) control: Mutex<Control>,
    /// Something in `control` has changed that somebody may wait for.
    #[pin]
    pub(crate) changed: CondVar,
    /// The program may have something to do.
    #[pin]
    pub(crate) poll: PollCondVar,
}

impl Control {
    /// Whether all queues that have a thread, or are about to, have reported.
    pub(crate) fn is_settled(&self) -> bool {
        let connected = bit(self.connected as usize).wrapping_sub(1);
        (self.open | connected) & !self.settled == 0
    }
}

impl Shared {
    /// For `queues` queues, in passthrough mode.
    pub(crate) fn new(queues: usize) -> Result<Arc<Self>> {
        let mut signals = KVec::with_capacity(queues, GFP_KERNEL)?;
        for _ in 0..queues {
            let signal = KBox::pin_init(
                pin_init!(Signal {
                    attention: AtomicBool::new(true),
                    bell <- new_mutex!(None),
                }),
                GFP_KERNEL,
            )?;
            signals.push(signal, GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Shared {
                phase: AtomicU32::new(Mode::Passthrough as u32),
                program: AtomicU32::new(0),
                parting: AtomicU64::new(0),
                policy: AtomicU32::new(Policy::Hold as u32),
                changes: AtomicU32::new(1),
                polls: AtomicBool::new(false),
                called: AtomicU64::new(0),
                signals,
                control <- new_mutex!(Control::default()),
                changed <- new_condvar!(),
                poll <- new_poll_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn phase(&self) -> Phase {
        let word = self.phase.load(Ordering::Acquire);
        Phase {
            mode: Mode::from_number(word & MODE).unwrap_or_default(),
            switching: word & SWITCHING != 0,
            removing: word & REMOVING != 0,
            change: (word >> CHANGE) as u16,
        }
    }

    /// Sets the phase. With `control` held.
    pub(crate) fn set_phase(&self, phase: Phase) {
        let switching = if phase.switching { SWITCHING } else { 0 };
        let removing = if phase.removing { REMOVING } else { 0 };
        let change = u32::from(phase.change) << CHANGE;
        let word = phase.mode as u32 | switching | removing | change;
        self.phase.store(word, Ordering::SeqCst);
    }

    /// The generation of the program that is served, 0 if none is.
    pub(crate) fn program(&self) -> u32 {
        self.program.load(Ordering::Acquire)
    }

    /// Sets the program that is served. With `control` held.
    pub(crate) fn set_program(&self, generation: u32) {
        self.program.store(generation, Ordering::SeqCst);
    }

    /// Serves no program any more. The guest's requests go nowhere before the disk has done all that
    /// the last one has asked for, by any queue: it would do that after what they ask for.
    pub(crate) fn part(&self, control: &Control) {
        if self.program() != 0 {
            self.parting.fetch_or(control.open, Ordering::SeqCst);
        }
        self.set_program(0);
    }

    /// Whether a program that has gone may have requests at the disk. To be asked after what says
    /// that it has gone.
    #[inline]
    pub(crate) fn is_parting(&self) -> bool {
        self.parting.load(Ordering::Acquire) != 0
    }

    /// By queue `index` no program that has gone has requests at the disk. True: neither has one by
    /// any other, since now, and all queues are to be told.
    pub(crate) fn parted(&self, index: usize) -> bool {
        let bit = bit(index);
        self.parting.load(Ordering::Acquire) & bit != 0
            && self.parting.fetch_and(!bit, Ordering::SeqCst) == bit
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::from_number(self.policy.load(Ordering::Acquire)).unwrap_or_default()
    }

    /// Sets the policy. With `control` held.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u32, Ordering::SeqCst);
    }

    /// Whether queue `index` has something to do.
    #[inline]
    pub(crate) fn attention(&self, index: usize) -> bool {
        self.signals
            .get(index)
            .is_some_and(|signal| signal.attention.load(Ordering::Acquire))
    }

    /// To be called before the look at what there is to do.
    pub(crate) fn take_attention(&self, index: usize) {
        if let Some(signal) = self.signals.get(index) {
            signal.attention.swap(false, Ordering::SeqCst);
        }
    }

    /// Queue `index` is to be called once more.
    pub(crate) fn again(&self, index: usize) {
        if let Some(signal) = self.signals.get(index) {
            signal.attention.store(true, Ordering::Release);
        }
    }

    /// Wakes the thread of queue `index`. Sleeps.
    pub(crate) fn kick(&self, index: usize) {
        if let Some(signal) = self.signals.get(index) {
            signal.attention.swap(true, Ordering::SeqCst);
            if let Some(bell) = &*signal.bell.lock() {
                bell.ring();
            }
        }
    }

    /// Sets whether the program serves the guest's rings. With `control` held, before it is served.
    pub(crate) fn set_polls(&self, polls: bool) {
        self.polls.store(polls, Ordering::SeqCst);
    }

    /// The front end has sent an event by queue `index`; says whether the program has been told, and not
    /// the thread. In any context.
    ///
    /// Whatever makes the program one that is not told wakes all threads, which look at their rings.
    pub(crate) fn event(&self, index: usize) -> bool {
        let phase = self.phase();
        let polled = self.polls.load(Ordering::Acquire)
            && self.program() != 0
            && phase.sends()
            && !phase.removing;
        if polled {
            self.called.fetch_or(bit(index), Ordering::SeqCst);
            self.poll.notify_all();
        }
        polled
    }

    /// Has the queues in `mask` served by the calling program, or wakes their threads. Sleeps; with no lock
    /// held.
    pub(crate) fn serve(&self, queues: &[Arc<Queue>], mask: u64) {
        for (index, (signal, queue)) in self.signals.iter().zip(queues).enumerate() {
            if mask & bit(index) != 0 {
                signal.attention.swap(true, Ordering::SeqCst);
                signal.answer(queue);
            }
        }
    }

    /// The same with the queues whose events the program has been told of since this was done last.
    pub(crate) fn serve_called(&self, queues: &[Arc<Queue>]) {
        if self.called.load(Ordering::Acquire) == 0 {
            return;
        }
        for (index, (signal, queue)) in self.signals.iter().zip(queues).enumerate() {
            // One by one: while this one is served, another thread may take the next.
            let bit = bit(index);
            if self.called.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
                // Its thread sees the event if it must look itself.
                signal.answer(queue);
            }
        }
    }

    /// Whether there is one queue only.
    pub(crate) fn has_one_queue(&self) -> bool {
        self.signals.len() == 1
    }

    /// Wakes the threads of all queues. Sleeps.
    pub(crate) fn kick_all(&self) {
        for index in 0..self.signals.len() {
            self.kick(index);
        }
    }

    /// Queue `index` has a thread from now on, or none.
    pub(crate) fn set_bell(&self, index: usize, bell: Option<Bell>) {
        let mut control = self.control.lock();
        match bell {
            Some(_) => control.open |= bit(index),
            None => control.open &= !bit(index),
        }
        drop(control);
        if let Some(signal) = self.signals.get(index) {
            let old = core::mem::replace(&mut *signal.bell.lock(), bell);
            drop(old);
            signal.attention.store(true, Ordering::Release);
        }
        self.changed.notify_all();
        // A queue that begins has nothing at the disk either.
        if self.parted(index) {
            self.kick_all();
        }
    }

    /// Nothing of queue `index` goes the old way any more, as the change of that number wants it.
    pub(crate) fn report(&self, index: usize, change: u16) {
        let mut control = self.control.lock();
        if self.phase().change == change {
            control.settled |= bit(index);
        }
        drop(control);
        self.changed.notify_all();
    }

    /// The program of this generation has gone, or has `broken` a rule: its requests are to go the
    /// way of the policy. Sleeps.
    pub(crate) fn lost(&self, generation: u32, broken: bool) {
        let mut control = self.control.lock();
        match &control.holder {
            Some(holder) if holder.generation == generation => {}
            _ => return,
        }
        if broken {
            if control.broken {
                return;
            }
            pr_warn!("program {generation} has broken the rules of its rings\n");
        } else {
            control.holder = None;
        }
        control.broken = broken;
        self.part(&control);
        self.apply_policy();
        drop(control);
        self.tell();
        self.changed.notify_all();
        self.kick_all();
    }

    /// Where there is no program, and that is the policy, the disk is as if there were no tap. With
    /// `control` held.
    pub(crate) fn apply_policy(&self) {
        if self.program() == 0 && self.policy() == Policy::Passthrough {
            self.set_phase(Phase {
                mode: Mode::Passthrough,
                ..self.phase()
            });
        }
    }

    /// Tells the program that there is something new about the disk.
    pub(crate) fn tell(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.poll.notify_all();
    }

    /// Changes with each [`Self::tell`].
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// The state of the disk, as it is told.
    pub(crate) fn state(control: &Control) -> State {
        if control.gone {
            State::Gone
        } else if control.broken {
            State::Broken
        } else if control.connected > 0 {
            State::Connected
        } else {
            State::Idle
        }
    }
}

fn bit(index: usize) -> u64 {
    1u64.checked_shl(index as u32).unwrap_or(0)
}
