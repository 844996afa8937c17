// SPDX-License-Identifier: GPL-2.0

//! Kernel threads.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    ffi::{c_int, c_void},
    fmt,
    prelude::*,
    str::CString,
};

/// A kernel thread. Dropping it asks the thread to stop, wakes it, and waits until it has returned.
///
/// # Invariants
///
/// `task` is a thread made by `kthread_create`, of which we hold a reference; `body` was made by
/// `KBox::into_raw`, the thread takes it when it first runs, and `discard` drops it if it never does.
pub struct Kthread {
    task: NonNull<kernel::bindings::task_struct>,
    body: *mut c_void,
    discard: unsafe fn(*mut c_void),
}

// SAFETY: A task may be woken and stopped from any thread.
unsafe impl Send for Kthread {}

// SAFETY: As above.
unsafe impl Sync for Kthread {}

/// The running thread, as its body sees it.
pub struct Current(());

impl Kthread {
    /// Starts a thread called `name` (16 bytes are shown by ps) that runs `body`.
    pub fn spawn<F>(name: fmt::Arguments<'_>, body: F) -> Result<Self>
    where
        F: FnOnce(&Current) + Send + 'static,
    {
        let name = CString::try_from_fmt(name)?;
        let body: *mut c_void = KBox::into_raw(KBox::new(body, GFP_KERNEL)?).cast();
        let discard = |body: *mut c_void| {
            // SAFETY: Called at most once, when no thread has taken the body.
            drop(unsafe { KBox::from_raw(body.cast::<F>()) });
        };
        // SAFETY: `run` takes the body; the name is copied.
        let task = from_err_ptr(unsafe {
            bindings::xenbus_helper_kthread_create(Some(Self::run::<F>), body, name.as_char_ptr())
        });
        let task = match task.and_then(|task| NonNull::new(task).ok_or(ENOMEM)) {
            Ok(task) => task,
            Err(e) => {
                discard(body);
                return Err(e);
            }
        };
        // INVARIANT: The reference keeps the task valid after its end, until the drop.
        // SAFETY: A new thread lives at least until it has been woken.
        unsafe { bindings::xenbus_helper_get_task_struct(task.as_ptr()) };
        let thread = Kthread {
            task,
            body,
            discard,
        };
        thread.wake();
        Ok(thread)
    }

    unsafe extern "C" fn run<F: FnOnce(&Current)>(data: *mut c_void) -> c_int {
        // SAFETY: Made by `spawn`; this runs at most once.
        let body = unsafe { KBox::from_raw(data.cast::<F>()) };
        KBox::into_inner(body)(&Current(()));
        0
    }

    /// Wakes the thread, so that it looks at the condition that it waits for. In any context.
    pub fn wake(&self) {
        // SAFETY: We hold a reference.
        unsafe { kernel::bindings::wake_up_process(self.task.as_ptr()) };
    }
}

impl Drop for Kthread {
    fn drop(&mut self) {
        // SAFETY: We hold a reference, and this is the only call of `kthread_stop`.
        let result = unsafe { kernel::bindings::kthread_stop(self.task.as_ptr()) };
        if result == EINTR.to_errno() {
            // SAFETY: The thread was stopped before it ran, so it has not taken the body.
            unsafe { (self.discard)(self.body) };
        }
        // SAFETY: Our reference.
        unsafe { bindings::xenbus_helper_put_task_struct(self.task.as_ptr()) };
    }
}

/// The kernel's clock, in jiffies; it runs over, so that two of its values are compared by their
/// wrapping difference.
#[inline]
pub fn jiffies() -> u64 {
    // SAFETY: A word that is always there; read once, while others write it.
    unsafe { (&raw const kernel::bindings::jiffies).read_volatile() as u64 }
}

/// How many CPUs there are just now.
pub fn online_cpus() -> u32 {
    // SAFETY: Reads a word.
    unsafe { bindings::xenbus_helper_online_cpus() }
}

/// The kernel's clock since its start, in nanoseconds.
#[inline]
pub fn now_ns() -> u64 {
    // SAFETY: In any context.
    unsafe { kernel::bindings::ktime_get() as u64 }
}

impl Current {
    /// Whether the owner of the thread wants it to return.
    pub fn should_stop(&self) -> bool {
        // SAFETY: Called within a kernel thread.
        unsafe { kernel::bindings::kthread_should_stop() }
    }

    /// Sleeps until `cond` holds or [`Self::should_stop`].
    ///
    /// `cond` is looked at each time that the thread is woken; whoever makes it true calls
    /// [`Kthread::wake`] afterwards. `cond` must not sleep.
    pub fn wait(&self, cond: impl Fn() -> bool) {
        self.wait_for(|| cond() || self.should_stop());
    }

    /// Sleeps until `cond` holds, whether or not the thread is to stop; otherwise as [`Self::wait`].
    pub fn wait_for(&self, cond: impl Fn() -> bool) {
        loop {
            // SAFETY: Sets the state of the current thread; includes a full barrier, so that
            // either `cond` sees what the waker wrote or the waker sees the state.
            unsafe { bindings::xenbus_helper_set_current_state(kernel::bindings::TASK_IDLE) };
            if cond() {
                break;
            }
            // SAFETY: Called within a kernel thread, with no lock held.
            unsafe { kernel::bindings::schedule() };
        }
        // SAFETY: As above.
        unsafe { bindings::xenbus_helper_set_current_state(kernel::bindings::TASK_RUNNING) };
    }

    /// To be called in each round of a loop that waits without sleeping. Says whether another
    /// thread wants this CPU.
    #[inline]
    pub fn relax(&self) -> bool {
        // SAFETY: In any context.
        unsafe { bindings::xenbus_helper_relax() }
    }

    /// Lets other threads run, if it is their turn.
    pub fn cond_resched(&self) {
        // SAFETY: Called within a kernel thread, with no lock held.
        unsafe { bindings::xenbus_helper_cond_resched() };
    }
}
