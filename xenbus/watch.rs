// SPDX-License-Identifier: GPL-2.0

//! Xenstore watches.
//!
//! C header: [`include/xen/xenbus.h`](srctree/include/xen/xenbus.h)

use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    str::CString,
    sync::{Arc, ArcBorrow},
    types::Opaque,
};

type Callback = dyn Fn(&CStr) + Send + Sync;

/// A watch on a path of xenstore and all below it.
///
/// The callback runs in the xenwatch thread, one event at a time, first of all soon after the
/// watch is made; it gets the path that changed, and it may sleep. Dropping the watch waits until
/// a running callback has returned, unless the callback itself drops it.
pub struct Watch(Arc<Inner>);

#[pin_data]
struct Inner {
    #[pin]
    watch: Opaque<bindings::xenbus_watch>,
    path: CString,
    callback: KBox<Callback>,
}

// SAFETY: The C watch is synchronized by the xenbus core; path and callback are shareable.
unsafe impl Send for Watch {}

// SAFETY: As above.
unsafe impl Sync for Watch {}

impl Watch {
    /// Watches `path`.
    ///
    /// Events that come while one is still queued are dropped (XSA-349): the callback looks at the
    /// state of things and does not count events.
    pub fn new(path: CString, callback: impl Fn(&CStr) + Send + Sync + 'static) -> Result<Self> {
        let callback: KBox<Callback> = KBox::new(callback, GFP_KERNEL)?;
        let inner = Arc::pin_init(
            pin_init!(Inner {
                watch <- Opaque::ffi_init(|slot: *mut bindings::xenbus_watch| {
                    // SAFETY: `slot` is valid for writes; all zero is a valid watch at rest.
                    unsafe { slot.write_bytes(0, 1) };
                }),
                path,
                callback,
            }),
            GFP_KERNEL,
        )?;
        let watch = inner.watch.get();
        // SAFETY: The watch is ours alone until it is registered. The path lives as long as it.
        unsafe {
            (*watch).node = inner.path.as_char_ptr();
            (*watch).will_handle = Some(Self::will_handle);
            (*watch).callback = Some(Self::callback);
        }
        // SAFETY: The watch is pinned, and unregistered before it is freed.
        to_result(unsafe { bindings::register_xenbus_watch(watch) })?;
        Ok(Watch(inner))
    }

    /// Called under the lock of the event queue: at most one event waits.
    extern "C" fn will_handle(
        watch: *mut bindings::xenbus_watch,
        _path: *const kernel::ffi::c_char,
        _token: *const kernel::ffi::c_char,
    ) -> bool {
        // SAFETY: The xenbus core hands us a registered watch, under its lock.
        unsafe { (*watch).nr_pending == 0 }
    }

    extern "C" fn callback(
        watch: *mut bindings::xenbus_watch,
        path: *const kernel::ffi::c_char,
        _token: *const kernel::ffi::c_char,
    ) {
        // SAFETY: `watch` is the field of an `Inner` in an `Arc`, which lives until the watch is
        // unregistered.
        let inner = unsafe {
            ArcBorrow::from_raw(kernel::container_of!(
                Opaque::cast_from(watch),
                Inner,
                watch
            ))
        };
        // The callback may drop the watch itself, which does not wait for us then.
        let inner: Arc<Inner> = inner.into();
        // SAFETY: A C string for the length of the call.
        (inner.callback)(unsafe { CStr::from_char_ptr(path) });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: Registered in `new`; waits for a running callback.
        unsafe { bindings::unregister_xenbus_watch(self.0.watch.get()) };
    }
}
