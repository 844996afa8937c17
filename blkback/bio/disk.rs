// SPDX-License-Identifier: GPL-2.0

//! The block device behind a disk.

use core::ptr::{self, NonNull};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    ffi::c_uint,
};
use xenbus::prelude::*;

// The structures have empty ones inside, of lock debugging that is off; only pointers cross.
#[allow(improper_ctypes)]
extern "C" {
    fn blkback_helper_capacity(bdev: *mut bindings::block_device) -> u64;
    fn blkback_helper_logical_block_size(bdev: *mut bindings::block_device) -> c_uint;
    fn blkback_helper_physical_block_size(bdev: *mut bindings::block_device) -> c_uint;
    fn blkback_helper_write_cache(bdev: *mut bindings::block_device) -> bool;
    fn blkback_helper_max_discard(bdev: *mut bindings::block_device) -> c_uint;
    fn blkback_helper_max_secure_erase(bdev: *mut bindings::block_device) -> c_uint;
    fn blkback_helper_discard_granularity(bdev: *mut bindings::block_device) -> c_uint;
    fn blkback_helper_is_cdrom(bdev: *mut bindings::block_device) -> bool;
    fn blkback_helper_is_removable(bdev: *mut bindings::block_device) -> bool;
}

/// `BLK_OPEN_READ` and `BLK_OPEN_WRITE`, which are macros with a cast.
const OPEN_READ: bindings::blk_mode_t = 1 << 0;
const OPEN_WRITE: bindings::blk_mode_t = 1 << 1;

/// A block device, held open; dropping it closes it before it returns. Sleeps.
///
/// # Invariants
///
/// `file` is an open file of a block device, of which we hold a reference.
pub(crate) struct Disk {
    file: NonNull<bindings::file>,
}

// SAFETY: A `struct file` may be used and released from any thread.
unsafe impl Send for Disk {}

// SAFETY: What is offered only reads, or is synchronized by the block layer.
unsafe impl Sync for Disk {}

impl Disk {
    /// Opens the device with these numbers, shared with whoever else has it open: whether that is
    /// allowed is the hotplug script's to judge. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for numbers that no device can have, `ENXIO` when there is no such device,
    /// `EACCES` when a device that cannot be written to is to be opened for writing.
    pub(crate) fn open(major: u32, minor: u32, read_only: bool) -> Result<Self> {
        if major >= 1 << (32 - bindings::MINORBITS) || minor >= 1 << bindings::MINORBITS {
            return Err(EINVAL);
        }
        let mode = if read_only {
            OPEN_READ
        } else {
            OPEN_READ | OPEN_WRITE
        };
        // SAFETY: No holder and no operations of one is a valid combination; this may sleep.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_dev(
                major << bindings::MINORBITS | minor,
                mode,
                ptr::null_mut(),
                ptr::null(),
            )
        })?;
        // INVARIANT: Just opened, with one reference for us.
        Ok(Disk {
            file: NonNull::new(file).ok_or(ENXIO)?,
        })
    }

    pub(super) fn bdev(&self) -> *mut bindings::block_device {
        // SAFETY: By the type invariant.
        unsafe { bindings::file_bdev(self.file.as_ptr()) }
    }

    /// Size in sectors of 512 bytes, as of now.
    pub(crate) fn capacity(&self) -> u64 {
        // SAFETY: By the type invariant the device is open.
        unsafe { blkback_helper_capacity(self.bdev()) }
    }

    /// Bytes that are read or written at least, a power of two.
    pub(crate) fn logical_block_size(&self) -> u32 {
        // SAFETY: As above.
        unsafe { blkback_helper_logical_block_size(self.bdev()) }
    }

    /// Bytes that the device writes without reading them first, a power of two.
    pub(crate) fn physical_block_size(&self) -> u32 {
        // SAFETY: As above.
        unsafe { blkback_helper_physical_block_size(self.bdev()) }
    }

    /// Whether written data are durable only after a flush.
    pub(crate) fn has_write_cache(&self) -> bool {
        // SAFETY: As above.
        unsafe { blkback_helper_write_cache(self.bdev()) }
    }

    /// Whether sectors can be discarded.
    pub(crate) fn can_discard(&self) -> bool {
        // SAFETY: As above.
        unsafe { blkback_helper_max_discard(self.bdev()) != 0 }
    }

    /// Whether sectors can be discarded with all copies of their data.
    pub(crate) fn can_discard_securely(&self) -> bool {
        // SAFETY: As above.
        unsafe { blkback_helper_max_secure_erase(self.bdev()) != 0 }
    }

    /// Bytes that are discarded at least.
    pub(crate) fn discard_granularity(&self) -> u32 {
        // SAFETY: As above.
        unsafe { blkback_helper_discard_granularity(self.bdev()) }
    }

    /// Bytes from the start of the device to the first whole unit that is discarded.
    pub(crate) fn discard_alignment(&self) -> u32 {
        // SAFETY: As above.
        unsafe { bindings::bdev_discard_alignment(self.bdev()) }
    }

    /// Whether it is a CD-ROM drive.
    pub(crate) fn is_cdrom(&self) -> bool {
        // SAFETY: As above.
        unsafe { blkback_helper_is_cdrom(self.bdev()) }
    }

    /// Whether the medium can be taken out.
    pub(crate) fn is_removable(&self) -> bool {
        // SAFETY: As above.
        unsafe { blkback_helper_is_removable(self.bdev()) }
    }

    /// Writes back and drops what this domain has cached of the device, which bios bypass. Sleeps.
    pub(crate) fn drop_cache(&self) -> Result {
        // SAFETY: By the type invariant the device is open; this may sleep.
        to_result(unsafe { bindings::sync_blockdev(self.bdev()) })?;
        // SAFETY: As above; an open file has a mapping.
        unsafe { bindings::invalidate_inode_pages2((*self.file.as_ptr()).f_mapping) };
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: Our reference. Synchronous, so that whoever waits for the end of the virtual
        // disk finds the device free; we hold no lock that a release could want.
        unsafe { bindings::__fput_sync(self.file.as_ptr()) };
    }
}
