// SPDX-License-Identifier: GPL-2.0

//! The stage: where requests that have been checked are carried out.
//!
//! This is the seam between the ring and the disk. A [`Request`] and its segments go in, the
//! [`Request`] and its status come out, in whatever order; between the two its pages are mapped and
//! the disk works. What goes in waits for [`Stage::send`], so that the pages of a batch are mapped
//! in one hypercall; what is done is unmapped in one, too, before any of it is answered.

use crate::{
    bio::{self, Done, Flights},
    grants::{Grants, Held},
    session::{Events, Session},
    tap::Token,
};
use kernel::page::{BorrowedPage, PAGE_SIZE};
use xenbus::{
    prelude::*,
    protocol::blkif::{
        status, Indirect, Limits, Op, Reason, Refusal, Request, Segment, MAX_SEGMENTS,
        SECTORS_PER_PAGE, SECTOR_SIZE,
    },
    region::Region,
};

/// A request, its segments and their pages.
pub(crate) struct Transfer {
    pub(crate) request: Request,
    pub(crate) segments: KVec<Segment>,
    /// One a segment, from [`Stage::send_later`] to the end.
    pages: KVec<Held>,
    /// Whose it is, if it is a tap's and not the ring's.
    tap: Option<Owner>,
}

/// What a tap's request is.
#[derive(Clone, Copy)]
enum Owner {
    /// The tap's own.
    Own(Token),
    /// With the pages of a request of the guest's, which is this one.
    Guest(Token, Request),
}

impl Transfer {
    /// With room for what a request holds itself.
    pub(crate) fn new() -> Result<Self> {
        Ok(Transfer {
            request: Request::default(),
            segments: KVec::with_capacity(MAX_SEGMENTS, GFP_KERNEL)?,
            pages: KVec::with_capacity(MAX_SEGMENTS, GFP_KERNEL)?,
            tap: None,
        })
    }

    /// Makes it a tap's request, with data in `region` from the byte `at` on, of whole sectors.
    fn fill(&mut self, request: Request, region: &Arc<Region>, mut at: usize) -> Result {
        self.request = request;
        self.segments.clear();
        self.pages.clear();
        if let Op::Discard { .. } = request.op {
            return Ok(());
        }
        let mut left = request.nr_sectors as usize;
        let pages = left.div_ceil(usize::from(SECTORS_PER_PAGE)).wrapping_add(1);
        self.segments.reserve(pages, GFP_KERNEL)?;
        self.pages.reserve(pages, GFP_KERNEL)?;
        while left > 0 {
            let first = at % PAGE_SIZE / SECTOR_SIZE as usize;
            let count = left.min(usize::from(SECTORS_PER_PAGE).wrapping_sub(first));
            // There is room for both.
            let _ = self.segments.push_within_capacity(Segment {
                gref: 0,
                first: first as u8,
                last: first.wrapping_add(count).wrapping_sub(1) as u8,
            });
            let page = Held::region(region, at / PAGE_SIZE)?;
            let _ = self.pages.push_within_capacity(page);
            at = at.wrapping_add(count.wrapping_mul(SECTOR_SIZE as usize));
            left = left.wrapping_sub(count);
        }
        Ok(())
    }

    /// The segments, each with its page if that is mapped.
    #[inline]
    pub(crate) fn pages(&self) -> impl Iterator<Item = (&Segment, Option<BorrowedPage<'_>>)> + '_ {
        self.segments.iter().zip(self.pages.iter().map(Held::page))
    }
}

/// Pages that are mapped in one hypercall at most, about.
const BATCH: usize = 256;

/// The stage of one ring: from the front end's pages to the disk.
pub(crate) struct Stage {
    flights: Flights,
    grants: Grants,
    /// Wait for [`Self::send`], their pages perhaps not mapped.
    batch: KVec<u16>,
    /// Are done, or have failed before they came to the disk.
    done: KVec<(u16, Result)>,
    failed: KVec<u16>,
    /// A tap's, done and not yet told to it.
    tap_done: KVec<(Token, i16)>,
    /// A tap's, from the start to the end.
    taps: u32,
    session: Arc<Session>,
    /// Which queue it is.
    index: usize,
}

impl Stage {
    /// A stage for the requests of queue `index`, of which `size` can be on their way, at least 1;
    /// `events` is told when some are done.
    pub(crate) fn new(
        session: &Arc<Session>,
        index: usize,
        size: usize,
        events: Arc<Events>,
    ) -> Result<Self> {
        Ok(Stage {
            flights: Flights::new(size, session.vbd().disk.clone(), events)?,
            grants: Grants::new(session.dev().otherend_id(), session.persistent())?,
            batch: KVec::with_capacity(size, GFP_KERNEL)?,
            done: KVec::with_capacity(size, GFP_KERNEL)?,
            failed: KVec::with_capacity(size, GFP_KERNEL)?,
            tap_done: KVec::new(),
            taps: 0,
            session: session.clone(),
            index,
        })
    }

    /// Takes a request in; the number of its place, for [`Self::send_later`].
    ///
    /// # Errors
    ///
    /// `EBUSY` when as many as the ring has entries are there.
    #[inline]
    pub(crate) fn take(&mut self, request: Request, segments: &[Segment]) -> Result<u16> {
        let index = self.flights.take().ok_or(EBUSY)?;
        if let Some(transfer) = self.flights.get(index) {
            transfer.request = request;
            transfer.tap = None;
            transfer.segments.clear();
            for segment in segments {
                // There is room for what a request holds itself.
                let _ = transfer.segments.push_within_capacity(*segment);
            }
        }
        Ok(index)
    }

    /// Reads and checks the segments of an indirect request, then as [`Self::take`].
    pub(crate) fn take_indirect(
        &mut self,
        indirect: &Indirect<'_>,
        limits: &Limits,
    ) -> Result<u16, Refusal> {
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
                transfer.tap = None;
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
        Ok(index)
    }

    /// Takes the pages of a request into use, and the request into the batch: it is carried out from
    /// [`Self::send`] on, and its end comes out of [`Self::finish`]. Sleeps when memory is short.
    #[inline]
    pub(crate) fn send_later(&mut self, index: u16) {
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
                let status = answer(transfer.request.op, *result);
                match transfer.tap.take() {
                    None => f(&transfer.request, status),
                    Some(owner) => {
                        self.taps = self.taps.wrapping_sub(1);
                        let (Owner::Own(token) | Owner::Guest(token, _)) = owner;
                        // There is room for as many as there are places.
                        let _ = self.tap_done.push_within_capacity((token, status));
                        if let Owner::Guest(_, request) = owner {
                            // The guest's request is still to be answered.
                            transfer.request = request;
                            continue;
                        }
                    }
                }
            }
            self.flights.put(*index);
        }
        self.done.clear();
        failed
    }

    /// The request that is done, its pages given back, if it is the only one on its way, has gone
    /// well and leaves all its pages mapped. Does not sleep.
    pub(crate) fn finish_alone(&mut self) -> Option<Request> {
        let index = self.flights.reap_alone(|transfer| {
            let kept = |page: &Held| matches!(page, Held::Kept(..));
            transfer.tap.is_none() && transfer.pages.iter().all(kept)
        })?;
        let transfer = self.flights.get(index)?;
        for page in transfer.pages.drain_all() {
            self.grants.release(page);
        }
        let request = transfer.request;
        self.flights.put(index);
        Some(request)
    }

    /// Requests that have come to the disk and are not yet finished.
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        self.flights.away()
    }

    /// As [`Self::in_flight`], and those that wait for it, without those of a tap.
    pub(crate) fn own(&self) -> u32 {
        (self.flights.away())
            .wrapping_add((self.batch.len() as u32).wrapping_add(self.failed.len() as u32))
            .wrapping_sub(self.taps)
    }

    /// Makes room for `count` requests of a tap.
    pub(crate) fn grow(&mut self, count: usize) -> Result {
        self.flights.grow(count)?;
        let places = self.flights.places();
        let more = |len: usize| places.saturating_sub(len);
        self.batch.reserve(more(self.batch.len()), GFP_KERNEL)?;
        self.done.reserve(more(self.done.len()), GFP_KERNEL)?;
        self.failed.reserve(more(self.failed.len()), GFP_KERNEL)?;
        self.tap_done
            .reserve(more(self.tap_done.len()), GFP_KERNEL)?;
        Ok(())
    }

    /// How many requests there is room for.
    pub(crate) fn places(&self) -> usize {
        self.flights.places()
    }

    /// A request that has been taken in, and that nobody works on.
    #[inline]
    pub(crate) fn get(&mut self, index: u16) -> Option<&Transfer> {
        self.flights.get(index).map(|transfer| &*transfer)
    }

    /// Forgets a request that has been answered elsewhere.
    #[inline]
    pub(crate) fn forget(&mut self, index: u16) {
        self.flights.put(index);
    }

    /// Carries out a tap's request with the pages of one of the guest's, which is as long and goes
    /// the same way. The end is told to the tap; the guest's request stays.
    pub(crate) fn lend(&mut self, index: u16, request: Request, token: Token) -> Result {
        let transfer = self.flights.get(index).ok_or(EINVAL)?;
        transfer.tap = Some(Owner::Guest(token, transfer.request));
        transfer.request = request;
        self.taps = self.taps.wrapping_add(1);
        self.send_later(index);
        Ok(())
    }

    /// Carries out a tap's request, whose data is in `region` from the byte `at` on.
    pub(crate) fn take_own(
        &mut self,
        request: Request,
        region: &Arc<Region>,
        at: usize,
        token: Token,
    ) -> Result {
        let index = self.flights.take().ok_or(EBUSY)?;
        let filled = match self.flights.get(index) {
            None => Err(EINVAL),
            Some(transfer) => transfer.fill(request, region, at),
        };
        if let Err(e) = filled {
            self.flights.put(index);
            return Err(e);
        }
        if let Some(transfer) = self.flights.get(index) {
            transfer.tap = Some(Owner::Own(token));
        }
        self.taps = self.taps.wrapping_add(1);
        let _ = self.batch.push_within_capacity(index);
        Ok(())
    }

    /// The next of a tap's requests that are done, with its status.
    pub(crate) fn tap_done(&mut self) -> Option<(Token, i16)> {
        self.tap_done.pop()
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn any_tap_done(&self) -> bool {
        !self.tap_done.is_empty()
    }

    /// Whether [`Self::finish`] has something to hand over.
    #[inline]
    pub(crate) fn any_done(&self) -> bool {
        self.flights.done().any() || !self.failed.is_empty()
    }

    /// The requests that the disk has done.
    pub(crate) fn done(&self) -> &Arc<Done> {
        self.flights.done()
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
