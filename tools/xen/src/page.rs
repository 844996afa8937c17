// SPDX-License-Identifier: GPL-2.0
//! Shared memory: pages that another domain may change at any time.
//!
//! There is never a reference into them. Words are reached by atomic loads and stores, everything
//! else is copied byte by byte, once.

use std::sync::atomic::{fence, AtomicU32, Ordering};

use crate::sys::Area;
use crate::PAGE_SIZE;

/// A run of mapped pages. Clones nothing, owns the mapping.
#[derive(Debug)]
pub struct Pages {
    area: Area,
    writable: bool,
}

impl Pages {
    pub(crate) fn new(area: Area, writable: bool) -> Self {
        Pages { area, writable }
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.area.pages()
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> usize {
        self.area.len()
    }

    /// The word at byte `offset`, or `None` where `offset` is past the end or not a multiple of 4.
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        if offset % 4 != 0 || offset >= self.bytes() {
            return None;
        }
        // SAFETY: in range by the test above (the length is a multiple of 4), aligned as the base
        // is a page's, alive as long as `self`. The peer's accesses are outside this process.
        Some(unsafe { AtomicU32::from_ptr(self.area.base().as_ptr().add(offset).cast()) })
    }

    /// Reads the word at byte `offset`, with acquire ordering. 0 where there is none.
    pub fn load(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, |w| w.load(Ordering::Acquire))
    }

    /// Writes the word at byte `offset`, with release ordering. Without effect where there is
    /// none, or where the pages are mapped read-only.
    pub fn store(&self, offset: usize, value: u32) {
        if let (true, Some(w)) = (self.writable, self.word(offset)) {
            w.store(value, Ordering::Release);
        }
    }

    /// A full barrier between what was accessed before and what is accessed after.
    pub fn barrier(&self) {
        fence(Ordering::SeqCst);
    }

    /// The part of `len` bytes at `offset` that lies within the pages.
    fn clamp(&self, offset: usize, len: usize) -> usize {
        self.bytes().saturating_sub(offset).min(len)
    }

    /// Copies bytes at `offset` into `to`. Bytes past the end are left as they are.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let len = self.clamp(offset, to.len());
        for (i, b) in to[..len].iter_mut().enumerate() {
            // SAFETY: `clamp` keeps `offset + i` within the mapping. Volatile, because the peer
            // writes it: each byte is read once.
            *b = unsafe { self.area.base().as_ptr().add(offset + i).read_volatile() };
        }
    }

    /// Copies `from` to `offset`. What lies past the end is left out; read-only pages stay as
    /// they are.
    pub fn write(&self, offset: usize, from: &[u8]) {
        if !self.writable {
            return;
        }
        let len = self.clamp(offset, from.len());
        for (i, b) in from[..len].iter().enumerate() {
            // SAFETY: as in `read`; `writable` says that the mapping may be written.
            unsafe { self.area.base().as_ptr().add(offset + i).write_volatile(*b) };
        }
    }

    /// Fills page `page` with zeros.
    pub fn clear(&self, page: usize) {
        self.write(page * PAGE_SIZE, &[0; PAGE_SIZE]);
    }
}

/// So that a ring of the `protocol` crate can live in them.
impl protocol::ring::Memory for Pages {
    fn len(&self) -> usize {
        self.bytes()
    }
    fn load(&self, offset: usize) -> u32 {
        Pages::load(self, offset)
    }
    fn store(&self, offset: usize, value: u32) {
        Pages::store(self, offset, value)
    }
    fn barrier(&self) {
        Pages::barrier(self)
    }
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        if self.clamp(offset, to.len()) == to.len() {
            self.read(offset, to)
        }
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        if self.clamp(offset, from.len()) == from.len() {
            self.write(offset, from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(writable: bool) -> Pages {
        let path = std::env::temp_dir().join(format!(
            "xen-page-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, [1u8; PAGE_SIZE]).unwrap();
        let file = crate::sys::open(path.to_str().unwrap()).unwrap();
        std::fs::remove_file(path).unwrap();
        Pages::new(Area::map(&file, 0, 1, writable).unwrap(), writable)
    }

    #[test]
    fn words_and_bytes_stay_inside() {
        let p = pages(true);
        p.store(4092, 0x01020304);
        assert_eq!(p.load(4092), 0x01020304);
        assert_eq!((p.load(4096), p.load(3), p.load(usize::MAX)), (0, 0, 0));
        p.store(4096, 5);
        p.write(4094, &[9, 9, 9, 9]);
        let mut b = [0; 4];
        p.read(4092, &mut b);
        assert_eq!(b, [4, 3, 9, 9]);
        p.read(9000, &mut b);
        assert_eq!(b, [4, 3, 9, 9]);
    }

    #[test]
    fn a_ring_lives_in_them() {
        use protocol::ring::Memory;
        let p = pages(true);
        let mut b = [9; 4];
        // An access that is partly outside does nothing.
        p.copy_out(4094, &mut b);
        p.copy_in(4094, &[7; 4]);
        assert_eq!(b, [9; 4]);
        p.copy_out(4092, &mut b);
        assert_eq!((b, Memory::len(&p)), ([1; 4], PAGE_SIZE));
    }

    #[test]
    fn read_only_pages_are_not_written() {
        let p = pages(false);
        p.store(0, 5);
        p.write(0, &[5; 8]);
        assert_eq!(p.load(0), 0x01010101);
    }
}
