// SPDX-License-Identifier: GPL-2.0

//! Disks that have lost their device, and wait for it to come again.
//!
//! When the domain of a back end has died, the toolstack attaches the same virtual device to a new
//! one: it writes the front end's directory anew. The xenbus core takes that for another device: it
//! removes ours, and makes a new one of the same name, at once. The disk, its users and what they
//! have in flight are kept meanwhile, and the new device adopts them.
//!
//! A disk that nobody adopts is given up after a while, as one whose back end has gone.

use crate::{hwqueue::Mode, mq::KEPT, Blkfront, Closing};
use kernel::{prelude::*, str::CString};
use xenbus::{delayed::DelayedWork, prelude::*};

/// How long a disk is kept, in ms: at least this, less than twice as long.
const KEEP_MS: u32 = 30_000;

/// A device without a bus.
struct Kept {
    /// What its directory in xenstore is called.
    node: CString,
    device: Arc<Blkfront>,
    /// It was here already when it was looked for devices to give up.
    seen: bool,
}

/// The devices that are kept.
pub(crate) struct Keeper {
    kept: KVec<Kept>,
    /// Gives up what is not adopted; `None` once the module is on its way out.
    reaper: Option<DelayedWork>,
}

impl Keeper {
    /// With nothing to keep.
    pub(crate) const fn new() -> Self {
        Keeper {
            kept: KVec::new(),
            reaper: None,
        }
    }

    /// Takes out a device of which `which` is true.
    fn take(&mut self, which: impl Fn(&Kept) -> bool) -> Option<Arc<Blkfront>> {
        let index = self.kept.iter().position(which)?;
        self.kept.remove(index).ok().map(|kept| kept.device)
    }

    fn queue_reaper(&self) {
        if let Some(reaper) = &self.reaper {
            reaper.queue(KEEP_MS);
        }
    }
}

/// Keeps the device, which is being removed as `dev`, for the next one of the same name. False if
/// there is nothing to keep, or no new one.
pub(crate) fn keep(this: &Arc<Blkfront>, dev: &Device<Core>) -> bool {
    if !has_new_back_end(dev) {
        return false;
    }
    let disk = {
        let state = this.state.lock();
        match state.closing {
            // Nothing takes the disk away while this is so.
            Closing::No => state.disk.clone(),
            Closing::WhenIdle | Closing::Lost | Closing::Done => None,
        }
    };
    let Some(disk) = disk.filter(|disk| disk.is_added()) else {
        return false;
    };
    // What is in flight waits to be sent anew.
    this.queues.disconnect(Mode::Waiting);
    disk.set_parent(None).is_ok() && put(this, dev).is_ok()
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

fn put(this: &Arc<Blkfront>, dev: &Device) -> Result {
    let kept = Kept {
        node: dev.nodename().try_into()?,
        device: this.clone(),
        seen: false,
    };
    let mut keeper = KEPT.lock();
    keeper.kept.push(kept, GFP_KERNEL)?;
    keeper.queue_reaper();
    Ok(())
}

/// What was kept of the device that had the name of `dev`; it goes on as that one. What was in
/// flight is sent anew when the new back end is `Connected`, to which `otherend_changed` leads as it
/// did the first time.
pub(crate) fn adopt(dev: &Device<Core>) -> Option<Arc<Blkfront>> {
    let node = dev.nodename().to_bytes();
    let this = KEPT.lock().take(|kept| kept.node.to_bytes() == node)?;
    let disk = this.state.lock().disk.clone();
    if disk.is_some_and(|disk| disk.set_parent(Some(dev.dev())).is_ok()) {
        *this.dev.lock() = dev.into();
        dev_info!(
            dev.dev(),
            "{} is kept, with a new back end\n",
            this.name.as_str()
        );
        return Some(this);
    }
    give_up(&this);
    None
}

/// Ends a device that nobody has adopted.
fn give_up(this: &Blkfront) {
    pr_warn!("{} is lost: it has no device\n", this.name.as_str());
    this.end(true);
}

/// Gives up what was here already the last time.
fn reap() {
    loop {
        let due = {
            let mut keeper = KEPT.lock();
            let due = keeper.take(|kept| kept.seen);
            if due.is_none() && !keeper.kept.is_empty() {
                for kept in &mut keeper.kept {
                    kept.seen = true;
                }
                keeper.queue_reaper();
            }
            due
        };
        match due {
            Some(this) => give_up(&this),
            None => break,
        }
    }
}

/// The module's part in this: while there is one, devices are kept. Dropping it gives up all.
pub(crate) struct Shelf;

impl Shelf {
    /// Gets ready to keep devices. The module does this once.
    pub(crate) fn new() -> Result<Self> {
        let reaper = DelayedWork::new(reap)?;
        KEPT.lock().reaper = Some(reaper);
        Ok(Shelf)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let reaper = KEPT.lock().reaper.take();
        drop(reaper);
        loop {
            let kept = KEPT.lock().take(|_| true);
            match kept {
                Some(this) => give_up(&this),
                None => break,
            }
        }
    }
}
