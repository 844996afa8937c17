// SPDX-License-Identifier: GPL-2.0

//! Block front end: gives this guest the disks that another domain serves.
//!
//! The way of a request, file by file:
//!
//! 1. `mq.rs`: the block layer's interface; the only file that is not all safe Rust. Its C inlines
//!    are in `helpers.c`.
//! 2. `queue.rs`: takes a request from the block layer, and decides whether it is sent, waits or
//!    fails; takes the event that says that there are answers.
//! 3. `ring.rs`: grants the request's pages, writes it into the ring; reads the answer, checks it,
//!    ends the grants.
//!
//! And of a device: this file has its life, from probe to remove; `connect.rs` has what is read
//! from and written to xenstore.
//!
//! A device is in one of three lives. *Waiting*: it has no disk yet, or the domain was migrated and
//! the disk waits for its new back end. *Live*. *Gone*: requests fail. What takes time, or waits
//! for requests, is done by the device's work, not in the xenwatch thread, which all devices of
//! the domain share: to add the disk (which reads the partition table), to take it away.
//!
//! A detach that comes while the disk is open takes effect at the last close. A back end that goes
//! to `Closed`, or a device that is removed, does not wait: requests in flight fail.
//!
//! C header: [`include/xen/xenbus.h`](srctree/include/xen/xenbus.h); protocol: `xen/io/blkif.h`

use crate::{
    connect::Offer,
    mq::{Config, Disk, Major, Minors, TagSet},
    queue::{Mode, Queue},
    ring::RING_SIZE,
};
use kernel::{
    prelude::*,
    sync::{new_mutex, Mutex},
};
use xenbus::{
    prelude::*,
    protocol::{
        blkif::MAX_SEGMENTS,
        negotiate::{BadKey, Flush},
        state::{self, FrontAction},
        vdev::{Name, Vdev, XENVBD_MAJOR},
    },
    work::Work,
};

mod connect;
mod mq;
mod queue;
mod ring;

/// A device.
#[pin_data]
pub(crate) struct Blkfront {
    dev: ARef<Device>,
    vdev: Vdev,
    name: Name,
    queue: Arc<Queue>,
    /// Not held over anything that waits for requests.
    #[pin]
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    disk: Option<Arc<Disk<Queue>>>,
    minors: Option<Minors>,
    sector_size: u32,
    flush: Flush,
    todo: Todo,
    closing: Closing,
    /// Whoever waits for the device at boot need not wait any longer.
    ready: bool,
}

/// What the device's work is to do.
#[derive(Default)]
struct Todo {
    /// Show the new disk to the world.
    add: bool,
    /// Tell the block layer how to flush.
    cache: bool,
}

/// Whether the device is on its way out.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Closing {
    #[default]
    No,
    /// It goes at the last close.
    WhenIdle,
    /// The back end has gone.
    Lost,
    /// It has gone.
    Done,
}

#[vtable]
impl Driver for Blkfront {
    const SIDE: Side = Side::Front;
    const NAME: &'static CStr = c"blkfront";
    const DEVICE_TYPE: &'static CStr = c"vbd";

    fn probe(dev: &Device<Core>) -> Result<Arc<Self>> {
        let number = connect::read_vdev(dev).inspect_err(|e| {
            dev.fatal(*e, fmt!("reading virtual-device"));
        })?;
        let vdev = Vdev::new(number).map_err(|_| {
            dev.fatal(
                ENODEV,
                fmt!("virtual device {number:#x} is of no kind that is known"),
            );
            ENODEV
        })?;
        // An HVM guest has its CD-ROM drives, and disks that were not unplugged, emulated.
        if mq::is_hvm_domain() {
            let foreign = !vdev.extended && number >> 8 != XENVBD_MAJOR;
            if (mq::has_emulated_disks() && foreign) || connect::is_cdrom(dev).unwrap_or(true) {
                return Err(ENODEV);
            }
        }

        let queue = Queue::new(dev, connect::handle(dev))?;
        let kept: ARef<Device> = dev.into();
        let this = Arc::pin_init(
            pin_init!(Self {
                dev: kept,
                vdev,
                name: vdev.name(),
                queue,
                state <- new_mutex!(State::default()),
            }),
            GFP_KERNEL,
        )?;
        // A cycle of references, which `remove` undoes.
        let worker = this.clone();
        let work = Work::new(move || worker.work())?;
        *this.queue.chore().lock() = Some(work);
        Ok(this)
    }

    fn otherend_changed(this: &Arc<Self>, dev: &Device<Core>, other: XenbusState) -> After {
        this.back_changed(dev, other);
        After::Keep
    }

    fn remove(this: &Arc<Self>, dev: &Device<Core>) {
        // Taken from a back end that is well (by an unbind), the disk may write back what is dirty.
        // Otherwise its users are told, and nothing is waited for: this may be the xenwatch thread,
        // which all devices share.
        let lost = !this.queue.in_use()
            || !this.queue.is_well()
            || dev.has_vanished()
            || dev.otherend_state() != XenbusState::Connected;
        if lost {
            this.queue.shut(true);
            this.queue.disconnect(Mode::Gone);
        }
        let work = this.queue.chore().lock().take();
        drop(work);
        let (disk, minors) = {
            let mut state = this.state.lock();
            state.closing = Closing::Done;
            (state.disk.take(), state.minors.take())
        };
        if let Some(disk) = &disk {
            disk.remove(lost);
        }
        this.queue.shut(true);
        this.queue.disconnect(Mode::Gone);
        // Not before: what starts its queue has gone now.
        drop(disk);
        drop(minors);
    }

    fn resume(this: &Arc<Self>, _dev: &Device<Core>) -> Result {
        let mut state = this.state.lock();
        match state.closing {
            // The disk is on its way out, and stays so.
            Closing::Lost => return Ok(()),
            // There is no disk any more; the new back end may offer one.
            Closing::Done => this.queue.reopen(),
            Closing::No | Closing::WhenIdle => {}
        }
        // Whoever wanted the device to go was the old toolstack.
        state.closing = Closing::No;
        drop(state);
        // What was in flight is sent anew when the new back end is `Connected`, to which
        // `otherend_changed` leads as it did the first time.
        this.queue.disconnect(Mode::Waiting);
        Ok(())
    }

    fn is_ready(this: &Arc<Self>, _dev: &Device<Core>) -> bool {
        this.state.lock().ready
    }
}

impl Blkfront {
    /// The back end has gone to state `other`.
    fn back_changed(&self, dev: &Device<Core>, other: XenbusState) {
        let own = dev.state();
        // Also across a migration: what was lost before it is taken away first.
        if self.state.lock().closing == Closing::Lost {
            return;
        }
        match (own, other) {
            (XenbusState::Closed, _) => return,
            (_, XenbusState::Closed) => return self.lost(),
            // Also when the system's shutdown has made our state `Closing`.
            (_, XenbusState::Closing) => return self.close(dev),
            _ => {}
        }
        let done = match state::front(own, other) {
            Ok(FrontAction::Nothing) => Ok(()),
            Ok(FrontAction::Publish) => self.publish(dev),
            Ok(FrontAction::Connect) => self.connect(dev),
            Ok(FrontAction::PublishAndConnect) => {
                self.publish(dev).and_then(|()| self.connect(dev))
            }
            Ok(FrontAction::Resize) => self.resize(dev),
            Ok(FrontAction::Close) => return self.close(dev),
            Err(_) => {
                dev.fatal(
                    EINVAL,
                    fmt!("back end went to {other:?} while we were {own:?}"),
                );
                self.lost();
                Ok(())
            }
        };
        if done.is_err() {
            // The message is written already.
            self.lost();
        }
    }

    /// Makes a ring and tells the back end.
    fn publish(&self, dev: &Device<Core>) -> Result {
        connect::publish_ring(dev, &self.queue).inspect_err(|e| {
            dev.fatal(*e, fmt!("setting up the ring"));
        })?;
        dev.switch_state(XenbusState::Initialised)
    }

    /// Goes live: the back end has taken the ring and says what the disk is like.
    fn connect(&self, dev: &Device<Core>) -> Result {
        let offer = connect::read_offer(dev).map_err(|bad| bad_key(dev, bad))?;
        let known = self.state.lock().disk.clone();
        match known {
            // The disk of before a migration.
            Some(disk) => {
                let mut state = self.state.lock();
                if offer.disk.sector_size != state.sector_size {
                    let (old, new) = (state.sector_size, offer.disk.sector_size);
                    drop(state);
                    dev.fatal(EINVAL, fmt!("sectors of {new} bytes, not {old} as before"));
                    return Err(EINVAL);
                }
                state.todo.cache = true;
                drop(state);
                disk.set_capacity(offer.disk.sectors);
            }
            None => self.make_disk(&offer).inspect_err(|e| {
                dev.fatal(*e, fmt!("making the disk {}", self.name.as_str()));
            })?,
        }
        self.state.lock().flush = offer.flush;
        self.queue.go_live(offer.flush);
        dev.switch_state(XenbusState::Connected)?;
        self.queue.queue_chore();
        Ok(())
    }

    fn make_disk(&self, offer: &Offer) -> Result {
        let minors = Minors::new(self.vdev.minor, self.vdev.minors)?;
        let config = Config {
            name: self.name.as_str(),
            major: XENVBD_MAJOR,
            first_minor: self.vdev.minor,
            minors: self.vdev.minors,
            capacity: offer.disk.sectors,
            read_only: offer.disk.read_only,
            removable: offer.disk.removable,
            block_size: (offer.disk.sector_size, offer.disk.physical_sector_size),
            write_cache: offer.flush.flush(),
            fua: offer.flush.fua(),
            max_segments: MAX_SEGMENTS as u16,
        };
        let tags = Arc::pin_init(TagSet::new(1, RING_SIZE as u32), GFP_KERNEL)?;
        let disk = Disk::new(&config, tags, self.queue.clone())?;
        self.queue.set_wakeup(disk.queue()?)?;
        let disk = Arc::new(disk, GFP_KERNEL)?;

        dev_info!(
            self.dev.dev(),
            "{}: {} sectors, flush: {:?}\n",
            self.name.as_str(),
            offer.disk.sectors,
            offer.flush
        );
        let mut state = self.state.lock();
        state.disk = Some(disk);
        state.minors = Some(minors);
        state.sector_size = offer.disk.sector_size;
        state.todo.add = true;
        Ok(())
    }

    /// The back end says `Connected` again: the size may have changed.
    fn resize(&self, dev: &Device<Core>) -> Result {
        let (disk, sector_size) = {
            let state = self.state.lock();
            if state.closing == Closing::Done {
                return Ok(());
            }
            (state.disk.clone(), state.sector_size)
        };
        // A size that cannot be is no reason to lose the disk as it is.
        if let (Some(disk), Ok(sectors)) = (disk, connect::read_capacity(dev, sector_size)) {
            disk.set_capacity(sectors);
        }
        Ok(())
    }

    /// The toolstack, or the back end, wants the device to go.
    fn close(&self, dev: &Device<Core>) {
        if self.queue.is_broken() {
            // Its users wait for what the back end does not give back: they would never close it.
            return self.lost();
        }
        {
            let mut state = self.state.lock();
            if state.closing != Closing::No {
                return;
            }
            state.closing = Closing::WhenIdle;
        }
        // An error here leaves the state as it is; the device closes nevertheless.
        let _ = dev.switch_state(XenbusState::Closing);
        if self.queue.in_use() && !mq::is_shutting_down() {
            dev.error(
                EBUSY,
                fmt!(
                    "{} is in use; it goes when it is closed",
                    self.name.as_str()
                ),
            );
        }
        self.queue.queue_chore();
    }

    /// The back end has gone, or is not fit to be talked to: nothing is in flight any more.
    fn lost(&self) {
        {
            let mut state = self.state.lock();
            if state.closing == Closing::Done {
                drop(state);
                // In case a fatal error has written `Closing` since.
                return self.dev.frontend_closed();
            }
            state.closing = Closing::Lost;
        }
        self.queue.shut(true);
        self.queue.disconnect(Mode::Gone);
        self.queue.queue_chore();
    }

    /// The device's work.
    fn work(&self) {
        let (disk, todo) = {
            let mut state = self.state.lock();
            (state.disk.clone(), core::mem::take(&mut state.todo))
        };
        if let Some(disk) = disk {
            if todo.add {
                self.add(&disk);
            }
            self.set_cache(&disk, todo.cache);
        }
        self.close_if_due();
    }

    /// Shows the disk to everybody.
    fn add(&self, disk: &Disk<Queue>) {
        let added = disk.add(self.dev.dev());
        let mut state = self.state.lock();
        state.ready = true;
        if let Err(e) = added {
            state.closing = Closing::Lost;
            drop(state);
            self.dev.fatal(e, fmt!("adding {}", self.name.as_str()));
        }
    }

    /// Tells the block layer how to flush, if that has changed.
    fn set_cache(&self, disk: &Disk<Queue>, changed: bool) {
        let revoked = self.queue.take_revoked();
        let flush = {
            let mut state = self.state.lock();
            if revoked {
                state.flush = Flush::None;
            }
            state.flush
        };
        if revoked {
            dev_warn!(self.dev.dev(), "the back end does not flush any more\n");
        }
        if revoked || changed {
            if let Err(e) = disk.set_cache(flush.flush(), flush.fua()) {
                dev_warn!(self.dev.dev(), "changing the write cache: {e:?}\n");
            }
        }
    }

    /// Takes the disk away, if that is due now, and closes the connection.
    fn close_if_due(&self) {
        let closing = self.state.lock().closing;
        let down = mq::is_shutting_down();
        let lost = closing == Closing::Lost || self.queue.is_broken();
        let due = match closing {
            Closing::No | Closing::Done => false,
            Closing::Lost => true,
            Closing::WhenIdle => self.queue.shut(down) || down || lost,
        };
        if !due {
            return;
        }
        // Nobody has it open, so nothing is in flight that anybody misses; and nothing is waited
        // for that a back end could withhold.
        self.queue.shut(true);
        self.queue.disconnect(Mode::Gone);
        if !down {
            let (disk, minors) = {
                let mut state = self.state.lock();
                (state.disk.take(), state.minors.take())
            };
            if let Some(disk) = disk {
                disk.remove(lost);
            }
            drop(minors);
        }
        let mut state = self.state.lock();
        state.closing = Closing::Done;
        state.ready = true;
        drop(state);
        self.dev.frontend_closed();
    }
}

/// Says what is wrong with the back end's description of the disk.
fn bad_key(dev: &Device, bad: BadKey) -> Error {
    match bad.value {
        Some(value) => dev.fatal(EINVAL, fmt!("the back end's {} is {value}", bad.key)),
        None => dev.fatal(EINVAL, fmt!("the back end's {} is missing", bad.key)),
    }
    EINVAL
}

module! {
    type: Module,
    name: "blkfront",
    authors: ["The Xen split drivers in Rust"],
    description: "Xen block front end in Rust",
    license: "GPL",
    alias: ["xen:vbd", "xenblk"],
}

/// The loaded module. Its fields are dropped in this order.
#[pin_data]
struct Module {
    #[pin]
    driver: Registration<Blkfront>,
    freed: AllFreed,
    major: Major,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            major: Module::major()?,
            freed: AllFreed,
            driver <- Registration::new(module),
        })
    }
}

impl Module {
    fn major() -> Result<Major> {
        if !mq::has_pv_disks() {
            return Err(ENODEV);
        }
        Major::new(XENVBD_MAJOR, c"xvd").inspect_err(|_| {
            pr_err!("major {XENVBD_MAJOR} is in use; is xen-blkfront loaded?\n");
        })
    }
}

/// Waits, when it is dropped, until the block layer has forgotten all disks.
struct AllFreed;

impl Drop for AllFreed {
    fn drop(&mut self) {
        mq::wait_until_freed();
    }
}
