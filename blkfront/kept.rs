// SPDX-License-Identifier: GPL-2.0

//! What becomes of a disk whose device comes again, with the back end of a new domain; see
//! [`xenbus::keep`].

use crate::{hwqueue::Mode, mq::KEPT, Blkfront, Closing};
use xenbus::{
    keep::{Keep, Keeper},
    prelude::*,
};

impl Keep for Blkfront {
    fn keeper<R>(f: impl FnOnce(&mut Keeper<Self>) -> R) -> R {
        f(&mut KEPT.lock())
    }

    fn leave(this: &Arc<Self>) -> bool {
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
        disk.set_parent(None).is_ok()
    }

    /// What was in flight is sent anew when the new back end is `Connected`.
    fn join(this: &Arc<Self>, dev: &Device<Core>) -> bool {
        let disk = this.state.lock().disk.clone();
        let joins = disk.is_some_and(|disk| disk.set_parent(Some(dev.dev())).is_ok());
        if joins {
            *this.dev.lock() = dev.into();
            dev_info!(
                dev.dev(),
                "{} is kept, with a new back end\n",
                this.name.as_str()
            );
        }
        joins
    }

    fn give_up(this: &Arc<Self>) {
        pr_warn!("{} is lost: it has no device\n", this.name.as_str());
        this.end(true);
    }
}
