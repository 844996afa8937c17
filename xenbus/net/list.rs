// SPDX-License-Identifier: GPL-2.0

//! A queue of packets, linked by the packets themselves.

use super::skb::SkBuff;
use core::ptr::NonNull;
use kernel::bindings::sk_buff;

/// Packets in a row. Needs no memory; dropping it drops them.
///
/// # Invariants
///
/// `head` is NULL, or the first of packets that are ours, linked by `next`, of which the last is
/// `tail`, whose link is NULL.
pub struct SkbList {
    head: *mut sk_buff,
    tail: *mut sk_buff,
    len: usize,
}

// SAFETY: The packets belong to the list.
unsafe impl Send for SkbList {}

impl SkbList {
    /// With no packet.
    pub const fn new() -> Self {
        SkbList {
            head: core::ptr::null_mut(),
            tail: core::ptr::null_mut(),
            len: 0,
        }
    }

    /// How many packets there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// The first packet.
    #[inline]
    pub fn front(&self) -> Option<&SkBuff> {
        if self.head.is_null() {
            return None;
        }
        // SAFETY: `SkBuff` is a transparent pointer that is not NULL, as this one, by the type
        // invariant, is not; it is ours.
        Some(unsafe { &*(&raw const self.head).cast::<SkBuff>() })
    }

    /// Puts a packet at the end.
    #[inline]
    pub fn push(&mut self, skb: SkBuff) {
        let skb = skb.into_raw();
        // SAFETY: Both are ours.
        unsafe {
            set_next(skb, core::ptr::null_mut());
            if self.head.is_null() {
                self.head = skb;
            } else {
                set_next(self.tail, skb);
            }
        }
        self.tail = skb;
        self.len = self.len.wrapping_add(1);
    }

    /// Takes the first packet.
    #[inline]
    pub fn pop(&mut self) -> Option<SkBuff> {
        let skb = NonNull::new(self.head)?;
        // SAFETY: Ours, by the type invariant, and from here on the caller's.
        unsafe {
            self.head = next(skb.as_ptr());
            set_next(skb.as_ptr(), core::ptr::null_mut());
            self.len = self.len.wrapping_sub(1);
            Some(SkBuff::from_raw(skb))
        }
    }
}

impl Default for SkbList {
    fn default() -> Self {
        SkbList::new()
    }
}

impl Drop for SkbList {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// # Safety
///
/// The packet is ours.
#[inline]
unsafe fn next(skb: *mut sk_buff) -> *mut sk_buff {
    // SAFETY: By the safety requirements; a packet that is in no tree has a link.
    unsafe { (*skb).__bindgen_anon_1.__bindgen_anon_1.next }
}

/// # Safety
///
/// The packet is ours.
#[inline]
unsafe fn set_next(skb: *mut sk_buff, to: *mut sk_buff) {
    // SAFETY: By the safety requirements.
    unsafe { (*skb).__bindgen_anon_1.__bindgen_anon_1.next = to };
}
