// SPDX-License-Identifier: GPL-2.0
//! A region of a tap, mapped: two rings and the data window.

use super::buf::{Buf, Owner};
use protocol::ring::Memory;
use protocol::tap::{Request, RING_BYTES, SECTOR_SIZE};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{fence, AtomicU32, Ordering};

/// Bytes before the window.
const WINDOW: usize = 2 * RING_BYTES;

/// The mapping of a region.
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    own_taken: Cell<bool>,
}

impl Region {
    /// Maps region `index` of an attached file.
    pub(crate) fn map(file: &File, index: u32, len: u64) -> io::Result<Rc<Self>> {
        let at = u64::from(index).checked_mul(len);
        let at = at.and_then(|at| libc::off_t::try_from(at).ok());
        let len = usize::try_from(len).ok().filter(|len| *len > WINDOW);
        let (Some(at), Some(len)) = (at, len) else {
            return Err(io::Error::other("the kernel's region has an odd size"));
        };
        Self::new(len, libc::MAP_SHARED, file.as_raw_fd(), at)
    }

    /// Memory of the process's own, in place of a region.
    #[cfg(test)]
    pub(crate) fn anonymous(len: usize) -> io::Result<Rc<Self>> {
        Self::new(len, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn new(len: usize, flags: i32, fd: i32, at: libc::off_t) -> io::Result<Rc<Self>> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd, at) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Rc::new(Self {
            base,
            len,
            own_taken: Cell::new(false),
        }))
    }

    /// The ring for the guest's requests, and that for the program's.
    pub(crate) fn rings(self: &Rc<Self>) -> (Ring, Ring) {
        let ring = |start| Ring {
            region: self.clone(),
            start,
        };
        (ring(0), ring(RING_BYTES))
    }

    /// Where it is, and how long.
    pub(super) fn memory(&self) -> (*mut u8, usize) {
        (self.base.as_ptr(), self.len)
    }

    /// Bytes of the window.
    pub(crate) fn window(&self) -> usize {
        self.len - WINDOW
    }

    /// Where in the window `buf` is, in sectors, if it is there.
    pub(crate) fn sector_of(&self, buf: &Buf) -> Option<u32> {
        let offset = buf.offset_in(self.base, self.len)?.checked_sub(WINDOW)?;
        (offset % SECTOR_SIZE == 0).then_some((offset / SECTOR_SIZE) as u32)
    }

    /// `len` bytes of the window from `sector` on; `None` if they are not all in it.
    ///
    /// # Safety
    /// Nobody else has a byte of them, nor the kernel writes any, until [`Piece::is_back`].
    pub(crate) unsafe fn piece(self: &Rc<Self>, sector: u32, len: usize) -> Option<(Piece, Buf)> {
        let start = (sector as usize).checked_mul(SECTOR_SIZE)?;
        let end = start.checked_add(len)?;
        if end > self.window() {
            return None;
        }
        let piece = Rc::new(Window {
            region: self.clone(),
            start: WINDOW + start,
        });
        // SAFETY: inside, as was just seen; the rest is the caller's promise.
        let buf = unsafe { Buf::of(piece.clone(), 0, len) };
        Some((Piece(piece), buf))
    }
}

impl Region {
    /// The data of a request of the guest's, which is in the first `guest` bytes of the window.
    /// To be called once for each request.
    pub(crate) fn guests(
        self: &Rc<Self>,
        request: &Request,
        guest: usize,
        len: usize,
    ) -> Option<(Piece, Buf)> {
        let end = (request.data as usize)
            .checked_mul(SECTOR_SIZE)?
            .checked_add(len)?;
        if end > guest || len == 0 {
            return None;
        }
        // SAFETY: the kernel gives each request a part of the guest's part for itself, until it is
        // answered; the front answers when the piece is back.
        unsafe { self.piece(request.data, len) }
    }

    /// The window from byte `start` on in pieces of `len` bytes. To be called once: it is the
    /// program's own part, and each piece its memory for good.
    pub(crate) fn own(self: &Rc<Self>, start: usize, len: usize) -> Vec<Buf> {
        let mut pieces = Vec::new();
        let first = start.next_multiple_of(SECTOR_SIZE) / SECTOR_SIZE;
        if self.own_taken.replace(true) {
            return pieces;
        }
        while let Ok(sector) = u32::try_from(first + pieces.len() * len / SECTOR_SIZE) {
            // SAFETY: behind the guest's part, which the kernel has been told; handed out once, and
            // the kernel writes there when it is asked to only.
            match unsafe { self.piece(sector, len) } {
                Some((_, buf)) => pieces.push(buf),
                None => break,
            }
        }
        pieces
    }
}

/// What a kernel's end in a test does to the window.
#[cfg(test)]
impl Region {
    pub(crate) fn peek(&self, sector: u32, to: &mut [u8]) {
        let start = WINDOW + sector as usize * SECTOR_SIZE;
        assert!(start + to.len() <= self.len);
        // SAFETY: inside of the mapping, for one thread.
        unsafe {
            ptr::copy_nonoverlapping(self.base.add(start).as_ptr(), to.as_mut_ptr(), to.len())
        };
    }

    pub(crate) fn poke(&self, sector: u32, from: &[u8]) {
        let start = WINDOW + sector as usize * SECTOR_SIZE;
        assert!(start + from.len() <= self.len);
        // SAFETY: as above.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), self.base.add(start).as_ptr(), from.len())
        };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: our mapping; whoever uses it keeps the region.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

struct Window {
    region: Rc<Region>,
    start: usize,
}

// SAFETY: inside of the mapping, which the region keeps; by the promise of `Region::piece` nobody
// else has a reference. The kernel gives zeroed pages.
unsafe impl Owner for Window {
    fn start(&self) -> NonNull<u8> {
        // SAFETY: inside of the mapping.
        unsafe { self.region.base.add(self.start) }
    }
}

/// What remembers a piece of the window that was lent as a [`Buf`].
pub(crate) struct Piece(Rc<Window>);

impl Piece {
    /// Whether nobody has it any more: no `Buf`, and no operation of the kernel.
    pub(crate) fn is_back(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

/// One of the rings.
#[derive(Clone)]
pub(crate) struct Ring {
    region: Rc<Region>,
    start: usize,
}

impl Ring {
    /// The place of `len` bytes at `offset`, if they are in the ring.
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: both rings are inside of the mapping, and the bytes in the ring.
        (end <= RING_BYTES).then(|| unsafe { self.region.base.add(self.start + offset) }.as_ptr())
    }

    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let word = self.at(offset, 4).filter(|_| offset % 4 == 0)?;
        // SAFETY: inside, aligned as the mapping is, and mapped for as long as `self`; the other end
        // uses it as a word too.
        Some(unsafe { AtomicU32::from_ptr(word.cast()) })
    }
}

impl Memory for Ring {
    fn len(&self) -> usize {
        RING_BYTES
    }

    fn load(&self, offset: usize) -> u32 {
        let word = self.word(offset);
        word.map_or(0, |word| u32::from_le(word.load(Ordering::Acquire)))
    }

    fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value.to_le(), Ordering::Release);
        }
    }

    fn barrier(&self) {
        fence(Ordering::SeqCst);
    }

    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        if let Some(from) = self.at(offset, to.len()) {
            // SAFETY: inside of the ring, of which nobody has a reference; the kernel has published
            // these bytes and leaves them alone.
            unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        }
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        if let Some(to) = self.at(offset, from.len()) {
            // SAFETY: as above; they are ours to write.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        }
    }
}
