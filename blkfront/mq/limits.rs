// SPDX-License-Identifier: GPL-2.0

//! What a disk and its requests may be like.

use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_uint},
    prelude::*,
};
use xenbus::protocol::negotiate::Discard;

// The structures have empty ones inside, of lock debugging that is off; only pointers cross.
#[allow(improper_ctypes)]
extern "C" {
    fn blkfront_helper_init_limits(lim: *mut bindings::queue_limits, from: *const RawLimits);
    fn blkfront_helper_update_limits(
        q: *mut bindings::request_queue,
        from: *const RawLimits,
    ) -> c_int;
}

/// What a disk is like.
pub(crate) struct Config<'a> {
    /// Name in `/dev`, at most 31 bytes.
    pub name: &'a str,
    /// Major number, registered by [`Major`].
    pub major: u32,
    /// First minor number.
    pub first_minor: u32,
    /// How many minor numbers, for the disk and its partitions.
    pub minors: u32,
    /// Size in sectors of 512 bytes.
    pub capacity: u64,
    /// Nothing may be written.
    pub read_only: bool,
    /// The medium can be taken out.
    pub removable: bool,
    /// Logical and physical block size in bytes.
    pub block_size: (u32, u32),
    /// What its requests may be like.
    pub limits: Limits,
}

/// What the requests of a disk may be like; this may change while it is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Completed writes may be lost until a flush.
    pub write_cache: bool,
    /// A single write can be made durable.
    pub fua: bool,
    /// The most segments in a request; each lies within one 4096-byte page and is a whole number
    /// of 512-byte sectors.
    pub max_segments: u16,
    /// How sectors can be discarded, if they can.
    pub discard: Option<Discard>,
}

/// `struct blkfront_limits`.
#[repr(C)]
struct RawLimits {
    max_hw_sectors: c_uint,
    discard_granularity: c_uint,
    discard_alignment: c_uint,
    max_segments: u16,
    write_cache: bool,
    fua: bool,
    discard: bool,
    secure_erase: bool,
}

impl Limits {
    /// Sets the limits of a disk that is in use. Waits for the requests in flight. Sleeps.
    ///
    /// # Safety
    ///
    /// `q` is the queue of a live disk.
    pub(super) unsafe fn update(&self, q: *mut bindings::request_queue) -> Result {
        // SAFETY: By the safety requirements.
        to_result(unsafe { blkfront_helper_update_limits(q, &self.raw()) })
    }

    fn raw(&self) -> RawLimits {
        let discard = self.discard.unwrap_or_default();
        RawLimits {
            max_hw_sectors: u32::from(self.max_segments) * (4096 / 512),
            discard_granularity: discard.granularity,
            discard_alignment: discard.alignment,
            max_segments: self.max_segments,
            write_cache: self.write_cache,
            fua: self.fua,
            discard: self.discard.is_some(),
            secure_erase: discard.secure,
        }
    }
}

impl Config<'_> {
    pub(super) fn limits(&self) -> bindings::queue_limits {
        let (logical_block_size, physical_block_size) = self.block_size;
        let mut limits = bindings::queue_limits {
            logical_block_size,
            physical_block_size,
            max_segment_size: 4096,
            seg_boundary_mask: 4096 - 1,
            // A back end may refuse a segment that is not a whole number of blocks.
            dma_alignment: logical_block_size.wrapping_sub(1),
            ..Default::default()
        };
        // SAFETY: Both are valid, and the second has the fields of the C structure.
        unsafe { blkfront_helper_init_limits(&mut limits, &self.limits.raw()) };
        limits
    }
}
