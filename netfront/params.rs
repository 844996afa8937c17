// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, as the administrator has set them last, the files in sysfs, and what
//! system this is: the one part of this driver with `unsafe`. All are those of the C driver.

use core::ptr::NonNull;
use kernel::{bindings::attribute_group, ffi::c_uint, prelude::*};
use xenbus::{
    keep::Keeper,
    net::{self, Files},
};

kernel::sync::global_lock! {
    // SAFETY: The module calls `init_kept` before there is a device.
    pub(crate) unsafe(uninit) static KEPT: Mutex<Keeper<crate::Netfront>> = Keeper::new();
}

/// Gets [`KEPT`] ready. The module does this once.
pub(crate) fn init_kept() {
    // SAFETY: Done once.
    unsafe { KEPT.init() };
}

// Of what is opaque here, only a pointer is passed on.
#[allow(improper_ctypes)]
extern "C" {
    static netfront_max_queues: c_uint;
    static netfront_trusted: bool;
    static netfront_files: attribute_group;

    fn netfront_helper_has_pv_nics() -> bool;
}

/// Queues of an interface at most.
pub(crate) fn max_queues() -> u32 {
    // SAFETY: A word of ours, written by sysfs in one go.
    net::max_queues(unsafe { (&raw const netfront_max_queues).read_volatile() })
}

/// Whether back ends may see whole pages of the guest's own.
pub(crate) fn trusted() -> bool {
    // SAFETY: A byte of ours, in which sysfs writes nothing but a boolean, in one go.
    unsafe { (&raw const netfront_trusted).cast::<u8>().read_volatile() != 0 }
}

/// Files of each interface.
pub(crate) fn files() -> Files {
    // SAFETY: A static table, of files that look at no device.
    unsafe { Files::from_raw(NonNull::from(&netfront_files)) }
}

/// Whether this system may have interfaces that are served by another domain.
pub(crate) fn has_pv_nics() -> bool {
    // SAFETY: In any context.
    unsafe { netfront_helper_has_pv_nics() }
}
