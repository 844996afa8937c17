// SPDX-License-Identifier: GPL-2.0

//! A packet as an owned value.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::{device::NetDev, pool::PoolPage};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
};
use kernel::{
    bindings::{sk_buff, skb_shared_info},
    error::to_result,
    page::{BorrowedPage, Page, PAGE_SIZE},
    prelude::*,
};

/// The most fragments of a packet, beside its linear part.
pub const MAX_FRAGMENTS: usize = kernel::bindings::MAX_SKB_FRAGS as usize;

/// What is known of the checksum of a packet's transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    Unknown,
    /// It is right.
    Right,
    /// It is to be filled in.
    Blank,
}

/// What the segments of a large packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

/// How a large packet is to be cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// The most bytes of payload of a segment; not 0.
    pub size: u16,
    /// What they are.
    pub kind: GsoKind,
}

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

    /// A packet with `len` bytes in its linear part that nobody has set. In any context.
    #[inline]
    pub(super) fn new_unset(len: usize) -> Option<Self> {
        // SAFETY: In any context.
        let skb = unsafe { bindings::net_helper_alloc_skb(len as u32) };
        // INVARIANT: Just made.
        NonNull::new(skb).map(SkBuff)
    }

    /// A packet of `len` bytes that `fill` sets. `None`: memory is short. In any context.
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

    /// The packet's bytes, part by part, each within one page.
    #[inline]
    pub fn parts(&self) -> Parts<'_> {
        // SAFETY: Ours, and it stays as it is while it is borrowed.
        Parts(unsafe { Cursor::new(self.as_raw()) }, PhantomData)
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

    /// Adds the first `len` bytes of a page to the end of the packet.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when there are [`MAX_FRAGMENTS`] already, or when the page is smaller.
    #[inline]
    pub fn add_page(&mut self, page: Page, len: usize) -> Result {
        if self.fragments() >= MAX_FRAGMENTS || len > PAGE_SIZE {
            return Err(ENOSPC);
        }
        let raw = page.as_ptr();
        // The packet frees it.
        core::mem::forget(page);
        // SAFETY: There is room; the page is the packet's from here on.
        unsafe {
            bindings::net_helper_add_frag(self.as_raw(), raw, 0, len as u32, PAGE_SIZE as u32)
        };
        Ok(())
    }

    /// What is known of the checksum.
    #[inline]
    pub fn checksum(&self) -> Checksum {
        // SAFETY: By the type invariant.
        match unsafe { bindings::net_helper_ip_summed(self.as_raw()) } {
            kernel::bindings::CHECKSUM_PARTIAL => Checksum::Blank,
            kernel::bindings::CHECKSUM_UNNECESSARY => Checksum::Right,
            _ => Checksum::Unknown,
        }
    }

    /// Says what is known of the checksum. If it is to be filled in, [`Self::set_up_checksum`] says
    /// where.
    #[inline]
    pub fn set_checksum(&mut self, checksum: Checksum) {
        let value = match checksum {
            Checksum::Unknown => kernel::bindings::CHECKSUM_NONE,
            Checksum::Right => kernel::bindings::CHECKSUM_UNNECESSARY,
            Checksum::Blank => kernel::bindings::CHECKSUM_PARTIAL,
        };
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_set_ip_summed(self.as_raw(), value) };
    }

    /// Of a packet whose checksum is to be filled in, and that has been through
    /// [`Self::receive_on`]: finds its place from the headers. If `recalculate`, also sets the part
    /// of it that covers the addresses.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `EPROTO` and the like when the headers make no sense.
    pub fn set_up_checksum(&mut self, recalculate: bool) -> Result {
        // SAFETY: By the type invariant; no reference to its parts lives.
        to_result(unsafe { kernel::bindings::skb_checksum_setup(self.as_raw(), recalculate) })
    }

    /// How the packet is to be cut into segments, if it is a large one.
    #[inline]
    pub fn gso(&self) -> Option<Gso> {
        // SAFETY: By the type invariant.
        let (size, kind) = unsafe {
            let info = self.shared_info();
            ((*info).gso_size, (*info).gso_type)
        };
        let kind = if kind & kernel::bindings::SKB_GSO_TCPV4 as u32 != 0 {
            GsoKind::TcpV4
        } else {
            GsoKind::TcpV6
        };
        (size != 0).then_some(Gso { size, kind })
    }

    /// Says how the packet is to be cut into segments. Its headers have not been checked; the stack
    /// does so before it relies on them.
    pub fn set_gso(&mut self, gso: Gso) {
        let kind = match gso.kind {
            GsoKind::TcpV4 => kernel::bindings::SKB_GSO_TCPV4,
            GsoKind::TcpV6 => kernel::bindings::SKB_GSO_TCPV6,
        };
        let kind = kind | kernel::bindings::SKB_GSO_DODGY;
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_set_gso(self.as_raw(), gso.size, kind as u32, 0) };
    }

    /// Of a large packet that has been through [`Self::receive_on`] and [`Self::set_up_checksum`]:
    /// notes into how many segments it would be cut.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it has no TCP header.
    pub fn count_segments(&mut self) -> Result {
        let Some(gso) = self.gso() else {
            return Ok(());
        };
        if !self.has_transport() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant; the place of the transport header is known.
        let headers = unsafe { bindings::net_helper_tcp_headers(self.as_raw()) } as usize;
        let payload = self.len().checked_sub(headers).ok_or(EINVAL)?;
        if headers == 0 {
            return Err(EINVAL);
        }
        let segments = payload.div_ceil(usize::from(gso.size.max(1)));
        // SAFETY: By the type invariant.
        unsafe { (*self.shared_info()).gso_segs = segments as u16 };
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

    /// Whether the stack would have to cut the packet before `dev`, which it is to be sent by, takes
    /// it.
    #[inline]
    pub fn must_be_segmented(&mut self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_must_segment(self.as_raw()) }
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

    /// Looks for the transport header of a packet that has been received.
    #[inline]
    pub fn probe_transport(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_probe_transport(self.as_raw()) };
    }

    /// Whether it is known where the transport header is.
    #[inline]
    pub fn has_transport(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_has_transport(self.as_raw()) }
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

impl Parts<'_> {
    /// The parts of `len` bytes in a row.
    ///
    /// # Safety
    ///
    /// They lie in pages of the kernel's own mapping, and stay there while the value lives.
    #[inline]
    pub(super) unsafe fn of_bytes(data: *mut u8, len: usize) -> Self {
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
pub(super) struct Cursor {
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
    pub(super) unsafe fn new(skb: *mut sk_buff) -> Self {
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
    pub(super) unsafe fn take(
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
unsafe fn shared_info(skb: *mut sk_buff) -> *mut skb_shared_info {
    // SAFETY: By the safety requirements; it lies at the end of the linear part's memory.
    unsafe { (*skb).head.add((*skb).end as usize).cast() }
}
