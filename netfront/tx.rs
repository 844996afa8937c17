// SPDX-License-Identifier: GPL-2.0

//! The ring by which packets are sent.
//!
//! The bytes of a small packet are copied to a page that the back end may read in any case, and the
//! packet is done with at once: nobody waits for the answer, and there is no event for it. A large one
//! is lent where it lies, until it has been answered.

use crate::{interface::Shared, queue::Channel};
use kernel::time::msecs_to_jiffies;
use xenbus::{
    kthread::jiffies,
    net::{
        Checksum, Gso, GsoKind, LentPackets, Outgoing, SkBuff, SkbList, Staging, StillMapped,
        XdpFrame, STAGED,
    },
    prelude::*,
    protocol::{
        netif::{self, Extras, Id, TxIds, TxSend, ETH_HLEN, NR_SLOTS_MIN},
        ring::{Front, Overrun},
    },
    ring::FrontArea,
    timer::Timer,
};

/// Entries of the ring.
pub(crate) const ENTRIES: usize = 256;

/// A packet takes at most so many of them: its parts, and two of extra information.
const MOST: u32 = NR_SLOTS_MIN as u32 + 2;

/// How long answers, fewer than there is an event for, may wait to be taken, in milliseconds.
const PATIENCE_MS: u32 = 4;

/// A transmit ring.
pub(crate) struct Tx {
    ring: Front<FrontArea, netif::Tx>,
    channel: Arc<Channel>,
    ids: TxIds<[Id; ENTRIES]>,
    lent: LentPackets,
    /// Frames that are done with, and that are to be given back by who holds no lock.
    finished: KVec<XdpFrame>,
    /// Those, and those that are lent: at most [`ENTRIES`].
    frames: usize,
    staging: Staging,
    /// The event that the back end has been asked for.
    asked: Asked,
    /// Has the queue polled when too few answers have come for an event.
    timer: Timer,
    /// When it does, in jiffies; or when it last did.
    due: u64,
    /// There was an answer since [`Self::take_useful`].
    useful: bool,
}

/// The event that the back end has been asked for since its last answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    /// For a number of answers.
    Several,
    /// For the next one.
    Next,
}

/// What the back end is to do to a frame.
#[derive(Clone, Copy)]
pub(crate) struct Offload {
    pub(crate) checksum: netif::Checksum,
    pub(crate) gso: Option<netif::Gso>,
}

impl Offload {
    /// Nothing, as far as is known.
    pub(crate) const NONE: Self = Offload {
        checksum: netif::Checksum::Unknown,
        gso: None,
    };
}

/// A packet that the back end takes.
pub(crate) struct Ready {
    skb: SkBuff,
    /// How many references it takes; 0: it is copied.
    parts: usize,
    /// It is in pages that hold nothing else.
    alone: bool,
    send: TxSend,
}

impl Ready {
    /// Whether the back end that there is now may see it: it may be one that is trusted less than that for
    /// which the packet was prepared. With the lock of the ring.
    #[inline]
    pub(crate) fn may_be_seen(&self, shared: &Shared) -> bool {
        self.alone || !shared.bounces()
    }
}

impl Tx {
    pub(crate) fn new(
        ring: Front<FrontArea, netif::Tx>,
        channel: &Arc<Channel>,
        domid: u16,
        timer: Timer,
    ) -> Result<KBox<Self>> {
        let tx = Tx {
            ring,
            channel: channel.clone(),
            ids: TxIds::new([Id::UNUSED; ENTRIES]),
            lent: LentPackets::new(domid, ENTRIES as u16)?,
            finished: KVec::with_capacity(ENTRIES, GFP_KERNEL)?,
            frames: 0,
            staging: Staging::new(domid, ENTRIES as u16)?,
            asked: Asked::No,
            timer,
            due: jiffies(),
            useful: false,
        };
        Ok(KBox::new(tx, GFP_KERNEL)?)
    }

    /// The channel by which the back end is told of packets.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Makes a packet one that the back end takes. `None`: it cannot be sent.
    #[inline]
    pub(crate) fn prepare(mut skb: SkBuff, shared: &Shared) -> Option<Ready> {
        if skb.len() <= STAGED {
            return Self::describe(skb, 0, true, shared);
        }
        let mut alone = false;
        let mut first = skb.parts().next()?.len;
        let mut parts = skb.parts().count();
        // The back end wants the Ethernet header in the first part; one that is not trusted must see
        // nothing but the packet; and one that takes a single part only may get one that crosses the
        // end of a page by chance.
        if shared.bounces() || first < ETH_HLEN as usize || !shared.takes_parts(parts) {
            let copy = skb.copy_to_own_pages()?;
            core::mem::replace(&mut skb, copy).consume();
            alone = true;
            first = skb.parts().next()?.len;
            parts = skb.parts().count();
        }
        if parts > NR_SLOTS_MIN {
            skb.linearize().ok()?;
            alone = false;
            parts = skb.parts().count();
        }
        if !shared.takes_parts(parts) || first < ETH_HLEN as usize {
            return None;
        }
        Self::describe(skb, parts, alone, shared)
    }

    #[inline]
    fn describe(skb: SkBuff, parts: usize, alone: bool, shared: &Shared) -> Option<Ready> {
        let gso = skb.gso();
        if !gso.is_none_or(|gso| shared.takes_gso(gso.kind)) {
            return None;
        }
        let checksum = match skb.checksum() {
            Checksum::Blank => netif::Checksum::Blank,
            Checksum::Right => netif::Checksum::Good,
            Checksum::Unknown => netif::Checksum::Unknown,
        };
        let extras = Extras {
            gso: gso.map(|Gso { size, kind }| netif::Gso {
                size,
                ipv6: kind == GsoKind::TcpV6,
            }),
            ..Extras::default()
        };
        let requests = parts.max(1) as u32;
        let send = TxSend::new(skb.len() as u32, requests, checksum, extras).ok()?;
        Some(Ready {
            skb,
            parts,
            alone,
            send,
        })
    }

    /// Whether there is room for any packet.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.ring.free() >= MOST
    }

    /// Whether there are so few free entries that it is time to look for answers.
    #[inline]
    pub(crate) fn is_filling(&self) -> bool {
        self.ring.free() < ENTRIES as u32 / 4
    }

    /// Sends a packet. Gives it back if it is done with. `None`: there is no room.
    #[inline]
    pub(crate) fn send(&mut self, ready: Ready) -> Option<Option<SkBuff>> {
        let Ready {
            mut skb,
            parts,
            mut send,
            ..
        } = ready;
        if self.ring.free() < send.entries() {
            return None;
        }
        skb.timestamp();
        if parts == 0 {
            let len = skb.len() as u16;
            let id = self.ids.start().ok()?;
            let extras = self
                .staging
                .put(id, &skb)
                .and_then(|(gref, offset)| send.push(&mut self.ring, id, gref, offset, len).ok());
            let Some(extras) = extras else {
                self.ids.cancel(id);
                return None;
            };
            self.ids.start_extras(extras);
            self.publish();
            return Some(Some(skb));
        }
        let lent = self.lend(Outgoing::Skb(skb), parts, send);
        self.publish();
        lent.ok().map(|()| None)
    }

    /// Writes a packet, for which there is room, into the ring.
    #[inline]
    fn lend(&mut self, sent: Outgoing, parts: usize, mut send: TxSend) -> Result<(), Outgoing> {
        let (ring, ids) = (&mut self.ring, &mut self.ids);
        self.lent.lend(sent, parts, |gref, offset, len| {
            let id = ids.start().ok()?;
            let extras = send.push(ring, id, gref, offset, len).ok()?;
            ids.start_extras(extras);
            Some(id)
        })
    }

    /// Shows the back end what has been written into the ring.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.ring.publish() {
            self.channel.notify();
        }
    }

    /// Writes a frame into the ring. With [`Self::publish`] the back end sees it.
    ///
    /// # Errors
    ///
    /// The frame, when there is no room, or when the back end does not take it.
    #[inline]
    pub(crate) fn send_frame(
        &mut self,
        frame: XdpFrame,
        offload: Offload,
        shared: &Shared,
    ) -> Result<(), XdpFrame> {
        let first = frame.parts().next().map_or(0, |part| part.len);
        let parts = frame.parts().count();
        let gso = offload.gso.is_none_or(|gso| {
            shared.takes_gso(if gso.ipv6 {
                GsoKind::TcpV6
            } else {
                GsoKind::TcpV4
            })
        });
        let fits = parts <= NR_SLOTS_MIN && self.has_room() && self.frames < ENTRIES;
        if !fits || !gso {
            return Err(frame);
        }
        // As in `prepare`.
        let copied = shared.bounces() || first < ETH_HLEN as usize || !shared.takes_parts(parts);
        let extras = Extras {
            gso: offload.gso,
            ..Extras::default()
        };
        let new = |len: usize, parts| TxSend::new(len as u32, parts, offload.checksum, extras);
        if !copied {
            let Ok(send) = new(frame.len(), parts as u32) else {
                return Err(frame);
            };
            return match self.lend(Outgoing::Frame(frame), parts, send) {
                Ok(()) => {
                    self.frames = self.frames.wrapping_add(1);
                    Ok(())
                }
                Err(Outgoing::Frame(frame)) => Err(frame),
                Err(Outgoing::Skb(_)) => Ok(()),
            };
        }
        let Some(copy) = frame.copy_to_own_pages() else {
            return Err(frame);
        };
        let parts = copy.parts().count();
        let Ok(send) = new(copy.len(), parts as u32) else {
            return Err(frame);
        };
        if !shared.takes_parts(parts) || self.lend(Outgoing::Skb(copy), parts, send).is_err() {
            return Err(frame);
        }
        self.frames = self.frames.wrapping_add(1);
        self.finish(frame);
        Ok(())
    }

    /// A frame, one of those that are counted, is to be given back.
    #[inline]
    fn finish(&mut self, frame: XdpFrame) {
        // There is room for as many as are counted.
        let _ = self.finished.push_within_capacity(frame);
    }

    /// Whether there are frames to be given back.
    #[inline]
    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Exchanges the frames that are to be given back for `empty`, which has as much room and holds
    /// none.
    #[inline]
    pub(crate) fn take_finished(&mut self, empty: &mut KVec<XdpFrame>) {
        self.frames = self.frames.wrapping_sub(self.finished.len());
        core::mem::swap(&mut self.finished, empty);
    }

    /// Whether there was an answer since this was last asked.
    #[inline]
    pub(crate) fn take_useful(&mut self) -> bool {
        core::mem::take(&mut self.useful)
    }

    /// Takes the back end's answers; packets that are done with are added to `done`.
    #[inline]
    pub(crate) fn reclaim(&mut self, shared: &Shared, done: &mut SkbList) {
        loop {
            let response = match self.ring.pop() {
                Ok(Some(response)) => response,
                Ok(None) => return,
                Err(overrun) => {
                    shared.set_broken(fmt!("transmit ring: {overrun:?}"));
                    return;
                }
            };
            self.useful = true;
            self.asked = Asked::No;
            let id = match self.ids.finish(&response) {
                Ok(Some(id)) => id,
                Ok(None) => continue,
                Err(bad) => {
                    shared.set_broken(fmt!("transmit ring: {bad:?}"));
                    return;
                }
            };
            match self.lent.end(id) {
                Ok(Some(Outgoing::Skb(skb))) => done.push(skb),
                Ok(Some(Outgoing::Frame(frame))) => self.finish(frame),
                Ok(None) => {}
                Err(StillMapped(gref)) => {
                    shared.set_broken(fmt!("packet answered with grant {gref} still mapped"));
                    return;
                }
            }
        }
    }

    /// Whether somebody waits for answers, and the back end is yet to be asked for an event.
    #[inline]
    pub(crate) fn wants_event(&self) -> bool {
        let waited_for = !self.lent.is_empty() || !self.has_room();
        waited_for && (self.asked == Asked::No || self.is_overdue())
    }

    /// Whether fewer answers than the back end was asked to tell of have come in the time for them.
    #[inline]
    fn is_overdue(&self) -> bool {
        self.asked == Asked::Several && jiffies() >= self.due
    }

    /// If somebody waits for answers: whether there are any after all. If not, there will be an event
    /// when there are half of them; or, if that takes too long, for the next one: a back end
    /// answers what was lent when it likes, and each answer may be what a socket waits for.
    #[inline]
    pub(crate) fn final_check(&mut self, shared: &Shared) -> bool {
        let there = if self.wants_event() {
            self.ask(shared)
        } else {
            // What is wrong with the ring is to be found out even so.
            self.check(shared, |ring| ring.unconsumed().map(|_| false))
        };
        if self.asked == Asked::Several {
            // Also if it has been set for earlier ones: it may be over just now.
            self.timer.set(self.due);
        }
        there
    }

    /// Asks the back end for an event, unless there are answers.
    #[inline]
    fn ask(&mut self, shared: &Shared) -> bool {
        let half = self.ring.unanswered() / 2;
        let count = if self.is_overdue() { 1 } else { half.max(1) };
        let there = self.check(shared, |ring| ring.final_check_for(count));
        if !there && count > 1 {
            self.asked = Asked::Several;
            let now = jiffies();
            if now >= self.due {
                // Of the tick that is now there may be nothing left.
                let ticks = msecs_to_jiffies(PATIENCE_MS) as u64;
                self.due = now.wrapping_add(ticks).wrapping_add(1);
            }
        } else if !there {
            self.asked = Asked::Next;
        }
        there
    }

    #[inline]
    fn check(
        &mut self,
        shared: &Shared,
        look: impl FnOnce(&mut Front<FrontArea, netif::Tx>) -> Result<bool, Overrun>,
    ) -> bool {
        look(&mut self.ring).unwrap_or_else(|overrun| {
            shared.set_broken(fmt!("transmit ring: {overrun:?}"));
            false
        })
    }
}
