// SPDX-License-Identifier: GPL-2.0

//! The place for a tap at a disk, and what the tap has said that the disk is like.
//!
//! Lock order: that of the disk's connection, then that of the slot.

use super::{Tap, TapQueue};
use crate::{session::Events, Blkback};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::{new_mutex, sync::Mutex};
use xenbus::{module::ModuleRef, prelude::*, protocol::tap::ioctl::Geometry};

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

impl Placed {
    fn is(&self, tap: &dyn Tap) -> bool {
        core::ptr::addr_eq(&raw const *self.tap, core::ptr::from_ref(tap))
    }
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

    /// Takes `tap` out, if it is in, which has nothing on its way any more.
    pub fn clear(&self, tap: &dyn Tap) {
        let mut state = self.state.lock();
        let Some(tap) = state.tap.take_if(|placed| placed.is(tap)) else {
            return;
        };
        state.geometry = None;
        self.sectors.store(NO_SIZE, Ordering::Relaxed);
        self.changed(&state);
        drop(state);
        drop(tap);
    }

    /// Sets what the guest is to see, as `tap` says; connects, if there is no device behind the disk
    /// and the front end waits for one. Of a disk that is connected only the size changes. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the disk has been detached, or has another tap by now.
    pub fn set_geometry(&self, tap: &dyn Tap, geometry: &Geometry) -> Result {
        let mut state = self.state.lock();
        if !state.tap.as_ref().is_some_and(|placed| placed.is(tap)) {
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
