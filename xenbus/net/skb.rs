// SPDX-License-Identifier: GPL-2.0

//! A packet as an owned value.
//!
//! `skb/parts.rs` has its bytes, wherever they lie; `skb/offload.rs` what a device does to it.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

mod offload;
mod parts;

pub use self::{
    offload::{Checksum, Gso, GsoKind},
    parts::Part,
};

pub(super) use self::parts::{Cursor, Parts};

use self::parts::shared_info;
use super::{device::NetDev, pool::PoolPage};
use crate::bindings;
use core::{marker::PhantomData, mem::ManuallyDrop, ops::Deref, ptr::NonNull};
use kernel::{
    bindings::{sk_buff, skb_shared_info},
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
};

/// The most fragments of a packet, beside its linear part.
pub const MAX_FRAGMENTS: usize = kernel::bindings::MAX_SKB_FRAGS as usize;

/// A packet. Dropping it frees it, as one that is lost; see [`SkBuff::consume`].
///
/// # Invariants
///
/// The pointer is to a packet of which nobody else changes anything; its data may be shared.
#[repr(transparent)]
pub struct SkBuff(NonNull<sk_buff>);

// SAFETY: A packet may be freed anywhere.
unsafe impl Send for SkBuff {}

// SAFETY: Shared access only reads what is constant.
unsafe impl Sync for SkBuff {}

impl SkBuff {
    /// # Safety
    ///
    /// The packet is the new value's to free.
    #[inline]
    pub(super) unsafe fn from_raw(skb: NonNull<sk_buff>) -> Self {
        // INVARIANT: By the safety requirements.
        SkBuff(skb)
    }

    #[inline]
    pub(super) fn into_raw(self) -> *mut sk_buff {
        let skb = self.0.as_ptr();
        core::mem::forget(self);
        skb
    }

    #[inline]
    pub(super) fn as_raw(&self) -> *mut sk_buff {
        self.0.as_ptr()
    }

    /// A packet with `len` bytes in its linear part that nobody has set. With soft
    /// interrupts off.
    #[inline]
    pub(super) fn new_unset(len: usize) -> Option<Self> {
        // SAFETY: As for this function.
        let skb = unsafe { bindings::net_helper_alloc_skb(len as u32) };
        // INVARIANT: Just made.
        NonNull::new(skb).map(SkBuff)
    }

    /// A packet of `len` bytes that `fill` sets. `None`: memory is short. With soft interrupts off.
    #[inline]
    pub fn new(len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Self> {
        let skb = Self::new_unset(len)?;
        // SAFETY: There are as many bytes in the linear part, all ours; zeroed, as a slice has to be
        // set.
        fill(unsafe {
            let data = (*skb.as_raw()).data;
            data.write_bytes(0, len);
            core::slice::from_raw_parts_mut(data, len)
        });
        Some(skb)
    }

    /// Frees the packet, as one that has been sent. In any context.
    #[inline]
    pub fn consume(self) {
        // SAFETY: Ours to free.
        unsafe { bindings::net_helper_consume_skb(self.into_raw()) };
    }

    /// Bytes of the packet.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { (*self.as_raw()).len as usize }
    }

    /// Whether the packet is empty, as none of the stack's is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the linear part.
    #[inline]
    pub fn linear_len(&self) -> usize {
        // SAFETY: By the type invariant.
        let (len, rest) = unsafe { ((*self.as_raw()).len, (*self.as_raw()).data_len) };
        len.wrapping_sub(rest) as usize
    }

    /// The queue by which it is to be sent.
    #[inline]
    pub fn queue(&self) -> u16 {
        // SAFETY: By the type invariant.
        unsafe { (*self.as_raw()).queue_mapping }
    }

    /// Where an Ethernet packet goes to, if it is one that has its header in the linear part.
    #[inline]
    pub fn destination(&self) -> Option<super::Mac> {
        if self.linear_len() < ETH_HLEN {
            return None;
        }
        // SAFETY: There are as many bytes.
        Some(unsafe { (*self.as_raw()).data.cast::<super::Mac>().read() })
    }

    /// Copies the first bytes of the packet, as many as there are and fit; says how many.
    #[inline]
    pub fn copy_start(&self, to: &mut [u8]) -> usize {
        let len = self.len().min(to.len());
        if len <= self.linear_len() {
            // SAFETY: By the type invariant there are as many bytes; there is room for them.
            unsafe { core::ptr::copy_nonoverlapping((*self.as_raw()).data, to.as_mut_ptr(), len) };
            return len;
        }
        // SAFETY: By the type invariant; there is room for as many bytes, and there are as many.
        let result = unsafe {
            kernel::bindings::skb_copy_bits(
                self.as_raw(),
                0,
                to.as_mut_ptr().cast(),
                len as kernel::ffi::c_int,
            )
        };
        if result == 0 {
            len
        } else {
            0
        }
    }

    #[inline]
    fn shared_info(&self) -> *mut skb_shared_info {
        // SAFETY: By the type invariant.
        unsafe { shared_info(self.as_raw()) }
    }

    /// Brings the whole packet into its linear part. In any context.
    pub fn linearize(&mut self) -> Result {
        // SAFETY: By the type invariant; no reference to its parts lives.
        to_result(unsafe { bindings::net_helper_linearize(self.as_raw()) })
    }

    /// Brings the first `len` bytes into the linear part, if they are not there. In any context.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the packet is shorter, or memory is.
    #[inline]
    pub fn pull(&mut self, len: usize) -> Result {
        // SAFETY: By the type invariant; no reference to its parts lives.
        if unsafe { bindings::net_helper_may_pull(self.as_raw(), len as u32) } {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// The packet's fragments, beside the linear part.
    #[inline]
    pub fn fragments(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { (*self.shared_info()).nr_frags.into() }
    }

    /// Adds `len` bytes at `offset` of a page to the end of the packet.
    ///
    /// # Errors
    ///
    /// The page, when there are [`MAX_FRAGMENTS`] already, or when that crosses its end.
    #[inline]
    pub fn add_pool_page(
        &mut self,
        page: PoolPage,
        offset: usize,
        len: usize,
    ) -> core::result::Result<(), PoolPage> {
        let fits = offset.checked_add(len).is_some_and(|end| end <= PAGE_SIZE);
        if self.fragments() >= MAX_FRAGMENTS || !fits {
            return Err(page);
        }
        // SAFETY: There is room; the page is the packet's from here on, and goes back to its pool
        // with it. The packet has no pages of another kind that it must not give to a pool: those
        // are told apart by their pages.
        unsafe {
            bindings::net_helper_add_frag(
                self.as_raw(),
                page.into_raw(),
                offset as u32,
                len as u32,
                PAGE_SIZE as u32,
            );
            bindings::net_helper_mark_for_recycle(self.as_raw());
        }
        Ok(())
    }

    /// A copy in whole pages of its own, which hold zeroes beside the packet. `None`: memory is short.
    /// In any context.
    pub fn copy_to_own_pages(&self) -> Option<SkBuff> {
        // SAFETY: By the type invariant.
        let skb = unsafe { bindings::net_helper_bounce(self.as_raw()) };
        // INVARIANT: Just made.
        NonNull::new(skb).map(SkBuff)
    }

    /// Makes the packet one that `dev` has received: takes off the Ethernet header.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is shorter than that.
    #[inline]
    pub fn receive_on(&mut self, dev: &NetDev) -> Result {
        self.pull(ETH_HLEN)?;
        // SAFETY: By the type invariant; the header is there.
        unsafe { bindings::net_helper_eth_type(self.as_raw(), dev.as_raw()) };
        Ok(())
    }

    /// Whether the packet has been through [`Self::receive_on`] with this device.
    #[inline]
    pub(super) fn is_received_on(&self, dev: &NetDev) -> bool {
        // SAFETY: By the type invariant.
        let of = unsafe {
            let link = (*self.as_raw()).__bindgen_anon_1.__bindgen_anon_1;
            link.__bindgen_anon_1.dev
        };
        of == dev.as_raw()
    }

    /// The packet leaves the system now.
    #[inline]
    pub fn timestamp(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_tx_timestamp(self.as_raw()) };
    }

    /// Forgets the hash of the packet's flow.
    #[inline]
    pub fn clear_hash(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_clear_hash(self.as_raw()) };
    }

    /// The `N`-th number that its present owner has noted, see [`Self::set_note`].
    #[inline]
    pub fn note<const N: usize>(&self) -> u64 {
        const { assert!(N < NOTES) };
        // SAFETY: By the type invariant; there is room for it, on the boundary of a word.
        unsafe { (&raw const (*self.as_raw()).cb).cast::<u64>().add(N).read() }
    }

    /// Notes the `N`-th number of its present owner's, of 6, for as long as the stack has not got the
    /// packet.
    #[inline]
    pub fn set_note<const N: usize>(&mut self, note: u64) {
        const { assert!(N < NOTES) };
        // SAFETY: As above; the room is for the owner of the packet.
        unsafe {
            (&raw mut (*self.as_raw()).cb)
                .cast::<u64>()
                .add(N)
                .write(note)
        };
    }
}

impl Drop for SkBuff {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Ours to free, by the type invariant.
        unsafe { bindings::net_helper_free_skb(self.as_raw()) };
    }
}

/// A packet that is somebody else's, lent. Things can be said of it, but it stays where it is: by a
/// `&mut SkBuff` it could be taken, and another one left in its place.
pub struct SkBuffMut<'a>(ManuallyDrop<SkBuff>, PhantomData<&'a mut SkBuff>);

impl<'a> SkBuffMut<'a> {
    /// # Safety
    ///
    /// Nobody else uses the packet for as long as the value lives.
    #[inline]
    pub(super) unsafe fn from_raw(skb: NonNull<sk_buff>) -> Self {
        // INVARIANT: By the safety requirements; it is never freed by this.
        SkBuffMut(ManuallyDrop::new(SkBuff(skb)), PhantomData)
    }

    #[inline]
    pub(super) fn new(skb: &'a mut SkBuff) -> Self {
        // SAFETY: It is borrowed.
        unsafe { Self::from_raw(skb.0) }
    }

    /// A hash of the packet's flow.
    #[inline]
    pub fn flow_hash(&mut self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_flow_hash(self.as_raw()) }
    }

    /// As [`SkBuff::set_checksum`].
    #[inline]
    pub fn set_checksum(&mut self, checksum: Checksum) {
        self.0.set_checksum(checksum);
    }

    /// As [`SkBuff::set_gso`].
    #[inline]
    pub fn set_gso(&mut self, gso: Gso) {
        self.0.set_gso(gso);
    }
}

impl Deref for SkBuffMut<'_> {
    type Target = SkBuff;

    #[inline]
    fn deref(&self) -> &SkBuff {
        &self.0
    }
}

/// Numbers that can be noted of a packet.
const NOTES: usize = 6;

/// Bytes of an Ethernet header.
pub(super) const ETH_HLEN: usize = kernel::bindings::ETH_HLEN as usize;
