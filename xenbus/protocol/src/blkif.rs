// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The block protocol.
//!
//! C header: `xen/io/blkif.h`. All sector numbers and counts are in units of 512 bytes, whatever
//! the logical block size of the disk.
//!
//! - `blkif/wire.rs`: [`RawRequest`] and [`Response`] as bytes in a ring, in each [`Abi`]
//! - `blkif/request.rs`: the back end's check that makes a [`Request`] of a [`RawRequest`], and of
//!   the list of segments of an [`Indirect`] one
//! - `blkif/pending.rs`: the front end's check of a [`Response`] against what it has sent

mod pending;
mod request;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

pub use pending::{BadResponse, Busy, Pending};
pub use request::{Indirect, Limits, Offered, Op, Parsed, Reason, Refusal, Request};
pub use wire::{Body, RawRequest, Response};

/// Bytes in a sector of the protocol.
pub const SECTOR_SIZE: u32 = 512;

/// Bytes in a page that a grant reference stands for.
pub const PAGE_SIZE: u32 = 4096;

/// Sectors in a page.
pub const SECTORS_PER_PAGE: u8 = 8;

/// The most segments that a request holds itself.
pub const MAX_SEGMENTS: usize = 11;

/// The most segments of an indirect request that any back end is known to take, and that a front end
/// sends.
pub const MAX_INDIRECT_SEGMENTS: u16 = 256;

/// The most pages of segments that an indirect request names.
pub const MAX_INDIRECT_PAGES: usize = 8;

/// Operation codes of requests.
pub mod op {
    /// Read sectors into the segments.
    pub const READ: u8 = 0;
    /// Write the segments to the sectors.
    pub const WRITE: u8 = 1;
    /// Like `WRITE`, ordered against all requests before and after it; may be empty.
    pub const WRITE_BARRIER: u8 = 2;
    /// Make everything written so far durable, then write the segments, if any.
    pub const FLUSH_DISKCACHE: u8 = 3;
    /// Forget the contents of the sectors.
    pub const DISCARD: u8 = 5;
    /// A read or write whose segments are listed in pages of their own.
    pub const INDIRECT: u8 = 6;
}

/// Codes of the `status` field of a response.
pub mod status {
    /// Done.
    pub const OKAY: i16 = 0;
    /// Failed.
    pub const ERROR: i16 = -1;
    /// This back end cannot do the operation; the front end should not try it again.
    pub const EOPNOTSUPP: i16 = -2;
}

/// Flags of the xenstore key `info`.
pub mod vdisk {
    /// The disk is a CD-ROM drive.
    pub const CDROM: u32 = 1;
    /// The medium can be taken out.
    pub const REMOVABLE: u32 = 2;
    /// The disk cannot be written to.
    pub const READONLY: u32 = 4;
}

/// Flag of a discard request: all copies of the data must be erased.
pub const DISCARD_SECURE: u8 = 1;

/// The layouts of the block protocol's structures.
///
/// They differ in how a C compiler of the front end's architecture aligns 64-bit fields: on 8 bytes
/// for x86-64, on 4 for x86-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// The layout that a C compiler for this machine gives, which on a 64-bit machine is `X86_64`.
    Native,
    /// Requests of 108 bytes, responses of 12.
    X86_32,
    /// Requests of 112 bytes, responses of 16.
    X86_64,
}

/// The front end's key `protocol` has a value that we do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAbi;

impl Abi {
    /// The layout that a front end asks for by its key `protocol`, `None` if it has no such key.
    ///
    /// Without the key it is `X86_32`, as in the other back ends for x86: the front ends that leave
    /// it out are 32-bit ones older than the key.
    pub fn from_protocol(protocol: Option<&str>) -> Result<Self, UnknownAbi> {
        match protocol {
            None | Some("x86_32-abi") => Ok(Self::X86_32),
            Some("x86_64-abi") => Ok(Self::X86_64),
            Some(_) => Err(UnknownAbi),
        }
    }

    /// The value of `protocol` that asks for this layout.
    pub fn protocol(self) -> &'static str {
        if self.is_64_bit() {
            "x86_64-abi"
        } else {
            "x86_32-abi"
        }
    }

    /// Whether 64-bit fields are aligned on 8 bytes.
    #[inline]
    pub(crate) fn is_64_bit(self) -> bool {
        match self {
            Self::Native => cfg!(target_pointer_width = "64"),
            Self::X86_32 => false,
            Self::X86_64 => true,
        }
    }
}

/// A part of a page that takes part in a transfer: 8 bytes on the wire, in every ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Grant reference of the page.
    pub gref: u32,
    /// First sector in the page, 0 to 7.
    pub first: u8,
    /// Last sector in the page, inclusive, `first` to 7.
    pub last: u8,
}

impl Segment {
    /// Reads a segment from its 8 bytes on the wire.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Self {
        wire::get_segment(bytes, 0)
    }

    /// The 8 bytes on the wire.
    pub fn encode(&self) -> [u8; 8] {
        let [a, b, c, d] = self.gref.to_le_bytes();
        [a, b, c, d, self.first, self.last, 0, 0]
    }

    /// Whether `first` and `last` are in order and in the page.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.first <= self.last && self.last < SECTORS_PER_PAGE
    }

    /// Number of sectors, 1 to 8 if the segment is valid.
    #[inline]
    pub fn sectors(&self) -> u32 {
        u32::from(self.last)
            .wrapping_sub(u32::from(self.first))
            .wrapping_add(1)
    }

    /// Byte offset in the page.
    #[inline]
    pub fn offset(&self) -> u32 {
        u32::from(self.first).wrapping_mul(SECTOR_SIZE)
    }

    /// Number of bytes.
    #[inline]
    pub fn bytes(&self) -> u32 {
        self.sectors().wrapping_mul(SECTOR_SIZE)
    }
}
