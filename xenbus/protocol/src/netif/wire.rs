// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Requests, responses and extra information as bytes in the rings.
//!
//! | byte | tx request | tx response | rx request | rx response | extra | control request | response |
//! |------|------------|-------------|------------|-------------|-------|-----------------|----------|
//! | 0    | gref       | id          | id         | id          | type  | id              | id       |
//! | 1    |            |             |            |             | flags |                 |          |
//! | 2    |            | status      |            | offset      | data  | type            | type     |
//! | 4    | offset     | end         | gref       | flags       |       | data[0]         | status   |
//! | 6    | flags      |             |            | status      |       |                 |          |
//! | 8    | id         |             | end        | end         | end   | data[1]         | data     |
//! | 10   | size       |             |            |             |       |                 |          |
//! | 12   | end        |             |            |             |       | data[2]         | end      |
//! | 16   |            |             |            |             |       | end             |          |
//!
//! Extra information lies in entries of its own, among the transmit requests and among the receive
//! responses: which of the two an entry holds, the entries before it say. So the rings carry a
//! [`TxSlot`] and an [`RxSlot`], private copies of an entry that are read as one or the other.

use super::extra;
use crate::bytes::{get, get_i16, get_u16, get_u32, get_u8, put};
use crate::ring::Codec;

/// A transmit request: a part of a page, and with it a part of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxRequest {
    /// Grant reference of the page.
    pub gref: u32,
    /// Byte offset in the page.
    pub offset: u16,
    /// Of [`txf`](super::txf).
    pub flags: u16,
    /// The front end's own value, which comes back in the response.
    pub id: u16,
    /// Bytes; of a packet's first request those of the whole packet.
    pub size: u16,
}

/// The response to a transmit request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxResponse {
    /// The `id` of the request; of no meaning with [`status::NULL`](super::status::NULL).
    pub id: u16,
    /// One of [`status`](super::status).
    pub status: i16,
}

/// A receive request: a page to be filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxRequest {
    /// The front end's own value, which comes back in the response.
    pub id: u16,
    /// Grant reference of the page.
    pub gref: u32,
}

/// The response to a receive request. It is in the entry that the request was in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxResponse {
    /// The `id` of the request.
    pub id: u16,
    /// Byte offset in the page.
    pub offset: u16,
    /// Of [`rxf`](super::rxf).
    pub flags: u16,
    /// Bytes, or one of [`status`](super::status) if negative.
    pub status: i16,
}

/// Extra information on a packet: 8 bytes on the wire, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra {
    /// What it says.
    pub info: Info,
    /// Whether more of it follows.
    pub more: bool,
}

/// What extra information says. Nothing in it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Info {
    /// The packet must be cut into segments.
    Gso {
        /// The most bytes of payload of a segment.
        size: u16,
        /// One of [`gso`](super::gso).
        kind: u8,
        /// Always 0.
        features: u16,
    },
    /// A multicast address to be let through.
    McastAdd([u8; 6]),
    /// A multicast address not to be let through any more.
    McastDel([u8; 6]),
    /// The packet's hash.
    Hash {
        /// What it was computed of: the number of a bit of [`hash`](super::hash).
        kind: u8,
        /// How it was computed.
        algorithm: u8,
        /// The hash.
        value: u32,
    },
    /// There is headroom in front of the packet.
    Xdp {
        /// Bytes of it.
        headroom: u16,
    },
    /// Something else, of this type.
    Other(u8),
}

impl Extra {
    /// Reads extra information from its 8 bytes on the wire.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Self {
        let info = match get_u8(bytes, 0) {
            extra::GSO => Info::Gso {
                size: get_u16(bytes, 2),
                kind: get_u8(bytes, 4),
                features: get_u16(bytes, 6),
            },
            extra::MCAST_ADD => Info::McastAdd(get(bytes, 2)),
            extra::MCAST_DEL => Info::McastDel(get(bytes, 2)),
            extra::HASH => Info::Hash {
                kind: get_u8(bytes, 2),
                algorithm: get_u8(bytes, 3),
                value: get_u32(bytes, 4),
            },
            extra::XDP => Info::Xdp {
                headroom: get_u16(bytes, 2),
            },
            other => Info::Other(other),
        };
        let more = get_u8(bytes, 1) & extra::FLAG_MORE != 0;
        Self { info, more }
    }

    /// The 8 bytes on the wire.
    #[inline]
    pub fn encode(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        put(&mut bytes, 0, [self.info.kind()]);
        put(
            &mut bytes,
            1,
            [if self.more { extra::FLAG_MORE } else { 0 }],
        );
        match self.info {
            Info::Gso {
                size,
                kind,
                features,
            } => {
                put(&mut bytes, 2, size.to_le_bytes());
                put(&mut bytes, 4, [kind]);
                put(&mut bytes, 6, features.to_le_bytes());
            }
            Info::McastAdd(address) | Info::McastDel(address) => put(&mut bytes, 2, address),
            Info::Hash {
                kind,
                algorithm,
                value,
            } => {
                put(&mut bytes, 2, [kind, algorithm]);
                put(&mut bytes, 4, value.to_le_bytes());
            }
            Info::Xdp { headroom } => put(&mut bytes, 2, headroom.to_le_bytes()),
            Info::Other(_) => {}
        }
        bytes
    }
}

impl Info {
    /// The type on the wire, one of [`extra`](super::extra) or anything.
    #[inline]
    pub fn kind(&self) -> u8 {
        match *self {
            Self::Gso { .. } => extra::GSO,
            Self::McastAdd(_) => extra::MCAST_ADD,
            Self::McastDel(_) => extra::MCAST_DEL,
            Self::Hash { .. } => extra::HASH,
            Self::Xdp { .. } => extra::XDP,
            Self::Other(kind) => kind,
        }
    }
}

/// An entry of the transmit ring on its way to the back end: a request or extra information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxSlot([u8; 12]);

impl TxSlot {
    /// The entry as a request.
    #[inline]
    pub fn request(&self) -> TxRequest {
        TxRequest {
            gref: get_u32(&self.0, 0),
            offset: get_u16(&self.0, 4),
            flags: get_u16(&self.0, 6),
            id: get_u16(&self.0, 8),
            size: get_u16(&self.0, 10),
        }
    }

    /// The entry as extra information.
    #[inline]
    pub fn extra(&self) -> Extra {
        Extra::decode(&self.0)
    }
}

impl From<[u8; 12]> for TxSlot {
    #[inline]
    fn from(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }
}

impl From<TxRequest> for TxSlot {
    #[inline]
    fn from(request: TxRequest) -> Self {
        let mut bytes = [0; 12];
        put(&mut bytes, 0, request.gref.to_le_bytes());
        put(&mut bytes, 4, request.offset.to_le_bytes());
        put(&mut bytes, 6, request.flags.to_le_bytes());
        put(&mut bytes, 8, request.id.to_le_bytes());
        put(&mut bytes, 10, request.size.to_le_bytes());
        Self(bytes)
    }
}

impl From<Extra> for TxSlot {
    #[inline]
    fn from(extra: Extra) -> Self {
        let mut bytes = [0; 12];
        put(&mut bytes, 0, extra.encode());
        Self(bytes)
    }
}

/// An entry of the receive ring on its way to the front end: a response or extra information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxSlot([u8; 8]);

impl RxSlot {
    /// The entry as a response.
    #[inline]
    pub fn response(&self) -> RxResponse {
        RxResponse {
            id: get_u16(&self.0, 0),
            offset: get_u16(&self.0, 2),
            flags: get_u16(&self.0, 4),
            status: get_i16(&self.0, 6),
        }
    }

    /// The same entry, which is a response, with a `status` (of [`status`](super::status)) that says
    /// what went wrong. Where the packet ends does not change.
    #[inline]
    pub fn failed(mut self, status: i16) -> Self {
        put(&mut self.0, 6, status.to_le_bytes());
        self
    }

    /// The entry as extra information.
    #[inline]
    pub fn extra(&self) -> Extra {
        Extra::decode(&self.0)
    }
}

impl From<[u8; 8]> for RxSlot {
    #[inline]
    fn from(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl From<RxResponse> for RxSlot {
    #[inline]
    fn from(response: RxResponse) -> Self {
        let mut bytes = [0; 8];
        put(&mut bytes, 0, response.id.to_le_bytes());
        put(&mut bytes, 2, response.offset.to_le_bytes());
        put(&mut bytes, 4, response.flags.to_le_bytes());
        put(&mut bytes, 6, response.status.to_le_bytes());
        Self(bytes)
    }
}

impl From<Extra> for RxSlot {
    #[inline]
    fn from(extra: Extra) -> Self {
        Self(extra.encode())
    }
}

/// How the transmit ring's entries lie in memory: 12 bytes each, 256 of them in a page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tx;

impl Codec for Tx {
    type Request = TxSlot;
    type Response = TxResponse;

    #[inline]
    fn request_size(&self) -> usize {
        12
    }

    #[inline]
    fn response_size(&self) -> usize {
        4
    }

    #[inline]
    fn decode_request(&self, bytes: &[u8]) -> TxSlot {
        TxSlot(get(bytes, 0))
    }

    #[inline]
    fn encode_request(&self, request: &TxSlot, bytes: &mut [u8]) {
        put(bytes, 0, request.0);
    }

    #[inline]
    fn decode_response(&self, bytes: &[u8]) -> TxResponse {
        TxResponse {
            id: get_u16(bytes, 0),
            status: get_i16(bytes, 2),
        }
    }

    #[inline]
    fn encode_response(&self, response: &TxResponse, bytes: &mut [u8]) {
        put(bytes, 0, response.id.to_le_bytes());
        put(bytes, 2, response.status.to_le_bytes());
    }
}

/// How the receive ring's entries lie in memory: 8 bytes each, 256 of them in a page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rx;

impl Codec for Rx {
    type Request = RxRequest;
    type Response = RxSlot;

    #[inline]
    fn request_size(&self) -> usize {
        8
    }

    #[inline]
    fn response_size(&self) -> usize {
        8
    }

    #[inline]
    fn decode_request(&self, bytes: &[u8]) -> RxRequest {
        RxRequest {
            id: get_u16(bytes, 0),
            gref: get_u32(bytes, 4),
        }
    }

    #[inline]
    fn encode_request(&self, request: &RxRequest, bytes: &mut [u8]) {
        put(bytes, 0, request.id.to_le_bytes());
        put(bytes, 4, request.gref.to_le_bytes());
    }

    #[inline]
    fn decode_response(&self, bytes: &[u8]) -> RxSlot {
        RxSlot(get(bytes, 0))
    }

    #[inline]
    fn encode_response(&self, response: &RxSlot, bytes: &mut [u8]) {
        put(bytes, 0, response.0);
    }
}

/// A request of the control ring. Nothing in it is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlRequest {
    /// The front end's own value, which comes back in the response.
    pub id: u16,
    /// What to do, one of [`ctrl`](super::ctrl) or anything.
    pub kind: u16,
    /// What that needs.
    pub data: [u32; 3],
}

/// A response of the control ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlResponse {
    /// The `id` of the request.
    pub id: u16,
    /// The `kind` of the request.
    pub kind: u16,
    /// [`ctrl::SUCCESS`](super::ctrl::SUCCESS) or why not.
    pub status: u32,
    /// What was asked for.
    pub data: u32,
}

/// How the control ring's entries lie in memory: 16 bytes each, 128 of them in a page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Control;

impl Codec for Control {
    type Request = ControlRequest;
    type Response = ControlResponse;

    #[inline]
    fn request_size(&self) -> usize {
        16
    }

    #[inline]
    fn response_size(&self) -> usize {
        12
    }

    #[inline]
    fn decode_request(&self, bytes: &[u8]) -> ControlRequest {
        ControlRequest {
            id: get_u16(bytes, 0),
            kind: get_u16(bytes, 2),
            data: [get_u32(bytes, 4), get_u32(bytes, 8), get_u32(bytes, 12)],
        }
    }

    #[inline]
    fn encode_request(&self, request: &ControlRequest, bytes: &mut [u8]) {
        let [first, second, third] = request.data;
        put(bytes, 0, request.id.to_le_bytes());
        put(bytes, 2, request.kind.to_le_bytes());
        put(bytes, 4, first.to_le_bytes());
        put(bytes, 8, second.to_le_bytes());
        put(bytes, 12, third.to_le_bytes());
    }

    #[inline]
    fn decode_response(&self, bytes: &[u8]) -> ControlResponse {
        ControlResponse {
            id: get_u16(bytes, 0),
            kind: get_u16(bytes, 2),
            status: get_u32(bytes, 4),
            data: get_u32(bytes, 8),
        }
    }

    #[inline]
    fn encode_response(&self, response: &ControlResponse, bytes: &mut [u8]) {
        put(bytes, 0, response.id.to_le_bytes());
        put(bytes, 2, response.kind.to_le_bytes());
        put(bytes, 4, response.status.to_le_bytes());
        put(bytes, 8, response.data.to_le_bytes());
    }
}
