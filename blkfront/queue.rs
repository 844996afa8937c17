// SPDX-License-Identifier: GPL-2.0

//! The hardware queues of a device together, and what they share: who may open the disk, what the
//! back end can do, and the device's chores. It is here, since the block layer keeps [`Queues`] for
//! as long as anybody has the disk.
//!
//! Requests of hardware queue *i* go into ring *i*. After a migration there may be fewer rings than
//! hardware queues for a while, until the block layer has been told: then several queues share a
//! ring, and a request's id says which queue its tag is of.
//!
//! Locks: those of [`Shared`] are taken alone, or within that of [`HwQueue`].

use crate::{
    features::Features,
    hwqueue::{HwQueue, Mode},
    mq::{Operations, Refused, Request, RequestQueue},
    ring::Ring,
    transport::{Access, Terms, Transport},
};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::prelude::*;
use xenbus::{
    delayed::DelayedWork, lock::SpinLockIrq, new_spinlock_irq, prelude::*,
    protocol::blkif::MAX_SEGMENTS, work::Work,
};

/// How long a page is kept that nobody uses, in ms: at least this, less than twice as long.
const KEEP_MS: u32 = 10_000;

/// How long a back end may say nothing while the disk is taken away, in ms: at least this, less than
/// twice as long.
const SILENCE_MS: u32 = 30_000;

/// What the device's own threads do: there is nothing before the device is probed and after it is
/// removed.
#[derive(Default)]
pub(crate) struct Chores {
    /// What takes long.
    pub work: Option<Work>,
    /// Gives pages back that nobody uses.
    pub purge: Option<DelayedWork>,
    /// While the disk is taken from a back end that is well: sees to it that there are answers.
    pub patience: Option<DelayedWork>,
}

/// What the hardware queues of a device share.
#[pin_data]
pub(crate) struct Shared {
    dev: ARef<Device>,
    /// The number of the device, which its requests carry.
    handle: u16,
    features: Features,
    #[pin]
    users: SpinLockIrq<Users>,
    #[pin]
    chores: SpinLockIrq<Chores>,
}

#[derive(Default)]
struct Users {
    count: u32,
    /// Nobody is let in any more.
    shut: bool,
}

impl Shared {
    /// The device.
    pub(crate) fn dev(&self) -> &Device {
        &self.dev
    }

    /// What the back end can do.
    #[inline]
    pub(crate) fn features(&self) -> &Features {
        &self.features
    }

    /// Gets the device's work done soon. In any context.
    pub(crate) fn queue_chore(&self) {
        if let Some(work) = &self.chores.lock().work {
            work.queue();
        }
    }

    /// Has pages that nobody uses given back after a while. In any context.
    pub(crate) fn queue_purge(&self) {
        if let Some(purge) = &self.chores.lock().purge {
            purge.queue(KEEP_MS);
        }
    }
}

/// The hardware queues of a device.
pub(crate) struct Queues {
    shared: Arc<Shared>,
    /// As many as there may ever be.
    all: KVec<Arc<HwQueue>>,
    /// How many of them have a ring, at least 1; changes only while none is live.
    rings: AtomicU32,
    /// How many the block layer knows, 0: none yet.
    known: AtomicU32,
    /// Tags of a hardware queue.
    depth: AtomicU32,
    cdrom: AtomicBool,
}

impl Queues {
    /// `most` queues of `dev`, with no ring yet. Sleeps.
    pub(crate) fn new(dev: &Device, handle: u16, most: u32) -> Result<Arc<Self>> {
        let dev = dev.into();
        let shared = Arc::pin_init(
            pin_init!(Shared {
                dev,
                handle,
                features: Features::default(),
                users <- new_spinlock_irq!(Users::default(), "blkfront::Shared::users"),
                chores <- new_spinlock_irq!(Chores::default(), "blkfront::Shared::chores"),
            }),
            GFP_KERNEL,
        )?;
        let mut all = KVec::new();
        for _ in 0..most.max(1) {
            all.push(HwQueue::new(&shared)?, GFP_KERNEL)?;
        }
        let queues = Queues {
            shared,
            all,
            rings: AtomicU32::new(1),
            known: AtomicU32::new(0),
            depth: AtomicU32::new(0),
            cdrom: AtomicBool::new(false),
        };
        Ok(Arc::new(queues, GFP_KERNEL)?)
    }

    /// What the queues share.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The device's chores.
    pub(crate) fn chores(&self) -> &SpinLockIrq<Chores> {
        &self.shared.chores
    }

    /// As many hardware queues as there may ever be.
    pub(crate) fn all(&self) -> &[Arc<HwQueue>] {
        &self.all
    }

    /// Puts new rings in place, which are not used before [`Queues::go_live`]; at least one, and no
    /// more than [`Queues::all`]. Sleeps.
    pub(crate) fn set_rings(&self, rings: KVec<KBox<Ring>>) {
        self.rings
            .store(rings.len().max(1) as u32, Ordering::Relaxed);
        for (queue, ring) in self.all.iter().zip(rings) {
            queue.set_ring(ring);
        }
    }

    /// The number of rings, and of entries of each.
    pub(crate) fn rings(&self) -> (u32, u32) {
        let entries = self.all.first().and_then(|queue| queue.ring());
        let entries = entries.map_or(0, |(entries, _)| entries);
        (self.rings.load(Ordering::Relaxed), entries)
    }

    /// Notes that the block layer knows `known` hardware queues of `depth` tags each.
    pub(crate) fn set_known(&self, known: u32, depth: u32) {
        self.depth.store(depth, Ordering::Relaxed);
        self.known.store(known, Ordering::Relaxed);
    }

    /// Notes that the block layer knows `known` hardware queues now.
    pub(crate) fn set_known_queues(&self, known: u32) {
        self.known.store(known, Ordering::Relaxed);
    }

    /// How many hardware queues the block layer knows.
    pub(crate) fn known(&self) -> u32 {
        self.known.load(Ordering::Relaxed)
    }

    /// Notes whether the disk is a CD-ROM drive.
    pub(crate) fn set_cdrom(&self, cdrom: bool) {
        self.cdrom.store(cdrom, Ordering::Relaxed);
    }

    /// Tells how to start the queues again. `queue` is that of the disk. Sleeps.
    pub(crate) fn set_wakeup(&self, queue: RequestQueue) -> Result {
        let queue = Arc::new(queue, GFP_KERNEL)?;
        for hw in &self.all {
            hw.set_wakeup(&queue)?;
        }
        Ok(())
    }

    /// Sends requests from now on, of at most `segments` segments, or [`MAX_SEGMENTS`] if that is
    /// 0. Sleeps.
    pub(crate) fn go_live(&self, access: Access, segments: u16) -> Result {
        let rings = self.rings.load(Ordering::Relaxed).max(1);
        let shares = self.known().max(1).div_ceil(rings);
        let depth = self.depth.load(Ordering::Relaxed);
        let mut ready = KVec::new();
        for queue in &self.all {
            let Some((entries, domid)) = queue.ring() else {
                break;
            };
            let terms = Terms {
                access,
                max_segments: segments.max(MAX_SEGMENTS as u16),
                ids: shares.saturating_mul(depth) as usize,
                entries: entries as usize,
            };
            let transport = Transport::new(&terms, domid, self.shared.handle)?;
            ready.push((queue.clone(), transport), GFP_KERNEL)?;
        }
        for (queue, transport) in ready {
            queue.go_live(transport);
        }
        Ok(())
    }

    /// See [`HwQueue::disconnect`].
    pub(crate) fn disconnect(&self, mode: Mode) {
        for queue in &self.all {
            queue.disconnect(mode);
        }
    }

    /// See [`HwQueue::forget`]. The back end is closed by now, or will never be.
    pub(crate) fn forget(&self) {
        for queue in &self.all {
            queue.forget();
        }
    }

    /// From now until the chore is taken back, requests fail when there are no answers for a while.
    pub(crate) fn limit_silence(self: &Arc<Self>) -> Result {
        let (queues, last) = (self.clone(), AtomicU32::new(self.answers()));
        let patience = DelayedWork::new(move || {
            let now = queues.answers();
            if last.swap(now, Ordering::Relaxed) == now {
                dev_warn!(
                    queues.shared.dev().dev(),
                    "the back end does not answer: the disk is given up\n"
                );
                queues.shut(true);
                queues.disconnect(Mode::Gone);
            } else if let Some(patience) = &queues.shared.chores.lock().patience {
                patience.queue(SILENCE_MS);
            }
        })?;
        patience.queue(SILENCE_MS);
        self.shared.chores.lock().patience = Some(patience);
        Ok(())
    }

    /// How many responses there were, modulo 2^32.
    fn answers(&self) -> u32 {
        let sum = |sum: u32, queue: &Arc<HwQueue>| sum.wrapping_add(queue.answers());
        self.all.iter().fold(0, sum)
    }

    /// After the device has gone: it has a new back end, and may be opened again.
    pub(crate) fn reopen(&self) {
        self.forget();
        for queue in &self.all {
            queue.reopen();
        }
        self.shared.users.lock().shut = false;
    }

    /// Whether the back end has broken the protocol.
    pub(crate) fn is_broken(&self) -> bool {
        self.all.iter().any(|queue| queue.is_broken())
    }

    /// If the back end has broken the protocol in one ring, ends the use of all.
    pub(crate) fn give_up_if_broken(&self) {
        if self.is_broken() {
            for queue in &self.all {
                queue.give_up();
            }
        }
    }

    /// Whether requests are sent, to a back end that has broken no rule so far.
    pub(crate) fn is_well(&self) -> bool {
        self.all.first().is_some_and(|queue| queue.is_well()) && !self.is_broken()
    }

    /// Gives pages back that were not used since the last time.
    pub(crate) fn purge(&self) {
        let mut again = false;
        for queue in &self.all {
            again |= queue.purge();
        }
        if again {
            self.shared.queue_purge();
        }
    }

    /// Whether anybody has the disk open.
    pub(crate) fn in_use(&self) -> bool {
        self.shared.users.lock().count > 0
    }

    /// Lets nobody in any more. Says whether nobody is in; if somebody is, it takes effect only if
    /// `force` is set.
    pub(crate) fn shut(&self, force: bool) -> bool {
        let mut users = self.shared.users.lock();
        let idle = users.count == 0;
        users.shut |= idle || force;
        idle
    }

    /// The queue for requests of the block layer's queue `index`, and how many others of them share
    /// it with lower numbers.
    #[inline]
    fn place(&self, index: u32) -> (Option<&HwQueue>, u32) {
        let rings = self.rings.load(Ordering::Relaxed).max(1);
        let (ring, share) = if index < rings {
            (index, 0)
        } else {
            (index % rings, index / rings)
        };
        (self.all.get(ring as usize).map(|queue| &**queue), share)
    }
}

impl Operations for Queues {
    #[inline]
    fn queue_rq(
        &self,
        index: u32,
        rq: Request<Self>,
        last: bool,
    ) -> core::result::Result<(), Refused<Self>> {
        let rings = self.rings.load(Ordering::Relaxed);
        let (Some(queue), share) = self.place(index) else {
            return Err((rq, EIO));
        };
        let depth = self.depth.load(Ordering::Relaxed);
        let id = share.wrapping_mul(depth).wrapping_add(rq.tag());
        // The number of rings may have changed before we had the lock.
        let still = || self.rings.load(Ordering::Relaxed) == rings;
        queue.queue_rq(id as usize, rq, last, still)
    }

    fn commit_rqs(&self, index: u32) {
        if let (Some(queue), _) = self.place(index) {
            queue.publish();
        }
    }

    fn open(&self) -> Result {
        let mut users = self.shared.users.lock();
        if users.shut {
            return Err(ENXIO);
        }
        users.count = users.count.wrapping_add(1);
        Ok(())
    }

    fn release(&self) {
        let idle = {
            let mut users = self.shared.users.lock();
            users.count = users.count.wrapping_sub(1);
            users.count == 0
        };
        if idle {
            // A detach may wait for this.
            self.shared.queue_chore();
        }
    }

    fn is_cdrom(&self) -> bool {
        self.cdrom.load(Ordering::Relaxed)
    }
}
