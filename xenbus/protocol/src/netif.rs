// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The network protocol.
//!
//! C header: `xen/io/netif.h`, and Linux's own for `XDP`. Each queue has two rings: `Tx`, from the
//! front end to the back end, and `Rx`, the other way; a device has at most one control ring.
//!
//! - `netif/wire.rs`: requests, responses and extra information as bytes in the rings
//! - `netif/extras.rs`: what extra information says, checked
//! - `netif/send.rs`: a packet made into a front end's transmit requests ([`TxSend`]), or into a
//!   back end's receive responses ([`RxSend`])
//! - `netif/tx.rs`: a back end's [`TxPacket`], out of transmit requests
//! - `netif/rx.rs`: a front end's [`RxPacket`], out of receive responses
//! - `netif/ids.rs`: a front end's check of transmit responses
//! - `netif/flow.rs`, `netif/control.rs`: the hash of a packet, and how a front end controls by it
//!   which queue it gets a packet from
//! - `netif/limit.rs`: a back end's [`Credit`] and [`MulticastFilter`]
//! - `netif/negotiate.rs`: what the two ends read from each other in xenstore
//!
//! All layouts are the same in every ABI.

mod control;
mod extras;
mod flow;
mod ids;
mod limit;
mod negotiate;
mod pace;
mod rx;
mod send;
#[cfg(test)]
pub(crate) mod tests;
mod tx;
mod wire;

pub use control::{
    ControlStep, Hashing, PendingControl, HASH_KINDS, MAX_CONTROL_COPY, MAX_MAPPING,
};
pub use extras::{Checksum, Extras, FlowHash, Gso, HashKind};
pub use flow::{toeplitz, Flow, HASH_KEY_SIZE};
pub use ids::{BadTxResponse, Id, NoId, TxIds};
pub use limit::{Credit, MulticastFilter, Rate, TooMany, MAX_MULTICAST, MIN_BURST};
pub use negotiate::{
    headroom, mac_address, mtu, ControlRing, Offer, Ports, Takes, VifQueue, Wish, MAX_HEADROOM,
};
pub use pace::Pace;
pub use rx::{Part, RxNext, RxPacket, RxReason, MAX_RX_PARTS};
pub use send::{count_spans, spans, RxEntry, RxSend, Span, TxSend, Unsendable};
pub use tx::{
    answer_request, Multicast, Piece, TxFatal, TxNext, TxPacket, TxReason, MAX_TX_REQUESTS,
};
pub use wire::{
    Control, ControlRequest, ControlResponse, Extra, Info, Rx, RxRequest, RxResponse, RxSlot, Tx,
    TxRequest, TxResponse, TxSlot,
};

/// Bytes in a page that a grant reference stands for.
pub const PAGE_SIZE: u32 = 4096;

/// The most bytes of a packet on the transmit ring, without the headers of its segments
/// (`XEN_NETIF_MAX_TX_SIZE`).
pub const MAX_TX_SIZE: u32 = 0xffff;

/// The most headroom before a packet on the receive ring, in bytes (`XEN_NETIF_MAX_XDP_HEADROOM`).
pub const MAX_XDP_HEADROOM: u32 = 0x7fff;

/// The slots of a packet that every back end takes (`XEN_NETIF_NR_SLOTS_MIN`).
pub const NR_SLOTS_MIN: usize = 18;

/// Bytes of an Ethernet header, the fewest that a packet has.
pub const ETH_HLEN: u32 = 14;

/// Flags of a [`TxRequest`].
pub mod txf {
    /// The protocol's checksum is not filled in.
    pub const CSUM_BLANK: u16 = 1 << 0;
    /// The data are known to be good.
    pub const DATA_VALIDATED: u16 = 1 << 1;
    /// The packet goes on in the next request.
    pub const MORE_DATA: u16 = 1 << 2;
    /// Extra information follows.
    pub const EXTRA_INFO: u16 = 1 << 3;
}

/// Flags of an [`RxResponse`].
pub mod rxf {
    /// The data are known to be good.
    pub const DATA_VALIDATED: u16 = 1 << 0;
    /// The protocol's checksum is not filled in.
    pub const CSUM_BLANK: u16 = 1 << 1;
    /// The packet goes on in the next response.
    pub const MORE_DATA: u16 = 1 << 2;
    /// Extra information follows.
    pub const EXTRA_INFO: u16 = 1 << 3;
    /// This is not data, but tells of a packet to segment. Not used any more.
    pub const GSO_PREFIX: u16 = 1 << 4;
}

/// Codes of the `status` field of a [`TxResponse`], and the negative ones of an [`RxResponse`].
pub mod status {
    /// Not delivered.
    pub const DROPPED: i16 = -2;
    /// Failed.
    pub const ERROR: i16 = -1;
    /// Done.
    pub const OKAY: i16 = 0;
    /// The entry held extra information, which nobody answers.
    pub const NULL: i16 = 1;
}

/// Types of extra information.
pub mod extra {
    /// Segments that the packet must be cut into.
    pub const GSO: u8 = 1;
    /// A multicast address to be let through.
    pub const MCAST_ADD: u8 = 2;
    /// A multicast address not to be let through any more.
    pub const MCAST_DEL: u8 = 3;
    /// The packet's hash.
    pub const HASH: u8 = 4;
    /// Headroom in front of the packet. Linux only.
    pub const XDP: u8 = 5;
    /// Flag: more extra information follows.
    pub const FLAG_MORE: u8 = 1;
}

/// Types of segmentation.
pub mod gso {
    /// None.
    pub const NONE: u8 = 0;
    /// TCP over IPv4.
    pub const TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub const TCPV6: u8 = 2;
}

/// What a hash is computed of: bits of a set, whose numbers stand for them in extra information.
pub mod hash {
    /// IPv4 addresses.
    pub const IPV4: u32 = 1 << 0;
    /// IPv4 addresses and TCP ports.
    pub const IPV4_TCP: u32 = 1 << 1;
    /// IPv6 addresses.
    pub const IPV6: u32 = 1 << 2;
    /// IPv6 addresses and TCP ports.
    pub const IPV6_TCP: u32 = 1 << 3;

    /// No hash.
    pub const ALGORITHM_NONE: u32 = 0;
    /// The Toeplitz hash.
    pub const ALGORITHM_TOEPLITZ: u32 = 1;
}

/// Types and status codes of the control ring.
pub mod ctrl {
    /// Not a request.
    pub const INVALID: u16 = 0;
    /// Which hashes there are; answers a set of [`hash`](super::hash).
    pub const GET_HASH_FLAGS: u16 = 1;
    /// Which hashes to compute; `data[0]`: a set of [`hash`](super::hash).
    pub const SET_HASH_FLAGS: u16 = 2;
    /// The key; `data[0]`: grant reference, `data[1]`: bytes.
    pub const SET_HASH_KEY: u16 = 3;
    /// The most entries of the mapping table.
    pub const GET_HASH_MAPPING_SIZE: u16 = 4;
    /// Number of entries of the mapping table; `data[0]`: that.
    pub const SET_HASH_MAPPING_SIZE: u16 = 5;
    /// Part of the mapping table; `data[0]`: grant reference, `data[1]`: entries, `data[2]`: the
    /// first of them.
    pub const SET_HASH_MAPPING: u16 = 6;
    /// The algorithm; `data[0]`: that.
    pub const SET_HASH_ALGORITHM: u16 = 7;
    /// How many grants can be kept mapped; `data[0]`: queue.
    pub const GET_GREF_MAPPING_SIZE: u16 = 8;
    /// Grants to be mapped; `data[0]`: queue, `data[1]`: grant reference of the list, `data[2]`:
    /// entries.
    pub const ADD_GREF_MAPPING: u16 = 9;
    /// Grants to be unmapped; as `ADD_GREF_MAPPING`.
    pub const DEL_GREF_MAPPING: u16 = 10;

    /// Done.
    pub const SUCCESS: u32 = 0;
    /// This back end cannot do it.
    pub const NOT_SUPPORTED: u32 = 1;
    /// A parameter is wrong.
    pub const INVALID_PARAMETER: u32 = 2;
    /// More than this back end has room for.
    pub const BUFFER_OVERFLOW: u32 = 3;
}

/// Names of the keys in xenstore.
pub mod key {
    /// Of the back end: the most queues.
    pub const MULTI_QUEUE_MAX_QUEUES: &str = "multi-queue-max-queues";
    /// Of the front end: how many queues; their keys are in `queue-0`, `queue-1` and so on then,
    /// unless there is one only.
    pub const MULTI_QUEUE_NUM_QUEUES: &str = "multi-queue-num-queues";
    /// Of a queue of the front end: grant reference of the transmit ring.
    pub const TX_RING_REF: &str = "tx-ring-ref";
    /// Of a queue of the front end: grant reference of the receive ring.
    pub const RX_RING_REF: &str = "rx-ring-ref";
    /// Of a queue of the front end: the port for both rings.
    pub const EVENT_CHANNEL: &str = "event-channel";
    /// Of a queue of the front end: the port for the transmit ring.
    pub const EVENT_CHANNEL_TX: &str = "event-channel-tx";
    /// Of a queue of the front end: the port for the receive ring.
    pub const EVENT_CHANNEL_RX: &str = "event-channel-rx";
    /// Of the back end: it takes a port for each ring.
    pub const FEATURE_SPLIT_EVENT_CHANNELS: &str = "feature-split-event-channels";

    /// Of the back end: it copies packets into the front end's pages.
    pub const FEATURE_RX_COPY: &str = "feature-rx-copy";
    /// Of the back end: it can exchange pages. Always 0.
    pub const FEATURE_RX_FLIP: &str = "feature-rx-flip";
    /// Of the front end: it wants packets copied. Always 1.
    pub const REQUEST_RX_COPY: &str = "request-rx-copy";
    /// Of the front end: it notifies of receive requests.
    pub const FEATURE_RX_NOTIFY: &str = "feature-rx-notify";

    /// Of either end: it takes packets of several slots.
    pub const FEATURE_SG: &str = "feature-sg";
    /// Of either end: it takes large packets of TCP over IPv4.
    pub const FEATURE_GSO_TCPV4: &str = "feature-gso-tcpv4";
    /// Of either end: it takes large packets of TCP over IPv6.
    pub const FEATURE_GSO_TCPV6: &str = "feature-gso-tcpv6";
    /// Of either end: it takes no packet with a blank checksum over IPv4.
    pub const FEATURE_NO_CSUM_OFFLOAD: &str = "feature-no-csum-offload";
    /// Of either end: it takes packets with a blank checksum over IPv6.
    pub const FEATURE_IPV6_CSUM_OFFLOAD: &str = "feature-ipv6-csum-offload";

    /// Of the back end: it can filter multicast packets.
    pub const FEATURE_MULTICAST_CONTROL: &str = "feature-multicast-control";
    /// Of the back end: it looks at `request-multicast-control` at all times.
    pub const FEATURE_DYNAMIC_MULTICAST_CONTROL: &str = "feature-dynamic-multicast-control";
    /// Of the front end: it wants multicast packets filtered.
    pub const REQUEST_MULTICAST_CONTROL: &str = "request-multicast-control";

    /// Of the back end: it has a control ring.
    pub const FEATURE_CTRL_RING: &str = "feature-ctrl-ring";
    /// Of the front end: grant reference of the control ring.
    pub const CTRL_RING_REF: &str = "ctrl-ring-ref";
    /// Of the front end: the port for the control ring.
    pub const EVENT_CHANNEL_CTRL: &str = "event-channel-ctrl";

    /// Of the back end: it leaves headroom in front of packets.
    pub const FEATURE_XDP_HEADROOM: &str = "feature-xdp-headroom";
    /// Of the front end: bytes of that.
    pub const XDP_HEADROOM: &str = "xdp-headroom";

    /// Of the front end, by the tool stack: its address.
    pub const MAC: &str = "mac";
    /// Of the front end, by the tool stack: its MTU.
    pub const MTU: &str = "mtu";
    /// Of the front end, by the tool stack: 0 if the back end is not trusted.
    pub const TRUSTED: &str = "trusted";
    /// Of the back end: 0 if the link is down.
    pub const CARRIER: &str = "carrier";
}
