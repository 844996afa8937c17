// SPDX-License-Identifier: GPL-2.0

//! The glue to the character device, to user memory and to the program's address space: with
//! `chardev/`, the one part of this driver with `unsafe`.
//!
//! - this file: the file operations.
//! - `chardev/user.rs`: [`User`], what is copied from and to a program.
//! - `chardev/map.rs`: the pages that a program maps.
//!
//! C headers: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h)

mod map;
mod user;

pub(crate) use user::User;

use crate::{file::File, taps::Taps};
use core::ptr;
use kernel::{
    bindings, current,
    error::{from_result, to_result},
    ffi::{c_int, c_long, c_uint, c_ulong},
    fs,
    str::CStrExt as _,
    sync::poll::PollTable,
    types::{ForeignOwnable, Opaque},
};
use xenbus::prelude::*;

kernel::sync::global_lock! {
    // SAFETY: Initialised by `init`, before there is a device.
    pub(crate) unsafe(uninit) static TAPS: Mutex<Taps> = Taps {
        all: KVec::new(),
        bell: None,
    };
}

/// To be called once, when the module comes.
pub(crate) fn init() {
    // SAFETY: Called once, by the module's init.
    unsafe { TAPS.init() };
}

/// This module.
pub(crate) fn this_module() -> &'static ThisModule {
    &crate::THIS_MODULE
}

/// Whether the calling program may do what administrators do.
pub(crate) fn is_admin() -> bool {
    // SAFETY: In the context of a program.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) }
}

/// The calling process.
pub(crate) fn pid() -> u32 {
    current!().group_leader().pid() as u32
}

/// What is in memory for as long as the module.
#[repr(transparent)]
struct Static<T>(T);

// SAFETY: Never written to after the compiler.
unsafe impl<T> Sync for Static<T> {}

extern "C" {
    // Of the module loader; only its address is used.
    static __this_module: u8;
}

static OPERATIONS: Static<bindings::file_operations> = Static(bindings::file_operations {
    // An open file holds the module.
    owner: (&raw const __this_module)
        .cast::<bindings::module>()
        .cast_mut(),
    open: Some(open),
    release: Some(release),
    unlocked_ioctl: Some(ioctl),
    // All structures are the same to 32-bit programs.
    compat_ioctl: bindings::compat_ptr_ioctl,
    poll: Some(poll),
    mmap: Some(map::mmap),
    ..pin_init::zeroed()
});

/// The device `/dev/blktap`; dropping it takes it away. No file is open then.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration {
    #[pin]
    device: Opaque<bindings::miscdevice>,
}

// SAFETY: It may be registered and deregistered from any thread.
unsafe impl Send for Registration {}

// SAFETY: Nothing can be done with a shared reference.
unsafe impl Sync for Registration {}

impl Registration {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Registration {
            device <- Opaque::try_ffi_init(|slot: *mut bindings::miscdevice| {
                // SAFETY: Valid for writes; all zero is a valid device.
                unsafe {
                    slot.write_bytes(0, 1);
                    (*slot).minor = bindings::MISC_DYNAMIC_MINOR as c_int;
                    (*slot).name = c"blktap".as_char_ptr();
                    (*slot).mode = 0o660;
                    (*slot).fops = &raw const OPERATIONS.0;
                }
                // SAFETY: Pinned, and deregistered by the drop.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        }? Error)
    }
}

#[pinned_drop]
impl PinnedDrop for Registration {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by `new`.
        unsafe { bindings::misc_deregister(self.device.get()) };
    }
}

/// What [`open`] has left in a file.
///
/// # Safety
///
/// `file` is an open file of the device, for as long as the reference lives.
unsafe fn file_of<'a>(file: *mut bindings::file) -> &'a File {
    // SAFETY: Set by `open`, and taken back by `release`, after which there are no more calls.
    let file = unsafe { <Arc<File> as ForeignOwnable>::borrow((*file).private_data) };
    // SAFETY: The file keeps its reference for as long.
    unsafe { &*ptr::from_ref(&*file) }
}

unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    from_result(|| {
        let it = File::new()?;
        // SAFETY: The file is being opened; what the core has left there is not needed.
        unsafe { (*file).private_data = it.into_foreign() };
        Ok(0)
    })
}

unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: Made by `open`; nobody uses it any more.
    drop(unsafe { <Arc<File> as ForeignOwnable>::from_foreign((*file).private_data) });
    0
}

unsafe extern "C" fn ioctl(file: *mut bindings::file, command: c_uint, arg: c_ulong) -> c_long {
    // SAFETY: Called for an open file.
    let (it, flags) = unsafe { (file_of(file), (*file).f_flags) };
    let nonblock = flags & bindings::O_NONBLOCK != 0;
    match it.ioctl(command, arg, nonblock) {
        Ok(()) => 0,
        Err(e) => e.to_errno() as c_long,
    }
}

unsafe extern "C" fn poll(
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    // SAFETY: Called for an open file.
    let it = unsafe { file_of(file) };
    // SAFETY: There is a table, or whoever asks wants to know of all.
    let wanted = unsafe { table.as_ref() }.map_or(!0, |table| table._key);
    if let Some(wait) = it.poll_wait() {
        // SAFETY: Both are valid for the call. A file that can be neither read nor written has no
        // position that anybody would use.
        let (table, file) = unsafe { (PollTable::from_raw(table), fs::File::from_raw_file(file)) };
        table.register_wait(file, wait);
    }
    it.poll(wanted)
}
