// SPDX-License-Identifier: GPL-2.0

//! What the guest transmits: read from its ring, checked, copied, and given to the stack.
//!
//! All in soft interrupt context, as one poll of the queue: the packets that are in the ring are
//! copied in one hypercall, then answered, then given to the stack.

use crate::{
    credit::Account,
    params,
    queue::{give_eoi, Channel, Queue},
};
use kernel::{dev_err, dev_warn};
use xenbus::{
    kthread::now_ns,
    net::{self, copy::Fill, PagePool, PollContext, SkBuff, SkbList},
    prelude::*,
    protocol::{
        netif::{
            self, answer_request, status, Checksum, Pace, TxFatal, TxNext, TxPacket,
            MAX_TX_REQUESTS,
        },
        ring::{Back, Indices},
    },
    ring::BackArea,
    timer::HrTimer,
};

/// Packets that are copied in one go.
const BATCH: usize = 64;

/// Copies that are done in one go: of each entry of the ring at most one to the end of a page, one
/// to a whole page and one more; and those that a packet's linear part makes more.
const COPIES: usize = 256 * 3;

/// Pages that are kept for packets to come, beside 64 that the pool has at hand. There are none before
/// the first large packet.
const PAGES: u32 = 256;

/// The most bytes of a packet that are copied to its linear part if the guest keeps none apart.
const LINEAR: u32 = 128;

/// A first request of at most so many bytes is taken for the packet's headers.
const MAX_HEADERS: u16 = 256;

/// A transmit ring.
pub(crate) struct Tx {
    ring: Back<BackArea, netif::Tx>,
    channel: Arc<Channel>,
    fill: Fill<Answers>,
    packet: TxPacket,
    /// There is a packet that may be sent only when there is more credit.
    held: bool,
    credit: Account,
    /// Has the queue polled when there is, and when a packet has waited for others to come.
    timer: HrTimer,
    pace: Pace,
    /// For [`Shared::was_sent`](crate::vif::Shared::was_sent).
    sendings: u32,
    /// The ring's index when it was found empty last.
    consumed: u32,
    fatal_slots: usize,
    /// Something has been taken from the ring since the last EOI.
    useful: bool,
    ready: SkbList,
}

/// What is to be answered when a packet has been copied.
struct Answers {
    ids: [u16; MAX_TX_REQUESTS],
    count: u8,
    extras: u32,
}

impl Answers {
    #[inline]
    fn of(packet: &TxPacket) -> Self {
        let mut ids = [0; MAX_TX_REQUESTS];
        let mut count = 0;
        for (id, request) in ids.iter_mut().zip(packet.requests()) {
            *id = request.id;
            count += 1;
        }
        Answers {
            ids,
            count,
            extras: packet.extra_count(),
        }
    }

    #[inline]
    fn write(&self, ring: &mut Back<BackArea, netif::Tx>, status: i16) {
        let mut extras = self.extras;
        for id in self.ids.iter().take(self.count.into()) {
            answer_request(ring, *id, extras, status);
            extras = 0;
        }
    }
}

impl Tx {
    /// `timer` has the queue polled.
    pub(crate) fn new(
        dev: &Device,
        ring: Back<BackArea, netif::Tx>,
        channel: &Arc<Channel>,
        timer: HrTimer,
    ) -> Result<KBox<Self>> {
        let pool = PagePool::new(dev, PAGES)?;
        let tx = Tx {
            consumed: ring.consumed(),
            ring,
            channel: channel.clone(),
            fill: Fill::new(dev.otherend_id(), pool, BATCH, COPIES)?,
            packet: TxPacket::new(),
            held: false,
            credit: Account::new(),
            timer,
            pace: Pace::new(),
            sendings: 0,
            fatal_slots: params::fatal_slots(),
            useful: false,
            ready: SkbList::new(),
        };
        Ok(KBox::new(tx, GFP_KERNEL)?)
    }

    /// What is shown of the ring: its indices, the credit, and whether a packet waits for some.
    pub(crate) fn state(&self) -> (Indices, &Account, bool) {
        (self.ring.indices(), &self.credit, self.held)
    }

    /// Takes at most `budget` packets.
    pub(crate) fn poll(
        &mut self,
        queue: &Queue,
        context: &PollContext<'_>,
        budget: usize,
    ) -> usize {
        if queue.shared.is_broken() {
            // No EOI: this front end will not be heard again.
            return 0;
        }
        let taken = match self.take(queue, budget.min(BATCH)) {
            Ok(taken) => taken,
            Err(why) => {
                dev_err!(
                    queue.shared.dev.dev(),
                    "front end breaks the rules: {why:?}; vif disabled\n"
                );
                queue.shared.set_broken();
                return 0;
            }
        };
        self.useful |= taken > 0;
        if taken > 0 {
            queue.shared.set_heard();
        }
        self.copy(queue);
        while let Some(skb) = self.ready.pop() {
            queue.shared.net.receive(skb);
        }
        if taken < budget {
            context.complete(taken);
            if self.held {
                // The timer will have it polled.
            } else if self.sleep(queue) {
                give_eoi(&self.channel, core::mem::take(&mut self.useful));
            } else {
                context.schedule();
            }
        }
        taken
    }

    /// Nothing is left: asks for an event. False: there is something after all,
    /// were it only what is wrong with the ring.
    #[inline]
    fn sleep(&mut self, queue: &Queue) -> bool {
        if self.ring.unconsumed() != Ok(0) {
            return false;
        }
        let (mut count, delay) = (1, params::coalesce_ns());
        if delay > 0 {
            let now = self.ring.consumed();
            let taken = now.wrapping_sub(core::mem::replace(&mut self.consumed, now));
            let alone = !queue.shared.was_sent(&mut self.sendings);
            count = self.pace.next(now_ns(), taken, alone, delay);
        }
        if self.ring.final_check_for(count) != Ok(false) {
            return false;
        }
        if count > 1 {
            self.timer.start(delay);
        }
        true
    }

    /// Takes packets, to be copied; says how many there were, bad ones, too.
    fn take(&mut self, queue: &Queue, most: usize) -> Result<usize, TxFatal> {
        for taken in 0..most {
            let next = if self.held {
                TxNext::Packet
            } else {
                self.packet.read(&mut self.ring, self.fatal_slots)?
            };
            match next {
                TxNext::Empty => return Ok(taken),
                TxNext::Packet => {
                    let size = self.packet.size();
                    let credit = self.credit.take(size, &queue.limit);
                    self.held = credit.is_err();
                    if let Err(when) = credit {
                        self.timer.start(when);
                        return Ok(taken);
                    }
                    if self.begin().is_err() {
                        self.packet.answer(&mut self.ring, status::ERROR);
                        queue.counts.rx_errors.add(1);
                    }
                }
                TxNext::Multicast(change) => {
                    let status = if queue.shared.filter.change(change) {
                        status::OKAY
                    } else {
                        status::ERROR
                    };
                    self.packet.answer(&mut self.ring, status);
                }
                TxNext::Refused(why) => {
                    queue.counts.rx_errors.add(1);
                    if !net::is_rate_limited() {
                        dev_warn!(queue.shared.dev.dev(), "packet refused: {why:?}\n");
                    }
                }
            }
        }
        Ok(most)
    }

    /// Has the packet copied.
    #[inline]
    fn begin(&mut self) -> Result {
        let packet = &self.packet;
        let size = packet.size();
        // Headers that lie apart stay apart, so that data that are on the boundary of a page stay so.
        let first = packet.requests().first().map_or(0, |first| first.size);
        let linear = if u32::from(first) == size || (64..=MAX_HEADERS).contains(&first) {
            first.into()
        } else {
            size.min(LINEAR)
        };
        self.fill
            .begin(size as usize, linear as usize, Answers::of(packet))
            .map_err(|_| ENOMEM)?;
        for piece in packet.pieces(0, size) {
            let added = self
                .fill
                .add(piece.gref, piece.offset as u16, piece.len as u16);
            if let Err(e) = added {
                self.fill.abandon();
                return Err(e);
            }
        }
        if let Some(mut skb) = self.fill.last() {
            skb.set_checksum(match packet.checksum() {
                Checksum::Blank => net::Checksum::Blank,
                Checksum::Good => net::Checksum::Right,
                Checksum::Unknown => net::Checksum::Unknown,
            });
            if let Some(gso) = packet.extras().gso {
                skb.set_gso(net::Gso {
                    size: gso.size,
                    kind: if gso.ipv6 {
                        net::GsoKind::TcpV6
                    } else {
                        net::GsoKind::TcpV4
                    },
                });
            }
        }
        Ok(())
    }

    /// Copies, answers, and makes packets ready for the stack.
    fn copy(&mut self, queue: &Queue) {
        let (ring, ready) = (&mut self.ring, &mut self.ready);
        self.fill.run(|answers, skb| match skb {
            Some(mut skb) => {
                answers.write(ring, status::OKAY);
                let len = skb.len();
                if prepare(&mut skb, queue).is_ok() {
                    queue.counts.rx_packets.add(1);
                    queue.counts.rx_bytes.add(len as u64);
                    ready.push(skb);
                } else {
                    queue.counts.rx_errors.add(1);
                }
            }
            None => {
                answers.write(ring, status::ERROR);
                queue.counts.rx_errors.add(1);
            }
        });
        if self.ring.publish() {
            self.channel.notify();
        }
    }
}

/// Makes a packet one that the interface has received.
#[inline]
fn prepare(skb: &mut SkBuff, queue: &Queue) -> Result {
    skb.receive_on(&queue.shared.net)?;
    let mut recalculate = false;
    if skb.gso().is_some() && skb.checksum() != net::Checksum::Blank {
        // It has to be; there are front ends that do not say so.
        queue.counts.gso_fixup.add(1);
        skb.set_checksum(net::Checksum::Blank);
        recalculate = true;
    }
    if skb.checksum() == net::Checksum::Blank {
        skb.set_up_checksum(recalculate)?;
    }
    skb.probe_transport();
    skb.count_segments()
}
