// SPDX-License-Identifier: GPL-2.0

//! The ring by which packets are received.
//!
//! A program that is to see packets first sees those that are in one page, after the access to that was
//! taken back; the others are dropped.
//!
//! It is kept full of pages that the back end writes to. The bytes of a small packet are copied out of
//! its page, which stays granted and goes into the ring again as it is; from the pages of a large one
//! the access is taken back, and they become the packet's.

use crate::{
    interface::Shared,
    queue::{Channel, Channels, Queue},
    tx::Offload,
};
use kernel::{dev_warn, time::msecs_to_jiffies};
use xenbus::{
    grant::GrantReserve,
    kthread::jiffies,
    net::{
        self, GsoKind, LentPage, Napi, PagePool, PollContext, PoolPage, Program, SkBuff, Verdict,
        XdpBuff, XdpFrame, XdpQueue, MAX_FRAGMENTS,
    },
    prelude::*,
    protocol::{
        netif::{self, Checksum, Part, RxNext, RxPacket, RxRequest},
        ring::Front,
    },
    ring::FrontArea,
    timer::Timer,
};

/// Entries of the ring.
const ENTRIES: usize = 256;

/// Bytes of a packet that are copied rather than kept in their page.
const COPIED: usize = 256;

/// Bytes of a large packet that are copied to its linear part, for the headers.
const LINEAR: usize = 128;

/// How long to wait before memory is asked for again, in milliseconds.
const REFILL_MS: u32 = 100;

/// A receive ring.
pub(crate) struct Rx {
    ring: Front<FrontArea, netif::Rx>,
    channels: Channels,
    domid: u16,
    packet: RxPacket,
    /// The page of each entry that the back end has.
    pages: KVec<Option<LentPage>>,
    /// Pages that it has access to, but that are in no entry.
    spare: KVec<LentPage>,
    reserve: GrantReserve,
    /// What decides on packets before the stack gets them.
    pub(crate) program: Option<Program>,
    /// The queue, to it, and the pages.
    xdp: XdpQueue,
    /// A program has had packets sent of which the back end has not been told.
    unpublished: bool,
    /// Room for frames that were sent, on their way back to their owners.
    pub(crate) finished: KVec<XdpFrame>,
    /// Has the queue polled when memory was short.
    timer: Timer,
}

impl Rx {
    pub(crate) fn new(
        dev: &Device,
        napi: &Napi<Queue>,
        ring: Front<FrontArea, netif::Rx>,
        channels: Channels,
        timer: Timer,
    ) -> Result<KBox<Self>> {
        let pool = PagePool::new(dev, ENTRIES as u32)?;
        let mut pages = KVec::with_capacity(ENTRIES, GFP_KERNEL)?;
        for _ in 0..ENTRIES {
            pages.push(None, GFP_KERNEL)?;
        }
        let rx = Rx {
            ring,
            channels,
            domid: dev.otherend_id(),
            packet: RxPacket::new(),
            pages,
            spare: KVec::with_capacity(ENTRIES, GFP_KERNEL)?,
            reserve: GrantReserve::new(ENTRIES as u16)?,
            program: None,
            xdp: XdpQueue::new(napi.dev(), napi.target().index, pool)?,
            unpublished: false,
            finished: KVec::with_capacity(ENTRIES, GFP_KERNEL)?,
            timer,
        };
        Ok(KBox::new(rx, GFP_KERNEL)?)
    }

    /// The channel by which the back end is told of pages.
    pub(crate) fn channel(&self) -> &Channel {
        self.channels.rx()
    }

    #[inline]
    pub(crate) fn channels(&mut self) -> &mut Channels {
        &mut self.channels
    }

    /// Whether there are packets after all. If not, there will be an event for the next one.
    #[inline]
    pub(crate) fn final_check(&mut self, shared: &Shared) -> bool {
        self.ring.final_check().unwrap_or_else(|overrun| {
            shared.set_broken(fmt!("receive ring: {overrun:?}"));
            false
        })
    }

    /// Fills the ring with pages. With soft interrupts off.
    pub(crate) fn refill(&mut self, queue: &Queue) {
        let mut short = false;
        while self.ring.free() > 0 {
            let page = self.spare.pop();
            let Some(page) = page.or_else(|| self.fresh(queue.shared.bounces())) else {
                short = true;
                break;
            };
            let entry = self.ring.next_request();
            let Some(place) = self.pages.get_mut(entry as usize) else {
                break;
            };
            let request = RxRequest {
                id: entry as u16,
                gref: page.gref(),
            };
            // What was in the entry before has been taken out when it was answered.
            *place = Some(page);
            // There is room.
            let _ = self.ring.push(&request);
        }
        if self.ring.publish() && queue.shared.net.has_carrier() {
            self.channel().notify();
        }
        if short {
            let delay = msecs_to_jiffies(REFILL_MS) as u64;
            self.timer.set(jiffies().wrapping_add(delay));
        }
    }

    /// A page that is not lent yet. `clear`: one that was used before is to show nothing of that.
    fn fresh(&mut self, clear: bool) -> Option<LentPage> {
        let mut page = self.xdp.alloc()?;
        if clear {
            page.clear();
        }
        LentPage::new(page, self.domid, &mut self.reserve).ok()
    }

    /// Takes at most `budget` packets and gives them to the stack; says how many there were.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        queue: &Queue,
        context: &PollContext<'_>,
        budget: usize,
    ) -> usize {
        let mut done = 0;
        while done < budget {
            let (pages, spare) = (&mut self.pages, &mut self.spare);
            let next = self.packet.read(&mut self.ring, |entry| {
                if let Some(page) = pages.get_mut(entry as usize).and_then(Option::take) {
                    // There is room for as many as the ring has entries.
                    let _ = spare.push_within_capacity(page);
                }
            });
            match next {
                Ok(RxNext::Packet) => {}
                Ok(RxNext::Empty) => break,
                Ok(RxNext::Refused(why)) => {
                    done = done.wrapping_add(1);
                    queue.counts.rx_errors.add(1);
                    if !net::is_rate_limited() {
                        dev_warn!(queue.shared.dev.dev(), "packet refused: {why:?}\n");
                    }
                    continue;
                }
                Err(overrun) => {
                    queue.shared.set_broken(fmt!("receive ring: {overrun:?}"));
                    break;
                }
            }
            done = done.wrapping_add(1);
            let taken = if self.program.is_some() {
                self.filter(queue, context)
            } else {
                self.assemble().map(Some)
            };
            let skb = match taken {
                Ok(Some(skb)) => skb,
                Ok(None) => {
                    // A program's.
                    queue.counts.rx_packets.add(1);
                    queue.counts.rx_bytes.add(self.packet.size().into());
                    continue;
                }
                Err(gref) => {
                    queue
                        .shared
                        .set_broken(fmt!("page received with grant {gref} still mapped"));
                    break;
                }
            };
            let len = skb.as_ref().map_or(0, SkBuff::len) as u64;
            match skb.and_then(|skb| self.finish(skb, queue)) {
                Some(skb) => {
                    queue.counts.rx_packets.add(1);
                    queue.counts.rx_bytes.add(len);
                    context.receive(skb);
                }
                None => queue.counts.rx_errors.add(1),
            }
        }
        if core::mem::take(&mut self.unpublished) {
            queue.publish();
        }
        self.xdp.flush(context);
        self.channels.rx_useful(done > 0);
        done
    }

    /// Runs the program on what was read. `None`: the stack does not get it; within that, as
    /// [`Self::assemble`].
    ///
    /// # Errors
    ///
    /// As there.
    fn filter(
        &mut self,
        queue: &Queue,
        context: &PollContext<'_>,
    ) -> Result<Option<Option<SkBuff>>, u32> {
        let counts = &queue.counts;
        counts.xdp_packets.add(1);
        let Some(buff) = self.buff()? else {
            counts.xdp_drops.add(1);
            return Ok(None);
        };
        let Some(program) = &self.program else {
            return Ok(None);
        };
        match self.xdp.run(program, buff, context) {
            Verdict::Pass(buff) => {
                let (page, offset, len) = buff.into_parts();
                return Ok(Some(packet(page, offset, len, 0)));
            }
            Verdict::Tx(frame) => {
                let checksum = match self.packet.checksum() {
                    // It is for the back end to fill in, as it was for us.
                    Checksum::Blank => Checksum::Blank,
                    Checksum::Good | Checksum::Unknown => Checksum::Unknown,
                };
                let gso = self.packet.extras().gso;
                match queue.send_frame(frame, Offload { checksum, gso }) {
                    Ok(()) => {
                        self.unpublished = true;
                        counts.xdp_tx.add(1);
                    }
                    Err(frame) => {
                        drop(frame);
                        self.xdp.not_sent(program);
                        counts.xdp_drops.add(1);
                    }
                }
            }
            Verdict::Redirected => counts.xdp_redirects.add(1),
            Verdict::Drop | Verdict::Aborted => counts.xdp_drops.add(1),
        }
        Ok(None)
    }

    /// What was read, for a program to see. `None`: it is not in one page, there is no room around it,
    /// or memory is short; it has been dropped.
    ///
    /// # Errors
    ///
    /// As of [`Self::assemble`].
    fn buff(&mut self) -> Result<Option<XdpBuff>, u32> {
        let Some((first, rest)) = self.packet.parts().split_first() else {
            return Ok(None);
        };
        let Some(page) = take(&mut self.pages, first.entry) else {
            return Ok(None);
        };
        if !rest.is_empty() {
            // There is room for as many as the ring has entries.
            let _ = self.spare.push_within_capacity(page);
            for part in rest {
                if let Some(page) = take(&mut self.pages, part.entry) {
                    let _ = self.spare.push_within_capacity(page);
                }
            }
            return Ok(None);
        }
        let (offset, len) = (first.offset as usize, first.len as usize);
        let page = match XdpBuff::new(back(page, &mut self.reserve)?, offset, len) {
            Ok(buff) => return Ok(Some(buff)),
            Err(page) => page,
        };
        let Some(other) = self.xdp.alloc() else {
            return Ok(None);
        };
        Ok(XdpBuff::copied(other, &page, offset, len))
    }

    /// Makes a packet of the parts that were read. `None`: memory is short.
    ///
    /// # Errors
    ///
    /// The reference of a page that the back end still has mapped.
    #[inline]
    fn assemble(&mut self) -> core::result::Result<Option<SkBuff>, u32> {
        let (pages, reserve) = (&mut self.pages, &mut self.reserve);
        let mut parts = self.packet.parts().iter();
        let Some(first) = parts.next() else {
            return Ok(None);
        };
        let rest = parts.len();
        let Some(page) = take(pages, first.entry) else {
            return Ok(None);
        };
        let (offset, len) = (first.offset as usize, first.len as usize);
        if rest == 0 && len <= COPIED {
            let skb = SkBuff::new(len, |to| page.copy_out(offset, to));
            // There is room for as many as the ring has entries.
            let _ = self.spare.push_within_capacity(page);
            return Ok(skb);
        }
        let mut skb = packet(back(page, reserve)?, offset, len, rest);
        for Part { entry, offset, len } in parts {
            let Some(page) = take(pages, *entry) else {
                return Ok(None);
            };
            add(
                &mut skb,
                back(page, reserve)?,
                *offset as usize,
                *len as usize,
            );
        }
        Ok(skb)
    }

    /// Makes a packet ready for the stack. `None`: its headers make no sense.
    #[inline]
    fn finish(&self, mut skb: SkBuff, queue: &Queue) -> Option<SkBuff> {
        skb.set_checksum(match self.packet.checksum() {
            Checksum::Blank => net::Checksum::Blank,
            Checksum::Good => net::Checksum::Right,
            Checksum::Unknown => net::Checksum::Unknown,
        });
        let gso = self.packet.extras().gso;
        if let Some(gso) = gso {
            skb.set_gso(net::Gso {
                size: gso.size,
                kind: if gso.ipv6 {
                    GsoKind::TcpV6
                } else {
                    GsoKind::TcpV4
                },
            });
        }
        skb.receive_on(&queue.shared.net).ok()?;
        let mut recalculate = false;
        if gso.is_some() && skb.checksum() != net::Checksum::Blank {
            // It has to be; there are back ends that do not say so.
            queue.counts.gso_fixup.add(1);
            skb.set_checksum(net::Checksum::Blank);
            recalculate = true;
        }
        if skb.checksum() == net::Checksum::Blank {
            skb.set_up_checksum(recalculate).ok()?;
        }
        Some(skb)
    }
}

/// The page of an entry of the ring.
#[inline]
fn take(pages: &mut [Option<LentPage>], entry: u32) -> Option<LentPage> {
    pages.get_mut(entry as usize).and_then(Option::take)
}

/// A packet that begins with `len` bytes of a page, of which the first ones are copied to its linear
/// part; `rest` fragments follow. `None`: memory is short.
#[inline]
fn packet(page: PoolPage, offset: usize, len: usize, rest: usize) -> Option<SkBuff> {
    // All parts but the first one are fragments.
    let linear = match rest {
        0 if len <= COPIED => len,
        _ if rest < MAX_FRAGMENTS => LINEAR.min(len),
        _ => len,
    };
    let mut skb = SkBuff::new(linear, |to| page.copy_out(offset, to));
    if linear < len {
        add(&mut skb, page, offset + linear, len - linear);
    }
    skb
}

/// Takes the access to a page back. The error is its reference, while the back end has it mapped; the
/// page is freed when it lets go.
#[inline]
fn back(page: LentPage, reserve: &mut GrantReserve) -> core::result::Result<PoolPage, u32> {
    page.take_back(reserve).map_err(|page| page.gref())
}

/// Adds a page to the end of a packet, which is given up if that does not work.
#[inline]
fn add(skb: &mut Option<SkBuff>, page: PoolPage, offset: usize, len: usize) {
    if let Some(packet) = skb {
        if packet.add_pool_page(page, offset, len).is_err() {
            *skb = None;
        }
    }
}
