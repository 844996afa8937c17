// SPDX-License-Identifier: GPL-2.0

//! What a program has of one queue: its rings, and its window.

use kernel::page::PAGE_SIZE;
use xenbus::{
    prelude::*,
    protocol::{
        ring::{AttachError, Back, Front},
        tap::{Entries, Response, RING_BYTES, SECTOR_SIZE},
        tapped::Pieces,
    },
    region::{Region, RegionCopies, RegionRing},
};

/// Pages of each ring.
pub(crate) const RING_PAGES: usize = RING_BYTES / PAGE_SIZE;

/// Pages of a region before the window.
pub(crate) const WINDOW: usize = 2 * RING_PAGES;

/// The kernel's side of a region.
pub(crate) struct Program {
    pub(crate) generation: u32,
    pub(crate) region: Arc<Region>,
    /// The guest's requests, to the program.
    pub(crate) front: Front<RegionRing, Entries>,
    /// The program's requests.
    pub(crate) back: Back<RegionRing, Entries>,
    /// The guest's part of the window.
    pub(crate) pieces: Pieces<KVec<u64>>,
    /// Sectors of the whole window.
    pub(crate) window: u64,
    /// Requests have no data in the window.
    pub(crate) no_data: bool,
    /// Copies between the window and the guest.
    pub(crate) copies: RegionCopies,
}

impl Program {
    /// Empty rings, and a window of which the first `guest` pages are for data of the guest `domid`.
    /// Sleeps.
    pub(crate) fn new(
        generation: u32,
        region: &Arc<Region>,
        guest: usize,
        no_data: bool,
        domid: u16,
    ) -> Result<Self> {
        let ring = |first| RegionRing::new(region, first, RING_PAGES);
        let front = Front::new(ring(0)?, Entries).map_err(|_| EINVAL)?;
        // The program finds its ring as if it had made it itself.
        let own = Front::new(ring(RING_PAGES)?, Entries).map_err(|_| EINVAL)?;
        let back = Back::attach(own.into_memory(), Entries).map_err(|_: AttachError| EINVAL)?;
        let mut bits = KVec::new();
        bits.extend_with(guest.div_ceil(64), 0, GFP_KERNEL)?;
        let window = region.pages().wrapping_sub(WINDOW);
        Ok(Program {
            generation,
            region: region.clone(),
            front,
            back,
            pieces: Pieces::new(bits, guest as u32),
            window: (window.wrapping_mul(PAGE_SIZE) / SECTOR_SIZE) as u64,
            no_data,
            copies: RegionCopies::new(region, domid),
        })
    }

    /// Answers a request of the program's.
    pub(crate) fn respond(&mut self, response: &Response) {
        // There is always one that waits for a response: this one.
        let _ = self.back.push(response);
    }
}
