// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The transmit ring, either end.

use super::*;
use crate::ring::{index, Memory, Overrun};
use proptest::prelude::*;
use std::vec;

const MORE: u16 = txf::MORE_DATA;
const EXTRA: u16 = txf::EXTRA_INFO;

/// A packet of one request of the first and `count` more, of 10 bytes each.
fn chain(count: u16) -> Vec<TxSlot> {
    let size = 100 + 10 * count;
    let mut slots = vec![request(0, 0, size, if count > 0 { MORE } else { 0 })];
    for id in 1..=count {
        slots.push(request(id, 0, 10, if id < count { MORE } else { 0 }));
    }
    slots
}

fn refused(slots: &[TxSlot]) -> TxReason {
    let (next, responses, _) = read_tx(slots);
    let Ok(TxNext::Refused(reason)) = next else {
        panic!("{next:?}");
    };
    assert_eq!(responses.len(), slots.len(), "each entry is answered");
    assert!(responses.iter().all(|(_, status)| [-1, 1].contains(status)));
    reason
}

fn fatal(slots: &[TxSlot]) -> TxFatal {
    let (next, _, _) = read_tx(slots);
    next.expect_err("fatal")
}

#[test]
fn a_packet_of_one_request() {
    let flags = txf::CSUM_BLANK | txf::DATA_VALIDATED;
    let (next, responses, packet) = read_tx(&[request(7, 96, 4000, flags)]);
    assert_eq!((next, responses), (Ok(TxNext::Packet), vec![]));
    assert_eq!((packet.size(), packet.requests().len()), (4000, 1));
    assert_eq!(packet.checksum(), Checksum::Blank);
    assert_eq!(*packet.extras(), Extras::default());
    let piece = Piece {
        request: 0,
        gref: 107,
        offset: 96,
        len: 4000,
    };
    assert!(packet.pieces(0, u32::MAX).eq([piece]));
    assert_eq!(read_tx(&[]).0, Ok(TxNext::Empty));
}

#[test]
fn a_packet_of_many_requests_and_extra_information() {
    let hash = Info::Hash {
        kind: 1,
        algorithm: 1,
        value: 5,
    };
    let (mut front, mut back) = tx_ends();
    for slot in [
        request(1, 4000, 96 + 4096 + 50, MORE | EXTRA),
        extra(GSO, true).into(),
        extra(hash, false).into(),
        request(2, 0, 4096, MORE),
        request(3, 0, 0, MORE),
        request(4, 1000, 50, 0),
        request(5, 0, 60, 0),
    ] {
        front.push(&slot).unwrap();
    }
    let _ = front.publish();
    let mut packet = TxPacket::new();
    assert_eq!(packet.read(&mut back, FATAL), Ok(TxNext::Packet));
    assert_eq!((packet.size(), packet.extra_count()), (4242, 2));
    let extras = Extras {
        gso: Some(Gso {
            size: 1448,
            ipv6: false,
        }),
        hash: Some(FlowHash {
            value: 5,
            kind: HashKind::Ipv4Tcp,
        }),
        headroom: 0,
    };
    assert_eq!(*packet.extras(), extras);
    let pieces = |from, len| -> Vec<_> {
        let pieces = packet.pieces(from, len);
        pieces
            .map(|p| (p.request, p.gref, p.offset, p.len))
            .collect()
    };
    let all = [(0, 101, 4000, 96), (1, 102, 0, 4096), (3, 104, 1000, 50)];
    assert_eq!(pieces(0, 4242), all);
    assert_eq!(pieces(0, 128), [(0, 101, 4000, 96), (1, 102, 0, 32)]);
    assert_eq!(pieces(128, 4096), [(1, 102, 32, 4064), (3, 104, 1000, 32)]);
    assert_eq!(pieces(4241, 5), [(3, 104, 1049, 1)]);
    assert_eq!(pieces(4242, 5), []);
    assert_eq!(pieces(0, 0), []);

    packet.answer(&mut back, status::DROPPED);
    assert_eq!(packet.read(&mut back, FATAL), Ok(TxNext::Packet));
    assert_eq!((packet.size(), packet.extra_count()), (60, 0));
    assert_eq!(*packet.extras(), Extras::default(), "nothing is left over");
    answer_request(&mut back, 5, 0, status::OKAY);
    assert_eq!(packet.read(&mut back, FATAL), Ok(TxNext::Empty));
    let _ = back.publish();
    let responses: Vec<_> = core::iter::from_fn(|| front.pop().unwrap())
        .map(|response| (response.id, response.status))
        .collect();
    let expected = [(1, -2), (0, 1), (0, 1), (2, -2), (3, -2), (4, -2), (5, 0)];
    assert_eq!(responses, expected);
}

#[test]
fn numbers_of_requests() {
    for count in [0, 1, 17, 18] {
        let (next, _, packet) = read_tx(&chain(count));
        assert_eq!(next, Ok(TxNext::Packet));
        assert_eq!(packet.requests().len(), 1 + usize::from(count));
        let sum: u32 = packet.pieces(0, u32::MAX).map(|piece| piece.len).sum();
        assert_eq!(sum, packet.size());
    }
    for count in [19, 20] {
        assert_eq!(refused(&chain(count)), TxReason::Slots);
    }
    assert_eq!(fatal(&chain(21)), TxFatal::Slots);
    assert_eq!(fatal(&chain(100)), TxFatal::Slots);
}

#[test]
fn sizes_of_requests_add_up() {
    let slots = |first, second| [request(0, 0, first, MORE), request(1, 0, second, 0)];
    assert_eq!(refused(&slots(100, 101)), TxReason::Size);
    assert_eq!(refused(&slots(0, 4096)), TxReason::Size);
    // More than 64 KiB is a few bytes on the wire.
    let mut big = vec![request(0, 0, 50, MORE)];
    big.extend((1..17).map(|id| request(id, 0, 4096, if id < 16 { MORE } else { 0 })));
    assert_eq!(refused(&big), TxReason::Size);
    let (next, _, packet) = read_tx(&slots(100, 86));
    assert_eq!(next, Ok(TxNext::Packet));
    assert_eq!(packet.requests()[0].size, 14, "what the others leave");
}

#[test]
fn the_first_request_holds_the_ethernet_header() {
    for size in [0, 1, 13] {
        assert_eq!(refused(&[request(0, 0, size, 0)]), TxReason::Header);
        let split = [request(0, 0, size + 100, MORE), request(1, 0, 100, 0)];
        assert_eq!(refused(&split), TxReason::Header);
    }
    let (next, _, _) = read_tx(&[request(0, 0, 14, 0)]);
    assert_eq!(next, Ok(TxNext::Packet));
}

#[test]
fn requests_are_within_their_pages() {
    let page = |offset, size| TxFatal::Page { offset, size };
    for (offset, size) in [
        (0, 4097),
        (4096, 14),
        (4083, 14),
        (65535, 14),
        (4095, 65535),
    ] {
        assert_eq!(fatal(&[request(0, offset, size, 0)]), page(offset, size));
        let split = [request(0, 0, 65535, MORE), request(1, offset, size, 0)];
        assert_eq!(fatal(&split), page(offset, size));
    }
    // The first request's own size counts.
    let split = [request(0, 4000, 196, MORE), request(1, 0, 100, 0)];
    assert_eq!(read_tx(&split).0, Ok(TxNext::Packet));
    let split = [request(0, 4000, 197, MORE), request(1, 0, 100, 0)];
    assert_eq!(fatal(&split), page(4000, 97));
    assert_eq!(read_tx(&[request(0, 4082, 14, 0)]).0, Ok(TxNext::Packet));
}

#[test]
fn what_is_announced_is_there() {
    assert_eq!(fatal(&[request(0, 0, 100, MORE)]), TxFatal::Truncated);
    assert_eq!(fatal(&[request(0, 0, 100, EXTRA)]), TxFatal::Truncated);
    let slots = [request(0, 0, 100, EXTRA), extra(GSO, true).into()];
    assert_eq!(fatal(&slots), TxFatal::Truncated);
}

#[test]
fn types_of_extra_information() {
    for kind in [0, 6, 7, 8, 255] {
        let slots = [
            request(0, 0, 100, EXTRA),
            extra(Info::Other(kind), false).into(),
        ];
        assert_eq!(fatal(&slots), TxFatal::Extra { kind });
    }
    let twice = [
        request(0, 0, 100, EXTRA),
        extra(GSO, true).into(),
        extra(GSO, false).into(),
    ];
    assert_eq!(refused(&twice), TxReason::Extra);
    let mut endless = vec![request(0, 0, 100, EXTRA)];
    endless.extend([TxSlot::from(extra(Info::Xdp { headroom: 1 }, true)); 254]);
    endless.push(extra(GSO, false).into());
    assert_eq!(refused(&endless), TxReason::Extra);
    // Headroom is of no meaning here, and neither is a hash of something else.
    let odd = Info::Hash {
        kind: 4,
        algorithm: 9,
        value: 1,
    };
    let slots = [
        request(0, 0, 100, EXTRA),
        extra(Info::Xdp { headroom: 77 }, true).into(),
        extra(odd, false).into(),
    ];
    let (next, _, packet) = read_tx(&slots);
    assert_eq!(next, Ok(TxNext::Packet));
    assert_eq!(*packet.extras(), Extras::default());
}

#[test]
fn segmentation() {
    let slots = |size, kind| {
        let gso = Info::Gso {
            size,
            kind,
            features: 0,
        };
        [request(0, 0, 100, EXTRA), extra(gso, false).into()]
    };
    for (size, kind) in [
        (0, gso::TCPV4),
        (0, gso::TCPV6),
        (9, gso::NONE),
        (9, 3),
        (9, 255),
    ] {
        assert_eq!(fatal(&slots(size, kind)), TxFatal::Gso { size, kind });
    }
    let (_, _, packet) = read_tx(&slots(1, gso::TCPV6));
    let gso = Gso {
        size: 1,
        ipv6: true,
    };
    assert_eq!(packet.extras().gso, Some(gso));
}

#[test]
fn the_multicast_filter() {
    let address = [0x33, 0x33, 0, 0, 0, 1];
    let add = Info::McastAdd(address);
    let del = Info::McastDel(address);
    for (info, change) in [
        (add, Multicast::Add(address)),
        (del, Multicast::Del(address)),
    ] {
        let slots = [request(3, 0, 0, EXTRA), extra(info, false).into()];
        let (next, responses, packet) = read_tx(&slots);
        assert_eq!((next, responses), (Ok(TxNext::Multicast(change)), vec![]));
        assert_eq!((packet.requests().len(), packet.extra_count()), (1, 1));
        // It comes alone.
        let both = [
            request(3, 0, 100, EXTRA),
            extra(info, true).into(),
            extra(GSO, false).into(),
        ];
        assert_eq!(refused(&both), TxReason::Multicast);
        let data = [
            request(3, 0, 100, EXTRA | MORE),
            extra(info, false).into(),
            request(4, 0, 50, 0),
        ];
        assert_eq!(refused(&data), TxReason::Multicast);
    }
    let both = [
        request(3, 0, 0, EXTRA),
        extra(add, true).into(),
        extra(del, false).into(),
    ];
    assert_eq!(refused(&both), TxReason::Extra);
}

#[test]
fn an_overrun_is_fatal() {
    let (front, mut back) = tx_ends();
    front.memory().store(index::REQ_PROD, 257);
    let overrun = Overrun {
        claimed: 257,
        possible: 256,
    };
    let mut packet = TxPacket::new();
    for _ in 0..2 {
        let next = packet.read(&mut back, FATAL);
        assert_eq!(next, Err(TxFatal::Overrun(overrun)));
    }
}

#[test]
fn what_cannot_be_sent() {
    let send = |size, requests| {
        TxSend::new(size, requests, Checksum::Unknown, Extras::default()).map(|send| send.entries())
    };
    assert_eq!(send(14, 1), Ok(1));
    assert_eq!(send(65535, 18), Ok(18));
    for size in [0, 13, 65536, u32::MAX] {
        assert_eq!(send(size, 1), Err(Unsendable::Size));
    }
    for requests in [0, 19, u32::MAX] {
        assert_eq!(send(1000, requests), Err(Unsendable::Slots));
    }
}

#[test]
fn a_packet_is_sent_as_a_whole_or_not() {
    let (mut front, _) = tx_ends();
    for id in 0..254 {
        front.push(&request(id, 0, 60, 0)).unwrap();
    }
    let extras = Extras {
        gso: Some(Gso {
            size: 1,
            ipv6: false,
        }),
        headroom: 9,
        ..Extras::default()
    };
    let mut send = TxSend::new(100, 2, Checksum::Blank, extras).unwrap();
    assert_eq!(send.entries(), 3, "no headroom in this direction");
    assert_eq!(send.push(&mut front, 254, 1, 0, 50), Err(crate::ring::Full));
    assert_eq!(front.free(), 2, "nothing is written");
    let mut send = TxSend::new(100, 2, Checksum::Blank, Extras::default()).unwrap();
    assert_eq!(send.push(&mut front, 254, 1, 0, 50), Ok(0));
    assert_eq!(send.push(&mut front, 255, 1, 50, 50), Ok(0));
    assert_eq!(
        send.push(&mut front, 255, 1, 50, 50),
        Err(crate::ring::Full)
    );
}

fn extras() -> impl Strategy<Value = Extras> {
    let gso = (1u16.., any::<bool>()).prop_map(|(size, ipv6)| Gso { size, ipv6 });
    let hash = (any::<u32>(), 0u8..4).prop_map(|(value, kind)| FlowHash {
        value,
        kind: HashKind::from_number(kind).unwrap(),
    });
    let option = |strategy| proptest::option::of(strategy);
    (option(gso), proptest::option::of(hash)).prop_map(|(gso, hash)| Extras {
        gso,
        hash,
        headroom: 0,
    })
}

fn checksum() -> impl Strategy<Value = Checksum> {
    prop_oneof![
        Just(Checksum::Unknown),
        Just(Checksum::Good),
        Just(Checksum::Blank)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a front end sends, a back end reads.
    #[test]
    fn packets_get_through(
        packets in proptest::collection::vec(
            (0u32..4082, 14u32..=65535, checksum(), extras()), 1..60),
    ) {
        let (mut front, mut back) = tx_ends();
        let mut ids = TxIds::new([Id::UNUSED; 256]);
        let mut packet = TxPacket::new();
        for (offset, size, checksum, extras) in packets {
            let requests = count_spans(offset, size);
            let Ok(mut send) = TxSend::new(size, requests, checksum, extras) else {
                prop_assert!(requests > 18);
                continue;
            };
            let entries = send.entries();
            let before = front.free();
            let mut sent = Vec::new();
            for span in spans(offset, size) {
                let id = ids.start().unwrap();
                let (at, len) = (span.offset as u16, span.len as u16);
                ids.start_extras(send.push(&mut front, id, span.page, at, len).unwrap());
                sent.push((span.page, span.offset, span.len));
            }
            prop_assert_eq!(before - front.free(), entries);
            let _ = front.publish();

            prop_assert_eq!(packet.read(&mut back, FATAL), Ok(TxNext::Packet));
            prop_assert_eq!((packet.size(), packet.checksum()), (size, checksum));
            prop_assert_eq!(*packet.extras(), extras);
            let pieces = packet.pieces(0, size).map(|p| (p.gref, p.offset, p.len));
            prop_assert!(pieces.eq(sent));
            packet.answer(&mut back, status::OKAY);
            let _ = back.publish();
            while let Some(response) = front.pop().unwrap() {
                ids.finish(&response).unwrap();
            }
            prop_assert_eq!((ids.iter().count(), front.free()), (0, before));
        }
    }

    /// Whatever a front end writes, each entry is answered once, and what is read is in order.
    #[test]
    fn any_requests(
        slots in proptest::collection::vec(hostile(), 0..256),
    ) {
        let (mut front, mut back) = tx_ends();
        for slot in &slots {
            front.push(slot).unwrap();
        }
        let _ = front.publish();
        let mut packet = TxPacket::new();
        let mut answered = Vec::new();
        loop {
            match packet.read(&mut back, FATAL) {
                Ok(TxNext::Empty) => {
                    prop_assert_eq!(back.unanswered(), 0);
                    break;
                }
                Ok(TxNext::Packet) => {
                    let sum: u32 = packet.requests().iter().map(|r| u32::from(r.size)).sum();
                    prop_assert_eq!(sum, packet.size());
                    prop_assert!(packet.requests()[0].size >= 14);
                    let pieces: Vec<_> = packet.pieces(0, u32::MAX).collect();
                    prop_assert_eq!(pieces.iter().map(|p| p.len).sum::<u32>(), sum);
                    prop_assert!(pieces.iter().all(|p| p.len > 0 && p.offset + p.len <= 4096));
                    packet.answer(&mut back, status::OKAY);
                }
                Ok(TxNext::Multicast(_)) => packet.answer(&mut back, status::OKAY),
                Ok(TxNext::Refused(_)) => prop_assert_eq!(back.unanswered(), 0),
                Err(_) => break,
            }
            let _ = back.publish();
            while let Some(response) = front.pop().unwrap() {
                answered.push(response.id);
            }
        }
        prop_assert!(answered.len() <= slots.len());
    }
}

/// An entry that a hostile front end could write, often an honest one.
fn hostile() -> impl Strategy<Value = TxSlot> {
    let flags = prop_oneof![4 => Just(0), 3 => Just(MORE), 1 => Just(EXTRA), 1 => any::<u16>()];
    let size = prop_oneof![4 => 14u16..200, 1 => 0u16..14, 1 => 4000u16..5000];
    let requests = (0u16..200, flags, any::<u16>(), size)
        .prop_map(|(offset, flags, id, size)| request(id, offset, size, flags));
    let extras = (0u8..7, any::<[u8; 11]>()).prop_map(|(kind, rest)| {
        let mut bytes = [0; 12];
        bytes[0] = kind;
        bytes[1..].copy_from_slice(&rest);
        TxSlot::from(bytes)
    });
    prop_oneof![8 => requests, 1 => extras, 1 => any::<[u8; 12]>().prop_map(TxSlot::from)]
}
