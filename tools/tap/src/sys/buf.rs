// SPDX-License-Identifier: GPL-2.0
//! [`Buf`]: memory for data.

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};
use std::ptr::NonNull;
use std::rc::Rc;

/// Memory on the heap starts at a multiple of so many bytes, which is what `O_DIRECT` wants.
pub const ALIGN: usize = 4096;

/// Memory of a size that is kept for the next [`Buf`] is at most so large.
const POOLED: usize = 1 << 20;

/// So many pieces of each size are kept.
const KEPT: usize = 32;

thread_local! {
    /// Free memory, by the logarithm of its size, from [`ALIGN`] to [`POOLED`].
    static POOL: RefCell<[Vec<NonNull<u8>>; 9]> = const { RefCell::new([const { Vec::new() }; 9]) };
}

/// Something that memory of a [`Buf`] can be a piece of.
///
/// # Safety
/// The bytes from `start` on, as many as it has, can be read and written for as long as the value
/// lives, are initialised, and no reference to any of them exists but those that `Buf` hands out.
pub(crate) unsafe trait Owner {
    fn start(&self) -> NonNull<u8>;
}

struct Heap {
    start: NonNull<u8>,
    layout: Layout,
}

impl Heap {
    /// The pool's list for memory of `size` bytes.
    fn class(size: usize) -> Option<usize> {
        (size <= POOLED).then(|| (size / ALIGN).trailing_zeros() as usize)
    }

    fn new(len: usize) -> Self {
        let size = match len {
            0..=POOLED => len.next_power_of_two().max(ALIGN),
            _ => len.next_multiple_of(ALIGN),
        };
        let layout = Layout::from_size_align(size, ALIGN).expect("a length in bytes");
        let kept = Self::class(size)
            .and_then(|class| POOL.try_with(|pool| pool.borrow_mut()[class].pop()).ok()?);
        // SAFETY: the layout's size is not 0.
        let start = kept.or_else(|| NonNull::new(unsafe { alloc::alloc_zeroed(layout) }));
        let Some(start) = start else {
            alloc::handle_alloc_error(layout)
        };
        Self { start, layout }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let keep = |class: usize| {
            POOL.try_with(|pool| {
                let list = &mut pool.borrow_mut()[class];
                let room = list.len() < KEPT;
                if room {
                    list.push(self.start);
                }
                room
            })
            .unwrap_or(false)
        };
        if !Self::class(self.layout.size()).is_some_and(keep) {
            // SAFETY: allocated with this layout, and in nobody's hands.
            unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

// SAFETY: its own allocation, zeroed at first.
unsafe impl Owner for Heap {
    fn start(&self) -> NonNull<u8> {
        self.start
    }
}

/// Memory for the data of a request: a `[u8]`, on the heap or in the window of a tap.
///
/// On the heap it is aligned for `O_DIRECT`. Operations of the kernel that fill a `Buf` take it
/// away while they run, so that it can be given up at any time: whoever drops the future of a read
/// finds the `Buf` empty. After a read that has failed its content, too, is of no use.
///
/// Parts are had as from a slice, [`part`](Self::part) to read and [`part_mut`](Self::part_mut) to
/// write; [`split_off`](Self::split_off) gives two that can be filled at the same time.
///
/// ```
/// # use tap::Buf;
/// let mut buf = Buf::zeroed(1024);
/// buf.part_mut(512..).fill(7);
/// let mut tail = buf.split_off(512);
/// tail[0] += 1;
/// buf.unsplit(tail);
/// assert_eq!((buf[511], buf[512], buf[513]), (0, 8, 7));
/// ```
#[derive(Default)]
pub struct Buf {
    // INVARIANT: `start + len` is not behind the owner's end, and nobody else's `Buf` with the same
    // owner has a byte in common with this one, but those that a borrow of it stands for.
    owner: Option<Rc<dyn Owner>>,
    start: usize,
    len: usize,
}

impl Buf {
    /// Memory on the heap. What is in it is not specified.
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self::default();
        }
        Self {
            owner: Some(Rc::new(Heap::new(len))),
            start: 0,
            len,
        }
    }

    /// Memory on the heap, of zeroes.
    pub fn zeroed(len: usize) -> Self {
        let mut buf = Self::new(len);
        buf.fill(0);
        buf
    }

    /// A copy, on the heap.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::new(bytes.len());
        buf.copy_from_slice(bytes);
        buf
    }

    /// A piece of `owner`.
    ///
    /// # Safety
    /// The piece is inside of it, and no other `Buf` has a byte of it.
    pub(crate) unsafe fn of(owner: Rc<dyn Owner>, start: usize, len: usize) -> Self {
        Self {
            owner: Some(owner),
            start,
            len,
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// As that of a slice; here so that `buf.copy_from_slice(&bytes[..buf.len()])` is possible.
    ///
    /// # Panics
    /// If `from` has not as many bytes.
    pub fn copy_from_slice(&mut self, from: &[u8]) {
        self[..].copy_from_slice(from);
    }

    /// The bytes in `range`, to be read.
    ///
    /// # Panics
    /// If they are not all in it.
    pub fn part(&self, range: impl RangeBounds<usize>) -> Part<'_> {
        Part {
            part: self.sub(range),
            _whole: self,
        }
    }

    /// The bytes in `range`, to be written, or filled by a read.
    ///
    /// # Panics
    /// If they are not all in it.
    pub fn part_mut(&mut self, range: impl RangeBounds<usize>) -> PartMut<'_> {
        let part = self.sub(range);
        let (start, len) = (part.start, part.len);
        PartMut {
            part,
            start,
            len,
            hidden: mem::take(self),
            whole: self,
        }
    }

    /// Cuts off what is behind the first `at` bytes.
    ///
    /// # Panics
    /// If it has fewer.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let tail = self.sub(at..);
        self.len = at;
        tail
    }

    /// Puts back what [`split_off`](Self::split_off) has cut off.
    ///
    /// # Panics
    /// If it was not this.
    pub fn unsplit(&mut self, tail: Self) {
        if tail.len == 0 {
            return;
        }
        if self.len == 0 {
            *self = tail;
            return;
        }
        assert!(
            self.same_owner(&tail) && self.start + self.len == tail.start,
            "not the tail of this one"
        );
        self.len += tail.len;
    }

    /// Its first bytes only. They can be had back by nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Whether it and `other` are the same bytes in memory.
    pub fn is_same(&self, other: &Buf) -> bool {
        self.same_owner(other) && (self.start, self.len) == (other.start, other.len)
    }

    fn same_owner(&self, other: &Buf) -> bool {
        match (&self.owner, &other.owner) {
            (Some(one), Some(other)) => std::ptr::addr_eq(Rc::as_ptr(one), Rc::as_ptr(other)),
            _ => false,
        }
    }

    /// Another one for the same bytes, which the caller hides from its own caller.
    fn sub(&self, range: impl RangeBounds<usize>) -> Self {
        let first = match range.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len,
        };
        assert!(
            first <= end && end <= self.len,
            "part {first}..{end} of a Buf of {} bytes",
            self.len
        );
        Self {
            owner: self.owner.clone(),
            start: self.start + first,
            len: end - first,
        }
    }

    /// What keeps the bytes where they are while the kernel reads them.
    pub(crate) fn share(&self) -> Shared {
        Shared(self.sub(..))
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.as_ptr_()
    }

    fn as_ptr_(&self) -> *mut u8 {
        match &self.owner {
            // SAFETY: by the invariant it is inside the owner's memory, or right behind.
            Some(owner) => unsafe { owner.start().add(self.start) }.as_ptr(),
            None => NonNull::dangling().as_ptr(),
        }
    }

    /// Where it is in memory that starts at `base` and has `len` bytes.
    pub(crate) fn offset_in(&self, base: NonNull<u8>, len: usize) -> Option<usize> {
        let offset = (self.as_ptr_() as usize).checked_sub(base.as_ptr() as usize)?;
        (offset.checked_add(self.len)? <= len).then_some(offset)
    }
}

impl Deref for Buf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: valid and initialised by the trait `Owner`; nobody writes while `self` is
        // borrowed: other `Buf`s have other bytes, and the kernel, before it fills them, takes it
        // away.
        unsafe { std::slice::from_raw_parts(self.as_ptr_(), self.len) }
    }
}

impl DerefMut for Buf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and nobody else has a reference: `self` is borrowed mutably. The
        // kernel may still read it for a write whose future was dropped, which does no harm here.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr_(), self.len) }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len)
    }
}

/// A part of a [`Buf`], from [`Buf::part`]: another one that can be read.
pub struct Part<'a> {
    part: Buf,
    _whole: &'a Buf,
}

impl Deref for Part<'_> {
    type Target = Buf;

    fn deref(&self) -> &Buf {
        &self.part
    }
}

/// A part of a [`Buf`], from [`Buf::part_mut`]: another one that can be written.
pub struct PartMut<'a> {
    part: Buf,
    start: usize,
    len: usize,
    /// All of it, for the time after: `whole` is empty until then, so that it cannot be reached
    /// even if this value is forgotten.
    hidden: Buf,
    whole: &'a mut Buf,
}

impl Deref for PartMut<'_> {
    type Target = Buf;

    fn deref(&self) -> &Buf {
        &self.part
    }
}

impl DerefMut for PartMut<'_> {
    fn deref_mut(&mut self) -> &mut Buf {
        &mut self.part
    }
}

impl Drop for PartMut<'_> {
    fn drop(&mut self) {
        // If an operation still has it, or somebody put another one in its place, then its bytes
        // are not ours any more, and the whole is lost.
        let here = (self.part.start, self.part.len) == (self.start, self.len);
        if self.len == 0 || here && self.part.same_owner(&self.hidden) {
            *self.whole = mem::take(&mut self.hidden);
        }
    }
}

/// Bytes that the kernel reads, wherever their [`Buf`] is meanwhile.
pub(crate) struct Shared(Buf);

impl Shared {
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr_()
    }
    pub(crate) fn len(&self) -> usize {
        self.0.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_same_memory() {
        let mut buf = Buf::zeroed(8192);
        assert_eq!(buf.as_ptr() as usize % ALIGN, 0);
        buf.part_mut(100..200).part_mut(50..).fill(3);
        assert_eq!(&buf[148..152], &[0, 0, 3, 3]);
        assert_eq!(buf.part(149..=150).to_vec(), [0, 3]);
        assert_eq!(buf.len(), 8192);
        let mut tail = buf.split_off(4096);
        tail.fill(9);
        assert_eq!((buf.len(), tail.len()), (4096, 4096));
        buf.unsplit(tail);
        assert_eq!((buf[4095], buf[4096]), (0, 9));
    }

    #[test]
    fn a_part_that_went_away_takes_the_whole_along() {
        let mut buf = Buf::zeroed(1024);
        let kept = mem::take(&mut *buf.part_mut(..512));
        assert_eq!((buf.len(), kept.len()), (0, 512));
        let mut buf = Buf::zeroed(1024);
        mem::forget(buf.part_mut(..512));
        assert!(buf.is_empty());
        let (mut one, mut other) = (Buf::zeroed(1024), Buf::zeroed(1024));
        mem::swap(&mut *one.part_mut(..512), &mut *other.part_mut(..512));
        assert!(one.is_empty() && other.is_empty());
    }

    #[test]
    #[should_panic(expected = "not the tail")]
    fn only_a_tail_is_put_back() {
        let mut buf = Buf::zeroed(1024);
        let tail = buf.split_off(512);
        drop(tail);
        buf.unsplit(Buf::zeroed(512));
    }

    #[test]
    #[should_panic(expected = "part 0..1025")]
    fn parts_are_inside() {
        let _ = Buf::zeroed(1024).part(..1025);
    }

    #[test]
    fn memory_is_used_again() {
        let mut buf = Buf::new(3000);
        buf.fill(1);
        let place = buf.as_ptr();
        drop(buf);
        assert_eq!(Buf::new(4096).as_ptr(), place);
    }
}
