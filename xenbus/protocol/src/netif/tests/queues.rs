// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The hash, and the control ring.

use super::*;
use proptest::prelude::*;
use std::vec;

/// The key that Microsoft's specification of receive side scaling checks with.
pub(crate) const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Two addresses and ports, and the hashes with and without the ports.
type Known<T> = (T, u16, T, u16, u32, u32);

/// Its packets over IPv4.
const IPV4: [Known<[u8; 4]>; 5] = [
    (
        [66, 9, 149, 187],
        2794,
        [161, 142, 100, 80],
        1766,
        0x51ccc178,
        0x323e8fc2,
    ),
    (
        [199, 92, 111, 2],
        14230,
        [65, 69, 140, 83],
        4739,
        0xc626b0ea,
        0xd718262a,
    ),
    (
        [24, 19, 198, 95],
        12898,
        [12, 22, 207, 184],
        38024,
        0x5c2b394a,
        0xd2d0a5de,
    ),
    (
        [38, 27, 205, 30],
        48228,
        [209, 142, 163, 6],
        2217,
        0xafc7327f,
        0x82989176,
    ),
    (
        [153, 39, 163, 191],
        44251,
        [202, 188, 127, 2],
        1303,
        0x10e828a2,
        0x5d1809c5,
    ),
];

/// And over IPv6.
const IPV6: [Known<&str>; 3] = [
    (
        "3ffe:2501:200:1fff::7",
        2794,
        "3ffe:2501:200:3::1",
        1766,
        0x40207d3d,
        0x2cc18cd5,
    ),
    (
        "3ffe:501:8::260:97ff:fe40:efab",
        14230,
        "ff02::1",
        4739,
        0xdde51bbf,
        0x0f0c461c,
    ),
    (
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44251,
        "fe80::200:f8ff:fe21:67cf",
        38024,
        0x02d1feef,
        0x4b61e985,
    ),
];

/// A frame with these layers after the two hardware addresses.
fn frame(layers: &[&[u8]]) -> Vec<u8> {
    let mut frame = vec![0x52; 12];
    frame.extend(layers.concat());
    frame
}

fn ipv4(source: [u8; 4], destination: [u8; 4], options: usize, fragment: u16) -> Vec<u8> {
    let mut header = vec![0; 20 + options];
    header[0] = 0x45 + (options / 4) as u8;
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[9] = 6;
    header[12..16].copy_from_slice(&source);
    header[16..20].copy_from_slice(&destination);
    header
}

fn ipv6(source: &str, destination: &str, next: u8) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    header.extend(address(source));
    header.extend(address(destination));
    header
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

fn hash_of(frame: &[u8], kinds: u32) -> Option<(u32, HashKind)> {
    let hash = Flow::parse(frame)?.hash(&KEY, kinds)?;
    Some((hash.value, hash.kind))
}

const IP: &[u8] = &[0x08, 0x00];
const IP6: &[u8] = &[0x86, 0xdd];

#[test]
fn known_hashes_over_ipv4() {
    for (source, sport, destination, dport, with, without) in IPV4 {
        let input = [&source[..], &destination, &ports(sport, dport)].concat();
        assert_eq!(toeplitz(&KEY, &input), with);
        assert_eq!(toeplitz(&KEY, &input[..8]), without);

        let tcp = ports(sport, dport);
        let plain = frame(&[IP, &ipv4(source, destination, 0, 0), &tcp]);
        let options = frame(&[IP, &ipv4(source, destination, 8, 0x4000), &tcp]);
        let vlan = [0x81, 0, 0, 5, 8, 0];
        let tagged = frame(&[&vlan, &ipv4(source, destination, 0, 0), &tcp]);
        let qinq = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 5, 8, 0];
        let twice = frame(&[&qinq, &ipv4(source, destination, 0, 0), &tcp]);
        for frame in [plain.clone(), options, tagged, twice] {
            assert_eq!(hash_of(&frame, HASH_KINDS), Some((with, HashKind::Ipv4Tcp)));
            assert_eq!(hash_of(&frame, hash::IPV4), Some((without, HashKind::Ipv4)));
        }
        assert_eq!(hash_of(&plain, hash::IPV6 | hash::IPV6_TCP), None);
        assert_eq!(hash_of(&plain, 0), None);
        for fragment in [0x2000, 0x1fff, 1] {
            let frame = frame(&[IP, &ipv4(source, destination, 0, fragment), &tcp]);
            assert_eq!(hash_of(&frame, HASH_KINDS), Some((without, HashKind::Ipv4)));
            assert_eq!(hash_of(&frame, hash::IPV4_TCP), None);
        }
    }
}

#[test]
fn known_hashes_over_ipv6() {
    for (source, sport, destination, dport, with, without) in IPV6 {
        let tcp = ports(sport, dport);
        let plain = frame(&[IP6, &ipv6(source, destination, 6), &tcp]);
        let extension = [60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let last = [6, 0, 0, 0, 0, 0, 0, 0];
        let long = frame(&[IP6, &ipv6(source, destination, 0), &extension, &last, &tcp]);
        for frame in [plain.clone(), long] {
            assert_eq!(hash_of(&frame, HASH_KINDS), Some((with, HashKind::Ipv6Tcp)));
            assert_eq!(hash_of(&frame, hash::IPV6), Some((without, HashKind::Ipv6)));
        }
        assert_eq!(hash_of(&plain, hash::IPV4 | hash::IPV4_TCP), None);
        for next in [17, 44, 59] {
            let frame = frame(&[IP6, &ipv6(source, destination, next), &tcp]);
            assert_eq!(hash_of(&frame, HASH_KINDS), Some((without, HashKind::Ipv6)));
        }
    }
}

#[test]
fn frames_that_are_not_all_there() {
    let whole = frame(&[IP, &ipv4([1; 4], [2; 4], 0, 0), &ports(1, 2)]);
    let kind =
        |len| Flow::parse(&whole[..len]).map(|flow| flow.hash(&KEY, HASH_KINDS).unwrap().kind);
    for len in 0..34 {
        assert_eq!(kind(len), None);
    }
    for len in 34..38 {
        assert_eq!(kind(len), Some(HashKind::Ipv4));
    }
    assert_eq!(kind(38), Some(HashKind::Ipv4Tcp));
    // Of another version, or with too short a header; not IP; nothing but tags.
    for (at, value) in [
        (14, 0x55),
        (14, 0x65),
        (14, 0x44),
        (14, 0x40),
        (12, 0),
        (13, 6),
    ] {
        let mut odd = whole.clone();
        odd[at] = value;
        assert_eq!(Flow::parse(&odd), None);
    }
    assert_eq!(Flow::parse(&frame(&[&[0x81, 0, 0, 5].repeat(100)])), None);
    let mut endless = ipv6("::1", "::2", 0);
    endless.extend([0; 800]);
    let flow = Flow::parse(&frame(&[IP6, &endless])).unwrap();
    assert_eq!(flow.hash(&KEY, HASH_KINDS).unwrap().kind, HashKind::Ipv6);
    let mut other = ipv6("::1", "::2", 6);
    other[0] = 0x40;
    assert_eq!(Flow::parse(&frame(&[IP6, &other, &[0; 4]])), None);
}

#[test]
fn a_key_has_its_end() {
    assert_eq!(toeplitz(&KEY, &[]), 0);
    assert_eq!(toeplitz(&[0; 40], &[0xff; 36]), 0);
    assert_eq!(toeplitz(&KEY, &[0xff; 36]), toeplitz(&KEY, &[0xff; 100]));
}

fn ask(kind: u16, data: [u32; 3]) -> ControlRequest {
    ControlRequest { id: 77, kind, data }
}

/// The answer to a request that needs nothing else: (status, data).
fn answer(hashing: &mut Hashing, kind: u16, data: [u32; 3]) -> (u32, u32) {
    match hashing.begin(&ask(kind, data)) {
        ControlStep::Answer(response) => {
            assert_eq!((response.id, response.kind), (77, kind));
            (response.status, response.data)
        }
        copy => panic!("{copy:?}"),
    }
}

/// The answer to one that needs a page.
fn answer_page(
    hashing: &mut Hashing,
    kind: u16,
    data: [u32; 3],
    page: Option<&[u8]>,
    queues: u32,
) -> u32 {
    let ControlStep::Copy { gref, len, pending } = hashing.begin(&ask(kind, data)) else {
        panic!("no copy");
    };
    assert_eq!(gref, data[0]);
    assert!((1..=MAX_CONTROL_COPY).contains(&len));
    let response = hashing.end(&pending, page.map(|page| &page[..len]), queues);
    assert_eq!((response.id, response.kind), (77, kind));
    response.status
}

fn table(queues: &[u32]) -> Vec<u8> {
    queues
        .iter()
        .flat_map(|queue| queue.to_le_bytes())
        .collect()
}

const OK: (u32, u32) = (ctrl::SUCCESS, 0);
const INVALID: (u32, u32) = (ctrl::INVALID_PARAMETER, 0);

/// A control ring's state with a mapping table of `size` entries.
pub(crate) fn hashing(size: u32) -> Hashing {
    let mut hashing = Hashing::new();
    let set = [
        (ctrl::SET_HASH_ALGORITHM, hash::ALGORITHM_TOEPLITZ),
        (ctrl::SET_HASH_FLAGS, HASH_KINDS),
        (ctrl::SET_HASH_MAPPING_SIZE, size),
    ];
    for (kind, value) in set {
        assert_eq!(answer(&mut hashing, kind, [value, 0, 0]), OK);
    }
    hashing
}

#[test]
fn algorithms_and_kinds() {
    let mut hashing = Hashing::new();
    let h = &mut hashing;
    assert!(!h.is_on());
    let none = (ctrl::NOT_SUPPORTED, 0);
    assert_eq!(answer(h, ctrl::GET_HASH_FLAGS, [0; 3]), none);
    assert_eq!(answer(h, ctrl::SET_HASH_FLAGS, [1, 0, 0]), INVALID);
    assert_eq!(answer(h, ctrl::SET_HASH_ALGORITHM, [2, 0, 0]), INVALID);
    assert_eq!(answer(h, ctrl::SET_HASH_ALGORITHM, [1, 0, 0]), OK);
    assert!(h.is_on());
    assert_eq!(answer(h, ctrl::GET_HASH_FLAGS, [0; 3]), (0, HASH_KINDS));
    for kinds in [16, u32::MAX, 1 << 31] {
        assert_eq!(answer(h, ctrl::SET_HASH_FLAGS, [kinds, 0, 0]), INVALID);
    }
    assert_eq!(answer(h, ctrl::SET_HASH_FLAGS, [5, 0, 0]), OK);
    assert_eq!(h.kinds(), 5);
    for kind in [ctrl::INVALID, 8, 9, 10, 11, u16::MAX] {
        assert_eq!(answer(h, kind, [0; 3]), none);
    }
    assert_eq!(answer(h, ctrl::SET_HASH_ALGORITHM, [0; 3]), OK);
    assert!(!h.is_on());
}

#[test]
fn keys() {
    let mut hashing = hashing(0);
    let h = &mut hashing;
    let set = ctrl::SET_HASH_KEY;
    assert_eq!(
        answer_page(h, set, [8, 40, 0], Some(&KEY), 1),
        ctrl::SUCCESS
    );
    assert_eq!(h.key(), &KEY);
    for len in [41, 4096, u32::MAX] {
        assert_eq!(answer(h, set, [8, len, 0]), (ctrl::BUFFER_OVERFLOW, 0));
    }
    let status = answer_page(h, set, [8, 40, 0], None, 1);
    assert_eq!((status, h.key()), (ctrl::INVALID_PARAMETER, &KEY), "kept");
    assert_eq!(
        answer_page(h, set, [8, 2, 0], Some(&[1, 2]), 1),
        ctrl::SUCCESS
    );
    assert_eq!((&h.key()[..4], h.key()[39]), (&[1, 2, 0, 0][..], 0));
    assert_eq!(answer(h, set, [8, 0, 0]), OK);
    assert_eq!(h.key(), &[0; 40]);
}

#[test]
fn mapping_tables() {
    let mut hashing = hashing(128);
    let h = &mut hashing;
    let size = ctrl::SET_HASH_MAPPING_SIZE;
    let set = ctrl::SET_HASH_MAPPING;
    assert_eq!(answer(h, ctrl::GET_HASH_MAPPING_SIZE, [0; 3]), (0, 128));
    for bad in [129, u32::MAX] {
        assert_eq!(answer(h, size, [bad, 0, 0]), INVALID);
    }
    assert_eq!(answer(h, size, [4, 0, 0]), OK);
    assert_eq!(h.mapping(), [0; 4]);
    let part = table(&[3, 2]);
    assert_eq!(
        answer_page(h, set, [8, 2, 1], Some(&part), 4),
        ctrl::SUCCESS
    );
    assert_eq!(h.mapping(), [0, 3, 2, 0]);
    assert_eq!(answer(h, set, [8, 0, 4]), OK, "nothing");
    // A queue that there is not: nothing changes.
    for bad in [4, 65536, u32::MAX] {
        let part = table(&[1, bad]);
        let status = answer_page(h, set, [8, 2, 0], Some(&part), 4);
        assert_eq!(status, ctrl::INVALID_PARAMETER);
        assert_eq!(h.mapping(), [0, 3, 2, 0]);
    }
    let status = answer_page(h, set, [8, 2, 0], None, 4);
    assert_eq!(
        (status, h.mapping()),
        (ctrl::INVALID_PARAMETER, &[0, 3, 2, 0][..])
    );
    assert_eq!(answer(h, size, [4, 0, 0]), OK);
    assert_eq!(h.mapping(), [0; 4], "a new table");
}

#[test]
fn queues_of_hashes() {
    let mut hashing = hashing(0);
    assert_eq!([0, 1, 7].map(|hash| hashing.queue(hash, 4)), [0, 1, 3]);
    assert_eq!(hashing.queue(7, 0), 0);
    let h = &mut hashing;
    assert_eq!(answer(h, ctrl::SET_HASH_MAPPING_SIZE, [3, 0, 0]), OK);
    let table = table(&[2, 1, 3]);
    let status = answer_page(h, ctrl::SET_HASH_MAPPING, [8, 3, 0], Some(&table), 4);
    assert_eq!(status, ctrl::SUCCESS);
    assert_eq!(
        [0, 1, 2, 3].map(|hash| hashing.queue(hash, 4)),
        [2, 1, 3, 2]
    );
    assert_eq!(
        [0, 1, 2, 3].map(|hash| hashing.queue(hash, 2)),
        [0, 1, 0, 0]
    );
    assert_eq!(hashing.queue(0, 0), 0);
}

#[test]
fn only_what_is_asked_for_is_hashed() {
    let (source, sport, destination, dport, with, _) = IPV4[0];
    let tcp = ports(sport, dport);
    let frame = frame(&[IP, &ipv4(source, destination, 0, 0), &tcp]);
    let mut hashing = hashing(0);
    let h = &mut hashing;
    let status = answer_page(h, ctrl::SET_HASH_KEY, [8, 40, 0], Some(&KEY), 1);
    assert_eq!(status, ctrl::SUCCESS);
    assert_eq!(h.hash(&frame).map(|hash| hash.value), Some(with));
    assert_eq!(answer(h, ctrl::SET_HASH_FLAGS, [0; 3]), OK);
    assert_eq!(h.hash(&frame), None);
    assert_eq!(answer(h, ctrl::SET_HASH_FLAGS, [15, 0, 0]), OK);
    assert_eq!(answer(h, ctrl::SET_HASH_ALGORITHM, [0; 3]), OK);
    assert_eq!(h.hash(&frame), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a front end asks for, the table leads to queues that there are.
    #[test]
    fn any_control_requests(
        requests in proptest::collection::vec(
            (0u16..12, [0u32..140, 0u32..140, 0u32..140], proptest::bool::weighted(0.9)), 0..60),
        queue in 0u32..6,
        hashes: [u32; 8],
    ) {
        let mut hashing = Hashing::new();
        for (kind, data, readable) in requests {
            let before = hashing.clone();
            let response = match hashing.begin(&ask(kind, data)) {
                ControlStep::Answer(response) => response,
                ControlStep::Copy { len, pending, .. } => {
                    let page = table(&[queue; MAX_MAPPING]);
                    hashing.end(&pending, readable.then_some(&page[..len]), 4)
                }
            };
            prop_assert_eq!((response.id, response.kind), (77, kind));
            if response.status != ctrl::SUCCESS {
                prop_assert_eq!(hashing.mapping(), before.mapping());
                prop_assert_eq!(hashing.key(), before.key());
            }
            prop_assert!(hashing.mapping().iter().all(|queue| *queue < 4));
            for hash in hashes {
                prop_assert!(hashing.queue(hash, 4) < 4);
                prop_assert!(hashing.queue(hash, 1) < 1);
            }
        }
    }

    #[test]
    fn any_frame(frame: Vec<u8>) {
        if let Some(flow) = Flow::parse(&frame) {
            prop_assert!(flow.hash(&KEY, HASH_KINDS).is_some());
        }
    }
}
