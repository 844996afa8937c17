// SPDX-License-Identifier: GPL-2.0

//! Pages of our own to which another domain is given access (front end).
//!
//! The other end may read and write such a page at any time, so that its bytes are copied in and
//! out, and never looked at in place.
//!
//! C header: [`include/xen/grant_table.h`](srctree/include/xen/grant_table.h)

use crate::{
    bindings,
    grant::{Grant, GrantReserve},
};
use core::ptr::NonNull;
use kernel::{
    alloc::Flags,
    page::{Page, PAGE_SIZE},
    prelude::*,
};

/// A page that was zeroed when it was allocated, and the access given to it.
///
/// Dropping it ends the access; if the other end still has the page mapped, the page is freed only
/// when it lets go.
pub struct SharedPage {
    // Dropped in this order: the grant table takes a reference on a page that is still mapped.
    grant: Option<Grant>,
    page: Page,
    addr: NonNull<u8>,
}

// SAFETY: The page belongs to the value; what the other end does to it, it does from anywhere.
unsafe impl Send for SharedPage {}

// SAFETY: Shared access only copies.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// A page of zeroes, to which nobody has access yet. `flags` say whether this may sleep.
    pub fn new(flags: Flags) -> Result<Self> {
        let page = Page::alloc_page(flags | __GFP_ZERO)?;
        // SAFETY: The page is not in high memory, by the flags.
        let addr = unsafe { bindings::xenbus_helper_page_address(page.as_ptr().cast()) };
        Ok(SharedPage {
            grant: None,
            page,
            addr: NonNull::new(addr.cast()).ok_or(ENOMEM)?,
        })
    }

    /// The grant reference, `None` if nobody has access.
    #[inline]
    pub fn gref(&self) -> Option<u32> {
        self.grant.as_ref().map(Grant::gref)
    }

    /// Gives `domid` access, with a reference of `reserve`; returns the reference. Nobody has
    /// access yet. In any context.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the reserve is empty.
    pub fn grant(&mut self, reserve: &mut GrantReserve, domid: u16, readonly: bool) -> Result<u32> {
        // SAFETY: The page is freed after the grant, and nothing but copies ever sees its bytes.
        let grant = unsafe { reserve.grant(domid, &self.page, readonly)? };
        let gref = grant.gref();
        self.grant = Some(grant);
        Ok(gref)
    }

    /// Ends the access, if there is any. `Some`: the reference, while the other end still has the
    /// page mapped; the access then goes on. In any context.
    #[inline]
    pub fn end_access(&mut self) -> Option<u32> {
        let still = self.grant.take()?.try_end().err()?;
        let gref = still.gref();
        self.grant = Some(still);
        Some(gref)
    }

    /// Copies `len` bytes from `from` to `offset`; nothing, if that crosses the end of the page.
    ///
    /// # Safety
    ///
    /// `from` is valid for reads of `len` bytes. Others may write there meanwhile.
    #[inline]
    pub unsafe fn copy_in(&mut self, offset: usize, from: *const u8, len: usize) {
        if offset.checked_add(len).is_some_and(|end| end <= PAGE_SIZE) {
            // SAFETY: In bounds; the page is ours and overlaps nothing. The bytes may be torn when
            // somebody writes to them, and are not looked at.
            unsafe { copy(from, self.addr.as_ptr().add(offset), len) };
        }
    }

    /// Copies `len` bytes at `offset` to `to`; nothing, if that crosses the end of the page.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `len` bytes. Others may look there meanwhile.
    #[inline]
    pub unsafe fn copy_out(&self, offset: usize, to: *mut u8, len: usize) {
        if offset.checked_add(len).is_some_and(|end| end <= PAGE_SIZE) {
            // SAFETY: As in `copy_in`, the other way round.
            unsafe { copy(self.addr.as_ptr().add(offset), to, len) };
        }
    }

    /// Writes the `index`-th group of 8 bytes, 0 to 511; nothing beyond the end of the page.
    #[inline]
    pub fn write_group(&mut self, index: usize, bytes: [u8; 8]) {
        if index < PAGE_SIZE / 8 {
            let to = self.addr.as_ptr().cast::<u64>();
            // SAFETY: In bounds and aligned; the page is ours.
            unsafe { to.add(index).write_volatile(u64::from_ne_bytes(bytes)) };
        }
    }
}

/// `memcpy()`, of which the compiler knows nothing, for memory that others may change meanwhile.
///
/// # Safety
///
/// As for `memcpy()`.
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: By the safety requirements.
    unsafe { kernel::bindings::memcpy(to.cast(), from.cast(), len) };
}
