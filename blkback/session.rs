// SPDX-License-Identifier: GPL-2.0

//! What the queues of a connected disk have in common: what it offers, its size, and the barrier
//! that holds them all.

use crate::{
    connect,
    queue::{Queue, Responder},
    tap::TapQueue,
    vbd::{Served, Vbd},
    waker::Waker,
};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kernel::{dev_info, dev_warn};
use xenbus::{
    evtchn::{Eoi, Handler},
    lend::{Lent, LentMutex},
    prelude::*,
    protocol::{
        blkif::{Limits, Offered, Op, Request},
        fence::Fence,
    },
};

/// What has been said to the thread of a queue.
#[pin_data]
pub(crate) struct Events {
    /// By the event channel: there are requests.
    pending: AtomicBool,
    /// By the owner: no more requests are to be taken.
    stop: AtomicBool,
    /// By the timer: there may be something to tidy up.
    untidy: AtomicBool,
    /// By the kernel: memory is short.
    squeeze: AtomicBool,
    /// Somebody works in the thread's place.
    helped: AtomicBool,
    /// By a program that has worked in the thread's place: there is something left to do.
    left: AtomicBool,
    /// Until when no spare pages are kept, in jiffies.
    squeeze_end: AtomicU64,
    /// Whether the thread keeps spare pages.
    spare: AtomicBool,
    pub(crate) waker: Arc<Waker>,
    /// The thread's, while it sleeps.
    #[pin]
    pub(crate) asleep: Lent<Responder>,
    /// All that the thread has, while it sleeps and there is a tap.
    #[pin]
    pub(crate) tapped: LentMutex<Queue>,
    /// The tap then.
    #[pin]
    pub(crate) tap: Lent<Arc<dyn TapQueue>>,
}

impl Handler for Events {
    fn handle(&self) -> Eoi {
        self.pending.swap(true, Ordering::SeqCst);
        if self.tap.with(|tap| tap.event()) != Some(true) {
            self.waker.wake();
        }
        Eoi::Later
    }
}

impl Events {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let waker = Arc::new(Waker::new(), GFP_KERNEL)?;
        let events = pin_init!(Events {
            pending: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            untidy: AtomicBool::new(false),
            squeeze: AtomicBool::new(false),
            squeeze_end: AtomicU64::new(0),
            spare: AtomicBool::new(false),
            waker,
            asleep <- Lent::new(),
            helped: AtomicBool::new(false),
            left: AtomicBool::new(false),
            tapped <- LentMutex::new(),
            tap <- Lent::new(),
        });
        Arc::pin_init(events, GFP_KERNEL)
    }

    /// The disk has done a request, and the ones before it have been looked at. While the thread
    /// sleeps the request is answered right here if that is all there is to it. In any context.
    #[inline]
    pub(crate) fn done(&self) {
        if self.is_helped() {
            // Who helps looks at it before or after `helped`.
            return;
        }
        if self.asleep.with(Responder::respond_alone) != Some(true) {
            self.waker.wake();
        }
    }

    /// Whether the front end has sent an event since [`Self::take_event`].
    #[inline]
    pub(crate) fn event(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// To be called before the look at the ring: an event that comes later means another pass.
    #[inline]
    pub(crate) fn take_event(&self) {
        self.pending.swap(false, Ordering::SeqCst);
    }

    /// The thread itself has left an event half served.
    pub(crate) fn again(&self) {
        self.pending.store(true, Ordering::Relaxed);
    }

    /// Whether the thread is to end.
    #[inline]
    pub(crate) fn told_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Tells the thread to end.
    pub(crate) fn stop(&self) {
        self.stop.swap(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Tells the thread to tidy up. In any context.
    pub(crate) fn tidy_up(&self) {
        self.untidy.swap(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Whether there may be something to tidy up.
    #[inline]
    pub(crate) fn untidy(&self) -> bool {
        self.untidy.load(Ordering::Acquire)
    }

    /// Whether the thread has been told to tidy up, since this was asked last.
    #[inline]
    pub(crate) fn take_untidy(&self) -> bool {
        self.untidy() && self.untidy.swap(false, Ordering::SeqCst)
    }

    /// Whether somebody works in the thread's place.
    #[inline]
    pub(crate) fn is_helped(&self) -> bool {
        self.helped.load(Ordering::SeqCst)
    }

    /// Has `f` do the thread's work, and what the disk does meanwhile. To be followed by a look at what
    /// the disk has done.
    pub(crate) fn help<R>(&self, f: impl FnOnce() -> R) -> R {
        self.helped.swap(true, Ordering::SeqCst);
        let result = f();
        self.helped.swap(false, Ordering::SeqCst);
        result
    }

    /// Leaves the rest to the thread, which has been asleep.
    pub(crate) fn leave_rest(&self) {
        self.left.swap(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Whether something has been left to the thread.
    #[inline]
    pub(crate) fn rest(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// To be called by the thread before it does the rest.
    #[inline]
    pub(crate) fn take_rest(&self) {
        if self.rest() {
            self.left.swap(false, Ordering::SeqCst);
        }
    }

    /// Tells the thread not to keep spare pages until `end`. In any context.
    pub(crate) fn squeeze(&self, end: u64) {
        self.squeeze_end.store(end, Ordering::Relaxed);
        if self.spare.load(Ordering::Acquire) && !self.squeeze.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Whether spare pages are to be given back now.
    #[inline]
    pub(crate) fn squeezed(&self) -> bool {
        self.squeeze.load(Ordering::Acquire)
    }

    /// Until when no spare pages are to be kept, in jiffies.
    #[inline]
    pub(crate) fn squeeze_end(&self) -> u64 {
        self.squeeze_end.load(Ordering::Relaxed)
    }

    /// Notes whether the thread keeps spare pages.
    #[inline]
    pub(crate) fn tidied(&self, spare: bool) {
        if self.spare.load(Ordering::Relaxed) != spare {
            self.spare.store(spare, Ordering::Release);
        }
        if self.squeezed() {
            self.squeeze.swap(false, Ordering::SeqCst);
        }
    }
}

/// A disk while it is connected. Its end is the end of the last queue.
pub(crate) struct Session {
    dev: ARef<Device>,
    persistent: bool,
    limits: Limits,
    /// One bit for each operation that is still offered.
    offered: AtomicU32,
    /// The size that the front end has been told.
    sectors: AtomicU64,
    /// One for each queue.
    events: KVec<Arc<Events>>,
    fence: Fence<KVec<AtomicU32>>,
    /// Last: with it ends the service.
    vbd: Served,
}

const FLUSH: u32 = 1 << 0;
const BARRIER: u32 = 1 << 1;
const DISCARD: u32 = 1 << 2;
const SECURE: u32 = 1 << 3;

impl Session {
    /// A connection of `queues` queues. `limits`: what the disk allows as it begins; `persistent`:
    /// pages may be kept mapped.
    pub(crate) fn new(
        dev: &Device,
        vbd: Served,
        limits: Limits,
        persistent: bool,
        queues: usize,
    ) -> Result<Arc<Self>> {
        let mut events = KVec::with_capacity(queues, GFP_KERNEL)?;
        let mut aside = KVec::with_capacity(queues, GFP_KERNEL)?;
        for _ in 0..queues {
            events.push(Events::new()?, GFP_KERNEL)?;
            aside.push(AtomicU32::new(0), GFP_KERNEL)?;
        }
        let Offered {
            flush,
            barrier,
            discard,
            secure_discard,
        } = limits.features;
        let bit = |offered: bool, bit: u32| if offered { bit } else { 0 };
        let offered = bit(flush, FLUSH)
            | bit(barrier, BARRIER)
            | bit(discard, DISCARD)
            | bit(secure_discard, SECURE);
        let session = Session {
            dev: dev.into(),
            persistent,
            limits,
            offered: AtomicU32::new(offered),
            sectors: AtomicU64::new(limits.capacity_sectors),
            events,
            fence: Fence::new(aside),
            vbd,
        };
        Ok(Arc::new(session, GFP_KERNEL)?)
    }

    pub(crate) fn dev(&self) -> &Device {
        &self.dev
    }

    pub(crate) fn vbd(&self) -> &Arc<Vbd> {
        &self.vbd
    }

    /// Whether pages may be kept mapped.
    pub(crate) fn persistent(&self) -> bool {
        self.persistent
    }

    /// The queues' events.
    pub(crate) fn events(&self) -> &[Arc<Events>] {
        &self.events
    }

    /// What a request is checked against, as of the start.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Brings `limits` up to date; tells the front end when the disk has another size. Sleeps.
    #[inline]
    pub(crate) fn refresh(&self, limits: &mut Limits) {
        let offered = self.offered.load(Ordering::Relaxed);
        limits.features = Offered {
            flush: offered & FLUSH != 0,
            barrier: offered & BARRIER != 0,
            discard: offered & DISCARD != 0,
            secure_discard: offered & SECURE != 0,
        };
        let sectors = self.vbd.capacity();
        if sectors != limits.capacity_sectors {
            limits.capacity_sectors = sectors;
            self.resized(sectors);
        }
    }

    fn resized(&self, sectors: u64) {
        // One of the queues tells.
        if self.sectors.swap(sectors, Ordering::Relaxed) == sectors {
            return;
        }
        dev_info!(self.dev.dev(), "size is now {sectors} sectors\n");
        self.vbd.slot.resized();
        if let Err(e) = connect::publish_size(&self.dev, sectors) {
            dev_warn!(self.dev.dev(), "cannot publish the size: {e:?}\n");
        }
    }

    /// The disk has turned out not to know an operation that was offered. Said once: from then on
    /// it is refused before it comes to the disk. Sleeps.
    pub(crate) fn revoke(&self, op: Op) {
        let (bit, key, what) = match op {
            Op::WriteBarrier => (BARRIER, c"feature-barrier", "barriers"),
            Op::Discard { secure: false } => (DISCARD, c"feature-discard", "discards"),
            Op::Discard { secure: true } => (SECURE, c"discard-secure", "secure discards"),
            _ => (FLUSH, c"feature-flush-cache", "flushes"),
        };
        if self.offered.fetch_and(!bit, Ordering::Relaxed) & bit == 0 {
            return;
        }
        dev_warn!(self.dev.dev(), "the disk does not know {what}\n");
        if let Err(e) = connect::take_back(&self.dev, key) {
            dev_warn!(self.dev.dev(), "cannot take the offer back: {e:?}\n");
        }
    }

    /// Counts a request of queue `index` that goes to the disk.
    #[inline]
    pub(crate) fn count(&self, index: usize, request: &Request) {
        if let Some(statistics) = self.vbd.statistics.get(index) {
            statistics.count(request);
        }
    }

    /// Whether another queue than `index` holds the fence, and this one has not yet stood aside.
    #[inline]
    pub(crate) fn must_stand_aside(&self, index: usize) -> bool {
        self.fence.must_stand_aside(index)
    }

    /// Queue `index` has nothing on its way.
    pub(crate) fn stand_aside(&self, index: usize) {
        self.fence.stand_aside(index);
        self.wake();
    }

    /// Whether some queue holds the fence.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fence.is_up()
    }

    /// Takes the fence for queue `index`, if nobody holds it; the others stand aside then.
    pub(crate) fn raise(&self, index: usize) -> bool {
        let raised = self.fence.raise(index);
        if raised {
            self.wake();
        }
        raised
    }

    /// Whether all queues but `index` stand aside.
    pub(crate) fn are_aside(&self, index: usize) -> bool {
        self.fence.are_aside(index)
    }

    /// Gives the fence back.
    pub(crate) fn lower(&self) {
        self.fence.lower();
        self.wake();
    }

    /// Queue `index` has ended: it stands aside for ever.
    pub(crate) fn leave(&self, index: usize) {
        self.fence.leave(index);
        self.wake();
    }

    fn wake(&self) {
        for events in self.events.iter() {
            events.waker.wake();
        }
    }
}
