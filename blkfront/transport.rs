// SPDX-License-Identifier: GPL-2.0

//! How the requests of one ring are sent: what is in flight, and how the back end reaches the data.
//!
//! | access     | the back end sees             | and when the request is answered            |
//! |------------|-------------------------------|---------------------------------------------|
//! | direct     | the pages of the request      | its access ends                             |
//! | persistent | pages of ours, data is copied | keeps its access                            |
//! | bounce     | pages of ours, data is copied | its access ends (XSA-403)                   |
//!
//! A request with more segments than one entry of the ring takes (a barrier, or any one that was
//! made before the domain met a back end with lower limits) is sent in parts, one after the other.

use crate::{
    mq::{Granted, Request},
    pages::{granted, Pages},
    queue::Queues,
};
use kernel::prelude::*;
use xenbus::{
    grant::GrantReserve,
    protocol::blkif::{
        op, status, BadResponse, Body, Pending, RawRequest, Response, Segment, MAX_SEGMENTS,
        SECTOR_SIZE,
    },
    shared::SharedPage,
};

/// How the back end gets at the data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Pages of requests are granted.
    Direct,
    /// Pages of ours are granted once and kept.
    Persistent,
    /// Pages of ours are granted for one request.
    Bounce,
}

/// What the ends have agreed on.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub access: Access,
    /// The most segments of a request; more than [`MAX_SEGMENTS`]: of an indirect one.
    pub max_segments: u16,
    /// Request ids are below this.
    pub ids: usize,
    /// Entries of the ring.
    pub entries: usize,
}

/// The operations of the pending requests, by id.
struct Ids(KVVec<Option<u8>>);

impl AsRef<[Option<u8>]> for Ids {
    #[inline]
    fn as_ref(&self) -> &[Option<u8>] {
        &self.0
    }
}

impl AsMut<[Option<u8>]> for Ids {
    #[inline]
    fn as_mut(&mut self) -> &mut [Option<u8>] {
        &mut self.0
    }
}

/// What one ring's requests are sent with.
pub(crate) struct Transport {
    access: Access,
    max_segments: u16,
    /// The other end's domain.
    domid: u16,
    /// The device's number, which requests carry.
    handle: u16,
    pending: Pending<Ids>,
    /// By id; a request that the back end holds on to stays here without being pending any more.
    flights: KVVec<Flight>,
    /// Pages for data.
    data: Pages,
    /// Pages for lists of segments, to which the back end keeps its access.
    lists: Pages,
    /// What is to be pushed into the ring; here, since it is long and would be moved about.
    raw: RawRequest,
}

/// A request that the back end has, or room for one.
struct Flight {
    granted: Granted<Queues>,
    /// Pages of ours with its data.
    pages: KVec<SharedPage>,
    list: Option<SharedPage>,
    /// What it was sent as.
    operation: u8,
    /// Segments of earlier parts, and of this one.
    done: u16,
    count: u16,
    /// Sectors likewise.
    done_sectors: u32,
    sectors: u32,
    /// Another part is to follow.
    more: bool,
}

/// A request that the back end has answered and has no access to any more.
pub(crate) struct Answer {
    /// The request.
    pub rq: Request<Queues>,
    /// What it was sent as.
    pub operation: u8,
    /// How it went.
    pub outcome: Outcome,
}

/// How a request went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The back end says this; the last for a request in parts.
    Status(i16),
    /// The rest of it could not be sent: it is to be sent again from the start.
    Again,
}

/// Why a request was not sent.
#[derive(Clone, Copy)]
pub(crate) enum Unsent {
    /// Something is short that there will be when a request is answered; or, if `grants` is not 0,
    /// when the grant table has that many free references.
    Wait { grants: u16 },
    /// It ends here.
    End(Result),
}

/// What a response turned out to be.
pub(crate) enum Received {
    /// The end of a request.
    Answer(Answer),
    /// That of a part; the next one, [`Transport::raw`], is to be pushed.
    Next,
}

/// What a back end did wrong with a response.
pub(crate) enum Wrong {
    /// It answered what was not asked.
    Response(BadResponse),
    /// It has answered, but still maps a page of the request.
    StillMapped {
        /// The grant reference of the page.
        gref: u32,
    },
}

impl Transport {
    /// With nothing in flight. Sleeps.
    pub(crate) fn new(terms: &Terms, domid: u16, handle: u16) -> Result<KBox<Self>> {
        let segments = terms.max_segments;
        let (grants, pages) = match terms.access {
            Access::Direct => (segments, 0),
            Access::Persistent | Access::Bounce => (0, segments),
        };
        let mut flights = KVVec::with_capacity(terms.ids, GFP_KERNEL)?;
        for _ in 0..terms.ids {
            let flight = Flight {
                granted: Granted::new(segments, grants)?,
                pages: KVec::with_capacity(pages.into(), GFP_KERNEL)?,
                list: None,
                operation: 0,
                done: 0,
                count: 0,
                done_sectors: 0,
                sectors: 0,
                more: false,
            };
            flights.push(flight, GFP_KERNEL)?;
        }
        let indirect = usize::from(usize::from(segments) > MAX_SEGMENTS);
        let pages = usize::from(pages);
        let most = terms.ids.min(terms.entries);
        let transport = Transport {
            access: terms.access,
            max_segments: segments,
            domid,
            handle,
            pending: Pending::with(Ids(KVVec::from_elem(None, terms.ids, GFP_KERNEL)?)),
            flights,
            data: Pages::new(pages, pages.saturating_mul(most))?,
            lists: Pages::new(indirect, indirect.saturating_mul(most))?,
            raw: RawRequest::transfer(op::READ, 0, handle, 0, &[]),
        };
        Ok(KBox::new(transport, GFP_KERNEL)?)
    }

    /// Makes what is to be pushed into the ring, [`Self::raw`], for `rq` as `operation` with the id
    /// `id`, which no other request in flight has. For a discard, `secure` counts.
    #[inline]
    pub(crate) fn start(
        &mut self,
        operation: u8,
        secure: bool,
        id: usize,
        rq: Request<Queues>,
    ) -> core::result::Result<(), (Request<Queues>, Unsent)> {
        let failed = Unsent::End(Err(EIO));
        let Some(flight) = self.flights.get_mut(id) else {
            return Err((rq, failed));
        };
        if let Err(rq) = flight.granted.put(rq) {
            return Err((rq, failed));
        }
        flight.operation = operation;
        flight.done = 0;
        flight.count = 0;
        flight.done_sectors = 0;
        flight.more = false;
        let made = match (operation, flight.granted.request()) {
            (op::DISCARD, Some(rq)) => {
                let (sector, sectors) = (rq.sector(), rq.sectors().into());
                let id = id as u64;
                self.raw = RawRequest::discard(id, self.handle, sector, sectors, secure);
                Ok(())
            }
            _ => self.part(id),
        };
        let started = made.and_then(|()| self.pending.start(id, operation).map_err(|_| failed));
        started.or_else(|unsent| match self.withdraw(id) {
            Some(rq) => Err((rq, unsent)),
            None => {
                // Cannot be: it was put in above.
                self.raw = RawRequest::transfer(op::READ, id as u64, self.handle, 0, &[]);
                Ok(())
            }
        })
    }

    /// What was made last to be pushed into the ring.
    #[inline]
    pub(crate) fn raw(&self) -> &RawRequest {
        &self.raw
    }

    /// Takes a request out of its place before the back end has come to know it.
    #[cold]
    fn withdraw(&mut self, id: usize) -> Option<Request<Queues>> {
        self.pending.cancel(id);
        let flight = self.flights.get_mut(id)?;
        flight.release(self.access, &mut self.data, &mut self.lists);
        flight.granted.take()
    }

    /// Makes the next part of a request in `raw`: gives access to its data.
    #[inline]
    fn part(&mut self, id: usize) -> core::result::Result<(), Unsent> {
        let failed = Unsent::End(Err(EIO));
        let flight = self.flights.get_mut(id).ok_or(failed)?;
        let operation = flight.operation;
        let plain = matches!(operation, op::READ | op::WRITE);
        let max = if plain {
            self.max_segments
        } else {
            self.max_segments.min(MAX_SEGMENTS as u16)
        };
        let sector = match flight.granted.request() {
            // A flush has no data, and no place.
            Some(rq) if rq.sectors() > 0 => {
                rq.sector().wrapping_add(u64::from(flight.done_sectors))
            }
            _ => 0,
        };
        let mut segments = flight.granted.segments(flight.done, max);
        let count = segments.len();
        flight.count = count as u16;
        flight.more = segments.has_more();
        let indirect = count > MAX_SEGMENTS;
        let mut bytes = 0u32;
        // The back end writes what we read. A page that it keeps is for both: it maps each of them
        // to be written to, even one with a list.
        let keeps = self.access == Access::Persistent;
        let readonly = operation != op::READ && !keeps;
        let mut reserve = GrantReserve::empty();
        if !keeps && count > 0 {
            reserve.refill(count as u16).map_err(|_| Unsent::Wait {
                grants: count as u16,
            })?;
        }
        let mut list = None;
        if indirect {
            let mut page = self.lists.take().map_err(|_| Unsent::Wait { grants: 0 })?;
            let mut own = GrantReserve::empty();
            if granted(&mut page, &mut own, 1, self.domid, !keeps).is_err() {
                self.lists.give(page);
                return Err(Unsent::Wait { grants: 1 });
            }
            list = Some(page);
        }
        self.raw = RawRequest {
            operation,
            id: id as u64,
            body: Body::Transfer {
                nr_segments: count as u8,
                handle: self.handle,
                sector,
                segments: [Segment::default(); MAX_SEGMENTS],
            },
        };
        let mut result = Ok(());
        for i in 0..count {
            let Some(place) = segments.place(i) else {
                break;
            };
            // By the queue's limits this goes well.
            let end = place.offset.wrapping_add(place.len);
            if place.len == 0 || (place.offset | place.len) % SECTOR_SIZE != 0 || end > 4096 {
                result = Err(failed);
                break;
            }
            let gref = if self.access == Access::Direct {
                segments.grant(i, &mut reserve, self.domid, readonly)
            } else {
                let Ok(mut page) = self.data.take() else {
                    result = Err(Unsent::Wait { grants: 0 });
                    break;
                };
                let left = count.wrapping_sub(i) as u16;
                let gref = granted(&mut page, &mut reserve, left, self.domid, readonly);
                if gref.is_ok() && operation != op::READ {
                    segments.copy_to(i, &mut page);
                }
                // There is room for `max_segments`.
                let _ = flight.pages.push_within_capacity(page);
                gref
            };
            let Ok(gref) = gref else {
                result = Err(Unsent::Wait { grants: 1 });
                break;
            };
            let segment = Segment {
                gref,
                first: (place.offset / SECTOR_SIZE) as u8,
                last: (end / SECTOR_SIZE).wrapping_sub(1) as u8,
            };
            if let Some(list) = &mut list {
                list.write_group(i, segment.to_wire());
            } else if let Body::Transfer { segments, .. } = &mut self.raw.body {
                if let Some(to) = segments.get_mut(i) {
                    *to = segment;
                }
            }
            bytes = bytes.wrapping_add(place.len);
        }
        flight.sectors = bytes / SECTOR_SIZE;
        flight.list = list;
        result?;
        if let Some(gref) = flight.list.as_ref().and_then(SharedPage::gref) {
            let (id, count) = (id as u64, count as u16);
            self.raw = RawRequest::indirect(operation, id, self.handle, sector, count, &[gref]);
        }
        Ok(())
    }

    /// Checks a response and takes what it is about.
    ///
    /// After an error, nothing the back end says counts any more; see [`Transport::give_up`].
    #[inline]
    pub(crate) fn finish(
        &mut self,
        response: &Response,
    ) -> core::result::Result<Option<Received>, Wrong> {
        let id = self.pending.finish(response).map_err(Wrong::Response)?;
        let Some(flight) = self.flights.get_mut(id) else {
            return Ok(None);
        };
        if let Some(gref) = flight.end_access(self.access) {
            return Err(Wrong::StillMapped { gref });
        }
        let okay = response.status == status::OKAY;
        if okay && flight.operation == op::READ {
            flight.copy_back();
        }
        flight.release(self.access, &mut self.data, &mut self.lists);
        let mut outcome = Outcome::Status(response.status);
        if okay && flight.more {
            let operation = flight.operation;
            flight.done = flight.done.wrapping_add(flight.count);
            flight.done_sectors = flight.done_sectors.wrapping_add(flight.sectors);
            match self.part(id) {
                Ok(()) if self.pending.start(id, operation).is_ok() => {
                    return Ok(Some(Received::Next));
                }
                Err(Unsent::End(Err(_))) => outcome = Outcome::Status(status::ERROR),
                _ => outcome = Outcome::Again,
            }
            if let Some(flight) = self.flights.get_mut(id) {
                flight.release(self.access, &mut self.data, &mut self.lists);
            }
        }
        let Some(flight) = self.flights.get_mut(id) else {
            return Ok(None);
        };
        let operation = flight.operation;
        Ok(flight.granted.take().map(|rq| {
            Received::Answer(Answer {
                rq,
                operation,
                outcome,
            })
        }))
    }

    /// Gives out those requests in flight that the back end has no access to.
    pub(crate) fn give_up(&mut self, mut fail: impl FnMut(Request<Queues>)) {
        for flight in &mut self.flights {
            // Pages of ours stay with the flight: they are not used again.
            if flight.granted.end_access().is_none() {
                flight.granted.take().map(&mut fail);
            }
        }
    }

    /// Passes all requests in flight on. What is left are pages of ours, which the back end may
    /// still have mapped.
    pub(crate) fn disconnect(&mut self, mut pass_on: impl FnMut(Request<Queues>)) {
        for flight in &mut self.flights {
            flight.granted.take().map(&mut pass_on);
        }
    }

    /// The pages that are kept for the next request.
    pub(crate) fn stacks(&mut self) -> [&mut Pages; 2] {
        [&mut self.data, &mut self.lists]
    }

    /// Whether there are more pages than there were, since this was last asked.
    #[inline]
    pub(crate) fn take_grown(&mut self) -> bool {
        let (data, lists) = (self.data.take_grown(), self.lists.take_grown());
        data || lists
    }
}

impl Flight {
    /// Ends the back end's access to the data, unless it is to keep it. `Some`: the reference of a
    /// page that it still has mapped.
    #[inline]
    fn end_access(&mut self, access: Access) -> Option<u32> {
        match access {
            Access::Direct => self.granted.end_access(),
            Access::Persistent => None,
            Access::Bounce => {
                let mut mapped = None;
                for page in &mut self.pages {
                    mapped = page.end_access().or(mapped);
                }
                mapped
            }
        }
    }

    /// Copies what the back end has read into the request.
    #[inline]
    fn copy_back(&mut self) {
        let mut segments = self.granted.same_segments();
        for (i, page) in self.pages.iter().enumerate() {
            segments.copy_from(i, page);
        }
    }

    /// Gives the pages back to be used again.
    #[inline]
    fn release(&mut self, access: Access, data: &mut Pages, lists: &mut Pages) {
        if let Some(list) = self.list.take() {
            lists.give(list);
        }
        // The one that was taken first, on top again.
        while let Some(mut page) = self.pages.pop() {
            if access == Access::Bounce {
                // Nobody has come to know those of a request that was not sent.
                page.end_access();
            }
            data.give(page);
        }
    }
}
