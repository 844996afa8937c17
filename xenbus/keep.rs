// SPDX-License-Identifier: GPL-2.0

//! Front side: devices that have lost their place on the bus, and wait for it to come again.
//!
//! When the domain of a back end has died, the toolstack attaches the same virtual device to a new
//! one: it writes the front end's directory anew. The xenbus core takes that for another device: it
//! removes ours, and makes a new one of the same name, at once. What the guest sees of it (a disk, an
//! interface), its users and what they have in flight are kept meanwhile, and the new device adopts
//! them.
//!
//! What nobody adopts is given up after a while, as if its back end had gone.

use crate::{
    delayed::DelayedWork,
    device::{Core, Device},
    driver::Driver,
    store,
};
use core::marker::PhantomData;
use kernel::{prelude::*, str::CString, sync::Arc};
use protocol::state::XenbusState;

/// How long a value is kept, in ms: at least this, less than twice as long.
const KEEP_MS: u32 = 30_000;

/// A driver whose values outlive their devices.
pub trait Keep: Driver {
    /// Runs `f` with the driver's keeper, which is a static of the driver's under a lock.
    fn keeper<R>(f: impl FnOnce(&mut Keeper<Self>) -> R) -> R;

    /// The device goes, and another one will come: leaves it. False if there is nothing to keep.
    /// Sleeps.
    fn leave(this: &Arc<Self>) -> bool;

    /// From now on `this` belongs to the device `dev`, which is being probed. False if that does not
    /// work. Sleeps.
    fn join(this: &Arc<Self>, dev: &Device<Core>) -> bool;

    /// There will be no device. Sleeps.
    fn give_up(this: &Arc<Self>);
}

/// A value without a device.
struct Kept<T> {
    /// What its directory in xenstore is called.
    node: CString,
    value: Arc<T>,
    /// It was here already when it was looked for values to give up.
    seen: bool,
}

/// The values of a driver that are kept.
pub struct Keeper<T> {
    kept: KVec<Kept<T>>,
    /// Gives up what is not adopted; `None` once the module is on its way out.
    reaper: Option<DelayedWork>,
}

impl<T> Keeper<T> {
    /// With nothing to keep.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Keeper {
            kept: KVec::new(),
            reaper: None,
        }
    }

    /// Takes out a value of which `which` is true.
    fn take(&mut self, which: impl Fn(&Kept<T>) -> bool) -> Option<Arc<T>> {
        let index = self.kept.iter().position(which)?;
        self.kept.remove(index).ok().map(|kept| kept.value)
    }

    fn queue_reaper(&self) {
        if let Some(reaper) = &self.reaper {
            reaper.queue(KEEP_MS);
        }
    }
}

/// Keeps the value of `dev`, which is being removed, for the next device of the same name. False if
/// there is nothing to keep, or no new device: then it goes as ever. Sleeps.
pub fn keep<T: Keep>(this: &Arc<T>, dev: &Device<Core>) -> bool {
    has_new_back_end(dev) && T::leave(this) && put(this, dev).is_ok()
}

/// Whether the toolstack has given the front end a new back end, the old one having gone.
///
/// As long as the old back end's directory exists, it may still be at work on what it was sent,
/// which must then not be sent again.
fn has_new_back_end(dev: &Device<Core>) -> bool {
    // Of a device that has vanished, the core does not read the states any more.
    let own = || {
        store::NIL
            .read_number::<u32>(dev.nodename(), c"state")
            .ok()
            .flatten()
    };
    // Of a domain that has gone, xenstore says that there is nothing, or, since a guest may not know,
    // that it is not ours to read. Whatever else it says, the back end may still be there.
    let gone = || match store::NIL.read_opt(dev.otherend(), c"state") {
        Ok(state) => state.is_none(),
        Err(e) => e == EACCES,
    };
    let new = || store::NIL.read(dev.nodename(), c"backend");
    dev.has_vanished()
        && own() == Some(XenbusState::Initialising as u32)
        && gone()
        && new().is_ok_and(|path| path.as_bytes() != dev.otherend().to_bytes())
}

fn put<T: Keep>(this: &Arc<T>, dev: &Device) -> Result {
    let kept = Kept {
        node: dev.nodename().try_into()?,
        value: this.clone(),
        seen: false,
    };
    T::keeper(|keeper| {
        keeper.kept.push(kept, GFP_KERNEL)?;
        keeper.queue_reaper();
        Ok(())
    })
}

/// What was kept of the device that had the name of `dev`; it goes on as that one, to whose back end
/// `otherend_changed` leads as it did the first time. Sleeps.
pub fn adopt<T: Keep>(dev: &Device<Core>) -> Option<Arc<T>> {
    let node = dev.nodename().to_bytes();
    let this = T::keeper(|keeper| keeper.take(|kept| kept.node.to_bytes() == node))?;
    if T::join(&this, dev) {
        return Some(this);
    }
    T::give_up(&this);
    None
}

/// Gives up what was here already the last time.
fn reap<T: Keep>() {
    loop {
        let due = T::keeper(|keeper| {
            let due = keeper.take(|kept| kept.seen);
            if due.is_none() && !keeper.kept.is_empty() {
                for kept in &mut keeper.kept {
                    kept.seen = true;
                }
                keeper.queue_reaper();
            }
            due
        });
        match due {
            Some(this) => T::give_up(&this),
            None => break,
        }
    }
}

/// The module's part in this: while there is one, values are kept. Dropping it gives up all; the
/// module does that after its driver has left the bus.
pub struct Shelf<T: Keep>(PhantomData<T>);

impl<T: Keep> Shelf<T> {
    /// Gets ready to keep values. The module does this once.
    pub fn new() -> Result<Self> {
        let reaper = DelayedWork::new(reap::<T>)?;
        T::keeper(|keeper| keeper.reaper = Some(reaper));
        Ok(Shelf(PhantomData))
    }
}

impl<T: Keep> Drop for Shelf<T> {
    fn drop(&mut self) {
        let reaper = T::keeper(|keeper| keeper.reaper.take());
        drop(reaper);
        while let Some(this) = T::keeper(|keeper| keeper.take(|_| true)) {
            T::give_up(&this);
        }
        // The keeper may be a static, of which nobody frees anything.
        T::keeper(|keeper| keeper.kept = KVec::new());
    }
}
