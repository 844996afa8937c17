// SPDX-License-Identifier: GPL-2.0

//! The bytes of a packet, wherever they lie, part by part.

use super::{SkBuff, MAX_FRAGMENTS};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    bindings::{sk_buff, skb_shared_info},
    page::{BorrowedPage, PAGE_SIZE},
};

/// A part of a packet's bytes, which lies in one page.
pub struct Part<'a> {
    /// The page.
    pub page: BorrowedPage<'a>,
    /// Where in the page the part begins.
    pub offset: usize,
    /// Bytes of the part; not 0.
    pub len: usize,
}

/// The parts of a packet.
pub struct Parts<'a>(Cursor, PhantomData<&'a SkBuff>);

impl SkBuff {
    /// The packet's bytes, part by part, each within one page.
    #[inline]
    pub fn parts(&self) -> Parts<'_> {
        // SAFETY: Ours, and it stays as it is while it is borrowed.
        Parts(unsafe { Cursor::new(self.as_raw()) }, PhantomData)
    }

    /// How many parts it has, or a few more: the parts of a packet that is linear are not looked at.
    #[inline]
    pub fn parts_at_most(&self) -> usize {
        if self.linear_len() == self.len() {
            return (self.len() / PAGE_SIZE).wrapping_add(2);
        }
        self.parts().count()
    }
}

impl Parts<'_> {
    /// The parts of `len` bytes in a row.
    ///
    /// # Safety
    ///
    /// They lie in pages of the kernel's own mapping, and stay there while the value lives.
    #[inline]
    pub(in crate::net) unsafe fn of_bytes(data: *mut u8, len: usize) -> Self {
        let cursor = Cursor {
            first: ptr::null_mut(),
            skb: ptr::null_mut(),
            at: At::Linear(data),
            left: len,
            fragment: 0,
        };
        Parts(cursor, PhantomData)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    #[inline]
    fn next(&mut self) -> Option<Part<'a>> {
        // SAFETY: The packet is borrowed, and so as it was.
        let (page, offset, len) = unsafe { self.0.take(PAGE_SIZE)? };
        // SAFETY: The packet's, while it is borrowed.
        let page = unsafe { BorrowedPage::from_raw(page) };
        Some(Part { page, offset, len })
    }
}

/// A place in a packet: its linear part, its fragments, and those of packets in its list.
pub(in crate::net) struct Cursor {
    first: *mut sk_buff,
    /// The packet, of `first` and of those in its list, that it is in; NULL at the end.
    skb: *mut sk_buff,
    /// What is left of the part that it is in; a part of a packet lies in a row in the memory, or,
    /// if it is a fragment, in pages in a row.
    at: At,
    left: usize,
    /// The next fragment of `skb`.
    fragment: usize,
}

enum At {
    Linear(*mut u8),
    Fragment(*mut kernel::bindings::page, usize),
}

impl Cursor {
    /// The beginning of `skb`.
    ///
    /// # Safety
    ///
    /// The packet is there.
    #[inline]
    pub(in crate::net) unsafe fn new(skb: *mut sk_buff) -> Self {
        let mut cursor = Cursor {
            first: skb,
            skb,
            at: At::Linear(ptr::null_mut()),
            left: 0,
            fragment: 0,
        };
        // SAFETY: By the safety requirements.
        unsafe { cursor.enter(skb) };
        cursor
    }

    /// # Safety
    ///
    /// `skb` is NULL or a packet of ours.
    #[inline]
    unsafe fn enter(&mut self, skb: *mut sk_buff) {
        self.skb = skb;
        self.fragment = 0;
        self.left = 0;
        if !skb.is_null() {
            // SAFETY: By the safety requirements.
            unsafe {
                self.at = At::Linear((*skb).data);
                self.left = (*skb).len.wrapping_sub((*skb).data_len) as usize;
            }
        }
    }

    /// Goes on to a part of which something is left; false: this is the end.
    ///
    /// # Safety
    ///
    /// The packet is as it was.
    #[inline]
    unsafe fn settle(&mut self) -> bool {
        while self.left == 0 {
            if self.skb.is_null() {
                return false;
            }
            // SAFETY: By the safety requirements, a packet of ours.
            unsafe {
                let info = shared_info(self.skb);
                let count = usize::from((*info).nr_frags).min(MAX_FRAGMENTS);
                if self.fragment < count {
                    let frag = (&raw const (*info).frags)
                        .cast::<kernel::bindings::skb_frag>()
                        .add(self.fragment);
                    self.fragment += 1;
                    // The lowest bit is set of memory that is no page. The stack gives such only to
                    // a device that says that it can do with it.
                    let page = (*frag).netmem & !1;
                    self.at =
                        At::Fragment(page as *mut kernel::bindings::page, (*frag).offset as usize);
                    self.left = (*frag).len as usize;
                } else if self.skb == self.first {
                    self.enter((*info).frag_list);
                } else {
                    let next = (*self.skb).__bindgen_anon_1.__bindgen_anon_1.next;
                    self.enter(next);
                }
            }
        }
        true
    }

    /// Takes at most `most` bytes (not 0) that lie in one page: the page, the offset, the length.
    ///
    /// # Safety
    ///
    /// The packet is as it was.
    #[inline]
    pub(in crate::net) unsafe fn take(
        &mut self,
        most: usize,
    ) -> Option<(NonNull<kernel::bindings::page>, usize, usize)> {
        // SAFETY: By the safety requirements.
        if !unsafe { self.settle() } {
            return None;
        }
        let (page, offset) = match self.at {
            At::Linear(data) => {
                // SAFETY: The linear part is in the kernel's own mapping.
                let page = unsafe { bindings::net_helper_virt_to_page(data.cast_const().cast()) };
                (page, data.addr() % PAGE_SIZE)
            }
            At::Fragment(page, offset) => {
                // SAFETY: A fragment's pages are in a row.
                let page = unsafe { page.add(offset / PAGE_SIZE) };
                (page, offset % PAGE_SIZE)
            }
        };
        let len = self.left.min(PAGE_SIZE.wrapping_sub(offset)).min(most);
        self.left = self.left.wrapping_sub(len);
        match &mut self.at {
            At::Linear(data) => *data = data.wrapping_add(len),
            At::Fragment(_, offset) => *offset = offset.wrapping_add(len),
        }
        Some((NonNull::new(page)?, offset, len))
    }
}

/// # Safety
///
/// The packet is there.
#[inline]
pub(super) unsafe fn shared_info(skb: *mut sk_buff) -> *mut skb_shared_info {
    // SAFETY: By the safety requirements; it lies at the end of the linear part's memory.
    unsafe { (*skb).head.add((*skb).end as usize).cast() }
}
