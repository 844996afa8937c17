// SPDX-License-Identifier: GPL-2.0

//! The glue to the block layer and to sysfs: the one file of this driver with `unsafe`.
//!
//! - [`Disk`]: a block device, held open.
//! - [`Bios`]: requests made into bios, sent, and got back when they are done.
//! - [`Left`]: rings whose disk does not answer, after their device has gone.
//! - [`Attributes`]: the files of a device in sysfs.
//!
//! A request becomes one bio: even the largest of the protocol (256 segments, indirect) fits in
//! one, and the block layer splits it as the disk needs. What the request holds, its mapped pages
//! above all, travels in front of the bio, so that nothing is freed while the disk works on it;
//! when the bio is done it is put on a list, which needs no lock, and the ring's thread takes it
//! from there: unmapping sleeps, and completions come in interrupt context.
//!
//! C headers: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h),
//! [`include/linux/bio.h`](srctree/include/linux/bio.h)

use crate::{ring::Service, stage::Transfer, vbd::Number, waker::Waker, Blkback};
use core::{
    mem::{offset_of, MaybeUninit},
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel::{
    bindings,
    error::{from_err_ptr, from_result, to_result},
    ffi::{c_char, c_int, c_uint, c_void},
    str::CStrExt as _,
    time::{delay::fsleep, Delta},
    types::{ForeignOwnable, Opaque},
};
use xenbus::{prelude::*, protocol::blkif::Op};

// The structures have empty ones inside, of lock debugging that is off; only pointers cross.
#[allow(improper_ctypes)]
extern "C" {
    fn blkback_helper_capacity(bdev: *mut bindings::block_device) -> u64;
    fn blkback_helper_logical_block_size(bdev: *mut bindings::block_device) -> c_uint;
    fn blkback_helper_physical_block_size(bdev: *mut bindings::block_device) -> c_uint;
    fn blkback_helper_write_cache(bdev: *mut bindings::block_device) -> bool;
    fn blkback_helper_is_cdrom(bdev: *mut bindings::block_device) -> bool;
    fn blkback_helper_is_removable(bdev: *mut bindings::block_device) -> bool;
    fn blkback_helper_bio_alloc(
        bdev: *mut bindings::block_device,
        nr_vecs: u16,
        opf: bindings::blk_opf_t,
        set: *mut bindings::bio_set,
    ) -> *mut bindings::bio;
}

// --- the disk -----------------------------------------------------------------------------------

/// `BLK_OPEN_READ` and `BLK_OPEN_WRITE`, which are macros with a cast.
const OPEN_READ: bindings::blk_mode_t = 1 << 0;
const OPEN_WRITE: bindings::blk_mode_t = 1 << 1;

/// A block device, held open; dropping it closes it before it returns. Sleeps.
///
/// # Invariants
///
/// `file` is an open file of a block device, of which we hold a reference.
pub(crate) struct Disk {
    file: NonNull<bindings::file>,
}

// SAFETY: A `struct file` may be used and released from any thread.
unsafe impl Send for Disk {}

// SAFETY: What is offered only reads, or is synchronized by the block layer.
unsafe impl Sync for Disk {}

impl Disk {
    /// Opens the device with these numbers, shared with whoever else has it open: whether that is
    /// allowed is the hotplug script's to judge. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for numbers that no device can have, `ENXIO` when there is no such device,
    /// `EACCES` when a device that cannot be written to is to be opened for writing.
    pub(crate) fn open(major: u32, minor: u32, read_only: bool) -> Result<Self> {
        if major >= 1 << (32 - bindings::MINORBITS) || minor >= 1 << bindings::MINORBITS {
            return Err(EINVAL);
        }
        let mode = if read_only {
            OPEN_READ
        } else {
            OPEN_READ | OPEN_WRITE
        };
        // SAFETY: No holder and no operations of one is a valid combination; this may sleep.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_dev(
                major << bindings::MINORBITS | minor,
                mode,
                ptr::null_mut(),
                ptr::null(),
            )
        })?;
        // INVARIANT: Just opened, with one reference for us.
        Ok(Disk {
            file: NonNull::new(file).ok_or(ENXIO)?,
        })
    }

    fn bdev(&self) -> *mut bindings::block_device {
        // SAFETY: By the type invariant.
        unsafe { bindings::file_bdev(self.file.as_ptr()) }
    }

    /// Size in sectors of 512 bytes, as of now.
    pub(crate) fn capacity(&self) -> u64 {
        // SAFETY: By the type invariant the device is open.
        unsafe { blkback_helper_capacity(self.bdev()) }
    }

    /// Bytes that are read or written at least, a power of two.
    pub(crate) fn logical_block_size(&self) -> u32 {
        // SAFETY: As above.
        unsafe { blkback_helper_logical_block_size(self.bdev()) }
    }

    /// Bytes that the device writes without reading them first, a power of two.
    pub(crate) fn physical_block_size(&self) -> u32 {
        // SAFETY: As above.
        unsafe { blkback_helper_physical_block_size(self.bdev()) }
    }

    /// Whether written data are durable only after a flush.
    pub(crate) fn has_write_cache(&self) -> bool {
        // SAFETY: As above.
        unsafe { blkback_helper_write_cache(self.bdev()) }
    }

    /// Whether it is a CD-ROM drive.
    pub(crate) fn is_cdrom(&self) -> bool {
        // SAFETY: As above.
        unsafe { blkback_helper_is_cdrom(self.bdev()) }
    }

    /// Whether the medium can be taken out.
    pub(crate) fn is_removable(&self) -> bool {
        // SAFETY: As above.
        unsafe { blkback_helper_is_removable(self.bdev()) }
    }

    /// Writes back and drops what this domain has cached of the device, which bios bypass. Sleeps.
    pub(crate) fn drop_cache(&self) -> Result {
        // SAFETY: By the type invariant the device is open; this may sleep.
        to_result(unsafe { bindings::sync_blockdev(self.bdev()) })?;
        // SAFETY: As above; an open file has a mapping.
        unsafe { bindings::invalidate_inode_pages2((*self.file.as_ptr()).f_mapping) };
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: Our reference. Synchronous, so that whoever waits for the end of the virtual
        // disk finds the device free; we hold no lock that a release could want.
        unsafe { bindings::__fput_sync(self.file.as_ptr()) };
    }
}

// --- bios ---------------------------------------------------------------------------------------

/// A bio and, in front of it, what it works on.
#[repr(C)]
struct Flight {
    /// Set from `submit` until the thread has it back.
    load: MaybeUninit<Load>,
    /// Last: the block layer knows of `front_pad` bytes before it, and of nothing after it.
    bio: bindings::bio,
}

struct Load {
    transfer: Transfer,
    /// The device stays open as long as a bio is on its way.
    _disk: Arc<Disk>,
    done: Arc<Done>,
}

/// The bios that are done and not yet reaped: a stack, linked by `bi_next`.
struct Done {
    head: AtomicPtr<bindings::bio>,
    waker: Arc<Waker>,
}

/// Makes bios of requests, and gets them back when they are done. Belongs to one thread.
///
/// Dropping it waits for those that are still on their way.
pub(crate) struct Bios {
    set: Pin<KBox<Opaque<bindings::bio_set>>>,
    done: Arc<Done>,
    /// Submitted and not yet reaped.
    in_flight: u32,
}

// SAFETY: The bio set is ours, and its bios are on their way or on our own list.
unsafe impl Send for Bios {}

/// Bios kept in reserve, so that requests go on when memory is short: one for each entry of a ring.
/// With fewer, the thread could wait for a bio that only it can reap.
const RESERVE: c_uint = 32;

impl Bios {
    /// Nothing on its way; `waker` is woken each time that something is done.
    pub(crate) fn new(waker: Arc<Waker>) -> Result<Self> {
        let set = KBox::pin_init(
            Opaque::try_ffi_init(|slot: *mut bindings::bio_set| {
                // SAFETY: `slot` is valid for writes, and all zero is what `bioset_init` expects.
                to_result(unsafe {
                    slot.write_bytes(0, 1);
                    bindings::bioset_init(
                        slot,
                        RESERVE,
                        offset_of!(Flight, bio) as c_uint,
                        bindings::BIOSET_NEED_BVECS as c_int,
                    )
                })
            }),
            GFP_KERNEL,
        )?;
        let head = AtomicPtr::new(ptr::null_mut());
        Ok(Bios {
            set,
            done: Arc::new(Done { head, waker }, GFP_KERNEL)?,
            in_flight: 0,
        })
    }

    /// Requests submitted and not yet reaped.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether there is something to reap. In any context.
    pub(crate) fn any_done(&self) -> bool {
        !self.done.head.load(Ordering::Acquire).is_null()
    }

    /// Sends `transfer` to `disk`. Sleeps when memory is short.
    ///
    /// # Errors
    ///
    /// `EIO` when the transfer's segments are not all mapped, `ENOTSUPP` for a discard; nothing has
    /// been sent then.
    pub(crate) fn submit(&mut self, disk: &Arc<Disk>, transfer: Transfer) -> Result {
        let request = &transfer.request;
        let opf = flags(request.op)?;
        // SAFETY: The set is initialised, the device open. With `GFP_NOIO` it sleeps and cannot
        // fail; each bio is submitted before the next is asked for.
        let bio = unsafe {
            blkback_helper_bio_alloc(
                disk.bdev(),
                request.segments.len() as u16,
                opf,
                self.set.get(),
            )
        };
        if bio.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The bio is ours until it is submitted.
        unsafe {
            // An empty flush names no sector.
            (*bio).bi_iter.bi_sector = if request.nr_sectors > 0 {
                request.sector
            } else {
                0
            };
            (*bio).bi_end_io = Some(end_io);
        }
        for (i, segment) in request.segments.iter().enumerate() {
            let added = transfer.page(i).map_or(0, |page| {
                // SAFETY: The bio is ours and has room for this many segments; the page stays
                // mapped until the transfer that goes with the bio is dropped.
                unsafe {
                    bindings::bio_add_page(bio, page.as_ptr(), segment.bytes(), segment.offset())
                }
            });
            if added != segment.bytes() as c_int {
                // SAFETY: The bio is ours, and has not been sent.
                unsafe { bindings::bio_put(bio) };
                return Err(EIO);
            }
        }
        let load = Load {
            transfer,
            _disk: disk.clone(),
            done: self.done.clone(),
        };
        // SAFETY: From our set, so there is a `Flight` around it, which is ours.
        unsafe { (*Flight::of(bio)).load.write(load) };
        self.in_flight = self.in_flight.wrapping_add(1);
        // SAFETY: The bio is complete; from here on it is the block layer's, then `end_io`'s.
        unsafe { bindings::submit_bio(bio) };
        Ok(())
    }

    /// Hands each transfer that is done to `f`, the first done first, with its result.
    pub(crate) fn reap(&mut self, mut f: impl FnMut(Transfer, Result)) {
        let mut bio = self.take_done();
        while !bio.is_null() {
            // SAFETY: It was on the list, so it is done and ours; it came from our set, and has a
            // load, which nobody else takes.
            let (next, status, load) = unsafe {
                let next = (*bio).bi_next;
                (*bio).bi_next = ptr::null_mut();
                (
                    next,
                    (*bio).bi_status,
                    (*Flight::of(bio)).load.assume_init_read(),
                )
            };
            // SAFETY: Ours, and not used any more.
            unsafe { bindings::bio_put(bio) };
            self.in_flight = self.in_flight.wrapping_sub(1);
            // SAFETY: For any status.
            let errno = unsafe { bindings::blk_status_to_errno(status) };
            f(load.transfer, to_result(errno));
            bio = next;
        }
    }

    /// Takes the whole list, turned round.
    fn take_done(&mut self) -> *mut bindings::bio {
        let mut from = self.done.head.swap(ptr::null_mut(), Ordering::Acquire);
        let mut to = ptr::null_mut();
        while !from.is_null() {
            // SAFETY: What was on the list is ours, linked by `bi_next`.
            let next = unsafe { (*from).bi_next };
            // SAFETY: As above.
            unsafe { (*from).bi_next = to };
            to = from;
            from = next;
        }
        to
    }
}

impl Drop for Bios {
    fn drop(&mut self) {
        // The thread has waited for all; this is for the day on which it has not.
        while self.in_flight > 0 {
            self.reap(|_, _| ());
            fsleep(Delta::from_millis(1));
        }
        // SAFETY: Initialised, and all bios are back.
        unsafe { bindings::bioset_exit(self.set.get()) };
    }
}

impl Flight {
    /// # Safety
    ///
    /// `bio` must come from the set of a [`Bios`].
    unsafe fn of(bio: *mut bindings::bio) -> *mut Self {
        // SAFETY: By the safety requirements; the set was told of the bytes in front.
        unsafe { bio.byte_sub(offset_of!(Flight, bio)).cast() }
    }
}

/// Takes a bio that is done. In any context.
unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
    // SAFETY: From our set, with a load, which is nobody else's before the push. We hold a
    // reference of our own from here: after the push all the rest may go at once.
    let done = unsafe { (*Flight::of(bio)).load.assume_init_ref().done.clone() };
    let mut head = done.head.load(Ordering::Relaxed);
    loop {
        // SAFETY: The block layer has done with the bio.
        unsafe { (*bio).bi_next = head };
        match done
            .head
            .compare_exchange_weak(head, bio, Ordering::SeqCst, Ordering::Relaxed)
        {
            Ok(_) => break,
            Err(now) => head = now,
        }
    }
    done.waker.wake();
}

/// The operation and the flags of a bio. Front ends wait for what they send, so it is synchronous.
fn flags(op: Op) -> Result<bindings::blk_opf_t> {
    const WRITE: c_uint = bindings::req_op_REQ_OP_WRITE
        | 1 << bindings::req_flag_bits___REQ_SYNC
        | 1 << bindings::req_flag_bits___REQ_IDLE;
    const PREFLUSH: c_uint = 1 << bindings::req_flag_bits___REQ_PREFLUSH;
    const FUA: c_uint = 1 << bindings::req_flag_bits___REQ_FUA;
    match op {
        Op::Read => Ok(bindings::req_op_REQ_OP_READ),
        Op::Write => Ok(WRITE),
        Op::Flush => Ok(WRITE | PREFLUSH),
        Op::WriteBarrier => Ok(WRITE | PREFLUSH | FUA),
        Op::Discard { .. } => Err(ENOTSUPP),
    }
}

/// Whether the disk has failed a transfer because it does not know the operation.
pub(crate) fn is_unsupported(err: Error) -> bool {
    err.to_errno() == -(bindings::EOPNOTSUPP as c_int)
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

// --- what is left behind ------------------------------------------------------------------------

kernel::sync::global_lock! {
    // SAFETY: Initialised by `Left::new`, before there is a device.
    unsafe(uninit) static LEFT: Mutex<KVec<Service>> = KVec::new();
}

/// Threads of rings that were stopped while the disk did not answer. Dropping it, when the module
/// goes, waits for them all.
pub(crate) struct Left(());

impl Left {
    /// To be called once, when the module comes.
    pub(crate) fn new() -> Self {
        // SAFETY: Called once, by the module's init.
        unsafe { LEFT.init() };
        Left(())
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        drop(core::mem::take(&mut *LEFT.lock()));
    }
}

/// Whether requests of a ring that was stopped are still on their way to a device.
pub(crate) fn is_busy(number: Number) -> bool {
    let left = LEFT.lock();
    left.iter()
        .any(|service| service.number == number && !service.has_ended())
}

/// Leaves `service` to itself, and forgets those that have ended meanwhile.
pub(crate) fn leave(service: Service) {
    let mut left = LEFT.lock();
    left.retain(|service| !service.has_ended());
    // Without the memory to remember it, there is only to wait for it: it is dropped here.
    let _ = left.push(service, GFP_KERNEL);
}

// --- sysfs --------------------------------------------------------------------------------------

/// What is in sysfs for as long as the program runs.
#[repr(transparent)]
struct Static<T>(T);

// SAFETY: Never written to after the compiler.
unsafe impl<T> Sync for Static<T> {}

const fn attribute(name: &'static CStr) -> bindings::device_attribute {
    bindings::device_attribute {
        attr: bindings::attribute {
            name: name.as_ptr().cast(),
            mode: 0o444,
        },
        __bindgen_anon_1: bindings::device_attribute__bindgen_ty_1 { show: Some(show) },
        __bindgen_anon_2: bindings::device_attribute__bindgen_ty_2 { store: None },
    }
}

macro_rules! group {
    ($group:ident, $attrs:ident, $pointers:ident, $name:expr, $count:literal, [$($attr:literal),+]) => {
        static $attrs: Static<[bindings::device_attribute; $count]> =
            Static([$(attribute($attr)),+]);

        static $pointers: Static<[*const bindings::attribute; $count + 1]> = {
            let mut pointers = [ptr::null(); $count + 1];
            let mut i = 0;
            while i < $count {
                pointers[i] = &raw const $attrs.0[i].attr;
                i += 1;
            }
            Static(pointers)
        };

        static $group: Static<bindings::attribute_group> = Static(bindings::attribute_group {
            name: $name,
            __bindgen_anon_1: bindings::attribute_group__bindgen_ty_1 { is_visible: None },
            is_bin_visible: None,
            bin_size: None,
            __bindgen_anon_2: bindings::attribute_group__bindgen_ty_2 {
                attrs_const: (&raw const $pointers).cast(),
            },
            bin_attrs: ptr::null(),
        });
    };
}

group!(
    DEVICE,
    DEVICE_ATTRS,
    DEVICE_POINTERS,
    ptr::null(),
    2,
    [c"physical_device", c"mode"]
);
group!(
    STATISTICS,
    STATISTICS_ATTRS,
    STATISTICS_POINTERS,
    c"statistics".as_ptr().cast(),
    7,
    [c"oo_req", c"rd_req", c"wr_req", c"f_req", c"ds_req", c"rd_sect", c"wr_sect"]
);

static GROUPS: Static<[*const bindings::attribute_group; 3]> =
    Static([&raw const DEVICE.0, &raw const STATISTICS.0, ptr::null()]);

/// The files of a device in sysfs: `physical_device`, `mode` and `statistics/`, as of the C driver.
///
/// Dropping it removes them, and waits for those who are reading them. Sleeps.
pub(crate) struct Attributes(ARef<Device>);

impl Attributes {
    /// Makes the files; [`Blkback::show`] gives their contents. Sleeps.
    pub(crate) fn new(dev: &Device) -> Result<Self> {
        // SAFETY: The device is live, the groups are static and end with NULL.
        to_result(unsafe {
            bindings::sysfs_create_groups(Self::kobj(dev), (&raw const GROUPS).cast())
        })?;
        Ok(Attributes(dev.into()))
    }

    fn kobj(dev: &Device) -> *mut bindings::kobject {
        // CAST: `kernel::device::Device` is a transparent wrapper of the C type.
        let dev = ptr::from_ref(dev.dev())
            .cast::<bindings::device>()
            .cast_mut();
        // SAFETY: The device is live.
        unsafe { &raw mut (*dev).kobj }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: Made by `new`.
        unsafe { bindings::sysfs_remove_groups(Self::kobj(&self.0), (&raw const GROUPS).cast()) };
    }
}

unsafe extern "C" fn show(
    dev: *mut bindings::device,
    attr: *mut bindings::device_attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: sysfs hands us a live device.
    let data: *mut c_void = unsafe { bindings::dev_get_drvdata(dev) };
    if data.is_null() {
        return ENODEV.to_errno() as isize;
    }
    // SAFETY: What `xenbus::driver` keeps there is the `Arc` that `probe` made; it is taken back
    // after `remove`, which removes this file and so waits for us.
    let blkback = unsafe { <Arc<Blkback> as ForeignOwnable>::borrow(data) };
    // SAFETY: One of ours, whose name is static.
    let name = unsafe { CStr::from_char_ptr((*attr).attr.name) };
    from_result(|| {
        let text = blkback.show(name.to_bytes())?;
        // SAFETY: The buffer is a page, as sysfs promises; the format takes one string.
        let len = unsafe { bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), text.as_char_ptr()) };
        Ok(len as isize)
    })
}
