// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The same for network devices.

use super::Fickle;
use crate::mock::Area;
use crate::negotiate::BadKey;
use crate::netif::tests::queues::hashing;
use crate::netif::tests::{
    extra, read_rx, read_tx, request, response, rx_ends, tx_ends, FATAL, GSO,
};
use crate::netif::{
    ctrl, key, rxf, status, txf, BadTxResponse, Control, ControlRequest, ControlResponse,
    ControlStep, Extras, Id, Info, Rx, RxNext, RxPacket, RxReason, RxRequest, Tx, TxFatal, TxIds,
    TxNext, TxPacket, TxReason, TxResponse, VifQueue, Wish,
};
use crate::ring::{index, Back, Codec, Front, Memory, HEADER};
use std::vec;
use std::vec::Vec;

const MORE: u16 = txf::MORE_DATA;
const EXTRA: u16 = txf::EXTRA_INFO;

/// What no honest front end writes ends the device, and nothing of it is carried out.
#[test]
fn xsa39_net_garbage_ends_the_device() {
    let fatal = |slots: &[_]| {
        let (next, responses, _) = read_tx(slots);
        assert!(responses.iter().all(|(_, status)| *status == status::ERROR));
        next.expect_err("fatal")
    };
    assert_eq!(fatal(&[request(0, 0, 100, MORE)]), TxFatal::Truncated);
    assert_eq!(fatal(&[request(0, 0, 100, EXTRA)]), TxFatal::Truncated);
    let crossing = TxFatal::Page {
        offset: 4090,
        size: 14,
    };
    assert_eq!(fatal(&[request(0, 4090, 14, 0)]), crossing);
    let mut many = vec![request(0, 0, 4000, MORE); 22];
    many.push(request(0, 0, 10, 0));
    assert_eq!(fatal(&many), TxFatal::Slots);

    let (front, mut back) = tx_ends();
    front.memory().store(index::REQ_PROD, 300);
    let mut packet = TxPacket::new();
    let first = packet.read(&mut back, FATAL).expect_err("fatal");
    front.memory().store(index::REQ_PROD, 0);
    assert_eq!(packet.read(&mut back, FATAL), Err(first), "for good");
}

/// A packet of more slots than a back end has room for is dropped as a whole, and each of its slots
/// is answered (CVE-2013-0216, -0217).
#[test]
fn xsa39_net_too_many_slots_are_answered() {
    let mut slots = vec![request(0, 0, 4000, MORE)];
    slots.extend((1..20).map(|id| request(id, 0, 10, if id < 19 { MORE } else { 0 })));
    let (next, mut responses, _) = read_tx(&slots);
    assert_eq!(next, Ok(TxNext::Refused(TxReason::Slots)));
    responses.sort_unstable();
    assert!(responses
        .into_iter()
        .eq((0..20).map(|id| (id, status::ERROR))));
}

/// Both ends read each byte of an entry once, and what they check is what they have read.
#[test]
fn xsa155_net_copy_once() {
    let area = Area::page();
    let mut front = Front::new(area.clone(), Tx).unwrap();
    let slots = [
        request(1, 0, 200, MORE | EXTRA),
        extra(GSO, false).into(),
        request(2, 0, 100, 0),
    ];
    for slot in &slots {
        front.push(slot).unwrap();
    }
    let _ = front.publish();
    let mut back = Back::attach(Fickle::new(area), Tx).unwrap();
    let mut packet = TxPacket::new();
    assert_eq!(packet.read(&mut back, FATAL), Ok(TxNext::Packet));
    assert_eq!(packet.size(), 200);
    let sizes: Vec<_> = packet.requests().iter().map(|r| (r.id, r.size)).collect();
    assert_eq!(sizes, [(1, 100), (2, 100)]);
    let reads = back.memory().reads.borrow();
    assert!(reads[HEADER..HEADER + 36].iter().all(|count| *count == 1));
    assert!(reads[HEADER + 36..].iter().all(|count| *count == 0));
}

/// The same for a front end's receive ring.
#[test]
fn xsa155_net_copy_once_in_front_ends() {
    let area = Area::page();
    let mut front = Front::new(Fickle::new(area.clone()), Rx).unwrap();
    for id in 0..3 {
        front.push(&RxRequest { id, gref: 8 }).unwrap();
    }
    let _ = front.publish();
    let mut back = Back::attach(area, Rx).unwrap();
    for slot in [
        response(0, 0, 100, rxf::MORE_DATA | rxf::EXTRA_INFO),
        extra(GSO, false).into(),
        response(2, 0, 50, 0),
    ] {
        back.pop().unwrap();
        back.push(&slot).unwrap();
    }
    let _ = back.publish();
    let mut packet = RxPacket::new();
    assert_eq!(packet.read(&mut front, |_| {}), Ok(RxNext::Packet));
    assert_eq!((packet.size(), packet.parts().len()), (150, 2));
    let reads = front.memory().reads.borrow();
    assert!(reads[HEADER..HEADER + 24].iter().all(|count| *count == 1));
    assert!(reads[HEADER + 24..].iter().all(|count| *count == 0));
}

/// A response has no byte of its sender's memory where it says nothing.
#[test]
fn xsa216_net_no_padding_leaks() {
    let (mut front, mut back) = tx_ends();
    let slots = [request(0x101, 0, 100, EXTRA), extra(GSO, false).into()];
    for slot in &slots {
        front.push(slot).unwrap();
    }
    let _ = front.publish();
    let mut packet = TxPacket::new();
    assert_eq!(packet.read(&mut back, FATAL), Ok(TxNext::Packet));
    front.memory().copy_in(HEADER, &[0xee; 24]);
    packet.answer(&mut back, status::OKAY);
    let mut expected = vec![0xee; 24];
    expected[..4].copy_from_slice(&[1, 1, 0, 0]);
    // To extra information: no id, but that it is none.
    expected[12..16].copy_from_slice(&[0, 0, 1, 0]);
    assert_eq!(&front.memory().bytes()[HEADER..HEADER + 24], expected);

    let info = Info::Other(0);
    assert_eq!(extra(info, false).encode(), [0; 8]);
    let mut bytes = [0; 16];
    Control.encode_response(&ControlResponse::default(), &mut bytes);
    Rx.encode_request(&RxRequest::default(), &mut bytes);
    assert_eq!(bytes, [0; 16]);
}

/// Nothing is written beyond the mapping table: offset and length count together.
#[test]
fn xsa270_mapping_offset_and_length() {
    let mut hashing = hashing(128);
    for (count, offset) in [
        (1, 128),
        (128, 1),
        (129, 0),
        (u32::MAX, 1),
        (1, u32::MAX),
        (0, 129),
        (2, u32::MAX),
    ] {
        let request = ControlRequest {
            id: 1,
            kind: ctrl::SET_HASH_MAPPING,
            data: [8, count, offset],
        };
        let ControlStep::Answer(response) = hashing.begin(&request) else {
            panic!("{count} at {offset}");
        };
        assert_eq!(response.status, ctrl::INVALID_PARAMETER);
    }
    let request = ControlRequest {
        id: 1,
        kind: ctrl::SET_HASH_MAPPING,
        data: [8, 28, 100],
    };
    let ControlStep::Copy { len, pending, .. } = hashing.begin(&request) else {
        panic!("in order");
    };
    assert_eq!(len, 112);
    // The table has become smaller in between.
    let smaller = ControlRequest {
        id: 2,
        kind: ctrl::SET_HASH_MAPPING_SIZE,
        data: [127, 0, 0],
    };
    hashing.begin(&smaller);
    let response = hashing.end(&pending, Some(&[0; 112]), 4);
    assert_eq!(response.status, ctrl::INVALID_PARAMETER);
}

/// A front end takes no response that it has not asked for, and nothing that is not in its page.
#[test]
fn xsa376_net_front_ends_distrust() {
    let mut ids = TxIds::new([Id::UNUSED; 256]);
    let id = ids.start().unwrap();
    let mut answer = |id, status| ids.finish(&TxResponse { id, status });
    assert_eq!(answer(256, 0), Err(BadTxResponse::UnknownId(256)));
    assert_eq!(answer(id + 1, 0), Err(BadTxResponse::NotPending(id + 1)));
    assert_eq!(answer(id, status::NULL), Err(BadTxResponse::NoExtra));
    assert_eq!(answer(id, status::OKAY), Ok(Some(id)));
    assert_eq!(answer(id, 0), Err(BadTxResponse::NotPending(id)));

    let reason = |slots: &[_]| match read_rx(slots).0 {
        RxNext::Refused(reason) => reason,
        next => panic!("{next:?}"),
    };
    assert_eq!(reason(&[response(0, 4000, 97, 0)]), RxReason::Page);
    assert_eq!(reason(&[response(0, 0, -1, 0)]), RxReason::Status(-1));
    assert_eq!(reason(&[response(1, 0, 100, 0)]), RxReason::Id);
    assert_eq!(
        reason(&[response(0, 0, 100, rxf::MORE_DATA)]),
        RxReason::Truncated
    );
    let (mut front, back) = rx_ends();
    back.memory().store(index::RSP_PROD, 257);
    assert!(RxPacket::new().read(&mut front, |_| {}).is_err());
}

/// The headers of a packet are found however it is cut into pieces, and so can be made linear.
#[test]
fn xsa423_headers_in_pieces() {
    let slots = [
        request(0, 0, 254, MORE),
        request(1, 4000, 50, MORE),
        request(2, 10, 40, MORE),
        request(3, 20, 150, 0),
    ];
    let (next, _, packet) = read_tx(&slots);
    assert_eq!(next, Ok(TxNext::Packet));
    let header: Vec<_> = packet
        .pieces(0, 128)
        .map(|p| (p.gref, p.offset, p.len))
        .collect();
    assert_eq!(
        header,
        [(100, 0, 14), (101, 4000, 50), (102, 10, 40), (103, 20, 24)]
    );
    assert_eq!(header.iter().map(|(.., len)| len).sum::<u32>(), 128);
}

/// What is copied as the header is not part of what comes after it, and nothing is lost between,
/// wherever the cut is.
#[test]
fn xsa432_header_and_rest() {
    let slots = [
        request(0, 0, 350, MORE),
        request(1, 0, 100, MORE),
        request(2, 0, 100, MORE),
        request(3, 0, 100, 0),
    ];
    let (_, _, packet) = read_tx(&slots);
    for cut in 0..=350 {
        let both = packet.pieces(0, cut).chain(packet.pieces(cut, 350));
        // Byte for byte: the page, and the offset in it.
        let bytes: Vec<_> = both
            .flat_map(|p| (p.offset..p.offset + p.len).map(move |at| (p.gref, at)))
            .collect();
        let expected = (100..104).zip([50, 100, 100, 100]);
        let expected = expected.flat_map(|(gref, len)| (0..len).map(move |at| (gref, at)));
        assert!(bytes.into_iter().eq(expected), "cut at {cut}");
    }
}

/// Slots without data are answered, but nothing is made of them.
#[test]
fn xsa448_empty_slots() {
    let mut slots = vec![request(0, 0, 100, MORE)];
    slots.extend((1..19).map(|id| request(id, 0, 0, if id < 18 { MORE } else { 0 })));
    let (next, _, packet) = read_tx(&slots);
    assert_eq!(next, Ok(TxNext::Packet));
    assert_eq!(
        (packet.requests().len(), packet.pieces(0, u32::MAX).count()),
        (19, 1)
    );
    let slots = [
        response(0, 0, 0, rxf::MORE_DATA),
        response(1, 0, 100, rxf::MORE_DATA),
        response(2, 4096, 0, 0),
    ];
    let (next, unused, packet) = read_rx(&slots);
    assert_eq!(
        (next, packet.parts().len(), unused),
        (RxNext::Packet, 1, vec![0, 2])
    );
}

/// A back end that asks for headroom takes entries for it, too: none beyond what was requested.
#[test]
fn no_overrun_of_the_receive_requests() {
    use crate::netif::{Checksum, RxSend};
    let extras = Extras {
        headroom: 256,
        ..Extras::default()
    };
    let mut send = RxSend::new(8192, Checksum::Unknown, extras, true).unwrap();
    let entries = send.entries();
    assert_eq!(
        entries, 4,
        "two pages are not enough, and extra information"
    );
    let request = RxRequest::default();
    assert_eq!(core::iter::from_fn(|| send.next(&request)).count(), 4);
}

/// A front end cannot ask for no queue at all (the hole of 2026, which has no XSA).
#[test]
fn no_queue_is_no_number_of_vif_queues() {
    for queues in [0, 9, 1 << 32] {
        let read = |name| match name {
            key::REQUEST_RX_COPY => Some(1),
            key::MULTI_QUEUE_NUM_QUEUES => Some(queues),
            _ => None,
        };
        let bad = BadKey {
            key: key::MULTI_QUEUE_NUM_QUEUES,
            value: Some(queues),
        };
        assert_eq!(Wish::read(read, 8), Err(bad));
    }
    assert!(VifQueue::read(|_| Some(0)).is_err());
}

/// A frame that a back end sends in small parts has an Ethernet header in all (the hole of 2026,
/// which has no XSA).
#[test]
fn short_ethernet_header() {
    for size in 0..14 {
        let (next, _, _) = read_rx(&[response(0, 0, size, 0)]);
        assert_eq!(next, RxNext::Refused(RxReason::Header));
        let (next, _, _) = read_tx(&[request(0, 0, size as u16, 0)]);
        assert_eq!(next, Ok(TxNext::Refused(TxReason::Header)));
    }
}
