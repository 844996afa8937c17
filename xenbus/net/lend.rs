// SPDX-License-Identifier: GPL-2.0

//! Packets and pages to which another domain is given access.
//!
//! C header: [`include/xen/grant_table.h`](srctree/include/xen/grant_table.h)

use super::{
    pool::PoolPage,
    skb::{Part, Parts, SkBuff},
    xdp::XdpFrame,
};
use crate::{
    bindings,
    grant::{Grant, GrantReserve},
};
use kernel::{
    page::{Page, PAGE_SIZE},
    prelude::*,
};

/// Packets whose parts another domain may read, each part by a reference of its own.
///
/// A part has a number, the *slot*, by which the access to it is ended. Dropping it ends all access,
/// and sleeps; a packet of which the other end does not let go is never freed, a frame not before it
/// does.
pub struct LentPackets {
    domid: u16,
    reserve: GrantReserve,
    slots: KVec<Slot>,
    packets: KVec<Packet>,
    /// Places in `packets` that hold none.
    free: KVec<u16>,
}

/// What is sent.
pub enum Outgoing {
    /// A packet of the stack's.
    Skb(SkBuff),
    /// A packet that another device has received, or this one.
    Frame(XdpFrame),
}

impl Outgoing {
    /// Its bytes, part by part, each within one page.
    #[inline]
    pub fn parts(&self) -> Parts<'_> {
        match self {
            Outgoing::Skb(skb) => skb.parts(),
            Outgoing::Frame(frame) => frame.parts(),
        }
    }
}

/// A part of a packet.
#[derive(Default)]
struct Slot {
    grant: Option<Grant>,
    /// Which packet.
    packet: u16,
}

/// # Invariants
///
/// `packet`, if there is one, has `left` slots with grants.
#[derive(Default)]
struct Packet {
    packet: Option<Outgoing>,
    left: u16,
}

/// The other end still has a page mapped, by this reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StillMapped(pub u32);

impl LentPackets {
    /// For at most `slots` parts, 1 to 65535, that domain `domid` may read. Sleeps.
    pub fn new(domid: u16, slots: u16) -> Result<Self> {
        let mut lent = LentPackets {
            domid,
            reserve: GrantReserve::new(slots)?,
            slots: KVec::with_capacity(slots.into(), GFP_KERNEL)?,
            packets: KVec::with_capacity(slots.into(), GFP_KERNEL)?,
            free: KVec::with_capacity(slots.into(), GFP_KERNEL)?,
        };
        for number in (0..slots).rev() {
            // There is room.
            let _ = lent.slots.push_within_capacity(Slot::default());
            let _ = lent.packets.push_within_capacity(Packet::default());
            let _ = lent.free.push_within_capacity(number);
        }
        Ok(lent)
    }

    /// Gives access to a packet: calls `each` with the reference, offset and length of each of its
    /// parts in their order, which gives the slot of the part, one that is not in use. In any context.
    ///
    /// # Errors
    ///
    /// The packet, when there are not as many references left as it has parts, of which there are
    /// `parts`, or when `each` has no slot for the first one. If it has none for a later one, the
    /// packet has been lent in part.
    #[inline]
    pub fn lend(
        &mut self,
        sent: Outgoing,
        parts: usize,
        mut each: impl FnMut(u32, u16, u16) -> Option<u16>,
    ) -> core::result::Result<(), Outgoing> {
        if usize::from(self.reserve.len()) < parts {
            return Err(sent);
        }
        let Some(place) = self.free.pop() else {
            return Err(sent);
        };
        let mut left = 0u16;
        for Part { page, offset, len } in sent.parts() {
            // SAFETY: The packet that the page is a part of is freed after the grant has ended, or
            // never; what a packet is made of is for its receiver to read, and lies in pages that may
            // hold other things of this kernel's, which the protocol accepts (see `trusted`).
            let Ok(grant) = (unsafe { self.reserve.grant(self.domid, &page, true) }) else {
                break;
            };
            let slot = each(grant.gref(), offset as u16, len as u16)
                .and_then(|number| self.slots.get_mut(usize::from(number)));
            match slot {
                Some(slot) if slot.grant.is_none() => {
                    slot.grant = Some(grant);
                    slot.packet = place;
                    left = left.wrapping_add(1);
                }
                _ => break,
            }
        }
        match self.packets.get_mut(usize::from(place)) {
            Some(packet) if left > 0 => {
                // INVARIANT: As many slots are its.
                packet.packet = Some(sent);
                packet.left = left;
                Ok(())
            }
            _ => {
                // There is room: it was just taken.
                let _ = self.free.push_within_capacity(place);
                Err(sent)
            }
        }
    }

    /// Whether no packet is lent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.packets.len()
    }

    /// Ends the access to a part (XSA-396), and gives the packet back if it was the last one. In any
    /// context.
    #[inline]
    pub fn end(&mut self, number: u16) -> core::result::Result<Option<Outgoing>, StillMapped> {
        let Some(slot) = self.slots.get_mut(usize::from(number)) else {
            return Ok(None);
        };
        let Some(grant) = slot.grant.take() else {
            return Ok(None);
        };
        if let Err(grant) = self.reserve.take_back(grant) {
            let gref = grant.gref();
            slot.grant = Some(grant);
            return Err(StillMapped(gref));
        }
        let place = slot.packet;
        let Some(packet) = self.packets.get_mut(usize::from(place)) else {
            return Ok(None);
        };
        packet.left = packet.left.wrapping_sub(1);
        if packet.left > 0 {
            return Ok(None);
        }
        // There is room for all places.
        let _ = self.free.push_within_capacity(place);
        Ok(packet.packet.take())
    }
}

impl Drop for LentPackets {
    fn drop(&mut self) {
        for number in 0..self.slots.len() {
            if self.end(number as u16).is_ok() {
                continue;
            }
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            let Some(grant) = slot.grant.take() else {
                continue;
            };
            let packet = self.packets.get(usize::from(slot.packet));
            match packet.and_then(|packet| packet.packet.as_ref()) {
                // It is in pages, which are freed when the grant table's reference is the last one.
                Some(Outgoing::Frame(_)) => drop(grant),
                // Parts of a packet are small objects, too. It is forgotten below.
                _ => grant.end_later(),
            }
        }
        for packet in self.packets.iter_mut() {
            if let Some(Outgoing::Skb(skb)) = packet.packet.take() {
                // Its memory must not be used for anything else.
                core::mem::forget(skb);
            }
        }
    }
}

/// Bytes of a packet that a [`Staging`] has room for in each slot.
pub const STAGED: usize = 256;

const SLOTS_OF_A_PAGE: usize = PAGE_SIZE / STAGED;

/// Room for small packets in pages that another domain may read for as long as the value lives: no
/// access is given or ended for a packet. The pages hold nothing but packets that are for that domain,
/// and zeroes.
///
/// Dropping it ends the access; pages that the other end has mapped are freed when it lets go.
pub struct Staging {
    // Dropped before the pages, see `LentPage`.
    grants: KVec<Grant>,
    pages: KVec<Page>,
}

impl Staging {
    /// For `slots` packets that domain `domid` may read. Sleeps.
    pub fn new(domid: u16, slots: u16) -> Result<Self> {
        let count = usize::from(slots).div_ceil(SLOTS_OF_A_PAGE);
        let mut reserve = GrantReserve::new(count as u16)?;
        let mut staging = Staging {
            grants: KVec::with_capacity(count, GFP_KERNEL)?,
            pages: KVec::with_capacity(count, GFP_KERNEL)?,
        };
        for _ in 0..count {
            let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
            // SAFETY: The page is freed after the grant, and nothing is written to it but packets for
            // that domain.
            let grant = unsafe { reserve.grant(domid, &page, true) }?;
            // There is room.
            let _ = staging.grants.push_within_capacity(grant);
            let _ = staging.pages.push_within_capacity(page);
        }
        Ok(staging)
    }

    /// Copies a packet of at most [`STAGED`] bytes to a slot, which is free for it: the reference, and
    /// the offset. In any context.
    #[inline]
    pub fn put(&mut self, slot: u16, skb: &SkBuff) -> Option<(u32, u16)> {
        let (index, part) = (
            usize::from(slot) / SLOTS_OF_A_PAGE,
            usize::from(slot) % SLOTS_OF_A_PAGE,
        );
        let len = skb.len();
        let (grant, page) = (self.grants.get(index)?, self.pages.get(index)?);
        if len > STAGED {
            return None;
        }
        let offset = part.wrapping_mul(STAGED);
        // SAFETY: The page is not in high memory, by the flags, and is written to only here; within
        // the page.
        let to = unsafe {
            let start = bindings::xenbus_helper_page_address(page.as_ptr().cast()).cast::<u8>();
            core::slice::from_raw_parts_mut(start.add(offset), len)
        };
        (skb.copy_start(to) == len).then(|| (grant.gref(), offset as u16))
    }
}

/// A page of a pool, to which another domain has access. Dropping it ends the access; if the other end
/// has it mapped, it is freed only when it lets go.
pub struct LentPage {
    // Dropped in this order: the grant table takes a reference on a page that is still mapped, which
    // then does not go back to its pool.
    grant: Grant,
    page: PoolPage,
}

impl LentPage {
    /// Lets `domid` write to `page`, by a reference of `reserve`. In any context.
    ///
    /// # Errors
    ///
    /// The page, when the reserve is empty.
    #[inline]
    pub fn new(
        page: PoolPage,
        domid: u16,
        reserve: &mut GrantReserve,
    ) -> core::result::Result<Self, PoolPage> {
        // SAFETY: The page is freed after the grant, and nothing but copies sees its bytes before.
        match unsafe { reserve.grant(domid, &page.page(), false) } {
            Ok(grant) => Ok(LentPage { grant, page }),
            Err(_) => Err(page),
        }
    }

    /// The reference.
    #[inline]
    pub fn gref(&self) -> u32 {
        self.grant.gref()
    }

    /// Copies `to.len()` bytes at `offset` out of the page, to which the other end may be writing
    /// meanwhile; each byte is read once. Nothing, if that crosses the end of the page.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.page.copy_out(offset, to);
    }

    /// Ends the access (XSA-396); the reference goes back to `reserve`. In any context.
    ///
    /// # Errors
    ///
    /// The page as it was, when the other end has it mapped.
    #[inline]
    pub fn take_back(self, reserve: &mut GrantReserve) -> core::result::Result<PoolPage, LentPage> {
        let LentPage { grant, page } = self;
        match reserve.take_back(grant) {
            Ok(()) => Ok(page),
            Err(grant) => Err(LentPage { grant, page }),
        }
    }
}
