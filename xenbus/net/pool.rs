// SPDX-License-Identifier: GPL-2.0

//! Pages that packets are received into, and that are used again when the stack is done with them.
//!
//! C header: [`include/net/page_pool/helpers.h`](srctree/include/net/page_pool/helpers.h)

use crate::{bindings, device::Device};
use core::ptr::NonNull;
use kernel::{error::from_err_ptr, page::BorrowedPage, prelude::*};

/// A pool of pages. Dropping it is allowed while pages of it are out.
pub struct PagePool(NonNull<kernel::bindings::page_pool>);

// SAFETY: The pool belongs to the value.
unsafe impl Send for PagePool {}

impl PagePool {
    /// A pool that keeps at most `pages` pages, of which it has none yet. Sleeps.
    pub fn new(dev: &Device, pages: u32) -> Result<Self> {
        // SAFETY: The device is live; it is used for messages only.
        let pool = unsafe { bindings::net_helper_pool_create(dev.raw_dev(), pages) };
        Ok(PagePool(NonNull::new(from_err_ptr(pool)?).ok_or(ENOMEM)?))
    }

    /// A page, which holds zeroes, or what was in it when it came back. `None`: memory is short. With
    /// soft interrupts off.
    #[inline]
    pub fn alloc(&mut self) -> Option<PoolPage> {
        // SAFETY: The pool is ours alone, so that its cache has one user.
        NonNull::new(unsafe { bindings::net_helper_pool_alloc(self.0.as_ptr()) }).map(PoolPage)
    }

    pub(super) fn as_raw(&self) -> *mut kernel::bindings::page_pool {
        self.0.as_ptr()
    }
}

impl Drop for PagePool {
    fn drop(&mut self) {
        // SAFETY: Made by `new`. It goes when its last page has come back.
        unsafe { bindings::page_pool_destroy(self.0.as_ptr()) };
    }
}

/// A page of a pool, to which it goes back when it is dropped; in any context.
///
/// # Invariants
///
/// The page is from a pool, and ours.
pub struct PoolPage(NonNull<kernel::bindings::page>);

// SAFETY: The page belongs to the value.
unsafe impl Send for PoolPage {}

// SAFETY: Shared access offers the page only, which is shareable.
unsafe impl Sync for PoolPage {}

impl PoolPage {
    /// The page.
    #[inline]
    pub fn page(&self) -> BorrowedPage<'_> {
        // SAFETY: Ours, and so allocated, while the value lives.
        unsafe { BorrowedPage::from_raw(self.0) }
    }

    /// Copies `to.len()` bytes at `offset` out of the page, to which another domain may be writing
    /// meanwhile; each byte is read once. Nothing, if that crosses the end of the page.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        if offset
            .checked_add(to.len())
            .is_some_and(|end| end <= kernel::page::PAGE_SIZE)
        {
            // SAFETY: Pages of a pool are not in high memory. In bounds; the bytes may be torn when
            // somebody writes to them, and are not looked at.
            unsafe {
                let from = bindings::xenbus_helper_page_address(self.0.as_ptr()).cast::<u8>();
                kernel::bindings::memcpy(
                    to.as_mut_ptr().cast(),
                    from.add(offset).cast_const().cast(),
                    to.len(),
                );
            }
        }
    }

    /// Has `fill` set the `len` bytes at `offset` of the page. Nothing, if that crosses its end.
    pub fn fill(&mut self, offset: usize, len: usize, fill: impl FnOnce(&mut [u8])) {
        if offset
            .checked_add(len)
            .is_some_and(|end| end <= kernel::page::PAGE_SIZE)
        {
            // SAFETY: Pages of a pool are not in high memory; the page is ours, and has been set
            // before, be it to zeroes. In bounds.
            fill(unsafe {
                let to = bindings::xenbus_helper_page_address(self.0.as_ptr()).cast::<u8>();
                core::slice::from_raw_parts_mut(to.add(offset), len)
            });
        }
    }

    /// Whether the page is one of this pool.
    #[inline]
    pub(super) fn is_of(&self, pool: &PagePool) -> bool {
        // SAFETY: Ours, and of a pool.
        unsafe { bindings::net_helper_page_is_of(self.0.as_ptr(), pool.as_raw()) }
    }

    #[inline]
    pub(super) fn as_raw(&self) -> *mut kernel::bindings::page {
        self.0.as_ptr()
    }

    /// Fills the page with zeroes: what was in it when it came back may be the stack's, which decrypts
    /// packets in their place.
    pub fn clear(&mut self) {
        // SAFETY: Pages of a pool are not in high memory; the page is ours.
        unsafe {
            bindings::xenbus_helper_page_address(self.0.as_ptr())
                .cast::<u8>()
                .write_bytes(0, kernel::page::PAGE_SIZE);
        }
    }

    /// The page itself, which is not given back to the pool any more.
    pub(super) fn into_raw(self) -> *mut kernel::bindings::page {
        let page = self.0.as_ptr();
        core::mem::forget(self);
        page
    }
}

impl Drop for PoolPage {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_pool_put(self.0.as_ptr(), false) };
    }
}
