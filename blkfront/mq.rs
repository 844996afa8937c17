// SPDX-License-Identifier: GPL-2.0

//! The block layer's multi-queue interface, as far as a front end needs it.
//!
//! Shaped like the `kernel` crate's `block::mq`, which in 7.2 gives a driver neither the operation
//! nor the data of a request, nor a way to fail one; once upstream has those, this goes. It is the
//! only part of the driver with `unsafe` in it. `helpers.c` holds the inlines that it needs.
//!
//! - `mq/request.rs`: a request, its data, and the access given to its pages
//! - `mq/disk.rs`: the tag set, the disk, the C callbacks; `mq/limits.rs`: what they may be like
//! - this file: the module's parameters, its block major, and what system this is
//!
//! C headers: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h),
//! [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_uint},
    prelude::*,
};
use xenbus::keep::Keeper;

mod disk;
mod limits;
mod request;

pub(crate) use disk::{wait_until_freed, Disk, Operations, Refused, RequestQueue, TagSet};
pub(crate) use limits::{Config, Limits};
pub(crate) use request::{Batch, Granted, Op, Request};

extern "C" {
    fn blkfront_helper_params(params: *mut Params);
    fn blkfront_helper_register_blkdev(major: c_uint, name: *const kernel::ffi::c_char) -> c_int;
    fn blkfront_helper_has_pv_disks() -> bool;
    fn blkfront_helper_has_emulated_disks() -> bool;
    fn blkfront_helper_hvm_domain() -> bool;
    fn blkfront_helper_shutting_down() -> bool;
}

/// The module's parameters, as whoever loaded it set them: any number.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Params {
    /// Most segments of an indirect request.
    pub max_indirect_segments: c_uint,
    max_queues: c_uint,
    /// Logarithm of the most pages of a ring.
    pub max_ring_page_order: c_uint,
    online_cpus: c_uint,
    /// Back ends may see pages of the guest's own.
    pub trusted: bool,
    /// Pages that are granted once and kept are offered.
    pub feature_persistent: bool,
}

impl Params {
    /// As they are now.
    pub(crate) fn now() -> Self {
        let mut params = Params::default();
        // SAFETY: The C structure has the same fields.
        unsafe { blkfront_helper_params(&mut params) };
        params
    }

    /// Most hardware queues of a disk: no more than CPUs, at least 1.
    pub(crate) fn max_queues(&self) -> u32 {
        self.max_queues.min(self.online_cpus).max(1)
    }
}

kernel::sync::global_lock! {
    // SAFETY: `Major::new` initialises it, before which there are no `Minors`.
    unsafe(uninit) static MINORS: Mutex<KVec<core::ops::Range<u32>>> = KVec::new();
}

kernel::sync::global_lock! {
    // SAFETY: `Major::new` initialises it, before which there is no device.
    pub(crate) unsafe(uninit) static KEPT: Mutex<Keeper<crate::Blkfront>> = Keeper::new();
}

/// Minor numbers that no other disk of ours has. Dropping them gives them back.
pub(crate) struct Minors(core::ops::Range<u32>);

impl Minors {
    /// Takes `count` minor numbers from `first` on.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another disk has one of them.
    pub(crate) fn new(first: u32, count: u32) -> Result<Self> {
        let range = first..first.wrapping_add(count);
        let mut taken = MINORS.lock();
        if taken
            .iter()
            .any(|other| other.start < range.end && range.start < other.end)
        {
            return Err(EBUSY);
        }
        taken.push(range.clone(), GFP_KERNEL)?;
        Ok(Minors(range))
    }
}

impl Drop for Minors {
    fn drop(&mut self) {
        let mut taken = MINORS.lock();
        taken.retain(|range| *range != self.0);
        if taken.is_empty() {
            // When the module goes nobody frees what a static has.
            *taken = KVec::new();
        }
    }
}

/// A block major number that is ours. Dropping it gives it back.
pub(crate) struct Major {
    major: u32,
    name: &'static CStr,
}

impl Major {
    /// Registers `major`, which is shown as `name` in `/proc/devices`. The module does this once,
    /// before anything else here.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another driver has it.
    pub(crate) fn new(major: u32, name: &'static CStr) -> Result<Self> {
        static INIT: AtomicBool = AtomicBool::new(false);
        if !INIT.swap(true, Ordering::Relaxed) {
            // SAFETY: Done once.
            unsafe {
                MINORS.init();
                KEPT.init();
            }
        }
        // SAFETY: The name is a C string that lives forever.
        to_result(unsafe { blkfront_helper_register_blkdev(major, name.as_char_ptr()) })?;
        Ok(Major { major, name })
    }
}

impl Drop for Major {
    fn drop(&mut self) {
        // SAFETY: Registered in `new`.
        unsafe { bindings::unregister_blkdev(self.major, self.name.as_char_ptr()) };
    }
}

/// The error of a request that the disk cannot do, which its user is to do without.
pub(crate) fn not_supported() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}

/// Whether this is a Xen guest that may use PV disks.
pub(crate) fn has_pv_disks() -> bool {
    // SAFETY: Reads what is set at boot.
    unsafe { blkfront_helper_has_pv_disks() }
}

/// Whether this is an HVM guest whose emulated disks have not been unplugged.
pub(crate) fn has_emulated_disks() -> bool {
    // SAFETY: Reads what is set at boot.
    unsafe { blkfront_helper_has_emulated_disks() }
}

/// Whether this is an HVM (or PVH) guest.
pub(crate) fn is_hvm_domain() -> bool {
    // SAFETY: Reads what is set at boot.
    unsafe { blkfront_helper_hvm_domain() }
}

/// Whether the whole system is on its way down.
pub(crate) fn is_shutting_down() -> bool {
    // SAFETY: Reads a variable.
    unsafe { blkfront_helper_shutting_down() }
}
