// SPDX-License-Identifier: GPL-2.0

//! Copies between pages of this domain and granted pages of another, done by Xen (back end).
//!
//! C header: [`include/xen/grant_table.h`](srctree/include/xen/grant_table.h)

use crate::bindings;
use kernel::{
    page::{Page, PAGE_SIZE},
    prelude::*,
};

/// One side of a copy.
pub enum Side<'a> {
    /// A page of this domain, and an offset in it.
    Local(&'a Page, u16),
    /// A granted page: the domain, the reference, and an offset in the page.
    Foreign(u16, u32, u16),
}

/// Copies that are done in one hypercall.
pub struct CopyBatch<'a> {
    ops: KVec<bindings::gnttab_copy>,
    _pages: core::marker::PhantomData<&'a Page>,
}

impl<'a> CopyBatch<'a> {
    /// A batch with room for `capacity` copies. Sleeps.
    pub fn new(capacity: usize) -> Result<Self> {
        Ok(CopyBatch {
            ops: KVec::with_capacity(capacity, GFP_KERNEL)?,
            _pages: core::marker::PhantomData,
        })
    }

    /// Adds a copy of `len` bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` when a side crosses the end of its page; `ENOSPC` when the batch is full.
    ///
    /// # Safety
    ///
    /// Until [`Self::run`] has returned or the batch has been dropped, nobody else writes to a local
    /// page, and nobody reads one that is copied to.
    pub unsafe fn push(&mut self, from: Side<'a>, to: Side<'a>, len: u16) -> Result {
        let mut op = bindings::gnttab_copy::default();
        let fill =
            |side: Side<'_>, ptr: &mut bindings::gnttab_copy_gnttab_copy_ptr| -> Result<u16> {
                let offset = match side {
                    Side::Local(page, offset) => {
                        // SAFETY: The page is live.
                        ptr.u.gmfn = unsafe { bindings::xenbus_helper_page_to_gfn(page.as_ptr()) };
                        ptr.domid = bindings::DOMID_SELF as u16;
                        offset
                    }
                    Side::Foreign(domid, gref, offset) => {
                        ptr.u.ref_ = gref;
                        ptr.domid = domid;
                        offset
                    }
                };
                if usize::from(offset).wrapping_add(usize::from(len)) > PAGE_SIZE {
                    return Err(EINVAL);
                }
                ptr.offset = offset;
                Ok(if ptr.domid == bindings::DOMID_SELF as u16 {
                    0
                } else {
                    1
                })
            };
        if fill(from, &mut op.source)? != 0 {
            op.flags |= bindings::GNTCOPY_source_gref as u16;
        }
        if fill(to, &mut op.dest)? != 0 {
            op.flags |= bindings::GNTCOPY_dest_gref as u16;
        }
        op.len = len;
        self.ops.push_within_capacity(op).map_err(|_| ENOSPC)
    }

    /// Does the copies, and empties the batch. Sleeps, while pages of the other end are paged out.
    ///
    /// # Errors
    ///
    /// `EIO` when any of them failed; `failed` is called with the index of each that did.
    pub fn run(&mut self, mut failed: impl FnMut(usize)) -> Result {
        if self.ops.is_empty() {
            return Ok(());
        }
        // SAFETY: The operations are set. The pages of this domain live for `'a`; the frames
        // behind references are Xen's to check.
        unsafe {
            bindings::gnttab_batch_copy(
                self.ops.as_mut_ptr(),
                self.ops.len() as kernel::ffi::c_uint,
            )
        };
        let mut result = Ok(());
        for (i, op) in self.ops.iter().enumerate() {
            if op.status != bindings::GNTST_okay as i16 {
                failed(i);
                result = Err(EIO);
            }
        }
        self.ops.clear();
        result
    }
}
