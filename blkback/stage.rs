// SPDX-License-Identifier: GPL-2.0

//! The stage: where requests that have been checked are carried out.
//!
//! This is the seam between the ring and the disk. A [`Request`] and its segments go in, the
//! [`Request`] and its status come out, in whatever order; between the two its pages are mapped and
//! the disk works. What goes in waits for [`Stage::send`], so that the pages of a batch are mapped
//! in one hypercall; what is done is unmapped in one, too, before any of it is answered.

use crate::{
    bio::{self, Flights},
    grants::{Grants, Held},
    session::Session,
    waker::Waker,
};
use kernel::page::BorrowedPage;
use xenbus::{
    prelude::*,
    protocol::blkif::{
        status, Indirect, Limits, Op, Reason, Refusal, Request, Segment, MAX_SEGMENTS,
    },
};

/// A request, its segments and their pages.
pub(crate) struct Transfer {
    pub(crate) request: Request,
    pub(crate) segments: KVec<Segment>,
    /// One a segment, from [`Stage::execute`] to the end.
    pages: KVec<Held>,
}

impl Transfer {
    /// With room for what a request holds itself.
    pub(crate) fn new() -> Result<Self> {
        Ok(Transfer {
            request: Request::default(),
            segments: KVec::with_capacity(MAX_SEGMENTS, GFP_KERNEL)?,
            pages: KVec::with_capacity(MAX_SEGMENTS, GFP_KERNEL)?,
        })
    }

    /// The segments, each with its page if that is mapped.
    #[inline]
    pub(crate) fn pages(&self) -> impl Iterator<Item = (&Segment, Option<BorrowedPage<'_>>)> + '_ {
        self.segments.iter().zip(self.pages.iter().map(Held::page))
    }
}

/// Pages that are mapped in one hypercall at most, about.
const BATCH: usize = 256;

/// The stage of one ring, with no tap: from the front end's pages to the disk.
pub(crate) struct Stage {
    flights: Flights,
    grants: Grants,
    /// Wait for [`Self::send`], their pages perhaps not mapped.
    batch: KVec<u16>,
    /// Are done, or have failed before they came to the disk.
    done: KVec<(u16, Result)>,
    failed: KVec<u16>,
    session: Arc<Session>,
    /// Which queue it is.
    index: usize,
}

impl Stage {
    /// A stage for the requests of queue `index`, of which `size` can be on their way, at least 1;
    /// `waker` is woken when some are done.
    pub(crate) fn new(
        session: &Arc<Session>,
        index: usize,
        size: usize,
        waker: Arc<Waker>,
    ) -> Result<Self> {
        Ok(Stage {
            flights: Flights::new(size, session.vbd().disk.clone(), waker)?,
            grants: Grants::new(session.dev().otherend_id(), session.persistent())?,
            batch: KVec::with_capacity(size, GFP_KERNEL)?,
            done: KVec::with_capacity(size, GFP_KERNEL)?,
            failed: KVec::with_capacity(size, GFP_KERNEL)?,
            session: session.clone(),
            index,
        })
    }

    /// Takes a request in, to be carried out from [`Self::send`] on; its end comes out of
    /// [`Self::finish`]. Sleeps when memory is short.
    ///
    /// # Errors
    ///
    /// `EBUSY` when as many as the ring has entries are on their way.
    #[inline]
    pub(crate) fn execute(&mut self, request: Request, segments: &[Segment]) -> Result {
        let index = self.flights.take().ok_or(EBUSY)?;
        if let Some(transfer) = self.flights.get(index) {
            transfer.request = request;
            transfer.segments.clear();
            for segment in segments {
                // There is room for what a request holds itself.
                let _ = transfer.segments.push_within_capacity(*segment);
            }
        }
        self.hold(index);
        Ok(())
    }

    /// Reads and checks the segments of an indirect request, then as [`Self::execute`].
    pub(crate) fn execute_indirect(
        &mut self,
        indirect: &Indirect<'_>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let failed = |_| indirect.refuse(Reason::Segment);
        // As many segments as are offered fit in a page.
        let [gref] = *indirect.pages() else {
            return Err(indirect.refuse(Reason::Length));
        };
        let list = self
            .grants
            .read_list(gref, indirect.list_len())
            .map_err(failed)?;
        let index = self.flights.take().ok_or(indirect.refuse(Reason::Length))?;
        let parsed = match self.flights.get(index) {
            None => Err(indirect.refuse(Reason::Length)),
            Some(transfer) => {
                transfer.segments.clear();
                transfer
                    .segments
                    .reserve(indirect.nr_segments(), GFP_KERNEL)
                    .map_err(|_| indirect.refuse(Reason::Segment))
                    .and_then(|()| {
                        indirect.parse(list, limits, |segment| {
                            // There is room.
                            let _ = transfer.segments.push_within_capacity(segment);
                        })
                    })
                    .map(|request| transfer.request = request)
            }
        };
        if let Err(refusal) = parsed {
            self.flights.put(index);
            return Err(refusal);
        }
        self.hold(index);
        Ok(())
    }

    /// Takes the pages of a request into use, and the request into the batch.
    #[inline]
    fn hold(&mut self, index: u16) {
        let Some(transfer) = self.flights.get(index) else {
            return;
        };
        // The disk only reads what is to be written.
        let readonly = transfer.request.op != Op::Read;
        transfer.pages.clear();
        let mut result = transfer
            .pages
            .reserve(transfer.segments.len(), GFP_KERNEL)
            .map_err(Error::from);
        for segment in &transfer.segments {
            if result.is_err() {
                break;
            }
            match self.grants.hold(segment.gref, readonly) {
                Ok(held) => {
                    let _ = transfer.pages.push_within_capacity(held);
                }
                // Fewer pages than segments: it will fail.
                Err(e) => result = Err(e),
            }
        }
        // There is room for as many as there are flights.
        let _ = self.batch.push_within_capacity(index);
        if self.grants.pending() >= BATCH {
            self.send();
        }
    }

    /// Sends to the disk what has been taken in. Sleeps.
    pub(crate) fn send(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let flights = &mut self.flights;
        if self.grants.pending() > 0 {
            // Each page goes to the next place that waits for one.
            let (mut batch, mut place) = (self.batch.iter(), 0);
            let mut at = batch.next();
            self.grants.map(|held| {
                while let Some(index) = at {
                    let next = flights.get(*index).and_then(|transfer| {
                        let pages = transfer.pages.get_mut(place..)?;
                        let found = pages.iter().position(|page| matches!(page, Held::Not))?;
                        place = place.wrapping_add(found).wrapping_add(1);
                        pages.get_mut(found)
                    });
                    if let Some(page) = next {
                        *page = held;
                        return;
                    }
                    at = batch.next();
                    place = 0;
                }
            });
        }
        for index in &self.batch {
            let index = *index;
            let request = match flights.get(index) {
                Some(transfer) if transfer.pages.len() == transfer.segments.len() => {
                    transfer.request
                }
                _ => {
                    let _ = self.failed.push_within_capacity(index);
                    continue;
                }
            };
            match flights.submit(index) {
                Ok(()) => self.session.count(self.index, &request),
                Err(_) => {
                    let _ = self.failed.push_within_capacity(index);
                }
            }
        }
        self.batch.clear();
    }

    /// Hands each request that is done to `f`, its pages given back, with its status; says how many
    /// have not come to the disk. Sleeps.
    pub(crate) fn finish(&mut self, mut f: impl FnMut(&Request, i16)) -> usize {
        let done = &mut self.done;
        for index in self.failed.iter() {
            let _ = done.push_within_capacity((*index, Err(EINVAL)));
        }
        let failed = self.failed.len();
        self.failed.clear();
        self.flights.reap(|index, result| {
            let _ = done.push_within_capacity((index, result));
        });
        for (index, _) in self.done.iter() {
            if let Some(transfer) = self.flights.get(*index) {
                for page in transfer.pages.drain_all() {
                    self.grants.release(page);
                }
            }
        }
        // The front end may take its pages back as soon as it sees the response.
        self.grants.flush();
        for (index, result) in self.done.iter() {
            if let Some(transfer) = self.flights.get(*index) {
                f(&transfer.request, answer(transfer.request.op, *result));
            }
            self.flights.put(*index);
        }
        self.done.clear();
        failed
    }

    /// Requests that have come to the disk and are not yet finished.
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        self.flights.away()
    }

    /// Whether [`Self::finish`] has something to hand over.
    #[inline]
    pub(crate) fn any_done(&self) -> bool {
        self.flights.any_done() || !self.failed.is_empty()
    }

    /// The guest's pages.
    #[inline]
    pub(crate) fn grants(&mut self) -> &mut Grants {
        &mut self.grants
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Nothing is on its way any more; what it held goes in one.
        self.finish(|_, _| ());
    }
}

/// The status that a result is answered with.
#[inline]
fn answer(op: Op, result: Result) -> i16 {
    match (result, op) {
        (Ok(()), _) => status::OKAY,
        (Err(e), Op::Flush | Op::WriteBarrier | Op::Discard { .. }) if bio::is_unsupported(e) => {
            status::EOPNOTSUPP
        }
        (Err(_), _) => status::ERROR,
    }
}
