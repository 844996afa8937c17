// SPDX-License-Identifier: GPL-2.0

//! Tag sets, disks and their limits, and the C callbacks of both.
//!
//! A disk lives as long as somebody has it open, which may be long after its device is gone: the
//! block layer keeps the driver's value and the tag set until `free_disk`, and the module as long
//! as there is an opener. [`wait_until_freed`] covers what lies between the two.

use super::limits::{Config, Limits};
use super::request::{blk_status, complete_rq, Pdu, Request};
use core::{
    fmt::Write as _,
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};
use kernel::{
    bindings,
    error::{from_err_ptr, from_result, to_result},
    ffi::{c_int, c_uint, c_ulong, c_void},
    prelude::*,
    str::NullTerminatedFormatter,
    sync::Arc,
    types::Opaque,
};

// The structures have empty ones inside, of lock debugging that is off; only pointers cross.
#[allow(improper_ctypes)]
extern "C" {
    fn blkfront_helper_set_geometry(
        geo: *mut bindings::hd_geometry,
        heads: u8,
        sectors: u8,
        cylinders: u16,
    );
    fn blkfront_helper_cdrom_ioctl(cmd: c_uint, arg: c_ulong, cdrom: bool) -> c_int;
    fn blkfront_helper_set_parent(
        disk: *mut bindings::gendisk,
        parent: *mut bindings::device,
    ) -> c_int;
    fn blkfront_helper_capacity(disk: *mut bindings::gendisk) -> u64;
}

/// What a driver does for the block layer; its value is shared by all of a disk's queues.
pub(crate) trait Operations: Sized + Send + Sync + 'static {
    /// Sends a request of hardware queue `index` on its way. `last`: no other follows at once; if
    /// not, [`Self::commit_rqs`] may be called instead. Does not sleep.
    ///
    /// # Errors
    ///
    /// The request itself goes back, to be sent again: with `EBUSY` once a request of this disk has
    /// been completed or its queue has been started, with `ENOMEM` after a moment, too, unless the
    /// queue is stopped. With any other error it fails.
    fn queue_rq(
        &self,
        index: u32,
        rq: Request<Self>,
        last: bool,
    ) -> core::result::Result<(), Refused<Self>>;

    /// No further request follows those of hardware queue `index` that were queued with `last`
    /// unset.
    fn commit_rqs(&self, index: u32);

    /// Somebody opens the disk, or a partition of it.
    fn open(&self) -> Result;

    /// Undoes one [`Self::open`]; everything written has been sent by now if it was the last.
    fn release(&self);

    /// Whether the disk is a CD-ROM drive.
    fn is_cdrom(&self) -> bool;
}

/// A request that a driver cannot take now, and why.
pub(crate) type Refused<T> = (Request<T>, Error);

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
    ///
    /// There is no I/O scheduler unless somebody asks for one: the disk behind the back end has
    /// its own, and one here costs two changes of task a request.
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
                    (*slot).flags = bindings::BLK_MQ_F_NO_SCHED_BY_DEFAULT;
                    (*slot).cmd_size = core::mem::size_of::<Pdu>() as c_uint;
                }
                // SAFETY: Filled above, and pinned.
                to_result(unsafe { bindings::blk_mq_alloc_tag_set(slot) })
            }),
            _ops: PhantomData,
        })
    }

    /// Changes the number of hardware queues; returns what it is after that. Waits for the requests
    /// in flight. Sleeps.
    pub(crate) fn set_queues(&self, queues: u32) -> u32 {
        // SAFETY: The tag set is live.
        unsafe {
            bindings::blk_mq_update_nr_hw_queues(self.set.get(), queues as c_int);
            (*self.set.get()).nr_hw_queues
        }
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
    // Whoever counted the last one down may not have left our code yet; nor may he who has ended the
    // last request. Nobody sleeps there.
    // SAFETY: In process context.
    unsafe { bindings::synchronize_rcu_tasks() };
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

    /// Changes whether nothing may be written. Sleeps.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        // SAFETY: By the type invariant.
        unsafe { bindings::set_disk_ro(self.disk.as_ptr(), read_only) };
    }

    /// Whether everybody sees the disk.
    pub(crate) fn is_added(&self) -> bool {
        self.added.load(Ordering::Acquire)
    }

    /// Puts an added disk below another device, or below none. Not to be called at the same time as
    /// [`Disk::remove`]. Sleeps.
    pub(crate) fn set_parent(&self, parent: Option<&kernel::device::Device>) -> Result {
        // CAST: `Device` is a transparent wrapper of the C structure.
        let parent = parent.map_or(ptr::null_mut(), |parent| {
            ptr::from_ref(parent).cast::<bindings::device>().cast_mut()
        });
        // SAFETY: By the type invariant; the parent is live, or there is none.
        to_result(unsafe { blkfront_helper_set_parent(self.disk.as_ptr(), parent) })
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

    /// Changes [`Config::limits`]. Waits for the requests in flight. Sleeps.
    pub(crate) fn set_limits(&self, limits: &Limits) -> Result {
        // SAFETY: By the type invariant.
        unsafe { limits.update((*self.disk.as_ptr()).queue) }
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
        ioctl: Some(Self::ioctl),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: Some(bindings::blkdev_compat_ptr_ioctl),
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
        // SAFETY: The hardware queue is live.
        let index = unsafe { (*hctx).queue_num };
        // SAFETY: Started, and ours to end.
        match data.queue_rq(index, unsafe { Request::from_raw(rq) }, last) {
            Ok(()) => bindings::BLK_STS_OK as bindings::blk_status_t,
            Err((back, e)) if back.as_raw() == rq => {
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
        unsafe { Self::data((*(*hctx).queue).queuedata).commit_rqs((*hctx).queue_num) };
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

    /// What programs ask a CD-ROM drive.
    unsafe extern "C" fn ioctl(
        bdev: *mut bindings::block_device,
        _mode: bindings::blk_mode_t,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_int {
        // SAFETY: The caller has the disk open.
        let data = unsafe { Self::data((*(*bdev).bd_disk).private_data) };
        // SAFETY: The helper treats `arg` as what it is, an address of the user's.
        unsafe { blkfront_helper_cdrom_ioctl(cmd, arg, data.is_cdrom()) }
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
