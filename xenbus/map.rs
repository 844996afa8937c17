// SPDX-License-Identifier: GPL-2.0

//! Pages of the other end, mapped here (back end).
//!
//! C header: [`include/xen/grant_table.h`](srctree/include/xen/grant_table.h)

use crate::bindings;
use core::{mem::MaybeUninit, ptr};
use kernel::{page::BorrowedPage, prelude::*, sync::Arc, types::Opaque};

/// A page as the C side has it.
type RawPage = *mut kernel::bindings::page;

/// Pages without memory of their own, into which foreign pages are mapped, kept for reuse.
///
/// Dropping it gives them back to the kernel.
#[pin_data(PinnedDrop)]
pub struct PageCache {
    #[pin]
    cache: Opaque<bindings::gnttab_page_cache>,
}

// SAFETY: The C cache has a lock of its own.
unsafe impl Send for PageCache {}

// SAFETY: As above.
unsafe impl Sync for PageCache {}

impl PageCache {
    /// An empty cache, which grows with use.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(PageCache {
            cache <- Opaque::ffi_init(|slot: *mut bindings::gnttab_page_cache| {
                // SAFETY: `slot` is valid for writes.
                unsafe { bindings::gnttab_page_cache_init(slot) }
            }),
        })
    }

    /// Gives pages back to the kernel until at most `keep` are left. Sleeps.
    pub fn shrink(&self, keep: u32) {
        // SAFETY: Initialised in `new`.
        unsafe { bindings::gnttab_page_cache_shrink(self.cache.get(), keep) };
    }

    fn get(&self) -> Result<RawPage> {
        let mut page = ptr::null_mut();
        // SAFETY: Initialised in `new`; the out parameter is valid.
        let err = unsafe { bindings::gnttab_page_cache_get(self.cache.get(), &mut page) };
        if err == 0 {
            Ok(page)
        } else {
            Err(ENOMEM)
        }
    }

    /// # Safety
    ///
    /// The pages must come from a cache (any) and have nothing mapped in them.
    unsafe fn put(&self, pages: &mut [RawPage]) {
        // SAFETY: By the safety requirements.
        unsafe {
            bindings::gnttab_page_cache_put(
                self.cache.get(),
                pages.as_mut_ptr(),
                pages.len() as kernel::ffi::c_uint,
            )
        };
    }
}

#[pinned_drop]
impl PinnedDrop for PageCache {
    fn drop(self: Pin<&mut Self>) {
        self.shrink(0);
    }
}

/// Up to `N` pages of another domain, mapped for the kernel.
///
/// Dropping it unmaps them and sleeps until nothing else (a network buffer, say) holds them.
///
/// # Invariants
///
/// The first `len` entries of `pages` and `handles` are what is mapped.
pub struct Mapping<const N: usize> {
    cache: Arc<PageCache>,
    pages: [RawPage; N],
    handles: [bindings::grant_handle_t; N],
    len: usize,
}

// SAFETY: The mapping owns its pages.
unsafe impl<const N: usize> Send for Mapping<N> {}

// SAFETY: Only the pages are offered, which are shareable.
unsafe impl<const N: usize> Sync for Mapping<N> {}

impl<const N: usize> Mapping<N> {
    /// Maps what `domid` has granted: a reference and whether it is mapped read only, for each.
    /// One hypercall, of which every status is checked (XSA-361, XSA-362, XSA-365, XSA-367).
    ///
    /// # Errors
    ///
    /// `EINVAL` when there are more than `N`, or when Xen refuses one of the references: then all
    /// are unmapped again. `ENOMEM` when there are no pages to map into.
    pub fn map(cache: &Arc<PageCache>, domid: u16, grants: &[(u32, bool)]) -> Result<Self> {
        if grants.len() > N {
            return Err(EINVAL);
        }
        let mut pages = [ptr::null_mut(); N];
        let mut ops = [const { MaybeUninit::<bindings::gnttab_map_grant_ref>::zeroed() }; N];
        for (i, ((page, op), (gref, readonly))) in
            pages.iter_mut().zip(&mut ops).zip(grants).enumerate()
        {
            let Ok(fresh) = cache.get() else {
                // SAFETY: From the cache, and nothing has been mapped.
                unsafe { cache.put(pages.get_mut(..i).unwrap_or_default()) };
                return Err(ENOMEM);
            };
            *page = fresh;
            let flags = bindings::GNTMAP_host_map
                | if *readonly {
                    bindings::GNTMAP_readonly
                } else {
                    0
                };
            // SAFETY: The operation is valid for writes and the page has an address.
            unsafe {
                bindings::xenbus_helper_set_map_op(op.as_mut_ptr(), fresh, flags, *gref, domid)
            };
        }
        // SAFETY: The first `grants.len()` operations and pages are set. A failure as a whole
        // shows in the statuses too, which are not "okay" to begin with.
        unsafe {
            bindings::gnttab_map_refs(
                ops.as_mut_ptr().cast(),
                ptr::null_mut(),
                pages.as_mut_ptr(),
                grants.len() as kernel::ffi::c_uint,
            )
        };

        // What is mapped moves to the front; what is not goes back at once.
        let mut mapping = Mapping {
            cache: cache.clone(),
            pages: [ptr::null_mut(); N],
            handles: [bindings::grant_handle_t::MAX; N],
            len: 0,
        };
        for (page, op) in pages.iter().zip(&ops).take(grants.len()) {
            // SAFETY: Set above, and zeroed to begin with.
            let op = unsafe { op.assume_init_ref() };
            if op.status == bindings::GNTST_okay as i16 {
                mapping.push(*page, op.handle);
            } else {
                // SAFETY: From the cache, and Xen has mapped nothing into it.
                unsafe { cache.put(&mut [*page]) };
            }
        }
        if mapping.len == grants.len() {
            Ok(mapping)
        } else {
            Err(EINVAL)
        }
    }

    fn push(&mut self, page: RawPage, handle: bindings::grant_handle_t) {
        if let (Some(p), Some(h)) = (self.pages.get_mut(self.len), self.handles.get_mut(self.len)) {
            *p = page;
            *h = handle;
            self.len = self.len.wrapping_add(1);
        }
    }

    /// How many pages are mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `i`th page.
    pub fn page(&self, i: usize) -> Option<BorrowedPage<'_>> {
        let page = *self.pages.get(..self.len)?.get(i)?;
        // SAFETY: Mapped, and so valid, while the mapping lives.
        ptr::NonNull::new(page).map(|page| unsafe { BorrowedPage::from_raw(page) })
    }
}

impl<const N: usize> Drop for Mapping<N> {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        let mut ops = [const { MaybeUninit::<bindings::gnttab_unmap_grant_ref>::zeroed() }; N];
        for ((op, page), handle) in ops
            .iter_mut()
            .zip(&self.pages)
            .zip(&self.handles)
            .take(self.len)
        {
            // SAFETY: The operation is valid for writes, the page is the one mapped.
            unsafe {
                bindings::xenbus_helper_set_unmap_op(
                    op.as_mut_ptr(),
                    *page,
                    bindings::GNTMAP_host_map,
                    *handle,
                )
            };
        }
        let mut data = MaybeUninit::<bindings::gntab_unmap_queue_data>::zeroed();
        let raw = data.as_mut_ptr();
        // SAFETY: All zero is valid; the arrays live until the call below has returned, which
        // waits for the end of the work.
        let result = unsafe {
            (*raw).unmap_ops = ops.as_mut_ptr().cast();
            (*raw).pages = self.pages.as_mut_ptr();
            (*raw).count = self.len as kernel::ffi::c_uint;
            bindings::gnttab_unmap_refs_sync(raw)
        };
        if result != 0 {
            // What may still be mapped must not be used again: leak it, and say so.
            pr_err!("cannot unmap {} pages: {}\n", self.len, result);
            return;
        }
        if let Some(pages) = self.pages.get_mut(..self.len) {
            // SAFETY: From the cache, and unmapped.
            unsafe { self.cache.put(pages) };
        }
    }
}
