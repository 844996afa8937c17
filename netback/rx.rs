// SPDX-License-Identifier: GPL-2.0

//! What the guest receives: the packets that wait are copied into the pages of its ring.
//!
//! Done by a thread, which sleeps while there is no packet, or no room for the next one; a small packet
//! that comes alone is copied by whoever sends it.

use crate::queue::{give_eoi, give_eoi_for_room, Calls, Channel, Queue, SINCE};
use kernel::{dev_err, dev_info};
use xenbus::{
    kthread::{jiffies, Current},
    net::{self, copy::Drain, SkBuff},
    prelude::*,
    protocol::{
        netif::{self, status, Checksum, RxEntry, RxSend, RxSlot},
        ring::{Back, Indices, Overrun},
    },
    ring::BackArea,
    timer::Timer,
};

/// Packets that are copied in one go.
const BATCH: usize = 64;

/// Copies that are done in one go; more than any packet needs that is no list of packets.
const COPIES: usize = 256;

/// A receive ring.
pub(crate) struct Rx {
    ring: Back<BackArea, netif::Rx>,
    channel: Arc<Channel>,
    calls: Arc<Calls>,
    drain: Drain,
    /// What is answered when it has been copied.
    answers: KVec<RxSlot>,
    /// The packet for which there was no room.
    next: Option<SkBuff>,
    /// How many requests it needs.
    need: u32,
    timer: Timer,
    /// When a packet was last sent, in jiffies.
    last: u64,
    stalled: bool,
    /// A packet waited for room when the ring was looked at last.
    waited: bool,
    /// Something has been sent since.
    useful: bool,
    /// The channel is the ring's own: its EOI is given here.
    split: bool,
}

/// How far [`Rx::serve`] has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// No packet waits.
    All,
    /// There may be more.
    Some,
    /// There is no room for the next one, or the ring is not used any more.
    Stuck,
}

/// The thread of a queue: serves the ring until it is to stop.
pub(crate) fn run(queue: &Queue, calls: &Calls, thread: &Current) {
    calls.waker.set_current();
    // Nobody was there to be woken before.
    calls.call();
    loop {
        thread.wait(|| calls.is_called());
        if thread.should_stop() {
            break;
        }
        calls.take();
        while !queue.shared.is_broken()
            && !thread.should_stop()
            && queue.with_rx(|rx| rx.serve(queue)) == Some(Served::Some)
        {
            thread.cond_resched();
        }
        if queue.shared.is_broken() {
            // What waits, the memory of other guests perhaps, would do so as long as there is the
            // vif.
            drop(queue.with_rx(|rx| rx.next.take()));
            queue.set_calls(None);
            thread.wait(|| false);
            break;
        }
        queue.with_rx(|rx| rx.settle(queue));
        thread.cond_resched();
    }
}

impl Rx {
    pub(crate) fn new(
        ring: Back<BackArea, netif::Rx>,
        channel: &Arc<Channel>,
        calls: &Arc<Calls>,
        (domid, split): (u16, bool),
    ) -> Result<KBox<Self>> {
        let timed = calls.clone();
        let rx = Rx {
            answers: KVec::with_capacity(ring.size() as usize, GFP_KERNEL)?,
            ring,
            channel: channel.clone(),
            calls: calls.clone(),
            drain: Drain::new(domid, BATCH, COPIES)?,
            next: None,
            need: 0,
            timer: Timer::new(move || timed.call())?,
            last: jiffies(),
            stalled: false,
            waited: false,
            useful: false,
            split,
        };
        Ok(KBox::new(rx, GFP_KERNEL)?)
    }

    /// Sends some of the packets that wait, as many as there is room for. Does not sleep.
    pub(crate) fn serve(&mut self, queue: &Queue) -> Served {
        let result = self.send(queue);
        self.flush();
        result.unwrap_or_else(|Overrun { claimed, possible }| {
            dev_err!(
                queue.shared.dev.dev(),
                "receive ring overrun: front end claims {claimed} requests where {possible} fit; vif disabled\n"
            );
            queue.shared.set_broken();
            Served::Stuck
        })
    }

    /// How the ring is, for whoever asks.
    pub(crate) fn indices(&self) -> Indices {
        self.ring.indices()
    }

    /// What is to be done when nothing more can be sent for now. Does not sleep.
    fn settle(&mut self, queue: &Queue) {
        self.expire(queue);
        // What is wrong with the ring is found when it is looked at again.
        let _ = self.watch_stall(queue);
        self.set_timer(queue);
        let useful = core::mem::take(&mut self.useful);
        let waits = self.next.is_some();
        self.calls.wait_for_room(waits, useful || !self.waited);
        self.waited = waits;
        if self.split {
            give_eoi(&self.channel, useful);
        } else if waits {
            give_eoi_for_room(&self.channel);
        }
    }

    fn send(&mut self, queue: &Queue) -> Result<Served, Overrun> {
        for _ in 0..BATCH {
            let Some(mut skb) = self.next.take().or_else(|| queue.dequeue()) else {
                self.need = 0;
                // Whoever has broken the ring is to be found out also when there is nothing to send.
                return self.ring.unconsumed().map(|_| Served::All);
            };
            let shared = &queue.shared;
            let checksum = match skb.checksum() {
                net::Checksum::Blank => Checksum::Blank,
                net::Checksum::Right => Checksum::Good,
                net::Checksum::Unknown => Checksum::Unknown,
            };
            let extras = shared.extras(&skb);
            let Ok(send) = RxSend::new(skb.len() as u32, checksum, extras, shared.sg()) else {
                queue.counts.rx_dropped.add(1);
                continue;
            };
            let need = send.entries();
            if !self.ring.has(need)? {
                self.flush();
                if !self.ring.final_check_for(need)? {
                    self.next = Some(skb);
                    self.need = need;
                    return Ok(Served::Stuck);
                }
            }
            let copies = skb.parts_at_most().wrapping_add(need as usize);
            let full = !self.drain.has_room(copies);
            if full {
                self.flush();
            }
            if copies > COPIES && skb.linearize().is_err() {
                queue.counts.rx_dropped.add(1);
                continue;
            }
            self.place(queue, skb, send, need)?;
            self.useful = true;
            if full {
                // Soft interrupts are off meanwhile, and so not for longer than one copy takes.
                break;
            }
        }
        Ok(Served::Some)
    }

    /// Has a packet, for which there is room, copied into the pages of the next requests, of which it
    /// needs `need`.
    #[inline]
    fn place(
        &mut self,
        queue: &Queue,
        skb: SkBuff,
        mut send: RxSend,
        need: u32,
    ) -> Result<(), Overrun> {
        let len = skb.len() as u64;
        if self.drain.begin(skb).is_err() {
            return Ok(());
        }
        for _ in 0..need {
            let Some(request) = self.ring.pop()? else {
                break;
            };
            let slot = self.answers.len() as u32;
            let Some(entry) = send.next(&request) else {
                break;
            };
            let mut answer = entry.slot();
            if let RxEntry::Data { response, .. } = entry {
                let put = self.drain.put(request.gref, response.offset, slot);
                if put != response.status as usize {
                    // There are fewer bytes than the packet has said.
                    answer = answer.failed(status::ERROR);
                }
            }
            // There is room for as many as the ring has entries.
            let _ = self.answers.push_within_capacity(answer);
        }
        queue.counts.tx_packets.add(1);
        queue.counts.tx_bytes.add(len);
        self.last = jiffies();
        queue.shared.set_sent();
        Ok(())
    }

    /// Copies, and answers.
    fn flush(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let answers = &mut self.answers;
        self.drain.run(|slot| {
            if let Some(answer) = answers.get_mut(slot as usize) {
                *answer = answer.failed(status::ERROR);
            }
        });
        for answer in self.answers.iter() {
            // There is a request for each.
            let _ = self.ring.push(answer);
        }
        self.answers.clear();
        if self.ring.publish() {
            self.channel.notify();
        }
    }

    /// Since when the packet that has waited longest does so.
    fn waits_since(&self, queue: &Queue) -> Option<u64> {
        match &self.next {
            Some(skb) => Some(skb.note::<SINCE>()),
            None => queue.waits_since(),
        }
    }

    /// Drops what has waited for too long: the memory may be another guest's.
    fn expire(&mut self, queue: &Queue) {
        let timeout = queue.shared.drain_timeout();
        // The clock is read after what it is compared with: a packet may have come just now.
        while self
            .waits_since(queue)
            .is_some_and(|since| jiffies().wrapping_sub(since) >= timeout)
        {
            drop(self.next.take().or_else(|| queue.dequeue()));
            self.need = 0;
            queue.counts.rx_dropped.add(1);
        }
        if self.next.is_none() && self.waits_since(queue).is_some() {
            // The next one's need is not known yet.
            self.calls.call();
        }
    }

    /// Takes the carrier off a guest that has had no room for a packet for too long, until it has.
    fn watch_stall(&mut self, queue: &Queue) -> Result<(), Overrun> {
        let timeout = queue.shared.stall_timeout();
        let late = timeout > 0 && jiffies().wrapping_sub(self.last) >= timeout;
        if !self.stalled && late && self.next.is_some() {
            self.stalled = true;
            dev_info!(queue.shared.dev.dev(), "guest does not receive\n");
            queue.shared.set_stalled(true);
        }
        // Without a carrier, no packet calls the thread: the guest's next request does.
        if self.stalled && self.ring.final_check_for(self.need.max(1))? {
            self.stalled = false;
            self.last = jiffies();
            dev_info!(queue.shared.dev.dev(), "guest receives again\n");
            queue.shared.set_stalled(false);
            self.calls.call();
        }
        Ok(())
    }

    /// Has the thread called when a packet has waited for too long.
    fn set_timer(&self, queue: &Queue) {
        if let Some(since) = self.waits_since(queue) {
            self.timer
                .set(since.wrapping_add(queue.shared.drain_timeout()));
        }
    }
}
