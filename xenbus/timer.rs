// SPDX-License-Identifier: GPL-2.0

//! Timers.
//!
//! C headers: [`include/linux/timer.h`](srctree/include/linux/timer.h),
//! [`include/linux/hrtimer.h`](srctree/include/linux/hrtimer.h)

use crate::bindings;
use kernel::{prelude::*, types::Opaque};

/// A function that runs when its time has come. Dropping the timer waits for a run that has begun
/// and takes back one that has not; so it must not be dropped within its own function.
pub struct Timer(Pin<KBox<Inner>>);

#[pin_data]
struct Inner {
    #[pin]
    timer: Opaque<kernel::bindings::timer_list>,
    f: KBox<dyn Fn() + Send + Sync>,
}

// SAFETY: A `timer_list` may be set and shut down from any thread.
unsafe impl Send for Timer {}

// SAFETY: As above.
unsafe impl Sync for Timer {}

impl Timer {
    /// Makes a timer of `f`, which runs in interrupt context. It is not set yet.
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let f: KBox<dyn Fn() + Send + Sync> = KBox::new(f, GFP_KERNEL)?;
        let inner = KBox::pin_init(
            pin_init!(Inner {
                timer <- Opaque::ffi_init(|slot| {
                    // SAFETY: `slot` is valid for writes and pinned.
                    unsafe { bindings::xenbus_helper_timer_setup(slot, Some(Self::run)) }
                }),
                f,
            }),
            GFP_KERNEL,
        )?;
        Ok(Timer(inner))
    }

    unsafe extern "C" fn run(timer: *mut kernel::bindings::timer_list) {
        // SAFETY: `timer` is the field of an `Inner`, whose drop waits for us.
        let inner = unsafe { &*kernel::container_of!(Opaque::cast_from(timer), Inner, timer) };
        (inner.f)();
    }

    /// Sets the timer to `at`, in [jiffies](crate::kthread::jiffies), unless it is set to an earlier
    /// time. In any context.
    pub fn set(&self, at: u64) {
        // SAFETY: Initialised in `new`.
        unsafe {
            kernel::bindings::timer_reduce(self.0.timer.get(), at as kernel::ffi::c_ulong);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: Initialised in `new`. Nobody can set it any more.
        unsafe { kernel::bindings::timer_shutdown_sync(self.0.timer.get()) };
    }
}

/// As [`Timer`], for times that are shorter than a jiffy.
pub struct HrTimer(Pin<KBox<HrInner>>);

#[pin_data]
struct HrInner {
    #[pin]
    timer: Opaque<kernel::bindings::hrtimer>,
    f: KBox<dyn Fn() + Send + Sync>,
}

// SAFETY: An `hrtimer` may be started and cancelled from any thread.
unsafe impl Send for HrTimer {}

// SAFETY: As above.
unsafe impl Sync for HrTimer {}

impl HrTimer {
    /// Makes a timer of `f`, which runs in interrupt context. It is not started yet.
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let f: KBox<dyn Fn() + Send + Sync> = KBox::new(f, GFP_KERNEL)?;
        let inner = KBox::pin_init(
            pin_init!(HrInner {
                timer <- Opaque::ffi_init(|slot| {
                    // SAFETY: `slot` is valid for writes and pinned.
                    unsafe { bindings::xenbus_helper_hrtimer_setup(slot, Some(Self::run)) }
                }),
                f,
            }),
            GFP_KERNEL,
        )?;
        Ok(HrTimer(inner))
    }

    unsafe extern "C" fn run(
        timer: *mut kernel::bindings::hrtimer,
    ) -> kernel::bindings::hrtimer_restart {
        // SAFETY: `timer` is the field of an `HrInner`, whose drop waits for us.
        let inner = unsafe { &*kernel::container_of!(Opaque::cast_from(timer), HrInner, timer) };
        (inner.f)();
        kernel::bindings::hrtimer_restart_HRTIMER_NORESTART
    }

    /// Has the function run in `nsecs` nanoseconds, and not when it was to run before. In any context.
    #[inline]
    pub fn start(&self, nsecs: u64) {
        // SAFETY: Initialised in `new`.
        unsafe { bindings::xenbus_helper_hrtimer_start(self.0.timer.get(), nsecs) };
    }
}

impl Drop for HrTimer {
    fn drop(&mut self) {
        // SAFETY: Initialised in `new`. Nobody can start it any more.
        unsafe { kernel::bindings::hrtimer_cancel(self.0.timer.get()) };
    }
}
