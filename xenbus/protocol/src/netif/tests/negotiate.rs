// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What the two ends read from each other.

use super::*;
use crate::negotiate::BadKey;
use std::collections::BTreeMap;

type Keys = BTreeMap<&'static str, u64>;

fn keys(keys: &[(&'static str, u64)]) -> Keys {
    keys.iter().copied().collect()
}

fn bad(key: &'static str, value: Option<u64>) -> BadKey {
    BadKey { key, value }
}

fn offer(keys: &Keys) -> Result<Offer, BadKey> {
    Offer::read(|key| keys.get(key).copied(), 8)
}

fn wish(keys: &Keys) -> Result<Wish, BadKey> {
    Wish::read(|key| keys.get(key).copied(), 8)
}

#[test]
fn an_offer() {
    let mut back = keys(&[(key::FEATURE_RX_COPY, 1)]);
    let least = Offer {
        queues: 1,
        split_event_channels: false,
        takes: Takes {
            ipv4_csum: true,
            ..Takes::default()
        },
        multicast_control: false,
        dynamic_multicast_control: false,
        ctrl_ring: false,
        xdp_headroom: false,
    };
    assert_eq!(offer(&back), Ok(least));
    for key in [
        key::FEATURE_SPLIT_EVENT_CHANNELS,
        key::FEATURE_SG,
        key::FEATURE_GSO_TCPV4,
        key::FEATURE_GSO_TCPV6,
        key::FEATURE_IPV6_CSUM_OFFLOAD,
        key::FEATURE_NO_CSUM_OFFLOAD,
        key::FEATURE_MULTICAST_CONTROL,
        key::FEATURE_DYNAMIC_MULTICAST_CONTROL,
        key::FEATURE_CTRL_RING,
        key::FEATURE_XDP_HEADROOM,
    ] {
        back.insert(key, 1);
    }
    back.insert(key::MULTI_QUEUE_MAX_QUEUES, 4);
    let most = Offer {
        queues: 4,
        split_event_channels: true,
        takes: Takes {
            sg: true,
            gso_tcpv4: true,
            gso_tcpv6: true,
            ipv4_csum: false,
            ipv6_csum: true,
        },
        multicast_control: true,
        dynamic_multicast_control: true,
        ctrl_ring: true,
        xdp_headroom: true,
    };
    assert_eq!(offer(&back), Ok(most));
    for queues in [0, 1, 8, 9, u64::MAX] {
        back.insert(key::MULTI_QUEUE_MAX_QUEUES, queues);
        let expected = queues.clamp(1, 8) as u32;
        assert_eq!(offer(&back).map(|offer| offer.queues), Ok(expected));
    }
    back.remove(key::FEATURE_MULTICAST_CONTROL);
    assert!(!offer(&back).unwrap().dynamic_multicast_control);
}

#[test]
fn a_back_end_that_comes_back_with_less() {
    let used = [
        key::FEATURE_SPLIT_EVENT_CHANNELS,
        key::FEATURE_SG,
        key::FEATURE_GSO_TCPV4,
        key::FEATURE_GSO_TCPV6,
        key::FEATURE_IPV6_CSUM_OFFLOAD,
        key::FEATURE_XDP_HEADROOM,
    ];
    let mut back = keys(&[(key::FEATURE_RX_COPY, 1), (key::MULTI_QUEUE_MAX_QUEUES, 2)]);
    let least = offer(&back).unwrap();
    back.extend(used.map(|key| (key, 1)));
    let most = offer(&back).unwrap();
    assert!(most.keeps(&most) && most.keeps(&least) && !least.keeps(&most));
    for key in used {
        let mut less = back.clone();
        less.remove(key);
        assert!(!offer(&less).unwrap().keeps(&most), "{key}");
    }
    for (queues, keeps) in [(1, false), (2, true), (3, true)] {
        back.insert(key::MULTI_QUEUE_MAX_QUEUES, queues);
        assert_eq!(offer(&back).unwrap().keeps(&most), keeps, "{queues}");
    }
}

#[test]
fn packets_are_copied() {
    for value in [None, Some(0)] {
        let none: Keys = value
            .map(|value| (key::FEATURE_RX_COPY, value))
            .into_iter()
            .collect();
        assert_eq!(offer(&none), Err(bad(key::FEATURE_RX_COPY, value)));
        let none: Keys = value
            .map(|value| (key::REQUEST_RX_COPY, value))
            .into_iter()
            .collect();
        assert_eq!(wish(&none), Err(bad(key::REQUEST_RX_COPY, value)));
    }
}

#[test]
fn large_packets_take_several_slots() {
    let mut back = keys(&[(key::FEATURE_GSO_TCPV4, 1), (key::FEATURE_GSO_TCPV6, 1)]);
    let takes = |keys: &Keys| Takes::read(|key| keys.get(key).copied());
    assert!(!takes(&back).gso_tcpv4 && !takes(&back).gso_tcpv6);
    back.insert(key::FEATURE_SG, 1);
    assert!(takes(&back).gso_tcpv4 && takes(&back).gso_tcpv6);
}

#[test]
fn a_wish() {
    let mut front = keys(&[(key::REQUEST_RX_COPY, 1)]);
    let least = Wish {
        queues: 1,
        rx_notify: false,
        takes: Takes {
            ipv4_csum: true,
            ..Takes::default()
        },
        multicast_control: false,
        headroom: 0,
    };
    assert_eq!(wish(&front), Ok(least));
    front.insert(key::FEATURE_RX_NOTIFY, 1);
    front.insert(key::REQUEST_MULTICAST_CONTROL, 1);
    front.insert(key::MULTI_QUEUE_NUM_QUEUES, 8);
    front.insert(key::XDP_HEADROOM, 256);
    let more = Wish {
        queues: 8,
        rx_notify: true,
        multicast_control: true,
        headroom: 256,
        ..least
    };
    assert_eq!(wish(&front), Ok(more));
    for queues in [0, 9, (1 << 32) + 1, u64::MAX] {
        front.insert(key::MULTI_QUEUE_NUM_QUEUES, queues);
        let error = bad(key::MULTI_QUEUE_NUM_QUEUES, Some(queues));
        assert_eq!(wish(&front), Err(error));
    }
}

#[test]
fn headroom_is_cut() {
    assert_eq!(headroom(None), 0);
    assert_eq!(headroom(Some(448)), 448);
    for value in [449, 4096, 0x7fff, 65536, u64::MAX] {
        assert_eq!(headroom(Some(value)), MAX_HEADROOM);
    }
    let extras = Extras {
        headroom: MAX_HEADROOM,
        ..Extras::default()
    };
    let largest = RxSend::new(65535 + 18, Checksum::Blank, extras, true);
    assert_eq!(largest.map(|send| send.entries()), Ok(19));
}

#[test]
fn queues() {
    let queue = |keys: &[(&'static str, u64)]| {
        let keys: Keys = keys.iter().copied().collect();
        VifQueue::read(|key| keys.get(key).copied())
    };
    let refs = [(key::TX_RING_REF, 8), (key::RX_RING_REF, 9)];
    let with = |more: &[(&'static str, u64)]| queue(&[&refs, more].concat());
    let shared = VifQueue {
        tx_ring_ref: 8,
        rx_ring_ref: 9,
        ports: Ports::Shared(5),
    };
    assert_eq!(with(&[(key::EVENT_CHANNEL, 5)]), Ok(shared));
    let split = [(key::EVENT_CHANNEL_TX, 6), (key::EVENT_CHANNEL_RX, 7)];
    let ports = Ports::Split { tx: 6, rx: 7 };
    assert_eq!(with(&split).map(|queue| queue.ports), Ok(ports));
    let both = [split[0], split[1], (key::EVENT_CHANNEL, 5)];
    assert_eq!(with(&both).map(|queue| queue.ports), Ok(ports));
    assert_eq!(with(&split[..1]), Err(bad(key::EVENT_CHANNEL_RX, None)));
    assert_eq!(with(&split[1..]), Err(bad(key::EVENT_CHANNEL_TX, None)));
    assert_eq!(with(&[]), Err(bad(key::EVENT_CHANNEL, None)));
    for port in [0, 1 << 17, u64::MAX] {
        let keys = [(key::EVENT_CHANNEL, port)];
        assert_eq!(with(&keys), Err(bad(key::EVENT_CHANNEL, Some(port))));
    }
    for (missing, other) in [(0, 1), (1, 0)] {
        let (key, _) = refs[missing];
        assert_eq!(queue(&[refs[other]]), Err(bad(key, None)));
        for value in [0, 1 << 32] {
            let keys = [refs[other], (key, value)];
            assert_eq!(queue(&keys), Err(bad(key, Some(value))));
        }
    }
}

#[test]
fn control_rings() {
    let ring = |keys: &[(&'static str, u64)]| {
        let keys: Keys = keys.iter().copied().collect();
        ControlRing::read(|key| keys.get(key).copied())
    };
    assert_eq!(ring(&[]), Ok(None));
    assert_eq!(ring(&[(key::EVENT_CHANNEL_CTRL, 5)]), Ok(None));
    let there = ControlRing {
        ring_ref: 8,
        port: 5,
    };
    let reference = (key::CTRL_RING_REF, 8);
    assert_eq!(
        ring(&[reference, (key::EVENT_CHANNEL_CTRL, 5)]),
        Ok(Some(there))
    );
    assert_eq!(ring(&[reference]), Err(bad(key::EVENT_CHANNEL_CTRL, None)));
    let zero = [(key::CTRL_RING_REF, 0), (key::EVENT_CHANNEL_CTRL, 5)];
    assert_eq!(ring(&zero), Err(bad(key::CTRL_RING_REF, Some(0))));
}

#[test]
fn hardware_addresses() {
    let address = [0x00, 0x16, 0x3e, 0xAB, 0xcd, 0xef];
    assert_eq!(mac_address("00:16:3e:AB:cd:ef"), Some(address));
    assert_eq!(mac_address("0:16:3e:ab:cd:ef"), Some(address));
    for bad in [
        "",
        "00:16:3e:ab:cd",
        "00:16:3e:ab:cd:",
        "00:16:3e:ab:cd:ef:01",
        "00:16:3e:ab:cd:eg",
        "00:16:3e:ab:cd:+f",
        "00:16:3e:ab:cd:0ef",
        "00:16::ab:cd:ef",
        "00-16-3e-ab-cd-ef",
    ] {
        assert_eq!(mac_address(bad), None, "{bad}");
    }
}

#[test]
fn mtus() {
    for (value, expected) in [
        (None, 1500),
        (Some(9000), 9000),
        (Some(68), 68),
        (Some(65521), 65521),
        (Some(67), 1500),
        (Some(65522), 1500),
        (Some(u64::MAX), 1500),
    ] {
        assert_eq!(mtu(value), expected);
    }
}
