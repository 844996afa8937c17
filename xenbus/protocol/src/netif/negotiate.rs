// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What the two ends of a network device read from each other in xenstore, made into checked values.
//!
//! The functions are given `read`, which says what the key of that name holds as a number, `None`
//! where there is no such key or no number in it.

use super::{key, ETH_HLEN, MAX_TX_SIZE, NR_SLOTS_MIN, PAGE_SIZE};
use crate::negotiate::{flag, number, queue_count, queues, BadKey, MAX_PORT};

/// The most headroom that a back end leaves: with it, a packet of 64 KiB and its headers still fits
/// in [`NR_SLOTS_MIN`] pages.
pub const MAX_HEADROOM: u16 = 448;

const _: () =
    assert!((MAX_TX_SIZE + ETH_HLEN + 4) / (PAGE_SIZE - MAX_HEADROOM as u32) < NR_SLOTS_MIN as u32);

/// What packets an end takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Packets of several slots.
    pub sg: bool,
    /// Large packets of TCP over IPv4. Only with `sg`.
    pub gso_tcpv4: bool,
    /// Large packets of TCP over IPv6. Only with `sg`.
    pub gso_tcpv6: bool,
    /// Packets with a blank checksum over IPv4.
    pub ipv4_csum: bool,
    /// Packets with a blank checksum over IPv6.
    pub ipv6_csum: bool,
}

impl Takes {
    /// Reads the keys of the other end, either of the two.
    pub fn read(mut read: impl FnMut(&'static str) -> Option<u64>) -> Self {
        let mut has = |key| flag(read(key));
        let sg = has(key::FEATURE_SG);
        Self {
            sg,
            gso_tcpv4: has(key::FEATURE_GSO_TCPV4) && sg,
            gso_tcpv6: has(key::FEATURE_GSO_TCPV6) && sg,
            // The one key that says what an end does not do.
            ipv4_csum: !has(key::FEATURE_NO_CSUM_OFFLOAD),
            ipv6_csum: has(key::FEATURE_IPV6_CSUM_OFFLOAD),
        }
    }
}

/// What a back end offers to its front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Number of queues to use, at least 1.
    pub queues: u32,
    /// Each ring can have a port of its own.
    pub split_event_channels: bool,
    /// What packets it takes.
    pub takes: Takes,
    /// It filters multicast packets, if asked to before the device is connected.
    pub multicast_control: bool,
    /// It can also be asked to later.
    pub dynamic_multicast_control: bool,
    /// It has a control ring.
    pub ctrl_ring: bool,
    /// It leaves headroom in front of packets, if asked to.
    pub xdp_headroom: bool,
}

impl Offer {
    /// Reads the back end's keys. `max_queues` is the front end's own limit.
    ///
    /// Without `feature-rx-copy` the device is of no use; nonsense in any other key counts as no
    /// offer.
    pub fn read(
        mut read: impl FnMut(&'static str) -> Option<u64>,
        max_queues: u32,
    ) -> Result<Self, BadKey> {
        must(key::FEATURE_RX_COPY, &mut read)?;
        let mut has = |key| flag(read(key));
        let multicast_control = has(key::FEATURE_MULTICAST_CONTROL);
        Ok(Self {
            split_event_channels: has(key::FEATURE_SPLIT_EVENT_CHANNELS),
            multicast_control,
            dynamic_multicast_control: has(key::FEATURE_DYNAMIC_MULTICAST_CONTROL)
                && multicast_control,
            ctrl_ring: has(key::FEATURE_CTRL_RING),
            xdp_headroom: has(key::FEATURE_XDP_HEADROOM),
            queues: queue_count(read(key::MULTI_QUEUE_MAX_QUEUES), max_queues),
            takes: Takes::read(read),
        })
    }

    /// Whether a front end that is connected by the offer `before` has all that it uses of it; if not,
    /// it has to connect anew.
    pub fn keeps(&self, before: &Self) -> bool {
        self.queues >= before.queues
            && self.split_event_channels >= before.split_event_channels
            && self.xdp_headroom >= before.xdp_headroom
            && self.takes.sg >= before.takes.sg
            && self.takes.gso_tcpv4 >= before.takes.gso_tcpv4
            && self.takes.gso_tcpv6 >= before.takes.gso_tcpv6
            && self.takes.ipv6_csum >= before.takes.ipv6_csum
    }
}

/// What a front end asks of its back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Number of queues, at least 1; their keys are in folders unless there is one only.
    pub queues: u32,
    /// It notifies of receive requests, so that none within some time means that it is stuck.
    pub rx_notify: bool,
    /// What packets it takes.
    pub takes: Takes,
    /// It wants multicast packets filtered.
    pub multicast_control: bool,
    /// Bytes of headroom in front of packets, at most [`MAX_HEADROOM`].
    pub headroom: u16,
}

impl Wish {
    /// Reads the front end's keys. `max_queues` is what the back end has offered.
    pub fn read(
        mut read: impl FnMut(&'static str) -> Option<u64>,
        max_queues: u32,
    ) -> Result<Self, BadKey> {
        must(key::REQUEST_RX_COPY, &mut read)?;
        Ok(Self {
            queues: queues(read(key::MULTI_QUEUE_NUM_QUEUES), max_queues)?,
            rx_notify: flag(read(key::FEATURE_RX_NOTIFY)),
            multicast_control: flag(read(key::REQUEST_MULTICAST_CONTROL)),
            headroom: headroom(read(key::XDP_HEADROOM)),
            takes: Takes::read(read),
        })
    }
}

/// Reads the front end's key `xdp-headroom`, as at the start so after a reconfiguration. What is too
/// much is cut: each packet says how much there is.
pub fn headroom(value: Option<u64>) -> u16 {
    value.unwrap_or(0).min(u64::from(MAX_HEADROOM)) as u16
}

/// How to reach the rings of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VifQueue {
    /// Grant reference of the transmit ring, not 0.
    pub tx_ring_ref: u32,
    /// Grant reference of the receive ring, not 0.
    pub rx_ring_ref: u32,
    /// Ports in the front end's domain.
    pub ports: Ports,
}

/// The event channels of a queue: ports in the front end's domain, 1 to [`MAX_PORT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// One for both rings.
    Shared(u32),
    /// One for each.
    Split {
        /// Of the transmit ring.
        tx: u32,
        /// Of the receive ring.
        rx: u32,
    },
}

impl VifQueue {
    /// Reads the front end's keys of one queue. `event-channel` counts only where the other two are
    /// missing.
    pub fn read(mut read: impl FnMut(&'static str) -> Option<u64>) -> Result<Self, BadKey> {
        let tx_ring_ref = number_at(key::TX_RING_REF, u32::MAX, &mut read)?;
        let rx_ring_ref = number_at(key::RX_RING_REF, u32::MAX, &mut read)?;
        let split = read(key::EVENT_CHANNEL_TX).is_some() || read(key::EVENT_CHANNEL_RX).is_some();
        let ports = if split {
            Ports::Split {
                tx: number_at(key::EVENT_CHANNEL_TX, MAX_PORT, &mut read)?,
                rx: number_at(key::EVENT_CHANNEL_RX, MAX_PORT, &mut read)?,
            }
        } else {
            Ports::Shared(number_at(key::EVENT_CHANNEL, MAX_PORT, &mut read)?)
        };
        Ok(Self {
            tx_ring_ref,
            rx_ring_ref,
            ports,
        })
    }
}

/// How to reach the control ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRing {
    /// Its grant reference, not 0.
    pub ring_ref: u32,
    /// Port in the front end's domain, 1 to [`MAX_PORT`].
    pub port: u32,
}

impl ControlRing {
    /// Reads the front end's keys; `None` if it has no control ring.
    pub fn read(mut read: impl FnMut(&'static str) -> Option<u64>) -> Result<Option<Self>, BadKey> {
        if read(key::CTRL_RING_REF).is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            ring_ref: number_at(key::CTRL_RING_REF, u32::MAX, &mut read)?,
            port: number_at(key::EVENT_CHANNEL_CTRL, MAX_PORT, &mut read)?,
        }))
    }
}

/// Reads a hardware address, "01:23:45:67:89:ab", such as the key `mac` of either end holds.
pub fn mac_address(value: &str) -> Option<[u8; 6]> {
    let mut address = [0u8; 6];
    let mut parts = value.as_bytes().split(|byte| *byte == b':');
    for byte in &mut address {
        let digits = parts
            .next()
            .filter(|digits| (1..=2).contains(&digits.len()))?;
        for digit in digits {
            let digit = char::from(*digit).to_digit(16)? as u8;
            *byte = byte.wrapping_mul(16).wrapping_add(digit);
        }
    }
    parts.next().is_none().then_some(address)
}

/// Reads the front end's key `mtu`, in bytes: 68 to 65535 − 14, and 1500 where there is nothing
/// reasonable.
pub fn mtu(value: Option<u64>) -> u32 {
    number(value, 68, MAX_TX_SIZE.wrapping_sub(ETH_HLEN)).unwrap_or(1500)
}

/// A key that must be set.
fn must(
    key: &'static str,
    read: &mut impl FnMut(&'static str) -> Option<u64>,
) -> Result<(), BadKey> {
    let value = read(key);
    if !flag(value) {
        return Err(BadKey { key, value });
    }
    Ok(())
}

/// A number from 1 to `max`.
fn number_at(
    key: &'static str,
    max: u32,
    read: &mut impl FnMut(&'static str) -> Option<u64>,
) -> Result<u32, BadKey> {
    let value = read(key);
    number(value, 1, max).ok_or(BadKey { key, value })
}
