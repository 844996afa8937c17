// SPDX-License-Identifier: GPL-2.0

//! The network front end: gives this guest the interfaces that another domain serves.
//!
//! # The way of a packet
//!
//! - Sent: `interface.rs` gets it from the stack; `tx.rs` gives the back end access to its parts,
//!   and writes them into the ring; when the back end has answered for all of them, it is freed.
//! - Received: the back end writes into pages that `rx.rs` has given it access to; a poll of the queue
//!   (`queue.rs`) takes the access back, makes a packet of the pages, and gives it to the stack.
//!
//! `xdp.rs` has what decides on packets before the stack gets them.
//!
//! And of an interface: `connect.rs` has what is read from and written to xenstore, `rings.rs` the
//! start and the end of the rings; this file its life, from probe to remove; `kept.rs` what becomes
//! of it when the back end's domain has died. `params.rs` has the module's parameters; it is the one
//! file that is not safe Rust.
//!
//! A back end that says `InitWait` when it was connected, or nothing any more, has gone for the moment:
//! there is no carrier until it, or the next one, is `Connected`. The rings stay, and it goes on where
//! it has stopped. A back end in another domain gets new ones, and so does one that offers less than
//! before: for that the interface goes by way of `Closed`, from where both ends start again.
//!
//! All the checks of what the back end says are in [`xenbus::protocol::netif`]. A back end that breaks
//! the rules of a ring, or keeps a page mapped that it has answered for, is not used any more, and its
//! events are never enabled again.
//!
//! Lock order: `state`, then the lock under which interfaces are configured, then `Shared::xdp`, then
//! those of a queue.
//!
//! C header: [`include/xen/interface/io/netif.h`](srctree/include/xen/interface/io/netif.h)

mod connect;
mod interface;
mod kept;
mod params;
mod queue;
mod rings;
mod rx;
mod tx;
mod xdp;

use interface::Interface;
use kernel::{
    dev_info, dev_warn, new_mutex,
    sync::Mutex,
    time::{delay::fsleep, Delta},
};
use rings::Rings;
use xenbus::{
    keep, net,
    prelude::*,
    protocol::state::{self, FrontAction},
};

module! {
    type: Module,
    name: "netfront",
    authors: ["The Xen split drivers in Rust"],
    description: "Xen network front end",
    license: "GPL",
    alias: ["xen:vif", "xennet"],
}

#[pin_data]
struct Module {
    #[pin]
    registration: Registration<Netfront>,
    // After the driver has left the bus.
    shelf: keep::Shelf<Netfront>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Module {
            shelf: {
                if !params::has_pv_nics() {
                    return Err(ENODEV);
                }
                params::init_kept();
                keep::Shelf::new()?
            },
            registration <- Registration::new(module),
        })
    }
}

/// A device.
#[pin_data]
pub(crate) struct Netfront {
    interface: Arc<Interface>,
    #[pin]
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    registration: Option<net::Registration<Interface>>,
    rings: Option<Rings>,
    /// Closed only to be connected anew.
    again: bool,
    /// The back end has been `Connected` since the rings were made.
    served: bool,
}

#[vtable]
impl Driver for Netfront {
    const SIDE: Side = Side::Front;
    const NAME: &'static CStr = c"netfront";
    const DEVICE_TYPE: &'static CStr = c"vif";

    fn probe(dev: &Device<Core>) -> Result<Arc<Self>> {
        if let Some(this) = keep::adopt(dev) {
            return Ok(this);
        }
        let interface = Interface::new(dev, params::max_queues())?;
        let this = Arc::pin_init(
            pin_init!(Netfront {
                interface,
                state <- new_mutex!(State::default()),
            }),
            GFP_KERNEL,
        )?;
        // After another driver: the back end is to start again.
        let _ = dev.switch_state(XenbusState::Initialising);
        Ok(this)
    }

    fn otherend_changed(this: &Arc<Self>, dev: &Device<Core>, other: XenbusState) -> After {
        // What XDP has changed between the two ends makes no difference to the rest.
        let own = match dev.state() {
            XenbusState::Reconfiguring => XenbusState::Connected,
            own => own,
        };
        let other = match other {
            XenbusState::Reconfigured => XenbusState::Connected,
            other => other,
        };
        if this.starts_over(dev, own, other) {
            return After::Keep;
        }
        match state::front(own, other) {
            Ok(FrontAction::Publish) => this.connect(dev),
            Ok(FrontAction::Resize) => this.served(),
            Ok(FrontAction::Close) => this.close(dev, other),
            Ok(FrontAction::Nothing) if other == XenbusState::Closed => this.disconnect(),
            Ok(FrontAction::Nothing)
                if matches!(other, XenbusState::InitWait | XenbusState::Unknown) =>
            {
                this.unserved(other);
            }
            // A back end that is connected to what was here before will see us and start again.
            Ok(FrontAction::Nothing | FrontAction::Connect | FrontAction::PublishAndConnect) => {}
            Err(e) => {
                if !net::is_rate_limited() {
                    dev_warn!(
                        dev.dev(),
                        "back end went to {:?} while we were {:?}\n",
                        e.other,
                        e.own
                    );
                }
            }
        }
        After::Keep
    }

    fn remove(this: &Arc<Self>, dev: &Device<Core>) {
        if keep::keep(this, dev) {
            return;
        }
        this.interface.shared().net.set_carrier(false);
        if !dev.has_vanished() {
            this.switch_state(dev, XenbusState::Closing);
            wait_for_back_end(dev, |state| {
                matches!(
                    state,
                    XenbusState::Closing | XenbusState::Closed | XenbusState::Unknown
                )
            });
            this.switch_state(dev, XenbusState::Closed);
            wait_for_back_end(dev, |state| {
                matches!(
                    state,
                    XenbusState::Closed | XenbusState::InitWait | XenbusState::Unknown
                )
            });
        }
        this.end();
    }

    fn resume(this: &Arc<Self>, _dev: &Device<Core>) -> Result {
        // The back end is a new one, to which `otherend_changed` leads as it did the first time.
        this.interface.shared().net.detach();
        this.disconnect();
        Ok(())
    }
}

/// How long the back end may take to see that we go, in steps of 10 ms.
const PATIENCE: u32 = 300;

fn wait_for_back_end(dev: &Device<Core>, there: impl Fn(XenbusState) -> bool) {
    for _ in 0..PATIENCE {
        if there(dev.otherend_state()) {
            return;
        }
        fsleep(Delta::from_millis(10));
    }
}

impl Netfront {
    /// The back end is ready: makes rings, tells it of them, and shows the interface.
    fn connect(self: &Arc<Self>, dev: &Device<Core>) {
        // What fails has been told already.
        let _ = self.start(dev);
    }

    fn start(&self, dev: &Device<Core>) -> Result {
        let offer = connect::read_offer(dev, self.interface.queues().len() as u32)?;
        let failed = |what: &'static str| {
            move |e: Error| {
                dev.fatal(e, fmt!("{what}"));
                e
            }
        };
        let mut state = self.state.lock();
        state.rings = None;
        state.again = false;
        state.served = false;
        let shared = self.interface.shared();
        shared.set_offer(&offer);
        let rings = Rings::start(dev, &self.interface, &offer).map_err(failed("making rings"))?;
        if state.registration.is_none() {
            let registration = self
                .interface
                .register(dev, offer.mac)
                .map_err(failed("making the interface"))?;
            state.registration = Some(registration);
        } else {
            shared.net.set_mac(&offer.mac);
        }
        shared.net.update_features();
        // From here on the back end has to be told of a change of the program.
        let mut xdp = shared.xdp.lock();
        xdp.offered = offer.back.xdp_headroom;
        xdp.otherend = Some(CString::try_from(dev.otherend())?);
        xdp.device = Some(dev.into());
        connect::publish(dev, &rings, &offer, xdp.headroom())
            .map_err(failed("publishing the rings"))?;
        dev.switch_state(XenbusState::Connected)?;
        drop(xdp);
        state.rings = Some(rings);
        shared.net.attach();
        shared.net.set_carrier(true);
        self.interface.kick();
        Ok(())
    }

    /// The back end serves the rings; or does so again.
    fn served(&self) {
        let shared = self.interface.shared();
        let mut state = self.state.lock();
        if state.rings.is_none() || shared.is_broken() {
            return;
        }
        state.served = true;
        if !shared.net.has_carrier() {
            shared.net.set_carrier(true);
            if shared.is_broken() {
                // That has been found out meanwhile.
                shared.net.set_carrier(false);
                return;
            }
            self.interface.kick();
        }
        drop(state);
        shared.net.notify_peers();
    }

    /// Nobody serves the rings for the moment: the back end is away. One in `InitWait` that has not been
    /// `Connected` is still on its way there, and may be so any moment.
    fn unserved(&self, other: XenbusState) {
        let served = core::mem::take(&mut self.state.lock().served);
        if served || other == XenbusState::Unknown {
            self.interface.shared().net.set_carrier(false);
        }
    }

    /// Has both ends start again if the back end, which was another one when the rings were made, does
    /// not offer all that they need. True while that goes on.
    fn starts_over(&self, dev: &Device<Core>, own: XenbusState, other: XenbusState) -> bool {
        match (own, other) {
            // It may have been refused already what it does not offer any more.
            (
                XenbusState::Connected,
                XenbusState::InitWait | XenbusState::Connected | XenbusState::Closing,
            ) if self.lacks(dev) => {
                dev_info!(dev.dev(), "back end offers less than before\n");
                self.interface.shared().net.set_carrier(false);
                self.state.lock().again = true;
                // It answers with Closed: until then it may be at work on the rings.
                self.switch_state(dev, XenbusState::Closed);
                true
            }
            (XenbusState::Closed, XenbusState::Closed) if self.state.lock().again => {
                self.disconnect();
                self.switch_state(dev, XenbusState::Initialising);
                true
            }
            _ => false,
        }
    }

    /// Whether the back end does not offer any more what the rings were made for.
    fn lacks(&self, dev: &Device<Core>) -> bool {
        let state = self.state.lock();
        let Some(rings) = &state.rings else {
            return false;
        };
        connect::read_back(dev, self.interface.queues().len() as u32)
            .is_ok_and(|offer| !offer.keeps(rings.offer()))
    }

    /// The back end goes, or has gone.
    fn close(&self, dev: &Device<Core>, other: XenbusState) {
        self.interface.shared().net.set_carrier(false);
        if other == XenbusState::Closed {
            self.disconnect();
        }
        // Otherwise it may still have pages mapped: they are ours again when it is `Closed`.
        let _xdp = self.interface.shared().xdp.lock();
        dev.frontend_closed();
    }

    /// Takes the interface away.
    fn end(&self) {
        self.disconnect();
        let registration = self.state.lock().registration.take();
        drop(registration);
    }

    /// Changes this end's state, which is of no interest to who cannot do so.
    fn switch_state(&self, dev: &Device<Core>, state: XenbusState) {
        let _xdp = self.interface.shared().xdp.lock();
        let _ = dev.switch_state(state);
    }

    /// Ends the use of the rings.
    fn disconnect(&self) {
        let rings = self.state.lock().rings.take();
        drop(rings);
    }
}
