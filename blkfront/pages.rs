// SPDX-License-Identifier: GPL-2.0

//! Pages of our own that the back end gets to see, kept for the next request.
//!
//! Data passes through them when grants are persistent or the back end is not trusted; the lists
//! of segments of indirect requests always do. A page that has been shared with one back end once
//! is never used for anything else, and was zeroed before.
//!
//! The page that was used last is used first, since the back end may have it mapped still. So
//! those that were not used for a while lie at the bottom of the stack, and the least height of the
//! stack in that time says how many they are.

use kernel::prelude::*;
use xenbus::{grant::GrantReserve, shared::SharedPage};

/// How many pages [`Pages::purge`] looks at in a call: interrupts are off meanwhile.
const PURGE: usize = 64;

/// A stack of pages that no request has at the moment.
pub(crate) struct Pages {
    free: KVVec<SharedPage>,
    /// How many there are, with those that requests have.
    total: usize,
    /// There are never fewer; enough for one request, so that there is always one that gets on.
    least: usize,
    /// There are never more.
    most: usize,
    /// The least number of free pages since the last [`Pages::purge`].
    low: usize,
    /// Whether it has grown beyond `least` since this was last asked.
    grown: bool,
}

impl Pages {
    /// Allocates `least` pages, and room for `most`. Sleeps.
    pub(crate) fn new(least: usize, most: usize) -> Result<Self> {
        let most = most.max(least);
        let mut free = KVVec::with_capacity(most, GFP_KERNEL)?;
        for _ in 0..least {
            free.push(SharedPage::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Pages {
            free,
            total: least,
            least,
            most,
            low: least,
            grown: false,
        })
    }

    /// Takes a page. In any context.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when there is no memory for another one; there will be one when a request has
    /// ended.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<SharedPage> {
        match self.free.pop() {
            Some(page) => {
                self.low = self.low.min(self.free.len());
                Ok(page)
            }
            None => self.grow(),
        }
    }

    fn grow(&mut self) -> Result<SharedPage> {
        self.low = 0;
        if self.total >= self.most {
            return Err(ENOMEM);
        }
        let page = SharedPage::new(GFP_NOWAIT | __GFP_NOWARN)?;
        self.total = self.total.wrapping_add(1);
        self.grown = true;
        Ok(page)
    }

    /// Puts a page back. In any context.
    #[inline]
    pub(crate) fn give(&mut self, page: SharedPage) {
        // There is room for all that there are; a page too many would simply go.
        let _ = self.free.push_within_capacity(page);
    }

    /// Frees the pages that were not used since the last time, and that the back end has not mapped
    /// any more: a batch, `None` if there is another one. Says at the end whether there may be more
    /// to free another time. In any context.
    pub(crate) fn purge(&mut self) -> Option<bool> {
        for _ in 0..PURGE {
            // Below that height lies what was not used and has not been looked at yet.
            let Some(at) = self.low.checked_sub(1).filter(|_| self.total > self.least) else {
                self.low = self.free.len();
                return Some(self.total > self.least);
            };
            self.low = at;
            match self.free.get_mut(at).map(SharedPage::end_access) {
                // The page on top takes the place; that one was needed, and will be.
                Some(None) => {
                    let top = self.free.len().wrapping_sub(1);
                    self.free.swap(at, top);
                    self.free.pop();
                    self.total = self.total.wrapping_sub(1);
                }
                Some(Some(_)) | None => {}
            }
        }
        None
    }

    /// Whether there are more pages than there were, since this was last asked.
    #[inline]
    pub(crate) fn take_grown(&mut self) -> bool {
        core::mem::take(&mut self.grown)
    }
}

/// Makes sure that `page` is granted to `domid`; the reference. `left` says how many more pages may
/// need one, this one included. In any context.
///
/// # Errors
///
/// `ENOSPC` when the grant table is full.
#[inline]
pub(crate) fn granted(
    page: &mut SharedPage,
    reserve: &mut GrantReserve,
    left: u16,
    domid: u16,
    readonly: bool,
) -> Result<u32> {
    match page.gref() {
        Some(gref) => Ok(gref),
        None => {
            if reserve.is_empty() {
                // One will do when they are short: the other pages may have theirs.
                reserve.refill(left).or_else(|_| reserve.refill(1))?;
            }
            page.grant(reserve, domid, readonly)
        }
    }
}
