// SPDX-License-Identifier: GPL-2.0

//! Requests on their way: from the block layer into the ring, and back when they are answered.
//!
//! Who may open the disk, and who does the device's chores, is here too, since the block layer
//! keeps a [`Queue`] for as long as anybody has the disk.
//!
//! Lock order: the lock of [`Queue`]'s `inner`; within it those of the grant table and of the block
//! layer, and that of [`Chore`]. The lock of `users` is taken alone.

use crate::{
    mq::{Op, Operations, Refused, Request, RequestQueue},
    ring::{Answer, Fault, Ring, Unsent},
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
    work::Work,
};

/// The device's work, which anybody may queue; `None` before the device is probed and after it is
/// removed.
pub(crate) type Chore = SpinLockIrq<Option<Work>>;

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

/// One queue of the device, of which it has one.
#[pin_data]
pub(crate) struct Queue {
    dev: ARef<Device>,
    /// The number of the device, which its requests carry.
    handle: u16,
    #[pin]
    inner: SpinLockIrq<Inner>,
    #[pin]
    users: SpinLockIrq<Users>,
    #[pin]
    chore: Chore,
}

struct Inner {
    mode: Mode,
    flush: Flush,
    /// The back end has taken its offer of flushing back, and the block layer is to be told.
    revoked: bool,
    ring: Option<KBox<Ring>>,
    wakeup: Option<Wakeup>,
    /// The hardware queue is stopped.
    stopped: bool,
}

/// How a stopped queue gets going again.
struct Wakeup {
    queue: Arc<RequestQueue>,
    grants: GrantCallback,
}

#[derive(Default)]
struct Users {
    count: u32,
    /// Nobody is let in any more.
    shut: bool,
}

impl Queue {
    /// The queue of `dev`, with no ring yet.
    pub(crate) fn new(dev: &Device, handle: u16) -> Result<Arc<Self>> {
        let inner = Inner {
            mode: Mode::Waiting,
            flush: Flush::None,
            revoked: false,
            ring: None,
            wakeup: None,
            stopped: false,
        };
        let dev = dev.into();
        Arc::pin_init(
            pin_init!(Self {
                dev,
                handle,
                inner <- new_spinlock_irq!(inner, "blkfront::Queue::inner"),
                users <- new_spinlock_irq!(Users::default(), "blkfront::Queue::users"),
                chore <- new_spinlock_irq!(None, "blkfront::Chore"),
            }),
            GFP_KERNEL,
        )
    }

    /// The device's work.
    pub(crate) fn chore(&self) -> &Chore {
        &self.chore
    }

    /// Gets the device's work done soon. In any context.
    pub(crate) fn queue_chore(&self) {
        if let Some(work) = &*self.chore.lock() {
            work.queue();
        }
    }

    /// Puts a new ring in place, which is not used before [`Queue::go_live`].
    pub(crate) fn set_ring(&self, ring: KBox<Ring>) {
        let old = self.inner.lock().ring.replace(ring);
        drop(old);
    }

    /// Tells how to start the queue again. `queue` is that of the disk.
    pub(crate) fn set_wakeup(&self, queue: RequestQueue) -> Result {
        let queue = Arc::new(queue, GFP_KERNEL)?;
        let starter = queue.clone();
        let grants = GrantCallback::new(move || starter.start_stopped())?;
        let old = self.inner.lock().wakeup.replace(Wakeup { queue, grants });
        drop(old);
        Ok(())
    }

    /// Sends requests from now on.
    pub(crate) fn go_live(&self, flush: Flush) {
        let mut inner = self.inner.lock();
        inner.mode = Mode::Live;
        inner.flush = flush;
        inner.revoked = false;
        inner.start();
    }

    /// Whether the back end's offer of flushing was taken back since this was last asked.
    pub(crate) fn take_revoked(&self) -> bool {
        core::mem::take(&mut self.inner.lock().revoked)
    }

    /// Gives the ring up. Requests in flight fail if `mode` is `Gone`, else they are kept to be
    /// sent anew. Sleeps.
    ///
    /// Pages that the back end still maps are kept from being used again until it lets go.
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
        if let Some(ring) = ring {
            ring.disconnect(|rq| match mode {
                Mode::Gone => rq.complete(Err(EIO)),
                Mode::Waiting | Mode::Live => rq.requeue(),
            });
        }
        drop(wakeup);
    }

    /// After the device has gone: it has a new back end, and may be opened again.
    pub(crate) fn reopen(&self) {
        self.inner.lock().mode = Mode::Waiting;
        self.users.lock().shut = false;
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

    /// Whether anybody has the disk open.
    pub(crate) fn in_use(&self) -> bool {
        self.users.lock().count > 0
    }

    /// Lets nobody in any more. Says whether nobody is in; if somebody is, it takes effect only if
    /// `force` is set.
    pub(crate) fn shut(&self, force: bool) -> bool {
        let mut users = self.users.lock();
        let idle = users.count == 0;
        users.shut |= idle || force;
        idle
    }
}

impl Operations for Queue {
    fn queue_rq(&self, rq: Request<Self>, last: bool) -> core::result::Result<(), Refused<Self>> {
        let mut inner = self.inner.lock();
        let sent = inner.send(self.handle, rq);
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
                // First stop, then ask to be started: that may be at once.
                inner.stopped = true;
                rq.stop_queue();
                if grants > 0 {
                    if let Some(wakeup) = &inner.wakeup {
                        // A request that waits already keeps its number: one, since to be started
                        // too early only means to stop again.
                        wakeup.grants.request(1);
                    }
                }
                // Not `EBUSY`: the start may come before the block layer has put the request
                // back, and would miss it.
                Err((rq, ENOMEM))
            }
        }
    }

    fn commit_rqs(&self) {
        self.inner.lock().publish();
    }

    fn open(&self) -> Result {
        let mut users = self.users.lock();
        if users.shut {
            return Err(ENXIO);
        }
        users.count = users.count.wrapping_add(1);
        Ok(())
    }

    fn release(&self) {
        let idle = {
            let mut users = self.users.lock();
            users.count = users.count.wrapping_sub(1);
            users.count == 0
        };
        if idle {
            // A detach may wait for this.
            self.queue_chore();
        }
    }
}

impl Handler for Queue {
    fn handle(&self) -> Eoi {
        let mut inner = self.inner.lock();
        let eoi = match inner.receive() {
            Ok(0) => Eoi::Spurious,
            Ok(_) => Eoi::Useful,
            Err(None) => Eoi::Later,
            Err(Some(fault)) => {
                dev_err!(
                    self.dev.dev(),
                    "the back end broke the protocol: {fault}; the disk is stopped until it is attached again\n"
                );
                inner.give_up();
                Eoi::Later
            }
        };
        if inner.revoked || eoi == Eoi::Later {
            self.queue_chore();
        }
        eoi
    }
}

impl Inner {
    /// Writes a request into the ring, unseen until [`Inner::publish`].
    fn send(
        &mut self,
        handle: u16,
        rq: Request<Queue>,
    ) -> core::result::Result<(), (Request<Queue>, Unsent)> {
        match (self.mode, &mut self.ring) {
            (Mode::Waiting, _) => Err((rq, Unsent::Wait { grants: 0 })),
            (Mode::Live, Some(ring)) if !ring.is_broken() => {
                let operation = match (rq.op(), self.flush) {
                    (Op::Read, _) => op::READ,
                    (Op::Write { fua: true }, Flush::Barrier) => op::WRITE_BARRIER,
                    (Op::Write { .. }, _) => op::WRITE,
                    (Op::Flush, Flush::Cache) => op::FLUSH_DISKCACHE,
                    (Op::Flush, Flush::Barrier) => op::WRITE_BARRIER,
                    // Taken back by the back end when the request was on its way already.
                    (Op::Flush, Flush::None) => return Err((rq, Unsent::End(Ok(())))),
                    (Op::Other, _) => return Err((rq, Unsent::End(Err(EINVAL)))),
                };
                ring.send(handle, operation, rq)
            }
            _ => {
                // What the back end still had mapped when it was given up, it may have let go.
                self.fail_in_flight();
                Err((rq, Unsent::End(Err(EIO))))
            }
        }
    }

    /// Shows the back end what was written into the ring.
    fn publish(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.publish();
        }
    }

    /// Takes all answers there are, and says how many. An error ends the use of the ring; it is
    /// `None` if that is known already.
    fn receive(&mut self) -> core::result::Result<u32, Option<Fault>> {
        let mut count = 0u32;
        loop {
            let Some(ring) = &mut self.ring else {
                break;
            };
            if ring.is_broken() {
                return Err(None);
            }
            // At most as many as there were in flight, since nobody sends meanwhile.
            match ring.receive().map_err(Some)? {
                Some(answer) => self.finish(answer),
                None => break,
            }
            count = count.wrapping_add(1);
        }
        if count > 0 && self.stopped {
            self.start();
        }
        Ok(count)
    }

    /// Completes a request that was answered; its pages are ours alone again.
    fn finish(&mut self, answer: Answer) {
        let Answer {
            rq,
            operation,
            status,
        } = answer;
        let flushes = matches!(operation, op::WRITE_BARRIER | op::FLUSH_DISKCACHE);
        match status {
            status::OKAY => rq.complete(Ok(())),
            // It had offered this, but changes its mind. Then nothing need be flushed; but data
            // that went with it has not been written.
            status::EOPNOTSUPP if flushes => {
                self.revoked |= self.flush != Flush::None;
                self.flush = Flush::None;
                if rq.op() == Op::Flush {
                    rq.complete(Ok(()));
                } else {
                    rq.requeue();
                }
            }
            _ => rq.complete(Err(EIO)),
        }
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
