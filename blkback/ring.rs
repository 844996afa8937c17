// SPDX-License-Identifier: GPL-2.0

//! The rings of a disk, and the threads that serve them.

use crate::{
    bio,
    connect::Front,
    queue::Queue,
    session::{Events, Session},
    tap::Slot,
    vbd::{Number, Vbd},
};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{
    dev_warn,
    time::{delay::fsleep, Delta},
};
use xenbus::{kthread::Kthread, prelude::*, protocol::blkif::Limits};

/// The rings of a disk while they are served. Dropping it is the same as [`Rings::stop`]. Sleeps.
pub(crate) struct Rings {
    events: KVec<Arc<Events>>,
    dev: ARef<Device>,
    /// As in the service, which may be left to itself.
    served: Arc<AtomicBool>,
    /// The place for a tap.
    slot: Arc<Slot>,
    /// Until it is stopped.
    service: Option<KBox<Service>>,
}

/// The threads of a disk. Dropping it waits for their end.
pub(crate) struct Service {
    /// The device that the disk's requests go to, if there is one.
    pub(crate) number: Option<Number>,
    /// As in the virtual disk, which is not held: it is to go with the threads' work.
    served: Arc<AtomicBool>,
    _threads: KVec<Kthread>,
    /// Of those that were left to themselves.
    pub(crate) next: Option<KBox<Service>>,
}

impl Service {
    /// Whether all is done, so that dropping it does not wait.
    pub(crate) fn has_ended(&self) -> bool {
        !self.served.load(Ordering::Acquire)
    }
}

/// How long [`Rings::stop`] waits for the disk, in milliseconds.
const PATIENCE: u32 = 1000;

impl Rings {
    /// Maps the rings that the front end has described, binds their event channels, and starts to
    /// serve each by a thread called `name` and its number. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::new`]; `EBUSY` when the device still works on requests of rings that have
    /// been stopped, of this disk or another: they might reach it after the new ones.
    pub(crate) fn start(
        dev: &Device,
        vbd: &Arc<Vbd>,
        front: &Front,
        limits: Limits,
        name: &CStr,
    ) -> Result<Self> {
        if vbd.number.is_some_and(bio::is_busy) {
            return Err(EBUSY);
        }
        let served = vbd.serve()?;
        let count = front.queues.len();
        let session = Session::new(dev, served, limits, front.persistent, count)?;
        let mut events = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut queues = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut threads = KVec::with_capacity(count, GFP_KERNEL)?;
        for (i, (front_queue, queue_events)) in
            front.queues.iter().zip(session.events()).enumerate()
        {
            let name = CString::try_from_fmt(fmt!("{name}-{i}"))?;
            let queue = Queue::new(
                &session,
                i,
                front_queue,
                front.abi,
                CString::try_from(&*name)?,
            )?;
            queues.push((queue, name), GFP_KERNEL)?;
            events.push(queue_events.clone(), GFP_KERNEL)?;
        }
        vbd.slot.connected(session.events())?;
        drop(session);
        for (mut queue, name) in queues {
            let thread = Kthread::spawn(fmt!("{}", &*name), move |thread| queue.run(thread))
                .inspect_err(|_| vbd.slot.disconnected())?;
            // There is room.
            let _ = threads.push_within_capacity(thread);
        }
        let service = Service {
            number: vbd.number,
            served: vbd.served(),
            _threads: threads,
            next: None,
        };
        Ok(Rings {
            events,
            dev: dev.into(),
            served: vbd.served(),
            slot: vbd.slot.clone(),
            service: Some(KBox::new(service, GFP_KERNEL)?),
        })
    }

    /// Tells all threads that memory is short: no spare pages until `end`, in jiffies. In any
    /// context.
    pub(crate) fn squeeze(&self, end: u64) {
        for events in self.events.iter() {
            events.squeeze(end);
        }
    }

    /// Whether the service has been stopped, and has come to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.service.is_none() && !self.served.load(Ordering::Acquire)
    }

    /// Stops the service: what the disk has been given is waited for and answered, then the rings
    /// are unmapped and the event channels closed. Says whether that has come to its end.
    ///
    /// When the disk takes long, only the threads go on waiting: the caller holds up all devices
    /// of this domain meanwhile.
    pub(crate) fn stop(&mut self) -> bool {
        let Some(service) = self.service.take() else {
            return !self.served.load(Ordering::Acquire);
        };
        self.slot.disconnected();
        for events in self.events.iter() {
            events.stop();
        }
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

impl Drop for Rings {
    fn drop(&mut self) {
        self.stop();
    }
}
