// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The front end's side of the receive ring: responses and extra information made into a packet.
//!
//! A response is to the request that was in its entry of the ring; the driver's table of pages is
//! by that number. [`RxPacket::read`] says of each entry that it has taken either that its page
//! holds a part of the packet, or that it is of no use and can be granted anew as it is.

use super::{rxf, Checksum, Extra, Extras, FlowHash, Gso, HashKind, Info};
use super::{Rx, RxResponse, RxSlot, ETH_HLEN, NR_SLOTS_MIN, PAGE_SIZE};
use crate::ring::{Front, Memory, Overrun};

/// The most parts of a packet.
pub const MAX_RX_PARTS: usize = NR_SLOTS_MIN;

/// A packet that a front end can take up.
///
/// # Invariants
///
/// There are 1 to [`MAX_RX_PARTS`] parts, none empty, each within its page; together they have at
/// least [`ETH_HLEN`] bytes. The first need not have so many.
#[derive(Clone, Debug)]
pub struct RxPacket {
    parts: [Part; MAX_RX_PARTS],
    count: usize,
    size: u32,
    flags: u16,
    extras: Extras,
}

/// A part of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Number of the ring's entry.
    pub entry: u32,
    /// Byte offset in the page.
    pub offset: u32,
    /// Bytes, at least 1.
    pub len: u32,
}

/// What [`RxPacket::read`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxNext {
    /// No response.
    Empty,
    /// A packet, which is in the [`RxPacket`] now.
    Packet,
    /// A bad packet, of which nothing is left.
    Refused(RxReason),
}

/// Why a packet is refused. The ring is still in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxReason {
    /// The back end says that it failed, in [`status`](super::status).
    Status(i16),
    /// A part goes beyond its page, or is in front of the headroom.
    Page,
    /// The id is not that of the request that was in the entry.
    Id,
    /// It has more than [`MAX_RX_PARTS`] parts.
    Slots,
    /// There is no such extra information in this direction, or it is there twice.
    Extra,
    /// There is no such segmentation.
    Gso,
    /// More was announced than was sent.
    Truncated,
    /// It has no Ethernet header.
    Header,
}

impl RxPacket {
    /// No packet. It is made to be used for one packet after the other.
    pub const fn new() -> Self {
        Self {
            parts: [Part {
                entry: 0,
                offset: 0,
                len: 0,
            }; MAX_RX_PARTS],
            count: 0,
            size: 0,
            flags: 0,
            extras: Extras {
                gso: None,
                hash: None,
                headroom: 0,
            },
        }
    }

    /// Reads the next packet from the ring. The `id` of each request must be the number of its
    /// entry, [`Front::next_request`].
    ///
    /// Hands to `unused` the numbers of all entries that are not a part of it: the pages that were
    /// granted there can be granted anew.
    pub fn read<M: Memory>(
        &mut self,
        ring: &mut Front<M, Rx>,
        mut unused: impl FnMut(u32),
    ) -> Result<RxNext, Overrun> {
        self.clear();
        let Some((mut entry, slot)) = pop(ring)? else {
            return Ok(RxNext::Empty);
        };
        let first = slot.response();
        self.flags = first.flags;
        let mut reason = None;
        if first.flags & rxf::EXTRA_INFO != 0 {
            self.read_extras(ring, &mut unused, &mut reason)?;
        }
        // Linux's back end puts the headroom into the status, and nothing into the offset.
        let in_status = first.offset == 0 && self.extras.headroom != 0;
        let mut response = first;
        loop {
            let part = match self.part(entry, &response, in_status) {
                Ok(part) => part,
                Err(why) => {
                    reason = reason.or(Some(why));
                    None
                }
            };
            match (part, self.parts.get_mut(self.count)) {
                (None, _) => unused(entry),
                (Some(part), Some(to)) => {
                    *to = part;
                    self.count = self.count.wrapping_add(1);
                    self.size = self.size.wrapping_add(part.len);
                }
                (Some(_), None) => {
                    unused(entry);
                    reason = reason.or(Some(RxReason::Slots));
                }
            }
            if response.flags & rxf::MORE_DATA == 0 {
                break;
            }
            let Some((next, slot)) = pop(ring)? else {
                reason = reason.or(Some(RxReason::Truncated));
                break;
            };
            (entry, response) = (next, slot.response());
        }
        if self.size < ETH_HLEN {
            reason = reason.or(Some(RxReason::Header));
        }
        let Some(reason) = reason else {
            return Ok(RxNext::Packet);
        };
        for part in self.parts() {
            unused(part.entry);
        }
        self.clear();
        Ok(RxNext::Refused(reason))
    }

    /// Checks a response; `None`: there are no data.
    fn part(
        &self,
        entry: u32,
        response: &RxResponse,
        in_status: bool,
    ) -> Result<Option<Part>, RxReason> {
        let headroom = u32::from(self.extras.headroom);
        let mut len =
            u32::try_from(response.status).map_err(|_| RxReason::Status(response.status))?;
        if u32::from(response.id) != entry {
            return Err(RxReason::Id);
        }
        let mut offset = u32::from(response.offset);
        if in_status {
            offset = headroom;
            len = len.checked_sub(headroom).ok_or(RxReason::Page)?;
        }
        if offset.wrapping_add(len) > PAGE_SIZE {
            return Err(RxReason::Page);
        }
        Ok((len > 0).then_some(Part { entry, offset, len }))
    }

    /// Reads the extra information that follows the first response.
    fn read_extras<M: Memory>(
        &mut self,
        ring: &mut Front<M, Rx>,
        unused: &mut impl FnMut(u32),
        reason: &mut Option<RxReason>,
    ) -> Result<(), Overrun> {
        let mut seen = 0u8;
        loop {
            let Some((entry, slot)) = pop(ring)? else {
                *reason = reason.or(Some(RxReason::Truncated));
                return Ok(());
            };
            unused(entry);
            let Extra { info, more } = slot.extra();
            let bit = 1u8.checked_shl(u32::from(info.kind())).unwrap_or(0);
            if seen & bit != 0 {
                *reason = reason.or(Some(RxReason::Extra));
            }
            seen |= bit;
            match info {
                Info::Gso { size, kind, .. } => {
                    self.extras.gso = Gso::parse(size, kind);
                    if self.extras.gso.is_none() {
                        *reason = reason.or(Some(RxReason::Gso));
                    }
                }
                // A hash of something else is as good as none.
                Info::Hash { kind, value, .. } => {
                    let kind = HashKind::from_number(kind);
                    self.extras.hash = kind.map(|kind| FlowHash { value, kind });
                }
                Info::Xdp { headroom } => self.extras.headroom = headroom,
                Info::McastAdd(_) | Info::McastDel(_) | Info::Other(_) => {
                    *reason = reason.or(Some(RxReason::Extra));
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn clear(&mut self) {
        self.count = 0;
        self.size = 0;
        self.flags = 0;
        self.extras = Extras::default();
    }

    /// The parts, in the order of the packet's bytes.
    #[inline]
    pub fn parts(&self) -> &[Part] {
        self.parts.get(..self.count).unwrap_or(&[])
    }

    /// Bytes of the packet.
    #[inline]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// What the back end knows of its checksum.
    #[inline]
    pub fn checksum(&self) -> Checksum {
        Checksum::of(self.flags, rxf::CSUM_BLANK, rxf::DATA_VALIDATED)
    }

    /// The extra information.
    #[inline]
    pub fn extras(&self) -> &Extras {
        &self.extras
    }
}

impl Default for RxPacket {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes the next entry, with its number.
#[inline]
fn pop<M: Memory>(ring: &mut Front<M, Rx>) -> Result<Option<(u32, RxSlot)>, Overrun> {
    let entry = ring.next_response();
    Ok(ring.pop()?.map(|slot| (entry, slot)))
}
