// SPDX-License-Identifier: GPL-2.0

//! The stage: where a request that has been checked is carried out.
//!
//! This is the seam between the ring and the disk. A [`Request`] goes in, the [`Request`] and its
//! status come out, in whatever order; between the two its pages are mapped and the disk works.

use crate::{
    bio::{self, Bios},
    vbd::Vbd,
    waker::Waker,
};
use kernel::page::BorrowedPage;
use xenbus::{
    map::{Mapping, PageCache},
    prelude::*,
    protocol::blkif::{status, Op, Request, MAX_SEGMENTS},
};

/// A request and its pages.
pub(crate) struct Transfer {
    pub(crate) request: Request,
    /// One page a segment; nothing for a flush without data.
    mapping: Option<Mapping<MAX_SEGMENTS>>,
}

impl Transfer {
    /// The page of the `i`th segment.
    pub(crate) fn page(&self, i: usize) -> Option<BorrowedPage<'_>> {
        self.mapping.as_ref()?.page(i)
    }
}

/// The stage of one ring, with no tap: from the front end's pages to the disk.
pub(crate) struct Stage {
    vbd: Arc<Vbd>,
    domid: u16,
    cache: Arc<PageCache>,
    bios: Bios,
}

impl Stage {
    /// A stage for requests of domain `domid`; `waker` is woken when some are done.
    pub(crate) fn new(vbd: Arc<Vbd>, domid: u16, waker: Arc<Waker>) -> Result<Self> {
        Ok(Stage {
            vbd,
            domid,
            cache: Arc::pin_init(PageCache::new(), GFP_KERNEL)?,
            bios: Bios::new(waker)?,
        })
    }

    /// Begins to carry `request` out; its end comes out of [`Self::finish`]. Sleeps.
    ///
    /// # Errors
    ///
    /// When its pages cannot be mapped: `EINVAL` for a bad grant, `ENOMEM`. Nothing has been done
    /// then.
    pub(crate) fn execute(&mut self, request: Request) -> Result {
        let mut grants = [(0, false); MAX_SEGMENTS];
        // The disk only reads what is to be written.
        let readonly = request.op != Op::Read;
        for (grant, segment) in grants.iter_mut().zip(&request.segments) {
            *grant = (segment.gref, readonly);
        }
        let grants = grants.get(..request.segments.len()).unwrap_or_default();
        let mapping = match grants {
            [] => None,
            _ => Some(Mapping::map(&self.cache, self.domid, grants)?),
        };
        self.bios
            .submit(&self.vbd.disk, Transfer { request, mapping })?;
        self.vbd.statistics.count(&request);
        Ok(())
    }

    /// Hands each request that is done to `f`, its pages unmapped, with its status. Sleeps.
    pub(crate) fn finish(&mut self, mut f: impl FnMut(&Request, i16)) {
        self.bios.reap(|transfer, result| {
            let Transfer { request, mapping } = transfer;
            // The front end may take its pages back as soon as it sees the response.
            drop(mapping);
            let status = match (result, request.op) {
                (Ok(()), _) => status::OKAY,
                (Err(e), Op::Flush | Op::WriteBarrier) if bio::is_unsupported(e) => {
                    status::EOPNOTSUPP
                }
                (Err(_), _) => status::ERROR,
            };
            f(&request, status);
        });
    }

    /// Requests executed and not yet finished.
    pub(crate) fn in_flight(&self) -> u32 {
        self.bios.in_flight()
    }

    /// Whether [`Self::finish`] has something to hand over.
    pub(crate) fn any_done(&self) -> bool {
        self.bios.any_done()
    }
}
