// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A page for one ring that C and Rust both use, in one thread.

use protocol::ring::Memory;
use std::cell::UnsafeCell;
use std::rc::Rc;

/// Bytes of a page.
const SIZE: usize = 4096;

#[repr(align(4096))]
struct Bytes(UnsafeCell<[u8; SIZE]>);

/// A page; clones are the same page.
#[derive(Clone)]
pub struct Page(Rc<Bytes>);

impl Page {
    /// A zeroed page.
    pub fn new() -> Self {
        Self(Rc::new(Bytes(UnsafeCell::new([0; SIZE]))))
    }

    /// Where it is.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0 .0.get().cast()
    }

    /// A copy of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        self.copy_out(0, &mut bytes);
        bytes
    }

    /// The bytes `offset..offset + len`, if they are in the page.
    fn part(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: the offset is inside of the page.
        (end <= SIZE).then(|| unsafe { self.as_ptr().add(offset) })
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory for Page {
    fn len(&self) -> usize {
        SIZE
    }

    fn load(&self, offset: usize) -> u32 {
        match self.part(offset, 4) {
            // SAFETY: `part` is 4 bytes of the page, aligned, used by this thread only.
            Some(part) => unsafe { part.cast::<u32>().read_volatile() },
            None => 0,
        }
    }

    fn store(&self, offset: usize, value: u32) {
        if let Some(part) = self.part(offset, 4) {
            // SAFETY: as for `load`.
            unsafe { part.cast::<u32>().write_volatile(value) }
        }
    }

    fn barrier(&self) {}

    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        if let Some(part) = self.part(offset, to.len()) {
            // SAFETY: `part` is as long as `to`, which is not in the page, nobody else's memory.
            unsafe { part.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) }
        }
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        if let Some(part) = self.part(offset, from.len()) {
            // SAFETY: as for `copy_out`.
            unsafe { part.copy_from_nonoverlapping(from.as_ptr(), from.len()) }
        }
    }
}
