// SPDX-License-Identifier: GPL-2.0

//! Pages of the other end, mapped here (back end).
//!
//! C header: [`include/xen/grant_table.h`](srctree/include/xen/grant_table.h)

use crate::{bindings, ring::copy};
use core::{mem::MaybeUninit, ptr};
use kernel::{
    ffi::{c_int, c_uint},
    page::{BorrowedPage, PAGE_SIZE},
    prelude::*,
};

/// A page as the C side has it.
type RawPage = *mut kernel::bindings::page;

/// A page of another domain, mapped for the kernel.
///
/// It is given back by [`Mapper::unmap`]. Dropping it unmaps it in a hypercall of its own, and
/// sleeps until nothing else (a network buffer, say) holds it.
///
/// # Invariants
///
/// `page` is NULL, or from `gnttab_alloc_pages` with something mapped in it by `handle`.
pub struct Mapped {
    page: RawPage,
    handle: bindings::grant_handle_t,
}

// SAFETY: The mapping owns its page.
unsafe impl Send for Mapped {}

// SAFETY: Only the page is offered, which is shareable.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// The page. `None` after [`Self::take`].
    #[inline]
    pub fn page(&self) -> Option<BorrowedPage<'_>> {
        // SAFETY: Mapped, and so valid, while the mapping lives.
        ptr::NonNull::new(self.page).map(|page| unsafe { BorrowedPage::from_raw(page) })
    }

    /// Takes the mapping out of its place, where nothing is left.
    pub fn take(&mut self) -> Self {
        let page = core::mem::replace(&mut self.page, ptr::null_mut());
        Mapped {
            page,
            handle: self.handle,
        }
    }

    /// Makes a private copy of the start of the page; each byte is read once.
    ///
    /// # Errors
    ///
    /// `EINVAL` when that is more than a page.
    pub fn copy_out(&self, to: &mut [u8]) -> Result {
        if self.page.is_null() || to.len() > PAGE_SIZE {
            return Err(EINVAL);
        }
        // SAFETY: The page is valid and has an address.
        let from = unsafe { bindings::xenbus_helper_page_address(self.page) };
        copy(from.cast(), to.as_mut_ptr(), to.len());
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.page.is_null() {
            return;
        }
        let (mut page, mut op) = (self.page, unmap_op(self.page, self.handle));
        if unmap(
            core::slice::from_mut(&mut op),
            core::slice::from_mut(&mut page),
        ) {
            // SAFETY: From `gnttab_alloc_pages`, and unmapped.
            unsafe { bindings::gnttab_free_pages(1, &mut page) };
        }
    }
}

fn unmap_op(page: RawPage, handle: bindings::grant_handle_t) -> bindings::gnttab_unmap_grant_ref {
    let mut op = MaybeUninit::<bindings::gnttab_unmap_grant_ref>::zeroed();
    // SAFETY: The operation is valid for writes, the page is the one mapped; all zero is valid.
    unsafe {
        bindings::xenbus_helper_set_unmap_op(
            op.as_mut_ptr(),
            page,
            bindings::GNTMAP_host_map,
            handle,
        );
        let mut op = op.assume_init();
        // Not "okay" to begin with, should the hypercall fail as a whole.
        op.status = bindings::GNTST_general_error as i16;
        op
    }
}

/// Unmaps pages in one hypercall and sleeps until nobody holds them. Says whether that worked: if
/// not, the statuses of the operations are to be looked at.
fn unmap(ops: &mut [bindings::gnttab_unmap_grant_ref], pages: &mut [RawPage]) -> bool {
    let mut data = MaybeUninit::<bindings::gntab_unmap_queue_data>::zeroed();
    let raw = data.as_mut_ptr();
    // SAFETY: All zero is valid; the arrays, which are of one length, live until the call has
    // returned, which waits for the end of the work.
    let result = unsafe {
        (*raw).unmap_ops = ops.as_mut_ptr();
        (*raw).pages = pages.as_mut_ptr();
        (*raw).count = ops.len().min(pages.len()) as c_uint;
        bindings::gnttab_unmap_refs_sync(raw)
    };
    let well = result == 0 && ops.iter().all(is_unmapped);
    if !well {
        // What may still be mapped must not be used again: it is leaked.
        pr_err!("cannot unmap {} pages: {}\n", ops.len(), result);
    }
    well
}

fn is_unmapped(op: &bindings::gnttab_unmap_grant_ref) -> bool {
    op.status == bindings::GNTST_okay as i16
}

/// Maps and unmaps the pages of one domain in batches. Belongs to one thread.
///
/// The pages without memory of their own that it maps into are kept for reuse, see
/// [`Self::shrink`]. Dropping it gives them back, and unmaps what waits for that.
pub struct Mapper {
    domid: u16,
    /// Nothing is mapped in these.
    free: KVec<RawPage>,
    map: KVec<bindings::gnttab_map_grant_ref>,
    map_pages: KVec<RawPage>,
    unmap: KVec<bindings::gnttab_unmap_grant_ref>,
    unmap_pages: KVec<RawPage>,
}

// SAFETY: The pages are the mapper's own.
unsafe impl Send for Mapper {}

impl Mapper {
    /// For pages of domain `domid`. Has no memory yet.
    pub fn new(domid: u16) -> Self {
        Mapper {
            domid,
            free: KVec::new(),
            map: KVec::new(),
            map_pages: KVec::new(),
            unmap: KVec::new(),
            unmap_pages: KVec::new(),
        }
    }

    /// Adds a page to the batch that [`Self::map`] maps. Sleeps when memory is short.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the batch is as it was.
    pub fn push(&mut self, gref: u32, readonly: bool) -> Result {
        self.map.reserve(1, GFP_KERNEL)?;
        self.map_pages.reserve(1, GFP_KERNEL)?;
        let page = self.fresh()?;
        let flags = bindings::GNTMAP_host_map
            | if readonly {
                bindings::GNTMAP_readonly
            } else {
                0
            };
        let mut op = MaybeUninit::<bindings::gnttab_map_grant_ref>::zeroed();
        // SAFETY: The operation is valid for writes and the page has an address; all zero is valid.
        let op = unsafe {
            bindings::xenbus_helper_set_map_op(op.as_mut_ptr(), page, flags, gref, self.domid);
            op.assume_init()
        };
        // There is room.
        let _ = self.map.push_within_capacity(op);
        let _ = self.map_pages.push_within_capacity(page);
        Ok(())
    }

    /// How many pages are in the batch.
    #[inline]
    pub fn pending(&self) -> usize {
        self.map.len()
    }

    /// Maps the batch in one hypercall and checks each status (XSA-361, XSA-362, XSA-365,
    /// XSA-367): for each page in the order of [`Self::push`], `each` gets its reference and the
    /// mapping, or `None` when Xen has refused it. Sleeps.
    pub fn map(&mut self, mut each: impl FnMut(u32, Option<Mapped>)) {
        if self.map.is_empty() {
            return;
        }
        // SAFETY: Operations and pages are set, and as many. A failure as a whole shows in the
        // statuses too, which are not "okay" to begin with.
        unsafe {
            bindings::gnttab_map_refs(
                self.map.as_mut_ptr(),
                ptr::null_mut(),
                self.map_pages.as_mut_ptr(),
                self.map.len() as c_uint,
            )
        };
        for (op, page) in self.map.iter().zip(&self.map_pages) {
            if op.status == bindings::GNTST_okay as i16 {
                // INVARIANT: Xen has mapped it.
                let mapped = Mapped {
                    page: *page,
                    handle: op.handle,
                };
                each(op.ref_, Some(mapped));
            } else {
                keep(&mut self.free, *page);
                each(op.ref_, None);
            }
        }
        self.map.clear();
        self.map_pages.clear();
    }

    /// Adds a mapping to those that [`Self::flush`] ends. Sleeps when memory is short.
    pub fn unmap(&mut self, mut mapped: Mapped) {
        let page = mapped.page;
        if page.is_null()
            || self.unmap.reserve(1, GFP_KERNEL).is_err()
            || self.unmap_pages.reserve(1, GFP_KERNEL).is_err()
        {
            // Without room in the batch, on its own.
            return;
        }
        let handle = mapped.handle;
        mapped.page = ptr::null_mut();
        // There is room.
        let _ = self.unmap.push_within_capacity(unmap_op(page, handle));
        let _ = self.unmap_pages.push_within_capacity(page);
    }

    /// Ends the mappings in one hypercall. Sleeps until nothing else holds the pages.
    pub fn flush(&mut self) {
        if self.unmap.is_empty() {
            return;
        }
        unmap(&mut self.unmap, &mut self.unmap_pages);
        for (op, page) in self.unmap.iter().zip(&self.unmap_pages) {
            if is_unmapped(op) {
                keep(&mut self.free, *page);
            }
        }
        self.unmap.clear();
        self.unmap_pages.clear();
    }

    /// Makes a private copy of the start of a granted page, by Xen, into `to`. Sleeps, while the
    /// page is paged out.
    ///
    /// # Errors
    ///
    /// `EINVAL` when Xen refuses, or when `to` is longer than the memory of a [`Copied`].
    pub fn copy(&self, gref: u32, to: &mut Copied, len: usize) -> Result {
        let to = to.0.get_mut(..len).ok_or(EINVAL)?;
        // SAFETY: The memory is ours and within one page of the kernel's own mapping.
        let result = unsafe {
            bindings::xenbus_helper_copy_from_grant(
                self.domid,
                gref,
                to.as_mut_ptr().cast(),
                len as u16,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// How many pages are kept for reuse.
    #[inline]
    pub fn kept(&self) -> usize {
        self.free.len()
    }

    /// Gives pages back to the kernel until at most `keep` are left. Sleeps.
    pub fn shrink(&mut self, keep: usize) {
        while let Some(excess) = self.free.len().checked_sub(keep) {
            let Some(batch) = self.free.get_mut(keep..).filter(|batch| !batch.is_empty()) else {
                break;
            };
            // A batch for each call, and not all with a lock held.
            let count = excess.min(64);
            let batch = batch.rchunks_mut(count).next().unwrap_or_default();
            // SAFETY: From `gnttab_alloc_pages`, with nothing mapped in them; taken off the list
            // below.
            unsafe { bindings::gnttab_free_pages(count as c_int, batch.as_mut_ptr()) };
            self.free
                .truncate(keep.wrapping_add(excess.wrapping_sub(count)));
        }
    }

    /// A page to map into.
    fn fresh(&mut self) -> Result<RawPage> {
        if let Some(page) = self.free.pop() {
            return Ok(page);
        }
        let mut page = ptr::null_mut();
        // SAFETY: The out parameter has room for one page.
        if unsafe { bindings::gnttab_alloc_pages(1, &mut page) } != 0 {
            return Err(ENOMEM);
        }
        Ok(page)
    }
}

/// Keeps a page in which nothing is mapped.
fn keep(free: &mut KVec<RawPage>, mut page: RawPage) {
    if free.push(page, GFP_KERNEL).is_err() {
        // SAFETY: From `gnttab_alloc_pages`, with nothing mapped in it.
        unsafe { bindings::gnttab_free_pages(1, &mut page) };
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        self.flush();
        for page in self.map_pages.iter() {
            // Never mapped.
            keep(&mut self.free, *page);
        }
        self.shrink(0);
    }
}

/// A page's worth of private memory that Xen copies to.
pub struct Copied(KVec<u8>);

impl Copied {
    /// Zeroed memory.
    pub fn new() -> Result<Self> {
        // Of a page's size, and so allocated on its boundary.
        Ok(Copied(KVec::from_elem(0, PAGE_SIZE, GFP_KERNEL)?))
    }

    /// The memory, one page.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The memory, one page.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
