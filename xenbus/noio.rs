// SPDX-License-Identifier: GPL-2.0

//! Allocations on which a disk's own requests may wait.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use crate::bindings;

/// Runs `f`, in which no allocation of this task starts I/O to free memory: that I/O could wait for
/// what `f` is about to set up.
pub fn scope<R>(f: impl FnOnce() -> R) -> R {
    /// Restores the task's flags.
    struct Restore(kernel::ffi::c_uint);

    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: By the same task as the save, in the reverse order.
            unsafe { bindings::xenbus_helper_noio_restore(self.0) };
        }
    }

    // SAFETY: Restored by the drop.
    let _restore = Restore(unsafe { bindings::xenbus_helper_noio_save() });
    f()
}
