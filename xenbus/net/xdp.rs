// SPDX-License-Identifier: GPL-2.0

//! XDP: programs that decide on packets before the stack gets them.
//!
//! A packet that a program is to see is an [`XdpBuff`]: a page of a pool that nobody else has, and
//! the place of the packet's bytes in it, with room in front and behind. [`XdpQueue::run`] consumes it
//! and gives the [`Verdict`], which has what is left of it: the packet for the stack, or an
//! [`XdpFrame`], which is sent, by us or another device, and given back to its owner by its drop.
//!
//! C header: [`include/net/xdp.h`](srctree/include/net/xdp.h)

use super::{
    device::NetDev,
    napi::PollContext,
    pool::{PagePool, PoolPage},
    skb::{Parts, SkBuff, ETH_HLEN},
};
use crate::{
    bindings::{self, xdp_frame},
    prelude::fmt,
};
use core::ptr::NonNull;
use kernel::{
    bindings::{bpf_prog, netlink_ext_ack},
    error::to_result,
    ffi::c_int,
    page::PAGE_SIZE,
    prelude::*,
    str::CString,
    sync::Arc,
    types::Opaque,
};

/// Bytes in front of a packet that a program may use.
pub const XDP_HEADROOM: usize = kernel::bindings::XDP_PACKET_HEADROOM as usize;

/// Bytes of a page behind a packet, which whoever makes a packet for the stack of it needs.
const TAILROOM: usize = bindings::NET_HELPER_XDP_TAILROOM as usize;

/// Bytes of a packet at most, with its Ethernet header.
pub const XDP_MAX_LEN: usize = PAGE_SIZE - XDP_HEADROOM - TAILROOM;

/// A program. It stays loaded for as long as there is a value.
///
/// # Invariants
///
/// The pointer is to a program of which a reference is ours.
pub struct Program(NonNull<bpf_prog>);

// SAFETY: A program is constant, and its count of references atomic.
unsafe impl Send for Program {}

// SAFETY: As above.
unsafe impl Sync for Program {}

impl Program {
    /// # Safety
    ///
    /// The program is there, and a reference to it is the new value's.
    pub(super) unsafe fn from_raw(program: NonNull<bpf_prog>) -> Self {
        // INVARIANT: By the safety requirements.
        Program(program)
    }

    pub(super) fn into_raw(self) -> *mut bpf_prog {
        let program = self.0.as_ptr();
        core::mem::forget(self);
        program
    }
}

impl Clone for Program {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant.
        unsafe { bindings::bpf_prog_inc(self.0.as_ptr()) };
        // INVARIANT: One more.
        Program(self.0)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. It is freed when nobody can be running it any more.
        unsafe { bindings::bpf_prog_put(self.0.as_ptr()) };
    }
}

/// Who has asked for something, and may be told why it was refused.
pub struct ExtAck(*mut netlink_ext_ack);

impl ExtAck {
    /// # Safety
    ///
    /// NULL, or valid for as long as the value lives.
    pub(super) unsafe fn from_raw(extack: *mut netlink_ext_ack) -> Self {
        ExtAck(extack)
    }

    /// Says why, in at most 79 bytes.
    pub fn set(&mut self, why: fmt::Arguments<'_>) {
        if let Ok(why) = CString::try_from_fmt(why) {
            // SAFETY: By the safety requirements of `from_raw`; a C string, which is copied.
            unsafe { bindings::net_helper_extack(self.0, why.as_char_ptr()) };
        }
    }
}

/// A packet that a program may be run on.
///
/// # Invariants
///
/// In front of it are at least [`XDP_HEADROOM`] bytes of its page, behind it [`TAILROOM`], and it has
/// at least [`ETH_HLEN`]; but if a program has changed it, only as many as that has left.
pub struct XdpBuff {
    page: PoolPage,
    offset: usize,
    len: usize,
}

impl XdpBuff {
    /// The `len` bytes at `offset` of a page.
    ///
    /// # Errors
    ///
    /// The page, if there is too little room in front or behind, or if there is no Ethernet header.
    #[inline]
    pub fn new(page: PoolPage, offset: usize, len: usize) -> core::result::Result<Self, PoolPage> {
        let end = offset.checked_add(len);
        let fits = end.is_some_and(|end| end <= PAGE_SIZE - TAILROOM);
        if offset < XDP_HEADROOM || !fits || len < ETH_HLEN {
            return Err(page);
        }
        // INVARIANT: As was checked.
        Ok(XdpBuff { page, offset, len })
    }

    /// The `len` bytes at `offset` of `from`, copied to the page `to`. `None`: that is more than
    /// [`XDP_MAX_LEN`], crosses the end of the page, or is too short.
    pub fn copied(mut to: PoolPage, from: &PoolPage, offset: usize, len: usize) -> Option<Self> {
        if !(ETH_HLEN..=XDP_MAX_LEN).contains(&len) {
            return None;
        }
        to.fill(XDP_HEADROOM, len, |to| from.copy_out(offset, to));
        Self::new(to, XDP_HEADROOM, len).ok()
    }

    /// Bytes of the packet.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the packet is empty, as none is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The page, and offset and length of the packet in it.
    #[inline]
    pub fn into_parts(self) -> (PoolPage, usize, usize) {
        (self.page, self.offset, self.len)
    }
}

/// What is to be done with a packet.
pub enum Verdict {
    /// The stack is to get it. Its place and its length may be others than before.
    Pass(XdpBuff),
    /// Nothing: it has been dropped.
    Drop,
    /// Nothing: the program has failed, or has said what there is not. It has been dropped, and whoever
    /// traces that has been told.
    Aborted,
    /// It is to be sent by the device that has received it.
    Tx(XdpFrame),
    /// Nothing: another device, or a program that waits for packets, gets it, by
    /// [`XdpQueue::flush`] at the latest.
    Redirected,
}

/// A queue of a device, to programs that are run on its packets, and the pages that these are in.
///
/// # Invariants
///
/// It is registered. Nobody else takes pages from `pool`: what is redirected and not sent goes back to
/// that in a way that is for its only user.
pub struct XdpQueue {
    rxq: Pin<KBox<Opaque<bindings::xdp_rxq_info>>>,
    dev: Arc<NetDev>,
    // After it is not registered any more.
    pool: PagePool,
}

// SAFETY: It belongs to the value.
unsafe impl Send for XdpQueue {}

// SAFETY: Shared access offers nothing.
unsafe impl Sync for XdpQueue {}

impl XdpQueue {
    /// Queue `index` of `dev`, of which packets are received into pages of `pool`. Sleeps.
    pub fn new(dev: &Arc<NetDev>, index: u32, pool: PagePool) -> Result<Self> {
        let init = Opaque::ffi_init(|slot: *mut bindings::xdp_rxq_info| {
            // SAFETY: `slot` is valid for writes; all zero is one that is not registered.
            unsafe { slot.write_bytes(0, 1) };
        });
        let rxq = KBox::pin_init(init, GFP_KERNEL)?;
        // SAFETY: Pinned, and unregistered before it is freed, and before the device, which `dev`
        // holds. What is registered holds the pool.
        to_result(unsafe {
            bindings::net_helper_xdp_register(rxq.get(), dev.as_raw(), index, pool.as_raw())
        })?;
        // INVARIANT: Just done.
        Ok(XdpQueue {
            rxq,
            dev: dev.clone(),
            pool,
        })
    }

    /// As [`PagePool::alloc`], of the queue's pool.
    #[inline]
    pub fn alloc(&mut self) -> Option<PoolPage> {
        self.pool.alloc()
    }

    /// Runs a program on a packet in a page of the queue's pool. After the last packet of a poll,
    /// [`Self::flush`] is to be called.
    ///
    /// A packet in a page of another pool is dropped, and so is one in a poll without a budget, in
    /// which nothing is received. Of a poll one queue only may redirect.
    pub fn run(&mut self, program: &Program, buff: XdpBuff, poll: &PollContext<'_>) -> Verdict {
        if !poll.receives() || !buff.page.is_of(&self.pool) {
            return Verdict::Drop;
        }
        let XdpBuff { page, offset, len } = buff;
        let program = program.0.as_ptr();
        let mut xdp = bindings::xdp_buff::default();
        // SAFETY: The page is ours, and the place within it; the queue is registered.
        unsafe {
            let (offset, len) = (offset as u32, len as u32);
            bindings::net_helper_xdp_prepare(&mut xdp, self.rxq.get(), page.as_raw(), offset, len);
        }
        // SAFETY: The program is there, and of this kind, as it has come from `ndo_bpf`. In a poll.
        let action = unsafe { bindings::net_helper_xdp_run(program, &mut xdp) };
        match action {
            kernel::bindings::xdp_action_XDP_PASS => {
                // Within the page, as the programs' helper functions see to.
                let offset = (xdp.data as usize).wrapping_sub(xdp.data_hard_start as usize);
                let len = (xdp.data_end as usize).wrapping_sub(xdp.data as usize);
                // INVARIANT: It has been changed by a program.
                Verdict::Pass(XdpBuff { page, offset, len })
            }
            kernel::bindings::xdp_action_XDP_DROP => Verdict::Drop,
            kernel::bindings::xdp_action_XDP_TX => {
                // SAFETY: The buffer is as the program has left it.
                match NonNull::new(unsafe { bindings::net_helper_xdp_frame(&mut xdp) }) {
                    Some(frame) => {
                        // The frame is in it, and has it.
                        page.into_raw();
                        // SAFETY: Just made, and nobody else's.
                        Verdict::Tx(unsafe { XdpFrame::from_raw(frame) })
                    }
                    None => self.aborted(program, action),
                }
            }
            kernel::bindings::xdp_action_XDP_REDIRECT => {
                // What is in the stack's queues now is of this queue, and so of this pool.
                let sent = poll.redirects(self.rxq.get())
                    // SAFETY: In a poll, which has all that a redirection needs, and whose end sees to
                    // it that nothing is left in the queues.
                    && unsafe {
                        bindings::xdp_do_redirect(self.dev.as_raw(), &mut xdp, program) == 0
                    };
                if sent {
                    page.into_raw();
                    Verdict::Redirected
                } else {
                    self.aborted(program, action)
                }
            }
            kernel::bindings::xdp_action_XDP_ABORTED => self.aborted(program, action),
            _ => {
                // SAFETY: Both are there.
                unsafe {
                    bindings::bpf_warn_invalid_xdp_action(self.dev.as_raw(), program, action)
                };
                self.aborted(program, action)
            }
        }
    }

    fn aborted(&self, program: *const bpf_prog, action: u32) -> Verdict {
        // SAFETY: Both are there.
        unsafe { bindings::net_helper_xdp_exception(self.dev.as_raw(), program, action) };
        Verdict::Aborted
    }

    /// Tells whoever traces that a frame, of [`Verdict::Tx`], cannot be sent.
    pub fn not_sent(&self, program: &Program) {
        self.aborted(program.0.as_ptr(), kernel::bindings::xdp_action_XDP_TX);
    }

    /// Has packets that were redirected sent. What is not sent goes back to the pool.
    #[inline]
    pub fn flush(&mut self, poll: &PollContext<'_>) {
        if poll.end_redirects(self.rxq.get()) {
            // SAFETY: In a poll that receives, in which alone packets are redirected; those are of
            // this queue, whose pool nobody else uses while it is borrowed.
            unsafe { bindings::xdp_do_flush() };
        }
    }
}

impl Drop for XdpQueue {
    fn drop(&mut self) {
        // SAFETY: Registered, by the type invariant, and no program is run for it any more.
        unsafe { bindings::xdp_rxq_info_unreg(self.rxq.get()) };
    }
}

/// A packet on its way from one device to another, in memory of the one that has received it, to which
/// it goes back when it is dropped: not in a hard interrupt, and not with interrupts off.
///
/// # Invariants
///
/// The pointer is to a frame that is ours; all of its bytes are in one piece.
pub struct XdpFrame(NonNull<xdp_frame>);

// SAFETY: A frame may be sent by another CPU.
unsafe impl Send for XdpFrame {}

// SAFETY: Shared access only reads what is constant.
unsafe impl Sync for XdpFrame {}

impl XdpFrame {
    /// # Safety
    ///
    /// The frame is the new value's, and in one piece.
    #[inline]
    unsafe fn from_raw(frame: NonNull<xdp_frame>) -> Self {
        // INVARIANT: By the safety requirements.
        XdpFrame(frame)
    }

    /// Bytes of the packet.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_ref().len as usize }
    }

    /// Whether the packet is empty, as none is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_ref().data.cast() }
    }

    /// The packet's bytes, part by part, each within one page.
    #[inline]
    pub fn parts(&self) -> Parts<'_> {
        // SAFETY: So many bytes, in memory that is made of pages, while the frame is borrowed.
        unsafe { Parts::of_bytes(self.data(), self.len()) }
    }

    /// A copy in whole pages of its own, which hold zeroes beside the packet. `None`: memory is short.
    /// In any context.
    pub fn copy_to_own_pages(&self) -> Option<SkBuff> {
        // SAFETY: There are as many bytes.
        let skb = unsafe {
            bindings::net_helper_bounce_bytes(self.data().cast_const().cast(), self.len() as u32)
        };
        // SAFETY: Just made.
        NonNull::new(skb).map(|skb| unsafe { SkBuff::from_raw(skb) })
    }
}

impl Drop for XdpFrame {
    fn drop(&mut self) {
        // SAFETY: Ours, by the type invariant.
        unsafe { bindings::xdp_return_frame(self.0.as_ptr()) };
    }
}

/// Frames that another device's packets are, to be sent.
pub struct XdpFrames<'a> {
    frames: &'a [*mut xdp_frame],
    sent: usize,
}

impl<'a> XdpFrames<'a> {
    /// # Safety
    ///
    /// Each is a frame, in one piece. As many of the first ones as [`Self::sent`] says are not the
    /// caller's any more when `f` has returned.
    pub(super) unsafe fn from_raw(frames: &'a [*mut xdp_frame]) -> Self {
        XdpFrames { frames, sent: 0 }
    }

    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Calls `send` with one frame after the other, until there is none, or until it gives one back:
    /// the rest of them is dropped by the one whom they are from.
    #[inline]
    pub fn send(&mut self, mut send: impl FnMut(XdpFrame) -> core::result::Result<(), XdpFrame>) {
        while let Some(frame) = self.frames.get(self.sent).copied().and_then(NonNull::new) {
            // SAFETY: By the safety requirements of `from_raw`, once for each.
            if let Err(frame) = send(unsafe { XdpFrame::from_raw(frame) }) {
                // It is not ours to free.
                core::mem::forget(frame);
                break;
            }
            self.sent = self.sent.wrapping_add(1);
        }
    }
}

/// As `ndo_xdp_xmit`: calls `f` with `count` frames, and says how many are sent.
///
/// # Safety
///
/// There are as many frames, each in one piece; those that are sent are not the caller's any more.
pub(super) unsafe fn xmit(
    count: c_int,
    frames: *mut *mut xdp_frame,
    flags: u32,
    f: impl FnOnce(&mut XdpFrames<'_>),
) -> Result<c_int> {
    if flags & !FLAGS != 0 {
        return Err(EINVAL);
    }
    let count = usize::try_from(count).map_err(|_| EINVAL)?;
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: By the safety requirements.
    let mut frames = unsafe { XdpFrames::from_raw(core::slice::from_raw_parts(frames, count)) };
    f(&mut frames);
    Ok(frames.sent() as c_int)
}

/// Of `ndo_xdp_xmit`: `XDP_XMIT_FLUSH` alone.
const FLAGS: u32 = 1;
