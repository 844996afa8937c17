// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Requests and responses as bytes in a ring.
//!
//! C header: `xen/io/blkif.h`. Byte offsets, with the x86-32 ones in brackets where they differ:
//!
//! | request, transfer   | discard          | indirect               | response       |
//! |---------------------|------------------|------------------------|----------------|
//! | 0 operation         | 0 operation      | 0 operation            | 0 id           |
//! | 1 nr_segments       | 1 flag           | 1 indirect_op          | 8 operation    |
//! | 2 handle            | 2 handle         | 2 nr_segments          | 10 status      |
//! | 8 (4) id            | 8 (4) id         | 8 (4) id               | 16 (12) end    |
//! | 16 (12) sector      | 16 (12) sector   | 16 (12) sector         |                |
//! | 24 (20) segments    | 24 (20) sectors  | 24 (20) handle         |                |
//! |                     |                  | 28 (24) indirect_grefs |                |
//! | 112 (108) end       |                  |                        |                |

use super::{op, Abi, Segment, MAX_INDIRECT_PAGES, MAX_SEGMENTS};
use crate::bytes::{get, get_i16, get_u16, get_u32, get_u64, get_u8, put};
use crate::ring::Codec;

/// A request as the front end has written it: nothing in it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRequest {
    /// One of [`op`], or anything.
    pub operation: u8,
    /// The front end's own value, which comes back in the response.
    pub id: u64,
    /// The rest, which depends on the operation.
    pub body: Body,
}

/// The part of a request that depends on its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Of `READ`, `WRITE`, `WRITE_BARRIER` and `FLUSH_DISKCACHE`.
    Transfer {
        /// How many of `segments` count.
        nr_segments: u8,
        /// The virtual device, of no use to anyone.
        handle: u16,
        /// First sector on the disk.
        sector: u64,
        /// The pages. What does not count is neither read from the ring nor written into it.
        segments: [Segment; MAX_SEGMENTS],
    },
    /// Of `DISCARD`.
    Discard {
        /// [`DISCARD_SECURE`](super::DISCARD_SECURE) or 0.
        flag: u8,
        /// The virtual device, of no use to anyone.
        handle: u16,
        /// First sector on the disk.
        sector: u64,
        /// Number of sectors.
        nr_sectors: u64,
    },
    /// Of `INDIRECT`.
    Indirect {
        /// `READ` or `WRITE`.
        operation: u8,
        /// Number of segments in all the pages.
        nr_segments: u16,
        /// The virtual device, of no use to anyone.
        handle: u16,
        /// First sector on the disk.
        sector: u64,
        /// Grant references of the pages that list the segments.
        grefs: [u32; MAX_INDIRECT_PAGES],
    },
    /// Of any other operation.
    Other,
}

impl RawRequest {
    /// A request of one of the operations that take segments. Only the first [`MAX_SEGMENTS`] of
    /// `segments` fit.
    #[inline]
    pub fn transfer(
        operation: u8,
        id: u64,
        handle: u16,
        sector: u64,
        segments: &[Segment],
    ) -> Self {
        let mut array = [Segment::default(); MAX_SEGMENTS];
        let mut nr_segments = 0u8;
        for (to, from) in array.iter_mut().zip(segments) {
            *to = *from;
            nr_segments = nr_segments.wrapping_add(1);
        }
        let body = Body::Transfer {
            nr_segments,
            handle,
            sector,
            segments: array,
        };
        Self {
            operation,
            id,
            body,
        }
    }

    /// A read or write (`operation`) of `nr_segments` segments, which the pages granted by `grefs`
    /// list, 512 each ([`Segment::to_wire`]). Only the first [`MAX_INDIRECT_PAGES`] of `grefs` fit.
    ///
    /// Its response carries `operation`, not [`op::INDIRECT`].
    #[inline]
    pub fn indirect(
        operation: u8,
        id: u64,
        handle: u16,
        sector: u64,
        nr_segments: u16,
        grefs: &[u32],
    ) -> Self {
        let mut array = [0; MAX_INDIRECT_PAGES];
        for (to, from) in array.iter_mut().zip(grefs) {
            *to = *from;
        }
        let body = Body::Indirect {
            operation,
            nr_segments,
            handle,
            sector,
            grefs: array,
        };
        Self {
            operation: op::INDIRECT,
            id,
            body,
        }
    }

    /// A discard request for `nr_sectors` sectors from `sector` on.
    #[inline]
    pub fn discard(id: u64, handle: u16, sector: u64, nr_sectors: u64, secure: bool) -> Self {
        let flag = if secure { super::DISCARD_SECURE } else { 0 };
        let body = Body::Discard {
            flag,
            handle,
            sector,
            nr_sectors,
        };
        Self {
            operation: op::DISCARD,
            id,
            body,
        }
    }
}

impl Segment {
    /// The segment as it stands in a page of an indirect request.
    #[inline]
    pub fn to_wire(&self) -> [u8; 8] {
        let [g0, g1, g2, g3] = self.gref.to_le_bytes();
        [g0, g1, g2, g3, self.first, self.last, 0, 0]
    }
}

/// A response. A front end checks it with [`Pending::finish`](super::Pending::finish).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The `id` of the request.
    pub id: u64,
    /// The `operation` of the request.
    pub operation: u8,
    /// One of [`status`](super::status).
    pub status: i16,
}

/// Byte offsets in a request after which the ABIs differ.
struct Offsets {
    id: usize,
    sector: usize,
    /// The segments, the number of sectors to discard, or the handle of an indirect request.
    rest: usize,
    /// The pages of an indirect request.
    grefs: usize,
}

impl Abi {
    #[inline]
    fn offsets(&self) -> Offsets {
        if self.is_64_bit() {
            Offsets {
                id: 8,
                sector: 16,
                rest: 24,
                grefs: 28,
            }
        } else {
            Offsets {
                id: 4,
                sector: 12,
                rest: 20,
                grefs: 24,
            }
        }
    }
}

impl Codec for Abi {
    type Request = RawRequest;
    type Response = Response;

    #[inline]
    fn request_size(&self) -> usize {
        if self.is_64_bit() {
            112
        } else {
            108
        }
    }

    #[inline]
    fn response_size(&self) -> usize {
        if self.is_64_bit() {
            16
        } else {
            12
        }
    }

    #[inline]
    fn decode_request(&self, bytes: &[u8]) -> RawRequest {
        let at = self.offsets();
        let operation = get_u8(bytes, 0);
        let sector = get_u64(bytes, at.sector);
        let body = match operation {
            op::READ | op::WRITE | op::WRITE_BARRIER | op::FLUSH_DISKCACHE => Body::Transfer {
                nr_segments: get_u8(bytes, 1),
                handle: get_u16(bytes, 2),
                sector,
                segments: get_segments(bytes, at.rest),
            },
            op::DISCARD => Body::Discard {
                flag: get_u8(bytes, 1),
                handle: get_u16(bytes, 2),
                sector,
                nr_sectors: get_u64(bytes, at.rest),
            },
            op::INDIRECT => Body::Indirect {
                operation: get_u8(bytes, 1),
                nr_segments: get_u16(bytes, 2),
                handle: get_u16(bytes, at.rest),
                sector,
                grefs: core::array::from_fn(|i| get_u32(bytes, nth(at.grefs, i, 4))),
            },
            _ => Body::Other,
        };
        RawRequest {
            operation,
            id: get_u64(bytes, at.id),
            body,
        }
    }

    #[inline]
    fn encode_request(&self, request: &RawRequest, bytes: &mut [u8]) {
        let at = self.offsets();
        put(bytes, 0, [request.operation]);
        put(bytes, at.id, request.id.to_le_bytes());
        match &request.body {
            Body::Transfer {
                nr_segments,
                handle,
                sector,
                segments,
            } => {
                put(bytes, 1, [*nr_segments]);
                put(bytes, 2, handle.to_le_bytes());
                put(bytes, at.sector, sector.to_le_bytes());
                let count = usize::from(*nr_segments);
                let bytes = bytes.get_mut(at.rest..).unwrap_or_default();
                for (to, segment) in bytes.chunks_exact_mut(8).zip(segments).take(count) {
                    put(to, 0, segment.to_wire());
                }
            }
            Body::Discard {
                flag,
                handle,
                sector,
                nr_sectors,
            } => {
                put(bytes, 1, [*flag]);
                put(bytes, 2, handle.to_le_bytes());
                put(bytes, at.sector, sector.to_le_bytes());
                put(bytes, at.rest, nr_sectors.to_le_bytes());
            }
            Body::Indirect {
                operation,
                nr_segments,
                handle,
                sector,
                grefs,
            } => {
                put(bytes, 1, [*operation]);
                put(bytes, 2, nr_segments.to_le_bytes());
                put(bytes, at.sector, sector.to_le_bytes());
                put(bytes, at.rest, handle.to_le_bytes());
                for (i, gref) in grefs.iter().enumerate() {
                    put(bytes, nth(at.grefs, i, 4), gref.to_le_bytes());
                }
            }
            Body::Other => {}
        }
    }

    #[inline]
    fn decode_response(&self, bytes: &[u8]) -> Response {
        Response {
            id: get_u64(bytes, 0),
            operation: get_u8(bytes, 8),
            status: get_i16(bytes, 10),
        }
    }

    #[inline]
    fn encode_response(&self, response: &Response, bytes: &mut [u8]) {
        put(bytes, 0, response.id.to_le_bytes());
        put(bytes, 8, [response.operation]);
        put(bytes, 10, response.status.to_le_bytes());
    }
}

/// Byte offset of element `i` of an array of `size`-byte elements at `start`.
#[inline]
fn nth(start: usize, i: usize, size: usize) -> usize {
    start.wrapping_add(i.wrapping_mul(size))
}

#[inline]
pub(super) fn get_segment(bytes: &[u8], offset: usize) -> Segment {
    let [g0, g1, g2, g3, first, last, _, _] = get(bytes, offset);
    Segment {
        gref: u32::from_le_bytes([g0, g1, g2, g3]),
        first,
        last,
    }
}

/// The segments that count, at `offset`; the others are zero.
#[inline]
fn get_segments(bytes: &[u8], offset: usize) -> [Segment; MAX_SEGMENTS] {
    let mut segments = [Segment::default(); MAX_SEGMENTS];
    let count = usize::from(get_u8(bytes, 1));
    let bytes = bytes.get(offset..).unwrap_or(&[]).chunks_exact(8);
    for (to, from) in segments.iter_mut().zip(bytes).take(count) {
        *to = get_segment(from, 0);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_in_a_page() {
        let segment = Segment {
            gref: 0x1234_5678,
            first: 1,
            last: 7,
        };
        let bytes = segment.to_wire();
        assert_eq!(bytes, [0x78, 0x56, 0x34, 0x12, 1, 7, 0, 0]);
        assert_eq!(get_segment(&bytes, 0), segment);
    }

    #[test]
    fn an_indirect_request() {
        let raw = RawRequest::indirect(op::WRITE, 5, 2, 77, 256, &[8, 9]);
        let body = Body::Indirect {
            operation: op::WRITE,
            nr_segments: 256,
            handle: 2,
            sector: 77,
            grefs: [8, 9, 0, 0, 0, 0, 0, 0],
        };
        assert_eq!((raw.operation, raw.id, raw.body), (op::INDIRECT, 5, body));
        let many = RawRequest::indirect(op::READ, 0, 0, 0, 1, &[1; 9]);
        assert!(matches!(many.body, Body::Indirect { grefs, .. } if grefs == [1; 8]));
    }
}
