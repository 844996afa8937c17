// SPDX-License-Identifier: GPL-2.0

//! The pages of a shared ring: granted by a front end, or mapped by a back end.
//!
//! Both are a [`Memory`], on which [`protocol::ring`] works. The other end writes there at any
//! moment, so they are reached by atomic words and volatile copies only.
//!
//! C header: [`include/xen/xenbus.h`](srctree/include/xen/xenbus.h)

use crate::{bindings, device::Device};
use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Release},
    },
};
use kernel::{error::to_result, page::PAGE_SIZE, prelude::*, sync::aref::ARef};
use protocol::ring::Memory;

/// The most pages that a ring may have (`XENBUS_MAX_RING_GRANTS`).
pub const MAX_PAGES: usize = bindings::XENBUS_MAX_RING_GRANTS as usize;

/// Shared pages in a row, `len` bytes.
///
/// # Invariants
///
/// `base` is page aligned and valid for reads and writes of `len` bytes while the area lives.
struct Area {
    base: NonNull<u8>,
    len: usize,
}

impl Area {
    fn new(base: *mut kernel::ffi::c_void, pages: usize) -> Result<Self> {
        Ok(Area {
            base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
            len: pages * PAGE_SIZE,
        })
    }

    /// The address of `len` bytes at `offset`, if they lie within the area.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: In bounds by the comparison and the type invariant.
        (end <= self.len).then(|| unsafe { self.base.as_ptr().add(offset) })
    }

    /// The word at `offset`, if it lies within the area and is aligned.
    ///
    /// A word of `core`, not of the `kernel` crate, whose accesses are calls of functions.
    #[inline]
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let ptr = self.at(offset, 4)?;
        // SAFETY: In bounds, aligned, and touched atomically only; the other end is another
        // machine as far as Rust is concerned, and what it writes are plain words.
        (offset % 4 == 0).then(|| unsafe { AtomicU32::from_ptr(ptr.cast()) })
    }
}

macro_rules! impl_memory {
    ($name:ident) => {
        impl Memory for $name {
            #[inline]
            fn len(&self) -> usize {
                self.area.len
            }

            #[inline]
            fn load(&self, offset: usize) -> u32 {
                self.area.word(offset).map_or(0, |word| word.load(Acquire))
            }

            #[inline]
            fn store(&self, offset: usize, value: u32) {
                if let Some(word) = self.area.word(offset) {
                    word.store(value, Release);
                }
            }

            #[inline]
            fn barrier(&self) {
                // SAFETY: A full barrier, also on a machine with one CPU.
                unsafe { bindings::xenbus_helper_virt_mb() };
            }

            #[inline]
            fn copy_out(&self, offset: usize, to: &mut [u8]) {
                if let Some(from) = self.area.at(offset, to.len()) {
                    copy(from, to.as_mut_ptr(), to.len());
                }
            }

            #[inline]
            fn copy_in(&self, offset: usize, from: &[u8]) {
                if let Some(to) = self.area.at(offset, from.len()) {
                    copy(from.as_ptr(), to, from.len());
                }
            }
        }
    };
}

/// Copies `len` bytes, of which one side is shared, reading each byte exactly once.
///
/// Both pointers are valid for `len` bytes: the callers have them from [`Area::at`] or a mapped page,
/// and a slice.
#[inline]
pub(crate) fn copy(from: *const u8, to: *mut u8, len: usize) {
    let align = from as usize | to as usize | len;
    if align % 8 == 0 {
        copy_by(from.cast::<u64>(), to.cast(), len / 8);
    } else if align % 4 == 0 {
        copy_by(from.cast::<u32>(), to.cast(), len / 4);
    } else {
        copy_by(from, to, len);
    }
}

/// The same for `count` words, on whose boundaries the pointers are.
#[inline]
fn copy_by<T: Copy>(from: *const T, to: *mut T, count: usize) {
    for i in 0..count {
        // SAFETY: In bounds and aligned. Volatile, so that the compiler neither repeats the read of a
        // shared word nor invents another.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}

/// A front end's ring: zeroed pages to which the other end has been granted access.
///
/// Dropping it ends the access; pages that the other end still maps are freed when it lets go.
pub struct FrontArea {
    area: Area,
    grefs: KVec<bindings::grant_ref_t>,
}

// SAFETY: The pages are reached through atomics and volatile copies only.
unsafe impl Send for FrontArea {}

// SAFETY: As above.
unsafe impl Sync for FrontArea {}

impl FrontArea {
    /// Allocates and grants `pages` pages, 1..=[`MAX_PAGES`]. Sleeps.
    pub fn new(dev: &Device, pages: usize) -> Result<Self> {
        if pages == 0 || pages > MAX_PAGES {
            return Err(EINVAL);
        }
        let mut grefs = KVec::from_elem(0, pages, GFP_KERNEL)?;
        let mut base = core::ptr::null_mut();
        // SAFETY: The device is live; `grefs` has room for `pages` references.
        to_result(unsafe {
            bindings::xenbus_setup_ring(
                dev.as_raw(),
                kernel::bindings::GFP_KERNEL,
                &mut base,
                pages as kernel::ffi::c_uint,
                grefs.as_mut_ptr(),
            )
        })?;
        // INVARIANT: `xenbus_setup_ring` has allocated the pages; the drop frees them.
        Ok(FrontArea {
            area: Area::new(base, pages)?,
            grefs,
        })
    }

    /// The grant references, one a page.
    pub fn grefs(&self) -> &[u32] {
        &self.grefs
    }
}

impl Drop for FrontArea {
    fn drop(&mut self) {
        let mut base = self.area.base.as_ptr().cast();
        // SAFETY: Made by `xenbus_setup_ring` with these values.
        unsafe {
            bindings::xenbus_teardown_ring(
                &mut base,
                self.grefs.len() as kernel::ffi::c_uint,
                self.grefs.as_mut_ptr(),
            )
        };
    }
}

impl_memory!(FrontArea);

/// A back end's ring: the other end's pages, mapped in a row.
///
/// Dropping it unmaps them. Sleeps.
pub struct BackArea {
    area: Area,
    dev: ARef<Device>,
}

// SAFETY: The pages are reached through atomics and volatile copies only.
unsafe impl Send for BackArea {}

// SAFETY: As above.
unsafe impl Sync for BackArea {}

impl BackArea {
    /// Maps the pages that the other end has granted by `grefs`, 1..=[`MAX_PAGES`]. Sleeps.
    ///
    /// # Errors
    ///
    /// What Xen answers for a reference that does not hold; all that were mapped are unmapped.
    pub fn map(dev: &Device, grefs: &[u32]) -> Result<Self> {
        if grefs.is_empty() || grefs.len() > MAX_PAGES {
            return Err(EINVAL);
        }
        let mut base = core::ptr::null_mut();
        // SAFETY: The device is live. The references are read only, in spite of the prototype.
        to_result(unsafe {
            bindings::xenbus_map_ring_valloc(
                dev.as_raw(),
                grefs.as_ptr().cast_mut(),
                grefs.len() as kernel::ffi::c_uint,
                &mut base,
            )
        })?;
        // INVARIANT: `xenbus_map_ring_valloc` has mapped the pages; the drop unmaps them.
        Ok(BackArea {
            area: Area::new(base, grefs.len())?,
            dev: dev.into(),
        })
    }
}

impl Drop for BackArea {
    fn drop(&mut self) {
        // SAFETY: Mapped by `xenbus_map_ring_valloc`, and not reached any more.
        unsafe {
            bindings::xenbus_unmap_ring_vfree(self.dev.as_raw(), self.area.base.as_ptr().cast())
        };
    }
}

impl_memory!(BackArea);
