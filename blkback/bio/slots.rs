// SPDX-License-Identifier: GPL-2.0

//! The list of the disks, for taps.

use crate::tap::{Observer, Slot};
use xenbus::prelude::*;

/// The disks, and who wants to know when there are others.
struct List {
    slots: KVec<Arc<Slot>>,
    observer: Option<Arc<dyn Observer>>,
}

kernel::sync::global_lock! {
    // SAFETY: Initialised by `init`, before there is a device.
    unsafe(uninit) static LIST: Mutex<List> = List {
        slots: KVec::new(),
        observer: None,
    };
}

/// To be called once, when the module comes.
pub(crate) fn init() {
    // SAFETY: Called once, by the module's init.
    unsafe { LIST.init() };
}

/// Adds a disk.
pub(crate) fn add(slot: &Arc<Slot>) -> Result {
    let mut list = LIST.lock();
    list.slots.push(slot.clone(), GFP_KERNEL)?;
    if let Some(observer) = &list.observer {
        observer.changed();
    }
    Ok(())
}

/// Takes a disk off.
pub(crate) fn remove(slot: &Arc<Slot>) {
    let mut list = LIST.lock();
    list.slots.retain(|other| !Arc::ptr_eq(other, slot));
    if list.slots.is_empty() {
        // When the module goes nobody frees what a static has.
        list.slots = KVec::new();
    }
    if let Some(observer) = &list.observer {
        observer.changed();
    }
}

/// The disk of the guest `domid` with the number `handle`.
pub(crate) fn find(domid: u32, handle: u32) -> Option<Arc<Slot>> {
    let list = LIST.lock();
    list.slots
        .iter()
        .find(|slot| (u32::from(slot.domid()), slot.handle()) == (domid, handle))
        .cloned()
}

/// Sets who is told when the list changes, with the list's lock held. After `None` nobody is being
/// told any more.
pub(crate) fn observe(observer: Option<Arc<dyn Observer>>) {
    // The old one goes without the lock.
    let old = core::mem::replace(&mut LIST.lock().observer, observer);
    drop(old);
}
