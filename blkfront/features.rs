// SPDX-License-Identifier: GPL-2.0

//! What the back end can do beyond reading and writing, which it may take back at any time.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use xenbus::protocol::negotiate::{Discard, Flush};

const CACHE: u32 = 1;
const BARRIER: u32 = 2;
const DISCARD: u32 = 4;
const SECURE: u32 = 8;
/// Something was taken back, and the block layer is to be told.
const REVOKED: u32 = 16;

/// Shared by all hardware queues of a device.
#[derive(Default)]
pub(crate) struct Features(AtomicU32);

impl Features {
    /// Notes what the back end offers.
    pub(crate) fn set(&self, flush: Flush, discard: Option<Discard>) {
        let flush = match flush {
            Flush::None => 0,
            Flush::Cache => CACHE,
            Flush::Barrier => BARRIER,
        };
        let discard = match discard {
            None => 0,
            Some(Discard { secure: false, .. }) => DISCARD,
            Some(Discard { secure: true, .. }) => DISCARD | SECURE,
        };
        self.0.store(flush | discard, Relaxed);
    }

    /// How written data is made durable.
    #[inline]
    pub(crate) fn flush(&self) -> Flush {
        match self.0.load(Relaxed) & (CACHE | BARRIER) {
            0 => Flush::None,
            CACHE => Flush::Cache,
            _ => Flush::Barrier,
        }
    }

    /// Whether sectors can be discarded, or, if `secure`, erased.
    pub(crate) fn can_discard(&self, secure: bool) -> bool {
        let flag = if secure { SECURE } else { DISCARD };
        self.0.load(Relaxed) & flag != 0
    }

    /// The back end does not flush any more.
    pub(crate) fn revoke_flush(&self) {
        self.revoke(CACHE | BARRIER);
    }

    /// The back end does not discard any more, nor erase.
    pub(crate) fn revoke_discard(&self) {
        self.revoke(DISCARD | SECURE);
    }

    fn revoke(&self, what: u32) {
        if self.0.load(Relaxed) & what != 0 {
            self.0.fetch_or(REVOKED, Relaxed);
            self.0.fetch_and(!what, Relaxed);
        }
    }

    /// Whether something was taken back that the block layer has not been told of.
    #[inline]
    pub(crate) fn is_revoked(&self) -> bool {
        self.0.load(Relaxed) & REVOKED != 0
    }

    /// Likewise, and it will have been told.
    pub(crate) fn take_revoked(&self) -> bool {
        self.0.fetch_and(!REVOKED, Relaxed) & REVOKED != 0
    }
}
