// SPDX-License-Identifier: GPL-2.0

//! One queue of an interface: packets that wait for the guest, and the events of its rings.
//!
//! There is a queue as long as there is the interface; its rings come and go with the connection.
//!
//! Lock order: `tx`, which is taken in soft interrupt context, and elsewhere with soft interrupts off;
//! within it whatever the stack takes to receive a packet, and by that another interface's `rx`, which
//! is only tried there; within that its `waiting`.

use crate::{
    credit::Limit,
    rx::{Rx, Served},
    tx::Tx,
    vif::Shared,
};
use core::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Relaxed, SeqCst},
};
use kernel::{new_spinlock, sync::SpinLock};
use xenbus::{
    evtchn::{Eoi, EventChannel, Handler},
    kthread::jiffies,
    lock::SpinLockIrq,
    net::{without_softirqs, Count, Napi, Poll, PollContext, SkBuff, SkbList},
    new_spinlock_irq,
    prelude::*,
    waker::Waker,
};

/// Bytes of packets that wait for the guest, beyond which the stack has to wait, too.
pub(crate) const MAX_WAITING: usize = 256 / 2 * 4096;

/// A packet of at most so many bytes is copied to the guest by whoever sends it, if it is the first one
/// since the guest has sent something: an answer, perhaps. Others wait for the thread, which has many
/// of them copied in one go.
const AT_ONCE: usize = 4096;

/// Events that may come, while a packet waits for room, without any: one that tells of room may come
/// when that has been seen already. Each further one is spurious.
const EXCUSES: u32 = 32;

/// What is noted of a packet that waits: since when, in jiffies; its hash.
pub(crate) const SINCE: usize = 0;
pub(crate) const HASH: usize = 1;

/// What a queue has done; received is what the guest has sent.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) rx_packets: Count,
    pub(crate) rx_bytes: Count,
    pub(crate) rx_errors: Count,
    /// Counted by the thread, unlike the others of its kind.
    pub(crate) rx_dropped: Count,
    pub(crate) tx_packets: Count,
    pub(crate) tx_bytes: Count,
    pub(crate) tx_dropped: Count,
    pub(crate) gso_fixup: Count,
}

/// A queue.
#[pin_data]
pub(crate) struct Queue {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: u32,
    pub(crate) limit: Arc<Limit>,
    pub(crate) counts: Counts,
    /// The ring by which the guest transmits.
    #[pin]
    tx: SpinLock<Option<KBox<Tx>>>,
    /// The ring by which it receives.
    #[pin]
    rx: SpinLock<Option<KBox<Rx>>>,
    /// What the guest is to receive.
    #[pin]
    waiting: SpinLockIrq<Waiting>,
}

struct Waiting {
    packets: SkbList,
    bytes: usize,
    /// The thread that they wait for; `None`: there is no connection.
    calls: Option<Arc<Calls>>,
}

/// How the thread that serves the guest's receive ring is called.
pub(crate) struct Calls {
    called: AtomicBool,
    /// How many of [`EXCUSES`] are left.
    excuses: AtomicU32,
    pub(crate) waker: Waker,
}

impl Calls {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let calls = Calls {
            called: AtomicBool::new(false),
            excuses: AtomicU32::new(0),
            waker: Waker::new(),
        };
        Ok(Arc::new(calls, GFP_KERNEL)?)
    }

    /// There is something to do. In any context.
    #[inline]
    pub(crate) fn call(&self) {
        if !self.called.swap(true, SeqCst) {
            self.waker.wake();
        }
    }

    /// Notes whether a packet waits for room in the ring; `anew`: it is another one than before.
    #[inline]
    pub(crate) fn wait_for_room(&self, waits: bool, anew: bool) {
        let excuses = if waits { EXCUSES } else { 0 };
        if (anew || !waits) && self.excuses.load(Relaxed) != excuses {
            self.excuses.store(excuses, Relaxed);
        }
    }

    /// Whether an event that was of no use may have told of room for the packet that waits.
    #[inline]
    fn excuse(&self) -> bool {
        let less = |excuses: u32| excuses.checked_sub(1);
        self.excuses.fetch_update(Relaxed, Relaxed, less).is_ok()
    }

    /// Whether there is something to do, since [`Self::take`].
    #[inline]
    pub(crate) fn is_called(&self) -> bool {
        self.called.load(Relaxed)
    }

    /// To be called before the look at what there is to do.
    #[inline]
    pub(crate) fn take(&self) {
        self.called.swap(false, SeqCst);
    }
}

impl Queue {
    pub(crate) fn new(shared: &Arc<Shared>, index: u32, limit: &Arc<Limit>) -> Result<Arc<Self>> {
        let waiting = Waiting {
            packets: SkbList::new(),
            bytes: 0,
            calls: None,
        };
        Arc::pin_init(
            pin_init!(Queue {
                shared: shared.clone(),
                index,
                limit: limit.clone(),
                counts: Counts::default(),
                tx <- new_spinlock!(None, "netback::Queue::tx"),
                rx <- new_spinlock!(None, "netback::Queue::rx"),
                waiting <- new_spinlock_irq!(waiting, "netback::Queue::waiting"),
            }),
            GFP_KERNEL,
        )
    }

    /// Gives the queue its transmit ring, or takes it away. Sleeps.
    pub(crate) fn set_tx(&self, tx: Option<KBox<Tx>>) {
        let old = without_softirqs(|| core::mem::replace(&mut *self.tx.lock(), tx));
        drop(old);
    }

    /// Gives the queue its receive ring, or takes it away. Sleeps.
    pub(crate) fn set_rx(&self, rx: Option<KBox<Rx>>) {
        let old = without_softirqs(|| core::mem::replace(&mut *self.rx.lock(), rx));
        drop(old);
    }

    /// Calls `f` with the receive ring, if there is one. In process context; `f` must not sleep.
    pub(crate) fn with_rx<R>(&self, f: impl FnOnce(&mut Rx) -> R) -> Option<R> {
        without_softirqs(|| (*self.rx.lock()).as_mut().map(|rx| f(rx)))
    }

    /// Has the packet that waits alone copied at once, if that is the better way; says whether none
    /// waits any more.
    #[inline]
    fn send_now(&self) -> bool {
        if !self.shared.take_heard() {
            return false;
        }
        // Who holds it looks at all packets that wait, or the thread is called.
        let Some(mut rx) = self.rx.try_lock() else {
            return false;
        };
        match &mut *rx {
            Some(rx) if !self.shared.is_broken() => rx.serve(self) == Served::All,
            _ => false,
        }
    }

    /// Gives the queue the thread that serves its receive ring; without one, packets are dropped.
    /// Sleeps.
    pub(crate) fn set_calls(&self, calls: Option<Arc<Calls>>) {
        let mut waiting = self.waiting.lock();
        let old = core::mem::replace(&mut waiting.calls, calls);
        let packets = core::mem::take(&mut waiting.packets);
        waiting.bytes = 0;
        drop(waiting);
        drop((old, packets));
    }

    /// A packet is to wait for the guest.
    #[inline]
    pub(crate) fn enqueue(&self, mut skb: SkBuff) {
        skb.set_note::<SINCE>(jiffies());
        let mut guard = self.waiting.lock();
        let waiting = &mut *guard;
        let Some(calls) = &waiting.calls else {
            drop(guard);
            self.counts.tx_dropped.add(1);
            return;
        };
        let called = calls.is_called();
        let at_once = !called && waiting.packets.is_empty() && skb.len() <= AT_ONCE;
        waiting.bytes = waiting.bytes.wrapping_add(skb.len());
        waiting.packets.push(skb);
        if waiting.bytes >= MAX_WAITING {
            // Under the lock, so that whoever takes a packet sees it stopped.
            self.shared.net.stop_queue(self.index);
        }
        if at_once {
            let calls = calls.clone();
            drop(guard);
            if !self.send_now() {
                calls.call();
            }
        } else if !called {
            // A thread that is called already looks for packets, under the lock, after this.
            calls.call();
        }
    }

    /// Takes the packet that has waited longest.
    #[inline]
    pub(crate) fn dequeue(&self) -> Option<SkBuff> {
        let mut waiting = self.waiting.lock();
        let skb = waiting.packets.pop()?;
        let before = waiting.bytes;
        waiting.bytes = before.wrapping_sub(skb.len());
        if before >= MAX_WAITING && waiting.bytes < MAX_WAITING {
            self.shared.net.wake_queue(self.index);
        }
        Some(skb)
    }

    /// Calls `show` with the transmit ring, if there is one.
    pub(crate) fn with_tx(&self, show: impl FnOnce(&Tx)) {
        without_softirqs(|| {
            if let Some(tx) = &*self.tx.lock() {
                show(tx);
            }
        });
    }

    /// How many packets wait for the guest, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        (waiting.packets.len(), waiting.bytes)
    }

    /// As an event of the receive ring.
    pub(crate) fn call(&self) {
        if let Some(calls) = self.waiting.lock().calls.clone() {
            calls.call();
        }
    }

    /// Since when the packet that has waited longest does so, in jiffies.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        self.waiting
            .lock()
            .packets
            .front()
            .map(SkBuff::note::<SINCE>)
    }
}

impl Poll for Queue {
    fn poll(&self, context: &PollContext<'_>, budget: usize) -> usize {
        if budget == 0 {
            // Whoever polls without a budget may be here in the midst of anything.
            return 0;
        }
        match &mut *self.tx.lock() {
            Some(tx) => tx.poll(self, context, budget),
            None => 0,
        }
    }
}

/// An event channel of a queue.
pub(crate) type Channel = EventChannel<Port>;

/// Takes the events of a channel.
pub(crate) struct Port {
    /// For the transmit ring.
    napi: Option<Arc<Napi<Queue>>>,
    /// For the receive ring.
    calls: Option<Arc<Calls>>,
    /// There was an event whose EOI has not been given.
    owed: AtomicBool,
}

impl Port {
    pub(crate) fn new(
        napi: Option<&Arc<Napi<Queue>>>,
        calls: Option<&Arc<Calls>>,
    ) -> Result<Arc<Self>> {
        let port = Port {
            napi: napi.cloned(),
            calls: calls.cloned(),
            owed: AtomicBool::new(false),
        };
        Ok(Arc::new(port, GFP_KERNEL)?)
    }
}

impl Handler for Port {
    fn handle(&self) -> Eoi {
        self.owed.swap(true, SeqCst);
        if let Some(calls) = &self.calls {
            calls.call();
        }
        if let Some(napi) = &self.napi {
            napi.schedule();
        }
        Eoi::Later
    }
}

/// Gives the EOI of a channel of both rings, if it has not been given, for the sake of a packet that
/// waits for room: the poll gives none as long as the guest is over its rate.
#[inline]
pub(crate) fn give_eoi_for_room(channel: &Channel) {
    let port = channel.handler();
    let calls = port.calls.as_ref();
    if port.owed.load(Relaxed)
        && calls.is_some_and(|calls| calls.excuse())
        && port.owed.swap(false, SeqCst)
    {
        channel.eoi(false);
    }
}

/// Gives the EOI of a channel's last event, if it has not been given. It was useful if there was
/// something to do, or if it may have told of room that a packet waits for.
#[inline]
pub(crate) fn give_eoi(channel: &Channel, useful: bool) {
    let port = channel.handler();
    if port.owed.swap(false, SeqCst) {
        let calls = port.calls.as_ref();
        channel.eoi(!useful && !calls.is_some_and(|calls| calls.excuse()));
    }
}
