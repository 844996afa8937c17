// SPDX-License-Identifier: GPL-2.0

//! Work that can be waited for, so that a module may be unloaded after it.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::bindings;
use kernel::{prelude::*, types::Opaque};

/// A function that a kernel worker thread runs once for each time that it was queued while at
/// rest. Dropping the work waits for a run that has begun and takes back one that has not; so it
/// must not be dropped within its own function.
pub struct Work(Pin<KBox<Inner>>);

#[pin_data]
struct Inner {
    #[pin]
    work: Opaque<kernel::bindings::work_struct>,
    f: KBox<dyn Fn() + Send + Sync>,
}

// SAFETY: A `work_struct` may be queued, flushed and cancelled from any thread.
unsafe impl Send for Work {}

// SAFETY: As above.
unsafe impl Sync for Work {}

impl Work {
    /// Makes work of `f`, which runs in process context and may sleep.
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let f: KBox<dyn Fn() + Send + Sync> = KBox::new(f, GFP_KERNEL)?;
        let inner = KBox::pin_init(
            pin_init!(Inner {
                work <- Opaque::ffi_init(|slot| {
                    // SAFETY: `slot` is valid for writes and pinned.
                    unsafe { bindings::xenbus_helper_init_work(slot, Some(Self::run)) }
                }),
                f,
            }),
            GFP_KERNEL,
        )?;
        Ok(Work(inner))
    }

    unsafe extern "C" fn run(work: *mut kernel::bindings::work_struct) {
        // SAFETY: `work` is the field of an `Inner`, whose drop waits for us.
        let inner = unsafe { &*kernel::container_of!(Opaque::cast_from(work), Inner, work) };
        (inner.f)();
    }

    /// Queues the work; false when it is queued already. In any context.
    pub fn queue(&self) -> bool {
        // SAFETY: Initialised in `new`.
        unsafe { bindings::xenbus_helper_queue_work(self.0.work.get()) }
    }

    /// Waits until the work is at rest, or has run once for every `queue` before. Sleeps.
    pub fn flush(&self) {
        // SAFETY: Initialised in `new`.
        unsafe { kernel::bindings::flush_work(self.0.work.get()) };
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: Initialised in `new`. Nobody can queue it any more.
        unsafe { kernel::bindings::cancel_work_sync(self.0.work.get()) };
    }
}
