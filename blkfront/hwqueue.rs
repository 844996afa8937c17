// SPDX-License-Identifier: GPL-2.0

//! One hardware queue: its lock, its ring, and what becomes of its requests.
//!
//! Lock order: the lock of `inner`; within it those of the grant table and of the block layer, and
//! that of the device's chores.

use crate::{
    mq::{not_supported, Batch, Op, Refused, Request, RequestQueue},
    queue::{Queues, Shared},
    ring::{Fault, Left, Ring},
    transport::{Answer, Outcome, Transport, Unsent},
};
use kernel::prelude::*;
use xenbus::{
    evtchn::{Eoi, Handler},
    grant::GrantCallback,
    lock::SpinLockIrq,
    new_spinlock_irq,
    prelude::*,
    protocol::{
        blkif::{op, status},
        negotiate::Flush,
    },
};

/// What becomes of the requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They wait: there is no back end yet, or it has changed.
    Waiting,
    /// They are sent.
    Live,
    /// They fail: the device is gone.
    Gone,
}

/// One hardware queue of a device.
#[pin_data]
pub(crate) struct HwQueue {
    shared: Arc<Shared>,
    #[pin]
    inner: SpinLockIrq<Inner>,
}

struct Inner {
    mode: Mode,
    ring: Option<KBox<Ring>>,
    wakeup: Option<Wakeup>,
    /// What was left of a connection that has ended: pages that the back end may have mapped until it
    /// is closed, too. To end the access only then is cheap.
    left: Option<Left>,
    /// The hardware queue is stopped.
    stopped: bool,
}

/// How a stopped queue gets going again.
struct Wakeup {
    queue: Arc<RequestQueue>,
    grants: GrantCallback,
}

impl HwQueue {
    /// With no ring yet.
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Arc<Self>> {
        let inner = Inner {
            mode: Mode::Waiting,
            ring: None,
            wakeup: None,
            left: None,
            stopped: false,
        };
        let shared = shared.clone();
        Arc::pin_init(
            pin_init!(Self {
                shared,
                inner <- new_spinlock_irq!(inner, "blkfront::HwQueue::inner"),
            }),
            GFP_KERNEL,
        )
    }

    /// Puts a new ring in place, which is not used before [`HwQueue::go_live`]. Sleeps.
    pub(crate) fn set_ring(&self, ring: KBox<Ring>) {
        let old = self.inner.lock().ring.replace(ring);
        drop(old);
    }

    /// The number of entries of the ring and the other end's domain, if there is a ring.
    pub(crate) fn ring(&self) -> Option<(u32, u16)> {
        let inner = self.inner.lock();
        inner.ring.as_ref().map(|r| (r.entries(), r.domid()))
    }

    /// Tells how to start the queue again. `queue` is that of the disk. Sleeps.
    pub(crate) fn set_wakeup(&self, queue: &Arc<RequestQueue>) -> Result {
        let queue = queue.clone();
        let starter = queue.clone();
        let grants = GrantCallback::new(move || starter.start_stopped())?;
        let old = self.inner.lock().wakeup.replace(Wakeup { queue, grants });
        drop(old);
        Ok(())
    }

    /// Sends requests from now on, by means of `transport`. Without a ring they go on waiting.
    pub(crate) fn go_live(&self, transport: KBox<Transport>) {
        let mut inner = self.inner.lock();
        if let Some(ring) = &mut inner.ring {
            ring.set_transport(transport);
            inner.mode = Mode::Live;
        }
        inner.start();
    }

    /// Gives the ring up. Requests in flight fail if `mode` is `Gone`, else they are kept to be
    /// sent anew. Sleeps.
    ///
    /// Pages that the back end still maps are kept from being used again until it lets go. If `mode`
    /// is `Gone`, pages of ours wait for [`HwQueue::forget`].
    pub(crate) fn disconnect(&self, mode: Mode) {
        let (ring, wakeup) = {
            let mut inner = self.inner.lock();
            // What is gone stays so.
            if inner.mode != Mode::Gone {
                inner.mode = mode;
            }
            let ring = inner.ring.take();
            if mode == Mode::Gone {
                // Whoever waits is to be told.
                inner.start();
                (ring, inner.wakeup.take())
            } else {
                (ring, None)
            }
        };
        let left = ring.map(|ring| {
            ring.disconnect(|rq| match mode {
                Mode::Gone => rq.complete(Err(EIO)),
                Mode::Waiting | Mode::Live => rq.requeue(),
            })
        });
        if mode == Mode::Gone && left.is_some() {
            let old = core::mem::replace(&mut self.inner.lock().left, left);
            drop(old);
        }
        drop(wakeup);
    }

    /// Lets go of all that the other end may still have of an earlier connection. Sleeps.
    pub(crate) fn forget(&self) {
        let left = self.inner.lock().left.take();
        drop(left);
    }

    /// After the device has gone: it has a new back end.
    pub(crate) fn reopen(&self) {
        self.inner.lock().mode = Mode::Waiting;
    }

    /// Whether the back end has broken the protocol.
    pub(crate) fn is_broken(&self) -> bool {
        let inner = self.inner.lock();
        inner.ring.as_ref().is_some_and(|ring| ring.is_broken())
    }

    /// Whether requests are sent, to a back end that has broken no rule so far.
    pub(crate) fn is_well(&self) -> bool {
        let inner = self.inner.lock();
        inner.mode == Mode::Live && inner.ring.as_ref().is_some_and(|ring| !ring.is_broken())
    }

    /// How many responses there were, modulo 2^32.
    pub(crate) fn answers(&self) -> u32 {
        self.inner.lock().ring.as_ref().map_or(0, |r| r.answers())
    }

    /// Ends the use of the ring: requests fail from now on. For a back end that broke the protocol
    /// in another ring.
    pub(crate) fn give_up(&self) {
        self.inner.lock().give_up();
    }

    /// Gives pages back that were not used since the last time; whether there may be more another
    /// time.
    pub(crate) fn purge(&self) -> bool {
        let mut again = false;
        for which in 0..2 {
            // Requests get a chance between the batches.
            let done = loop {
                let mut inner = self.inner.lock();
                let transport = inner.ring.as_mut().and_then(|ring| ring.transport());
                let Some(pages) = transport.and_then(|t| t.stacks().into_iter().nth(which)) else {
                    break false;
                };
                if let Some(more) = pages.purge() {
                    break more;
                }
            };
            again |= done;
        }
        again
    }

    /// Shows the back end what was written into the ring.
    #[inline]
    pub(crate) fn publish(&self) {
        self.inner.lock().publish();
    }

    /// Sends a request with the id `id`; see [`Operations::queue_rq`](crate::mq::Operations). With
    /// `still` it is asked, under the lock, whether this is still the queue for it.
    #[inline]
    pub(crate) fn queue_rq(
        &self,
        id: usize,
        rq: Request<Queues>,
        last: bool,
        still: impl FnOnce() -> bool,
    ) -> core::result::Result<(), Refused<Queues>> {
        let mut inner = self.inner.lock();
        if !still() {
            drop(inner);
            return Err((rq, ENOMEM));
        }
        let sent = inner.send(&self.shared, id, rq);
        if last {
            inner.publish();
        }
        match sent {
            Ok(()) => Ok(()),
            Err((rq, Unsent::End(result))) => {
                drop(inner);
                rq.end(result);
                Ok(())
            }
            Err((rq, Unsent::Wait { grants })) => {
                // What was written before is what it waits for.
                inner.publish();
                // First stop, then ask to be started: that may be at once.
                inner.stopped = true;
                rq.stop_queue();
                if grants > 0 {
                    if let Some(wakeup) = &inner.wakeup {
                        // Fewer than these are free, so that it is not started before there are
                        // more; a request that waits already keeps its number.
                        wakeup.grants.request(grants);
                    }
                }
                // Not `EBUSY`: the start may come before the block layer has put the request
                // back, and would miss it.
                Err((rq, ENOMEM))
            }
        }
    }
}

impl Handler for HwQueue {
    fn handle(&self) -> Eoi {
        // Dropped after the lock.
        let mut batch = Batch::new();
        let mut inner = self.inner.lock();
        let eoi = match inner.receive(&self.shared, &mut batch) {
            Ok(0) => Eoi::Spurious,
            Ok(_) => Eoi::Useful,
            Err(None) => Eoi::Later,
            Err(Some(fault)) => {
                dev_err!(
                    self.shared.dev().dev(),
                    "the back end broke the protocol: {fault}; the disk is stopped until it is attached again\n"
                );
                inner.give_up();
                Eoi::Later
            }
        };
        if eoi == Eoi::Later || self.shared.features().is_revoked() {
            self.shared.queue_chore();
        }
        eoi
    }
}

impl Inner {
    /// Writes a request into the ring, unseen until [`Inner::publish`].
    #[inline]
    fn send(
        &mut self,
        shared: &Shared,
        id: usize,
        rq: Request<Queues>,
    ) -> core::result::Result<(), (Request<Queues>, Unsent)> {
        match (self.mode, &mut self.ring) {
            (Mode::Waiting, _) => Err((rq, Unsent::Wait { grants: 0 })),
            (Mode::Live, Some(ring)) if !ring.is_broken() => {
                let features = shared.features();
                let mut secure = false;
                let operation = match rq.op() {
                    Op::Read => op::READ,
                    Op::Write { fua: false } => op::WRITE,
                    Op::Write { fua: true } if features.flush() == Flush::Barrier => {
                        op::WRITE_BARRIER
                    }
                    // Taken back by the back end when the request was on its way already.
                    Op::Write { fua: true } => op::WRITE,
                    Op::Flush => match features.flush() {
                        Flush::Cache => op::FLUSH_DISKCACHE,
                        Flush::Barrier => op::WRITE_BARRIER,
                        Flush::None => return Err((rq, Unsent::End(Ok(())))),
                    },
                    Op::Discard { secure: s } if features.can_discard(s) => {
                        secure = s;
                        op::DISCARD
                    }
                    Op::Discard { .. } => return Err((rq, Unsent::End(Err(not_supported())))),
                    Op::Other => return Err((rq, Unsent::End(Err(EINVAL)))),
                };
                let sent = ring.send(operation, secure, id, rq);
                if ring.transport().is_some_and(Transport::take_grown) {
                    shared.queue_purge();
                }
                sent
            }
            _ => {
                // What the back end still had mapped when it was given up, it may have let go.
                self.fail_in_flight();
                Err((rq, Unsent::End(Err(EIO))))
            }
        }
    }

    /// Shows the back end what was written into the ring.
    #[inline]
    fn publish(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.publish();
        }
    }

    /// Takes all answers there are, and says how many responses there were. An error ends the use of the ring; it is
    /// `None` if that is known already.
    fn receive(
        &mut self,
        shared: &Shared,
        batch: &mut Batch,
    ) -> core::result::Result<u32, Option<Fault>> {
        let Some(ring) = &mut self.ring else {
            return Ok(0);
        };
        if ring.is_broken() {
            return Err(None);
        }
        // At most as many as there were in flight, and their further parts: nobody sends meanwhile.
        while let Some(answer) = ring.receive().map_err(Some)? {
            finish(shared, answer, batch);
        }
        // Further parts of requests.
        ring.publish();
        let count = ring.take_received();
        if count > 0 && self.stopped {
            self.start();
        }
        Ok(count)
    }

    /// Ends the use of a ring whose other end cannot be trusted. Requests fail from now on.
    fn give_up(&mut self) {
        self.fail_in_flight();
        self.start();
    }

    /// Ends those requests in flight that the back end has no access to any more, and the use of
    /// the ring.
    fn fail_in_flight(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.give_up(|rq| rq.complete(Err(EIO)));
        }
    }

    /// Starts the hardware queue again, if it was stopped.
    fn start(&mut self) {
        if let Some(wakeup) = &self.wakeup {
            wakeup.queue.start_stopped();
            self.stopped = false;
        }
    }
}

/// Completes a request that was answered; its pages are ours alone again.
#[inline]
fn finish(shared: &Shared, answer: Answer, batch: &mut Batch) {
    let Answer {
        rq,
        operation,
        outcome,
    } = answer;
    let code = match outcome {
        Outcome::Status(status::OKAY) => return rq.complete_in(batch),
        Outcome::Status(code) => code,
        Outcome::Again => return rq.requeue(),
    };
    let unsupported = code == status::EOPNOTSUPP;
    match operation {
        // It had offered this, but changes its mind. Then nothing need be flushed; but data that
        // went with it has not been written. Some say so of an empty barrier by another error.
        op::WRITE_BARRIER | op::FLUSH_DISKCACHE
            if unsupported || (operation == op::WRITE_BARRIER && rq.op() == Op::Flush) =>
        {
            shared.features().revoke_flush();
            if rq.op() == Op::Flush {
                rq.complete(Ok(()));
            } else {
                rq.requeue();
            }
        }
        op::DISCARD if unsupported => {
            shared.features().revoke_discard();
            rq.complete(Err(not_supported()));
        }
        _ => rq.complete(Err(EIO)),
    }
}
