// SPDX-License-Identifier: GPL-2.0

//! Where a tap comes between the queues and the disk; what it is made of is another module's.
//!
//! Each disk that is bound to this driver has a [`Slot`], whether or not there is a device behind it
//! yet. A [`Tap`] in it has a [`TapQueue`] for each queue, which the queue's thread calls: what the
//! guest asks for goes there instead of to the [`Stage`], as long as the tap wants it so. A tap
//! answers the guest, and asks the disk, by the [`Desk`] that the thread lends it.
//!
//! Without a tap, this costs a queue's thread a look at a word in each pass.
//!
//! Lock order: that of the disk's connection, then that of the slot.

use crate::{
    bio::slots,
    session::{Events, Session},
    stage::Stage,
    vbd,
    waker::Waker,
    Blkback,
};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::{new_mutex, sync::Mutex};
use xenbus::{
    module::ModuleRef,
    prelude::*,
    protocol::{
        blkif::{status, Abi, Limits, Request, Segment},
        ring::Back,
        tap::ioctl::Geometry,
    },
    region::Region,
    ring::BackArea,
};

/// Requests of its own that a tap may have on their way at a time, for each queue.
pub const OWN_REQUESTS: usize = 512;

/// Who wants to know that there are other disks than before.
pub trait Observer: Send + Sync {
    /// A disk has come or gone. Called with a lock held: it must not look for one itself.
    fn changed(&self);
}

/// Sets who is told of disks that come and go; `None`: nobody, from the return on.
pub fn observe(observer: Option<Arc<dyn Observer>>) {
    slots::observe(observer);
}

/// The disk of the guest `domid` with the number `handle`, if there is such a one.
pub fn find(domid: u32, handle: u32) -> Option<Arc<Slot>> {
    slots::find(domid, handle)
}

/// A tap, as a disk sees it.
pub trait Tap: Send + Sync {
    /// The tap's side of queue `index`.
    fn queue(&self, index: usize) -> Option<Arc<dyn TapQueue>>;

    /// The front end has connected so many queues; 0: it has gone.
    fn connected(&self, queues: usize);

    /// The disk has another geometry.
    fn resized(&self);

    /// The disk has been detached. The slot has let go of the tap.
    fn gone(&self);
}

/// A tap's side of a queue. But for [`Self::attention`] all is called by the queue's thread.
pub trait TapQueue: Send + Sync {
    /// The thread begins. It is to be woken by `bell`; requests have numbers below `places`, and as
    /// many can be there.
    fn open(&self, bell: Bell, places: usize) -> Result;

    /// Whether [`Self::pass`] is to be called. Must not sleep.
    fn attention(&self) -> bool;

    /// Does what there is to do; says how things are after that.
    fn pass(&self, desk: &mut Desk<'_>) -> Load;

    /// The thread ends: nothing of the tap's is on its way to the disk any more. The guest's
    /// requests that it still has are to be answered.
    fn close(&self, desk: &mut Desk<'_>);
}

/// How things are with a tap's side of a queue.
#[derive(Clone, Copy, Default)]
pub struct Load {
    /// The guest's requests go to the tap.
    pub divert: bool,
    /// The guest's requests that wait to be sent.
    pub waiting: usize,
    /// The guest's requests that are with the program.
    pub sent: usize,
    /// There is a program.
    pub alive: bool,
}

/// Wakes the thread of a queue.
pub struct Bell(Arc<Waker>);

impl Bell {
    pub(crate) fn new(waker: &Arc<Waker>) -> Self {
        Bell(waker.clone())
    }

    /// Wakes the thread, so that it looks at [`TapQueue::attention`], which has been made true with
    /// a full barrier after it. In any context.
    pub fn ring(&self) {
        self.0.wake();
    }
}

/// What a tap gets back with the end of a request of its own: its own numbers.
#[derive(Clone, Copy)]
pub struct Token {
    /// Of the program.
    pub id: u32,
    /// Of the tap.
    pub tag: u32,
    /// Of the tap.
    pub generation: u32,
    /// Of the tap.
    pub op: u8,
}

/// What a queue's thread lends to its tap for a pass.
pub struct Desk<'a> {
    pub(crate) stage: &'a mut Stage,
    pub(crate) ring: &'a mut Back<BackArea, Abi>,
    pub(crate) session: &'a Session,
    /// Requests of the guest's that have come, in their order, and how many have been taken.
    pub(crate) arrived: &'a mut KVec<u16>,
    pub(crate) taken: usize,
    /// Responses have been written.
    pub(crate) answered: bool,
    /// Requests that could not be served for the guest's own fault.
    pub(crate) bad: usize,
    pub(crate) paused: bool,
    pub(crate) ending: bool,
}

impl Desk<'_> {
    /// The next request of the guest's that has come.
    pub fn arrived(&mut self) -> Option<u16> {
        let number = *self.arrived.get(self.taken)?;
        self.taken = self.taken.wrapping_add(1);
        Some(number)
    }

    /// The next of the tap's own requests that is done, and its status.
    pub fn done(&mut self) -> Option<(Token, i16)> {
        self.stage.tap_done()
    }

    /// A request of the guest's that has not been answered, and is not [lent](Self::lend).
    pub fn request(&mut self, number: u16) -> Option<(&Request, &[Segment])> {
        let transfer = self.stage.get(number)?;
        Some((&transfer.request, &transfer.segments))
    }

    /// Answers a request of the guest's. Its number is free then.
    pub fn answer(&mut self, number: u16, status: i16) {
        let Some(transfer) = self.stage.get(number) else {
            return;
        };
        let request = transfer.request;
        if status == status::EOPNOTSUPP {
            self.session.revoke(request.op);
        }
        // There is a request that waits for a response: this one.
        let _ = self.ring.push(&request.response(status));
        self.stage.forget(number);
        self.answered = true;
    }

    /// Answers a request of the guest's that has failed for what the guest did; it has to wait for
    /// the next one.
    pub fn refuse(&mut self, number: u16) {
        self.answer(number, status::ERROR);
        self.bad = self.bad.wrapping_add(1);
    }

    /// Gives a request of the guest's to the disk, as if there were no tap.
    pub fn to_disk(&mut self, number: u16) {
        self.stage.send_later(number);
    }

    /// Carries out what a request of the guest's asks for, with the guest's pages, but at `sector`;
    /// [`Self::done`] gives `token` back, and the guest's request is still to be answered.
    pub fn lend(&mut self, number: u16, sector: u64, token: Token) -> Result {
        self.stage.lend(number, sector, token)
    }

    /// Carries out a request of the tap's, with data from the byte `at` of `region` on;
    /// [`Self::done`] gives `token` back.
    ///
    /// # Errors
    ///
    /// `EBUSY` when [`OWN_REQUESTS`] are on their way, `EINVAL` when that leaves the region,
    /// `ENOMEM`.
    pub fn submit(
        &mut self,
        request: Request,
        region: &Arc<Region>,
        at: usize,
        token: Token,
    ) -> Result {
        self.stage.take_own(request, region, at, token)
    }

    /// Whether none of the guest's requests is on its way to the disk by itself.
    pub fn is_idle(&self) -> bool {
        self.stage.own() == 0
    }

    /// What the disk allows a tap, whatever the guest is told.
    pub fn disk_limits(&self) -> Limits {
        vbd::limits(&self.session.vbd().disk_geometry())
    }

    /// Whether requests of the guest's are to wait, since a barrier of another queue is on its way.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the queue ends: nothing new is to be begun.
    pub fn is_ending(&self) -> bool {
        self.ending
    }
}

/// What stands for "that of the device".
const NO_SIZE: u64 = u64::MAX;

/// The place for a tap at a disk.
#[pin_data]
pub struct Slot {
    domid: u16,
    handle: u32,
    queues: u32,
    /// Changes whenever the queues' threads should look here.
    version: AtomicU32,
    /// The size that a tap has set.
    sectors: AtomicU64,
    #[pin]
    state: Mutex<State>,
    /// Whose it is, until that goes.
    #[pin]
    owner: Mutex<Option<Arc<Blkback>>>,
}

#[derive(Default)]
struct State {
    tap: Option<Placed>,
    /// What a tap has set.
    geometry: Option<Geometry>,
    /// Those of the connected queues.
    events: KVec<Arc<Events>>,
    gone: bool,
}

/// A tap, and the module that it is of, which must be there for longer.
struct Placed {
    tap: Arc<dyn Tap>,
    module: ModuleRef,
}

/// A tap's side of a queue, in the queue.
pub(crate) struct Tapped {
    pub(crate) queue: Arc<dyn TapQueue>,
    _module: ModuleRef,
}

impl Slot {
    /// A slot of a disk that offers so many queues.
    pub(crate) fn new(domid: u16, handle: u32, queues: u32) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Slot {
                domid,
                handle,
                queues,
                version: AtomicU32::new(1),
                sectors: AtomicU64::new(NO_SIZE),
                state <- new_mutex!(State::default()),
                owner <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )
    }

    /// The guest.
    pub fn domid(&self) -> u16 {
        self.domid
    }

    /// The number of the virtual device.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// The most queues that a front end can connect.
    pub fn queues(&self) -> u32 {
        self.queues
    }

    /// Whether the disk has been detached.
    pub fn is_gone(&self) -> bool {
        self.state.lock().gone
    }

    /// Puts a tap of `module` in. The queues' threads find it when they are woken, as they are.
    ///
    /// # Errors
    ///
    /// `EBUSY` when there is one, `ENODEV` when the disk has been detached, or `module` goes.
    pub fn set(&self, tap: Arc<dyn Tap>, module: &'static ThisModule) -> Result {
        let module = ModuleRef::new(module)?;
        let mut state = self.state.lock();
        if state.gone {
            return Err(ENODEV);
        }
        if state.tap.is_some() {
            return Err(EBUSY);
        }
        tap.connected(state.events.len());
        state.tap = Some(Placed { tap, module });
        self.changed(&state);
        Ok(())
    }

    /// Takes the tap out, which has nothing on its way any more.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        let tap = state.tap.take();
        state.geometry = None;
        self.sectors.store(NO_SIZE, Ordering::Relaxed);
        self.changed(&state);
        drop(state);
        drop(tap);
    }

    /// Sets what the guest is to see; connects, if there is no device behind the disk and the front
    /// end waits for one. Of a disk that is connected only the size changes. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the disk has been detached.
    pub fn set_geometry(&self, geometry: &Geometry) -> Result {
        let mut state = self.state.lock();
        if state.gone || state.tap.is_none() {
            return Err(ENODEV);
        }
        state.geometry = Some(*geometry);
        self.sectors.store(geometry.sectors, Ordering::Relaxed);
        self.changed(&state);
        drop(state);
        let owner = self.owner.lock().clone();
        owner.ok_or(ENODEV)?.geometry_changed();
        Ok(())
    }

    /// What the guest sees, or is going to; all 0 when that is not known yet.
    pub fn geometry(&self) -> Geometry {
        let owner = self.owner.lock().clone();
        owner
            .and_then(|owner| owner.geometry())
            .or(self.own_geometry())
            .unwrap_or_default()
    }

    /// What a tap has set.
    pub(crate) fn own_geometry(&self) -> Option<Geometry> {
        self.state.lock().geometry
    }

    /// The size that a tap has set, if one has.
    #[inline]
    pub(crate) fn sectors(&self) -> Option<u64> {
        match self.sectors.load(Ordering::Relaxed) {
            NO_SIZE => None,
            sectors => Some(sectors),
        }
    }

    /// Changes with what [`Self::tapped`] gives, and with the size. Never 0.
    #[inline]
    pub(crate) fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    fn changed(&self, state: &State) {
        if self.version.fetch_add(1, Ordering::SeqCst) == u32::MAX {
            self.version.fetch_add(1, Ordering::SeqCst);
        }
        for events in state.events.iter() {
            events.waker.wake();
        }
    }

    /// The tap's side of queue `index`.
    pub(crate) fn tapped(&self, index: usize) -> Option<Tapped> {
        let state = self.state.lock();
        let placed = state.tap.as_ref()?;
        Some(Tapped {
            queue: placed.tap.queue(index)?,
            _module: placed.module.clone(),
        })
    }

    /// Sets whose it is.
    pub(crate) fn own(&self, owner: &Arc<Blkback>) {
        *self.owner.lock() = Some(owner.clone());
    }

    /// Notes the queues that the front end has connected.
    pub(crate) fn connected(&self, events: &[Arc<Events>]) -> Result {
        let mut all = KVec::with_capacity(events.len(), GFP_KERNEL)?;
        for events in events {
            all.push(events.clone(), GFP_KERNEL)?;
        }
        self.set_events(all);
        Ok(())
    }

    /// Notes that the front end has gone.
    pub(crate) fn disconnected(&self) {
        self.set_events(KVec::new());
    }

    fn set_events(&self, events: KVec<Arc<Events>>) {
        let mut state = self.state.lock();
        let queues = events.len();
        let old = core::mem::replace(&mut state.events, events);
        if let Some(placed) = &state.tap {
            placed.tap.connected(queues);
        }
        drop(state);
        drop(old);
    }

    /// Tells the tap that the disk has another size.
    pub(crate) fn resized(&self) {
        if let Some(placed) = &self.state.lock().tap {
            placed.tap.resized();
        }
    }

    /// The disk goes, and the tap with it.
    pub(crate) fn close(&self) {
        let owner = self.owner.lock().take();
        drop(owner);
        let mut state = self.state.lock();
        state.gone = true;
        let tap = state.tap.take();
        self.changed(&state);
        drop(state);
        if let Some(placed) = tap {
            placed.tap.gone();
        }
    }
}
