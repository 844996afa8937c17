// SPDX-License-Identifier: GPL-2.0

//! The state of this end of a connection, as a type.
//!
//! A [`Connection`] in one state is consumed to get one in the next, and the state node is written
//! on the way. What the protocol forbids (a front end that is `Connected` before it has published
//! its ring, a `Closed` end that goes on as if nothing had been) has no method.
//!
//! ```text
//! front:  Initialising ────────────> Initialised ─> Connected ─> Closing ─> Closed
//! back:   Initialising ─> InitWait ───────────────> Connected ─> Closing ─> Closed ─> InitWait
//! ```
//!
//! C header: [`include/xen/interface/io/xenbus.h`](srctree/include/xen/interface/io/xenbus.h)

use crate::device::Device;
use core::marker::PhantomData;
use kernel::{prelude::*, sync::aref::ARef};
use protocol::state::XenbusState;

mod private {
    pub trait Sealed {}
}

/// A state that a [`Connection`] can be in.
pub trait Stage: private::Sealed {
    /// What stands in the state node.
    const STATE: XenbusState;
}

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        pub struct $name;
        impl private::Sealed for $name {}
        impl Stage for $name {
            const STATE: XenbusState = XenbusState::$name;
        }
    )+};
}

stages! {
    /// Nothing has been said yet.
    Initialising,
    /// Back: features are written; waits for the front end's ring.
    InitWait,
    /// Front: ring and event channel are published; waits for the back end.
    Initialised,
    /// Both ends may use the ring.
    Connected,
    /// This end is giving the ring up.
    Closing,
    /// This end has let go of everything.
    Closed,
}

/// This end of a connection, known to be in state `S`.
pub struct Connection<S: Stage> {
    dev: ARef<Device>,
    _stage: PhantomData<S>,
}

impl<S: Stage> Connection<S> {
    /// The device.
    pub fn device(&self) -> &Device {
        &self.dev
    }

    fn go<N: Stage>(self) -> Result<Connection<N>> {
        self.dev.switch_state(N::STATE)?;
        Ok(Connection {
            dev: self.dev,
            _stage: PhantomData,
        })
    }

    /// Gives the connection up, from whatever state.
    pub fn closing(self) -> Result<Connection<Closing>> {
        self.go()
    }
}

impl Connection<Initialising> {
    /// The connection of a device that is being probed or resumed.
    pub fn new(dev: &Device) -> Self {
        Connection {
            dev: dev.into(),
            _stage: PhantomData,
        }
    }

    /// Back: the features are in xenstore.
    pub fn init_wait(self) -> Result<Connection<InitWait>> {
        self.go()
    }

    /// Front: ring and event channel are in xenstore.
    pub fn initialised(self) -> Result<Connection<Initialised>> {
        self.go()
    }
}

impl Connection<InitWait> {
    /// Back: the ring is mapped and the device's properties are in xenstore.
    pub fn connected(self) -> Result<Connection<Connected>> {
        self.go()
    }
}

impl Connection<Initialised> {
    /// Front: the device's properties are read.
    pub fn connected(self) -> Result<Connection<Connected>> {
        self.go()
    }
}

impl Connection<Closing> {
    /// Nothing of the other end is held any more.
    pub fn closed(self) -> Result<Connection<Closed>> {
        self.go()
    }
}

impl Connection<Closed> {
    /// Back: the front end starts anew (a guest that rebooted its driver).
    pub fn init_wait(self) -> Result<Connection<InitWait>> {
        self.go()
    }
}
