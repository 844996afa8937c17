// SPDX-License-Identifier: GPL-2.0

//! Rings whose disk does not answer, after their device has gone.

use crate::{ring::Service, vbd::Number};
use xenbus::prelude::*;

kernel::sync::global_lock! {
    // SAFETY: Initialised by `Left::new`, before there is a device.
    unsafe(uninit) static LEFT: Mutex<KVec<Service>> = KVec::new();
}

/// Threads of rings that were stopped while the disk did not answer. Dropping it, when the module
/// goes, waits for them all.
pub(crate) struct Left(());

impl Left {
    /// To be called once, when the module comes.
    pub(crate) fn new() -> Self {
        // SAFETY: Called once, by the module's init.
        unsafe { LEFT.init() };
        Left(())
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        drop(core::mem::take(&mut *LEFT.lock()));
    }
}

/// Whether requests of a ring that was stopped are still on their way to a device.
pub(crate) fn is_busy(number: Number) -> bool {
    let left = LEFT.lock();
    left.iter()
        .any(|service| service.number == Some(number) && !service.has_ended())
}

/// Leaves `service` to itself, and forgets those that have ended meanwhile.
pub(crate) fn leave(service: Service) {
    let mut left = LEFT.lock();
    left.retain(|service| !service.has_ended());
    // Without the memory to remember it, there is only to wait for it: it is dropped here.
    let _ = left.push(service, GFP_KERNEL);
}
