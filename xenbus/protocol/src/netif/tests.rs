// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Tests of packets in either direction: what is refused, and property tests of what gets through.

mod ids;
mod limit;
mod loopback;
mod negotiate;
pub(crate) mod queues;
mod rx;
mod tx;
mod wire;

use super::*;
use crate::mock::Area;
use crate::ring::{Back, Front};
use std::vec::Vec;

/// What C's back end calls fatal_skb_slots.
pub(crate) const FATAL: usize = 20;

/// The two ends of a transmit ring.
pub(crate) fn tx_ends() -> (Front<Area, Tx>, Back<Area, Tx>) {
    let area = Area::page();
    let front = Front::new(area.clone(), Tx).unwrap();
    (front, Back::attach(area, Tx).unwrap())
}

/// The two ends of a receive ring, all of whose entries have been requested: entry `n` grants
/// page `1000 + n`.
pub(crate) fn rx_ends() -> (Front<Area, Rx>, Back<Area, Rx>) {
    let area = Area::page();
    let mut front = Front::new(area.clone(), Rx).unwrap();
    while front.free() > 0 {
        request_rx(&mut front);
    }
    let _ = front.publish();
    (front, Back::attach(area, Rx).unwrap())
}

pub(crate) fn request_rx(front: &mut Front<Area, Rx>) {
    let entry = front.next_request();
    let request = RxRequest {
        id: entry as u16,
        gref: 1000 + entry,
    };
    front.push(&request).unwrap();
}

pub(crate) fn request(id: u16, offset: u16, size: u16, flags: u16) -> TxSlot {
    TxSlot::from(TxRequest {
        gref: 100 + u32::from(id),
        offset,
        flags,
        id,
        size,
    })
}

pub(crate) fn extra(info: Info, more: bool) -> Extra {
    Extra { info, more }
}

pub(crate) const GSO: Info = Info::Gso {
    size: 1448,
    kind: gso::TCPV4,
    features: 0,
};

/// What a back end says to these requests, and its responses `(id, status)`.
pub(crate) fn read_tx(slots: &[TxSlot]) -> (Result<TxNext, TxFatal>, Vec<(u16, i16)>, TxPacket) {
    let (mut front, mut back) = tx_ends();
    for slot in slots {
        front.push(slot).unwrap();
    }
    let _ = front.publish();
    let mut packet = TxPacket::new();
    let next = packet.read(&mut back, FATAL);
    let _ = back.publish();
    let mut responses = Vec::new();
    while let Some(response) = front.pop().unwrap() {
        responses.push((response.id, response.status));
    }
    (next, responses, packet)
}

/// What a front end says to these entries, and those that it gives back.
pub(crate) fn read_rx(slots: &[RxSlot]) -> (RxNext, Vec<u32>, RxPacket) {
    let (mut front, mut back) = rx_ends();
    for slot in slots {
        back.pop().unwrap().unwrap();
        back.push(slot).unwrap();
    }
    let _ = back.publish();
    let mut unused = Vec::new();
    let mut packet = RxPacket::new();
    let next = packet.read(&mut front, |entry| unused.push(entry)).unwrap();
    (next, unused, packet)
}

/// A response to the request in entry `id`.
pub(crate) fn response(id: u16, offset: u16, status: i16, flags: u16) -> RxSlot {
    RxSlot::from(RxResponse {
        id,
        offset,
        flags,
        status,
    })
}

#[test]
fn buffers_are_cut_at_the_ends_of_pages() {
    let cut = |offset, len| {
        let cut: Vec<_> = spans(offset, len)
            .map(|s| (s.page, s.offset, s.len))
            .collect();
        assert_eq!(cut.len() as u32, count_spans(offset, len));
        cut
    };
    assert_eq!(cut(0, 0), []);
    assert_eq!(cut(5000, 0), []);
    assert_eq!(cut(0, 4096), [(0, 0, 4096)]);
    assert_eq!(cut(4095, 1), [(0, 4095, 1)]);
    assert_eq!(cut(4095, 2), [(0, 4095, 1), (1, 0, 1)]);
    assert_eq!(cut(8200, 4096), [(2, 8, 4088), (3, 0, 8)]);
    assert_eq!(count_spans(u32::MAX, u32::MAX), (1 << 20) + 1);
}

#[test]
fn extra_information_in_turn() {
    let mut extras = Extras {
        gso: Some(Gso {
            size: 7,
            ipv6: true,
        }),
        hash: Some(FlowHash {
            value: 9,
            kind: HashKind::Ipv6Tcp,
        }),
        headroom: 256,
    };
    assert_eq!(extras.entries(), 3);
    let gso = Info::Gso {
        size: 7,
        kind: gso::TCPV6,
        features: 0,
    };
    let hash = Info::Hash {
        kind: 3,
        algorithm: 1,
        value: 9,
    };
    assert_eq!(extras.take(), Some(extra(gso, true)));
    assert_eq!(
        extras.take(),
        Some(extra(Info::Xdp { headroom: 256 }, true))
    );
    assert_eq!(extras.take(), Some(extra(hash, false)));
    assert_eq!((extras.take(), extras.entries()), (None, 0));
}

#[test]
fn kinds_of_hashes() {
    let bits = [hash::IPV4, hash::IPV4_TCP, hash::IPV6, hash::IPV6_TCP];
    for (number, bit) in (0..4).zip(bits) {
        let kind = HashKind::from_number(number).unwrap();
        assert_eq!((kind.number(), kind.bit()), (number, bit));
        assert_eq!(kind.ports(), number % 2 == 1);
    }
    assert_eq!(HashKind::from_number(4), None);
}

#[test]
fn checksums() {
    for checksum in [Checksum::Unknown, Checksum::Good, Checksum::Blank] {
        assert_eq!(Checksum::of(checksum.flags(1, 2), 1, 2), checksum);
    }
    assert_eq!(Checksum::of(1, 1, 2), Checksum::Blank);
    assert_eq!(Checksum::Blank.flags(1, 2), 3);
}
