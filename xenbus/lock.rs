// SPDX-License-Identifier: GPL-2.0

//! A spin lock that is taken with interrupts off, for data shared with an interrupt handler.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use crate::bindings;
use kernel::sync::lock::{Backend, Lock};

/// A spin lock whose guard keeps interrupts off on this CPU, and restores them as they were.
pub type SpinLockIrq<T> = Lock<T, SpinLockIrqBackend>;

/// Makes a [`SpinLockIrq`] with a lock class of its own.
#[macro_export]
macro_rules! new_spinlock_irq {
    ($inner:expr $(, $name:literal)? $(,)?) => {
        $crate::lock::SpinLockIrq::new(
            $inner,
            ::kernel::optional_name!($($name)?),
            ::kernel::static_lock_class!(),
        )
    };
}

/// `spin_lock_irqsave()` and `spin_unlock_irqrestore()`.
pub struct SpinLockIrqBackend;

// SAFETY: The kernel's spin lock is exclusive, and `relock` locks the same way.
unsafe impl Backend for SpinLockIrqBackend {
    type State = kernel::bindings::spinlock_t;
    type GuardState = kernel::ffi::c_ulong;

    unsafe fn init(
        ptr: *mut Self::State,
        name: *const kernel::ffi::c_char,
        key: *mut kernel::bindings::lock_class_key,
    ) {
        // SAFETY: By the safety requirements.
        unsafe { kernel::bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: By the safety requirements the lock is initialised.
        unsafe { bindings::xenbus_helper_spin_lock_irqsave(ptr) }
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, guard_state: &Self::GuardState) {
        // SAFETY: By the safety requirements the caller holds the lock, with this state.
        unsafe { bindings::xenbus_helper_spin_unlock_irqrestore(ptr, *guard_state) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        let mut flags = 0;
        // SAFETY: By the safety requirements the lock is initialised.
        unsafe { bindings::xenbus_helper_spin_trylock_irqsave(ptr, &mut flags) }.then_some(flags)
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: By the safety requirements the lock is initialised.
        unsafe { kernel::bindings::spin_assert_is_held(ptr) }
    }
}
