// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What extra information and checksum flags say of a packet, checked.

use super::{gso, hash, Extra, Info};

/// What is known of the checksum of a packet's protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing: the receiver has to look.
    #[default]
    Unknown,
    /// It has been found right.
    Good,
    /// It is not filled in; the data are right.
    Blank,
}

impl Checksum {
    /// What two flags say.
    #[inline]
    pub(super) fn of(flags: u16, blank: u16, validated: u16) -> Self {
        if flags & blank != 0 {
            Self::Blank
        } else if flags & validated != 0 {
            Self::Good
        } else {
            Self::Unknown
        }
    }

    /// The flags that say so.
    #[inline]
    pub(super) fn flags(self, blank: u16, validated: u16) -> u16 {
        match self {
            Self::Unknown => 0,
            Self::Good => validated,
            Self::Blank => blank | validated,
        }
    }
}

/// How a packet must be cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// The most bytes of payload of a segment, not 0.
    pub size: u16,
    /// TCP over IPv6, not IPv4.
    pub ipv6: bool,
}

impl Gso {
    /// Checks what extra information says: a size, and one of [`gso`](super::gso).
    #[inline]
    pub fn parse(size: u16, kind: u8) -> Option<Self> {
        let ipv6 = match kind {
            gso::TCPV4 => false,
            gso::TCPV6 => true,
            _ => return None,
        };
        (size != 0).then_some(Self { size, ipv6 })
    }
}

/// A packet's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash {
    /// The hash.
    pub value: u32,
    /// Of which headers.
    pub kind: HashKind,
}

/// The headers that a hash is computed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// IPv4 addresses.
    Ipv4,
    /// IPv4 addresses and TCP ports.
    Ipv4Tcp,
    /// IPv6 addresses.
    Ipv6,
    /// IPv6 addresses and TCP ports.
    Ipv6Tcp,
}

impl HashKind {
    /// The kind that `number` stands for in extra information.
    #[inline]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Ipv4,
            1 => Self::Ipv4Tcp,
            2 => Self::Ipv6,
            3 => Self::Ipv6Tcp,
            _ => return None,
        })
    }

    /// The number that stands for this kind in extra information.
    #[inline]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The bit of this kind in a set, one of [`hash`].
    #[inline]
    pub fn bit(self) -> u32 {
        match self {
            Self::Ipv4 => hash::IPV4,
            Self::Ipv4Tcp => hash::IPV4_TCP,
            Self::Ipv6 => hash::IPV6,
            Self::Ipv6Tcp => hash::IPV6_TCP,
        }
    }

    /// Whether ports are part of it.
    #[inline]
    pub fn ports(self) -> bool {
        matches!(self, Self::Ipv4Tcp | Self::Ipv6Tcp)
    }
}

/// The extra information on a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// It must be cut into segments.
    pub gso: Option<Gso>,
    /// Its hash.
    pub hash: Option<FlowHash>,
    /// Bytes of headroom in front of it in each page; 0: none. On the receive ring only.
    pub headroom: u16,
}

impl Extras {
    /// How many entries of a ring it takes.
    #[inline]
    pub fn entries(&self) -> u32 {
        u32::from(self.gso.is_some())
            .wrapping_add(u32::from(self.headroom != 0))
            .wrapping_add(u32::from(self.hash.is_some()))
    }

    /// Takes one piece out of it, to be written into a ring.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Extra> {
        let info = if let Some(Gso { size, ipv6 }) = self.gso.take() {
            Info::Gso {
                size,
                kind: if ipv6 { gso::TCPV6 } else { gso::TCPV4 },
                features: 0,
            }
        } else if self.headroom != 0 {
            let headroom = core::mem::take(&mut self.headroom);
            Info::Xdp { headroom }
        } else {
            let FlowHash { value, kind } = self.hash.take()?;
            Info::Hash {
                kind: kind.number(),
                algorithm: hash::ALGORITHM_TOEPLITZ as u8,
                value,
            }
        };
        let more = self.entries() > 0;
        Some(Extra { info, more })
    }
}
