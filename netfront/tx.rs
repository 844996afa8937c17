// SPDX-License-Identifier: GPL-2.0

//! The ring by which packets are sent.

use crate::{interface::Shared, queue::Channel};
use xenbus::{
    net::{Checksum, Gso, GsoKind, LentPackets, SkBuff, SkbList, StillMapped},
    prelude::*,
    protocol::{
        netif::{self, Extras, Id, TxIds, TxSend, ETH_HLEN, NR_SLOTS_MIN},
        ring::Front,
    },
    ring::FrontArea,
};

/// Entries of the ring.
pub(crate) const ENTRIES: usize = 256;

/// A packet takes at most so many of them: its parts, and two of extra information.
const MOST: u32 = NR_SLOTS_MIN as u32 + 2;

/// A transmit ring.
pub(crate) struct Tx {
    ring: Front<FrontArea, netif::Tx>,
    channel: Arc<Channel>,
    ids: TxIds<[Id; ENTRIES]>,
    lent: LentPackets,
}

/// A packet that the back end takes.
pub(crate) struct Ready {
    skb: SkBuff,
    parts: usize,
    send: TxSend,
}

impl Tx {
    pub(crate) fn new(
        ring: Front<FrontArea, netif::Tx>,
        channel: &Arc<Channel>,
        domid: u16,
    ) -> Result<KBox<Self>> {
        let tx = Tx {
            ring,
            channel: channel.clone(),
            ids: TxIds::new([Id::UNUSED; ENTRIES]),
            lent: LentPackets::new(domid, ENTRIES as u16)?,
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
        let mut first = skb.parts().next()?.len;
        let mut parts = skb.parts().count();
        // The back end wants the Ethernet header in the first part; one that is not trusted must see
        // nothing but the packet; and one that takes a single part only may get one that crosses the
        // end of a page by chance.
        if shared.bounces() || first < ETH_HLEN as usize || !shared.takes_parts(parts) {
            let copy = skb.copy_to_own_pages()?;
            core::mem::replace(&mut skb, copy).consume();
            first = skb.parts().next()?.len;
            parts = skb.parts().count();
        }
        if parts > NR_SLOTS_MIN {
            skb.linearize().ok()?;
            parts = skb.parts().count();
        }
        let gso = skb.gso();
        let takes = shared.takes_parts(parts) && gso.is_none_or(|gso| shared.takes_gso(gso.kind));
        if !takes || first < ETH_HLEN as usize {
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
        let send = TxSend::new(skb.len() as u32, parts as u32, checksum, extras).ok()?;
        Some(Ready { skb, parts, send })
    }

    /// Whether there is room for any packet.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.ring.free() >= MOST
    }

    /// Sends a packet. `None`: there is no room.
    #[inline]
    pub(crate) fn send(&mut self, ready: Ready) -> Option<()> {
        let Ready {
            mut skb,
            parts,
            mut send,
        } = ready;
        if self.ring.free() < send.entries() {
            return None;
        }
        skb.timestamp();
        let (ring, ids) = (&mut self.ring, &mut self.ids);
        let lent = self.lent.lend(skb, parts, |gref, offset, len| {
            let id = ids.start().ok()?;
            let extras = send.push(ring, id, gref, offset, len).ok()?;
            ids.start_extras(extras);
            Some(id)
        });
        if self.ring.publish() {
            self.channel.notify();
        }
        lent.ok()
    }

    /// Takes the back end's answers; packets that are done with are added to `done`. Says whether
    /// there was any.
    #[inline]
    pub(crate) fn reclaim(&mut self, shared: &Shared, done: &mut SkbList) -> bool {
        let mut useful = false;
        loop {
            let response = match self.ring.pop() {
                Ok(Some(response)) => response,
                Ok(None) => return useful,
                Err(overrun) => {
                    shared.set_broken(fmt!("transmit ring: {overrun:?}"));
                    return useful;
                }
            };
            useful = true;
            let id = match self.ids.finish(&response) {
                Ok(Some(id)) => id,
                Ok(None) => continue,
                Err(bad) => {
                    shared.set_broken(fmt!("transmit ring: {bad:?}"));
                    return useful;
                }
            };
            match self.lent.end(id) {
                Ok(Some(skb)) => done.push(skb),
                Ok(None) => {}
                Err(StillMapped(gref)) => {
                    shared.set_broken(fmt!("packet answered with grant {gref} still mapped"));
                    return useful;
                }
            }
        }
    }

    /// Whether there are answers after all. If not, there will be an event for the next one.
    #[inline]
    pub(crate) fn final_check(&mut self, shared: &Shared) -> bool {
        self.ring.final_check().unwrap_or_else(|overrun| {
            shared.set_broken(fmt!("transmit ring: {overrun:?}"));
            false
        })
    }
}
