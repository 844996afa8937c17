// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, as the administrator has set them last: the one part of this driver with
//! `unsafe`. They are those of the C driver, and one more.

use kernel::{ffi::c_uint, prelude::*, sync::Arc};
use xenbus::debugfs::Dir;

kernel::sync::global_lock! {
    // SAFETY: `DebugDir::new` initialises it, before which there is no device.
    unsafe(uninit) static DEBUG: Mutex<Option<Arc<Dir>>> = None;
}

/// `xen-netback` in debugfs, while there is the module.
pub(crate) struct DebugDir;

impl DebugDir {
    /// Makes it. The module does this once.
    pub(crate) fn new() -> Self {
        // SAFETY: Done once.
        unsafe { DEBUG.init() };
        *DEBUG.lock() = Arc::new(Dir::new(c"xen-netback"), GFP_KERNEL).ok();
        DebugDir
    }
}

impl Drop for DebugDir {
    fn drop(&mut self) {
        *DEBUG.lock() = None;
    }
}

/// Calls `f` with `xen-netback` in debugfs.
pub(crate) fn with_debug_dir<R>(f: impl FnOnce(&Arc<Dir>) -> R) -> Option<R> {
    DEBUG.lock().as_ref().map(f)
}

extern "C" {
    static netback_separate_tx_rx_irq: bool;
    static netback_rx_drain_timeout_msecs: c_uint;
    static netback_rx_stall_timeout_msecs: c_uint;
    static netback_max_queues: c_uint;
    static netback_fatal_skb_slots: c_uint;
    static netback_coalesce_usecs: c_uint;
    static netback_provides_xdp_headroom: bool;
}

macro_rules! read {
    ($name:ident as bool) => {
        // SAFETY: A byte of ours, in which sysfs writes nothing but a boolean, in one go.
        unsafe { (&raw const $name).cast::<u8>().read_volatile() != 0 }
    };
    ($name:ident) => {
        // SAFETY: A word of ours, written by sysfs in one go.
        unsafe { (&raw const $name).read_volatile() }
    };
}

/// Whether each ring may have an event channel of its own.
pub(crate) fn split_channels() -> bool {
    read!(netback_separate_tx_rx_irq as bool)
}

/// How long a packet waits for the guest at most, in milliseconds.
pub(crate) fn drain_ms() -> u32 {
    read!(netback_rx_drain_timeout_msecs)
}

/// After how long without room for a packet the guest has no carrier, in milliseconds; 0: never.
pub(crate) fn stall_ms() -> u32 {
    read!(netback_rx_stall_timeout_msecs)
}

/// Queues of a vif at most.
pub(crate) fn max_queues() -> u32 {
    xenbus::net::max_queues(read!(netback_max_queues))
}

/// More slots than these in a packet disable the vif.
pub(crate) fn fatal_slots() -> usize {
    read!(netback_fatal_skb_slots) as usize
}

/// How long a packet of a stream may wait for the next ones, in nanoseconds; 0: not at all.
pub(crate) fn coalesce_ns() -> u64 {
    u64::from(read!(netback_coalesce_usecs).min(10_000)).wrapping_mul(1000)
}

/// Whether room in front of packets is offered.
pub(crate) fn xdp_headroom() -> bool {
    read!(netback_provides_xdp_headroom as bool)
}
