// SPDX-License-Identifier: GPL-2.0

//! The block layer's multi-queue interface, as far as a front end needs it.
//!
//! Shaped like the `kernel` crate's `block::mq`, which in 7.2 gives a driver neither the operation
//! nor the data of a request, nor a way to fail one; once upstream has those, this file goes. It is
//! the only one of the driver with `unsafe` in it. `helpers.c` holds the inlines that it needs.
//!
//! A disk lives as long as somebody has it open, which may be long after its device is gone: the
//! block layer keeps the driver's value and the tag set until `free_disk`, and the module as long
//! as there is an opener. [`wait_until_freed`] covers what lies between the two.
//!
//! C headers: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h),
//! [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use core::{
    fmt::Write as _,
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};
use kernel::{
    bindings,
    error::{from_err_ptr, from_result, to_result},
    ffi::{c_int, c_uint, c_void},
    page::BorrowedPage,
    prelude::*,
    str::NullTerminatedFormatter,
    sync::Arc,
    types::Opaque,
};
use xenbus::grant::{Grant, GrantReserve};

// The structures have empty ones inside, of lock debugging that is off; only pointers cross.
#[allow(improper_ctypes)]
extern "C" {
    fn blkfront_helper_segments_start(
        rq: *mut bindings::request,
        iter: *mut bindings::req_iterator,
    );
    fn blkfront_helper_segments_next(
        iter: *mut bindings::req_iterator,
        bv: *mut bindings::bio_vec,
    ) -> bool;
    fn blkfront_helper_rq_pos(rq: *const bindings::request) -> u64;
    fn blkfront_helper_rq_op(rq: *const bindings::request) -> c_uint;
    fn blkfront_helper_rq_fua(rq: *const bindings::request) -> bool;
    fn blkfront_helper_features(write_cache: bool, fua: bool) -> bindings::blk_features_t;
    fn blkfront_helper_set_features(
        q: *mut bindings::request_queue,
        write_cache: bool,
        fua: bool,
    ) -> c_int;
    fn blkfront_helper_set_geometry(
        geo: *mut bindings::hd_geometry,
        heads: u8,
        sectors: u8,
        cylinders: u16,
    );
    fn blkfront_helper_capacity(disk: *mut bindings::gendisk) -> u64;
    fn blkfront_helper_register_blkdev(major: c_uint, name: *const kernel::ffi::c_char) -> c_int;
    fn blkfront_helper_has_pv_disks() -> bool;
    fn blkfront_helper_has_emulated_disks() -> bool;
    fn blkfront_helper_hvm_domain() -> bool;
    fn blkfront_helper_shutting_down() -> bool;
}

/// What a driver does for the block layer; its value is shared by all of a disk's queues.
pub(crate) trait Operations: Sized + Send + Sync + 'static {
    /// Sends a request on its way. `last`: no other follows at once; if not, [`Self::commit_rqs`]
    /// may be called instead. Does not sleep.
    ///
    /// # Errors
    ///
    /// The request itself goes back, to be sent again: with `EBUSY` once a request of this disk has
    /// been completed or its queue has been started, with `ENOMEM` after a moment, too, unless the
    /// queue is stopped. With any other error it fails.
    fn queue_rq(&self, rq: Request<Self>, last: bool) -> core::result::Result<(), Refused<Self>>;

    /// No further request follows those that were queued with `last` unset.
    fn commit_rqs(&self);

    /// Somebody opens the disk, or a partition of it.
    fn open(&self) -> Result;

    /// Undoes one [`Self::open`]; everything written has been sent by now if it was the last.
    fn release(&self);
}

/// A request that a driver cannot take now, and why.
pub(crate) type Refused<T> = (Request<T>, Error);

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Fill the segments.
    Read,
    /// Write the segments; `fua`: they are durable when the request completes.
    Write { fua: bool },
    /// Make durable whatever has been completed so far.
    Flush,
    /// Something that was not offered.
    Other,
}

/// A request that the driver has been given: it ends by [`Request::end`], [`Request::complete`],
/// [`Request::requeue`], or, as an error, by being dropped.
///
/// # Invariants
///
/// The pointer is to a request that has been started and that nobody else ends.
pub(crate) struct Request<T: Operations>(NonNull<bindings::request>, PhantomData<T>);

// SAFETY: A request may be ended from any context.
unsafe impl<T: Operations> Send for Request<T> {}

// SAFETY: Shared access only reads what is constant while the request is in flight.
unsafe impl<T: Operations> Sync for Request<T> {}

impl<T: Operations> Request<T> {
    /// The operation.
    pub(crate) fn op(&self) -> Op {
        // SAFETY: By the type invariant.
        match unsafe { blkfront_helper_rq_op(self.0.as_ptr()) } {
            bindings::req_op_REQ_OP_READ => Op::Read,
            bindings::req_op_REQ_OP_WRITE => Op::Write {
                // SAFETY: By the type invariant.
                fua: unsafe { blkfront_helper_rq_fua(self.0.as_ptr()) },
            },
            bindings::req_op_REQ_OP_FLUSH => Op::Flush,
            _ => Op::Other,
        }
    }

    /// The first sector, in units of 512 bytes.
    pub(crate) fn sector(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { blkfront_helper_rq_pos(self.0.as_ptr()) }
    }

    /// The most segments that [`Request::segments`] gives.
    pub(crate) fn nr_segments(&self) -> u16 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.as_ptr()).nr_phys_segments }
    }

    /// The request's data, in order.
    pub(crate) fn segments(&self) -> Segments<'_> {
        let mut iter = bindings::req_iterator::default();
        // SAFETY: By the type invariant; the cursor is ours.
        unsafe { blkfront_helper_segments_start(self.0.as_ptr(), &mut iter) };
        Segments(iter, PhantomData)
    }

    /// Stops the hardware queue that the request came from, until [`RequestQueue::start_stopped`].
    pub(crate) fn stop_queue(&self) {
        // SAFETY: By the type invariant; a request in flight has a hardware queue.
        unsafe { bindings::blk_mq_stop_hw_queue((*self.0.as_ptr()).mq_hctx) };
    }

    /// Ends the request at once. Not with a lock held that [`Operations`] takes.
    pub(crate) fn end(self, result: Result) {
        // SAFETY: By the type invariant, which is given up.
        unsafe { bindings::blk_mq_end_request(self.into_raw(), blk_status(result)) };
    }

    /// Has the request ended, in soft interrupt context. In any context.
    pub(crate) fn complete(self, result: Result) {
        let rq = self.into_raw();
        // SAFETY: By the type invariant, which is given up; the per-request data is a `Pdu` and
        // nobody else looks at it before the completion.
        unsafe {
            pdu(rq).write(blk_status(result));
            if !bindings::blk_mq_complete_request_remote(rq) {
                complete_rq(rq);
            }
        }
    }

    /// Gives the request back to be queued again, at once if the queue is not stopped. In any
    /// context.
    pub(crate) fn requeue(self) {
        // SAFETY: By the type invariant, which is given up.
        unsafe { bindings::blk_mq_requeue_request(self.into_raw(), true) };
    }

    fn into_raw(self) -> *mut bindings::request {
        let rq = self.0.as_ptr();
        core::mem::forget(self);
        rq
    }
}

impl<T: Operations> Drop for Request<T> {
    fn drop(&mut self) {
        // INVARIANT: The copy takes the place of what is being dropped.
        Request::<T>(self.0, PhantomData).complete(Err(EIO));
    }
}

/// Per-request data: the status that a completed request ends with.
type Pdu = bindings::blk_status_t;

/// # Safety
///
/// `rq` must be a request of a [`TagSet`].
unsafe fn pdu(rq: *mut bindings::request) -> *mut Pdu {
    // SAFETY: The tag set asked for room for a `Pdu`.
    unsafe { bindings::blk_mq_rq_to_pdu(rq).cast() }
}

fn blk_status(result: Result) -> bindings::blk_status_t {
    match result {
        Ok(()) => bindings::BLK_STS_OK as bindings::blk_status_t,
        // SAFETY: A pure function.
        Err(e) => unsafe { bindings::errno_to_blk_status(e.to_errno()) },
    }
}

/// A part of a request's data that lies in one page.
pub(crate) struct Segment<'a> {
    /// The page.
    pub page: BorrowedPage<'a>,
    /// First byte in the page.
    pub offset: u32,
    /// Number of bytes; `offset + len` is at most the page size.
    pub len: u32,
}

/// Iterator over the segments of a request.
pub(crate) struct Segments<'a>(bindings::req_iterator, PhantomData<&'a ()>);

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let mut bv = bindings::bio_vec::default();
        // SAFETY: The cursor was started on a request that lives for `'a`.
        if !unsafe { blkfront_helper_segments_next(&mut self.0, &mut bv) } {
            return None;
        }
        Some(Segment {
            // SAFETY: The pages of a request in flight live until it has ended.
            page: unsafe { BorrowedPage::from_raw(NonNull::new(bv.bv_page)?) },
            offset: bv.bv_offset,
            len: bv.bv_len,
        })
    }
}

/// A request and the access that another domain has been given to its pages. The request comes out
/// of it, and so ends, only after the access has.
pub(crate) struct Granted<T: Operations, const N: usize> {
    // Dropped in this order.
    grants: [Option<Grant>; N],
    rq: Request<T>,
}

impl<T: Operations, const N: usize> Granted<T, N> {
    /// With no access given yet.
    pub(crate) fn new(rq: Request<T>) -> Self {
        Granted {
            grants: [const { None }; N],
            rq,
        }
    }

    /// The request.
    pub(crate) fn request(&self) -> &Request<T> {
        &self.rq
    }

    /// Gives `domid` access to the page of each segment, of which `f` gets the grant reference.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there are more than `N` segments, or the reserve is empty; what `f` returns.
    /// Some access may have been given then.
    pub(crate) fn grant(
        &mut self,
        reserve: &mut GrantReserve,
        domid: u16,
        readonly: bool,
        mut f: impl FnMut(u32, &Segment<'_>) -> Result,
    ) -> Result {
        let mut grants = self.grants.iter_mut();
        for segment in self.rq.segments() {
            let place = grants.next().ok_or(ENOSPC)?;
            // SAFETY: The pages of a request stay allocated, for its data, until it ends, which
            // the grant does before by the type's order.
            let grant = unsafe { reserve.grant(domid, &segment.page, readonly)? };
            f(grant.gref(), &segment)?;
            *place = Some(grant);
        }
        Ok(())
    }

    /// Ends the access. `Some`: the reference of a page that the other domain still has mapped.
    pub(crate) fn end_access(&mut self) -> Option<u32> {
        let mut mapped = None;
        for slot in &mut self.grants {
            if let Some(Err(grant)) = slot.take().map(Grant::try_end) {
                mapped = Some(grant.gref());
                *slot = Some(grant);
            }
        }
        mapped
    }

    /// Gives the request out. Pages that are still mapped are left to the grant table, which keeps
    /// them from being allocated again until they are not; what their owner does with them
    /// meanwhile the other domain sees, and may change.
    pub(crate) fn into_request(self) -> Request<T> {
        let Granted { grants, rq } = self;
        drop(grants);
        rq
    }
}

/// The tags and request structures of a disk.
#[pin_data(PinnedDrop)]
pub(crate) struct TagSet<T: Operations> {
    #[pin]
    set: Opaque<bindings::blk_mq_tag_set>,
    _ops: PhantomData<T>,
}

// SAFETY: The block layer synchronizes the tag set.
unsafe impl<T: Operations> Send for TagSet<T> {}

// SAFETY: As above.
unsafe impl<T: Operations> Sync for TagSet<T> {}

impl<T: Operations> TagSet<T> {
    /// Tags for `queues` hardware queues of `depth` requests each. Sleeps.
    pub(crate) fn new(queues: u32, depth: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            set <- Opaque::try_ffi_init(|slot: *mut bindings::blk_mq_tag_set| {
                // SAFETY: `slot` is valid for writes, and all zero is a valid tag set to fill.
                unsafe {
                    slot.write_bytes(0, 1);
                    (*slot).ops = Callbacks::<T>::OPS;
                    (*slot).nr_hw_queues = queues;
                    (*slot).queue_depth = depth;
                    (*slot).numa_node = bindings::NUMA_NO_NODE;
                    (*slot).cmd_size = core::mem::size_of::<Pdu>() as c_uint;
                }
                // SAFETY: Filled above, and pinned.
                to_result(unsafe { bindings::blk_mq_alloc_tag_set(slot) })
            }),
            _ops: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: Operations> PinnedDrop for TagSet<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Allocated in `new`; every disk that uses it holds a reference on it.
        unsafe { bindings::blk_mq_free_tag_set(self.set.get()) };
    }
}

/// A disk's request queue; outlives the disk, on which it then has no effect.
pub(crate) struct RequestQueue(NonNull<bindings::request_queue>);

// SAFETY: The queue is reference counted, and what is offered may be called in any context.
unsafe impl Send for RequestQueue {}

// SAFETY: As above.
unsafe impl Sync for RequestQueue {}

impl RequestQueue {
    /// Starts the hardware queues that were stopped. In any context.
    pub(crate) fn start_stopped(&self) {
        // SAFETY: The queue is live.
        unsafe { bindings::blk_mq_start_stopped_hw_queues(self.0.as_ptr(), true) };
    }
}

impl Drop for RequestQueue {
    fn drop(&mut self) {
        // SAFETY: We hold a reference.
        unsafe { bindings::blk_put_queue(self.0.as_ptr()) };
    }
}

/// What a disk is like.
pub(crate) struct Config<'a> {
    /// Name in `/dev`, at most 31 bytes.
    pub name: &'a str,
    /// Major number, registered by [`Major`].
    pub major: u32,
    /// First minor number.
    pub first_minor: u32,
    /// How many minor numbers, for the disk and its partitions.
    pub minors: u32,
    /// Size in sectors of 512 bytes.
    pub capacity: u64,
    /// Nothing may be written.
    pub read_only: bool,
    /// The medium can be taken out.
    pub removable: bool,
    /// Logical and physical block size in bytes.
    pub block_size: (u32, u32),
    /// Completed writes may be lost until a flush.
    pub write_cache: bool,
    /// A single write can be made durable.
    pub fua: bool,
    /// The most segments in a request; each lies within one 4096-byte page and is a whole number
    /// of 512-byte sectors.
    pub max_segments: u16,
}

impl Config<'_> {
    fn limits(&self) -> bindings::queue_limits {
        let (logical_block_size, physical_block_size) = self.block_size;
        bindings::queue_limits {
            // SAFETY: A pure function.
            features: unsafe { blkfront_helper_features(self.write_cache, self.fua) },
            logical_block_size,
            physical_block_size,
            max_segments: self.max_segments,
            max_hw_sectors: u32::from(self.max_segments) * (4096 / 512),
            max_segment_size: 4096,
            seg_boundary_mask: 4096 - 1,
            // A back end may refuse a segment that is not a whole number of blocks.
            dma_alignment: logical_block_size.wrapping_sub(1),
            ..Default::default()
        }
    }
}

/// What the block layer keeps of ours until the disk is freed.
struct Private<T: Operations> {
    data: Arc<T>,
    _tags: Arc<TagSet<T>>,
}

/// How many disks the block layer has not freed yet.
static LIVE: AtomicU32 = AtomicU32::new(0);

/// Waits until no disk of ours is left, so that the module may be unloaded. All disks must have
/// been dropped and closed. Sleeps.
pub(crate) fn wait_until_freed() {
    while LIVE.load(Ordering::Acquire) != 0 {
        // SAFETY: In process context.
        unsafe { bindings::msleep(10) };
    }
}

/// A disk, as its driver has it. Dropping it takes it away from its users, see [`Disk::remove`].
///
/// # Invariants
///
/// The pointer is to a disk of which we hold a reference, and whose private data is a
/// `Private<T>`.
pub(crate) struct Disk<T: Operations> {
    disk: NonNull<bindings::gendisk>,
    added: AtomicBool,
    removed: AtomicBool,
    _ops: PhantomData<T>,
}

// SAFETY: The block layer synchronizes what is called on a disk.
unsafe impl<T: Operations> Send for Disk<T> {}

// SAFETY: As above.
unsafe impl<T: Operations> Sync for Disk<T> {}

impl<T: Operations> Disk<T> {
    /// Makes a disk that nobody sees yet. Sleeps.
    pub(crate) fn new(config: &Config<'_>, tags: Arc<TagSet<T>>, data: Arc<T>) -> Result<Self> {
        let set = tags.set.get();
        let private = KBox::into_raw(KBox::new(Private { data, _tags: tags }, GFP_KERNEL)?);
        let mut limits = config.limits();
        // SAFETY: The tag set lives in the private data until the disk is freed.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                set,
                &mut limits,
                private.cast(),
                kernel::static_lock_class!().as_ptr(),
            )
        });
        let disk = match disk.and_then(|disk| NonNull::new(disk).ok_or(ENOMEM)) {
            Ok(disk) => disk,
            Err(e) => {
                // SAFETY: Nobody else has come to know it.
                drop(unsafe { KBox::from_raw(private) });
                return Err(e);
            }
        };
        LIVE.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: Allocated above, with one reference, and the private data set here.
        let this = Disk {
            disk,
            added: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            _ops: PhantomData,
        };
        // SAFETY: Nobody else knows the disk.
        unsafe {
            let disk = &mut *disk.as_ptr();
            disk.private_data = private.cast();
            disk.fops = Callbacks::<T>::FOPS;
            disk.major = config.major as c_int;
            disk.first_minor = config.first_minor as c_int;
            disk.minors = config.minors as c_int;
            if config.removable {
                disk.flags |= bindings::GENHD_FL_REMOVABLE as c_int;
            }
            NullTerminatedFormatter::new(&mut disk.disk_name)
                .ok_or(EINVAL)?
                .write_str(config.name)
                .map_err(|_| EINVAL)?;
            bindings::set_capacity(disk, config.capacity);
            bindings::set_disk_ro(disk, config.read_only);
        }
        Ok(this)
    }

    /// Shows the disk to everybody, after a scan for partitions, which reads. Sleeps. To be called
    /// once, and not at the same time as [`Disk::remove`].
    pub(crate) fn add(&self, parent: &kernel::device::Device) -> Result {
        // CAST: `Device` is a transparent wrapper of the C structure.
        let parent = ptr::from_ref(parent).cast::<bindings::device>().cast_mut();
        // SAFETY: By the type invariant; the parent is live.
        to_result(unsafe {
            bindings::device_add_disk(parent, self.disk.as_ptr(), ptr::null_mut())
        })?;
        self.added.store(true, Ordering::Release);
        Ok(())
    }

    /// The disk's request queue.
    pub(crate) fn queue(&self) -> Result<RequestQueue> {
        // SAFETY: By the type invariant.
        let queue = unsafe { (*self.disk.as_ptr()).queue };
        // SAFETY: A disk has a queue, which we hold a reference on if this says so.
        if !unsafe { bindings::blk_get_queue(queue) } {
            return Err(ENODEV);
        }
        Ok(RequestQueue(NonNull::new(queue).ok_or(ENODEV)?))
    }

    /// Changes the size, in sectors of 512 bytes, and tells the users. Sleeps.
    pub(crate) fn set_capacity(&self, sectors: u64) {
        // SAFETY: By the type invariant.
        unsafe { bindings::set_capacity_and_notify(self.disk.as_ptr(), sectors) };
    }

    /// Changes [`Config::write_cache`] and [`Config::fua`]. Waits for the requests in flight.
    pub(crate) fn set_cache(&self, write_cache: bool, fua: bool) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe {
            blkfront_helper_set_features((*self.disk.as_ptr()).queue, write_cache, fua)
        })
    }

    /// Takes the disk away. Waits for the requests in flight.
    ///
    /// `lost`: the device has gone already; what is dirty is thrown away. Otherwise it is written
    /// back first.
    pub(crate) fn remove(&self, lost: bool) {
        if !self.added.load(Ordering::Acquire) || self.removed.swap(true, Ordering::AcqRel) {
            return;
        }
        // SAFETY: By the type invariant; the disk has been added, and is deleted once.
        unsafe {
            if lost {
                bindings::blk_mark_disk_dead(self.disk.as_ptr());
            }
            bindings::del_gendisk(self.disk.as_ptr());
        }
    }
}

impl<T: Operations> Drop for Disk<T> {
    fn drop(&mut self) {
        self.remove(false);
        let disk = self.disk.as_ptr();
        // SAFETY: By the type invariant.
        let private = unsafe { (*disk).private_data };
        // SAFETY: By the type invariant. The last reference may be that of an opener.
        unsafe { bindings::put_disk(disk) };
        if !self.added.load(Ordering::Acquire) {
            // SAFETY: `free_disk` is called for disks that were added; of the others nobody else
            // ever had a reference.
            unsafe { free_private::<T>(private) };
        }
    }
}

/// # Safety
///
/// `private` must be the private data of a disk that nobody uses any more.
unsafe fn free_private<T: Operations>(private: *mut c_void) {
    // SAFETY: Made by `KBox::into_raw` in `Disk::new`.
    drop(unsafe { KBox::from_raw(private.cast::<Private<T>>()) });
    LIVE.fetch_sub(1, Ordering::Release);
}

/// # Safety
///
/// `rq` must be a request that its driver has completed, with the status in its per-request data.
unsafe extern "C" fn complete_rq(rq: *mut bindings::request) {
    // SAFETY: By the safety requirements.
    unsafe { bindings::blk_mq_end_request(rq, pdu(rq).read()) };
}

/// The C callbacks of a driver `T`.
struct Callbacks<T>(PhantomData<T>);

impl<T: Operations> Callbacks<T> {
    const OPS: &'static bindings::blk_mq_ops = &bindings::blk_mq_ops {
        queue_rq: Some(Self::queue_rq),
        commit_rqs: Some(Self::commit_rqs),
        complete: Some(complete_rq),
        ..pin_init::zeroed()
    };

    const FOPS: &'static bindings::block_device_operations = &bindings::block_device_operations {
        owner: crate::THIS_MODULE.as_ptr(),
        open: Some(Self::open),
        release: Some(Self::release),
        getgeo: Some(Self::getgeo),
        free_disk: Some(Self::free_disk),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `private` must be the private data of a disk that is not freed for `'a`.
    unsafe fn data<'a>(private: *mut c_void) -> &'a T {
        // SAFETY: By the safety requirements.
        unsafe { &(*private.cast::<Private<T>>()).data }
    }

    unsafe extern "C" fn queue_rq(
        hctx: *mut bindings::blk_mq_hw_ctx,
        bd: *const bindings::blk_mq_queue_data,
    ) -> bindings::blk_status_t {
        // SAFETY: The queue data is the private data of the disk, which a request keeps.
        let data = unsafe { Self::data((*(*hctx).queue).queuedata) };
        // SAFETY: The block layer gives us a request that is not started.
        let (rq, last) = unsafe {
            bindings::blk_mq_start_request((*bd).rq);
            (NonNull::new_unchecked((*bd).rq), (*bd).last)
        };
        // INVARIANT: Started, and ours to end.
        match data.queue_rq(Request(rq, PhantomData), last) {
            Ok(()) => blk_status(Ok(())),
            Err((back, e)) if back.0 == rq => {
                // The block layer takes it back by our answer.
                back.into_raw();
                blk_status(Err(e))
            }
            // Another one than we gave: that one ends, as an error.
            Err(_) => blk_status(Ok(())),
        }
    }

    unsafe extern "C" fn commit_rqs(hctx: *mut bindings::blk_mq_hw_ctx) {
        // SAFETY: As in `queue_rq`.
        unsafe { Self::data((*(*hctx).queue).queuedata) }.commit_rqs();
    }

    unsafe extern "C" fn open(disk: *mut bindings::gendisk, _mode: bindings::blk_mode_t) -> c_int {
        from_result(|| {
            // SAFETY: The opener keeps the disk.
            unsafe { Self::data((*disk).private_data) }.open()?;
            Ok(0)
        })
    }

    unsafe extern "C" fn release(disk: *mut bindings::gendisk) {
        // SAFETY: As in `open`.
        unsafe { Self::data((*disk).private_data) }.release();
    }

    /// A geometry that fits the size, for programs that want one.
    unsafe extern "C" fn getgeo(
        disk: *mut bindings::gendisk,
        geo: *mut bindings::hd_geometry,
    ) -> c_int {
        const HEADS: u8 = 255;
        const SECTORS: u8 = 63;
        // SAFETY: The caller keeps the disk.
        let cylinders = unsafe { blkfront_helper_capacity(disk) } / (255 * 63);
        let cylinders = u16::try_from(cylinders).unwrap_or(u16::MAX);
        // SAFETY: The caller wants it filled.
        unsafe { blkfront_helper_set_geometry(geo, HEADS, SECTORS, cylinders) };
        0
    }

    unsafe extern "C" fn free_disk(disk: *mut bindings::gendisk) {
        // SAFETY: Nobody has the disk any more.
        unsafe { free_private::<T>((*disk).private_data) };
    }
}

kernel::sync::global_lock! {
    // SAFETY: `Major::new` initialises it, before which there are no `Minors`.
    unsafe(uninit) static MINORS: Mutex<KVec<core::ops::Range<u32>>> = KVec::new();
}

/// Minor numbers that no other disk of ours has. Dropping them gives them back.
pub(crate) struct Minors(core::ops::Range<u32>);

impl Minors {
    /// Takes `count` minor numbers from `first` on.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another disk has one of them.
    pub(crate) fn new(first: u32, count: u32) -> Result<Self> {
        let range = first..first.wrapping_add(count);
        let mut taken = MINORS.lock();
        if taken
            .iter()
            .any(|other| other.start < range.end && range.start < other.end)
        {
            return Err(EBUSY);
        }
        taken.push(range.clone(), GFP_KERNEL)?;
        Ok(Minors(range))
    }
}

impl Drop for Minors {
    fn drop(&mut self) {
        MINORS.lock().retain(|range| *range != self.0);
    }
}

/// A block major number that is ours. Dropping it gives it back.
pub(crate) struct Major {
    major: u32,
    name: &'static CStr,
}

impl Major {
    /// Registers `major`, which is shown as `name` in `/proc/devices`. The module does this once,
    /// before anything else here.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another driver has it.
    pub(crate) fn new(major: u32, name: &'static CStr) -> Result<Self> {
        static INIT: AtomicBool = AtomicBool::new(false);
        if !INIT.swap(true, Ordering::Relaxed) {
            // SAFETY: Done once.
            unsafe { MINORS.init() };
        }
        // SAFETY: The name is a C string that lives forever.
        to_result(unsafe { blkfront_helper_register_blkdev(major, name.as_char_ptr()) })?;
        Ok(Major { major, name })
    }
}

impl Drop for Major {
    fn drop(&mut self) {
        // SAFETY: Registered in `new`.
        unsafe { bindings::unregister_blkdev(self.major, self.name.as_char_ptr()) };
    }
}

/// Whether this is a Xen guest that may use PV disks.
pub(crate) fn has_pv_disks() -> bool {
    // SAFETY: Reads what is set at boot.
    unsafe { blkfront_helper_has_pv_disks() }
}

/// Whether this is an HVM guest whose emulated disks have not been unplugged.
pub(crate) fn has_emulated_disks() -> bool {
    // SAFETY: Reads what is set at boot.
    unsafe { blkfront_helper_has_emulated_disks() }
}

/// Whether this is an HVM (or PVH) guest.
pub(crate) fn is_hvm_domain() -> bool {
    // SAFETY: Reads what is set at boot.
    unsafe { blkfront_helper_hvm_domain() }
}

/// Whether the whole system is on its way down.
pub(crate) fn is_shutting_down() -> bool {
    // SAFETY: Reads a variable.
    unsafe { blkfront_helper_shutting_down() }
}
