// SPDX-License-Identifier: GPL-2.0

//! The virtual disk: the device behind it, what the guest may do with it, and the counters.

use crate::bio::{params, Disk};
use core::{
    ops::Deref,
    sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering},
};
use xenbus::{
    prelude::*,
    protocol::{
        blkif::{vdisk, Limits, Offered, Op, Request, MAX_SEGMENTS, PAGE_SIZE},
        spin,
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
    pub(crate) disk: Arc<Disk>,
    pub(crate) number: Number,
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
    /// Opens the device behind the disk: for writing, if there is a `w` in `mode`. `queues` is the
    /// most that a front end may have. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of [`Disk::open`], and `EINVAL` when its blocks are larger than a page of the
    /// protocol, so that a front end could not address one.
    pub(crate) fn open(number: Number, mode: CString, cdrom: bool, queues: u32) -> Result<Self> {
        let read_only = !mode.to_bytes().contains(&b'w');
        let disk = Disk::open(number.major, number.minor, read_only)?;
        if disk.logical_block_size() > PAGE_SIZE {
            return Err(EINVAL);
        }
        let mut statistics = KVec::with_capacity(queues as usize, GFP_KERNEL)?;
        for _ in 0..queues {
            statistics.push(Statistics::default(), GFP_KERNEL)?;
        }
        Ok(Vbd {
            cdrom: cdrom || disk.is_cdrom(),
            disk: Arc::new(disk, GFP_KERNEL)?,
            number,
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

    /// What a request is checked against, as of now. `discard`: the toolstack allows it.
    pub(crate) fn limits(&self, discard: bool) -> Limits {
        // A barrier is a flush, a write and a flush, with the ring drained before and after it.
        let flush = self.disk.has_write_cache();
        let discard = discard && self.disk.can_discard();
        Limits {
            capacity_sectors: self.disk.capacity(),
            read_only: self.read_only,
            max_segments: MAX_SEGMENTS,
            max_indirect_segments: MAX_INDIRECT_SEGMENTS,
            sector_size: self.disk.logical_block_size(),
            features: Offered {
                flush,
                barrier: flush,
                discard,
                secure_discard: discard && self.disk.can_discard_securely(),
            },
        }
    }

    /// The flags of the key `info`.
    pub(crate) fn info(&self) -> u32 {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        flag(self.cdrom, vdisk::CDROM)
            | flag(self.disk.is_removable(), vdisk::REMOVABLE)
            | flag(self.read_only, vdisk::READONLY)
    }
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
