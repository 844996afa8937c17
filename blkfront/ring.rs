// SPDX-License-Identifier: GPL-2.0

//! The ring: requests written, responses read.
//!
//! The back end is not trusted. A response is copied out of the ring once and checked against the
//! private list of what was sent. The access to a request's pages is ended before it completes, so
//! that nobody else can touch its data any more (XSA-396); what the back end is to keep are pages
//! of ours. A back end that breaks a rule is not listened to again: its event gets no EOI
//! (XSA-391). Pages that it still maps then stay in flight until the device goes.
//!
//! C header: `xen/io/blkif.h`, through [`xenbus::protocol::blkif`].

use crate::{
    hwqueue::HwQueue,
    mq::Request,
    queue::Queues,
    transport::{Answer, Received, Transport, Unsent, Wrong},
};
use kernel::prelude::*;
use xenbus::{
    evtchn::EventChannel,
    prelude::*,
    protocol::{
        blkif::{Abi, BadResponse},
        ring::{Front, Overrun},
    },
    ring::FrontArea,
};

/// The way requests and responses are laid out in the ring.
pub(crate) const ABI: Abi = Abi::X86_64;

/// A shared ring with its event channel, and what is in flight on it.
pub(crate) struct Ring {
    front: Front<FrontArea, Abi>,
    channel: EventChannel<HwQueue>,
    /// The other end's domain.
    domid: u16,
    /// `None` until the back end has said what it takes.
    transport: Option<KBox<Transport>>,
    /// Responses since this was last asked.
    received: u32,
    /// Responses before those.
    answers: u32,
    broken: bool,
}

/// What a back end did wrong.
pub(crate) enum Fault {
    /// Its producer index is out of bounds.
    Overrun(Overrun),
    /// There is something wrong with a response.
    Response(Wrong),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Overrun(Overrun { claimed, possible }) => {
                write!(f, "{claimed} responses where there can be {possible}")
            }
            Fault::Response(Wrong::Response(BadResponse::UnknownId { id })) => {
                write!(f, "response with id {id}, which is never used")
            }
            Fault::Response(Wrong::Response(BadResponse::NotPending { id })) => {
                write!(f, "response with id {id}, for which there is no request")
            }
            Fault::Response(Wrong::Response(BadResponse::WrongOperation {
                id,
                sent,
                answered,
            })) => {
                write!(
                    f,
                    "response with id {id} to operation {answered}, not {sent}"
                )
            }
            Fault::Response(Wrong::StillMapped { gref }) => {
                write!(f, "request answered with grant {gref} still mapped")
            }
        }
    }
}

impl Ring {
    /// A new ring of `pages` pages, whose events `queue` handles. Sleeps.
    pub(crate) fn new(dev: &Device, queue: &Arc<HwQueue>, pages: usize) -> Result<KBox<Self>> {
        let area = FrontArea::new(dev, pages)?;
        let front = Front::new(area, ABI).map_err(|_| EINVAL)?;
        let channel = EventChannel::alloc_unbound(dev, c"blkif", queue.clone())?;
        let ring = Ring {
            front,
            channel,
            domid: dev.otherend_id(),
            transport: None,
            received: 0,
            answers: 0,
            broken: false,
        };
        Ok(KBox::new(ring, GFP_KERNEL)?)
    }

    /// The grant references of the pages.
    pub(crate) fn grefs(&self) -> &[u32] {
        self.front.memory().grefs()
    }

    /// The port of the event channel.
    pub(crate) fn port(&self) -> u32 {
        self.channel.port()
    }

    /// Number of entries.
    pub(crate) fn entries(&self) -> u32 {
        self.front.size()
    }

    /// The other end's domain.
    pub(crate) fn domid(&self) -> u16 {
        self.domid
    }

    /// Says how requests are sent from now on. There is none in flight.
    pub(crate) fn set_transport(&mut self, transport: KBox<Transport>) {
        self.transport = Some(transport);
    }

    /// What requests are sent with.
    pub(crate) fn transport(&mut self) -> Option<&mut Transport> {
        self.transport.as_deref_mut()
    }

    /// Whether the back end has broken a rule.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes a request as `operation` into the ring; see [`Transport::start`].
    #[inline]
    pub(crate) fn send(
        &mut self,
        operation: u8,
        secure: bool,
        id: usize,
        rq: Request<Queues>,
    ) -> core::result::Result<(), (Request<Queues>, Unsent)> {
        let Some(transport) = &mut self.transport else {
            return Err((rq, Unsent::Wait { grants: 0 }));
        };
        if self.front.free() == 0 {
            return Err((rq, Unsent::Wait { grants: 0 }));
        }
        transport.start(operation, secure, id, rq)?;
        // There is room, as was asked above.
        let _ = self.front.push(transport.raw());
        Ok(())
    }

    /// Shows the back end what was written, and wakes it if need be.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.front.publish() {
            self.channel.notify();
        }
    }

    /// Takes the next answer. `None`: there is none yet, and there will be an event for the next.
    /// It may have to be followed by [`Ring::publish`].
    ///
    /// After an error the ring is of no use; see [`Ring::give_up`].
    #[inline]
    pub(crate) fn receive(&mut self) -> core::result::Result<Option<Answer>, Fault> {
        loop {
            let Some(response) = self.front.pop().map_err(Fault::Overrun)? else {
                if self.front.final_check().map_err(Fault::Overrun)? {
                    continue;
                }
                return Ok(None);
            };
            self.received = self.received.wrapping_add(1);
            let Some(transport) = &mut self.transport else {
                continue;
            };
            match transport.finish(&response).map_err(Fault::Response)? {
                Some(Received::Answer(answer)) => return Ok(Some(answer)),
                Some(Received::Next) => {
                    // In the place that the response has left.
                    let _ = self.front.push(transport.raw());
                }
                None => {}
            }
        }
    }

    /// How many responses there were since this was last asked.
    #[inline]
    pub(crate) fn take_received(&mut self) -> u32 {
        self.answers = self.answers.wrapping_add(self.received);
        core::mem::take(&mut self.received)
    }

    /// How many responses there were in all, modulo 2^32.
    pub(crate) fn answers(&self) -> u32 {
        self.answers
    }

    /// Ends the use of the ring. Of the requests in flight, `fail` gets those that the back end has
    /// no access to any more.
    pub(crate) fn give_up(&mut self, fail: impl FnMut(Request<Queues>)) {
        self.broken = true;
        if let Some(transport) = &mut self.transport {
            transport.give_up(fail);
        }
    }

    /// Closes the event channel, ends the access to the pages of requests, and passes all requests in
    /// flight on. What is left are pages of ours. Sleeps.
    pub(crate) fn disconnect(self: KBox<Self>, pass_on: impl FnMut(Request<Queues>)) -> Left {
        let Ring {
            front,
            channel,
            mut transport,
            ..
        } = KBox::into_inner(self);
        // Nobody else looks at the ring once the handler has run for the last time.
        drop(channel);
        if let Some(transport) = &mut transport {
            transport.disconnect(pass_on);
        }
        Left {
            _transport: transport,
            _front: front,
        }
    }
}

/// The pages of a connection that has ended, which the back end may still have mapped. Dropping it
/// ends the access.
pub(crate) struct Left {
    _transport: Option<KBox<Transport>>,
    _front: Front<FrontArea, Abi>,
}
