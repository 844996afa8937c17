// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The receive ring, either end.

use super::*;
use proptest::prelude::*;
use std::vec;

const MORE: u16 = rxf::MORE_DATA;
const EXTRA: u16 = rxf::EXTRA_INFO;

fn refused(slots: &[RxSlot]) -> RxReason {
    let (next, unused, packet) = read_rx(slots);
    let RxNext::Refused(reason) = next else {
        panic!("{next:?}");
    };
    let mut sorted = unused;
    sorted.sort_unstable();
    assert!(
        sorted.into_iter().eq(0..slots.len() as u32),
        "each is given back once"
    );
    assert_eq!((packet.parts().len(), packet.size()), (0, 0));
    reason
}

/// A packet of `count` parts of 100 bytes.
fn chain(count: u16) -> Vec<RxSlot> {
    let more = |id| if id + 1 < count { MORE } else { 0 };
    (0..count)
        .map(|id| response(id, 0, 100, more(id)))
        .collect()
}

#[test]
fn a_packet_of_one_response() {
    let (next, unused, packet) = read_rx(&[response(0, 96, 4000, rxf::DATA_VALIDATED)]);
    assert_eq!((next, unused), (RxNext::Packet, vec![]));
    let part = Part {
        entry: 0,
        offset: 96,
        len: 4000,
    };
    assert_eq!((packet.parts(), packet.size()), (&[part][..], 4000));
    assert_eq!(packet.checksum(), Checksum::Good);
    assert_eq!(read_rx(&[]).0, RxNext::Empty);
}

#[test]
fn a_packet_of_many_responses_and_extra_information() {
    let hash = Info::Hash {
        kind: 2,
        algorithm: 1,
        value: 5,
    };
    let (next, unused, packet) = read_rx(&[
        response(0, 0, 4096, MORE | EXTRA | rxf::CSUM_BLANK),
        extra(GSO, true).into(),
        extra(hash, false).into(),
        response(3, 0, 0, MORE),
        response(4, 4000, 96, 0),
    ]);
    assert_eq!((next, unused), (RxNext::Packet, vec![1, 2, 3]));
    let parts: Vec<_> = packet
        .parts()
        .iter()
        .map(|p| (p.entry, p.offset, p.len))
        .collect();
    assert_eq!(parts, [(0, 0, 4096), (4, 4000, 96)]);
    assert_eq!((packet.size(), packet.checksum()), (4192, Checksum::Blank));
    assert_eq!(packet.extras().gso.map(|gso| gso.size), Some(1448));
    assert_eq!(packet.extras().hash.map(|hash| hash.value), Some(5));
}

#[test]
fn numbers_of_responses() {
    let (next, _, packet) = read_rx(&chain(18));
    assert_eq!((next, packet.size()), (RxNext::Packet, 1800));
    assert_eq!(refused(&chain(19)), RxReason::Slots);
    assert_eq!(refused(&chain(256)), RxReason::Slots);
}

#[test]
fn responses_are_within_their_pages() {
    for (offset, status) in [
        (0, 4097),
        (4096, 14),
        (4083, 14),
        (65535, 14),
        (1, i16::MAX),
    ] {
        assert_eq!(refused(&[response(0, offset, status, 0)]), RxReason::Page);
        let second = [response(0, 0, 100, MORE), response(1, offset, status, 0)];
        assert_eq!(refused(&second), RxReason::Page);
    }
    for status in [-1, -2, i16::MIN] {
        assert_eq!(
            refused(&[response(0, 0, status, 0)]),
            RxReason::Status(status)
        );
        let second = [response(0, 0, 100, MORE), response(1, 0, status, 0)];
        assert_eq!(refused(&second), RxReason::Status(status));
    }
}

#[test]
fn responses_are_to_the_requests_in_their_entries() {
    assert_eq!(refused(&[response(1, 0, 100, 0)]), RxReason::Id);
    assert_eq!(refused(&[response(256, 0, 100, 0)]), RxReason::Id);
    let swapped = [response(0, 0, 100, MORE), response(0, 0, 100, 0)];
    assert_eq!(refused(&swapped), RxReason::Id);
}

#[test]
fn what_is_announced_is_there() {
    assert_eq!(refused(&[response(0, 0, 100, MORE)]), RxReason::Truncated);
    assert_eq!(refused(&[response(0, 0, 100, EXTRA)]), RxReason::Truncated);
    let slots = [response(0, 0, 100, EXTRA), extra(GSO, true).into()];
    assert_eq!(refused(&slots), RxReason::Truncated);
}

#[test]
fn types_of_extra_information() {
    let with = |info| {
        let slots = [response(0, 0, 100, EXTRA), extra(info, false).into()];
        refused(&slots)
    };
    for kind in [0, 6, 8, 255] {
        assert_eq!(with(Info::Other(kind)), RxReason::Extra);
    }
    assert_eq!(with(Info::McastAdd([1; 6])), RxReason::Extra);
    assert_eq!(with(Info::McastDel([1; 6])), RxReason::Extra);
    for (size, kind) in [(0, gso::TCPV4), (9, gso::NONE), (9, 3)] {
        let info = Info::Gso {
            size,
            kind,
            features: 0,
        };
        assert_eq!(with(info), RxReason::Gso);
    }
    let twice = [
        response(0, 0, 100, EXTRA),
        extra(GSO, true).into(),
        extra(GSO, false).into(),
    ];
    assert_eq!(refused(&twice), RxReason::Extra);
}

#[test]
fn there_is_an_ethernet_header() {
    assert_eq!(refused(&[response(0, 0, 0, 0)]), RxReason::Header);
    assert_eq!(refused(&[response(0, 0, 13, 0)]), RxReason::Header);
    let (next, _, packet) = read_rx(&[response(0, 0, 1, MORE), response(1, 0, 13, 0)]);
    assert_eq!((next, packet.parts().len()), (RxNext::Packet, 2));
}

#[test]
fn headroom() {
    let with = |headroom, first: RxSlot, second: RxSlot| {
        let info = Info::Xdp { headroom };
        read_rx(&[first, extra(info, false).into(), second])
    };
    let parts = |packet: &RxPacket| -> Vec<_> {
        packet
            .parts()
            .iter()
            .map(|p| (p.entry, p.offset, p.len))
            .collect()
    };
    // As it says in the offset.
    let (next, _, packet) = with(
        256,
        response(0, 256, 3840, EXTRA | MORE),
        response(2, 256, 100, 0),
    );
    assert_eq!((next, packet.extras().headroom), (RxNext::Packet, 256));
    assert_eq!(parts(&packet), [(0, 256, 3840), (2, 256, 100)]);
    // As Linux's back end does it.
    let (next, _, packet) = with(
        256,
        response(0, 0, 4096, EXTRA | MORE),
        response(2, 0, 356, 0),
    );
    assert_eq!(next, RxNext::Packet);
    assert_eq!(parts(&packet), [(0, 256, 3840), (2, 256, 100)]);
    for (headroom, status) in [(256, 255), (5000, 4096), (65535, 100)] {
        let slots = [
            response(0, 0, status, EXTRA),
            extra(Info::Xdp { headroom }, false).into(),
        ];
        assert_eq!(refused(&slots), RxReason::Page);
    }
}

#[test]
fn what_cannot_be_sent() {
    let send = |size, headroom, sg| {
        let extras = Extras {
            headroom,
            ..Extras::default()
        };
        RxSend::new(size, Checksum::Unknown, extras, sg).map(|send| send.entries())
    };
    assert_eq!(send(4096, 0, false), Ok(1));
    assert_eq!(send(4097, 0, false), Err(Unsendable::Slots));
    assert_eq!(send(3840, 256, false), Ok(2));
    assert_eq!(send(3841, 256, false), Err(Unsendable::Slots));
    assert_eq!(send(18 * 4096, 0, true), Ok(18));
    assert_eq!(send(18 * 4096 + 1, 0, true), Err(Unsendable::Slots));
    assert_eq!(send(0, 0, true), Err(Unsendable::Size));
    assert_eq!(send(14, 4096, true), Err(Unsendable::Slots));
    assert_eq!(send(14, u16::MAX, true), Err(Unsendable::Slots));
    assert_eq!(send(u32::MAX, 4095, true), Err(Unsendable::Slots));
}

#[test]
fn a_failed_copy_costs_the_packet_and_no_more() {
    let (mut front, mut back) = rx_ends();
    for failed in [true, false] {
        let mut send = RxSend::new(9000, Checksum::Good, Extras::default(), true).unwrap();
        for i in 0..send.entries() {
            let request = back.pop().unwrap().unwrap();
            let mut slot = send.next(&request).unwrap().slot();
            if failed && i == 1 {
                slot = slot.failed(status::ERROR);
            }
            back.push(&slot).unwrap();
        }
        assert_eq!(send.next(&RxRequest::default()), None);
    }
    let _ = back.publish();
    let mut packet = RxPacket::new();
    let mut unused = Vec::new();
    let mut read = || packet.read(&mut front, |entry| unused.push(entry));
    assert_eq!(read(), Ok(RxNext::Refused(RxReason::Status(-1))));
    assert_eq!(read(), Ok(RxNext::Packet));
    assert_eq!(read(), Ok(RxNext::Empty));
    assert_eq!(unused, [1, 0, 2]);
}

fn extras() -> impl Strategy<Value = Extras> {
    let gso = (1u16.., any::<bool>()).prop_map(|(size, ipv6)| Gso { size, ipv6 });
    let hash = (any::<u32>(), 0u8..4).prop_map(|(value, kind)| FlowHash {
        value,
        kind: HashKind::from_number(kind).unwrap(),
    });
    let headroom = prop_oneof![Just(0u16), Just(256), 1u16..448];
    (
        proptest::option::of(gso),
        proptest::option::of(hash),
        headroom,
    )
        .prop_map(|(gso, hash, headroom)| Extras {
            gso,
            hash,
            headroom,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a back end sends, a front end reads.
    #[test]
    fn packets_get_through(
        packets in proptest::collection::vec((14u32..65550, extras()), 1..60),
    ) {
        let (mut front, mut back) = rx_ends();
        let mut packet = RxPacket::new();
        for (size, extras) in packets {
            let mut send = RxSend::new(size, Checksum::Blank, extras, true).unwrap();
            let mut sent = Vec::new();
            let mut at = 0;
            let entries = send.entries();
            prop_assert!(back.unconsumed().unwrap() >= entries);
            for _ in 0..entries {
                let request = back.pop().unwrap().unwrap();
                let entry = send.next(&request).unwrap();
                if let RxEntry::Data { response, from } = entry {
                    prop_assert_eq!(from, at);
                    at += response.status as u32;
                    let len = response.status as u32;
                    sent.push((request.gref - 1000, u32::from(response.offset), len));
                }
                back.push(&entry.slot()).unwrap();
            }
            prop_assert_eq!((send.next(&RxRequest::default()), at), (None, size));
            let _ = back.publish();

            let mut unused = 0;
            let next = packet.read(&mut front, |_| unused += 1);
            prop_assert_eq!(next, Ok(RxNext::Packet));
            prop_assert_eq!((packet.size(), packet.checksum()), (size, Checksum::Blank));
            prop_assert_eq!((*packet.extras(), unused), (extras, extras.entries()));
            let parts = packet.parts().iter().map(|p| (p.entry, p.offset, p.len));
            prop_assert!(parts.eq(sent));
            for _ in 0..entries {
                request_rx(&mut front);
            }
            let _ = front.publish();
        }
    }

    /// Whatever a back end writes, each entry is a part of a packet or given back, once.
    #[test]
    fn any_responses(
        slots in proptest::collection::vec(hostile(), 0..256),
    ) {
        let (mut front, mut back) = rx_ends();
        for (id, slot) in slots.iter().enumerate() {
            back.pop().unwrap();
            let mut response = slot.response();
            // The right id, mostly.
            if response.id % 16 != 15 {
                response.id = id as u16;
            }
            back.push(&RxSlot::from(response)).unwrap();
        }
        let _ = back.publish();
        let mut packet = RxPacket::new();
        let mut entries = Vec::new();
        loop {
            match packet.read(&mut front, |entry| entries.push(entry)).unwrap() {
                RxNext::Empty => break,
                RxNext::Packet => {
                    let parts = packet.parts();
                    prop_assert!(parts.len() <= 18);
                    prop_assert!(parts.iter().all(|p| p.len > 0 && p.offset + p.len <= 4096));
                    prop_assert_eq!(parts.iter().map(|p| p.len).sum::<u32>(), packet.size());
                    prop_assert!(packet.size() >= 14);
                    entries.extend(parts.iter().map(|p| p.entry));
                }
                RxNext::Refused(_) => prop_assert!(packet.parts().is_empty()),
            }
        }
        entries.sort_unstable();
        prop_assert!(entries.into_iter().eq(0..slots.len() as u32));
    }
}

/// An entry that a hostile back end could write, often an honest one.
fn hostile() -> impl Strategy<Value = RxSlot> {
    let flags = prop_oneof![4 => Just(0), 3 => Just(MORE), 1 => Just(EXTRA), 1 => any::<u16>()];
    let status = prop_oneof![6 => 0i16..200, 1 => 4000i16..5000, 1 => any::<i16>()];
    let responses = (0u16..200, flags, any::<u16>(), status)
        .prop_map(|(offset, flags, id, status)| response(id, offset, status, flags));
    prop_oneof![8 => responses, 1 => any::<[u8; 8]>().prop_map(RxSlot::from)]
}
