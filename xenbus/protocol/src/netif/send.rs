// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The senders' sides: a packet made into the front end's transmit requests, or into the back
//! end's receive responses. Both know beforehand how many entries that takes.

use super::{rxf, txf, Checksum, Extra, Extras, RxRequest, RxResponse, RxSlot, TxRequest, TxSlot};
use super::{Tx, ETH_HLEN, MAX_TX_SIZE, NR_SLOTS_MIN, PAGE_SIZE};
use crate::ring::{Front, Full, Memory};

/// A part of a buffer that lies in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the page, from that at the start of the buffer on.
    pub page: u32,
    /// Byte offset in it.
    pub offset: u32,
    /// Bytes, at least 1.
    pub len: u32,
}

/// Cuts a buffer of `len` bytes, `offset` bytes after the start of a page, at the ends of pages.
#[inline]
pub fn spans(offset: u32, len: u32) -> impl Iterator<Item = Span> {
    let mut page = offset / PAGE_SIZE;
    let mut offset = offset % PAGE_SIZE;
    let mut left = len;
    core::iter::from_fn(move || {
        let len = left.min(PAGE_SIZE.wrapping_sub(offset));
        let span = Span { page, offset, len };
        left = left.wrapping_sub(len);
        page = page.wrapping_add(1);
        offset = 0;
        (len > 0).then_some(span)
    })
}

/// How many parts [`spans`] makes of a buffer.
#[inline]
pub fn count_spans(offset: u32, len: u32) -> u32 {
    if len == 0 {
        return 0;
    }
    let last = u64::from(offset % PAGE_SIZE)
        .wrapping_add(u64::from(len))
        .wrapping_sub(1);
    (last / u64::from(PAGE_SIZE)).wrapping_add(1) as u32
}

/// Why a packet cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// It is empty, or too long for the ring.
    Size,
    /// It takes more entries than the other end is sure to take.
    Slots,
}

/// A packet on its way into the transmit ring.
#[derive(Clone, Copy, Debug)]
pub struct TxSend {
    size: u16,
    /// Requests that are still to come.
    requests: u32,
    /// Of the first request; 0 after it.
    flags: u16,
    extras: Extras,
}

impl TxSend {
    /// A packet of `size` bytes, in `requests` pieces.
    ///
    /// It has at least [`ETH_HLEN`] bytes, in the first piece, or the back end drops it;
    /// `requests` is at most [`NR_SLOTS_MIN`].
    pub fn new(
        size: u32,
        requests: u32,
        checksum: Checksum,
        extras: Extras,
    ) -> Result<Self, Unsendable> {
        if !(ETH_HLEN..=MAX_TX_SIZE).contains(&size) {
            return Err(Unsendable::Size);
        }
        if requests == 0 || requests > NR_SLOTS_MIN as u32 {
            return Err(Unsendable::Slots);
        }
        Ok(Self {
            size: size as u16,
            requests,
            flags: checksum.flags(txf::CSUM_BLANK, txf::DATA_VALIDATED),
            // There is no headroom in this direction.
            extras: Extras {
                headroom: 0,
                ..extras
            },
        })
    }

    /// How many entries of the ring it still takes.
    #[inline]
    pub fn entries(&self) -> u32 {
        self.requests.wrapping_add(self.extras.entries())
    }

    /// Writes the next piece, and after the first one the extra information. `offset + len` is at
    /// most [`PAGE_SIZE`]. Gives how many entries of extra information there were: so many responses
    /// have no id.
    ///
    /// [`Full`]: there is no room in the ring for the rest of the packet, and nothing is written; or
    /// all the pieces are written.
    pub fn push<M: Memory>(
        &mut self,
        ring: &mut Front<M, Tx>,
        id: u16,
        gref: u32,
        offset: u16,
        len: u16,
    ) -> Result<u32, Full> {
        if self.requests == 0 || ring.free() < self.entries() {
            return Err(Full);
        }
        let extras = self.extras.entries();
        self.requests = self.requests.wrapping_sub(1);
        let mut flags = core::mem::take(&mut self.flags);
        if extras > 0 {
            flags |= txf::EXTRA_INFO;
        }
        if self.requests > 0 {
            flags |= txf::MORE_DATA;
        }
        let request = TxRequest {
            gref,
            offset,
            flags,
            id,
            // Of the first request: that of the packet.
            size: match core::mem::take(&mut self.size) {
                0 => len,
                size => size,
            },
        };
        ring.push(&TxSlot::from(request))?;
        while let Some(extra) = self.extras.take() {
            ring.push(&TxSlot::from(extra))?;
        }
        Ok(extras)
    }
}

/// A packet on its way into the receive ring.
#[derive(Clone, Copy, Debug)]
pub struct RxSend {
    size: u32,
    /// Bytes that are placed already.
    done: u32,
    /// Bytes of the packet in a page, at least 1.
    room: u32,
    /// Entries of the ring for all of it.
    entries: u32,
    headroom: u16,
    /// Of the first response; 0 after it.
    flags: u16,
    extras: Extras,
}

/// What goes into an entry of the receive ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxEntry {
    /// The bytes `from..from + response.status` of the packet, copied to `response.offset` of the
    /// page that the request grants. If that fails, see [`RxSlot::failed`].
    Data {
        /// What to answer.
        response: RxResponse,
        /// The first byte.
        from: u32,
    },
    /// Extra information; the request's page stays unused.
    Extra(Extra),
}

impl RxEntry {
    /// As it stands in the ring.
    #[inline]
    pub fn slot(&self) -> RxSlot {
        match *self {
            Self::Data { response, .. } => response.into(),
            Self::Extra(extra) => extra.into(),
        }
    }
}

impl RxSend {
    /// A packet of `size` bytes. `sg`: the front end takes packets of several slots.
    ///
    /// With `extras.headroom` up to [`MAX_HEADROOM`](super::MAX_HEADROOM), any packet of up to
    /// 64 KiB fits.
    #[inline]
    pub fn new(
        size: u32,
        checksum: Checksum,
        extras: Extras,
        sg: bool,
    ) -> Result<Self, Unsendable> {
        if size == 0 {
            return Err(Unsendable::Size);
        }
        let room = PAGE_SIZE.saturating_sub(u32::from(extras.headroom));
        let full = size.checked_div(room).ok_or(Unsendable::Slots)?;
        let data = full.wrapping_add(u32::from(size != full.wrapping_mul(room)));
        let most = if sg { NR_SLOTS_MIN as u32 } else { 1 };
        if data > most {
            return Err(Unsendable::Slots);
        }
        let mut flags = checksum.flags(rxf::CSUM_BLANK, rxf::DATA_VALIDATED);
        let more = extras.entries();
        if more > 0 {
            flags |= rxf::EXTRA_INFO;
        }
        Ok(Self {
            size,
            done: 0,
            room,
            entries: data.wrapping_add(more),
            headroom: extras.headroom,
            flags,
            extras,
        })
    }

    /// How many receive requests it takes. They must all be there before the first is taken.
    #[inline]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// What goes into the entry of the next receive request; `None`: the packet has ended.
    #[inline]
    pub fn next(&mut self, request: &RxRequest) -> Option<RxEntry> {
        let from = self.done;
        if from > 0 {
            if let Some(extra) = self.extras.take() {
                return Some(RxEntry::Extra(extra));
            }
        }
        let mut flags = core::mem::take(&mut self.flags);
        let len = self.size.wrapping_sub(from).min(self.room);
        if len == 0 {
            return None;
        }
        self.done = from.wrapping_add(len);
        if self.done < self.size {
            flags |= rxf::MORE_DATA;
        }
        let response = RxResponse {
            id: request.id,
            offset: self.headroom,
            flags,
            // At most a page.
            status: len as i16,
        };
        Some(RxEntry::Data { response, from })
    }
}
