// SPDX-License-Identifier: GPL-2.0

//! A tap on a disk: programs that come and go, and the modes.
//!
//! A tap is there from the first program's `ATTACH` until it is removed or the disk is detached.
//! While no program has it, the policy says what becomes of the guest's requests.

use crate::{
    chardev,
    program::{Program, RING_PAGES, WINDOW},
    queue::Queue,
    shared::{Control, Holder, Phase, Shared},
    taps,
};
use blkback::tap::{self, Slot, TapQueue};
use kernel::{
    page::PAGE_SIZE,
    sync::lock::{mutex::MutexBackend, Guard},
};
use xenbus::{
    prelude::*,
    protocol::{
        ring::{index, Memory},
        tap::{
            ioctl::{self, Geometry, Info, QueueInfo},
            Mode, Policy,
        },
    },
    region::{Region, RegionRing},
};

/// The most queues: a bit for each in a kick.
const MAX_QUEUES: u32 = 64;

/// Bytes of the window for the guest's data, unless the program says so: the least, as much as one
/// request can have, and the most.
const GUEST_BYTES: u32 = 4 << 20;
const MIN_GUEST_BYTES: u32 = 1 << 20;
const MAX_BYTES: u32 = 256 << 20;

/// A tap.
pub(crate) struct Tap {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
    queues: KVec<Arc<Queue>>,
}

/// What a program has of a tap, until it is dropped.
pub(crate) struct Attachment {
    pub(crate) tap: Arc<Tap>,
    generation: u32,
    /// It has [`ioctl::POLLS`].
    polls: bool,
    /// One for each queue, all of one size.
    pub(crate) regions: KVec<Arc<Region>>,
    /// The headers of the rings of each queue.
    hints: KVec<(RegionRing, RegionRing)>,
}

impl Attachment {
    /// Has the queues served of which a bit is set. Sleeps.
    pub(crate) fn kick(&self, mask: u64) {
        let shared = self.tap.shared();
        if self.polls {
            return shared.serve(&self.tap.queues, mask);
        }
        for index in (0..self.tap.queues.len()).filter(|index| mask >> index & 1 != 0) {
            shared.kick(index);
        }
    }

    /// Has the queues served whose events the program has been told of. Sleeps.
    pub(crate) fn poll(&self) {
        if self.polls {
            self.tap.shared().serve_called(&self.tap.queues);
        }
    }

    /// Whether there may be something in the rings of a queue that the program has not seen.
    pub(crate) fn has_work(&self) -> bool {
        self.hints.iter().any(|(front, back)| {
            is_due(front, index::REQ_PROD, index::REQ_EVENT)
                || is_due(back, index::RSP_PROD, index::RSP_EVENT)
        })
    }
}

/// Whether the index at `prod` has come to what the program waits for, which is at `event`.
fn is_due(ring: &RegionRing, prod: usize, event: usize) -> bool {
    let ahead = ring.load(prod).wrapping_sub(ring.load(event));
    (ahead as i32) >= 0
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.tap.shared.lost(self.generation, false);
        for queue in &self.tap.queues {
            queue.forget(self.generation);
        }
        if let Ok(bell) = taps::bell() {
            bell.ring();
        }
    }
}

/// What a program asks for when it attaches, checked.
pub(crate) struct Wish {
    mode: Mode,
    policy: Policy,
    /// Pages for the guest's data, and for the program's own, of each queue.
    guest: usize,
    own: usize,
    no_data: bool,
    polls: bool,
}

impl Wish {
    /// # Errors
    ///
    /// `EINVAL` for a bad mode, policy or size.
    pub(crate) fn read(it: &ioctl::Attach) -> Result<Self> {
        let round = |bytes: u32| (bytes as usize).div_ceil(PAGE_SIZE);
        let guest = match it.guest_bytes {
            0 => GUEST_BYTES,
            bytes => bytes.max(MIN_GUEST_BYTES),
        };
        if guest > MAX_BYTES || it.own_bytes > MAX_BYTES {
            return Err(EINVAL);
        }
        Ok(Wish {
            mode: Mode::from_number(it.mode).ok_or(EINVAL)?,
            policy: Policy::from_number(it.policy).ok_or(EINVAL)?,
            guest: round(guest),
            own: round(it.own_bytes),
            no_data: it.flags & ioctl::NO_DATA != 0,
            polls: it.flags & ioctl::POLLS != 0,
        })
    }
}

impl Tap {
    /// Puts a tap at a disk.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` when a front end could connect more queues than a tap can have, `EBUSY` when
    /// there is another tap by now, `ENODEV` when the disk has been detached.
    pub(crate) fn new(slot: &Arc<Slot>) -> Result<Arc<Self>> {
        if slot.queues() > MAX_QUEUES {
            return Err(EOVERFLOW);
        }
        let count = slot.queues() as usize;
        let shared = Shared::new(count)?;
        let mut queues = KVec::with_capacity(count, GFP_KERNEL)?;
        for index in 0..count {
            queues.push(Queue::new(index, &shared)?, GFP_KERNEL)?;
        }
        let tap = Arc::new(
            Tap {
                slot: slot.clone(),
                shared,
                queues,
            },
            GFP_KERNEL,
        )?;
        slot.set(tap.clone(), chardev::this_module())?;
        Ok(tap)
    }

    /// The guest and the number of the device.
    pub(crate) fn numbers(&self) -> (u32, u32) {
        (self.slot.domid().into(), self.slot.handle())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Attaches the calling program; fills in what it is told. Sleeps until the mode is what it
    /// wants.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another program has it, `ENODEV` when the disk has been detached, `EINTR`,
    /// `ENOMEM`.
    pub(crate) fn attach(
        self: &Arc<Self>,
        wish: &Wish,
        it: &mut ioctl::Attach,
    ) -> Result<Attachment> {
        let &Wish {
            mode,
            policy,
            guest,
            own,
            no_data,
            polls,
        } = wish;
        let pages = WINDOW.wrapping_add(guest).wrapping_add(own);
        let mut regions = KVec::with_capacity(self.queues.len(), GFP_KERNEL)?;
        for _ in 0..self.queues.len() {
            regions.push(Arc::new(Region::new(pages)?, GFP_KERNEL)?, GFP_KERNEL)?;
        }

        let mut control = self.shared.control.lock();
        if control.gone {
            return Err(ENODEV);
        }
        if control.holder.is_some() {
            return Err(EBUSY);
        }
        control.generations = match control.generations.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        let generation = control.generations;
        control.holder = Some(Holder {
            generation,
            pid: chardev::pid(),
        });
        control.broken = false;
        drop(control);
        // From here on its end is the end of what is done below.
        let mut attachment = Attachment {
            tap: self.clone(),
            generation,
            polls,
            regions,
            hints: KVec::new(),
        };
        for (queue, region) in self.queues.iter().zip(&attachment.regions) {
            let program = Program::new(generation, region, guest, no_data, self.slot.domid())?;
            queue.set_next(program);
            let header = |first| RegionRing::new(region, first, 1);
            let hint = (header(0)?, header(RING_PAGES)?);
            attachment.hints.push(hint, GFP_KERNEL)?;
        }
        let control = self.my_turn()?;
        // The queues look at the program, then at the phase. Nothing is sent before the mode is the
        // wanted one: a program that waits here could not answer, and the change waits for answers.
        let phase = self.shared.phase();
        let switching = phase.mode != mode;
        self.shared.set_phase(Phase { switching, ..phase });
        self.shared.set_polls(polls);
        self.shared.set_program(generation);
        self.shared.set_policy(policy);
        if switching {
            self.change(control, mode, |phase| phase.switching = true)?;
        } else {
            drop(control);
            self.shared.kick_all();
        }
        self.shared.tell();

        it.guest_bytes = guest.wrapping_mul(PAGE_SIZE) as u32;
        it.own_bytes = own.wrapping_mul(PAGE_SIZE) as u32;
        it.nr_queues = self.queues.len() as u32;
        it.region_bytes = pages.wrapping_mul(PAGE_SIZE) as u64;
        Ok(attachment)
    }

    /// Changes the mode; returns when nothing goes the old way any more.
    ///
    /// # Errors
    ///
    /// `EINTR` when a signal comes before that, `ENODEV` when the disk is detached meanwhile; the
    /// mode is as it was.
    pub(crate) fn switch(&self, mode: Mode) -> Result {
        let shared = &*self.shared;
        let control = self.my_turn()?;
        if shared.phase().mode == mode {
            return Ok(());
        }
        let result = self.change(control, mode, |phase| phase.switching = true);
        shared.tell();
        result
    }

    /// Changes the phase by `during`, until all queues have reported; then sets the mode, if they
    /// have.
    fn change(
        &self,
        mut control: Guard<'_, Control, MutexBackend>,
        mode: Mode,
        during: impl FnOnce(&mut Phase),
    ) -> Result {
        let shared = &*self.shared;
        control.switching = true;
        control.settled = 0;
        let mut phase = shared.phase();
        phase.change = phase.change.wrapping_add(1);
        during(&mut phase);
        shared.set_phase(phase);
        drop(control);
        shared.kick_all();

        let mut control = shared.control.lock();
        let result = loop {
            if control.gone {
                break Err(ENODEV);
            }
            if control.is_settled() {
                break Ok(());
            }
            if shared.changed.wait_interruptible(&mut control) {
                break Err(EINTR);
            }
        };
        // It may be another one than before: a policy may have set it.
        let now = shared.phase();
        shared.set_phase(Phase {
            mode: if result.is_ok() { mode } else { now.mode },
            switching: false,
            removing: false,
            change: now.change,
        });
        // From here on nobody attaches: it would be to something that goes.
        control.gone |= now.removing && result.is_ok();
        // The policy counts if the program has gone meanwhile.
        shared.apply_policy();
        control.switching = false;
        drop(control);
        shared.changed.notify_all();
        shared.kick_all();
        result
    }

    /// Changes the policy.
    pub(crate) fn set_policy(&self, policy: Policy) {
        let control = self.shared.control.lock();
        self.shared.set_policy(policy);
        self.shared.apply_policy();
        drop(control);
        self.shared.tell();
        self.shared.kick_all();
    }

    /// Takes the tap away: gives what it has to the disk, then it is gone.
    ///
    /// # Errors
    ///
    /// `EINTR`: the mode is passthrough then, and no program is served.
    pub(crate) fn remove(&self) -> Result {
        let control = self.shared.control.lock();
        if control.gone {
            return Err(ENODEV);
        }
        // A change under way may wait for a program that does not answer, and this one for that.
        self.dismiss(&control);
        drop(control);
        self.shared.kick_all();
        let control = self.my_turn()?;
        self.dismiss(&control);
        self.change(control, Mode::Passthrough, |phase| {
            phase.mode = Mode::Passthrough;
            phase.removing = true;
        })?;
        // The place is free before anybody is told so.
        self.slot.clear(self);
        self.end();
        Ok(())
    }

    /// Serves no program any more, as if it had gone, and takes its requests to the disk.
    fn dismiss(&self, control: &Control) {
        self.shared.set_policy(Policy::Passthrough);
        self.shared.part(control);
        self.shared.apply_policy();
    }

    /// Waits until nobody else changes something.
    fn my_turn(&self) -> Result<Guard<'_, Control, MutexBackend>> {
        let shared = &*self.shared;
        let mut control = shared.control.lock();
        while control.switching {
            if shared.changed.wait_interruptible(&mut control) {
                return Err(EINTR);
            }
        }
        if control.gone {
            return Err(ENODEV);
        }
        Ok(control)
    }

    fn end(&self) {
        let mut control = self.shared.control.lock();
        control.gone = true;
        self.shared.set_program(0);
        drop(control);
        self.shared.changed.notify_all();
        self.shared.tell();
        taps::remove(self);
    }

    /// Sets what the guest is to see.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the tap has gone.
    pub(crate) fn set_geometry(&self, geometry: &Geometry) -> Result {
        self.slot.set_geometry(self, geometry)?;
        self.shared.tell();
        Ok(())
    }

    /// What there is to know about it.
    pub(crate) fn info(&self) -> Info {
        let geometry = self.slot.geometry();
        let (domid, handle) = self.numbers();
        let control = self.shared.control.lock();
        Info {
            domid,
            handle,
            flags: 0,
            state: Shared::state(&control) as u32,
            mode: self.shared.phase().mode as u32,
            policy: self.shared.policy() as u32,
            pid: control.holder.map_or(0, |holder| holder.pid),
            nr_queues: self.queues.len() as u32,
            nr_connected: control.connected,
            generation: control.generations,
            geometry,
        }
    }

    /// What there is to know about queue `index`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is none.
    pub(crate) fn queue_info(&self, index: u32) -> Result<QueueInfo> {
        let (domid, handle) = self.numbers();
        let queue = self.queues.get(index as usize).ok_or(EINVAL)?;
        Ok(QueueInfo {
            domid,
            handle,
            ..queue.info()
        })
    }
}

impl tap::Tap for Tap {
    fn queue(&self, index: usize) -> Option<Arc<dyn TapQueue>> {
        let queue: Arc<dyn TapQueue> = self.queues.get(index)?.clone();
        Some(queue)
    }

    fn connected(&self, queues: usize) {
        self.shared.control.lock().connected = queues as u32;
        // A change may have waited for a queue whose thread never came to look here.
        self.shared.changed.notify_all();
        self.shared.tell();
    }

    fn resized(&self) {
        self.shared.tell();
    }

    fn gone(&self) {
        self.end();
    }
}
