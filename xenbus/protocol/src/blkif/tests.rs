// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Tests of the block protocol: bytes, the check of requests, and whole transfers through a ring.

use super::*;
use crate::mock::{Area, Disk, Guest};
use crate::ring::{Back, Codec, Front};
use proptest::prelude::*;

const ABIS: [Abi; 3] = [Abi::Native, Abi::X86_32, Abi::X86_64];

fn segment() -> impl Strategy<Value = Segment> {
    (any::<u32>(), any::<u8>(), any::<u8>()).prop_map(|(gref, first, last)| Segment {
        gref,
        first,
        last,
    })
}

/// Requests in the form that their operation has, with anything in them.
fn raw() -> impl Strategy<Value = RawRequest> {
    let body = prop_oneof![
        (
            0u8..4,
            any::<u8>(),
            any::<(u16, u64)>(),
            [(); MAX_SEGMENTS].map(|()| segment())
        )
            .prop_map(|(operation, nr_segments, (handle, sector), mut segments)| {
                for segment in segments.iter_mut().skip(nr_segments.into()) {
                    *segment = Segment::default();
                }
                (
                    operation,
                    Body::Transfer {
                        nr_segments,
                        handle,
                        sector,
                        segments,
                    },
                )
            }),
        any::<(u8, u16, u64, u64)>().prop_map(|(flag, handle, sector, nr_sectors)| {
            (
                op::DISCARD,
                Body::Discard {
                    flag,
                    handle,
                    sector,
                    nr_sectors,
                },
            )
        }),
        any::<(u8, u16, u16, u64, [u32; 8])>().prop_map(
            |(operation, nr_segments, handle, sector, grefs)| {
                let body = Body::Indirect {
                    operation,
                    nr_segments,
                    handle,
                    sector,
                    grefs,
                };
                (op::INDIRECT, body)
            }
        ),
        (7u8..).prop_map(|operation| (operation, Body::Other)),
    ];
    (any::<u64>(), body).prop_map(|(id, (operation, body))| RawRequest {
        operation,
        id,
        body,
    })
}

pub(crate) const LIMITS: Limits = Limits {
    capacity_sectors: 1000,
    read_only: false,
    max_segments: MAX_SEGMENTS,
    max_indirect_segments: 256,
    sector_size: 512,
    features: Offered {
        flush: true,
        barrier: true,
        discard: true,
        secure_discard: true,
    },
};

const WHOLE: Segment = Segment {
    gref: 1,
    first: 0,
    last: 7,
};

fn transfer(operation: u8, sector: u64, segments: &[Segment]) -> RawRequest {
    RawRequest::transfer(operation, 7, 0, sector, segments)
}

/// A request that is whole, and its segments.
fn whole<'a>(raw: &'a RawRequest, limits: &Limits) -> (Request, &'a [Segment]) {
    match Request::parse(raw, limits) {
        Ok(Parsed::Whole(request, segments)) => (request, segments),
        other => panic!("{other:?}"),
    }
}

/// Why a request is refused, if it is.
fn reason(raw: &RawRequest, limits: &Limits) -> Option<Reason> {
    let refusal = Request::parse(raw, limits).err()?;
    Some(refused(raw, refusal))
}

/// Checks the response to a request that is refused.
fn refused(raw: &RawRequest, refusal: Refusal) -> Reason {
    let operation = match raw.body {
        Body::Indirect { operation, .. } => operation,
        _ => raw.operation,
    };
    assert_eq!((refusal.id, refusal.operation), (raw.id, operation));
    let response = refusal.response();
    assert_eq!((response.id, response.operation), (raw.id, operation));
    let unsupported = refusal.reason == Reason::Unsupported;
    let status = if unsupported {
        status::EOPNOTSUPP
    } else {
        status::ERROR
    };
    assert_eq!(response.status, status);
    refusal.reason
}

#[test]
fn protocol_names() {
    assert_eq!(Abi::from_protocol(Some("x86_64-abi")), Ok(Abi::X86_64));
    assert_eq!(Abi::from_protocol(Some("x86_32-abi")), Ok(Abi::X86_32));
    assert_eq!(Abi::from_protocol(None), Ok(Abi::X86_32));
    for name in ["", "x86_64", "x86_64-abi ", "arm-abi", "native"] {
        assert_eq!(Abi::from_protocol(Some(name)), Err(UnknownAbi));
    }
    assert_eq!(Abi::Native.protocol(), "x86_64-abi");
    assert_eq!(Abi::X86_32.protocol(), "x86_32-abi");
}

#[test]
fn a_read_is_parsed() {
    let segments = [
        WHOLE,
        Segment {
            gref: 2,
            first: 3,
            last: 3,
        },
    ];
    let raw = transfer(op::READ, 10, &segments);
    let (request, parsed) = whole(&raw, &LIMITS);
    assert_eq!(
        (request.id, request.op, request.sector, request.nr_sectors),
        (7, Op::Read, 10, 9)
    );
    assert_eq!(parsed, segments);
    assert_eq!((segments[1].offset(), segments[1].bytes()), (3 * 512, 512));
    let response = Response {
        id: 7,
        operation: op::READ,
        status: status::OKAY,
    };
    assert_eq!(request.response(status::OKAY), response);
}

#[test]
fn numbers_of_segments() {
    let n = |operation, n: u8, limits: &Limits| {
        let mut raw = transfer(operation, 0, &[WHOLE; MAX_SEGMENTS]);
        if let Body::Transfer { nr_segments, .. } = &mut raw.body {
            *nr_segments = n;
        }
        reason(&raw, limits)
    };
    for operation in [op::READ, op::WRITE] {
        assert_eq!(n(operation, 0, &LIMITS), Some(Reason::Length));
        assert_eq!(n(operation, 1, &LIMITS), None);
        assert_eq!(n(operation, 11, &LIMITS), None);
        assert_eq!(n(operation, 12, &LIMITS), Some(Reason::Length));
        assert_eq!(n(operation, 255, &LIMITS), Some(Reason::Length));
    }
    for operation in [op::WRITE_BARRIER, op::FLUSH_DISKCACHE] {
        assert_eq!(n(operation, 0, &LIMITS), None);
        assert_eq!(n(operation, 11, &LIMITS), None);
        assert_eq!(n(operation, 12, &LIMITS), Some(Reason::Length));
    }
    let few = Limits {
        max_segments: 2,
        ..LIMITS
    };
    assert_eq!(n(op::READ, 2, &few), None);
    assert_eq!(n(op::READ, 3, &few), Some(Reason::Length));
    let many = Limits {
        max_segments: 1000,
        ..LIMITS
    };
    assert_eq!(n(op::READ, 12, &many), Some(Reason::Length));
}

#[test]
fn segments_are_in_their_pages() {
    let one = |first, last| {
        let bad = Segment {
            gref: 1,
            first,
            last,
        };
        reason(&transfer(op::WRITE, 0, &[WHOLE, bad]), &LIMITS)
    };
    for (first, last) in [(0, 0), (7, 7), (0, 7), (3, 5)] {
        assert_eq!(one(first, last), None);
    }
    for (first, last) in [
        (1, 0),
        (7, 6),
        (0, 8),
        (8, 8),
        (255, 255),
        (255, 0),
        (0, 255),
    ] {
        assert_eq!(one(first, last), Some(Reason::Segment));
    }
    let unused = Segment {
        gref: 1,
        first: 9,
        last: 2,
    };
    let mut raw = transfer(op::READ, 0, &[WHOLE, unused]);
    if let Body::Transfer { nr_segments, .. } = &mut raw.body {
        *nr_segments = 1;
    }
    assert_eq!(
        reason(&raw, &LIMITS),
        None,
        "what is not used is not looked at"
    );
}

#[test]
fn sectors_are_on_the_disk() {
    let at = |sector| reason(&transfer(op::READ, sector, &[WHOLE]), &LIMITS);
    assert_eq!(at(0), None);
    assert_eq!(at(992), None);
    for sector in [
        993,
        1000,
        1001,
        u64::MAX / 512,
        u64::MAX - 7,
        u64::MAX - 8,
        u64::MAX,
    ] {
        assert_eq!(at(sector), Some(Reason::Range));
    }
    let discard = |sector, nr| reason(&RawRequest::discard(7, 0, sector, nr, false), &LIMITS);
    assert_eq!(discard(0, 1000), None);
    assert_eq!(discard(1, 1000), Some(Reason::Range));
    assert_eq!(discard(1, u64::MAX), Some(Reason::Range));
    assert_eq!(discard(u64::MAX, 1), Some(Reason::Range));
    assert_eq!(discard(0, 0), Some(Reason::Length));
    let flush = transfer(op::FLUSH_DISKCACHE, u64::MAX, &[]);
    assert_eq!(
        reason(&flush, &LIMITS),
        None,
        "the sector of an empty flush means nothing"
    );
}

#[test]
fn blocks_are_whole() {
    let limits = Limits {
        sector_size: 4096,
        ..LIMITS
    };
    let half = Segment {
        gref: 1,
        first: 0,
        last: 3,
    };
    let case =
        |sector, segments: &[Segment]| reason(&transfer(op::READ, sector, segments), &limits);
    assert_eq!(case(8, &[WHOLE]), None);
    assert_eq!(case(4, &[WHOLE]), Some(Reason::Alignment));
    assert_eq!(case(8, &[half]), Some(Reason::Alignment));
    assert_eq!(
        case(8, &[half, half]),
        Some(Reason::Alignment),
        "each of them"
    );
    let discard = |sector, nr| reason(&RawRequest::discard(7, 0, sector, nr, false), &limits);
    assert_eq!(discard(8, 16), None);
    assert_eq!(discard(9, 16), Some(Reason::Alignment));
    assert_eq!(discard(8, 15), Some(Reason::Alignment));
}

#[test]
fn a_read_only_disk_is_only_read() {
    let limits = Limits {
        read_only: true,
        ..LIMITS
    };
    let case = |operation, segments: &[Segment]| reason(&transfer(operation, 0, segments), &limits);
    assert_eq!(case(op::READ, &[WHOLE]), None);
    assert_eq!(case(op::WRITE, &[WHOLE]), Some(Reason::ReadOnly));
    assert_eq!(case(op::WRITE_BARRIER, &[WHOLE]), Some(Reason::ReadOnly));
    assert_eq!(case(op::FLUSH_DISKCACHE, &[WHOLE]), Some(Reason::ReadOnly));
    assert_eq!(case(op::FLUSH_DISKCACHE, &[]), None);
    let discard = RawRequest::discard(7, 0, 0, 8, false);
    assert_eq!(reason(&discard, &limits), Some(Reason::ReadOnly));
}

fn indirect(operation: u8, nr_segments: u16, sector: u64) -> RawRequest {
    RawRequest {
        operation: op::INDIRECT,
        id: 9,
        body: Body::Indirect {
            operation,
            nr_segments,
            handle: 0,
            sector,
            grefs: [1, 2, 3, 4, 5, 6, 7, 8],
        },
    }
}

/// The page that lists segments.
fn list(segments: &[Segment]) -> std::vec::Vec<u8> {
    segments.iter().flat_map(Segment::encode).collect()
}

#[test]
fn an_indirect_request_is_parsed() {
    let raw = indirect(op::WRITE, 40, 100);
    let Ok(Parsed::Indirect(part)) = Request::parse(&raw, &LIMITS) else {
        panic!("in order");
    };
    assert_eq!((part.pages(), part.nr_segments()), (&[1][..], 40));
    assert_eq!(part.list_len(), 320);
    let mut segments = std::vec::Vec::new();
    let all = list(&[WHOLE; 40]);
    let request = part
        .parse(&all, &LIMITS, |segment| segments.push(segment))
        .unwrap();
    assert_eq!(
        (request.id, request.op, request.sector, request.nr_sectors),
        (9, Op::Write, 100, 320)
    );
    assert_eq!(segments, [WHOLE; 40]);
    assert_eq!(request.response(status::OKAY).operation, op::WRITE);
    // As many as the list holds, no more and no less.
    let short = part.parse(&all[..319], &LIMITS, |_| ()).unwrap_err();
    assert_eq!(refused(&raw, short), Reason::Length);
    let mut long = all.clone();
    long.extend([0xff; 8]);
    assert!(part.parse(&long, &LIMITS, |_| ()).is_ok());
}

#[test]
fn indirect_requests_that_are_refused() {
    let first = |operation, n, limits: &Limits| reason(&indirect(operation, n, 0), limits);
    for n in [1, 11, 12, 256] {
        assert_eq!(first(op::READ, n, &LIMITS), None);
        assert_eq!(first(op::WRITE, n, &LIMITS), None);
    }
    for n in [0, 257, 512, 4096, 4097, u16::MAX] {
        assert_eq!(first(op::READ, n, &LIMITS), Some(Reason::Length));
    }
    for operation in (0..=255).filter(|op| ![op::READ, op::WRITE].contains(op)) {
        assert_eq!(first(operation, 1, &LIMITS), Some(Reason::Operation));
    }
    let none = Limits {
        max_indirect_segments: 0,
        ..LIMITS
    };
    assert_eq!(first(op::READ, 1, &none), Some(Reason::Unsupported));
    let many = Limits {
        max_indirect_segments: usize::MAX,
        ..LIMITS
    };
    assert_eq!(first(op::READ, 4096, &many), None);
    assert_eq!(first(op::READ, 4097, &many), Some(Reason::Length));

    let second = |limits: &Limits, sector, segments: &[Segment]| {
        let raw = indirect(op::WRITE, segments.len() as u16, sector);
        match Request::parse(&raw, limits) {
            Ok(Parsed::Indirect(part)) => part
                .parse(&list(segments), limits, |_| ())
                .err()
                .map(|refusal| refused(&raw, refusal)),
            other => panic!("{other:?}"),
        }
    };
    let bad = |first, last| Segment {
        gref: 1,
        first,
        last,
    };
    assert_eq!(second(&LIMITS, 0, &[WHOLE; 125]), None);
    assert_eq!(second(&LIMITS, 0, &[WHOLE; 126]), Some(Reason::Range));
    assert_eq!(second(&LIMITS, 1, &[WHOLE; 125]), Some(Reason::Range));
    assert_eq!(second(&LIMITS, u64::MAX, &[WHOLE]), Some(Reason::Range));
    for (first, last) in [(0, 8), (3, 2), (255, 255), (8, 8)] {
        let segments = [WHOLE, WHOLE, bad(first, last)];
        assert_eq!(second(&LIMITS, 0, &segments), Some(Reason::Segment));
    }
    let blocks = Limits {
        sector_size: 4096,
        ..LIMITS
    };
    let halves = [bad(0, 3), bad(4, 7)];
    assert_eq!(second(&blocks, 0, &halves), Some(Reason::Alignment));
    assert_eq!(second(&blocks, 4, &[WHOLE]), Some(Reason::Alignment));
    let read_only = Limits {
        read_only: true,
        ..LIMITS
    };
    assert_eq!(second(&read_only, 0, &[WHOLE]), Some(Reason::ReadOnly));
}

#[test]
fn operations_that_are_not_offered() {
    let plain = Limits {
        features: Offered::default(),
        ..LIMITS
    };
    for operation in [op::WRITE_BARRIER, op::FLUSH_DISKCACHE] {
        let raw = transfer(operation, 0, &[]);
        assert_eq!(reason(&raw, &plain), Some(Reason::Unsupported));
    }
    let discard = RawRequest::discard(7, 0, 0, 8, true);
    assert_eq!(reason(&discard, &plain), Some(Reason::Unsupported));
    let (secure, segments) = whole(&discard, &LIMITS);
    assert_eq!(
        (secure.op, segments.len()),
        (Op::Discard { secure: true }, 0)
    );
    let mut plainly = LIMITS;
    plainly.features.secure_discard = false;
    assert_eq!(reason(&discard, &plainly), Some(Reason::Unsupported));
    let discard = RawRequest::discard(7, 0, 0, 8, false);
    assert_eq!(reason(&discard, &plainly), None);
    assert_eq!(reason(&discard, &plain), Some(Reason::Unsupported));
    let discard = RawRequest {
        operation: op::READ,
        ..discard
    };
    let mixed_up = Some(Reason::Unsupported);
    assert_eq!(reason(&discard, &LIMITS), mixed_up);
    for operation in [4, 6, 7, 255] {
        let raw = RawRequest {
            operation,
            id: 9,
            body: Body::Other,
        };
        assert_eq!(reason(&raw, &LIMITS), Some(Reason::Unsupported));
    }
}

#[test]
fn short_slices_do_not_panic() {
    for abi in ABIS {
        for len in 0..abi.request_size() {
            let mut bytes = std::vec![0xff; len];
            let raw = abi.decode_request(&bytes);
            abi.encode_request(&raw, &mut bytes);
            let response = abi.decode_response(&bytes);
            abi.encode_response(&response, &mut bytes);
        }
    }
}

/// What is written is read again, for each ABI of the front end.
#[test]
fn a_disk_is_written_and_read() {
    for abi in ABIS {
        let area = Area::page();
        let mut front = Front::new(area.clone(), Abi::Native).unwrap();
        if !abi.is_64_bit() {
            front = Front::new(area.clone(), abi).unwrap();
        }
        let mut back = Back::attach(area, abi).unwrap();
        let mut pending = Pending::<[_; 32]>::new();
        let mut guest = Guest::default();
        let mut disk = Disk::new(LIMITS);
        for gref in 0..22u32 {
            guest.pages.insert(gref, [gref as u8; 4096]);
        }
        let mut send = |guest: &mut Guest, operation, sector, segments: &[Segment]| {
            let id = pending.start_any(operation).unwrap() as u64;
            front
                .push(&RawRequest::transfer(operation, id, 0, sector, segments))
                .unwrap();
            let _ = front.publish();
            assert_eq!(disk.serve(&mut back, guest), Ok((1, true)));
            let response = front.pop().unwrap().unwrap();
            assert_eq!(pending.finish(&response), Ok(id as usize));
            assert_eq!(front.final_check(), Ok(false));
            response.status
        };
        let segments = |from: u32| {
            core::array::from_fn::<_, 11, _>(|i| Segment {
                gref: from + i as u32,
                ..WHOLE
            })
        };
        assert_eq!(send(&mut guest, op::WRITE, 100, &segments(0)), status::OKAY);
        assert_eq!(send(&mut guest, op::FLUSH_DISKCACHE, 0, &[]), status::OKAY);
        assert_eq!(send(&mut guest, op::READ, 100, &segments(11)), status::OKAY);
        for gref in 0..11 {
            assert_eq!(guest.pages[&gref], guest.pages[&(gref + 11)]);
        }
        // Half a page, from the middle of what was written.
        let half = Segment {
            gref: 0,
            first: 4,
            last: 7,
        };
        assert_eq!(send(&mut guest, op::READ, 108, &[half]), status::OKAY);
        assert_eq!((guest.pages[&0][2047], guest.pages[&0][2048]), (0, 1));
        let no_grant = Segment { gref: 99, ..WHOLE };
        assert_eq!(send(&mut guest, op::READ, 100, &[no_grant]), status::ERROR);
        assert_eq!(send(&mut guest, op::READ, 1000, &[WHOLE]), status::ERROR);

        // The same, its segments listed in page 21; the response is to a read.
        let mut page = [0; 4096];
        for (to, from) in page.iter_mut().zip(list(&segments(0))) {
            *to = from;
        }
        for gref in 0..11 {
            guest.pages.insert(gref, [0xee; 4096]);
        }
        guest.pages.insert(21, page);
        let mut raw = indirect(op::READ, 11, 100);
        if let Body::Indirect { grefs, .. } = &mut raw.body {
            grefs[0] = 21;
        }
        front.push(&raw).unwrap();
        let _ = front.publish();
        assert_eq!(disk.serve(&mut back, &mut guest), Ok((1, true)));
        let response = front.pop().unwrap().unwrap();
        let well = (9, op::READ, status::OKAY);
        assert_eq!((response.id, response.operation, response.status), well);
        for gref in 0..11 {
            assert_eq!(guest.pages[&gref], [gref as u8; 4096]);
        }
    }
}

/// Checks the invariants of a parsed request against the request as it was said, in the plainest
/// way; see also the invariants of [`Request`].
fn check(request: &Request, segments: &[Segment], raw: &RawRequest, limits: &Limits) {
    let end = u128::from(request.sector) + u128::from(request.nr_sectors);
    assert_eq!(request.id, raw.id);
    if raw.operation == op::INDIRECT {
        assert!((1..=limits.max_indirect_segments).contains(&segments.len()));
        assert!(matches!(request.op, Op::Read | Op::Write));
    } else {
        assert_eq!(request.op.code(), raw.operation);
        assert!(segments.len() <= limits.max_segments);
    }
    if request.nr_sectors > 0 {
        assert!(end <= u128::from(limits.capacity_sectors));
        let block = u64::from(limits.sector_size / 512);
        assert_eq!((request.sector % block, request.nr_sectors % block), (0, 0));
        assert!(!limits.read_only || request.op == Op::Read);
    }
    if !matches!(request.op, Op::Discard { .. }) {
        let mut sectors = 0;
        for segment in segments {
            assert!(segment.first <= segment.last && segment.last < 8);
            sectors += u64::from(segment.last - segment.first) + 1;
        }
        assert_eq!(sectors, request.nr_sectors);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_survives_the_wire(raw in raw(), x86_32: bool) {
        let abi = if x86_32 { Abi::X86_32 } else { Abi::X86_64 };
        let mut bytes = [0; 112];
        abi.encode_request(&raw, &mut bytes[..abi.request_size()]);
        prop_assert_eq!(abi.decode_request(&bytes[..abi.request_size()]), raw);
    }

    #[test]
    fn every_response_survives_the_wire(id: u64, operation: u8, status: i16, x86_32: bool) {
        let abi = if x86_32 { Abi::X86_32 } else { Abi::X86_64 };
        let response = Response { id, operation, status };
        let mut bytes = [0; 16];
        abi.encode_response(&response, &mut bytes[..abi.response_size()]);
        prop_assert_eq!(abi.decode_response(&bytes[..abi.response_size()]), response);
    }

    #[test]
    fn what_is_parsed_keeps_its_promises(
        operation in 0u8..8,
        sector in prop_oneof![0u64..1100, any::<u64>()],
        segments in proptest::collection::vec((0u8..9, 0u8..9), 0..12),
        more: bool,
        nr_sectors in 0u64..1100,
        log in 9u32..13,
        read_only: bool,
    ) {
        let limits = Limits { read_only, sector_size: 1 << log, ..LIMITS };
        let segments: std::vec::Vec<_> =
            segments.iter().map(|&(first, last)| Segment { gref: 1, first, last }).collect();
        let mut raw = match operation {
            op::DISCARD => RawRequest::discard(1, 0, sector, nr_sectors, more),
            _ => RawRequest::transfer(operation, 1, 0, sector, &segments),
        };
        if let (Body::Transfer { nr_segments, .. }, true) = (&mut raw.body, more) {
            *nr_segments += 1;
        }
        if let Ok(Parsed::Whole(request, segments)) = Request::parse(&raw, &limits) {
            check(&request, segments, &raw, &limits);
        }
    }

    #[test]
    fn what_is_listed_keeps_its_promises(
        operation in 0u8..4,
        sector in prop_oneof![0u64..1100, any::<u64>()],
        segments in proptest::collection::vec((0u8..9, 0u8..9), 0..300),
        valid: bool,
        log in 9u32..13,
        read_only: bool,
    ) {
        let limits = Limits { read_only, sector_size: 1 << log, ..LIMITS };
        let segments: std::vec::Vec<_> = segments
            .iter()
            .map(|&(first, last)| if valid { WHOLE } else { Segment { gref: 1, first, last } })
            .collect();
        let raw = indirect(operation, segments.len() as u16, sector);
        if let Ok(Parsed::Indirect(indirect)) = Request::parse(&raw, &limits) {
            let mut parsed = std::vec::Vec::new();
            if let Ok(request) = indirect.parse(&list(&segments), &limits, |s| parsed.push(s)) {
                prop_assert_eq!(&parsed, &segments);
                check(&request, &parsed, &raw, &limits);
            }
        }
    }
}
