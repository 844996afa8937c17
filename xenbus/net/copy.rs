// SPDX-License-Identifier: GPL-2.0

//! Packets made of granted pages, and packets copied into granted pages: the copies of many packets
//! are done by Xen in one hypercall.
//!
//! C header: [`include/xen/grant_table.h`](srctree/include/xen/grant_table.h)

use super::{
    pool::PagePool,
    skb::{Cursor, SkBuff, SkBuffMut, MAX_FRAGMENTS},
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    page::{Page, PAGE_SIZE},
    prelude::*,
};

/// Operations that are done in one hypercall.
struct Ops(KVec<bindings::gnttab_copy>);

// SAFETY: Plain values.
unsafe impl Send for Ops {}

impl Ops {
    fn new(capacity: usize) -> Result<Self> {
        Ok(Ops(KVec::with_capacity(capacity, GFP_KERNEL)?))
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.0.len() < self.0.capacity()
    }

    #[inline]
    fn next(&mut self) -> Option<&mut bindings::gnttab_copy> {
        self.0
            .push_within_capacity(bindings::gnttab_copy::default())
            .ok()?;
        self.0.last_mut()
    }

    /// # Safety
    ///
    /// The local memory that the operations name is ours until this returns.
    #[inline]
    unsafe fn run(&mut self) {
        if !self.0.is_empty() {
            // SAFETY: The operations are set; the frames behind references are Xen's to check.
            unsafe {
                bindings::net_helper_copy(self.0.as_mut_ptr(), self.0.len() as kernel::ffi::c_uint)
            };
        }
    }

    /// Whether all of the operations from `first` to before `end` have been done.
    #[inline]
    fn are_okay(&self, first: usize, end: usize) -> bool {
        self.0
            .get(first..end)
            .is_some_and(|ops| ops.iter().all(is_okay))
    }
}

#[inline]
fn is_okay(op: &bindings::gnttab_copy) -> bool {
    op.status == bindings::GNTST_okay as i16
}

/// Packets that are made of granted pages of another domain.
///
/// A packet is [begun](Self::begin), [added to](Self::add) until it is complete, and the next one
/// begun; then [`Self::run`] copies for all of them.
pub struct Fill<T> {
    domid: u16,
    pool: PagePool,
    ops: Ops,
    packets: KVec<Filling<T>>,
    /// Where the next byte of the last packet goes to.
    to: *mut u8,
    /// Bytes that there are from there on.
    room: usize,
    /// Bytes of the last packet for which there is no memory yet.
    rest: usize,
}

struct Filling<T> {
    skb: SkBuff,
    tag: T,
    /// Its first operation.
    first: usize,
    /// Nothing is known to be wrong with it.
    okay: bool,
}

// SAFETY: The pointer is into the last packet, which is ours.
unsafe impl<T: Send> Send for Fill<T> {}

impl<T> Fill<T> {
    /// For packets of domain `domid`, at most `packets` at a time, made by at most `copies` copies,
    /// of pages of `pool`. Sleeps.
    pub fn new(domid: u16, pool: PagePool, packets: usize, copies: usize) -> Result<Self> {
        Ok(Fill {
            domid,
            pool,
            ops: Ops::new(copies)?,
            packets: KVec::with_capacity(packets, GFP_KERNEL)?,
            to: core::ptr::null_mut(),
            room: 0,
            rest: 0,
        })
    }

    /// How many packets have been begun.
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether none has been begun.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Begins a packet of `len` bytes, of which the first `linear` are to be its linear part. With soft
    /// interrupts off.
    ///
    /// # Errors
    ///
    /// The tag, when memory is short or there are too many packets, or when that is more than a packet
    /// can hold.
    pub fn begin(&mut self, len: usize, linear: usize, tag: T) -> core::result::Result<(), T> {
        self.seal();
        let linear = linear.min(len);
        let rest = len.wrapping_sub(linear);
        if self.packets.len() == self.packets.capacity() || rest > MAX_FRAGMENTS * PAGE_SIZE {
            return Err(tag);
        }
        let Some(skb) = SkBuff::new_unset(linear) else {
            return Err(tag);
        };
        // SAFETY: The packet is there.
        self.to = unsafe { (*skb.as_raw()).data };
        self.room = linear;
        self.rest = rest;
        let first = self.ops.0.len();
        // There is room.
        let _ = self.packets.push_within_capacity(Filling {
            skb,
            tag,
            first,
            okay: true,
        });
        Ok(())
    }

    /// The packet that was begun last, for what is known of it. Its data are not there yet.
    pub fn last(&mut self) -> Option<SkBuffMut<'_>> {
        let packet = self.packets.last_mut()?;
        Some(SkBuffMut::new(&mut packet.skb))
    }

    /// The next `len` bytes of the packet are those at `offset` of the page that `gref` stands for.
    ///
    /// # Errors
    ///
    /// `EINVAL` when they cross the end of their page, or that of the packet; `ENOMEM` when memory is
    /// short or there are too many copies. The packet is to be [abandoned](Self::abandon) then.
    pub fn add(&mut self, gref: u32, offset: u16, len: u16) -> Result {
        if usize::from(offset).wrapping_add(usize::from(len)) > PAGE_SIZE {
            return Err(EINVAL);
        }
        let (mut offset, mut len) = (offset, len);
        while len > 0 {
            if self.room == 0 {
                self.more()?;
            }
            let in_page = PAGE_SIZE.wrapping_sub(self.to.addr() % PAGE_SIZE);
            let now = usize::from(len).min(self.room).min(in_page);
            let op = self.ops.next().ok_or(ENOMEM)?;
            // SAFETY: There are as many bytes, which are ours, in one page.
            unsafe {
                bindings::net_helper_copy_from(
                    op,
                    self.domid,
                    gref,
                    offset,
                    self.to.cast(),
                    now as u16,
                )
            };
            self.to = self.to.wrapping_add(now);
            self.room = self.room.wrapping_sub(now);
            offset = offset.wrapping_add(now as u16);
            len = len.wrapping_sub(now as u16);
        }
        Ok(())
    }

    /// Nobody is to see a packet of which bytes are missing.
    fn seal(&mut self) {
        if self.room > 0 || self.rest > 0 {
            if let Some(packet) = self.packets.last_mut() {
                packet.okay = false;
            }
        }
        (self.room, self.rest) = (0, 0);
    }

    /// Another page for the packet.
    fn more(&mut self) -> Result {
        let len = self.rest.min(PAGE_SIZE);
        if len == 0 {
            return Err(EINVAL);
        }
        let packet = self.packets.last_mut().ok_or(EINVAL)?;
        let page = self.pool.alloc().ok_or(ENOMEM)?;
        // SAFETY: Pages of a pool are not in high memory.
        let to = unsafe { bindings::xenbus_helper_page_address(page.as_raw()) };
        packet.skb.add_pool_page(page, 0, len).map_err(|_| ENOSPC)?;
        self.to = to.cast();
        self.room = len;
        self.rest = self.rest.wrapping_sub(len);
        Ok(())
    }

    /// Drops the packet that was begun last, whatever of it has been added, and gives its tag back.
    pub fn abandon(&mut self) -> Option<T> {
        let Filling {
            skb, tag, first, ..
        } = self.packets.pop()?;
        self.ops.0.truncate(first);
        (self.room, self.rest) = (0, 0);
        drop(skb);
        Some(tag)
    }

    /// Does the copies, and hands out all packets in their order, `None` in the place of those whose
    /// copies have failed or that are not complete.
    pub fn run(&mut self, mut each: impl FnMut(T, Option<SkBuff>)) {
        self.seal();
        // SAFETY: The copies are to packets that are ours.
        unsafe { self.ops.run() };
        let mut end = self.ops.0.len();
        for packet in self.packets.iter_mut().rev() {
            packet.okay &= self.ops.are_okay(packet.first, end);
            end = packet.first;
        }
        self.ops.0.clear();
        for Filling { skb, tag, okay, .. } in self.packets.drain_all() {
            each(tag, if okay { Some(skb) } else { None });
        }
    }
}

/// Packets that are copied into granted pages of another domain.
///
/// A packet is [begun](Self::begin), and its bytes [put](Self::put) into pages until there are no
/// more; then the next. [`Self::run`] copies for all of them.
pub struct Drain {
    domid: u16,
    ops: Ops,
    /// The slot that each operation belongs to.
    slots: KVec<u32>,
    /// Those that the copies are of; no small ones.
    packets: KVec<SkBuff>,
    small: SmallPackets,
    /// Where the next byte of the last packet is.
    source: Source,
    left: usize,
}

/// Has `op` copy the next bytes of a packet, at most `most`; says how many.
///
/// # Safety
///
/// The packet is as it was when the cursor was made.
// Not one with what copies small packets, which would have to save as many registers.
#[inline(never)]
unsafe fn copy_of(
    op: &mut bindings::gnttab_copy,
    cursor: &mut Cursor,
    most: usize,
) -> Option<usize> {
    // SAFETY: As for this function.
    let (page, from, len) = unsafe { cursor.take(most)? };
    // SAFETY: The page is the packet's.
    unsafe { bindings::net_helper_copy_of(op, page.as_ptr(), from as u16) };
    Some(len)
}

enum Source {
    None,
    Small(Small),
    Packet(Cursor),
}

// SAFETY: The pointers are into the last packet, which is ours, and to our pages.
unsafe impl Send for Drain {}

/// Packets of at most so many bytes are copied into memory of our own first.
///
/// It is sooner done than Xen finds a packet's page and takes a reference to it, for each part that the
/// packet has, which it needs not do anew for copies in a row that are from one page.
const COPYBREAK: usize = 256;

/// Pages of that memory: for as many packets as most users have copied in one go.
const SMALL_PAGES: usize = 2;

/// Small packets that wait for Xen to copy them.
struct SmallPackets {
    pages: [SmallPage; SMALL_PAGES],
    /// Bytes that are in use, from the start of the first page on.
    used: usize,
}

struct SmallPage {
    _page: Page,
    address: NonNull<u8>,
    gfn: usize,
}

/// A packet there.
struct Small {
    gfn: usize,
    offset: u16,
}

impl SmallPackets {
    /// Sleeps.
    fn new() -> Result<Self> {
        let page = || {
            let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
            // SAFETY: The page is there, and not in high memory.
            let (address, gfn) = unsafe {
                (
                    bindings::xenbus_helper_page_address(page.as_ptr()),
                    bindings::xenbus_helper_page_to_gfn(page.as_ptr()),
                )
            };
            Ok::<_, Error>(SmallPage {
                address: NonNull::new(address.cast()).ok_or(ENOMEM)?,
                gfn,
                _page: page,
            })
        };
        Ok(SmallPackets {
            pages: [page()?, page()?],
            used: 0,
        })
    }

    /// Copies a packet. `None`: it is no small one, or there is no room.
    #[inline]
    fn copy(&mut self, skb: &SkBuff) -> Option<Small> {
        let len = skb.len();
        if len > COPYBREAK {
            return None;
        }
        let in_page = PAGE_SIZE.wrapping_sub(self.used % PAGE_SIZE);
        let skip = if len > in_page { in_page } else { 0 };
        let at = self.used.wrapping_add(skip);
        let page = self.pages.get(at / PAGE_SIZE)?;
        let offset = at % PAGE_SIZE;
        // SAFETY: There are as many bytes in the page, which is ours, and was zeroed.
        let to = unsafe { core::slice::from_raw_parts_mut(page.address.as_ptr().add(offset), len) };
        if skb.copy_start(to) != len {
            return None;
        }
        self.used = at.wrapping_add(len);
        Some(Small {
            gfn: page.gfn,
            offset: offset as u16,
        })
    }
}

impl Drain {
    /// For pages of domain `domid`; at most `packets` at a time, by `copies` copies. Sleeps.
    pub fn new(domid: u16, packets: usize, copies: usize) -> Result<Self> {
        Ok(Drain {
            domid,
            ops: Ops::new(copies)?,
            slots: KVec::with_capacity(copies, GFP_KERNEL)?,
            packets: KVec::with_capacity(packets, GFP_KERNEL)?,
            small: SmallPackets::new()?,
            source: Source::None,
            left: 0,
        })
    }

    /// Whether there is room for another packet that needs at most `copies` copies.
    #[inline]
    pub fn has_room(&self, copies: usize) -> bool {
        self.packets.len() < self.packets.capacity()
            && self.ops.0.len().saturating_add(copies) <= self.ops.0.capacity()
    }

    /// Begins a packet.
    ///
    /// # Errors
    ///
    /// The packet, when there are too many.
    pub fn begin(&mut self, skb: SkBuff) -> core::result::Result<(), SkBuff> {
        self.left = skb.len();
        if let Some(small) = self.small.copy(&skb) {
            self.source = Source::Small(small);
            skb.consume();
            return Ok(());
        }
        // SAFETY: The packet is there, and stays as it is until `run`: it is kept until then.
        self.source = Source::Packet(unsafe { Cursor::new(skb.as_raw()) });
        let kept = self.packets.push_within_capacity(skb);
        kept.map_err(|full| {
            self.source = Source::None;
            full.0
        })
    }

    /// Puts the next bytes of the packet, as many as there are, at `offset` and what follows of the
    /// page that `gref` stands for; says how many. `slot` is what [`Self::run`] calls it.
    #[inline]
    pub fn put(&mut self, gref: u32, offset: u16, slot: u32) -> usize {
        let mut at = usize::from(offset);
        while at < PAGE_SIZE && self.left > 0 {
            let Some(len) = self.put_part(gref, at as u16, slot) else {
                break;
            };
            at = at.wrapping_add(len);
            self.left = self.left.wrapping_sub(len);
        }
        at.wrapping_sub(usize::from(offset))
    }

    /// Puts as many of the next bytes, of which there is one, as lie in one page. `offset` is less than
    /// that of its end. `None`: there is no room, or the packet is shorter than it has said.
    fn put_part(&mut self, gref: u32, offset: u16, slot: u32) -> Option<usize> {
        if !self.ops.has_room() {
            return None;
        }
        let mut op = bindings::gnttab_copy::default();
        op.dest.u.ref_ = gref;
        op.dest.domid = self.domid;
        op.dest.offset = offset;
        op.flags = bindings::GNTCOPY_dest_gref as u16;
        let most = self.left.min(PAGE_SIZE.wrapping_sub(usize::from(offset)));
        let len = match &mut self.source {
            Source::None => return None,
            Source::Small(small) => {
                op.source.u.gmfn = small.gfn;
                op.source.domid = bindings::DOMID_SELF as u16;
                op.source.offset = small.offset;
                small.offset = small.offset.wrapping_add(most as u16);
                most
            }
            // SAFETY: The packet is as it was.
            Source::Packet(cursor) => unsafe { copy_of(&mut op, cursor, most)? },
        };
        op.len = len as u16;
        // There is room for as many.
        let _ = self.ops.0.push_within_capacity(op);
        let _ = self.slots.push_within_capacity(slot);
        Some(len)
    }

    /// Does the copies and frees the packets, after `failed` has been told of the slots of those that
    /// have failed.
    pub fn run(&mut self, mut failed: impl FnMut(u32)) {
        // SAFETY: The copies are from packets that are ours; those that lie in pages of other domains
        // name them by their references.
        unsafe { self.ops.run() };
        for (op, slot) in self.ops.0.iter().zip(self.slots.iter()) {
            if !is_okay(op) {
                failed(*slot);
            }
        }
        self.ops.0.clear();
        self.slots.clear();
        self.small.used = 0;
        self.source = Source::None;
        for skb in self.packets.drain_all() {
            skb.consume();
        }
    }
}
