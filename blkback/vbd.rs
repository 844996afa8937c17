// SPDX-License-Identifier: GPL-2.0

//! The virtual disk: the device behind it, what the guest may do with it, and the counters.

use crate::{
    bio::{params, Disk},
    tap::Slot,
};
use core::{
    ops::Deref,
    sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering},
};
use xenbus::{
    prelude::*,
    protocol::{
        blkif::{vdisk, Limits, Offered, Op, Request, MAX_SEGMENTS, PAGE_SIZE, SECTOR_SIZE},
        spin,
        tap::ioctl::{geometry, Geometry},
    },
};

/// The most segments of an indirect request: what a bio can hold, and half a page of a list.
pub(crate) const MAX_INDIRECT_SEGMENTS: usize = 256;

/// Major and minor number of a block device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Number {
    /// Reads `major:minor`, both in hexadecimal, as the hotplug script writes them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        let hex = |digits| u32::from_str_radix(digits, 16).ok();
        Some(Number {
            major: hex(major)?,
            minor: hex(minor)?,
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{:x}", self.major, self.minor)
    }
}

/// A virtual disk.
pub(crate) struct Vbd {
    /// The device behind it; there need be none when there is a tap.
    pub(crate) disk: Option<Arc<Disk>>,
    pub(crate) number: Option<Number>,
    /// The place for a tap.
    pub(crate) slot: Arc<Slot>,
    /// The key `mode`, such as `r`, `w` or `w!`.
    pub(crate) mode: CString,
    /// The guest may only read.
    pub(crate) read_only: bool,
    /// The guest is to see a CD-ROM drive.
    pub(crate) cdrom: bool,
    /// One for each queue that has been offered.
    pub(crate) statistics: KVec<Statistics>,
    served: Arc<AtomicBool>,
    /// A [`spin::Mode`].
    polling: AtomicU8,
}

/// A virtual disk while it is served: for one connection at a time.
pub(crate) struct Served(Arc<Vbd>);

impl Deref for Served {
    type Target = Arc<Vbd>;

    fn deref(&self) -> &Arc<Vbd> {
        &self.0
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.served.store(false, Ordering::Release);
    }
}

impl Vbd {
    /// Opens the device behind the disk, if there is one: for writing, if there is a `w` in `mode`.
    /// `queues` is the most that a front end may have. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of [`Disk::open`], and `EINVAL` when its blocks are larger than a page of the
    /// protocol, so that a front end could not address one.
    pub(crate) fn open(
        number: Option<Number>,
        mode: CString,
        cdrom: bool,
        queues: u32,
        slot: &Arc<Slot>,
    ) -> Result<Self> {
        let read_only = !mode.to_bytes().contains(&b'w');
        let disk = match number {
            None => None,
            Some(number) => {
                let disk = Disk::open(number.major, number.minor, read_only)?;
                if disk.logical_block_size() > PAGE_SIZE {
                    return Err(EINVAL);
                }
                Some(disk)
            }
        };
        let mut statistics = KVec::with_capacity(queues as usize, GFP_KERNEL)?;
        for _ in 0..queues {
            statistics.push(Statistics::default(), GFP_KERNEL)?;
        }
        Ok(Vbd {
            cdrom: cdrom || disk.as_ref().is_some_and(Disk::is_cdrom),
            disk: match disk {
                Some(disk) => Some(Arc::new(disk, GFP_KERNEL)?),
                None => None,
            },
            number,
            slot: slot.clone(),
            mode,
            read_only,
            statistics,
            served: Arc::new(AtomicBool::new(false), GFP_KERNEL)?,
            polling: AtomicU8::new(params::polling() as u8),
        })
    }

    /// Claims the disk for a connection.
    ///
    /// # Errors
    ///
    /// `EBUSY` when there is one that has not ended: what it has on its way might reach the disk
    /// after what the new one sends.
    pub(crate) fn serve(self: &Arc<Self>) -> Result<Served> {
        if self.served.swap(true, Ordering::Acquire) {
            return Err(EBUSY);
        }
        Ok(Served(self.clone()))
    }

    /// How its rings are polled.
    #[inline]
    pub(crate) fn polling(&self) -> spin::Mode {
        let number = self.polling.load(Ordering::Relaxed);
        spin::Mode::ALL
            .into_iter()
            .find(|mode| *mode as u8 == number)
            .unwrap_or_default()
    }

    /// Changes how its rings are polled, from the next request on.
    pub(crate) fn set_polling(&self, mode: spin::Mode) {
        self.polling.store(mode as u8, Ordering::Relaxed);
    }

    /// Whether there is a ring that has not ended.
    pub(crate) fn served(&self) -> Arc<AtomicBool> {
        self.served.clone()
    }

    /// The size in sectors, as of now.
    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        match (self.slot.sectors(), &self.disk) {
            (Some(sectors), _) => sectors,
            (None, Some(disk)) => disk.capacity(),
            (None, None) => 0,
        }
    }

    /// What it is like, as of now: as a tap has said, or as the device is. `discard`: the toolstack
    /// allows it.
    pub(crate) fn geometry(&self, discard: bool) -> Geometry {
        let mut it = self
            .slot
            .own_geometry()
            .unwrap_or_else(|| self.disk_geometry());
        it.features |=
            flag(self.cdrom, geometry::CDROM) | flag(self.read_only, geometry::READ_ONLY);
        if !discard {
            it.features &= !geometry::DISCARD;
        }
        if it.features & geometry::DISCARD == 0 {
            it.features &= !geometry::SECURE_DISCARD;
        }
        if it.discard_granularity == 0 {
            it.discard_granularity = it.sector_size;
        }
        it
    }

    /// What the device is like, as of now; nothing at all, if there is none.
    pub(crate) fn disk_geometry(&self) -> Geometry {
        let Some(disk) = &self.disk else {
            return Geometry {
                sector_size: SECTOR_SIZE,
                features: geometry::READ_ONLY,
                ..Geometry::default()
            };
        };
        Geometry {
            sectors: disk.capacity(),
            sector_size: disk.logical_block_size(),
            physical_sector_size: disk.physical_block_size(),
            features: flag(disk.has_write_cache(), geometry::FLUSH)
                | flag(disk.can_discard(), geometry::DISCARD)
                | flag(disk.can_discard_securely(), geometry::SECURE_DISCARD)
                | flag(disk.is_removable(), geometry::REMOVABLE)
                | flag(self.read_only, geometry::READ_ONLY),
            discard_granularity: disk.discard_granularity(),
        }
    }

    /// Bytes from the start to the first whole unit that is discarded.
    pub(crate) fn discard_alignment(&self) -> u32 {
        match (self.slot.own_geometry(), &self.disk) {
            (None, Some(disk)) => disk.discard_alignment(),
            _ => 0,
        }
    }
}

fn flag(is: bool, flag: u32) -> u32 {
    if is {
        flag
    } else {
        0
    }
}

/// What a request to a disk of this geometry is checked against.
pub(crate) fn limits(it: &Geometry) -> Limits {
    let has = |feature: u32| it.features & feature != 0;
    Limits {
        capacity_sectors: it.sectors,
        read_only: has(geometry::READ_ONLY),
        max_segments: MAX_SEGMENTS,
        max_indirect_segments: MAX_INDIRECT_SEGMENTS,
        sector_size: it.sector_size,
        features: Offered {
            flush: has(geometry::FLUSH),
            // A flush, a write and a flush, with the ring drained before and after it.
            barrier: has(geometry::FLUSH),
            discard: has(geometry::DISCARD),
            secure_discard: has(geometry::SECURE_DISCARD),
        },
    }
}

/// The flags of the key `info` of a disk of this geometry.
pub(crate) fn info(it: &Geometry) -> u32 {
    let flag = |feature: u32, flag| if it.features & feature != 0 { flag } else { 0 };
    flag(geometry::CDROM, vdisk::CDROM)
        | flag(geometry::REMOVABLE, vdisk::REMOVABLE)
        | flag(geometry::READ_ONLY, vdisk::READONLY)
}

/// Numbers of requests, and of sectors of 512 bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) rd_req: u64,
    pub(crate) wr_req: u64,
    pub(crate) f_req: u64,
    pub(crate) ds_req: u64,
    pub(crate) rd_sect: u64,
    pub(crate) wr_sect: u64,
}

impl Vbd {
    /// What queue `index` has asked of the disk.
    pub(crate) fn counts(&self, index: usize) -> Counts {
        self.statistics
            .get(index)
            .map_or(Counts::default(), Statistics::counts)
    }

    /// The counter that is called `name` in sysfs, of all queues.
    pub(crate) fn counter(&self, name: &[u8]) -> Option<u64> {
        let mut sum = 0u64;
        for statistics in self.statistics.iter() {
            let counts = statistics.counts();
            sum = sum.wrapping_add(match name {
                b"rd_req" => counts.rd_req,
                b"wr_req" => counts.wr_req,
                b"f_req" => counts.f_req,
                b"ds_req" => counts.ds_req,
                b"rd_sect" => counts.rd_sect,
                b"wr_sect" => counts.wr_sect,
                // There is a place for each request that a ring can hold.
                b"oo_req" => 0,
                _ => return None,
            });
        }
        Some(sum)
    }
}

/// What a queue has asked of the disk. Its thread alone counts.
#[derive(Default)]
pub(crate) struct Statistics {
    rd_req: AtomicU64,
    wr_req: AtomicU64,
    f_req: AtomicU64,
    ds_req: AtomicU64,
    rd_sect: AtomicU64,
    wr_sect: AtomicU64,
}

impl Statistics {
    /// Counts a request that goes to the disk.
    #[inline]
    pub(crate) fn count(&self, request: &Request) {
        let add = |counter: &AtomicU64, more: u64| {
            let sum = counter.load(Ordering::Relaxed).wrapping_add(more);
            counter.store(sum, Ordering::Relaxed);
        };
        match request.op {
            Op::Read => {
                add(&self.rd_req, 1);
                add(&self.rd_sect, request.nr_sectors);
            }
            Op::Write => {
                add(&self.wr_req, 1);
                add(&self.wr_sect, request.nr_sectors);
            }
            Op::WriteBarrier | Op::Flush => {
                add(&self.f_req, 1);
                add(&self.wr_sect, request.nr_sectors);
            }
            Op::Discard { .. } => add(&self.ds_req, 1),
        }
    }

    fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            rd_req: get(&self.rd_req),
            wr_req: get(&self.wr_req),
            f_req: get(&self.f_req),
            ds_req: get(&self.ds_req),
            rd_sect: get(&self.rd_sect),
            wr_sect: get(&self.wr_sect),
        }
    }
}
