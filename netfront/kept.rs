// SPDX-License-Identifier: GPL-2.0

//! What becomes of an interface whose device comes again, with the back end of a new domain; see
//! [`xenbus::keep`]. It has no carrier meanwhile; its name, addresses and routes stay.

use crate::{params::KEPT, Netfront};
use kernel::dev_info;
use xenbus::{
    keep::{Keep, Keeper},
    prelude::*,
};

impl Keep for Netfront {
    fn keeper<R>(f: impl FnOnce(&mut Keeper<Self>) -> R) -> R {
        f(&mut KEPT.lock())
    }

    fn leave(this: &Arc<Self>) -> bool {
        // What was in flight is lost to TCP's care.
        this.disconnect();
        let state = this.state.lock();
        let registration = state.registration.as_ref();
        registration.is_some_and(|registration| registration.set_parent(None).is_ok())
    }

    fn join(this: &Arc<Self>, dev: &Device<Core>) -> bool {
        let state = this.state.lock();
        let Some(registration) = &state.registration else {
            return false;
        };
        let joins = registration.set_parent(Some(dev)).is_ok();
        if joins {
            registration.dev().with_name(|name| {
                dev_info!(dev.dev(), "{name} is kept, with a new back end\n");
            });
        }
        joins
    }

    fn give_up(this: &Arc<Self>) {
        pr_warn!("an interface is lost: it has no device\n");
        this.end();
    }
}
