// SPDX-License-Identifier: GPL-2.0

//! Work that is done after a while, and that can be waited for.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::bindings;
use kernel::{prelude::*, types::Opaque};

/// A function that a kernel worker thread runs some time after it was queued. Dropping the work
/// waits for a run that has begun and takes back one that has not; so it must not be dropped within
/// its own function.
pub struct DelayedWork(Pin<KBox<Inner>>);

#[pin_data]
struct Inner {
    #[pin]
    work: Opaque<kernel::bindings::delayed_work>,
    f: KBox<dyn Fn() + Send + Sync>,
}

// SAFETY: A `delayed_work` may be queued and cancelled from any thread.
unsafe impl Send for DelayedWork {}

// SAFETY: As above.
unsafe impl Sync for DelayedWork {}

impl DelayedWork {
    /// Makes work of `f`, which runs in process context and may sleep.
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let f: KBox<dyn Fn() + Send + Sync> = KBox::new(f, GFP_KERNEL)?;
        let inner = KBox::pin_init(
            pin_init!(Inner {
                work <- Opaque::ffi_init(|slot| {
                    // SAFETY: `slot` is valid for writes and pinned.
                    unsafe { bindings::xenbus_helper_init_delayed_work(slot, Some(Self::run)) }
                }),
                f,
            }),
            GFP_KERNEL,
        )?;
        Ok(DelayedWork(inner))
    }

    unsafe extern "C" fn run(work: *mut kernel::bindings::work_struct) {
        // SAFETY: `work` is inside the field of an `Inner`, whose drop waits for us.
        let inner = unsafe {
            let delayed = kernel::container_of!(work, kernel::bindings::delayed_work, work);
            &*kernel::container_of!(Opaque::cast_from(delayed), Inner, work)
        };
        (inner.f)();
    }

    /// Queues the work to run in `msecs` ms; false when it is queued already. In any context.
    pub fn queue(&self, msecs: u32) -> bool {
        // SAFETY: Initialised in `new`.
        unsafe { bindings::xenbus_helper_queue_delayed_work(self.0.work.get(), msecs) }
    }
}

impl Drop for DelayedWork {
    fn drop(&mut self) {
        // SAFETY: Initialised in `new`. Nobody but the function itself can queue it any more, which
        // this covers.
        unsafe { kernel::bindings::cancel_delayed_work_sync(self.0.work.get()) };
    }
}
