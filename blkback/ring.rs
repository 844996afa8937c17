// SPDX-License-Identifier: GPL-2.0

//! A ring and the thread that serves it.
//!
//! The thread takes requests from the ring, has them checked, hands them to the [`Stage`], and
//! answers what comes back from there. It alone touches the ring, so there is no lock. Event
//! channel and disk only leave word and wake it.
//!
//! What a front end can do to it: an event costs one pass over the ring, and the next event comes
//! only after that pass (XSA-331, XSA-332); a request that is refused costs its sender a
//! millisecond, and the end of the service waits for none; a producer index that cannot be ends the
//! service for good. As many requests can be on their way as the ring has entries.

use crate::{
    bio,
    stage::Stage,
    vbd::{Number, Served, Vbd},
    waker::Waker,
};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{
    dev_err, dev_info, dev_warn,
    time::{delay::fsleep, Delta},
};
use xenbus::{
    evtchn::{Eoi, EventChannel, Handler},
    kthread::{Current, Kthread},
    prelude::*,
    protocol::{
        blkif::{op, status, Abi, Limits, Offered, Op, RawRequest, Request, Response},
        negotiate,
        ring::{AttachError, Back, Overrun},
    },
    ring::BackArea,
};

/// A ring that is being served. Dropping it is the same as [`Ring::stop`]. Sleeps.
pub(crate) struct Ring {
    events: Arc<Events>,
    dev: ARef<Device>,
    /// As in the service, which may be left to itself.
    served: Arc<AtomicBool>,
    /// Until it is stopped.
    service: Option<Service>,
}

/// A ring's thread. Dropping it waits for its end.
pub(crate) struct Service {
    /// The device that the disk's requests go to.
    pub(crate) number: Number,
    /// As in the virtual disk, which is not held: it is to go with the thread's work.
    served: Arc<AtomicBool>,
    _thread: Kthread,
}

impl Service {
    /// Whether all is done, so that dropping it does not wait.
    pub(crate) fn has_ended(&self) -> bool {
        !self.served.load(Ordering::Acquire)
    }
}

/// How long [`Ring::stop`] waits for the disk, in milliseconds.
const PATIENCE: u32 = 1000;

/// What has been said to the thread.
struct Events {
    /// By the event channel: there are requests.
    pending: AtomicBool,
    /// By the owner: no more requests are to be taken.
    stop: AtomicBool,
    waker: Arc<Waker>,
}

impl Handler for Events {
    fn handle(&self) -> Eoi {
        self.pending.swap(true, Ordering::SeqCst);
        self.waker.wake();
        Eoi::Later
    }
}

/// What the thread works with. The order of the fields is that of their end.
struct Server {
    stage: Stage,
    channel: EventChannel<Events>,
    ring: Back<BackArea, Abi>,
    events: Arc<Events>,
    limits: Limits,
    dev: ARef<Device>,
    /// Last: with it ends the service.
    vbd: Served,
    /// The front end has broken the ring's rules.
    broken: bool,
}

impl Ring {
    /// Maps the ring that the front end has described, binds its event channel, and starts to
    /// serve it by a thread called `name`. Sleeps.
    ///
    /// # Errors
    ///
    /// What Xen answers when the reference or the port are not what the front end says; `EINVAL`
    /// when the indices in the ring are garbage; `EBUSY` when the device still works on requests of
    /// a ring that has been stopped, of this disk or another: they might reach it after the new.
    pub(crate) fn start(
        dev: &Device,
        vbd: &Arc<Vbd>,
        front: &negotiate::Ring,
        name: &CStr,
    ) -> Result<Self> {
        let served = vbd.serve()?;
        if bio::is_busy(vbd.number) {
            return Err(EBUSY);
        }
        let area = BackArea::map(dev, &[front.ring_ref])?;
        let ring = Back::attach(area, front.abi).map_err(|e| {
            if let AttachError::Overrun(Overrun { claimed, possible }) = e {
                dev_err!(
                    dev.dev(),
                    "ring overrun: front end claims {claimed} requests where {possible} fit\n"
                );
            }
            EINVAL
        })?;
        let waker = Arc::new(Waker::new(), GFP_KERNEL)?;
        let events = Events {
            pending: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            waker: waker.clone(),
        };
        let events = Arc::new(events, GFP_KERNEL)?;
        let stage = Stage::new(vbd.clone(), dev.otherend_id(), waker)?;
        // Xen raises an event on a channel that has just been bound, so that what the front end
        // has sent already is looked at.
        let channel = EventChannel::bind_interdomain(
            dev,
            front.event_channel,
            c"blkif-backend",
            events.clone(),
        )?;
        let server = Server {
            stage,
            channel,
            ring,
            events: events.clone(),
            limits: vbd.limits(),
            dev: dev.into(),
            vbd: served,
            broken: false,
        };
        let service = Service {
            number: vbd.number,
            served: vbd.served(),
            _thread: Kthread::spawn(fmt!("{name}"), move |thread| server.run(thread))?,
        };
        Ok(Ring {
            events,
            dev: dev.into(),
            served: vbd.served(),
            service: Some(service),
        })
    }

    /// Stops the service: what the disk has been given is waited for and answered, then the ring is
    /// unmapped and the event channel closed. Says whether that has come to its end.
    ///
    /// When the disk takes long, only the thread goes on waiting: the caller holds up all devices
    /// of this domain meanwhile.
    pub(crate) fn stop(&mut self) -> bool {
        let Some(service) = self.service.take() else {
            return !self.served.load(Ordering::Acquire);
        };
        self.events.stop.swap(true, Ordering::SeqCst);
        self.events.waker.wake();
        for _ in 0..PATIENCE {
            if service.has_ended() {
                return true;
            }
            fsleep(Delta::from_millis(1));
        }
        dev_warn!(
            self.dev.dev(),
            "the disk is slow, its requests are left to themselves\n"
        );
        bio::leave(service);
        false
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    fn run(mut self, thread: &Current) {
        self.events.waker.set_current();
        while !thread.should_stop() && !self.told_to_stop() {
            thread.wait(|| {
                self.stage.any_done() || (!self.broken && self.event()) || self.told_to_stop()
            });
            self.finish();
            self.resize();
            if !self.broken && self.event() {
                self.broken = self.consume(thread).is_err();
            }
        }
        self.drain(thread);
    }

    /// Whether the front end has sent an event since the last pass.
    fn event(&self) -> bool {
        self.events.pending.load(Ordering::Acquire)
    }

    fn told_to_stop(&self) -> bool {
        self.events.stop.load(Ordering::Acquire)
    }

    /// Takes all requests that are in the ring, then gives the EOI of the event that told of them.
    fn consume(&mut self, thread: &Current) -> Result<(), Overrun> {
        // Before the look at the ring: an event that comes later means another pass.
        self.events.pending.swap(false, Ordering::SeqCst);
        let result = bio::plugged(|| {
            let mut spurious = true;
            loop {
                // A front end that is answered at once, as it is for bad requests, can keep this
                // going for as long as it likes; but not past the end of the service.
                while !thread.should_stop() && !self.told_to_stop() {
                    let Some(raw) = self.ring.pop()? else {
                        break;
                    };
                    spurious = false;
                    self.serve(&raw, thread);
                    thread.cond_resched();
                }
                self.notify();
                if thread.should_stop() || self.told_to_stop() {
                    return Ok(spurious);
                }
                if !self.ring.final_check()? {
                    return Ok(spurious);
                }
            }
        });
        match result {
            Ok(spurious) => {
                self.channel.eoi(spurious);
                Ok(())
            }
            // No EOI: this front end will not be heard again.
            Err(Overrun { claimed, possible }) => {
                dev_err!(
                    self.dev.dev(),
                    "ring overrun: front end claims {claimed} requests where {possible} fit; ring stopped\n"
                );
                Err(Overrun { claimed, possible })
            }
        }
    }

    /// From what the front end said to the stage.
    fn serve(&mut self, raw: &RawRequest, thread: &Current) {
        match Request::parse(raw, &self.limits) {
            Ok(request) if request.op == Op::WriteBarrier => {
                self.drain(thread);
                self.execute(request);
                self.drain(thread);
            }
            Ok(request) => self.execute(request),
            Err(refusal) => self.refuse(refusal.response()),
        }
    }

    fn execute(&mut self, request: Request) {
        if self.stage.execute(request).is_err() {
            self.refuse(request.response(status::ERROR));
        }
    }

    /// Answers a request that is not carried out, and makes its sender wait: nobody who is in
    /// order sends such.
    fn refuse(&mut self, response: Response) {
        self.respond(&response);
        self.notify();
        fsleep(Delta::from_millis(1));
    }

    /// Answers what the disk has done.
    fn finish(&mut self) {
        if !self.stage.any_done() {
            return;
        }
        let (stage, ring, dev) = (&mut self.stage, &mut self.ring, &self.dev);
        let offered = &mut self.limits.features;
        stage.finish(|request, status| {
            if status == status::EOPNOTSUPP {
                revoke(dev, offered, request.op);
            }
            // There is always a request that waits for this response: this one.
            let _ = ring.push(&request.response(status));
        });
        self.notify();
    }

    fn respond(&mut self, response: &Response) {
        // As above.
        let _ = self.ring.push(response);
    }

    fn notify(&mut self) {
        if self.ring.publish() {
            self.channel.notify();
        }
    }

    /// Waits until the disk has done all that it has been given, and answers it.
    fn drain(&mut self, thread: &Current) {
        while self.stage.in_flight() > 0 {
            thread.wait_for(|| self.stage.any_done());
            self.finish();
        }
    }

    /// Tells the front end when the disk has another size than before.
    fn resize(&mut self) {
        let sectors = self.vbd.disk.capacity();
        if sectors == self.limits.capacity_sectors {
            return;
        }
        self.limits.capacity_sectors = sectors;
        dev_info!(self.dev.dev(), "size is now {sectors} sectors\n");
        if let Err(e) = crate::connect::publish_size(&self.dev, sectors) {
            dev_warn!(self.dev.dev(), "cannot publish the size: {e:?}\n");
        }
    }
}

/// The disk has turned out not to know an operation that was offered. Said once: from then on it is
/// refused before it comes to the disk.
fn revoke(dev: &Device, offered: &mut Offered, op: Op) {
    let (offer, key, what) = match op.code() {
        op::WRITE_BARRIER => (&mut offered.barrier, c"feature-barrier", "barriers"),
        _ => (&mut offered.flush, c"feature-flush-cache", "flushes"),
    };
    if !core::mem::take(offer) {
        return;
    }
    dev_warn!(dev.dev(), "the disk does not know {what}\n");
    if let Err(e) = crate::connect::take_back(dev, key) {
        dev_warn!(dev.dev(), "cannot take the offer back: {e:?}\n");
    }
}
