// SPDX-License-Identifier: GPL-2.0

//! A device on the front or the back xenbus.
//!
//! C header: [`include/xen/xenbus.h`](srctree/include/xen/xenbus.h)

use crate::bindings;
use core::{marker::PhantomData, ops::Deref, ptr::NonNull};
use kernel::{
    fmt,
    prelude::*,
    str::CString,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque,
};
use protocol::state::XenbusState;

/// The context of a device that may be held anywhere, by an [`ARef`].
pub struct Normal;

/// The context of a device inside a callback of its driver, where the other end is known.
pub struct Core;

/// A `struct xenbus_device`.
///
/// `Device<Core>` is what the callbacks of [`crate::driver::Driver`] get; it dereferences to
/// `Device`, of which `ARef<Device>` can be kept. A kept device outlives its removal: its node in
/// xenstore may then be gone, and operations on it fail.
///
/// # Invariants
///
/// The pointer is to a live `struct xenbus_device` whose embedded device is reference counted.
#[repr(transparent)]
pub struct Device<Ctx = Normal>(Opaque<bindings::xenbus_device>, PhantomData<Ctx>);

// SAFETY: `struct xenbus_device` may be used and released from any thread.
unsafe impl Send for Device {}

// SAFETY: What `&Device` offers is synchronized by the xenbus core (or is read only).
unsafe impl Sync for Device {}

// SAFETY: The count is that of the embedded `struct device`, whose release frees the whole.
unsafe impl AlwaysRefCounted for Device {
    fn inc_ref(&self) {
        // SAFETY: By the type invariant the device is live.
        unsafe { kernel::bindings::get_device(self.raw_dev()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller owns one reference.
        unsafe { kernel::bindings::put_device(obj.as_ref().raw_dev()) };
    }
}

impl Deref for Device<Core> {
    type Target = Device;

    fn deref(&self) -> &Device {
        // SAFETY: Both are transparent wrappers of the same type.
        unsafe { &*core::ptr::from_ref(self).cast::<Device>() }
    }
}

impl From<&Device<Core>> for ARef<Device> {
    fn from(dev: &Device<Core>) -> Self {
        (&**dev).into()
    }
}

impl<Ctx> Device<Ctx> {
    /// The device behind a pointer that C handed to a callback.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a live device for `'a`, and `Ctx` must be [`Core`] only within a
    /// callback of the device's driver.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut bindings::xenbus_device) -> &'a Self {
        // SAFETY: By the safety requirements; `Device` is a transparent wrapper.
        unsafe { &*ptr.cast::<Self>() }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::xenbus_device {
        self.0.get()
    }

    pub(crate) fn raw_dev(&self) -> *mut kernel::bindings::device {
        // SAFETY: By the type invariant the pointer is valid.
        unsafe { &raw mut (*self.as_raw()).dev }
    }

    /// The generic device, for `dev_err!` and the like.
    pub fn dev(&self) -> &kernel::device::Device {
        // SAFETY: The embedded device lives as long as `self`.
        unsafe { kernel::device::Device::from_raw(self.raw_dev()) }
    }

    /// This end's directory in xenstore, such as `device/vbd/51728`.
    pub fn nodename(&self) -> &CStr {
        // SAFETY: `nodename` is set when the device is made and lives inside its allocation.
        unsafe { CStr::from_char_ptr((*self.as_raw()).nodename) }
    }

    /// The domain of the other end, as the toolstack wrote it; 0..=0x7fef for a real domain.
    pub fn otherend_id(&self) -> u16 {
        // SAFETY: An `int` that is written before a driver's probe or resume runs.
        // CAST: A domain id has 16 bits; what does not fit names no domain and Xen refuses it.
        unsafe { (*self.as_raw()).otherend_id as u16 }
    }

    /// This end's state, as this end last wrote it.
    pub fn state(&self) -> XenbusState {
        // SAFETY: A word that the xenbus core writes; a stale value is one of an earlier instant.
        XenbusState::from(unsafe { (&raw const (*self.as_raw()).state).read_volatile() })
    }

    /// Writes this end's state node, which tells the other end. Sleeps.
    ///
    /// Nothing is written when the state is the same, or when the node has been removed.
    ///
    /// # Errors
    ///
    /// `EIO` when the state could not be written; the core has then tried to switch to `Closing`.
    pub fn switch_state(&self, state: XenbusState) -> Result {
        // CAST: The C enum has the same values.
        // SAFETY: The device is live, and this may sleep.
        unsafe { bindings::xenbus_switch_state(self.as_raw(), state as bindings::xenbus_state) };
        if self.state() == state {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Logs `args`, writes them to the device's error node, and switches to `Closing`. Sleeps.
    pub fn fatal(&self, err: Error, args: fmt::Arguments<'_>) {
        let Ok(msg) = CString::try_from_fmt(args) else {
            return;
        };
        // SAFETY: The device is live and the message is a C string; this may sleep.
        unsafe {
            bindings::xenbus_helper_dev_fatal(self.as_raw(), err.to_errno(), msg.as_char_ptr())
        };
    }

    /// Logs `args` and writes them to the device's error node. Sleeps.
    pub fn error(&self, err: Error, args: fmt::Arguments<'_>) {
        let Ok(msg) = CString::try_from_fmt(args) else {
            return;
        };
        // SAFETY: As in `fatal`.
        unsafe {
            bindings::xenbus_helper_dev_error(self.as_raw(), err.to_errno(), msg.as_char_ptr())
        };
    }

    /// Tells whoever listens for that (udev, which may run the device's script) that the device is
    /// online, or not any more. Sleeps.
    pub fn announce(&self, online: bool) {
        let action = if online {
            kernel::bindings::kobject_action_KOBJ_ONLINE
        } else {
            kernel::bindings::kobject_action_KOBJ_OFFLINE
        };
        // SAFETY: The device is live. Without memory for the message there is none.
        unsafe { kernel::bindings::kobject_uevent(&raw mut (*self.raw_dev()).kobj, action) };
    }

    /// Front side: the device is closed; whoever waits for that (shutdown) may go on. Sleeps.
    pub fn frontend_closed(&self) {
        // SAFETY: The device is live.
        unsafe { bindings::xenbus_frontend_closed(self.as_raw()) };
    }
}

impl Device<Core> {
    /// The other end's directory in xenstore.
    ///
    /// Known only within a callback: the core frees and reads it again on resume.
    pub fn otherend(&self) -> &CStr {
        // SAFETY: In a callback `otherend` is NULL or a C string that the core keeps meanwhile.
        let ptr = unsafe { (*self.as_raw()).otherend };
        if ptr.is_null() {
            return c"";
        }
        // SAFETY: As above.
        unsafe { CStr::from_char_ptr(ptr) }
    }

    /// Reads the other end's state from xenstore; `Unknown` when it has gone. Sleeps.
    pub fn otherend_state(&self) -> XenbusState {
        let path = self.otherend();
        // SAFETY: The device is live and the path is a C string.
        XenbusState::from(unsafe {
            bindings::xenbus_read_driver_state(self.as_raw(), path.as_char_ptr())
        })
    }

    /// Whether the toolstack wants the device to stay, once the front end has closed. Sleeps.
    pub fn is_online(&self) -> bool {
        // SAFETY: The device is live.
        unsafe { bindings::xenbus_dev_is_online(self.as_raw()) != 0 }
    }

    /// Whether the toolstack has removed this end's node; the device is on its way off the bus.
    pub fn has_vanished(&self) -> bool {
        // SAFETY: The device is live; the core sets the flag before it removes the device.
        unsafe { (*self.as_raw()).vanished }
    }
}
