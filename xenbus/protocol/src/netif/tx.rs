// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The back end's side of the transmit ring: requests and extra information made into a packet.
//!
//! [`TxPacket::read`] is the one way from what a front end said to what a back end acts on. Each
//! entry is copied once, and only the copy is looked at. What a front end may get wrong without ill
//! will costs it the packet, which is answered at once; what no front end does costs it the
//! device: [`TxFatal`].

use super::{status, txf, Checksum, Extras, FlowHash, Gso, HashKind, Info};
use super::{Tx, TxRequest, TxResponse, ETH_HLEN, NR_SLOTS_MIN, PAGE_SIZE};
use crate::ring::{Back, Memory, Overrun};

/// The most requests of a packet: the first one and [`NR_SLOTS_MIN`] others.
pub const MAX_TX_REQUESTS: usize = NR_SLOTS_MIN + 1;

/// A packet that a back end can act on.
///
/// # Invariants
///
/// - There are 1 to [`MAX_TX_REQUESTS`] requests, each within its page, and the first holds the
///   Ethernet header; their sizes add up to that of the packet, at most
///   [`MAX_TX_SIZE`](super::MAX_TX_SIZE).
/// - Extra information is of known types, one of each.
#[derive(Clone, Debug)]
pub struct TxPacket {
    requests: [TxRequest; MAX_TX_REQUESTS],
    count: usize,
    extra_count: u32,
    size: u16,
    extras: Extras,
}

/// What [`TxPacket::read`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxNext {
    /// No request.
    Empty,
    /// A packet, which is in the [`TxPacket`] now, and must be [answered](TxPacket::answer).
    Packet,
    /// No packet but a change of the multicast filter, to be [answered](TxPacket::answer).
    Multicast(Multicast),
    /// A bad packet, which has been answered already.
    Refused(TxReason),
}

/// A change of the multicast filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multicast {
    /// Let this address through.
    Add([u8; 6]),
    /// Do not let it through any more.
    Del([u8; 6]),
}

/// Why a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxReason {
    /// It has more than [`MAX_TX_REQUESTS`] requests.
    Slots,
    /// The sizes of the requests after the first are more than that of the packet, as of one
    /// beyond 64 KiB.
    Size,
    /// The first request does not hold the Ethernet header.
    Header,
    /// It has extra information of the same type twice.
    Extra,
    /// It is a change of the multicast filter, and something else, too.
    Multicast,
}

/// What no honest front end does. The device must not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxFatal {
    /// The ring is broken.
    Overrun(Overrun),
    /// More was announced than was sent.
    Truncated,
    /// A packet has far too many requests.
    Slots,
    /// A request goes beyond its page.
    Page {
        /// Byte offset in the page.
        offset: u16,
        /// Bytes.
        size: u16,
    },
    /// There is no such extra information.
    Extra {
        /// Its type.
        kind: u8,
    },
    /// There is no such segmentation.
    Gso {
        /// The size of a segment.
        size: u16,
        /// Its type.
        kind: u8,
    },
}

impl From<Overrun> for TxFatal {
    fn from(overrun: Overrun) -> Self {
        Self::Overrun(overrun)
    }
}

/// A part of a packet that lies in one granted page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the request in [`TxPacket::requests`].
    pub request: usize,
    /// Grant reference of the page.
    pub gref: u32,
    /// Byte offset in the page.
    pub offset: u32,
    /// Bytes, at least 1; up to `offset + len`, at most [`PAGE_SIZE`].
    pub len: u32,
}

impl TxPacket {
    /// No packet. It is made to be used for one packet after the other.
    pub const fn new() -> Self {
        Self {
            requests: [TxRequest {
                gref: 0,
                offset: 0,
                flags: 0,
                id: 0,
                size: 0,
            }; MAX_TX_REQUESTS],
            count: 0,
            extra_count: 0,
            size: 0,
            extras: Extras {
                gso: None,
                hash: None,
                headroom: 0,
            },
        }
    }

    /// Reads the next packet from the ring.
    ///
    /// More than `fatal_slots` requests after the first, at least [`NR_SLOTS_MIN`], are fatal;
    /// more than [`NR_SLOTS_MIN`] are refused. What was refused is answered, but not published.
    pub fn read<M: Memory>(
        &mut self,
        ring: &mut Back<M, Tx>,
        fatal_slots: usize,
    ) -> Result<TxNext, TxFatal> {
        self.clear();
        let Some(slot) = ring.pop()? else {
            return Ok(TxNext::Empty);
        };
        let first = slot.request();
        self.size = first.size;
        let mut reason = None;
        let mut multicast = None;
        if first.flags & txf::EXTRA_INFO != 0 {
            self.read_extras(ring, &mut multicast, &mut reason)?;
        }
        let own = self.read_data(ring, first, fatal_slots.max(NR_SLOTS_MIN), &mut reason)?;

        if reason.is_none() && multicast.is_some() {
            if first.flags & txf::MORE_DATA != 0 || self.extras != Extras::default() {
                reason = Some(TxReason::Multicast);
            }
        } else if reason.is_none() {
            if u32::from(own.size) < ETH_HLEN {
                reason = Some(TxReason::Header);
            } else {
                check_page(&own)?;
            }
        }
        if let Some(reason) = reason {
            self.answer(ring, status::ERROR);
            return Ok(TxNext::Refused(reason));
        }
        Ok(multicast.map_or(TxNext::Packet, TxNext::Multicast))
    }

    /// Reads the extra information that follows the first request.
    fn read_extras<M: Memory>(
        &mut self,
        ring: &mut Back<M, Tx>,
        multicast: &mut Option<Multicast>,
        reason: &mut Option<TxReason>,
    ) -> Result<(), TxFatal> {
        let mut seen = 0u8;
        loop {
            let extra = ring.pop()?.ok_or(TxFatal::Truncated)?.extra();
            self.extra_count = self.extra_count.wrapping_add(1);
            let kind = extra.info.kind();
            match extra.info {
                Info::Gso { size, kind, .. } => {
                    let gso = Gso::parse(size, kind).ok_or(TxFatal::Gso { size, kind })?;
                    self.extras.gso = Some(gso);
                }
                Info::McastAdd(address) => *multicast = Some(Multicast::Add(address)),
                Info::McastDel(address) => *multicast = Some(Multicast::Del(address)),
                // A hash of something else is as good as none.
                Info::Hash { kind, value, .. } => {
                    let kind = HashKind::from_number(kind);
                    self.extras.hash = kind.map(|kind| FlowHash { value, kind });
                }
                // Of no meaning in this direction.
                Info::Xdp { .. } => {}
                Info::Other(kind) => return Err(TxFatal::Extra { kind }),
            }
            // Adding to the filter and taking from it is the same type twice, too.
            let bit = match extra.info {
                Info::McastDel(_) => 1 << super::extra::MCAST_ADD,
                _ => 1u8.wrapping_shl(u32::from(kind)),
            };
            if seen & bit != 0 {
                *reason = Some(TxReason::Extra);
            }
            seen |= bit;
            if !extra.more {
                return Ok(());
            }
        }
    }

    /// Reads the requests that follow the first one, and gives that, with its own size.
    fn read_data<M: Memory>(
        &mut self,
        ring: &mut Back<M, Tx>,
        first: TxRequest,
        fatal_slots: usize,
        reason: &mut Option<TxReason>,
    ) -> Result<TxRequest, TxFatal> {
        let mut own = first;
        let mut flags = first.flags;
        let mut slots = 0usize;
        self.count = 1;
        while flags & txf::MORE_DATA != 0 {
            if slots >= fatal_slots {
                return Err(TxFatal::Slots);
            }
            slots = slots.wrapping_add(1);
            let request = ring.pop()?.ok_or(TxFatal::Truncated)?.request();
            check_page(&request)?;
            match own.size.checked_sub(request.size) {
                Some(rest) => own.size = rest,
                None => *reason = reason.or(Some(TxReason::Size)),
            }
            match self.requests.get_mut(self.count) {
                Some(to) => {
                    *to = request;
                    self.count = self.count.wrapping_add(1);
                }
                None => {
                    *reason = reason.or(Some(TxReason::Slots));
                    answer_request(ring, request.id, 0, status::ERROR);
                }
            }
            flags = request.flags;
        }
        if let Some(to) = self.requests.first_mut() {
            *to = own;
        }
        Ok(own)
    }

    fn clear(&mut self) {
        self.count = 0;
        self.extra_count = 0;
        self.size = 0;
        self.extras = Extras::default();
    }

    /// Writes the responses to all entries of the packet, the same `status` (of
    /// [`status`](super::status)) to each request. They are not published.
    ///
    /// A back end that is done with the requests one by one answers each by [`answer_request`].
    pub fn answer<M: Memory>(&self, ring: &mut Back<M, Tx>, status: i16) {
        let mut extra_count = self.extra_count;
        for request in self.requests() {
            answer_request(ring, request.id, extra_count, status);
            extra_count = 0;
        }
    }

    /// The requests, the first one with its own size. Those of size 0 have nothing to be read, but
    /// are answered like the others.
    #[inline]
    pub fn requests(&self) -> &[TxRequest] {
        self.requests.get(..self.count).unwrap_or(&[])
    }

    /// How many entries of extra information followed the first request: as many responses follow
    /// its own.
    #[inline]
    pub fn extra_count(&self) -> u32 {
        self.extra_count
    }

    /// Bytes of the packet.
    #[inline]
    pub fn size(&self) -> u32 {
        u32::from(self.size)
    }

    /// What the front end knows of its checksum.
    #[inline]
    pub fn checksum(&self) -> Checksum {
        let flags = self.requests().first().map_or(0, |first| first.flags);
        Checksum::of(flags, txf::CSUM_BLANK, txf::DATA_VALIDATED)
    }

    /// The extra information.
    #[inline]
    pub fn extras(&self) -> &Extras {
        &self.extras
    }

    /// Where the bytes `from..from + len` of the packet lie, as far as it has them, in their order.
    /// No piece is empty.
    #[inline]
    pub fn pieces(&self, from: u32, len: u32) -> impl Iterator<Item = Piece> + '_ {
        let end = from.saturating_add(len);
        let mut at = 0u32;
        self.requests()
            .iter()
            .enumerate()
            .filter_map(move |(index, request)| {
                let size = u32::from(request.size);
                let (start, stop) = (at, at.wrapping_add(size));
                at = stop;
                let (first, last) = (start.max(from), stop.min(end));
                (first < last).then(|| Piece {
                    request: index,
                    gref: request.gref,
                    offset: u32::from(request.offset).wrapping_add(first.wrapping_sub(start)),
                    len: last.wrapping_sub(first),
                })
            })
    }
}

impl Default for TxPacket {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes the response to a request, and those to the `extra_count` entries of extra information
/// that followed it. They are not published.
pub fn answer_request<M: Memory>(ring: &mut Back<M, Tx>, id: u16, extra_count: u32, status: i16) {
    // One response to each entry that was taken: there is always room.
    let _ = ring.push(&TxResponse { id, status });
    for _ in 0..extra_count {
        let _ = ring.push(&TxResponse {
            id: 0,
            status: super::status::NULL,
        });
    }
}

/// A request is within its page.
#[inline]
fn check_page(request: &TxRequest) -> Result<(), TxFatal> {
    let TxRequest { offset, size, .. } = *request;
    if u32::from(offset).wrapping_add(u32::from(size)) > PAGE_SIZE {
        return Err(TxFatal::Page { offset, size });
    }
    Ok(())
}
