// SPDX-License-Identifier: GPL-2.0

//! The block back end: serves a block device of this domain to a front end in another one.
//!
//! # The way of a request
//!
//! ```text
//! event ──▶ queue.rs ──▶ protocol::blkif ──▶ stage.rs ──▶ bio.rs ──▶ disk
//!           pops it       checks it           maps its     makes a
//!                                             pages        bio
//! event ◀── queue.rs ◀───────────────────── stage.rs ◀── bio.rs ◀── disk
//!           answers it                        unmaps       gets it
//!                                             them         back
//! ```
//!
//! - `queue.rs`: the thread that serves the ring of a queue, from the event to the response.
//! - `stage.rs`: where checked requests are carried out; `grants.rs`: the pages of the guest.
//! - `bio.rs`, `bio/`: the glue to the block layer, sysfs and the module's parameters, all that is
//!   not safe Rust.
//! - `ring.rs`: the start and the end of a disk's rings; `session.rs`: what they have in common.
//! - `vbd.rs`: the virtual disk.
//! - `tap.rs`: where a tap comes between the queues and the stage.
//! - `connect.rs`: all that is read from and written to xenstore.
//! - `link.rs`: the states of the connection; this file: the driver on the bus.
//!
//! # The states
//!
//! Two things must have come before a ring is served: the hotplug script has written which device
//! is behind the disk (`physical-device`, watched), and the front end has published its ring. The
//! one that comes last connects. Both are looked at in the xenwatch thread, probe and remove under
//! the device's lock.
//!
//! Lock order: `link`, then `vbd`. Neither is held when a watch, the files in sysfs or the device
//! go, which wait for callbacks that take them.
//!
//! C header: [`include/xen/interface/io/blkif.h`](srctree/include/xen/interface/io/blkif.h)

mod bio;
mod connect;
mod grants;
mod link;
mod queue;
mod ring;
mod session;
mod stage;
pub mod tap;
mod vbd;

use bio::params;
use connect::Offers;
use kernel::{dev_info, dev_warn, new_mutex, sync::Mutex, time::msecs_to_jiffies};
use link::Link;
use ring::Rings;
use tap::Slot;
use vbd::{Number, Vbd};
use xenbus::{
    connection::Connection,
    delayed::DelayedWork,
    kthread::jiffies,
    prelude::*,
    protocol::{
        spin,
        state::{self, BackAction, OutOfOrder},
        tap::ioctl::Geometry,
    },
    waker,
    watch::Watch,
};

module! {
    type: Module,
    name: "blkback",
    authors: ["The Xen split drivers in Rust"],
    description: "Xen block back end",
    license: "GPL",
    alias: ["xen-backend:vbd"],
}

/// The fields go in their order: rings are left by devices that are removed.
#[pin_data]
struct Module {
    #[pin]
    registration: Registration<Blkback>,
    left: bio::Left,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        bio::params::init();
        bio::slots::init();
        try_pin_init!(Module {
            left: bio::Left::new(),
            registration <- Registration::new(module),
        })
    }
}

/// One virtual disk of one guest.
#[pin_data]
pub(crate) struct Blkback {
    dev: ARef<Device>,
    /// The front end's directory in xenstore.
    otherend: CString,
    /// What the front end may choose of.
    offers: Offers,
    #[pin]
    link: Mutex<Link>,
    /// What is served, once the hotplug script has said so.
    #[pin]
    vbd: Mutex<Option<Arc<Vbd>>>,
    /// The place for a tap.
    place: Arc<Slot>,
    #[pin]
    outside: Mutex<Outside>,
}

/// What calls us, and so must go before we do.
#[derive(Default)]
struct Outside {
    watch: Option<Watch>,
    /// Closes the connection when the disk has finished what it was slow with.
    closer: Option<DelayedWork>,
    attributes: Option<bio::Attributes>,
}

#[vtable]
impl Driver for Blkback {
    const SIDE: Side = Side::Back;
    const NAME: &'static CStr = c"rust-blkback";
    const DEVICE_TYPE: &'static CStr = c"vbd";
    const ALLOW_REBIND: bool = true;

    fn probe(dev: &Device<Core>) -> Result<Arc<Self>> {
        let offers = Offers {
            queues: params::max_queues(),
            ring_order: params::max_ring_order(),
        };
        let (domid, handle) = connect::numbers(dev)?;
        let place = Slot::new(domid, handle, offers.queues)?;
        connect::offer(dev, &offers)?;
        let otherend = CString::try_from(dev.otherend())?;
        let waiting = Connection::new(dev).init_wait()?;
        let this = Arc::pin_init(
            pin_init!(Blkback {
                dev: dev.into(),
                otherend,
                offers,
                link <- new_mutex!(Link::Waiting(waiting)),
                vbd <- new_mutex!(None),
                place,
                outside <- new_mutex!(Outside::default()),
            }),
            GFP_KERNEL,
        )?;
        let watcher = this.clone();
        let path = CString::try_from_fmt(fmt!("{}/physical-device", dev.nodename()))?;
        let watch = Watch::new(path, move |_| watcher.physical_device_changed())?;
        let closer = this.clone();
        let closer = DelayedWork::new(move || closer.close_when_done())?;
        bio::slots::add(&this.place)?;
        this.place.own(&this);
        let mut outside = this.outside.lock();
        outside.watch = Some(watch);
        outside.closer = Some(closer);
        drop(outside);
        Ok(this)
    }

    fn otherend_changed(this: &Arc<Self>, dev: &Device<Core>, state: XenbusState) -> After {
        let mut link = this.link.lock();
        let own = dev.state();
        match state::back(own, state, dev.is_online()) {
            Ok(BackAction::Nothing) => {}
            Ok(BackAction::Wait) => link.change(Link::wait),
            Ok(BackAction::Connect) => this.connect(&mut link),
            Ok(BackAction::Close) => link.change(Link::closing),
            Ok(BackAction::Disconnect) => {
                link.change(|link| link.closed(|| ()));
                if !link.is_closed() {
                    dev.error(EBUSY, fmt!("the disk has not finished its requests"));
                    this.queue_closer();
                }
            }
            Ok(BackAction::Unregister) => {
                // Whoever sees `Closed` finds the device behind the disk free.
                link.change(|link| link.closed(|| drop(this.vbd.lock().take())));
                if !link.is_closed() && state == XenbusState::Closed {
                    dev.error(EBUSY, fmt!("the disk has not finished its requests"));
                    this.queue_closer();
                    return After::Keep;
                }
                return After::Unregister;
            }
            // It has been told already.
            Err(_) if matches!(own, XenbusState::Closing | XenbusState::Closed) => {}
            Err(OutOfOrder { own, other }) => {
                this.fail(
                    &mut link,
                    EINVAL,
                    fmt!("front end {other:?} while this end {own:?}"),
                );
            }
        }
        After::Keep
    }

    fn reclaim_memory(this: &Arc<Self>, _dev: &Device<Core>) {
        let end = jiffies().wrapping_add(msecs_to_jiffies(params::squeeze_ms()) as u64);
        // Whoever holds the lock may be waiting for memory; there will be another call.
        if let Some(link) = this.link.try_lock() {
            if let Some(rings) = link.rings() {
                rings.squeeze(end);
            }
        }
    }

    fn remove(this: &Arc<Self>, _dev: &Device<Core>) {
        // Each is taken out under the lock and dropped without it.
        let watch = this.outside.lock().watch.take();
        drop(watch);
        let closer = this.outside.lock().closer.take();
        drop(closer);
        let attributes = this.outside.lock().attributes.take();
        drop(attributes);
        // The state node is left alone, so that the device may be bound again.
        bio::slots::remove(&this.place);
        this.link.lock().change(Link::removed);
        this.place.close();
        let vbd = this.vbd.lock().take();
        drop(vbd);
    }
}

/// How often a connection that could not be closed is looked at, in milliseconds.
const CLOSE_MS: u32 = 100;

impl Blkback {
    fn queue_closer(&self) {
        if let Some(closer) = &self.outside.lock().closer {
            closer.queue(CLOSE_MS);
        }
    }

    /// Closes the connection of a front end that has gone, once the disk has finished; then looks
    /// at what the front end wants, of which there will be no other word.
    fn close_when_done(&self) {
        let mut link = self.link.lock();
        if link.is_closed() {
            return;
        }
        if !link.has_ended() {
            drop(link);
            return self.queue_closer();
        }
        link.change(|link| link.closed(|| ()));
        match connect::front_state(&self.otherend) {
            XenbusState::Initialising => link.change(Link::wait),
            XenbusState::Initialised | XenbusState::Connected => self.connect(&mut link),
            _ => {}
        }
    }

    /// The hotplug script has written which device is behind the disk; or the watch is new.
    fn physical_device_changed(&self) {
        let mut link = self.link.lock();
        let number = match connect::physical_device(&self.dev) {
            Ok(Some(number)) => number,
            Ok(None) => return,
            Err(e) => return self.fail(&mut link, e, fmt!("reading physical-device")),
        };
        if let Some(vbd) = &*self.vbd.lock() {
            match vbd.number {
                Some(old) if old != number => dev_warn!(
                    self.dev.dev(),
                    "stays with device {old}, cannot change to {number}\n"
                ),
                Some(_) => {}
                None => dev_warn!(self.dev.dev(), "stays without a device\n"),
            }
            return;
        }
        match self.open(Some(number)) {
            Ok(vbd) => *self.vbd.lock() = Some(vbd),
            Err(e) => return self.fail(&mut link, e, fmt!("opening device {number}")),
        }
        match connect::front_state(&self.otherend) {
            XenbusState::Initialised | XenbusState::Connected => self.connect(&mut link),
            _ => {}
        }
        drop(link);

        // Without the files a disk works too.
        match bio::Attributes::new(&self.dev) {
            Ok(attributes) => self.outside.lock().attributes = Some(attributes),
            Err(e) => dev_warn!(self.dev.dev(), "no files in sysfs: {e:?}\n"),
        }
    }

    fn open(&self, number: Option<Number>) -> Result<Arc<Vbd>> {
        let mode = connect::mode(&self.dev)?;
        let cdrom = connect::is_cdrom(&self.otherend)?;
        Ok(Arc::new(
            Vbd::open(number, mode, cdrom, self.offers.queues, &self.place)?,
            GFP_KERNEL,
        )?)
    }

    /// A tap has said what the guest is to see.
    pub(crate) fn geometry_changed(&self) {
        let mut link = self.link.lock();
        if !matches!(*link, Link::Waiting(_) | Link::Closed(_)) {
            return;
        }
        match connect::front_state(&self.otherend) {
            XenbusState::Initialised | XenbusState::Connected => self.connect(&mut link),
            _ => {}
        }
    }

    /// What the guest sees, once that is known.
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        let vbd = self.vbd.lock().clone()?;
        Some(vbd.geometry(connect::discard_enabled(&self.dev)))
    }

    /// What is to be served: what the hotplug script has chosen, or what a tap serves by itself.
    fn vbd(&self) -> Option<Arc<Vbd>> {
        let mut vbd = self.vbd.lock();
        if vbd.is_none() && self.place.own_geometry().is_some() {
            match self.open(None) {
                Ok(new) => *vbd = Some(new),
                Err(e) => self
                    .dev
                    .error(e, fmt!("making a disk without a device behind it")),
            }
        }
        vbd.clone()
    }

    /// Connects, if the hotplug script or a tap has done its part.
    fn connect(&self, link: &mut Link) {
        let Some(vbd) = self.vbd() else {
            return;
        };
        link.change(Link::wait);
        if !matches!(link, Link::Waiting(_)) {
            return;
        }
        match self.start(&vbd) {
            Ok(ring) => link.change(|link| link.connected(ring)),
            // What failed has been told already; or the toolstack wants us to close.
            Err(_) => link.change(Link::closing),
        }
    }

    /// All that makes a connection but the state. What fails is told to the toolstack.
    fn start(&self, vbd: &Arc<Vbd>) -> Result<Rings> {
        let dev = &*self.dev;
        let front = connect::front(dev, &self.otherend, &self.offers)?;
        let failed = |what: &'static str| {
            move |e: Error| {
                dev.fatal(e, fmt!("{what}"));
                e
            }
        };
        if let Some(disk) = &vbd.disk {
            disk.drop_cache().map_err(failed("flushing the device"))?;
        }
        let name = connect::thread_name(dev).map_err(failed("naming the thread"))?;
        let geometry = vbd.geometry(connect::discard_enabled(dev));
        let limits = vbd::limits(&geometry);
        let rings = Rings::start(dev, vbd, &front, limits, &name).inspect_err(|e| {
            if *e == EBUSY {
                dev.fatal(*e, fmt!("the device has requests of an earlier ring"));
            } else {
                dev.fatal(*e, fmt!("mapping ring-ref and event-channel"));
            }
        })?;
        if !connect::publish(dev, vbd, &geometry, &front).map_err(failed("describing the disk"))? {
            return Err(ENODEV);
        }
        let persistent = match front.persistent {
            true => ", persistent grants",
            false => "",
        };
        let (count, abi) = (front.queues.len(), front.abi);
        match vbd.number {
            Some(number) => dev_info!(
                dev.dev(),
                "device {number}, {count} queue(s), {abi:?} ring{persistent}\n"
            ),
            None => dev_info!(
                dev.dev(),
                "no device, {count} queue(s), {abi:?} ring{persistent}\n"
            ),
        }
        Ok(rings)
    }

    /// Gives the connection up: tells the toolstack why, stops the ring, goes to `Closing`.
    fn fail(&self, link: &mut Link, err: Error, why: fmt::Arguments<'_>) {
        self.dev.fatal(err, why);
        link.change(Link::broken);
    }

    /// What the file `name` in sysfs holds.
    pub(crate) fn show(&self, name: &[u8]) -> Result<CString> {
        let vbd = self.vbd.lock().clone().ok_or(ENODEV)?;
        let text = match name {
            b"physical_device" => CString::try_from_fmt(fmt!("{}", vbd.number.ok_or(ENODEV)?)),
            b"mode" => CString::try_from_fmt(fmt!("{}", &*vbd.mode)),
            b"polling" => {
                let now = vbd.polling();
                let [a, b, c] = spin::Mode::ALL.map(|mode| mode.marked(now));
                CString::try_from_fmt(fmt!("{a} {b} {c}"))
            }
            _ => {
                let count = vbd.counter(name).ok_or(ENOENT)?;
                CString::try_from_fmt(fmt!("{count}"))
            }
        };
        text
    }

    /// Takes what has been written to the file `name` in sysfs.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what makes no sense.
    pub(crate) fn store(&self, name: &[u8], text: &str) -> Result {
        let vbd = self.vbd.lock().clone().ok_or(ENODEV)?;
        match name {
            b"polling" => vbd.set_polling(spin::Mode::parse(text).ok_or(EINVAL)?),
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}
