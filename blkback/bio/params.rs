// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, as the administrator has set them last. They are those of the C driver,
//! and `polling` and `poll_us`.

use kernel::ffi::{c_int, c_uint};
use xenbus::{
    kthread::online_cpus,
    protocol::{negotiate::MAX_RING_ORDER, spin},
};

extern "C" {
    static blkback_max_buffer_pages: c_int;
    static blkback_max_persistent_grants: c_int;
    static blkback_unused_seconds: c_uint;
    static blkback_max_queues: c_uint;
    static blkback_max_ring_page_order: c_int;
    static blkback_log_stats: c_uint;
    static blkback_feature_persistent: bool;
    static blkback_squeeze_ms: c_int;
    static blkback_polling: c_uint;
    static blkback_poll_us: c_uint;

    fn blkback_helper_init_params();
}

/// More is never believed: queues of a disk.
const MAX_QUEUES: u32 = 1024;

/// Replaces defaults and nonsense by numbers. To be called once, when the module comes.
pub(crate) fn init() {
    // SAFETY: Called once, before anybody reads them.
    unsafe { blkback_helper_init_params() };
}

macro_rules! read {
    ($name:ident) => {
        // SAFETY: A word of ours, written by sysfs in one go.
        unsafe { (&raw const $name).read_volatile() }
    };
}

/// Pages without memory that each ring keeps at most.
pub(crate) fn max_buffer_pages() -> usize {
    read!(blkback_max_buffer_pages).max(0) as usize
}

/// Pages that each ring keeps mapped at most.
pub(crate) fn max_persistent_grants() -> usize {
    read!(blkback_max_persistent_grants).max(0) as usize
}

/// Seconds after which a page that is not used is unmapped; 0: never.
pub(crate) fn unused_seconds() -> u32 {
    read!(blkback_unused_seconds)
}

/// Queues of a disk at most.
pub(crate) fn max_queues() -> u32 {
    read!(blkback_max_queues).clamp(1, MAX_QUEUES)
}

/// The largest order of a ring.
pub(crate) fn max_ring_order() -> u32 {
    (read!(blkback_max_ring_page_order).max(0) as u32).min(MAX_RING_ORDER)
}

/// Whether each ring logs what it has done.
pub(crate) fn log_stats() -> bool {
    read!(blkback_log_stats) != 0
}

/// Whether pages are kept mapped.
pub(crate) fn feature_persistent() -> bool {
    // SAFETY: As above; sysfs writes nothing but a boolean.
    unsafe {
        (&raw const blkback_feature_persistent)
            .cast::<u8>()
            .read_volatile()
            != 0
    }
}

/// Milliseconds without a reserve of pages after memory was short.
pub(crate) fn squeeze_ms() -> u32 {
    read!(blkback_squeeze_ms).max(0) as u32
}

/// How the rings of new disks are polled.
pub(crate) fn polling() -> spin::Mode {
    let number = read!(blkback_polling);
    spin::Mode::ALL
        .into_iter()
        .find(|mode| *mode as u32 == number)
        .unwrap_or_default()
}

/// Nanoseconds that a thread spins at most before it sleeps. None on the only CPU, since whoever it
/// waits for would have to wait, too.
pub(crate) fn poll_ns() -> u64 {
    match online_cpus() {
        0 | 1 => 0,
        _ => u64::from(read!(blkback_poll_us)).wrapping_mul(1000),
    }
}
