// SPDX-License-Identifier: GPL-2.0

//! The glue to the block layer, to sysfs and to the module's parameters: the one part of this
//! driver with `unsafe`.
//!
//! - this file: [`Flights`], requests made into bios, sent, and got back when they are done.
//! - `bio/disk.rs`: [`Disk`], a block device, held open.
//! - `bio/left.rs`: [`Left`], rings whose disk does not answer, after their device has gone.
//! - `bio/slots.rs`: the list of the disks, for taps.
//! - `bio/sysfs.rs`: [`Attributes`], the files of a device in sysfs.
//! - `bio/params.rs`: [`params`], the module's parameters.
//!
//! A request becomes one bio: even the largest of the protocol (256 segments, indirect) fits in
//! one, and the block layer splits it as the disk needs; only a discard may be larger, and becomes
//! one bio after the other. There is a [`Flight`] for each entry of the ring, allocated when the
//! ring is made. It holds the bio and what the request needs, its mapped pages above all, so that
//! nothing is freed while the disk works on it; when the bio is done it is put on a list, which
//! needs no lock, and the ring's thread takes it from there: unmapping sleeps, and completions come
//! in interrupt context.
//!
//! C headers: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h),
//! [`include/linux/bio.h`](srctree/include/linux/bio.h)

mod disk;
mod left;
pub(crate) mod params;
pub(crate) mod slots;
mod sysfs;

pub(crate) use self::{
    disk::Disk,
    left::{is_busy, leave, Left},
    sysfs::Attributes,
};

use crate::{session::Events, stage::Transfer};
use core::{
    mem::MaybeUninit,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_uint, c_void},
    time::{delay::fsleep, Delta},
    types::{NotThreadSafe, Opaque},
};
use xenbus::{
    prelude::*,
    protocol::blkif::{Op, SECTOR_SIZE},
};

extern "C" {
    fn blkback_helper_noio();
    fn blkback_helper_preempt_disable();
    fn blkback_helper_preempt_enable();
}

/// A request, its bio, and its place in the list of those that are done.
struct Flight {
    bio: Opaque<bindings::bio>,
    /// What the bio is made of; at least as many as the transfer has segments.
    vecs: KVec<bindings::bio_vec>,
    /// The next one that is done.
    next: *mut Flight,
    index: u16,
    /// Of a discard: how many sectors are done, and are on their way.
    discarded: u64,
    discarding: u64,
    done: Arc<Done>,
    transfer: Transfer,
}

/// The flights that are done and not yet reaped: a stack, linked by `next`.
pub(crate) struct Done {
    head: AtomicPtr<Flight>,
    events: Arc<Events>,
}

impl Done {
    /// Whether there is one. In any context.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.head.load(Ordering::Acquire).is_null()
    }
}

/// Where a flight is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// On the ground.
    Ours,
    /// From `submit` until it is reaped: nobody but [`end_io`] touches it.
    Away,
}

/// # Invariants
///
/// `flight` is from a [`KBox`], and ours alone unless it is `Away`.
struct Slot {
    flight: NonNull<Flight>,
    state: State,
}

/// The requests of a ring. Belongs to one thread.
///
/// Dropping it waits for those that are still on their way.
pub(crate) struct Flights {
    slots: KVec<Slot>,
    free: KVec<u16>,
    /// The device, if there is one, stays open as long as a bio is on its way.
    disk: Option<Arc<Disk>>,
    done: Arc<Done>,
    /// Submitted and not yet reaped.
    away: u32,
}

// SAFETY: The flights are ours, or on their way and nobody's until they come back.
unsafe impl Send for Flights {}

impl Flights {
    /// Room for `count` requests to `disk`, 1 to 65536; `events` is told when some are done.
    pub(crate) fn new(count: usize, disk: Option<Arc<Disk>>, events: Arc<Events>) -> Result<Self> {
        let head = AtomicPtr::new(ptr::null_mut());
        let done = Arc::new(Done { head, events }, GFP_KERNEL)?;
        let mut flights = Flights {
            slots: KVec::new(),
            free: KVec::new(),
            disk,
            done,
            away: 0,
        };
        flights.grow(count)?;
        Ok(flights)
    }

    /// Makes room for `count` more requests, for at most 65536 in all.
    pub(crate) fn grow(&mut self, count: usize) -> Result {
        let flights = self;
        flights.slots.reserve(count, GFP_KERNEL)?;
        let places = flights.slots.len().wrapping_add(count);
        flights
            .free
            .reserve(places.wrapping_sub(flights.free.len()), GFP_KERNEL)?;
        for index in flights.slots.len()..places {
            let flight = Flight {
                bio: Opaque::uninit(),
                vecs: KVec::new(),
                next: ptr::null_mut(),
                index: index as u16,
                discarded: 0,
                discarding: 0,
                done: flights.done.clone(),
                transfer: Transfer::new()?,
            };
            let flight = KBox::into_raw(KBox::new(flight, GFP_KERNEL)?);
            // INVARIANT: Just made.
            let slot = Slot {
                // SAFETY: A box is not NULL.
                flight: unsafe { NonNull::new_unchecked(flight) },
                state: State::Ours,
            };
            // There is room for both.
            let _ = flights.slots.push_within_capacity(slot);
            let _ = flights.free.push_within_capacity(index as u16);
        }
        Ok(())
    }

    /// How many requests there is room for.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    /// Takes a place for a request. There is one for each entry of the ring.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Gives the place of a request back that has been answered.
    #[inline]
    pub(crate) fn put(&mut self, index: u16) {
        let _ = self.free.push_within_capacity(index);
    }

    /// The request at a place, `None` while it is on its way.
    #[inline]
    pub(crate) fn get(&mut self, index: u16) -> Option<&mut Transfer> {
        Some(&mut self.flight(index)?.transfer)
    }

    #[inline]
    fn flight(&mut self, index: u16) -> Option<&mut Flight> {
        let slot = self.slots.get_mut(usize::from(index))?;
        match slot.state {
            // SAFETY: By the invariant it is ours alone.
            State::Ours => Some(unsafe { slot.flight.as_mut() }),
            State::Away => None,
        }
    }

    /// Requests submitted and not yet reaped.
    #[inline]
    pub(crate) fn away(&self) -> u32 {
        self.away
    }

    /// What is to be reaped.
    #[inline]
    pub(crate) fn done(&self) -> &Arc<Done> {
        &self.done
    }

    /// Sends the request at a place to the disk. Sleeps when memory is short.
    ///
    /// # Errors
    ///
    /// `ENXIO` when there is no disk, `EIO` when not all of its segments are mapped, `ENOMEM`;
    /// nothing has been sent then.
    pub(crate) fn submit(&mut self, index: u16) -> Result {
        let bdev = self.disk.as_ref().ok_or(ENXIO)?.bdev();
        let flight = self.flight(index).ok_or(EINVAL)?;
        flight.discarded = 0;
        flight.fill(bdev)?;
        self.away = self.away.wrapping_add(1);
        self.send(index);
        Ok(())
    }

    fn send(&mut self, index: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.state = State::Away;
            // SAFETY: The bio has been filled; from here on it is the block layer's, then
            // `end_io`'s.
            unsafe { bindings::submit_bio((*slot.flight.as_ptr()).bio.get()) };
        }
    }

    /// Hands the place of each request that is done to `each`, the first done first, with its
    /// result.
    pub(crate) fn reap(&mut self, mut each: impl FnMut(u16, Result)) {
        let mut next = self.take_done();
        while let Some(flight) = NonNull::new(next) {
            // SAFETY: It was on the list, so it is done and ours.
            let flight = unsafe { &mut *flight.as_ptr() };
            next = flight.next;
            let (index, result) = (flight.index, flight.finish());
            if let Some(slot) = self.slots.get_mut(usize::from(index)) {
                slot.state = State::Ours;
            }
            if result.is_ok() && flight.rest() > 0 {
                // It has been sent, so there is a disk.
                let bdev = self.disk.as_ref().map(|disk| disk.bdev());
                if bdev.is_some_and(|bdev| flight.fill(bdev).is_ok()) {
                    self.send(index);
                    continue;
                }
            }
            self.away = self.away.wrapping_sub(1);
            each(index, result);
        }
    }

    /// The place of the one request that is on its way, if it is done, well, and `simple`. Does not
    /// sleep.
    pub(crate) fn reap_alone(&mut self, simple: impl Fn(&Transfer) -> bool) -> Option<u16> {
        if self.away != 1 {
            return None;
        }
        let flight = NonNull::new(self.done.head.load(Ordering::Acquire))?;
        // SAFETY: It is on the list, so it is done and ours.
        let flight = unsafe { &mut *flight.as_ptr() };
        // SAFETY: The bio is ours, too.
        let status = unsafe { (*flight.bio.get()).bi_status };
        if status != 0 || flight.discarding != 0 || !simple(&flight.transfer) {
            return None;
        }
        let index = flight.index;
        let _ = flight.finish();
        // Nothing else is on its way that could be on the list.
        (self.done.head).store(ptr::null_mut(), Ordering::Release);
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.state = State::Ours;
        }
        self.away = 0;
        Some(index)
    }

    /// Takes the whole list, turned round.
    fn take_done(&mut self) -> *mut Flight {
        if !self.done.any() {
            return ptr::null_mut();
        }
        let mut from = self.done.head.swap(ptr::null_mut(), Ordering::SeqCst);
        let mut to = ptr::null_mut();
        while !from.is_null() {
            // SAFETY: What was on the list is ours, linked by `next`.
            let next = unsafe { (*from).next };
            // SAFETY: As above.
            unsafe { (*from).next = to };
            to = from;
            from = next;
        }
        to
    }
}

impl Drop for Flights {
    fn drop(&mut self) {
        // The thread has waited for all; this is for the day on which it has not.
        while self.away > 0 {
            self.reap(|_, _| ());
            fsleep(Delta::from_millis(1));
        }
        for slot in self.slots.iter() {
            // SAFETY: From a box, by the invariant, and ours, since none is away.
            drop(unsafe { KBox::from_raw(slot.flight.as_ptr()) });
        }
    }
}

/// Sectors up to which a discard goes in one bio, whose length is a 32-bit number of bytes.
const DISCARD_UNIT: u64 = 1 << 21;

impl Flight {
    /// Makes the bio of the transfer.
    fn fill(&mut self, bdev: *mut bindings::block_device) -> Result {
        let count = self.transfer.segments.len();
        if self.vecs.len() < count {
            let more = count.wrapping_sub(self.vecs.len());
            self.vecs
                .extend_with(more, bindings::bio_vec::default(), GFP_KERNEL)?;
        }
        let request = self.transfer.request;
        let bio = self.bio.get();
        // The block layer takes any table for one that has an entry.
        let table = match count {
            0 => ptr::null_mut(),
            _ => self.vecs.as_mut_ptr(),
        };
        // SAFETY: The bio is ours, and so is the table, which stays where it is while it flies.
        unsafe {
            bindings::bio_init(bio, bdev, table, count as u16, flags(request.op));
            (*bio).bi_end_io = Some(end_io);
            (*bio).bi_private = ptr::from_mut(self).cast::<c_void>();
        }
        if let Op::Discard { .. } = request.op {
            let start = request.sector.wrapping_add(self.discarded);
            // Up to a round number, so that all pieces but the ends are of whole units.
            let to_round = DISCARD_UNIT.wrapping_sub(start % DISCARD_UNIT);
            self.discarding = self.rest().min(to_round);
            // SAFETY: The bio is ours.
            unsafe {
                (*bio).bi_iter.bi_sector = start;
                (*bio).bi_iter.bi_size = (self.discarding as u32).wrapping_mul(SECTOR_SIZE);
            }
            return Ok(());
        }
        if request.nr_sectors > 0 {
            // An empty flush names no sector.
            // SAFETY: The bio is ours.
            unsafe { (*bio).bi_iter.bi_sector = request.sector };
        }
        for (segment, page) in self.transfer.pages() {
            let Some(page) = page else {
                // SAFETY: The bio is ours, and has not been sent.
                unsafe { bindings::bio_uninit(bio) };
                return Err(EIO);
            };
            // SAFETY: The bio has room for as many segments; the page stays mapped, since the
            // transfer that holds it is not touched while the bio flies.
            unsafe {
                bindings::__bio_add_page(bio, page.as_ptr(), segment.bytes(), segment.offset())
            };
        }
        Ok(())
    }

    /// Sectors of a discard that have not been done.
    #[inline]
    fn rest(&self) -> u64 {
        match self.transfer.request.op {
            Op::Discard { .. } => self
                .transfer
                .request
                .nr_sectors
                .wrapping_sub(self.discarded),
            _ => 0,
        }
    }

    /// What has become of the bio.
    fn finish(&mut self) -> Result {
        let bio = self.bio.get();
        // SAFETY: The bio is done and ours.
        let status = unsafe {
            bindings::bio_uninit(bio);
            (*bio).bi_status
        };
        self.discarded = self.discarded.wrapping_add(self.discarding);
        self.discarding = 0;
        if status == 0 {
            return Ok(());
        }
        // SAFETY: For any status.
        to_result(unsafe { bindings::blk_status_to_errno(status) })
    }
}

/// The calling CPU runs nothing else but interrupts as long as there is one.
struct NoPreemption(NotThreadSafe);

impl NoPreemption {
    fn new() -> Self {
        // SAFETY: In any context; undone when it is dropped.
        unsafe { blkback_helper_preempt_disable() };
        NoPreemption(NotThreadSafe)
    }
}

impl Drop for NoPreemption {
    fn drop(&mut self) {
        // SAFETY: Undoes what `new` did, on the same CPU.
        unsafe { blkback_helper_preempt_enable() };
    }
}

/// Takes a bio that is done. In any context.
unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
    // Between the push and the wake-up nobody else wakes the thread: this is not the time to be
    // preempted, as the worker of a loop device may be. And after the push the ring may end, and the
    // module go, which waits for a grace period, that is, for all of this but its last instructions.
    let _whole = NoPreemption::new();
    // SAFETY: Set by `fill`; the flight is nobody else's before the push.
    let flight = unsafe { (*bio).bi_private.cast::<Flight>() };
    // We hold a reference of our own from here: after the push all the rest may go at once.
    // SAFETY: As above.
    let done = unsafe { (*flight).done.clone() };
    let mut head = done.head.load(Ordering::Relaxed);
    loop {
        // SAFETY: As above.
        unsafe { (*flight).next = head };
        match done
            .head
            .compare_exchange_weak(head, flight, Ordering::SeqCst, Ordering::Relaxed)
        {
            Ok(_) => break,
            Err(now) => head = now,
        }
    }
    // Whoever has made the list begin has told of it; it is taken as a whole.
    if head.is_null() {
        done.events.done();
    }
}

/// The operation and the flags of a bio. Front ends wait for what they send, so it is synchronous.
fn flags(op: Op) -> bindings::blk_opf_t {
    const WRITE: c_uint = bindings::req_op_REQ_OP_WRITE
        | 1 << bindings::req_flag_bits___REQ_SYNC
        | 1 << bindings::req_flag_bits___REQ_IDLE;
    const PREFLUSH: c_uint = 1 << bindings::req_flag_bits___REQ_PREFLUSH;
    const FUA: c_uint = 1 << bindings::req_flag_bits___REQ_FUA;
    match op {
        Op::Read => bindings::req_op_REQ_OP_READ,
        Op::Write => WRITE,
        Op::Flush => WRITE | PREFLUSH,
        Op::WriteBarrier => WRITE | PREFLUSH | FUA,
        Op::Discard { secure: false } => bindings::req_op_REQ_OP_DISCARD,
        Op::Discard { secure: true } => bindings::req_op_REQ_OP_SECURE_ERASE,
    }
}

/// Whether the disk has failed a transfer because it does not know the operation.
pub(crate) fn is_unsupported(err: Error) -> bool {
    err.to_errno() == -(bindings::EOPNOTSUPP as c_int)
}

/// From here on the calling thread, of which disks may be in need, does not wait for any when memory
/// is short.
pub(crate) fn without_io() {
    // SAFETY: Sets a flag of the current thread.
    unsafe { blkback_helper_noio() };
}

/// A number that no guest can know.
pub(crate) fn random() -> u64 {
    // SAFETY: In any context.
    let word = || u64::from(unsafe { bindings::get_random_u32() });
    word() << 32 | word()
}

/// Runs `f`, and sends the bios that it submits to the disk in one go.
pub(crate) fn plugged<R>(f: impl FnOnce() -> R) -> R {
    let mut plug = MaybeUninit::<bindings::blk_plug>::uninit();
    // SAFETY: Valid for writes, and on this stack until it is finished.
    unsafe { bindings::blk_start_plug(plug.as_mut_ptr()) };
    let result = f();
    // SAFETY: Started above by this thread.
    unsafe { bindings::blk_finish_plug(plug.as_mut_ptr()) };
    result
}
