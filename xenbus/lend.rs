// SPDX-License-Identifier: GPL-2.0

//! What a thread works with, lent to others while it sleeps.

use crate::lock::SpinLockIrq;
use core::ptr::NonNull;
use kernel::{new_mutex, prelude::*, sync::Mutex};

/// A place where a thread leaves a `T` while it does not need it itself, so that an interrupt handler can
/// do with it what the thread would do, without waking it.
///
/// # Invariants
///
/// A pointer in `lent` is one of [`Self::lend`]'s, which has not returned.
#[pin_data]
pub struct Lent<T> {
    #[pin]
    lent: SpinLockIrq<Option<NonNull<T>>>,
}

// SAFETY: It hands a `T` from one context to another, one at a time.
unsafe impl<T: Send> Send for Lent<T> {}

// SAFETY: As above; the lock makes it one at a time.
unsafe impl<T: Send> Sync for Lent<T> {}

impl<T> Lent<T> {
    /// With nothing lent.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            lent <- crate::new_spinlock_irq!(None, "xenbus::lend::Lent"),
        })
    }

    /// Lends `what` while `f` runs, which may sleep. Only one thread at a time has something to lend: of
    /// two, the later one's is lent.
    pub fn lend<R>(&self, what: &mut T, f: impl FnOnce() -> R) -> R {
        // INVARIANT: Taken back below.
        *self.lent.lock() = Some(NonNull::from(what));
        let result = f();
        *self.lent.lock() = None;
        result
    }

    /// Calls `f` with what is lent, if anything is. In any context; `f` runs with interrupts off and
    /// must not sleep.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let lent = self.lent.lock();
        // SAFETY: By the invariant its owner is within `lend`, does not touch it there, and cannot
        // return before the lock is given back; the lock also keeps others out.
        (*lent).map(|mut what| f(unsafe { what.as_mut() }))
    }
}

/// As [`Lent`], for others that may sleep.
///
/// # Invariants
///
/// A pointer in `lent` is one of [`Self::lend`]'s, which has not returned.
#[pin_data]
pub struct LentMutex<T> {
    #[pin]
    lent: Mutex<Option<NonNull<T>>>,
}

// SAFETY: It hands a `T` from one thread to another, one at a time.
unsafe impl<T: Send> Send for LentMutex<T> {}

// SAFETY: As above; the lock makes it one at a time.
unsafe impl<T: Send> Sync for LentMutex<T> {}

impl<T> LentMutex<T> {
    /// With nothing lent.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            lent <- new_mutex!(None, "xenbus::lend::LentMutex"),
        })
    }

    /// As [`Lent::lend`]. Sleeps as long as somebody is at it, too.
    pub fn lend<R>(&self, what: &mut T, f: impl FnOnce() -> R) -> R {
        // INVARIANT: Taken back below.
        *self.lent.lock() = Some(NonNull::from(what));
        let result = f();
        *self.lent.lock() = None;
        result
    }

    /// Calls `f`, which may sleep, with what is lent, if anything is and nobody else is at it.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let lent = self.lent.try_lock()?;
        // SAFETY: As in `Lent::with`.
        (*lent).map(|mut what| f(unsafe { what.as_mut() }))
    }
}
