// SPDX-License-Identifier: GPL-2.0

//! The ring: requests written, responses read and checked.
//!
//! The back end is not trusted. A response is copied out of the ring once and checked against the
//! private list of what was sent. The access to a request's pages is ended before it completes, so
//! that nobody else can touch its data any more (XSA-396). A back end that breaks a rule is not
//! listened to again: its event gets no EOI (XSA-391). Pages that it still maps then stay in
//! flight until the device goes.
//!
//! C header: `xen/io/blkif.h`, through [`xenbus::protocol::blkif`].

use crate::{
    mq::{Granted, Op, Request},
    queue::Queue,
};
use kernel::prelude::*;
use xenbus::{
    evtchn::EventChannel,
    grant::GrantReserve,
    prelude::*,
    protocol::{
        blkif::{Abi, BadResponse, Pending, RawRequest, Segment, MAX_SEGMENTS, SECTOR_SIZE},
        ring::{Front, Overrun},
    },
    ring::FrontArea,
};

/// Entries of a ring of one page.
pub(crate) const RING_SIZE: usize = 32;

/// The way requests and responses are laid out in the ring.
pub(crate) const ABI: Abi = Abi::X86_64;

/// A shared ring with its event channel, and what is in flight on it.
pub(crate) struct Ring {
    front: Front<FrontArea, Abi>,
    channel: EventChannel<Queue>,
    /// The other end's domain.
    domid: u16,
    pending: Pending<RING_SIZE>,
    /// By id, as in `pending`; a request that the back end holds on to stays here without being
    /// pending any more.
    in_flight: KVec<Option<InFlight>>,
    broken: bool,
}

/// A request that the back end has.
pub(crate) struct InFlight {
    granted: Granted<Queue, MAX_SEGMENTS>,
    /// What it was sent as.
    operation: u8,
}

/// A request that the back end has answered and has no access to any more.
pub(crate) struct Answer {
    /// The request.
    pub rq: Request<Queue>,
    /// What it was sent as.
    pub operation: u8,
    /// How the back end says that it went.
    pub status: i16,
}

/// Why a request was not sent.
pub(crate) enum Unsent {
    /// There is no room in the ring; or, if that is not 0, there are not so many grants free.
    Wait {
        /// The number of grants.
        grants: u16,
    },
    /// It ends here.
    End(Result),
}

/// What a back end did wrong.
pub(crate) enum Fault {
    /// Its producer index is out of bounds.
    Overrun(Overrun),
    /// It answered what was not asked.
    Response(BadResponse),
    /// It has answered, but still maps a page of the request.
    StillMapped {
        /// The grant reference of the page.
        gref: u32,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Overrun(Overrun { claimed, possible }) => {
                write!(f, "{claimed} responses where there can be {possible}")
            }
            Fault::Response(BadResponse::UnknownId { id }) => {
                write!(f, "response with id {id}, which is never used")
            }
            Fault::Response(BadResponse::NotPending { id }) => {
                write!(f, "response with id {id}, for which there is no request")
            }
            Fault::Response(BadResponse::WrongOperation { id, sent, answered }) => {
                write!(
                    f,
                    "response with id {id} to operation {answered}, not {sent}"
                )
            }
            Fault::StillMapped { gref } => {
                write!(f, "request answered with grant {gref} still mapped")
            }
        }
    }
}

impl Ring {
    /// A new ring of one page, whose events `queue` handles. Sleeps.
    pub(crate) fn new(dev: &Device, queue: &Arc<Queue>) -> Result<KBox<Self>> {
        let area = FrontArea::new(dev, 1)?;
        let front = Front::new(area, ABI).map_err(|_| EINVAL)?;
        let channel = EventChannel::alloc_unbound(dev, c"blkif", queue.clone())?;
        let mut in_flight = KVec::with_capacity(RING_SIZE, GFP_KERNEL)?;
        for _ in 0..RING_SIZE {
            in_flight.push(None, GFP_KERNEL)?;
        }
        let ring = Ring {
            front,
            channel,
            domid: dev.otherend_id(),
            pending: Pending::new(),
            in_flight,
            broken: false,
        };
        Ok(KBox::new(ring, GFP_KERNEL)?)
    }

    /// The grant reference of the page.
    pub(crate) fn gref(&self) -> Result<u32> {
        self.front.memory().grefs().first().copied().ok_or(EINVAL)
    }

    /// The port of the event channel.
    pub(crate) fn port(&self) -> u32 {
        self.channel.port()
    }

    /// Whether the back end has broken a rule.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes a request as `operation` into the ring, and grants access to its pages.
    pub(crate) fn send(
        &mut self,
        handle: u16,
        operation: u8,
        rq: Request<Queue>,
    ) -> core::result::Result<(), (Request<Queue>, Unsent)> {
        if self.front.free() == 0 {
            return Err((rq, Unsent::Wait { grants: 0 }));
        }
        let mut granted = Granted::new(rq);
        let mut segments = [Segment::default(); MAX_SEGMENTS];
        let count = match self.grant(&mut granted, &mut segments) {
            Ok(count) => count,
            Err(unsent) => return Err((granted.into_request(), unsent)),
        };
        // The number of free entries bounds that of the pending requests, so there is an id.
        let Ok(id) = self.pending.start_any(operation) else {
            return Err((granted.into_request(), Unsent::Wait { grants: 0 }));
        };
        let rq = granted.request();
        let sector = if rq.op() == Op::Flush { 0 } else { rq.sector() };
        let segments = segments.get(..count).unwrap_or_default();
        let raw = RawRequest::transfer(operation, id as u64, handle, sector, segments);
        let pushed = self.front.push(&raw);
        match (pushed, self.in_flight.get_mut(id)) {
            (Ok(()), Some(slot)) => {
                *slot = Some(InFlight { granted, operation });
                Ok(())
            }
            _ => Err((granted.into_request(), Unsent::End(Err(EIO)))),
        }
    }

    /// Grants access to the pages of a request, and says how many segments they make.
    fn grant(
        &self,
        granted: &mut Granted<Queue, MAX_SEGMENTS>,
        segments: &mut [Segment; MAX_SEGMENTS],
    ) -> core::result::Result<usize, Unsent> {
        let needed = granted.request().nr_segments();
        if needed == 0 {
            return Ok(0);
        }
        let mut reserve = GrantReserve::new(needed).map_err(|_| Unsent::Wait { grants: needed })?;
        // The back end writes what we read.
        let readonly = granted.request().op() != Op::Read;
        let mut count = 0usize;
        granted
            .grant(&mut reserve, self.domid, readonly, |gref, from| {
                // By the queue's limits this goes well.
                let end = from.offset.wrapping_add(from.len);
                if from.len == 0 || (from.offset | from.len) % SECTOR_SIZE != 0 || end > 4096 {
                    return Err(EIO);
                }
                let segment = segments.get_mut(count).ok_or(EIO)?;
                *segment = Segment {
                    gref,
                    first: (from.offset / SECTOR_SIZE) as u8,
                    last: (end / SECTOR_SIZE).wrapping_sub(1) as u8,
                };
                count = count.wrapping_add(1);
                Ok(())
            })
            .map_err(|_| Unsent::End(Err(EIO)))?;
        Ok(count)
    }

    /// Shows the back end what was written, and wakes it if need be.
    pub(crate) fn publish(&mut self) {
        if self.front.publish() {
            self.channel.notify();
        }
    }

    /// Takes the next answer. `None`: there is none yet, and there will be an event for the next.
    ///
    /// After an error the ring is of no use; see [`Ring::give_up`].
    pub(crate) fn receive(&mut self) -> core::result::Result<Option<Answer>, Fault> {
        loop {
            let Some(response) = self.front.pop().map_err(Fault::Overrun)? else {
                if self.front.final_check().map_err(Fault::Overrun)? {
                    continue;
                }
                return Ok(None);
            };
            let id = self.pending.finish(&response).map_err(Fault::Response)?;
            let Some(slot) = self.in_flight.get_mut(id) else {
                continue;
            };
            let flight = slot.as_mut();
            if let Some(gref) = flight.and_then(|flight| flight.granted.end_access()) {
                return Err(Fault::StillMapped { gref });
            }
            if let Some(InFlight { granted, operation }) = slot.take() {
                return Ok(Some(Answer {
                    rq: granted.into_request(),
                    operation,
                    status: response.status,
                }));
            }
        }
    }

    /// Ends the use of the ring. Of the requests in flight, `fail` gets those that the back end has
    /// no access to any more.
    pub(crate) fn give_up(&mut self, mut fail: impl FnMut(Request<Queue>)) {
        self.broken = true;
        for slot in &mut self.in_flight {
            if let Some(flight) = slot.take_if(|flight| flight.granted.end_access().is_none()) {
                fail(flight.granted.into_request());
            }
        }
    }

    /// Closes the event channel, ends the access to all pages, and passes all requests in flight
    /// on. Sleeps.
    pub(crate) fn disconnect(self: KBox<Self>, mut pass_on: impl FnMut(Request<Queue>)) {
        let Ring {
            front,
            channel,
            in_flight,
            ..
        } = KBox::into_inner(self);
        // Nobody else looks at the ring once the handler has run for the last time.
        drop(channel);
        for flight in in_flight.into_iter().flatten() {
            pass_on(flight.granted.into_request());
        }
        drop(front);
    }
}
