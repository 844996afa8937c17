// SPDX-License-Identifier: GPL-2.0

//! One queue of an interface: its two rings, polled together.
//!
//! There is a queue as long as there is the interface; its rings come and go with the connection.
//!
//! Lock order: `rx`, which is taken in soft interrupt context, and elsewhere with soft interrupts off;
//! within it whatever the stack takes to receive a packet; within that `tx`.

use crate::{
    interface::Shared,
    rx::Rx,
    tx::{Offload, Tx},
};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use kernel::{new_spinlock, sync::SpinLock};
use xenbus::{
    evtchn::{Eoi, EventChannel, Handler},
    lock::SpinLockIrq,
    net::{
        without_softirqs, Count, Napi, Poll, PollContext, Program, SkBuff, SkbList, XdpFrame,
        XdpFrames,
    },
    new_spinlock_irq,
    prelude::*,
};

/// What a queue has done.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) rx_packets: Count,
    pub(crate) rx_bytes: Count,
    pub(crate) rx_errors: Count,
    pub(crate) tx_packets: Count,
    pub(crate) tx_bytes: Count,
    pub(crate) tx_dropped: Count,
    pub(crate) gso_fixup: Count,
    /// Packets that programs have seen, and what became of those that the stack has not got.
    pub(crate) xdp_packets: Count,
    pub(crate) xdp_drops: Count,
    pub(crate) xdp_tx: Count,
    pub(crate) xdp_redirects: Count,
    /// Frames that were sent, counted under the lock of `tx`.
    pub(crate) frames: Count,
    pub(crate) frame_bytes: Count,
}

/// A queue.
#[pin_data]
pub(crate) struct Queue {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: u32,
    pub(crate) counts: Counts,
    #[pin]
    tx: SpinLockIrq<Option<KBox<Tx>>>,
    #[pin]
    rx: SpinLock<Option<KBox<Rx>>>,
}

/// What the back end is told of a queue.
pub(crate) struct Published {
    pub(crate) tx_ring: u32,
    pub(crate) rx_ring: u32,
    pub(crate) tx_port: u32,
    pub(crate) rx_port: u32,
}

impl Queue {
    pub(crate) fn new(shared: &Arc<Shared>, index: u32) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Queue {
                shared: shared.clone(),
                index,
                counts: Counts::default(),
                tx <- new_spinlock_irq!(None, "netfront::Queue::tx"),
                rx <- new_spinlock!(None, "netfront::Queue::rx"),
            }),
            GFP_KERNEL,
        )
    }

    /// Gives the queue its rings. Sleeps.
    pub(crate) fn set_rings(&self, tx: KBox<Tx>, mut rx: KBox<Rx>) {
        // It does not change before the rings are there for `set_program`.
        let xdp = self.shared.xdp.lock();
        rx.program = xdp.program.clone();
        let old_tx = self.tx.lock().replace(tx);
        let old_rx = without_softirqs(|| self.rx.lock().replace(rx));
        drop(xdp);
        drop((old_tx, old_rx));
    }

    /// Has `program`, or none, run on what is received. With the lock of `Shared::xdp`. Sleeps.
    pub(crate) fn set_program(&self, program: Option<Program>) {
        let old = without_softirqs(|| match &mut *self.rx.lock() {
            Some(rx) => core::mem::replace(&mut rx.program, program),
            None => program,
        });
        drop(old);
    }

    /// Takes the rings away. Sleeps.
    pub(crate) fn take_rings(&self) {
        let tx = self.tx.lock().take();
        let rx = without_softirqs(|| self.rx.lock().take());
        drop((tx, rx));
    }

    /// Tells the back end of what was written before it was there.
    pub(crate) fn kick(&self) {
        if let Some(tx) = &*self.tx.lock() {
            tx.channel().notify();
        }
        without_softirqs(|| {
            if let Some(rx) = &mut *self.rx.lock() {
                rx.refill(self);
                rx.channel().notify();
            }
        });
    }

    /// Sends a packet, or drops it.
    #[inline]
    pub(crate) fn send(&self, skb: SkBuff) {
        if self.shared.is_broken() {
            // Before the lock: the message about that may be written under it, to a console that
            // sends it by this very interface.
            self.counts.tx_dropped.add(1);
            return;
        }
        let len = skb.len() as u64;
        let mut done = SkbList::new();
        let sent = Tx::prepare(skb, &self.shared).and_then(|ready| {
            let mut tx = self.tx.lock();
            let tx = match &mut *tx {
                // Without a carrier nobody answers.
                Some(tx) if self.shared.net.has_carrier() && ready.may_be_seen(&self.shared) => tx,
                _ => return None,
            };
            if let Some(skb) = tx.send(ready)? {
                done.push(skb);
            }
            if tx.is_filling() {
                tx.reclaim(&self.shared, &mut done);
                if !tx.has_room() {
                    self.shared.net.stop_queue(self.index);
                }
            }
            self.call_poll(tx);
            Some(())
        });
        // With the lock held, interrupts are off.
        while let Some(skb) = done.pop() {
            skb.consume();
        }
        match sent {
            Some(()) => {
                self.counts.tx_packets.add(1);
                self.counts.tx_bytes.add(len);
            }
            None => self.counts.tx_dropped.add(1),
        }
    }

    /// Sends frames, as many as there is room for.
    pub(crate) fn send_frames(&self, frames: &mut XdpFrames<'_>) {
        if self.shared.is_broken() {
            // As in `send`.
            return;
        }
        let mut tx = self.tx.lock();
        if let Some(tx) = &mut *tx {
            frames.send(|frame| self.send_frame_by(tx, frame, Offload::NONE));
            tx.publish();
            self.call_poll(tx);
        }
    }

    /// Has the queue polled if there is something to be given back, or an answer; or there will be an
    /// event.
    #[inline]
    fn call_poll(&self, tx: &mut Tx) {
        if tx.has_finished() || (tx.wants_event() && tx.final_check(&self.shared)) {
            tx.channel().handler().napi.schedule();
        }
    }

    /// Sends a frame, which the back end sees with [`Self::publish`].
    ///
    /// # Errors
    ///
    /// The frame, if that is not possible.
    pub(crate) fn send_frame(&self, frame: XdpFrame, offload: Offload) -> Result<(), XdpFrame> {
        match &mut *self.tx.lock() {
            Some(tx) => self.send_frame_by(tx, frame, offload),
            None => Err(frame),
        }
    }

    fn send_frame_by(
        &self,
        tx: &mut Tx,
        frame: XdpFrame,
        offload: Offload,
    ) -> Result<(), XdpFrame> {
        if !self.shared.net.has_carrier() {
            return Err(frame);
        }
        let len = frame.len() as u64;
        tx.send_frame(frame, offload, &self.shared)?;
        self.counts.frames.add(1);
        self.counts.frame_bytes.add(len);
        if !tx.has_room() {
            self.shared.net.stop_queue(self.index);
        }
        Ok(())
    }

    /// Shows the back end what was sent.
    pub(crate) fn publish(&self) {
        if let Some(tx) = &mut *self.tx.lock() {
            tx.publish();
        }
    }

    /// Exchanges the frames that were sent for `empty`, for them to be given back.
    fn take_finished(&self, empty: &mut KVec<XdpFrame>) {
        if let Some(tx) = &mut *self.tx.lock() {
            tx.take_finished(empty);
        }
    }

    /// Takes the answers to what was sent: whether there were any since the last poll that `receives`,
    /// which is the one to give EOIs, and whether there are frames to be given back. `None`: there is
    /// no ring.
    #[inline]
    fn reclaim(&self, receives: bool) -> Option<(bool, bool)> {
        let mut done = SkbList::new();
        let mut tx = self.tx.lock();
        let Some(ring) = &mut *tx else {
            return None;
        };
        ring.reclaim(&self.shared, &mut done);
        let useful = receives && ring.take_useful();
        let finished = ring.has_finished();
        if ring.has_room() && self.shared.net.is_queue_stopped(self.index) {
            self.shared.net.wake_queue(self.index);
        }
        drop(tx);
        while let Some(skb) = done.pop() {
            skb.consume();
        }
        Some((useful, finished))
    }

    /// Whether there are answers, after all, to what was sent.
    #[inline]
    fn has_answers(&self) -> bool {
        match &mut *self.tx.lock() {
            Some(tx) => tx.final_check(&self.shared),
            None => false,
        }
    }
}

impl Poll for Queue {
    fn poll(&self, context: &PollContext<'_>, budget: usize) -> usize {
        let (mut tx_useful, mut finished) = (false, false);
        if !self.shared.is_broken() {
            (tx_useful, finished) = self.reclaim(budget > 0).unwrap_or_default();
        }
        // Without a budget, whoever polls wants what was sent done with, and no more; it may be here
        // in the midst of anything, also of what is done under the lock.
        if budget == 0 {
            if !self.shared.is_broken() && self.has_answers() {
                context.schedule();
            }
            return 0;
        }
        let mut rx = self.rx.lock();
        let rx = match &mut *rx {
            Some(rx) if !self.shared.is_broken() => rx,
            _ => return 0,
        };
        if finished {
            // Not before there is a budget: they are of page pools, which are not for whoever polls
            // without one.
            self.take_finished(&mut rx.finished);
            rx.finished.clear();
        }
        let done = rx.receive(self, context, budget);
        // No EOI: a back end that has broken the rules will not be heard again.
        if self.shared.is_broken() {
            return done;
        }
        rx.refill(self);
        rx.channels().tx_useful(tx_useful);
        if done < budget {
            context.complete(done);
            if self.has_answers() || rx.final_check(&self.shared) {
                context.schedule();
            } else if !self.shared.is_broken() {
                rx.channels().give_eoi();
            }
        }
        done
    }
}

/// An event channel of a queue.
pub(crate) type Channel = EventChannel<Port>;

/// Takes the events of a channel.
pub(crate) struct Port {
    napi: Arc<Napi<Queue>>,
    /// There was an event whose EOI has not been given.
    owed: AtomicBool,
}

impl Port {
    pub(crate) fn new(napi: &Arc<Napi<Queue>>) -> Result<Arc<Self>> {
        let port = Port {
            napi: napi.clone(),
            owed: AtomicBool::new(false),
        };
        Ok(Arc::new(port, GFP_KERNEL)?)
    }
}

impl Handler for Port {
    fn handle(&self) -> Eoi {
        self.owed.swap(true, SeqCst);
        self.napi.schedule();
        Eoi::Later
    }
}

/// The channels of a queue, of which there may be one only, and whether there was something to do
/// since the last EOI.
pub(crate) struct Channels {
    tx: Arc<Channel>,
    /// If it is another one.
    rx: Option<Arc<Channel>>,
    tx_useful: bool,
    rx_useful: bool,
}

impl Channels {
    pub(crate) fn new(tx: &Arc<Channel>, rx: Option<&Arc<Channel>>) -> Self {
        Channels {
            tx: tx.clone(),
            rx: rx.cloned(),
            tx_useful: false,
            rx_useful: false,
        }
    }

    #[inline]
    pub(crate) fn tx_useful(&mut self, useful: bool) {
        self.tx_useful |= useful;
    }

    #[inline]
    pub(crate) fn rx_useful(&mut self, useful: bool) {
        self.rx_useful |= useful;
    }

    /// The one by which the back end is told of pages to write to.
    #[inline]
    pub(crate) fn rx(&self) -> &Channel {
        self.rx.as_deref().unwrap_or(&self.tx)
    }

    /// Gives the EOIs of the last events, if they have not been given.
    #[inline]
    fn give_eoi(&mut self) {
        let (tx, rx) = (
            core::mem::take(&mut self.tx_useful),
            core::mem::take(&mut self.rx_useful),
        );
        let give = |channel: &Channel, useful: bool| {
            if channel.handler().owed.swap(false, SeqCst) {
                channel.eoi(!useful);
            }
        };
        match &self.rx {
            None => give(&self.tx, tx || rx),
            Some(channel) => {
                give(&self.tx, tx);
                give(channel, rx);
            }
        }
    }
}
