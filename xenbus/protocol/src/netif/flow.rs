// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The hash that says which queue a packet goes to: Toeplitz, of its addresses and ports.

use super::{FlowHash, HashKind};
use crate::bytes::{get, get_u8};

/// Bytes of a key. Shorter ones are filled up with zeroes.
pub const HASH_KEY_SIZE: usize = 40;

/// The most bytes that are hashed: two IPv6 addresses and two ports.
const MAX_INPUT: usize = 36;

const _: () = assert!(MAX_INPUT + 4 <= HASH_KEY_SIZE);

/// The Toeplitz hash of `data`, of which only as much as a key is for counts: `HASH_KEY_SIZE` − 4
/// bytes.
pub fn toeplitz(key: &[u8; HASH_KEY_SIZE], data: &[u8]) -> u32 {
    let mut hash = 0u32;
    for (byte, window) in data.iter().zip(key.windows(5)) {
        // The key's 32 bits from each of the byte's bits on.
        let [a, b, c, d, e] = get(window, 0);
        let window = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let mut bit = 0u32;
        while bit < 8 {
            // All ones where the bit is set.
            let mask = u32::from(*byte >> (7u32.wrapping_sub(bit) & 7) & 1).wrapping_neg();
            hash ^= (window >> (8u32.wrapping_sub(bit) & 63)) as u32 & mask;
            bit = bit.wrapping_add(1);
        }
    }
    hash
}

/// What a packet's hash is computed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    input: [u8; MAX_INPUT],
    /// Bytes of the two addresses.
    addresses: usize,
    ipv6: bool,
    tcp: bool,
}

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const IPPROTO_TCP: u8 = 6;

/// VLAN tags and IPv6 extension headers that are looked behind.
const MAX_HEADERS: usize = 8;

impl Flow {
    /// Looks at the headers of an Ethernet frame, or as many of its bytes as there are. `None`: it
    /// is neither IPv4 nor IPv6, or not all there.
    ///
    /// Nothing in the frame is trusted. A fragment counts as without ports.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let mut at = 12usize;
        let mut tags = 0..MAX_HEADERS;
        let protocol = loop {
            tags.next()?;
            let protocol = u16::from_be_bytes(get(frame, at));
            at = at.wrapping_add(2);
            match protocol {
                ETH_P_8021Q | ETH_P_8021AD => at = at.wrapping_add(2),
                protocol => break protocol,
            }
        };
        let packet = frame.get(at..)?;
        match protocol {
            ETH_P_IP => Self::ipv4(packet),
            ETH_P_IPV6 => Self::ipv6(packet),
            _ => None,
        }
    }

    fn ipv4(packet: &[u8]) -> Option<Self> {
        let version = get_u8(packet, 0);
        let header = usize::from(version & 0xf).wrapping_mul(4);
        if version >> 4 != 4 || header < 20 {
            return None;
        }
        let mut input = [0; MAX_INPUT];
        let (addresses, ports) = input.split_first_chunk_mut::<8>()?;
        *addresses = *packet.get(12..)?.first_chunk()?;
        // More fragments, or not at the start.
        let fragment = u16::from_be_bytes(get(packet, 6)) & 0x3fff != 0;
        let mut tcp = get_u8(packet, 9) == IPPROTO_TCP && !fragment;
        tcp = tcp && copy_ports(packet, header, ports);
        Some(Self {
            input,
            addresses: 8,
            ipv6: false,
            tcp,
        })
    }

    fn ipv6(packet: &[u8]) -> Option<Self> {
        if get_u8(packet, 0) >> 4 != 6 {
            return None;
        }
        let mut input = [0; MAX_INPUT];
        let (addresses, ports) = input.split_first_chunk_mut::<32>()?;
        *addresses = *packet.get(8..)?.first_chunk()?;
        let mut next = get_u8(packet, 6);
        let mut at = 40usize;
        for _ in 0..MAX_HEADERS {
            match next {
                // Hop-by-hop options, routing, destination options.
                0 | 43 | 60 => {
                    next = get_u8(packet, at);
                    let units = usize::from(get_u8(packet, at.wrapping_add(1)));
                    at = at.wrapping_add(8).wrapping_add(units.wrapping_mul(8));
                }
                _ => break,
            }
        }
        let tcp = next == IPPROTO_TCP && copy_ports(packet, at, ports);
        Some(Self {
            input,
            addresses: 32,
            ipv6: true,
            tcp,
        })
    }

    /// The hash, of the most headers that `kinds`, a set of [`hash`](super::hash), has.
    pub fn hash(&self, key: &[u8; HASH_KEY_SIZE], kinds: u32) -> Option<FlowHash> {
        let (with_ports, without) = if self.ipv6 {
            (HashKind::Ipv6Tcp, HashKind::Ipv6)
        } else {
            (HashKind::Ipv4Tcp, HashKind::Ipv4)
        };
        let (kind, len) = if self.tcp && kinds & with_ports.bit() != 0 {
            (with_ports, self.addresses.wrapping_add(4))
        } else if kinds & without.bit() != 0 {
            (without, self.addresses)
        } else {
            return None;
        };
        let value = toeplitz(key, self.input.get(..len)?);
        Some(FlowHash { value, kind })
    }
}

/// Copies the ports at the start of a TCP header, if it is there.
fn copy_ports(packet: &[u8], at: usize, to: &mut [u8]) -> bool {
    let ports = packet.get(at..).and_then(|rest| rest.first_chunk::<4>());
    match (ports, to.first_chunk_mut()) {
        (Some(ports), Some(to)) => {
            *to = *ports;
            true
        }
        _ => false,
    }
}
