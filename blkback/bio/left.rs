// SPDX-License-Identifier: GPL-2.0

//! Rings whose disk does not answer, after their device has gone.

use crate::{ring::Service, vbd::Number};
use xenbus::prelude::*;

kernel::sync::global_lock! {
    // SAFETY: Initialised by `Left::new`, before there is a device.
    unsafe(uninit) static LEFT: Mutex<Option<KBox<Service>>> = None;
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
        let list = LEFT.lock().take();
        forget(list);
    }
}

/// Whether requests of a ring that was stopped are still on their way to a device. Sleeps.
///
/// Those that have ended are forgotten: a virtual disk that is served anew looks, by
/// [`Service::has_ended`], as if its earlier service had not, and asks this first.
pub(crate) fn is_busy(number: Number) -> bool {
    let mut left = LEFT.lock();
    let ended = take_ended(&mut left);
    let mut busy = false;
    let mut next = &*left;
    while let Some(service) = next {
        busy |= service.number == Some(number);
        next = &service.next;
    }
    drop(left);
    forget(ended);
    busy
}

/// Leaves `service` to itself, and forgets those that have ended meanwhile. Needs no memory. Sleeps.
pub(crate) fn leave(mut service: KBox<Service>) {
    let mut left = LEFT.lock();
    let ended = take_ended(&mut left);
    service.next = left.take();
    *left = Some(service);
    drop(left);
    forget(ended);
}

/// Takes those that have ended off the list.
fn take_ended(left: &mut Option<KBox<Service>>) -> Option<KBox<Service>> {
    let mut ended = None;
    let mut rest = left.take();
    while let Some(mut one) = rest {
        rest = one.next.take();
        let list = match one.has_ended() {
            true => &mut ended,
            false => &mut *left,
        };
        one.next = list.take();
        *list = Some(one);
    }
    ended
}

/// Waits for the end of each, without recursion.
fn forget(mut list: Option<KBox<Service>>) {
    while let Some(mut service) = list {
        list = service.next.take();
    }
}
