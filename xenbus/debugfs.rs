// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs whose text is made when they are read, and which may take a command.
//!
//! Not by the `kernel` crate's `debugfs`: its files belong to no module, so that one which is still
//! open would be closed by code that has been unloaded. These belong to this module.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)

use crate::{bindings, prelude::Arc};

use kernel::{
    error::from_result,
    ffi::{c_char, c_int, c_void},
    prelude::*,
    seq_file::SeqFile,
};

/// What a file shows and does.
pub trait File: Send + Sync + 'static {
    /// Whether it takes commands.
    const WRITABLE: bool = false;

    /// Writes the text, with [`kernel::seq_print`]. Sleeps.
    fn show(&self, to: &SeqFile);

    /// Does what was written, at most 31 bytes. Sleeps.
    fn command(&self, _text: &[u8]) -> Result {
        Err(EINVAL)
    }
}

/// What the C side calls.
trait Erased: Send + Sync {
    fn show(&self, to: &SeqFile);
    fn command(&self, text: &[u8]) -> Result;
}

impl<T: File> Erased for T {
    fn show(&self, to: &SeqFile) {
        File::show(self, to);
    }

    fn command(&self, text: &[u8]) -> Result {
        File::command(self, text)
    }
}

/// A file's data; a thin pointer to it is what C knows.
struct Data {
    /// The first field: how to get from the pointer to us.
    calls: bindings::xenbus_debug_calls,
    file: KBox<dyn Erased>,
}

/// A directory. Dropping it removes it, with all that is in it, and waits for whoever reads there;
/// sleeps.
///
/// Debugfs is nothing that anybody depends on: what cannot be made is not there.
pub struct Dir {
    /// May be an error, which C takes as well.
    dentry: *mut kernel::bindings::dentry,
    files: KVec<KBox<Data>>,
    /// Where it is; that is not to go before.
    _parent: Option<Arc<Dir>>,
}

// SAFETY: A dentry may be used from any thread.
unsafe impl Send for Dir {}

// SAFETY: As above; a shared reference offers but `subdir`.
unsafe impl Sync for Dir {}

impl Dir {
    /// A directory at the top. Sleeps.
    pub fn new(name: &CStr) -> Self {
        Self::within(name, None)
    }

    /// A directory in this one, which stays as long. Sleeps.
    pub fn subdir(self: &Arc<Self>, name: &CStr) -> Self {
        Self::within(name, Some(self.clone()))
    }

    fn within(name: &CStr, parent: Option<Arc<Dir>>) -> Self {
        let within = parent
            .as_ref()
            .map_or(core::ptr::null_mut(), |dir| dir.dentry);
        Dir {
            // SAFETY: The name is a C string; the parent one that we hold, an error, or NULL.
            dentry: unsafe { kernel::bindings::debugfs_create_dir(name.as_char_ptr(), within) },
            files: KVec::new(),
            _parent: parent,
        }
    }

    /// Adds a file, for root. Sleeps.
    pub fn add<T: File>(&mut self, name: &CStr, file: T) -> Result {
        let data = Data {
            calls: bindings::xenbus_debug_calls {
                show: Some(show),
                command: T::WRITABLE.then_some(command),
            },
            file: KBox::new(file, GFP_KERNEL)?,
        };
        self.files.reserve(1, GFP_KERNEL)?;
        let data = KBox::new(data, GFP_KERNEL)?;
        // SAFETY: The data are not moved, and there until the file has been removed.
        unsafe {
            bindings::xenbus_helper_debugfs_file(
                name.as_char_ptr(),
                self.dentry,
                (&raw const data.calls).cast_mut(),
            );
        }
        self.files.push(data, GFP_KERNEL)?;
        Ok(())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: One of ours, or an error. After this nobody uses the data.
        unsafe { bindings::xenbus_helper_debugfs_remove(self.dentry) };
    }
}

/// # Safety
///
/// `calls` is what [`Dir::add`] has made of a [`Data`] that is still there.
unsafe fn data<'a>(calls: *mut bindings::xenbus_debug_calls) -> &'a Data {
    // SAFETY: By the safety requirements.
    unsafe { &*kernel::container_of!(calls, Data, calls) }
}

unsafe extern "C" fn show(
    calls: *mut bindings::xenbus_debug_calls,
    to: *mut kernel::bindings::seq_file,
) {
    // SAFETY: Called for a file that has not been removed; the text is the caller's alone.
    let (data, to) = unsafe { (data(calls), SeqFile::from_raw(to)) };
    data.file.show(to);
}

unsafe extern "C" fn command(
    calls: *mut bindings::xenbus_debug_calls,
    text: *const c_char,
    len: usize,
) -> c_int {
    // SAFETY: Called for a file that has not been removed; the text is of so many bytes.
    let (data, text) = unsafe {
        (
            data(calls),
            core::slice::from_raw_parts(text.cast::<c_void>().cast::<u8>(), len),
        )
    };
    from_result(|| data.file.command(text).map(|()| 0))
}
