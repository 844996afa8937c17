// SPDX-License-Identifier: GPL-2.0

//! What is copied from and to a program.

use core::mem::{size_of, MaybeUninit};
use kernel::uaccess::{UserPtr, UserSlice};
use xenbus::{
    prelude::*,
    protocol::tap::ioctl::{Attach, Geometry, Info, QueueInfo, Set},
};

/// A structure that a program hands over.
///
/// # Safety
///
/// Any bytes are a valid value, and no byte of a value is padding.
pub(crate) unsafe trait User: Sized {
    /// Reads it at the address `from`.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    fn get(from: usize) -> Result<Self> {
        let mut it = MaybeUninit::<Self>::uninit();
        // SAFETY: As many bytes, which need not be initialised.
        let bytes = unsafe {
            core::slice::from_raw_parts_mut(
                it.as_mut_ptr().cast::<MaybeUninit<u8>>(),
                size_of::<Self>(),
            )
        };
        UserSlice::new(UserPtr::from_addr(from), size_of::<Self>())
            .reader()
            .read_raw(bytes)?;
        // SAFETY: All bytes have been written, and any are a value.
        Ok(unsafe { it.assume_init() })
    }

    /// Writes it to the address `to`.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    fn put(&self, to: usize) -> Result {
        // SAFETY: As many bytes, all initialised.
        let bytes = unsafe {
            core::slice::from_raw_parts(core::ptr::from_ref(self).cast::<u8>(), size_of::<Self>())
        };
        UserSlice::new(UserPtr::from_addr(to), size_of::<Self>())
            .writer()
            .write_slice(bytes)
    }
}

macro_rules! user {
    ($($type:ty),*) => {
        // SAFETY: Integers, and structures of them without holes, as the tests of the protocol's
        // layout say.
        $(unsafe impl User for $type {})*
    };
}

user!(u64, Attach, Geometry, Info, QueueInfo, Set);
