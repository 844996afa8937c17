// SPDX-License-Identifier: GPL-2.0

//! How much a guest may send, which may change at any time.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kernel::time::msecs_to_jiffies;
use xenbus::{
    kthread::{jiffies, now_ns},
    protocol::netif::{Credit, Rate},
};

/// The rate of a vif, as of now.
pub(crate) struct Limit {
    bytes: AtomicU64,
    usec: AtomicU64,
}

impl Limit {
    /// No limit.
    pub(crate) fn new() -> Self {
        Limit {
            bytes: AtomicU64::new(Rate::UNLIMITED.bytes),
            usec: AtomicU64::new(Rate::UNLIMITED.usec),
        }
    }

    pub(crate) fn set(&self, rate: Rate) {
        self.bytes.store(rate.bytes, Relaxed);
        self.usec.store(rate.usec, Relaxed);
    }

    #[inline]
    fn get(&self) -> Rate {
        Rate {
            bytes: self.bytes.load(Relaxed),
            usec: self.usec.load(Relaxed),
        }
    }
}

/// A queue that has to wait for credit waits for so long at least, in microseconds.
const MIN_WAIT: u64 = 100;

/// What is left to a queue of the vif's rate.
pub(crate) struct Account {
    rate: Rate,
    credit: Credit,
}

impl Account {
    pub(crate) fn new() -> Self {
        Account {
            rate: Rate::UNLIMITED,
            credit: Credit::new(Rate::UNLIMITED, 0),
        }
    }

    /// The rate, what is left of it, in bytes, and when there is more, in jiffies.
    pub(crate) fn state(&self) -> (Rate, u64, u64) {
        let (rate, left, next) = self.credit.state();
        let msecs = next.saturating_sub(now_ns() / 1000) / 1000;
        let wait = msecs_to_jiffies(msecs.min(u64::from(u32::MAX)) as u32);
        (rate, left, jiffies().wrapping_add(wait as u64))
    }

    /// Takes the credit for a packet of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// In how many nanoseconds to ask again, if there is not enough.
    #[inline]
    pub(crate) fn take(&mut self, bytes: u32, limit: &Limit) -> Result<(), u64> {
        let rate = limit.get();
        if rate == self.rate && rate.usec == 0 {
            return Ok(());
        }
        let now = now_ns() / 1000;
        if rate != self.rate {
            self.rate = rate;
            self.credit.set_rate(rate);
        }
        let until = self.credit.take(bytes, now);
        // Not so soon that the timer is all that runs.
        until.map_err(|when| when.saturating_sub(now).max(MIN_WAIT).saturating_mul(1000))
    }
}
