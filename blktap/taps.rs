// SPDX-License-Identifier: GPL-2.0

//! All taps, and the wait for a disk to appear or to become free.

use crate::{chardev, tap::Tap};
use blkback::tap::{observe, Observer, Slot};
use kernel::{
    new_condvar, new_mutex,
    sync::{CondVar, Mutex},
};
use xenbus::prelude::*;

/// Wakes whoever waits for a disk.
#[pin_data]
pub(crate) struct Bell {
    #[pin]
    rung: Mutex<u64>,
    #[pin]
    bell: CondVar,
}

impl Bell {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Bell {
                rung <- new_mutex!(0),
                bell <- new_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    /// A disk has come or gone, or has become free.
    pub(crate) fn ring(&self) {
        let mut rung = self.rung.lock();
        *rung = rung.wrapping_add(1);
        drop(rung);
        self.bell.notify_all();
    }

    /// How often it has been rung, to be asked before the look at what is waited for.
    pub(crate) fn rung(&self) -> u64 {
        *self.rung.lock()
    }

    /// Waits until it has been rung more often than that.
    ///
    /// # Errors
    ///
    /// `EINTR` when a signal has come.
    pub(crate) fn wait(&self, before: u64) -> Result {
        let mut rung = self.rung.lock();
        while *rung == before {
            if self.bell.wait_interruptible(&mut rung) {
                return Err(EINTR);
            }
        }
        Ok(())
    }
}

impl Observer for Bell {
    fn changed(&self) {
        self.ring();
    }
}

/// All there are.
pub(crate) struct Taps {
    pub(crate) all: KVec<Arc<Tap>>,
    pub(crate) bell: Option<Arc<Bell>>,
}

/// For as long as it lives, blkback says which disks come and go.
pub(crate) struct Observed(());

impl Observed {
    pub(crate) fn new() -> Result<Self> {
        let bell = Bell::new()?;
        chardev::TAPS.lock().bell = Some(bell.clone());
        observe(Some(bell));
        Ok(Observed(()))
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        observe(None);
        let bell = chardev::TAPS.lock().bell.take();
        drop(bell);
    }
}

/// The bell that rings when a disk may have become free.
pub(crate) fn bell() -> Result<Arc<Bell>> {
    chardev::TAPS.lock().bell.clone().ok_or(ENODEV)
}

/// The tap of this disk.
pub(crate) fn find(domid: u32, handle: u32) -> Option<Arc<Tap>> {
    let taps = chardev::TAPS.lock();
    taps.all
        .iter()
        .find(|tap| tap.numbers() == (domid, handle))
        .cloned()
}

/// The tap of the disk that comes after this one.
pub(crate) fn after(domid: u32, handle: u32) -> Option<Arc<Tap>> {
    let taps = chardev::TAPS.lock();
    taps.all
        .iter()
        .filter(|tap| tap.numbers() > (domid, handle))
        .min_by_key(|tap| tap.numbers())
        .cloned()
}

/// The tap of a disk, which is made if there is none.
pub(crate) fn find_or_make(slot: &Arc<Slot>) -> Result<Arc<Tap>> {
    // Held throughout, so that there are never two.
    let mut taps = chardev::TAPS.lock();
    let numbers = (slot.domid().into(), slot.handle());
    if let Some(tap) = taps.all.iter().find(|tap| tap.numbers() == numbers) {
        return Ok(tap.clone());
    }
    taps.all.reserve(1, GFP_KERNEL)?;
    let tap = Tap::new(slot)?;
    // There is room.
    let _ = taps.all.push_within_capacity(tap.clone());
    Ok(tap)
}

/// Takes a tap off, and says that its disk is free.
pub(crate) fn remove(tap: &Tap) {
    let mut taps = chardev::TAPS.lock();
    let at = taps
        .all
        .iter()
        .position(|other| core::ptr::eq(&raw const **other, tap));
    // The last reference may be this one, whose end needs no lock.
    let gone = at.and_then(|at| taps.all.remove(at).ok());
    if taps.all.is_empty() {
        // When the module goes nobody frees what a static has.
        taps.all = KVec::new();
    }
    let bell = taps.bell.clone();
    drop(taps);
    drop(gone);
    if let Some(bell) = bell {
        bell.ring();
    }
}
