// SPDX-License-Identifier: GPL-2.0

//! Xenstore: reads, writes and transactions. Everything here sleeps.
//!
//! A value read may have been written by the other end: it is bytes until it has been parsed.
//!
//! C header: [`include/xen/xenbus.h`](srctree/include/xen/xenbus.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::{from_err_ptr, to_result},
    fmt,
    prelude::*,
    str::CString,
};

/// Xenstore as seen from within a transaction, or from none ([`NIL`]).
pub struct Store(u32);

/// Xenstore outside any transaction.
pub const NIL: Store = Store(0);

/// A value read from xenstore; at most 4096 bytes.
///
/// # Invariants
///
/// The pointer is to `len` bytes and a NUL, which are ours to `kfree`.
pub struct Value {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: The bytes belong to the value alone.
unsafe impl Send for Value {}

// SAFETY: Only read access is offered.
unsafe impl Sync for Value {}

impl Value {
    /// The bytes as they stand in the store.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: By the type invariant.
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// The value as text.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is not UTF-8.
    pub fn to_str(&self) -> Result<&str> {
        core::str::from_utf8(self.as_bytes()).map_err(|_| EINVAL)
    }

    /// The value up to its first NUL.
    pub fn as_cstr(&self) -> &CStr {
        // SAFETY: By the type invariant there is a NUL at the end at the latest.
        unsafe { CStr::from_char_ptr(self.ptr.as_ptr().cast()) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { kernel::bindings::kfree(self.ptr.as_ptr().cast()) };
    }
}

impl Store {
    fn id(&self) -> bindings::xenbus_transaction {
        bindings::xenbus_transaction { id: self.0 }
    }

    /// Reads `dir/node`.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is no such node; what xenstored answers otherwise.
    pub fn read(&self, dir: &CStr, node: &CStr) -> Result<Value> {
        let mut len = 0;
        // SAFETY: Both are C strings.
        let ptr = from_err_ptr(unsafe {
            bindings::xenbus_read(self.id(), dir.as_char_ptr(), node.as_char_ptr(), &mut len)
        })?;
        // INVARIANT: `xenbus_read` returns `len` bytes and a NUL, allocated for its caller.
        Ok(Value {
            ptr: NonNull::new(ptr.cast()).ok_or(EIO)?,
            len: len as usize,
        })
    }

    /// Reads `dir/node`, which need not exist.
    pub fn read_opt(&self, dir: &CStr, node: &CStr) -> Result<Option<Value>> {
        match self.read(dir, node) {
            Ok(value) => Ok(Some(value)),
            Err(e) if e == ENOENT => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a decimal number from `dir/node`, which need not exist.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is something else, or a number that does not fit.
    pub fn read_number<N: core::str::FromStr>(&self, dir: &CStr, node: &CStr) -> Result<Option<N>> {
        let Some(value) = self.read_opt(dir, node)? else {
            return Ok(None);
        };
        value.to_str()?.trim().parse().map(Some).map_err(|_| EINVAL)
    }

    /// Whether `dir/node` exists.
    pub fn exists(&self, dir: &CStr, node: &CStr) -> bool {
        // SAFETY: Both are C strings.
        unsafe { bindings::xenbus_exists(self.id(), dir.as_char_ptr(), node.as_char_ptr()) != 0 }
    }

    /// Calls `f` with the name of each node in `dir`; there is none if there is no such directory.
    pub fn for_each(&self, dir: &CStr, mut f: impl FnMut(&CStr) -> Result) -> Result {
        let mut count = 0;
        // SAFETY: All are C strings.
        let list = from_err_ptr(unsafe {
            bindings::xenbus_directory(self.id(), dir.as_char_ptr(), c"".as_char_ptr(), &mut count)
        });
        let list = match list {
            Ok(list) => list,
            Err(e) if e == ENOENT => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut result = Ok(());
        for i in 0..count as usize {
            // SAFETY: The list has `count` C strings, which live until it is freed.
            let name = unsafe { CStr::from_char_ptr(*list.add(i)) };
            result = f(name);
            if result.is_err() {
                break;
            }
        }
        // SAFETY: Allocated for its caller, in one piece.
        unsafe { kernel::bindings::kfree(list.cast()) };
        result
    }

    /// Writes `dir/node`.
    pub fn write(&self, dir: &CStr, node: &CStr, value: &CStr) -> Result {
        // SAFETY: All are C strings.
        to_result(unsafe {
            bindings::xenbus_write(
                self.id(),
                dir.as_char_ptr(),
                node.as_char_ptr(),
                value.as_char_ptr(),
            )
        })
    }

    /// Writes `args` to `dir/node`, as in `store.printf(dir, c"sectors", fmt!("{n}"))`.
    pub fn printf(&self, dir: &CStr, node: &CStr, args: fmt::Arguments<'_>) -> Result {
        self.write(dir, node, &CString::try_from_fmt(args)?)
    }

    /// Removes `dir/node` and all below it.
    pub fn remove(&self, dir: &CStr, node: &CStr) -> Result {
        // SAFETY: Both are C strings.
        to_result(unsafe { bindings::xenbus_rm(self.id(), dir.as_char_ptr(), node.as_char_ptr()) })
    }
}

/// Runs `f` in a transaction: all of its writes take effect, or none.
///
/// `f` runs again when someone else has changed what it read. An error of `f` ends the transaction
/// without effect.
pub fn transaction<R>(mut f: impl FnMut(&Store) -> Result<R>) -> Result<R> {
    loop {
        let mut id = NIL.id();
        // SAFETY: The out parameter is valid.
        to_result(unsafe { bindings::xenbus_transaction_start(&mut id) })?;
        let store = Store(id.id);
        let result = f(&store);
        // SAFETY: The transaction was started above and is ended here only.
        let end = unsafe { bindings::xenbus_transaction_end(store.id(), result.is_err()) };
        match (result, to_result(end)) {
            (Err(e), _) => return Err(e),
            (Ok(value), Ok(())) => return Ok(value),
            (Ok(_), Err(e)) if e == EAGAIN => continue,
            (Ok(_), Err(e)) => return Err(e),
        }
    }
}
