// SPDX-License-Identifier: GPL-2.0

//! The safe foundation of the Xen split drivers.
//!
//! Everything here is an owned value that gives back what it holds when it is dropped, and nothing
//! that the other end writes can make it panic.
//!
//! - [`driver`]: registration of a driver on the front or the back bus.
//! - [`device`]: a device on one of the buses; [`connection`]: its state as a type.
//! - [`store`]: xenstore reads, writes and transactions; [`watch`]: xenstore watches.
//! - [`evtchn`]: interdomain event channels with late EOI.
//! - [`ring`]: the pages of a shared ring, granted by a front end or mapped by a back end.
//! - [`grant`]: access given to a page, [`shared`]: pages of our own to give access to (front end);
//!   [`map`], [`copy`]: access used (back end).
//! - [`keep`]: what outlives its device, until the device comes again (front end).
//! - [`region`]: memory that a program maps.
//! - [`net`]: network devices and packets.
//! - [`kthread`], [`waker`], [`lend`], [`lock`], [`timer`], [`work`], [`delayed`], [`module`],
//!   [`noio`], [`debugfs`]: what the `kernel` crate does not offer yet.
//! - [`protocol`]: the pure wire formats and state machines, shared with user space.
//!
//! C headers: [`include/xen/xenbus.h`], [`include/xen/grant_table.h`], [`include/xen/events.h`].
//!
//! [`include/xen/xenbus.h`]: srctree/include/xen/xenbus.h
//! [`include/xen/grant_table.h`]: srctree/include/xen/grant_table.h
//! [`include/xen/events.h`]: srctree/include/xen/events.h

pub use protocol;

pub mod bindings;
pub mod connection;
pub mod copy;
pub mod debugfs;
pub mod delayed;
pub mod device;
pub mod driver;
pub mod evtchn;
pub mod grant;
pub mod keep;
pub mod kthread;
pub mod lend;
pub mod lock;
pub mod map;
pub mod module;
pub mod net;
pub mod noio;
pub mod region;
pub mod ring;
pub mod shared;
pub mod store;
pub mod timer;
pub mod waker;
pub mod watch;
pub mod work;

/// What a driver needs in most of its files.
pub mod prelude {
    pub use crate::device::{Core, Device, Normal};
    pub use crate::driver::{After, Driver, Registration, Side};
    pub use crate::store::{self, Store};
    pub use kernel::fmt;
    pub use kernel::prelude::*;
    pub use kernel::str::CString;
    pub use kernel::sync::aref::ARef;
    pub use kernel::sync::Arc;
    pub use protocol::state::XenbusState;
}

use kernel::prelude::*;

module! {
    type: Xenbus,
    name: "rust_xenbus",
    authors: ["The Xen split drivers in Rust"],
    description: "Foundation of the Xen split drivers in Rust",
    license: "GPL",
}

struct Xenbus;

impl kernel::Module for Xenbus {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: Reads a variable that is set once at boot.
        if unsafe { bindings::xen_domain_type } == bindings::xen_domain_type_XEN_NATIVE {
            return Err(ENODEV);
        }
        Ok(Xenbus)
    }
}
