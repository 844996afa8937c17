// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What a front end makes of the back end's offers that are about speed, and of discards. Nonsense
//! in one of them never loses the disk: it counts as no offer, or is cut to what is possible.

use super::{flag, MAX_RING_ORDER};
use crate::blkif::{MAX_INDIRECT_SEGMENTS, MAX_SEGMENTS};

/// How many segments an indirect request may have: 12 to [`MAX_INDIRECT_SEGMENTS`], or 0 if there
/// are to be none, since requests of [`MAX_SEGMENTS`] serve as well.
///
/// `offered` is the back end's `feature-max-indirect-segments`, `wanted` the front end's own limit.
pub fn indirect_segments(offered: Option<u64>, wanted: u32) -> u16 {
    let most = wanted.min(u32::from(MAX_INDIRECT_SEGMENTS));
    let segments = offered.unwrap_or(0).min(u64::from(most)) as u16;
    if usize::from(segments) > MAX_SEGMENTS {
        segments
    } else {
        0
    }
}

/// The logarithm of the number of pages of a ring, 0 to [`MAX_RING_ORDER`].
///
/// `offered` is the back end's `max-ring-page-order`, `wanted` the front end's own limit.
pub fn ring_order(offered: Option<u64>, wanted: u32) -> u32 {
    let most = wanted.min(MAX_RING_ORDER);
    offered.unwrap_or(0).min(u64::from(most)) as u32
}

/// The number of queues, at least 1.
///
/// `offered` is the back end's `multi-queue-max-queues`, `wanted` the front end's own limit.
pub fn queue_count(offered: Option<u64>, wanted: u32) -> u32 {
    (offered.unwrap_or(1).min(u64::from(wanted)) as u32).max(1)
}

/// How sectors can be discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discard {
    /// Bytes that are discarded as a whole, a multiple of the logical block size; 0: not known.
    pub granularity: u32,
    /// Offset in bytes of the first such unit, less than `granularity`.
    pub alignment: u32,
    /// Sectors can be erased for good, too.
    pub secure: bool,
}

impl Discard {
    /// Reads the back end's keys `feature-discard`, `discard-granularity`, `discard-alignment` and
    /// `discard-secure`, for a disk of logical blocks of `sector_size` bytes. `None`: nothing can
    /// be discarded.
    pub fn negotiate(
        feature: Option<u64>,
        granularity: Option<u64>,
        alignment: Option<u64>,
        secure: Option<u64>,
        sector_size: u32,
    ) -> Option<Self> {
        let whole = |bytes: u32| bytes.checked_rem(sector_size) == Some(0);
        let bytes = |value: Option<u64>| u32::try_from(value?).ok().filter(|&bytes| whole(bytes));
        let granularity = bytes(granularity).unwrap_or(0);
        let alignment = bytes(alignment).filter(|&bytes| bytes < granularity);
        flag(feature).then_some(Self {
            granularity,
            alignment: alignment.unwrap_or(0),
            secure: flag(secure),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_indirect_requests() {
        for (offered, wanted, segments) in [
            (None, 32, 0),
            (Some(0), 32, 0),
            (Some(11), 32, 0),
            (Some(12), 32, 12),
            (Some(256), 32, 32),
            (Some(16), 32, 16),
            (Some(256), 11, 0),
            (Some(256), 0, 0),
            (Some(256), 1000, 256),
            (Some(u64::MAX), u32::MAX, 256),
        ] {
            assert_eq!(
                indirect_segments(offered, wanted),
                segments,
                "{offered:?} {wanted}"
            );
        }
    }

    #[test]
    fn orders_of_rings() {
        assert_eq!(ring_order(None, 4), 0);
        assert_eq!(ring_order(Some(4), 0), 0);
        assert_eq!(ring_order(Some(2), 4), 2);
        assert_eq!(ring_order(Some(u64::MAX), u32::MAX), MAX_RING_ORDER);
    }

    #[test]
    fn counts_of_queues() {
        assert_eq!(queue_count(None, 4), 1);
        assert_eq!(queue_count(Some(0), 4), 1);
        assert_eq!(queue_count(Some(2), 4), 2);
        assert_eq!(queue_count(Some(u64::MAX), 4), 4);
        assert_eq!(queue_count(Some(4), 0), 1);
    }

    #[test]
    fn discards() {
        let discard = |feature, granularity, alignment, secure| {
            Discard::negotiate(Some(feature), granularity, alignment, secure, 4096)
        };
        assert_eq!(Discard::negotiate(None, None, None, None, 512), None);
        assert_eq!(discard(0, Some(4096), None, Some(1)), None);
        assert_eq!(discard(1, None, None, None), Some(Discard::default()));
        let whole = Discard {
            granularity: 65536,
            alignment: 4096,
            secure: true,
        };
        assert_eq!(discard(1, Some(65536), Some(4096), Some(1)), Some(whole));
        // Not in whole blocks, not a number of 32 bits, not below the granularity.
        for value in [512, 4097, 1 << 40, u64::MAX] {
            let none = Some(Discard::default());
            assert_eq!(discard(1, Some(value), Some(0), Some(0)), none);
        }
        for value in [512, 65536, u64::MAX] {
            let from_0 = Some(Discard {
                alignment: 0,
                ..whole
            });
            assert_eq!(discard(1, Some(65536), Some(value), Some(1)), from_0);
        }
        assert_eq!(
            Discard::negotiate(Some(1), Some(4096), None, None, 0),
            Some(Discard::default()),
            "never a division by zero"
        );
    }
}
