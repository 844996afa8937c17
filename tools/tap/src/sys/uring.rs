// SPDX-License-Identifier: GPL-2.0
//! The thread's io_uring, and an operation of it as a future.
//!
//! What the kernel works on while an operation runs, memory and file, belongs to the operation's
//! slot. A future that is dropped leaves it there until the kernel is done.

use super::buf::{Buf, Shared};
use super::map::Region;
use super::op::Fd;
use io_uring::squeue::Entry;
use io_uring::types::Timespec;
use io_uring::{opcode, IoUring};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Entries of the submission queue. More operations than this can run.
const ENTRIES: u32 = 256;

/// The user data of a cancellation, whose result nobody wants.
const NOBODY: u64 = u64::MAX;

/// One thread's io_uring.
pub(crate) struct Uring {
    ring: RefCell<IoUring>,
    pub(super) slots: RefCell<Slots>,
    /// By its number for the kernel. After the ring: it lives longer.
    regions: RefCell<Vec<(Rc<Region>, Known)>>,
}

/// Whether the kernel has a region's pages at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    NotYet,
    Yes,
    No,
}

/// The most regions that the kernel can have at hand.
const REGIONS: u32 = 64;

#[derive(Default)]
pub(super) struct Slots {
    pub(super) all: Vec<Slot>,
    free: Vec<usize>,
}

/// An operation that was submitted.
pub(super) struct Slot {
    pub(super) wants: Wants,
    pub(super) hold: Hold,
    pub(super) _file: Option<Fd>,
}

pub(super) enum Wants {
    Result(Waker),
    /// A [`Watch`]: so many results have come, all of their bits, and who waits.
    More(u32, i32, Option<Waker>),
    /// The future is gone.
    Nothing,
    /// The kernel is done, the future has not looked yet.
    Taken(i32),
}

/// Memory that the kernel uses.
#[derive(Default)]
pub(super) enum Hold {
    #[default]
    Nothing,
    Fill(Buf),
    Read(#[allow(dead_code)] Shared),
    Time(#[allow(dead_code)] Box<Timespec>),
}

impl Uring {
    pub(crate) fn new() -> io::Result<Self> {
        let mut fast = IoUring::builder();
        fast.setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all();
        // Kernels before 6.1 know nothing of these.
        let ring = fast.build(ENTRIES).or_else(|_| IoUring::new(ENTRIES));
        let ring = ring.map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EPERM) => ": see /proc/sys/kernel/io_uring_disabled",
                Some(libc::ENOSYS) => ": the kernel has none",
                _ => "",
            };
            io::Error::new(error.kind(), format!("no io_uring{hint} ({error})"))
        })?;
        Ok(Self {
            ring: RefCell::new(ring),
            slots: RefCell::default(),
            regions: RefCell::default(),
        })
    }

    /// Operations with memory of `region` are to be cheaper: from the first one on, the kernel has
    /// all of its pages at hand.
    pub(crate) fn offer(&self, region: &Rc<Region>) {
        let mut regions = self.regions.borrow_mut();
        if regions.len() < REGIONS as usize {
            regions.push((region.clone(), Known::NotYet));
        }
    }

    /// The number of the region that has `len` bytes from `start` on.
    pub(super) fn region_of(&self, start: *const u8, len: u32) -> Option<u16> {
        let mut regions = self.regions.borrow_mut();
        let index = regions.iter().position(|(region, _)| {
            let (base, all) = region.memory();
            (start as usize)
                .checked_sub(base as usize)
                .is_some_and(|at| at + len as usize <= all)
        })?;
        if regions[index].1 == Known::NotYet {
            let known = self.make_known(index as u32, &regions[index].0);
            regions[index].1 = if known.is_ok() { Known::Yes } else { Known::No };
        }
        (regions[index].1 == Known::Yes).then_some(index as u16)
    }

    fn make_known(&self, index: u32, region: &Region) -> io::Result<()> {
        let ring = self.ring.borrow();
        // The table is there already, but the first time.
        let _ = ring.submitter().register_buffers_sparse(REGIONS);
        let (base, len) = region.memory();
        let memory = libc::iovec {
            iov_base: base.cast(),
            iov_len: len,
        };
        // SAFETY: it is mapped for as long as the region, of which `regions` has a reference, lives.
        unsafe {
            ring.submitter()
                .register_buffers_update(index, &[memory], None)
        }
    }

    /// Submits what there is, and waits for `at_least` completions.
    pub(crate) fn enter(&self, at_least: u32) -> io::Result<()> {
        let mut ring = self.ring.borrow_mut();
        let count = ring.submission().len() as u32;
        // Without this flag the kernel leaves what it has deferred for us.
        const GETEVENTS: u32 = 1;
        // SAFETY: what was pushed is valid, see `push`; there is no further argument.
        let entered = unsafe {
            let submitter = ring.submitter();
            submitter.enter::<libc::sigset_t>(count, at_least, GETEVENTS, None)
        };
        match entered {
            Err(error) => match error.raw_os_error() {
                // a signal; or there are completions to take first
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME) => Ok(()),
                _ => Err(error),
            },
            Ok(_) => Ok(()),
        }
    }

    /// Wakes those whose operations are done.
    pub(crate) fn reap(&self) {
        loop {
            let Some((index, result, more)) = self.complete() else {
                return;
            };
            if index == NOBODY {
                continue;
            }
            let index = index as usize;
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.all.get_mut(index) else {
                continue;
            };
            if more {
                if let Wants::More(count, bits, waker) = &mut slot.wants {
                    *count = count.wrapping_add(1);
                    *bits |= result;
                    let waker = waker.take();
                    drop(slots);
                    waker.into_iter().for_each(Waker::wake);
                }
                continue;
            }
            match mem::replace(&mut slot.wants, Wants::Taken(result)) {
                Wants::More(_, _, waker) => {
                    drop(slots);
                    waker.into_iter().for_each(Waker::wake);
                }
                Wants::Result(waker) => {
                    drop(slots);
                    waker.wake();
                }
                Wants::Nothing => {
                    // Its memory may be the last of something that runs code when it goes.
                    let gone = slots.take(index);
                    drop(slots);
                    drop(gone);
                }
                Wants::Taken(_) => (),
            }
        }
    }

    /// The next completion: whose it is, its result, whether the same operation has more to come.
    fn complete(&self) -> Option<(u64, i32, bool)> {
        let mut ring = self.ring.borrow_mut();
        let entry = ring.completion().next()?;
        let more = io_uring::cqueue::more(entry.flags());
        Some((entry.user_data(), entry.result(), more))
    }

    /// # Safety
    /// What the entry points at is valid until the operation completes.
    pub(super) unsafe fn push(&self, entry: &Entry) {
        let mut ring = self.ring.borrow_mut();
        // SAFETY: by the caller.
        while unsafe { ring.submission().push(entry) }.is_err() {
            if ring.submit().is_err() {
                drop(ring);
                self.reap();
                ring = self.ring.borrow_mut();
            }
        }
    }

    pub(super) fn cancel(&self, index: usize) {
        let cancel = opcode::AsyncCancel::new(index as u64).build();
        // SAFETY: it points at nothing.
        unsafe { self.push(&cancel.user_data(NOBODY)) };
    }

    /// Cancels everything and waits until the kernel uses no memory of ours.
    pub(crate) fn finish(&self) {
        let running: Vec<usize> = {
            let slots = self.slots.borrow();
            let all = slots.all.iter().enumerate();
            all.filter(|(_, slot)| !matches!(slot.wants, Wants::Taken(_)))
                .map(|(index, _)| index)
                .filter(|index| !slots.free.contains(index))
                .collect()
        };
        for index in running {
            self.cancel(index);
        }
        while self.slots.borrow().running() > 0 {
            if self.enter(1).is_err() {
                return;
            }
            self.reap();
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.finish();
        if self.slots.borrow().running() > 0 {
            // The kernel may still write to the memory.
            mem::forget(self.slots.take());
        }
    }
}

impl Slots {
    pub(super) fn add(&mut self, slot: Slot) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.all[index] = slot;
                index
            }
            None => {
                self.all.push(slot);
                self.all.len() - 1
            }
        }
    }

    pub(super) fn take(&mut self, index: usize) -> Slot {
        self.free.push(index);
        let empty = Slot {
            wants: Wants::Nothing,
            hold: Hold::Nothing,
            _file: None,
        };
        mem::replace(&mut self.all[index], empty)
    }

    /// How many the kernel is not done with.
    fn running(&self) -> usize {
        let taken = |slot: &&Slot| matches!(slot.wants, Wants::Taken(_));
        self.all.len() - self.free.len() - self.all.iter().filter(taken).count()
    }
}

/// An operation. It starts when it is polled first.
pub(super) struct Op {
    uring: Rc<Uring>,
    state: State,
}

enum State {
    New(Entry, Hold, Option<Fd>),
    Running(usize),
    Over,
}

impl Op {
    /// # Safety
    /// All memory that `entry` points at is kept by `hold`, for the access that the operation needs.
    pub(super) unsafe fn new(entry: Entry, hold: Hold, file: Option<&Fd>) -> Self {
        Self {
            uring: crate::rt::uring(),
            state: State::New(entry, hold, file.cloned()),
        }
    }
}

impl Future for Op {
    type Output = (io::Result<u32>, Hold);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match mem::replace(&mut this.state, State::Over) {
            State::New(entry, hold, file) => {
                let index = this.uring.slots.borrow_mut().add(Slot {
                    wants: Wants::Result(context.waker().clone()),
                    hold,
                    _file: file,
                });
                this.state = State::Running(index);
                // SAFETY: the slot holds the memory until the completion, by `Op::new`'s caller.
                unsafe { this.uring.push(&entry.user_data(index as u64)) };
                Poll::Pending
            }
            State::Running(index) => {
                let mut slots = this.uring.slots.borrow_mut();
                let slot = &mut slots.all[index];
                match &mut slot.wants {
                    Wants::Taken(result) => {
                        let result = *result;
                        let hold = slots.take(index).hold;
                        Poll::Ready(match u32::try_from(result) {
                            Ok(result) => (Ok(result), hold),
                            Err(_) => (Err(io::Error::from_raw_os_error(-result)), hold),
                        })
                    }
                    wants => {
                        *wants = Wants::Result(context.waker().clone());
                        drop(slots);
                        this.state = State::Running(index);
                        Poll::Pending
                    }
                }
            }
            State::Over => panic!("polled after the end"),
        }
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        let State::Running(index) = self.state else {
            return;
        };
        let mut slots = self.uring.slots.borrow_mut();
        match slots.all[index].wants {
            Wants::Taken(_) => {
                let gone = slots.take(index);
                drop(slots);
                drop(gone);
            }
            _ => {
                slots.all[index].wants = Wants::Nothing;
                drop(slots);
                self.uring.cancel(index);
            }
        }
    }
}
