// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The ring shared by a front and a back end.
//!
//! C header: `xen/io/ring.h`. The area starts with four indices that run freely from 0 to 2³²−1 and
//! over, and continues with a power of two of entries; an entry holds a request on its way to the
//! back end, then the response on its way to the front end:
//!
//! | byte | field      | written by | meaning                                              |
//! |------|------------|------------|------------------------------------------------------|
//! | 0    | req_prod   | front      | requests up to here may be read                      |
//! | 4    | req_event  | back       | notify the back end when req_prod reaches this       |
//! | 8    | rsp_prod   | back       | responses up to here may be read                     |
//! | 12   | rsp_event  | front      | notify the front end when rsp_prod reaches this      |
//! | 64   | entries    | both       | entry `i` is at `64 + (i % entries) * entry_size`    |
//!
//! [`Front`] and [`Back`] are its two ends (`ring/front.rs`, `ring/back.rs`). Both are thin: what
//! they have in common, which is nearly all, is in `ring/end.rs`.
//!
//! | macro of `ring.h`                       | here                                             |
//! |-----------------------------------------|--------------------------------------------------|
//! | `XEN_FRONT_RING_INIT`, `_ATTACH`        | [`Front::new`], [`Front::new_at`]                |
//! | `BACK_RING_ATTACH`                      | [`Back::attach`]                                 |
//! | `RING_SIZE`, `RING_FREE_REQUESTS`       | [`Front::size`], [`Front::free`]                 |
//! | `RING_GET_REQUEST`, `RING_GET_RESPONSE` | [`Front::push`], [`Back::push`]                  |
//! | `RING_PUSH_…_AND_CHECK_NOTIFY`          | [`Front::publish`], [`Back::publish`]            |
//! | `RING_COPY_REQUEST`, `_RESPONSE`        | [`Back::pop`], [`Front::pop`]                    |
//! | `RING_FINAL_CHECK_FOR_…`                | [`Front::final_check`], [`Back::final_check`]    |
//! | `RING_…_PROD_OVERFLOW`                  | [`Overrun`], found by each read, not on request  |
//!
//! Ends take `&mut self`: a driver that uses one from several contexts puts it under its own lock.

mod back;
mod end;
mod front;
#[cfg(test)]
mod tests;

pub use back::{AttachError, Back, Indices, Unasked};
pub use front::{Front, Full};

/// The memory of a ring, shared with a peer that may change any byte of it at any time.
///
/// Offsets are in bytes from the start of the area. An access that is not wholly inside the area
/// does nothing; a load gives 0 then. No implementation may panic.
pub trait Memory {
    /// Size of the area in bytes; never changes.
    fn len(&self) -> usize;

    /// Reads the little-endian word at `offset`, a multiple of 4, with acquire ordering.
    fn load(&self, offset: usize) -> u32;

    /// Writes the word at `offset`, a multiple of 4, with release ordering.
    fn store(&self, offset: usize, value: u32);

    /// Orders all accesses before it against all accesses after it (`virt_mb()`).
    fn barrier(&self);

    /// Makes a private copy of the bytes from `offset` on; each is read exactly once.
    fn copy_out(&self, offset: usize, to: &mut [u8]);

    /// Writes `from` to the bytes from `offset` on.
    fn copy_in(&self, offset: usize, from: &[u8]);

    /// Whether the area has no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M: Memory + ?Sized> Memory for &M {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn load(&self, offset: usize) -> u32 {
        (**self).load(offset)
    }
    fn store(&self, offset: usize, value: u32) {
        (**self).store(offset, value)
    }
    fn barrier(&self) {
        (**self).barrier()
    }
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        (**self).copy_out(offset, to)
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        (**self).copy_in(offset, from)
    }
}

/// How the requests and responses of one protocol lie in the entries of a ring.
///
/// The slices given to `decode_*` and `encode_*` are private copies of [`Codec::request_size`] or
/// [`Codec::response_size`] bytes. Decoding cannot fail: it gives what the peer said, unchecked.
pub trait Codec {
    /// What the front end sends.
    type Request;
    /// What the back end answers.
    type Response;

    /// Bytes of a request, at most [`MAX_ENTRY`].
    fn request_size(&self) -> usize;
    /// Bytes of a response, at most [`MAX_ENTRY`].
    fn response_size(&self) -> usize;

    /// Reads a request.
    fn decode_request(&self, bytes: &[u8]) -> Self::Request;
    /// Writes a request; `bytes` is zeroed, so that padding carries nothing of ours.
    fn encode_request(&self, request: &Self::Request, bytes: &mut [u8]);
    /// Reads a response.
    fn decode_response(&self, bytes: &[u8]) -> Self::Response;
    /// Writes a response; `bytes` is zeroed, so that padding carries nothing of ours.
    fn encode_response(&self, response: &Self::Response, bytes: &mut [u8]);

    /// Bytes from one entry of the ring to the next.
    #[inline]
    fn entry_size(&self) -> usize {
        self.request_size().max(self.response_size())
    }
}

/// The largest entry that a [`Codec`] may have, in bytes.
pub const MAX_ENTRY: usize = 112;

/// Bytes before the first entry: the four indices, then padding.
pub const HEADER: usize = 64;

/// Byte offsets of the shared indices.
pub mod index {
    /// Producer index of the requests.
    pub const REQ_PROD: usize = 0;
    /// The back end wants to be notified when `REQ_PROD` reaches this.
    pub const REQ_EVENT: usize = 4;
    /// Producer index of the responses.
    pub const RSP_PROD: usize = 8;
    /// The front end wants to be notified when `RSP_PROD` reaches this.
    pub const RSP_EVENT: usize = 12;
}

/// Where the entries of a ring are.
///
/// # Invariants
///
/// `entries` is a power of two, and that many entries of `entry_size` bytes fit behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    entry_size: usize,
    entries: u32,
}

impl Layout {
    /// The layout of a ring in `area` bytes: as many entries of `entry_size` bytes as fit, rounded
    /// down to a power of two.
    pub fn new(area: usize, entry_size: usize) -> Result<Self, TooSmall> {
        if entry_size > MAX_ENTRY {
            return Err(TooSmall);
        }
        let fit = area
            .checked_sub(HEADER)
            .and_then(|bytes| bytes.checked_div(entry_size))
            .ok_or(TooSmall)?;
        let log = fit.checked_ilog2().ok_or(TooSmall)?;
        // INVARIANT: 2^log <= fit; a free-running 32-bit index tells at most 2^31 entries apart.
        Ok(Self {
            entry_size,
            entries: 1 << log.min(31),
        })
    }

    /// Number of entries.
    #[inline]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Byte offset of the entry that the free-running `index` falls on.
    #[inline]
    pub fn offset(&self, index: u32) -> usize {
        let slot = index & self.entries.wrapping_sub(1);
        HEADER.wrapping_add((slot as usize).wrapping_mul(self.entry_size))
    }
}

/// The area does not hold a single entry, or an entry is larger than [`MAX_ENTRY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// The peer's producer index is where it cannot be: beyond the entries that it may have filled, or
/// behind what was consumed already. The ring is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// How many entries the peer's index claims, from the next one to consume on.
    pub claimed: u32,
    /// How many there can be at most.
    pub possible: u32,
}
