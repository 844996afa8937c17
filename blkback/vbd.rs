// SPDX-License-Identifier: GPL-2.0

//! The virtual disk: the device behind it, what the guest may do with it, and the counters.

use crate::bio::Disk;
use core::{
    ops::Deref,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use xenbus::{
    prelude::*,
    protocol::blkif::{vdisk, Limits, Offered, Op, Request, MAX_SEGMENTS, PAGE_SIZE},
};

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
    pub(crate) statistics: Statistics,
    served: Arc<AtomicBool>,
}

/// A virtual disk while a ring of it is served: by one at a time.
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
    /// Opens the device behind the disk: for writing, if there is a `w` in `mode`. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of [`Disk::open`], and `EINVAL` when its blocks are larger than a page of the
    /// protocol, so that a front end could not address one.
    pub(crate) fn open(number: Number, mode: CString, cdrom: bool) -> Result<Self> {
        let read_only = !mode.to_bytes().contains(&b'w');
        let disk = Disk::open(number.major, number.minor, read_only)?;
        if disk.logical_block_size() > PAGE_SIZE {
            return Err(EINVAL);
        }
        Ok(Vbd {
            cdrom: cdrom || disk.is_cdrom(),
            disk: Arc::new(disk, GFP_KERNEL)?,
            number,
            mode,
            read_only,
            statistics: Statistics::default(),
            served: Arc::new(AtomicBool::new(false), GFP_KERNEL)?,
        })
    }

    /// Claims the disk for a ring.
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

    /// Whether there is a ring that has not ended.
    pub(crate) fn served(&self) -> Arc<AtomicBool> {
        self.served.clone()
    }

    /// What a request is checked against, as of now.
    pub(crate) fn limits(&self) -> Limits {
        // A barrier is a flush, a write and a flush, with the ring drained before and after it.
        let flush = self.disk.has_write_cache();
        Limits {
            capacity_sectors: self.disk.capacity(),
            read_only: self.read_only,
            max_segments: MAX_SEGMENTS,
            sector_size: self.disk.logical_block_size(),
            features: Offered {
                flush,
                barrier: flush,
                discard: false,
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

/// What has been asked of the disk: numbers of requests, and of sectors of 512 bytes.
#[derive(Default)]
pub(crate) struct Statistics {
    rd_req: AtomicU64,
    wr_req: AtomicU64,
    f_req: AtomicU64,
    rd_sect: AtomicU64,
    wr_sect: AtomicU64,
}

impl Statistics {
    /// Counts a request that goes to the disk.
    pub(crate) fn count(&self, request: &Request) {
        let (req, sect) = match request.op {
            Op::Read => (&self.rd_req, &self.rd_sect),
            Op::Write => (&self.wr_req, &self.wr_sect),
            _ => (&self.f_req, &self.wr_sect),
        };
        req.fetch_add(1, Ordering::Relaxed);
        sect.fetch_add(request.nr_sectors, Ordering::Relaxed);
    }

    /// The counter that is called `name` in sysfs.
    pub(crate) fn get(&self, name: &[u8]) -> Option<u64> {
        let counter = match name {
            b"rd_req" => &self.rd_req,
            b"wr_req" => &self.wr_req,
            b"f_req" => &self.f_req,
            b"rd_sect" => &self.rd_sect,
            b"wr_sect" => &self.wr_sect,
            // We do not discard yet, and there is a place for each request that a ring can hold.
            b"ds_req" | b"oo_req" => return Some(0),
            _ => return None,
        };
        Some(counter.load(Ordering::Relaxed))
    }
}
