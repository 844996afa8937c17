// SPDX-License-Identifier: GPL-2.0

//! Access that this domain gives to pages of its own (front end).
//!
//! C header: [`include/xen/grant_table.h`](srctree/include/xen/grant_table.h)

use crate::bindings;
use kernel::{error::to_result, page::Page, prelude::*, types::Opaque};

/// Free grant references set aside, so that granting cannot fail half-way through a request.
///
/// Dropping it gives them back.
pub struct GrantReserve {
    head: bindings::grant_ref_t,
    len: u16,
}

/// `GNTTAB_LIST_END`, which is a macro with a cast: the end of a list of free references.
const GRANT_LIST_END: bindings::grant_ref_t = bindings::grant_ref_t::MAX;

impl GrantReserve {
    /// With nothing set aside; to be [refilled](Self::refill).
    #[inline]
    pub fn empty() -> Self {
        GrantReserve {
            head: GRANT_LIST_END,
            len: 0,
        }
    }

    /// Sets `count` references aside. In any context.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the grant table is full; see [`GrantCallback`].
    pub fn new(count: u16) -> Result<Self> {
        if count == 0 {
            // The C function takes one from the list even so.
            return Ok(GrantReserve::empty());
        }
        let mut head = 0;
        // SAFETY: The out parameter is valid.
        to_result(unsafe { bindings::gnttab_alloc_grant_references(count, &mut head) })?;
        Ok(GrantReserve { head, len: count })
    }

    /// How many references are left.
    pub fn len(&self) -> u16 {
        self.len
    }

    /// Whether none is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Brings the reserve up to `count` references. In any context.
    pub fn refill(&mut self, count: u16) -> Result {
        let missing = count.saturating_sub(self.len);
        if missing == 0 {
            return Ok(());
        }
        let mut more = GrantReserve::new(missing)?;
        if self.len == 0 {
            *self = more;
            return Ok(());
        }
        while let Some(gref) = more.claim() {
            // SAFETY: The reference is free and ours.
            unsafe { bindings::gnttab_release_grant_reference(&mut self.head, gref) };
            self.len = self.len.wrapping_add(1);
        }
        Ok(())
    }

    fn claim(&mut self) -> Option<bindings::grant_ref_t> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: `head` is the list that `gnttab_alloc_grant_references` made.
        let gref = unsafe { bindings::gnttab_claim_grant_reference(&mut self.head) };
        self.len = self.len.wrapping_sub(1);
        // CAST: Checked not to be negative.
        (gref >= 0).then_some(gref as bindings::grant_ref_t)
    }

    /// Ends an access, as [`Grant::try_end`] does, and sets its reference aside again. In any
    /// context.
    ///
    /// # Errors
    ///
    /// The grant itself, when the other end still has the page mapped.
    #[inline]
    pub fn take_back(&mut self, mut grant: Grant) -> core::result::Result<(), Grant> {
        if grant.gref == 0 {
            return Ok(());
        }
        // SAFETY: The reference is ours; on success it is free, and goes to our list.
        unsafe {
            if bindings::gnttab_end_foreign_access_ref(grant.gref) == 0 {
                return Err(grant);
            }
            bindings::gnttab_release_grant_reference(&mut self.head, grant.gref);
        }
        self.len = self.len.wrapping_add(1);
        grant.gref = 0;
        Ok(())
    }

    /// Grants `domid` access to the first 4096 bytes of `page`. In any context.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the reserve is empty.
    ///
    /// # Safety
    ///
    /// The page stays allocated, and for what `domid` may read (and write, unless `readonly`),
    /// until the grant has ended or has been dropped.
    pub unsafe fn grant(&mut self, domid: u16, page: &Page, readonly: bool) -> Result<Grant> {
        let gref = self.claim().ok_or(ENOSPC)?;
        // SAFETY: The reference is free and ours; the page is live.
        unsafe {
            bindings::xenbus_helper_grant_page(gref, domid, page.as_ptr().cast(), readonly.into())
        };
        Ok(Grant { gref })
    }
}

impl Drop for GrantReserve {
    #[inline]
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: The references left in the list are free and ours.
        unsafe { bindings::gnttab_free_grant_references(self.head) };
    }
}

/// Access that has been granted to one page.
///
/// Dropping it ends the access as soon as the other end lets go; until then the grant table keeps
/// a reference on the page, so that the page is not allocated again. That does not help a page whose
/// owner goes on using it, as the slab allocator does with a page of small objects.
pub struct Grant {
    /// 0, which Xen keeps for itself: the access has ended.
    gref: bindings::grant_ref_t,
}

impl Grant {
    /// The reference, to be told to the other end; 0 once the access has ended.
    #[inline]
    pub fn gref(&self) -> u32 {
        self.gref
    }

    /// Ends the access, atomically (XSA-396): on success the other end cannot reach the page any
    /// more, and its data may be used. In any context.
    ///
    /// # Errors
    ///
    /// The grant itself, when the other end still has the page mapped.
    pub fn try_end(mut self) -> core::result::Result<(), Grant> {
        if self.end() {
            Ok(())
        } else {
            Err(self)
        }
    }

    /// As the drop, for memory that has no count of references, as that of small objects has none:
    /// the grant table takes no reference on it. Its owner must never free it if the other end has it
    /// mapped. Sleeps.
    pub fn end_later(mut self) {
        let gref = core::mem::take(&mut self.gref);
        if gref == 0 {
            return;
        }
        // The grant table wants a page that it frees at the end: any one. Without one, the reference
        // is never used again.
        if let Ok(page) = Page::alloc_page(GFP_KERNEL) {
            // SAFETY: The reference is ours, and forgotten; so is the page.
            unsafe { bindings::gnttab_end_foreign_access(gref, page.as_ptr().cast()) };
            core::mem::forget(page);
        }
    }

    /// Like [`Grant::try_end`], in place: whether the access has ended.
    #[inline]
    pub fn end(&mut self) -> bool {
        // SAFETY: The reference is ours; on success it is free again and we forget it.
        if self.gref != 0 && unsafe { bindings::gnttab_try_end_foreign_access(self.gref) } != 0 {
            self.gref = 0;
        }
        self.gref == 0
    }
}

impl Drop for Grant {
    #[inline]
    fn drop(&mut self) {
        if self.gref == 0 {
            return;
        }
        // SAFETY: The reference is ours. With no page given, the grant table takes a reference on
        // the page if the access cannot be ended now.
        unsafe { bindings::gnttab_end_foreign_access(self.gref, core::ptr::null_mut()) };
    }
}

/// Calls back when the grant table has free references again.
///
/// Dropping it cancels the call.
pub struct GrantCallback(Pin<KBox<CallbackInner>>);

#[pin_data]
struct CallbackInner {
    #[pin]
    callback: Opaque<bindings::gnttab_free_callback>,
    f: KBox<dyn Fn() + Send + Sync>,
}

// SAFETY: The C callback is synchronized by the grant table's lock.
unsafe impl Send for GrantCallback {}

// SAFETY: As above.
unsafe impl Sync for GrantCallback {}

impl GrantCallback {
    /// `f` runs with a spin lock of the grant table held and interrupts off: it may queue work,
    /// and no more.
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let f: KBox<dyn Fn() + Send + Sync> = KBox::new(f, GFP_KERNEL)?;
        let inner = KBox::pin_init(
            pin_init!(CallbackInner {
                callback <- Opaque::ffi_init(|slot: *mut bindings::gnttab_free_callback| {
                    // SAFETY: `slot` is valid for writes; all zero is a callback at rest.
                    unsafe { slot.write_bytes(0, 1) };
                }),
                f,
            }),
            GFP_KERNEL,
        )?;
        Ok(GrantCallback(inner))
    }

    /// Asks for one call as soon as `count` references are free; that may be at once. In any
    /// context. A call that has been asked for already stays as it was.
    pub fn request(&self, count: u16) {
        // SAFETY: The callback is pinned, and cancelled before it is freed.
        unsafe {
            bindings::gnttab_request_free_callback(
                self.0.callback.get(),
                Some(Self::call),
                core::ptr::from_ref(&*self.0).cast_mut().cast(),
                count,
            )
        };
    }

    unsafe extern "C" fn call(data: *mut kernel::ffi::c_void) {
        // SAFETY: `request` gave the pointer, and the drop cancels under the same lock.
        let inner = unsafe { &*data.cast_const().cast::<CallbackInner>() };
        (inner.f)();
    }
}

impl Drop for GrantCallback {
    fn drop(&mut self) {
        // SAFETY: The callback is initialised.
        unsafe { bindings::gnttab_cancel_free_callback(self.0.callback.get()) };
    }
}
