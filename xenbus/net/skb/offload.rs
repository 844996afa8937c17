// SPDX-License-Identifier: GPL-2.0

//! What a device is to do to a packet, or has done: checksums and segmentation.

use super::SkBuff;
use crate::bindings;
use kernel::{error::to_result, prelude::*};

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

impl SkBuff {
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

    /// Whether the stack would have to cut the packet before `dev`, which it is to be sent by, takes
    /// it.
    #[inline]
    pub fn must_be_segmented(&mut self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_must_segment(self.as_raw()) }
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
}
