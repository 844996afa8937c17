// SPDX-License-Identifier: GPL-2.0

//! The network back end: an interface of this domain, `vifD.N`, at whose other end is the interface
//! of a guest.
//!
//! # The way of a packet
//!
//! ```text
//! guest ──event──▶ queue.rs ──▶ tx.rs ──▶ protocol::netif ──▶ net::copy ──▶ the stack
//!                  polls        reads      checks              copies
//! guest ◀── net::copy ◀── protocol::netif ◀── rx.rs ◀── queue.rs ◀── vif.rs ◀── the stack
//!           copies         makes entries       thread    waits        gets
//! ```
//!
//! The names are the guest's: it transmits what we receive.
//!
//! - `vif.rs`: the interface, as the stack sees it.
//! - `queue.rs`: one queue of it: packets that wait for the guest, events.
//! - `tx.rs`: what the guest transmits, polled in soft interrupt context; `credit.rs`: how much of it.
//! - `rx.rs`: what the guest receives, served by a thread.
//! - `control.rs`: how the guest wants packets spread over its queues.
//! - `rings.rs`: the start and the end of the rings.
//! - `connect.rs`: all that is read from and written to xenstore.
//! - `debug.rs`: what debugfs shows.
//! - `link.rs`: the states of the connection; this file: the driver on the bus.
//! - `params.rs`: the module's parameters, the one file that is not safe Rust.
//!
//! # The states
//!
//! Two things must have come before there is a connection: the hotplug script has put the interface
//! where it belongs (`hotplug-status`, watched), and the front end has published its rings. The one
//! that comes last connects. Both are looked at in the xenwatch thread, probe and remove under the
//! device's lock.
//!
//! When the driver lets go of a device that is in use, it says `InitWait`: the front end keeps its
//! rings, and sends nothing until somebody serves them.
//!
//! Lock order: `link`, then the lock under which interfaces are configured, then the locks of a queue.
//!
//! C header: [`include/xen/interface/io/netif.h`](srctree/include/xen/interface/io/netif.h)

mod connect;
mod control;
mod credit;
mod debug;
mod link;
mod params;
mod queue;
mod rings;
mod rx;
mod tx;
mod vif;

use kernel::{dev_info, new_mutex, sync::Mutex};
use link::Link;
use rings::Rings;
use vif::Vif;
use xenbus::{
    connection::Connection,
    driver::UeventEnv,
    net,
    prelude::*,
    protocol::state::{self, BackAction, OutOfOrder},
    watch::Watch,
};

module! {
    type: Module,
    name: "netback",
    authors: ["The Xen split drivers in Rust"],
    description: "Xen network back end",
    license: "GPL",
    alias: ["xen-backend:vif"],
}

#[pin_data]
struct Module {
    #[pin]
    registration: Registration<Netback>,
    // After all that is in it.
    debug: params::DebugDir,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Module {
            debug: params::DebugDir::new(),
            registration <- Registration::new(module),
        })
    }
}

/// One virtual interface of one guest.
#[pin_data]
pub(crate) struct Netback {
    dev: ARef<Device>,
    /// The front end's directory in xenstore.
    otherend: CString,
    vif: Arc<Vif>,
    #[pin]
    link: Mutex<Link>,
    #[pin]
    outside: Mutex<Outside>,
}

/// What calls us, and so must go before we do.
#[derive(Default)]
struct Outside {
    watches: KVec<Watch>,
    interface: Option<net::Registration<Vif>>,
}

#[vtable]
impl Driver for Netback {
    const SIDE: Side = Side::Back;
    const NAME: &'static CStr = c"rust-netback";
    const DEVICE_TYPE: &'static CStr = c"vif";
    const ALLOW_REBIND: bool = true;

    fn probe(dev: &Device<Core>) -> Result<Arc<Self>> {
        let name = connect::vif_name(dev)?;
        let queues = params::max_queues();
        connect::offer(dev, queues)?;
        let vif = Vif::new(dev, &name, queues)?;
        let interface = vif.register(dev).inspect_err(|e| {
            dev.fatal(*e, fmt!("making the interface {}", &*name));
        })?;
        let otherend = CString::try_from(dev.otherend())?;
        let waiting = Connection::new(dev).init_wait()?;
        let this = Arc::pin_init(
            pin_init!(Netback {
                dev: dev.into(),
                otherend,
                vif,
                link <- new_mutex!(Link::Waiting(waiting)),
                outside <- new_mutex!(Outside::default()),
            }),
            GFP_KERNEL,
        )?;
        this.outside.lock().interface = Some(interface);
        if let Err(e) = this.watch() {
            this.end();
            return Err(e);
        }
        // Whoever runs the script does so now.
        dev.announce(true);
        Ok(this)
    }

    fn otherend_changed(this: &Arc<Self>, dev: &Device<Core>, state: XenbusState) -> After {
        let mut link = this.link.lock();
        if state == XenbusState::Reconfiguring {
            // One that is not served yet will be Connected again.
            if link.is_up() {
                this.vif
                    .shared()
                    .set_headroom(connect::headroom(&this.otherend));
                // An error has been told already.
                let _ = dev.switch_state(XenbusState::Reconfigured);
            }
            return After::Keep;
        }
        if state == XenbusState::Connected && dev.state() == XenbusState::Reconfigured {
            // So that another Reconfigured can be told from this one.
            let _ = dev.switch_state(XenbusState::Connected);
        }
        // To the protocol, which set-up this is makes no difference.
        let own = match dev.state() {
            XenbusState::Reconfigured => XenbusState::Connected,
            own => own,
        };
        if state == XenbusState::Initialising && !matches!(*link, Link::Waiting(_)) {
            // Another driver there: its rings are new ones, and those that we have are gone.
            link.change(|link| link.closed().wait());
            return After::Keep;
        }
        match state::back(own, state, dev.is_online()) {
            Ok(BackAction::Nothing) => {}
            Ok(BackAction::Wait) => link.change(Link::wait),
            Ok(BackAction::Connect) => this.connect(&mut link),
            Ok(BackAction::Close) => link.change(Link::broken),
            Ok(BackAction::Disconnect) => link.change(Link::closed),
            Ok(BackAction::Unregister) => {
                link.change(Link::closed);
                return After::Unregister;
            }
            // It has been told already.
            Err(_) if matches!(own, XenbusState::Closing | XenbusState::Closed) => {}
            Err(OutOfOrder { own, other }) => {
                dev.fatal(EINVAL, fmt!("front end {other:?} while this end {own:?}"));
                link.change(Link::broken);
            }
        }
        After::Keep
    }

    fn remove(this: &Arc<Self>, dev: &Device<Core>) {
        this.end();
        connect::let_go(dev);
        dev.announce(false);
        connect::forget_hotplug(dev);
    }

    fn uevent(dev: &Device, env: &UeventEnv) -> Result {
        if let Some(script) = connect::script(dev) {
            env.add(c"script", &script)?;
        }
        env.add(c"vif", &connect::vif_name(dev)?)
    }
}

impl Netback {
    /// Has all changes told to us.
    fn watch(self: &Arc<Self>) -> Result {
        let node = self.dev.nodename();
        let mut watches = KVec::with_capacity(3, GFP_KERNEL)?;
        let this = self.clone();
        let path = CString::try_from_fmt(fmt!("{node}/hotplug-status"))?;
        watches.push(
            Watch::new(path, move |_| this.hotplug_changed())?,
            GFP_KERNEL,
        )?;
        let this = self.clone();
        let path = CString::try_from_fmt(fmt!("{node}/rate"))?;
        watches.push(Watch::new(path, move |_| this.rate_changed())?, GFP_KERNEL)?;
        let this = self.clone();
        let otherend = &*self.otherend;
        let path = CString::try_from_fmt(fmt!("{otherend}/request-multicast-control"))?;
        watches.push(
            Watch::new(path, move |_| this.multicast_changed())?,
            GFP_KERNEL,
        )?;
        self.outside.lock().watches = watches;
        Ok(())
    }

    /// Ends the interface, and with it all that calls us.
    fn end(&self) {
        // Each is taken out under the lock and dropped without it.
        let watches = core::mem::take(&mut self.outside.lock().watches);
        drop(watches);
        // Not to `Closed`: the device may be bound again.
        self.link.lock().change(Link::removed);
        let interface = self.outside.lock().interface.take();
        drop(interface);
    }

    /// The hotplug script has done its part; or the watch is new.
    fn hotplug_changed(&self) {
        let mut link = self.link.lock();
        match connect::front_state(&self.otherend) {
            XenbusState::Initialised | XenbusState::Connected => self.connect(&mut link),
            _ => {}
        }
    }

    fn rate_changed(&self) {
        self.vif.set_rate(connect::rate(&self.dev));
    }

    fn multicast_changed(&self) {
        let wanted = connect::wants_multicast_control(&self.otherend);
        self.vif.shared().filter.enable(wanted);
    }

    /// Connects, if the hotplug script has done its part.
    fn connect(&self, link: &mut Link) {
        if !connect::is_hotplugged(&self.dev) {
            return;
        }
        link.change(Link::wait);
        if !matches!(link, Link::Waiting(_)) {
            return;
        }
        match self.start() {
            Ok(rings) => link.change(|link| link.connected(rings)),
            // What failed has been told already.
            Err(_) => link.change(Link::broken),
        }
    }

    /// All that makes a connection but the state. What fails is told to the toolstack.
    fn start(&self) -> Result<Rings> {
        let dev = &*self.dev;
        let front = connect::front(dev, &self.otherend, self.vif.queues().len() as u32)?;
        self.vif.set_rate(connect::rate(dev));
        let rings = Rings::start(dev, &self.vif, &front).inspect_err(|e| {
            dev.fatal(*e, fmt!("mapping the rings and binding the event channels"));
        })?;
        dev_info!(dev.dev(), "{} queue(s)\n", front.queues.len());
        Ok(rings)
    }
}
