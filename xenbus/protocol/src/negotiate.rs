// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What the two ends of a block device read from each other in xenstore, made into checked values.
//!
//! C header: the first part of `xen/io/blkif.h`. The functions take what a key holds, `None` where
//! there is no such key or no number in it; the caller does the reading.
//!
//! - this file: what a disk is like, and how it is flushed
//! - `negotiate/front.rs`: what else a front end reads
//! - `negotiate/back.rs`: what a back end reads

mod back;
mod front;

pub(crate) use back::number;
pub use back::{queues, ring_pages, Queue, MAX_PORT, MAX_RING_PAGES, RING_REFS};
pub use front::{indirect_segments, queue_count, ring_order, Discard};

use crate::blkif::{vdisk, PAGE_SIZE, SECTOR_SIZE};

/// The largest ring has 2⁴ pages (`XENBUS_MAX_RING_GRANT_ORDER`).
pub const MAX_RING_ORDER: u32 = 4;

/// The disk as its back end describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Size in sectors of 512 bytes, a multiple of the logical block size.
    pub sectors: u64,
    /// Logical block size in bytes, a power of two from 512 to 4096.
    pub sector_size: u32,
    /// Physical block size in bytes, a power of two from `sector_size` to [`MAX_PHYSICAL`].
    pub physical_sector_size: u32,
    /// The disk is a CD-ROM drive.
    pub cdrom: bool,
    /// The medium can be taken out.
    pub removable: bool,
    /// The disk cannot be written to.
    pub read_only: bool,
}

/// The largest physical block size that is believed, in bytes.
pub const MAX_PHYSICAL: u32 = 1 << 20;

/// The largest number of sectors of a disk: its bytes fit in a signed 64-bit number.
pub const MAX_SECTORS: u64 = i64::MAX as u64 / SECTOR_SIZE as u64;

/// The key that makes a back end's description useless, and what it holds (`None`: missing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey {
    /// Name of the key.
    pub key: &'static str,
    /// What it holds.
    pub value: Option<u64>,
}

impl Disk {
    /// Checks the back end's keys `sectors`, `sector-size`, `physical-sector-size` and `info`.
    pub fn negotiate(
        sectors: Option<u64>,
        sector_size: Option<u64>,
        physical_sector_size: Option<u64>,
        info: Option<u64>,
    ) -> Result<Self, BadKey> {
        let bytes = block_size(sector_size, SECTOR_SIZE, PAGE_SIZE).ok_or(BadKey {
            key: "sector-size",
            value: sector_size,
        })?;
        // Old back ends do not have this one; it only tunes, so garbage in it does no harm.
        let physical = block_size(physical_sector_size, bytes, MAX_PHYSICAL).unwrap_or(bytes);
        // Flags that we do not know mean nothing to us.
        let info = info.ok_or(BadKey {
            key: "info",
            value: None,
        })?;
        let has = |flag: u32| info & u64::from(flag) != 0;
        Ok(Self {
            sectors: capacity(sectors, bytes)?,
            sector_size: bytes,
            physical_sector_size: physical,
            cdrom: has(vdisk::CDROM),
            removable: has(vdisk::REMOVABLE),
            read_only: has(vdisk::READONLY),
        })
    }
}

/// Checks the key `sectors`, as at the start so after a resize: in sectors of 512 bytes, rounded
/// down to whole blocks of `sector_size` bytes. An empty drive has 0.
pub fn capacity(sectors: Option<u64>, sector_size: u32) -> Result<u64, BadKey> {
    let per_block = u64::from(sector_size / SECTOR_SIZE).max(1);
    match sectors {
        Some(n) if n <= MAX_SECTORS => Ok(n.wrapping_sub(n.checked_rem(per_block).unwrap_or(0))),
        value => Err(BadKey {
            key: "sectors",
            value,
        }),
    }
}

/// A power of two from `min` to `max`, both included.
fn block_size(value: Option<u64>, min: u32, max: u32) -> Option<u32> {
    let size = u32::try_from(value?).ok()?;
    (size.is_power_of_two() && size >= min && size <= max).then_some(size)
}

/// How the front end makes written data durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// It cannot; the back end is expected to write through.
    #[default]
    None,
    /// By `WRITE_BARRIER`, which flushes before and after: a flush and forced unit access.
    Barrier,
    /// By `FLUSH_DISKCACHE`: a flush, but no forced unit access.
    Cache,
}

impl Flush {
    /// Makes a choice from the back end's keys `feature-flush-cache`, which is preferred, and
    /// `feature-barrier`.
    pub fn negotiate(feature_flush_cache: Option<u64>, feature_barrier: Option<u64>) -> Self {
        if flag(feature_flush_cache) {
            Self::Cache
        } else if flag(feature_barrier) {
            Self::Barrier
        } else {
            Self::None
        }
    }

    /// Whether flush requests can be sent at all.
    pub fn flush(self) -> bool {
        self != Self::None
    }

    /// Whether a single write can be made durable.
    pub fn fua(self) -> bool {
        self == Self::Barrier
    }
}

/// Whether a key that holds a boolean is set.
pub fn flag(value: Option<u64>) -> bool {
    value.is_some_and(|v| v != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(sectors: u64, size: u64, physical: Option<u64>, info: u64) -> Result<Disk, BadKey> {
        Disk::negotiate(Some(sectors), Some(size), physical, Some(info))
    }

    #[test]
    fn a_disk() {
        let plain = Disk {
            sectors: 2048,
            sector_size: 512,
            physical_sector_size: 4096,
            cdrom: false,
            removable: false,
            read_only: false,
        };
        assert_eq!(disk(2048, 512, Some(4096), 0), Ok(plain));
        let cdrom = Disk {
            cdrom: true,
            removable: true,
            read_only: true,
            ..plain
        };
        assert_eq!(disk(2048, 512, Some(4096), 7), Ok(cdrom));
        assert_eq!(
            disk(2048, 512, Some(4096), !7),
            Ok(plain),
            "flags nobody has defined"
        );
        assert_eq!(
            disk(0, 512, None, 0).map(|d| d.sectors),
            Ok(0),
            "an empty drive"
        );
    }

    #[test]
    fn block_sizes() {
        for size in [512, 1024, 2048, 4096] {
            assert_eq!(
                disk(8, size, None, 0).map(|d| u64::from(d.sector_size)),
                Ok(size)
            );
        }
        for size in [0, 1, 256, 511, 513, 1536, 8192, (1 << 32) + 512, u64::MAX] {
            let error = BadKey {
                key: "sector-size",
                value: Some(size),
            };
            assert_eq!(disk(8, size, None, 0), Err(error));
        }
        let physical = |value| disk(8, 1024, value, 0).map(|d| d.physical_sector_size);
        assert_eq!(physical(None), Ok(1024));
        assert_eq!(physical(Some(4096)), Ok(4096));
        for garbage in [0, 512, 1025, 1 << 21, u64::MAX] {
            assert_eq!(physical(Some(garbage)), Ok(1024));
        }
    }

    #[test]
    fn capacities() {
        assert_eq!(capacity(Some(17), 512), Ok(17));
        assert_eq!(capacity(Some(17), 4096), Ok(16), "whole blocks");
        assert_eq!(capacity(Some(MAX_SECTORS), 512), Ok(MAX_SECTORS));
        for value in [None, Some(MAX_SECTORS + 1), Some(u64::MAX)] {
            assert_eq!(
                capacity(value, 512),
                Err(BadKey {
                    key: "sectors",
                    value
                })
            );
        }
    }

    #[test]
    fn missing_keys() {
        let missing = |key| Err(BadKey { key, value: None });
        assert_eq!(
            Disk::negotiate(None, Some(512), None, Some(0)),
            missing("sectors")
        );
        assert_eq!(
            Disk::negotiate(Some(8), None, None, Some(0)),
            missing("sector-size")
        );
        assert_eq!(
            Disk::negotiate(Some(8), Some(512), None, None),
            missing("info")
        );
    }

    #[test]
    fn flushes() {
        assert_eq!(Flush::negotiate(None, None), Flush::None);
        assert_eq!(Flush::negotiate(Some(0), Some(0)), Flush::None);
        assert_eq!(Flush::negotiate(None, Some(1)), Flush::Barrier);
        assert_eq!(Flush::negotiate(Some(1), Some(1)), Flush::Cache);
        let can = |f: Flush| (f.flush(), f.fua());
        let all = [Flush::None, Flush::Cache, Flush::Barrier].map(can);
        assert_eq!(all, [(false, false), (true, false), (true, true)]);
    }
}
