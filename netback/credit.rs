// SPDX-License-Identifier: GPL-2.0

//! How much a guest may send: so many bytes in each of so many microseconds.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kernel::time::msecs_to_jiffies;

/// The limit of a vif.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Bytes of a queue in each period.
    pub(crate) bytes: u64,
    /// The period in microseconds; 0: there is no limit.
    pub(crate) usec: u64,
}

impl Rate {
    pub(crate) const UNLIMITED: Rate = Rate {
        bytes: u64::MAX,
        usec: 0,
    };

    /// Reads `bytes,usec`, as the toolstack writes them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (bytes, usec) = text.trim().split_once(',')?;
        Some(Rate {
            bytes: bytes.parse().ok()?,
            usec: usec.parse().ok()?,
        })
    }
}

/// The limit, which may change at any time.
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

/// What is left of the limit to a queue.
pub(crate) struct Credit {
    left: u64,
    /// When the present period has begun, in jiffies.
    begun: u64,
    rate: Rate,
}

/// A packet of any size must be sent at some time: so much can be saved up, in bytes.
const MIN_BURST: u64 = 131_072;

impl Credit {
    pub(crate) fn new(now: u64) -> Self {
        Credit {
            left: u64::MAX,
            begun: now,
            rate: Rate::UNLIMITED,
        }
    }

    /// Takes `bytes` off what is left.
    ///
    /// # Errors
    ///
    /// When to ask again, in jiffies, if that is not enough.
    #[inline]
    pub(crate) fn take(&mut self, bytes: u32, now: u64, limit: &Limit) -> Result<(), u64> {
        let rate = limit.get();
        if rate.usec == 0 {
            return Ok(());
        }
        self.take_limited(bytes.into(), now, rate)
    }

    fn take_limited(&mut self, bytes: u64, now: u64, rate: Rate) -> Result<(), u64> {
        if rate != self.rate {
            self.rate = rate;
            self.left = self.left.min(rate.bytes);
        }
        let msecs = (rate.usec / 1000).min(u64::from(u32::MAX)) as u32;
        let next = self
            .begun
            .wrapping_add((msecs_to_jiffies(msecs) as u64).max(1));
        if (now.wrapping_sub(next) as i64) >= 0 {
            self.begun = now;
            let most = MIN_BURST.max(rate.bytes);
            self.left = self.left.saturating_add(rate.bytes).min(most);
        }
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self
                .begun
                .wrapping_add((msecs_to_jiffies(msecs) as u64).max(1))),
        }
    }
}
