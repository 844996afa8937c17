// SPDX-License-Identifier: GPL-2.0

//! Block front end: gives this guest the disks that another domain serves.
//!
//! The way of a request, file by file:
//!
//! 1. `mq.rs`, `mq/`: the block layer's interface; the only part that is not all safe Rust. Its C
//!    inlines are in `helpers.c`.
//! 2. `queue.rs`: finds the hardware queue; `hwqueue.rs`: decides whether the request is sent, waits
//!    or fails, and takes the event that says that there are answers.
//! 3. `ring.rs`: what is in the ring; `transport.rs`: gives the back end access to the data, checks
//!    the answer, ends the access. `pages.rs`: pages of our own that data goes through, and
//!    `features.rs`: what the back end can do until it takes that back.
//!
//! And of a device: this file has its life, from probe to remove; `connect.rs` has what is read
//! from and written to xenstore, `disk.rs` makes a disk of that.
//!
//! A device is in one of three lives. *Waiting*: it has no disk yet, or the domain was migrated and
//! the disk waits for its new back end. *Live*. *Gone*: requests fail. What takes time, or waits
//! for requests, is done by the device's work, not in the xenwatch thread, which all devices of
//! the domain share: to add the disk (which reads the partition table), to take it away.
//!
//! When the domain of the back end dies, and the device comes again with a new one, the disk is kept:
//! see `kept.rs`.
//!
//! A detach that comes while the disk is open takes effect at the last close. When the back end goes
//! to `Closed`, or a device is removed and not kept, nothing is waited for and requests in flight
//! fail; only a device that is unbound from a healthy back end writes back first, as long as there are
//! answers.
//!
//! C header: [`include/xen/xenbus.h`](srctree/include/xen/xenbus.h); protocol: `xen/io/blkif.h`

use crate::{
    connect::Published,
    hwqueue::Mode,
    mq::{Disk, Major, Minors, Params, TagSet},
    queue::Queues,
};
use kernel::{
    prelude::*,
    sync::{new_mutex, Mutex},
};
use xenbus::{
    delayed::DelayedWork,
    keep, noio,
    prelude::*,
    protocol::{
        negotiate::{Discard, Flush},
        state::{self, FrontAction},
        vdev::{Name, Vdev, XENVBD_MAJOR},
    },
    work::Work,
};

mod connect;
mod disk;
mod features;
mod hwqueue;
mod kept;
mod mq;
mod pages;
mod queue;
mod ring;
mod transport;

/// A device.
#[pin_data]
pub(crate) struct Blkfront {
    /// Changes when the disk is adopted.
    #[pin]
    dev: Mutex<ARef<Device>>,
    vdev: Vdev,
    name: Name,
    queues: Arc<Queues>,
    /// Not held over anything that waits for requests.
    #[pin]
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    disk: Option<Arc<Disk<Queues>>>,
    tags: Option<Arc<TagSet<Queues>>>,
    minors: Option<Minors>,
    published: Option<Published>,
    sector_size: u32,
    flush: Flush,
    discard: Option<Discard>,
    max_segments: u16,
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
    /// Tell the block layer what requests may be like.
    limits: bool,
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
        if let Some(this) = noio::scope(|| keep::adopt(dev)) {
            return Ok(this);
        }
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

        let most = Params::now().max_queues();
        let queues = Queues::new(dev, connect::handle(dev), most)?;
        let kept: ARef<Device> = dev.into();
        let this = Arc::pin_init(
            pin_init!(Self {
                dev <- new_mutex!(kept),
                vdev,
                name: vdev.name(),
                queues,
                state <- new_mutex!(State::default()),
            }),
            GFP_KERNEL,
        )?;
        // A cycle of references, which `remove` undoes.
        let worker = this.clone();
        let work = Work::new(move || worker.work())?;
        let queues = this.queues.clone();
        let purge = DelayedWork::new(move || queues.purge())?;
        {
            let mut chores = this.queues.chores().lock();
            chores.work = Some(work);
            chores.purge = Some(purge);
        }
        Ok(this)
    }

    fn otherend_changed(this: &Arc<Self>, dev: &Device<Core>, other: XenbusState) -> After {
        this.back_changed(dev, other);
        After::Keep
    }

    fn remove(this: &Arc<Self>, dev: &Device<Core>) {
        if noio::scope(|| keep::keep(this, dev)) {
            return;
        }
        // Taken from a back end that is well (by an unbind), the disk may write back what is dirty.
        // Otherwise its users are told, and nothing is waited for: this may be the xenwatch thread,
        // which all devices share.
        let lost = !this.queues.in_use()
            || !this.queues.is_well()
            || dev.has_vanished()
            || dev.otherend_state() != XenbusState::Connected;
        this.end(lost);
    }

    fn resume(this: &Arc<Self>, _dev: &Device<Core>) -> Result {
        let mut state = this.state.lock();
        match state.closing {
            // The disk is on its way out, and stays so.
            Closing::Lost => return Ok(()),
            // There is no disk any more; the new back end may offer one.
            Closing::Done => this.queues.reopen(),
            Closing::No | Closing::WhenIdle => {}
        }
        // Whoever wanted the device to go was the old toolstack.
        state.closing = Closing::No;
        drop(state);
        // What was in flight is sent anew when the new back end is `Connected`, to which
        // `otherend_changed` leads as it did the first time.
        this.queues.disconnect(Mode::Waiting);
        Ok(())
    }

    fn is_ready(this: &Arc<Self>, _dev: &Device<Core>) -> bool {
        this.state.lock().ready
    }
}

impl Blkfront {
    /// The device, as it is now.
    fn dev(&self) -> ARef<Device> {
        self.dev.lock().clone()
    }

    /// Ends the device, and takes its disk away. If it is `lost`, nothing is waited for.
    fn end(&self, lost: bool) {
        if lost {
            self.queues.shut(true);
            self.queues.disconnect(Mode::Gone);
        }
        let chores = core::mem::take(&mut *self.queues.chores().lock());
        if !lost {
            // Without memory for that, whoever unbinds must have patience himself.
            let _ = self.queues.limit_silence();
        }
        // The work may be at the scan for partitions.
        drop(chores);
        let (disk, minors) = {
            let mut state = self.state.lock();
            state.closing = Closing::Done;
            state.tags = None;
            (state.disk.take(), state.minors.take())
        };
        if let Some(disk) = &disk {
            disk.remove(lost);
        }
        let patience = self.queues.chores().lock().patience.take();
        drop(patience);
        self.queues.shut(true);
        self.queues.disconnect(Mode::Gone);
        self.queues.forget();
        // Not before: what starts its queue has gone now.
        drop(disk);
        drop(minors);
    }

    /// The back end has gone to state `other`.
    fn back_changed(&self, dev: &Device<Core>, other: XenbusState) {
        let own = dev.state();
        // Also across a migration: what was lost before it is taken away first.
        if self.state.lock().closing == Closing::Lost {
            return;
        }
        match (own, other) {
            (XenbusState::Closed, _) => {
                if other == XenbusState::Closed {
                    self.queues.forget();
                }
                return;
            }
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

    /// The toolstack, or the back end, wants the device to go.
    fn close(&self, dev: &Device<Core>) {
        if self.queues.is_broken() {
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
        if self.queues.in_use() && !mq::is_shutting_down() {
            dev.error(
                EBUSY,
                fmt!(
                    "{} is in use; it goes when it is closed",
                    self.name.as_str()
                ),
            );
        }
        self.queues.shared().queue_chore();
    }

    /// The back end has gone, or is not fit to be talked to: nothing is in flight any more.
    fn lost(&self) {
        {
            let mut state = self.state.lock();
            if state.closing == Closing::Done {
                drop(state);
                // In case a fatal error has written `Closing` since.
                return self.dev().frontend_closed();
            }
            state.closing = Closing::Lost;
        }
        self.queues.shut(true);
        self.queues.disconnect(Mode::Gone);
        self.queues.shared().queue_chore();
    }

    /// The device's work.
    fn work(&self) {
        self.queues.give_up_if_broken();
        let (disk, todo) = {
            let mut state = self.state.lock();
            (state.disk.clone(), core::mem::take(&mut state.todo))
        };
        if let Some(disk) = disk {
            if todo.add {
                self.add(&disk);
            }
            self.set_limits(&disk, todo.limits);
        }
        self.close_if_due();
    }

    /// Takes the disk away, if that is due now, and closes the connection.
    fn close_if_due(&self) {
        let closing = self.state.lock().closing;
        let down = mq::is_shutting_down();
        let lost = closing == Closing::Lost || self.queues.is_broken();
        let due = match closing {
            Closing::No | Closing::Done => false,
            Closing::Lost => true,
            Closing::WhenIdle => self.queues.shut(down) || down || lost,
        };
        if !due {
            return;
        }
        // Nobody has it open, so nothing is in flight that anybody misses; and nothing is waited
        // for that a back end could withhold.
        self.queues.shut(true);
        self.queues.disconnect(Mode::Gone);
        if !down {
            let (disk, minors) = {
                let mut state = self.state.lock();
                state.tags = None;
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
        self.dev().frontend_closed();
    }
}

module! {
    type: Module,
    name: "blkfront",
    authors: ["The Xen split drivers in Rust"],
    description: "Xen block front end in Rust",
    license: "GPL",
    alias: ["xen:vbd", "xenblk", "block-major-202-*"],
}

/// The loaded module. Its fields are dropped in this order.
#[pin_data]
struct Module {
    #[pin]
    driver: Registration<Blkfront>,
    shelf: keep::Shelf<Blkfront>,
    freed: AllFreed,
    major: Major,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            major: Module::major()?,
            freed: AllFreed,
            shelf: keep::Shelf::new()?,
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
