// SPDX-License-Identifier: GPL-2.0

//! Memory of this domain that a program maps, and that data of guests is copied to and from.
//!
//! Its pages are ordinary ones, each on its own, allocated when they are first looked for; whoever
//! has a page mapped or sends it to a disk keeps it, whatever becomes of the region. The program
//! writes there at any moment, so the kernel reaches the bytes by atomic words and volatile copies
//! only, as those of a ring that is shared with another domain.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/xen/grant_table.h`](srctree/include/xen/grant_table.h)

use crate::{bindings, ring::copy};
use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};
use kernel::{
    page::{BorrowedPage, Page, PAGE_SIZE},
    prelude::*,
    sync::Arc,
};
use protocol::ring::Memory;

/// A page as the C side has it.
pub type RawPage = *mut kernel::bindings::page;

/// Some pages of memory.
///
/// # Invariants
///
/// Each pointer is NULL, or to a page of which the region holds a reference; once set it stays.
pub struct Region {
    pages: KVVec<AtomicPtr<kernel::bindings::page>>,
}

impl Region {
    /// `pages` pages, none of which takes memory yet.
    pub fn new(pages: usize) -> Result<Self> {
        let mut region = Region {
            pages: KVVec::with_capacity(pages, GFP_KERNEL)?,
        };
        for _ in 0..pages {
            region
                .pages
                .push(AtomicPtr::new(ptr::null_mut()), GFP_KERNEL)?;
        }
        Ok(region)
    }

    /// How many pages there are.
    #[inline]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// A page; zeroed memory if nobody has asked for it before. Sleeps when memory is short.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such page, `ENOMEM`.
    #[inline]
    pub fn page(&self, index: usize) -> Result<BorrowedPage<'_>> {
        let page = NonNull::new(self.raw(index, GFP_KERNEL)?).ok_or(ENOMEM)?;
        // SAFETY: By the invariant it stays for as long as the region.
        Ok(unsafe { BorrowedPage::from_raw(page) })
    }

    /// The same, with a reference that is the caller's to give back; on the account of its memory cgroup.
    pub fn share(&self, index: usize) -> Result<RawPage> {
        let page = self.raw(index, GFP_KERNEL_ACCOUNT)?;
        // SAFETY: By the invariant it is live.
        unsafe { bindings::xenbus_helper_get_page(page) };
        Ok(page)
    }

    #[inline]
    fn raw(&self, index: usize, flags: kernel::alloc::Flags) -> Result<RawPage> {
        let place = self.pages.get(index).ok_or(EINVAL)?;
        let page = place.load(Ordering::Acquire);
        if !page.is_null() {
            return Ok(page);
        }
        let fresh = Page::alloc_page(flags | __GFP_ZERO)?;
        let new = fresh.as_ptr();
        // INVARIANT: From here on its only reference is the region's.
        match place.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                core::mem::forget(fresh);
                Ok(new)
            }
            Err(page) => Ok(page),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        for place in self.pages.iter() {
            let page = place.load(Ordering::Relaxed);
            if !page.is_null() {
                // SAFETY: Our reference; the page is freed with the last one.
                unsafe { kernel::bindings::__free_pages(page, 0) };
            }
        }
    }
}

/// A ring in the pages of a region.
///
/// # Invariants
///
/// Each pointer is to the memory of one page of `_region`.
pub struct RegionRing {
    pages: KVec<NonNull<u8>>,
    _region: Arc<Region>,
}

// SAFETY: The pages are reached through atomics and volatile copies only.
unsafe impl Send for RegionRing {}

// SAFETY: As above.
unsafe impl Sync for RegionRing {}

impl RegionRing {
    /// The `count` pages from `first` on.
    ///
    /// # Errors
    ///
    /// Those of [`Region::page`].
    pub fn new(region: &Arc<Region>, first: usize, count: usize) -> Result<Self> {
        let mut pages = KVec::with_capacity(count, GFP_KERNEL)?;
        for i in 0..count {
            let index = first.checked_add(i).ok_or(EINVAL)?;
            let page = region.raw(index, GFP_KERNEL_ACCOUNT)?;
            // SAFETY: The page is live, and not in high memory.
            let addr = unsafe { bindings::xenbus_helper_page_address(page) };
            pages.push(NonNull::new(addr.cast()).ok_or(ENOMEM)?, GFP_KERNEL)?;
        }
        // INVARIANT: The region keeps its pages.
        Ok(RegionRing {
            pages,
            _region: region.clone(),
        })
    }

    /// The address of `len` bytes at `offset`, if they lie in one page of the ring.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let page = self.pages.get(offset / PAGE_SIZE)?;
        let within = offset % PAGE_SIZE;
        // SAFETY: In bounds by the comparison.
        (within.checked_add(len)? <= PAGE_SIZE).then(|| unsafe { page.as_ptr().add(within) })
    }

    #[inline]
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let ptr = self.at(offset, 4)?;
        // SAFETY: In bounds, aligned, and touched atomically only; the program is another machine
        // as far as Rust is concerned.
        (offset % 4 == 0).then(|| unsafe { AtomicU32::from_ptr(ptr.cast()) })
    }
}

/// No entry may cross a page.
impl Memory for RegionRing {
    #[inline]
    fn len(&self) -> usize {
        self.pages.len().wrapping_mul(PAGE_SIZE)
    }

    #[inline]
    fn load(&self, offset: usize) -> u32 {
        self.word(offset)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    #[inline]
    fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    #[inline]
    fn barrier(&self) {
        // SAFETY: A full barrier.
        unsafe { bindings::xenbus_helper_virt_mb() };
    }

    #[inline]
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        if let Some(from) = self.at(offset, to.len()) {
            copy(from, to.as_mut_ptr(), to.len());
        }
    }

    #[inline]
    fn copy_in(&self, offset: usize, from: &[u8]) {
        if let Some(to) = self.at(offset, from.len()) {
            copy(from.as_ptr(), to, from.len());
        }
    }
}

/// Which way a copy goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Out of the guest's page.
    FromGuest,
    /// Into it.
    ToGuest,
}

/// Copies between a region and granted pages of another domain, done by Xen in one hypercall. Each
/// has a number of its owner's, by which failures are told.
pub struct RegionCopies {
    region: Arc<Region>,
    domid: u16,
    // A guest makes these long: one for each segment of what comes at once.
    ops: KVVec<bindings::gnttab_copy>,
    numbers: KVVec<u16>,
}

// SAFETY: What is in the operations are plain numbers.
unsafe impl Send for RegionCopies {}

impl RegionCopies {
    /// For pages of domain `domid`.
    pub fn new(region: &Arc<Region>, domid: u16) -> Self {
        RegionCopies {
            region: region.clone(),
            domid,
            ops: KVVec::new(),
            numbers: KVVec::new(),
        }
    }

    /// How many copies wait for [`Self::run`].
    #[inline]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Adds a copy of `len` bytes between the byte `at` of the region and the byte `offset` of the
    /// page of `gref`. Sleeps when memory is short.
    ///
    /// # Errors
    ///
    /// `EINVAL` when that leaves the region or the guest's page, `ENOMEM`; it may have been added in
    /// part then.
    pub fn push(
        &mut self,
        way: Way,
        (gref, offset): (u32, u32),
        mut at: usize,
        len: usize,
        number: u16,
    ) -> Result {
        let mut offset = offset as usize;
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if end > PAGE_SIZE {
            return Err(EINVAL);
        }
        while offset < end {
            let within = at % PAGE_SIZE;
            let part = (end.wrapping_sub(offset)).min(PAGE_SIZE.wrapping_sub(within));
            let page = self.region.raw(at / PAGE_SIZE, GFP_KERNEL)?;
            let mut op = bindings::gnttab_copy::default();
            let (local, foreign) = match way {
                Way::FromGuest => (&mut op.dest, &mut op.source),
                Way::ToGuest => (&mut op.source, &mut op.dest),
            };
            // SAFETY: The page is live.
            local.u.gmfn = unsafe { bindings::xenbus_helper_page_to_gfn(page) };
            local.domid = bindings::DOMID_SELF as u16;
            local.offset = within as u16;
            foreign.u.ref_ = gref;
            foreign.domid = self.domid;
            foreign.offset = offset as u16;
            op.flags = match way {
                Way::FromGuest => bindings::GNTCOPY_source_gref as u16,
                Way::ToGuest => bindings::GNTCOPY_dest_gref as u16,
            };
            op.len = part as u16;
            // Not "okay" to begin with, should the hypercall fail as a whole.
            op.status = bindings::GNTST_general_error as i16;
            self.numbers.push(number, GFP_KERNEL)?;
            self.ops.push(op, GFP_KERNEL)?;
            at = at.wrapping_add(part);
            offset = offset.wrapping_add(part);
        }
        Ok(())
    }

    /// Does the copies, and forgets them; `failed` gets the number of each that Xen has refused.
    /// Sleeps, while pages of the other domain are paged out.
    pub fn run(&mut self, mut failed: impl FnMut(u16)) {
        if !self.ops.is_empty() {
            // SAFETY: The operations are set. The pages of this domain are the region's, which
            // lives; nothing but copies ever sees their bytes. The frames behind references are
            // Xen's to check.
            unsafe {
                bindings::gnttab_batch_copy(
                    self.ops.as_mut_ptr(),
                    self.ops.len() as kernel::ffi::c_uint,
                )
            };
        }
        for (op, number) in self.ops.iter().zip(&self.numbers) {
            if op.status != bindings::GNTST_okay as i16 {
                failed(*number);
            }
        }
        self.ops.clear();
        self.numbers.clear();
    }
}
