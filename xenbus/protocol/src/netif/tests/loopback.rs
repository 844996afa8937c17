// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Packets all the way: out of a front end's pages through a back end and into its pages again.

use super::*;
use crate::mock::{Loopback, Looped, Pages, NOT_THERE};
use proptest::prelude::*;

/// Writes a packet into fresh pages from `gref` on, and its requests into the ring.
fn transmit(
    front: &mut Front<Area, Tx>,
    pages: &mut Pages,
    offset: u32,
    bytes: &[u8],
    extras: Extras,
) {
    let size = bytes.len() as u32;
    let requests = count_spans(offset, size);
    let mut send = TxSend::new(size, requests, Checksum::Blank, extras).unwrap();
    let mut from = 0;
    for span in spans(offset, size) {
        let (at, len) = (span.offset as usize, span.len as usize);
        let page = pages.entry(span.page).or_insert([0xee; 4096]);
        page[at..at + len].copy_from_slice(&bytes[from..from + len]);
        from += len;
        let id = span.page as u16;
        send.push(front, id, span.page, at as u16, len as u16)
            .unwrap();
    }
    let _ = front.publish();
}

fn bytes_of(packet: &RxPacket, pages: &Pages) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in packet.parts() {
        let page = &pages[&(1000 + part.entry)];
        bytes.extend(&page[part.offset as usize..][..part.len as usize]);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_comes_back(
        packets in proptest::collection::vec((0u32..4082, 14usize..65000, any::<u8>()), 1..8),
        headroom in prop_oneof![Just(0u16), 0u16..=MAX_HEADROOM],
        missing in proptest::option::of(0u32..256),
    ) {
        let (mut tx_front, mut tx_back) = tx_ends();
        let (mut rx_front, mut rx_back) = rx_ends();
        let mut pages = Pages::new();
        for gref in 1000..1256 {
            pages.insert(gref, [0xdd; 4096]);
        }
        if let Some(missing) = missing {
            pages.remove(&(1000 + missing));
        }
        let mut loopback = Loopback::default();
        loopback.headroom = headroom;
        let mut packet = RxPacket::new();
        for (offset, size, seed) in packets {
            let bytes: Vec<u8> = (0..size).map(|i| seed.wrapping_add((i / 7) as u8)).collect();
            let extras = Extras {
                gso: (seed > 99).then_some(Gso { size: 1000, ipv6: seed > 200 }),
                ..Extras::default()
            };
            transmit(&mut tx_front, &mut pages, offset, &bytes, extras);
            let looped = loopback.serve(&mut tx_back, &mut rx_back, &mut pages);
            let _ = tx_back.publish();
            while tx_front.pop().unwrap().is_some() {}
            let _ = rx_back.publish();
            let next = packet.read(&mut rx_front, |_| {}).unwrap();
            match looped.unwrap() {
                Looped::Sent(sent) => {
                    prop_assert_eq!(next, RxNext::Packet);
                    prop_assert!(sent == bytes);
                    prop_assert!(bytes_of(&packet, &pages) == bytes);
                    prop_assert_eq!(packet.extras().gso, extras.gso);
                    prop_assert_eq!(packet.extras().headroom, headroom);
                    prop_assert_eq!(packet.checksum(), Checksum::Blank);
                }
                Looped::Answered => prop_assert_eq!(next, RxNext::Refused(NOT_THERE)),
                looped => prop_assert_eq!((looped, next), (Looped::NoRoom, RxNext::Empty)),
            }
        }
    }
}
