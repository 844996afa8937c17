// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The back end's check of a request.
//!
//! [`Request::parse`] is the one way from what a front end said to what a back end acts on. A
//! refused request costs its sender an error response and nobody else anything: the ring is still
//! in order, unlike after an [`Overrun`](crate::ring::Overrun).

use super::{op, status, Body, RawRequest, Response, Segment};
use super::{DISCARD_SECURE, MAX_SEGMENTS, SECTOR_SIZE};

/// What a disk allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the disk, in sectors of 512 bytes.
    pub capacity_sectors: u64,
    /// Nothing may be written or discarded.
    pub read_only: bool,
    /// Most segments in a request; more than [`MAX_SEGMENTS`] are never allowed.
    pub max_segments: usize,
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

/// The segments of a request, at most [`MAX_SEGMENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    segments: [Segment; MAX_SEGMENTS],
    len: usize,
}

impl Segments {
    const NONE: Self = Self {
        segments: [Segment {
            gref: 0,
            first: 0,
            last: 0,
        }; MAX_SEGMENTS],
        len: 0,
    };

    /// The segments in order.
    pub fn as_slice(&self) -> &[Segment] {
        self.segments.get(..self.len).unwrap_or(&[])
    }

    /// Iterates over the segments in order.
    pub fn iter(&self) -> core::slice::Iter<'_, Segment> {
        self.as_slice().iter()
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<'a> IntoIterator for &'a Segments {
    type Item = &'a Segment;
    type IntoIter = core::slice::Iter<'a, Segment>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A request that a back end can act on. Only [`Request::parse`] makes one.
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
    /// The pages.
    pub segments: Segments,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The operation is unknown, or was not offered.
    Unsupported,
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
    /// The request's `operation`.
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
    pub fn parse(raw: &RawRequest, limits: &Limits) -> Result<Self, Refusal> {
        Self::check(raw, limits).map_err(|reason| Refusal {
            id: raw.id,
            operation: raw.operation,
            reason,
        })
    }

    /// The response that is due when the request has been carried out, with one of
    /// [`status`](super::status).
    pub fn response(&self, status: i16) -> Response {
        Response {
            id: self.id,
            operation: self.op.code(),
            status,
        }
    }

    fn check(raw: &RawRequest, limits: &Limits) -> Result<Self, Reason> {
        let op = Op::offered(raw, &limits.features).ok_or(Reason::Unsupported)?;
        let (sector, nr_sectors, segments) = match &raw.body {
            Body::Transfer {
                nr_segments,
                sector,
                segments,
                ..
            } => {
                let segments = Segments {
                    segments: *segments,
                    len: usize::from(*nr_segments),
                };
                (*sector, op.check_segments(&segments, limits)?, segments)
            }
            Body::Discard {
                sector, nr_sectors, ..
            } => {
                if *nr_sectors == 0 {
                    return Err(Reason::Length);
                }
                (*sector, *nr_sectors, Segments::NONE)
            }
            Body::Indirect { .. } | Body::Other => return Err(Reason::Unsupported),
        };

        // An empty flush or barrier touches no sector, and may be sent to a read-only disk.
        if nr_sectors > 0 {
            if op != Op::Read && limits.read_only {
                return Err(Reason::ReadOnly);
            }
            let end = sector.checked_add(nr_sectors).ok_or(Reason::Range)?;
            if end > limits.capacity_sectors {
                return Err(Reason::Range);
            }
            if !limits.aligned(sector) || !limits.aligned(nr_sectors) {
                return Err(Reason::Alignment);
            }
        }
        Ok(Self {
            id: raw.id,
            op,
            sector,
            nr_sectors,
            segments,
        })
    }
}

impl Op {
    /// The operation, if it is known and offered.
    fn offered(raw: &RawRequest, features: &Offered) -> Option<Self> {
        match (raw.operation, &raw.body) {
            (op::READ, Body::Transfer { .. }) => Some(Self::Read),
            (op::WRITE, Body::Transfer { .. }) => Some(Self::Write),
            (op::WRITE_BARRIER, Body::Transfer { .. }) if features.barrier => {
                Some(Self::WriteBarrier)
            }
            (op::FLUSH_DISKCACHE, Body::Transfer { .. }) if features.flush => Some(Self::Flush),
            (op::DISCARD, Body::Discard { flag, .. }) if features.discard => {
                let secure = flag & DISCARD_SECURE != 0;
                Some(Self::Discard { secure })
            }
            _ => None,
        }
    }

    /// The code that stands for this operation in a request and in its response.
    pub fn code(self) -> u8 {
        match self {
            Self::Read => op::READ,
            Self::Write => op::WRITE,
            Self::WriteBarrier => op::WRITE_BARRIER,
            Self::Flush => op::FLUSH_DISKCACHE,
            Self::Discard { .. } => op::DISCARD,
        }
    }

    /// Checks the segments of a transfer and adds up their sectors.
    fn check_segments(self, segments: &Segments, limits: &Limits) -> Result<u64, Reason> {
        let may_be_empty = matches!(self, Self::WriteBarrier | Self::Flush);
        if segments.len > limits.max_segments.min(MAX_SEGMENTS)
            || (segments.is_empty() && !may_be_empty)
        {
            return Err(Reason::Length);
        }
        let mut nr_sectors = 0u64;
        for segment in segments {
            if !segment.is_valid() {
                return Err(Reason::Segment);
            }
            let sectors = u64::from(segment.sectors());
            if !limits.aligned(sectors) {
                return Err(Reason::Alignment);
            }
            nr_sectors = nr_sectors.wrapping_add(sectors);
        }
        Ok(nr_sectors)
    }
}

impl Limits {
    /// Whether a number of sectors is a multiple of the logical block size.
    fn aligned(&self, sectors: u64) -> bool {
        let per_block = u64::from(self.sector_size / SECTOR_SIZE);
        sectors & per_block.saturating_sub(1) == 0
    }
}
