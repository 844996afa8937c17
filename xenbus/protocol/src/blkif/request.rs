// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The back end's check of a request.
//!
//! [`Request::parse`] is the one way from what a front end said to what a back end acts on, for an
//! indirect request by way of [`Indirect::parse`]. A refused request costs its sender an error
//! response and nobody else anything: the ring is still in order, unlike after an
//! [`Overrun`](crate::ring::Overrun).
//!
//! A [`Request`] does not hold its segments: they stay where they are in the request out of the
//! ring, or are written to where the caller wants them.

use super::{op, status, Body, RawRequest, Response, Segment};
use super::{DISCARD_SECURE, MAX_INDIRECT_PAGES, PAGE_SIZE, SECTOR_SIZE};

/// What a disk allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the disk, in sectors of 512 bytes.
    pub capacity_sectors: u64,
    /// Nothing may be written or discarded.
    pub read_only: bool,
    /// Most segments in a request that holds them itself; more than
    /// [`MAX_SEGMENTS`](super::MAX_SEGMENTS) are never allowed.
    pub max_segments: usize,
    /// Most segments in an indirect request, as offered by `feature-max-indirect-segments`; 0: no
    /// indirect requests. More than fit in [`MAX_INDIRECT_PAGES`] pages are never allowed.
    pub max_indirect_segments: usize,
    /// Logical block size in bytes, a power of two and at least 512.
    pub sector_size: u32,
    /// The operations beyond read and write.
    pub features: Offered,
}

/// The operations beyond read and write that a back end has offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// `FLUSH_DISKCACHE`, offered by `feature-flush-cache`.
    pub flush: bool,
    /// `WRITE_BARRIER`, offered by `feature-barrier`.
    pub barrier: bool,
    /// `DISCARD`, offered by `feature-discard`.
    pub discard: bool,
    /// `DISCARD` with [`DISCARD_SECURE`](super::DISCARD_SECURE), offered by `discard-secure`.
    pub secure_discard: bool,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read into the segments.
    Read,
    /// Write from the segments.
    Write,
    /// Like `Write`, ordered against all other requests; may have no segments.
    WriteBarrier,
    /// Flush the cache of the disk, then write from the segments, if any.
    Flush,
    /// Discard the sectors. There are no segments.
    Discard {
        /// All copies of the data must go.
        secure: bool,
    },
}

/// A request that a back end can act on, but for its segments, which come with it. Only
/// [`Request::parse`] and [`Indirect::parse`] make one that does anything.
///
/// # Invariants
///
/// - `sector..sector + nr_sectors` is on the disk and, like each segment's length, a multiple of
///   the logical block size.
/// - Each segment is valid, and they add up to `nr_sectors` (except for a discard).
/// - The disk may be written to, if the request changes anything on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The front end's value for the response.
    pub id: u64,
    /// What to do.
    pub op: Op,
    /// First sector; of no meaning if `nr_sectors` is 0.
    pub sector: u64,
    /// Number of sectors; 0 only for an empty flush or barrier.
    pub nr_sectors: u64,
}

impl Default for Request {
    /// An empty flush.
    fn default() -> Self {
        Self {
            id: 0,
            op: Op::Flush,
            sector: 0,
            nr_sectors: 0,
        }
    }
}

/// What a request out of the ring has been made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A request and its segments.
    Whole(Request, &'a [Segment]),
    /// A request whose segments are listed elsewhere.
    Indirect(Indirect<'a>),
}

/// A request of which all is in order but the segments, which have not been read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indirect<'a> {
    id: u64,
    op: Op,
    sector: u64,
    nr_segments: usize,
    pages: &'a [u32],
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The operation is unknown, or was not offered.
    Unsupported,
    /// The operation is not one that can be indirect.
    Operation,
    /// More segments than allowed, or none where some are needed, or a discard of nothing.
    Length,
    /// A segment ends before it starts, or after its page.
    Segment,
    /// Not all of the sectors are on the disk.
    Range,
    /// The start or a length is not a multiple of the logical block size.
    Alignment,
    /// The disk is read-only.
    ReadOnly,
}

/// A request that is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The request's `id`.
    pub id: u64,
    /// The request's `operation`; of an indirect request, the operation within.
    pub operation: u8,
    /// Why.
    pub reason: Reason,
}

impl Refusal {
    /// The response that is due.
    pub fn response(&self) -> Response {
        let status = match self.reason {
            Reason::Unsupported => status::EOPNOTSUPP,
            _ => status::ERROR,
        };
        Response {
            id: self.id,
            operation: self.operation,
            status,
        }
    }
}

impl Request {
    /// Checks what a front end said against what the disk allows.
    #[inline]
    pub fn parse<'a>(raw: &'a RawRequest, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
        Self::check(raw, limits).map_err(|reason| Refusal {
            id: raw.id,
            operation: match raw.body {
                Body::Indirect { operation, .. } => operation,
                _ => raw.operation,
            },
            reason,
        })
    }

    /// The response that is due when the request has been carried out, with one of
    /// [`status`](super::status).
    #[inline]
    pub fn response(&self, status: i16) -> Response {
        Response {
            id: self.id,
            operation: self.op.code(),
            status,
        }
    }

    #[inline]
    fn check<'a>(raw: &'a RawRequest, limits: &Limits) -> Result<Parsed<'a>, Reason> {
        let op = Op::offered(raw, limits)?;
        let (sector, nr_sectors, segments) = match &raw.body {
            Body::Transfer {
                nr_segments,
                sector,
                segments,
                ..
            } => {
                let nr_segments = usize::from(*nr_segments);
                let segments = segments
                    .get(..nr_segments)
                    .filter(|_| nr_segments <= limits.max_segments)
                    .ok_or(Reason::Length)?;
                let may_be_empty = matches!(op, Op::WriteBarrier | Op::Flush);
                if segments.is_empty() && !may_be_empty {
                    return Err(Reason::Length);
                }
                let mut nr_sectors = 0u64;
                for segment in segments {
                    nr_sectors = nr_sectors.wrapping_add(limits.sectors_of(segment)?);
                }
                (*sector, nr_sectors, segments)
            }
            Body::Discard {
                sector, nr_sectors, ..
            } => {
                if *nr_sectors == 0 {
                    return Err(Reason::Length);
                }
                (*sector, *nr_sectors, [].as_slice())
            }
            Body::Indirect {
                nr_segments,
                sector,
                grefs,
                ..
            } => {
                let nr_segments = usize::from(*nr_segments);
                let pages = grefs
                    .get(..nr_segments.div_ceil(SEGMENTS_PER_PAGE))
                    .ok_or(Reason::Length)?;
                if nr_segments == 0 || nr_segments > limits.max_indirect_segments {
                    return Err(Reason::Length);
                }
                return Ok(Parsed::Indirect(Indirect {
                    id: raw.id,
                    op,
                    sector: *sector,
                    nr_segments,
                    pages,
                }));
            }
            Body::Other => return Err(Reason::Unsupported),
        };
        let request = limits.place(raw.id, op, sector, nr_sectors)?;
        Ok(Parsed::Whole(request, segments))
    }
}

/// Bytes of a segment in a list.
const SEGMENT_SIZE: usize = 8;

/// Segments that a page can list.
pub(super) const SEGMENTS_PER_PAGE: usize = PAGE_SIZE as usize / SEGMENT_SIZE;

const _: () = assert!(MAX_INDIRECT_PAGES * SEGMENTS_PER_PAGE <= u16::MAX as usize);

impl Indirect<'_> {
    /// The grant references of the pages that list the segments.
    #[inline]
    pub fn pages(&self) -> &[u32] {
        self.pages
    }

    /// How many segments there are.
    #[inline]
    pub fn nr_segments(&self) -> usize {
        self.nr_segments
    }

    /// How many bytes the lists have, all but the last one being a page.
    #[inline]
    pub fn list_len(&self) -> usize {
        self.nr_segments.wrapping_mul(SEGMENT_SIZE)
    }

    /// The refusal of this request, for `reason`.
    pub fn refuse(&self, reason: Reason) -> Refusal {
        Refusal {
            id: self.id,
            operation: self.op.code(),
            reason,
        }
    }

    /// Checks the segments that `list`, a private copy of [`Self::list_len`] bytes, holds, and
    /// hands them to `each` one after the other, until one is bad.
    #[inline]
    pub fn parse(
        &self,
        list: &[u8],
        limits: &Limits,
        each: impl FnMut(Segment),
    ) -> Result<Request, Refusal> {
        self.check(list, limits, each)
            .map_err(|reason| self.refuse(reason))
    }

    #[inline]
    fn check(
        &self,
        list: &[u8],
        limits: &Limits,
        mut each: impl FnMut(Segment),
    ) -> Result<Request, Reason> {
        let list = list.get(..self.list_len()).ok_or(Reason::Length)?;
        let mut nr_sectors = 0u64;
        for bytes in list.chunks_exact(SEGMENT_SIZE) {
            let segment = Segment::decode(bytes);
            nr_sectors = nr_sectors.wrapping_add(limits.sectors_of(&segment)?);
            each(segment);
        }
        limits.place(self.id, self.op, self.sector, nr_sectors)
    }
}

impl Op {
    /// The operation, if it is known and offered.
    #[inline]
    fn offered(raw: &RawRequest, limits: &Limits) -> Result<Self, Reason> {
        let features = &limits.features;
        match (raw.operation, &raw.body) {
            (op::READ, Body::Transfer { .. }) => Ok(Self::Read),
            (op::WRITE, Body::Transfer { .. }) => Ok(Self::Write),
            (op::WRITE_BARRIER, Body::Transfer { .. }) if features.barrier => {
                Ok(Self::WriteBarrier)
            }
            (op::FLUSH_DISKCACHE, Body::Transfer { .. }) if features.flush => Ok(Self::Flush),
            (op::DISCARD, Body::Discard { flag, .. }) if features.discard => {
                match flag & DISCARD_SECURE != 0 {
                    true if !features.secure_discard => Err(Reason::Unsupported),
                    secure => Ok(Self::Discard { secure }),
                }
            }
            (op::INDIRECT, Body::Indirect { operation, .. })
                if limits.max_indirect_segments > 0 =>
            {
                match *operation {
                    op::READ => Ok(Self::Read),
                    op::WRITE => Ok(Self::Write),
                    _ => Err(Reason::Operation),
                }
            }
            _ => Err(Reason::Unsupported),
        }
    }

    /// The code that stands for this operation in a request and in its response.
    #[inline]
    pub fn code(self) -> u8 {
        match self {
            Self::Read => op::READ,
            Self::Write => op::WRITE,
            Self::WriteBarrier => op::WRITE_BARRIER,
            Self::Flush => op::FLUSH_DISKCACHE,
            Self::Discard { .. } => op::DISCARD,
        }
    }
}

impl Limits {
    /// The number of sectors of a segment that is in its page and of whole blocks.
    #[inline]
    fn sectors_of(&self, segment: &Segment) -> Result<u64, Reason> {
        if !segment.is_valid() {
            return Err(Reason::Segment);
        }
        let sectors = u64::from(segment.sectors());
        if !self.aligned(sectors) {
            return Err(Reason::Alignment);
        }
        Ok(sectors)
    }

    /// A request, if its place on the disk is one.
    #[inline]
    fn place(&self, id: u64, op: Op, sector: u64, nr_sectors: u64) -> Result<Request, Reason> {
        // An empty flush or barrier touches no sector, and may be sent to a read-only disk.
        if nr_sectors > 0 {
            if op != Op::Read && self.read_only {
                return Err(Reason::ReadOnly);
            }
            let end = sector.checked_add(nr_sectors).ok_or(Reason::Range)?;
            if end > self.capacity_sectors {
                return Err(Reason::Range);
            }
            if !self.aligned(sector | nr_sectors) {
                return Err(Reason::Alignment);
            }
        }
        Ok(Request {
            id,
            op,
            sector,
            nr_sectors,
        })
    }

    /// Whether a number of sectors is a multiple of the logical block size.
    #[inline]
    fn aligned(&self, sectors: u64) -> bool {
        let per_block = u64::from(self.sector_size / SECTOR_SIZE);
        sectors & per_block.saturating_sub(1) == 0
    }
}
