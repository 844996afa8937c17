// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A request out of the ring, with its list of segments, up to the sectors of a disk; and a response.

use crate::Input;
use protocol::blkif::{
    op, Abi, Body, Limits, Offered, Op, Parsed, Pending, RawRequest, Request, Segment, MAX_SEGMENTS,
};
use protocol::mock::{Disk, Guest};
use protocol::ring::Codec;

/// Four bytes of what the disk allows, an entry of the ring, then the list of an indirect request.
pub fn blkif(input: &[u8]) {
    let mut input = Input(input);
    let [kind, capacity, max_segments, granted] = input.array();
    let abi = [Abi::X86_64, Abi::X86_32][usize::from(kind & 1)];
    let limits = Limits {
        capacity_sectors: u64::from(capacity),
        read_only: kind & 2 != 0,
        max_segments: usize::from(max_segments),
        max_indirect_segments: usize::from(max_segments),
        sector_size: 512 << (kind >> 6),
        features: Offered {
            flush: kind & 4 != 0,
            barrier: kind & 8 != 0,
            discard: kind & 16 != 0,
            secure_discard: kind & 32 != 0,
        },
    };
    let entry: [u8; 112] = input.array();
    request(abi, &entry[..abi.request_size()], limits, granted, input.0);
    response(abi, &entry[..abi.response_size()]);
}

fn request(abi: Abi, bytes: &[u8], limits: Limits, granted: u8, list: &[u8]) {
    let raw = abi.decode_request(bytes);
    let mut again = vec![0; bytes.len()];
    abi.encode_request(&raw, &mut again);
    assert_eq!(
        abi.decode_request(&again),
        raw,
        "what is read can be written"
    );

    let (request, segments) = match parse(&raw, &limits, list) {
        Ok(parsed) => parsed,
        Err(refusal) => {
            let response = refusal.response();
            assert_eq!((response.id, response.operation), (raw.id, code(&raw)));
            assert!(response.status < 0);
            return;
        }
    };
    assert_eq!((request.id, request.op.code()), (raw.id, code(&raw)));
    if raw.operation == op::INDIRECT {
        assert!((1..=limits.max_indirect_segments).contains(&segments.len()));
        assert!(matches!(request.op, Op::Read | Op::Write));
    } else {
        assert!(segments.len() <= limits.max_segments.min(MAX_SEGMENTS));
    }
    let changes = request.op != Op::Read && request.nr_sectors > 0;
    assert!(!(limits.read_only && changes));
    let needs_block = matches!(request.op, Op::Read | Op::Write | Op::Discard { .. });
    assert!(request.nr_sectors > 0 || !needs_block);
    let block = u64::from(limits.sector_size / 512);
    assert!(request.nr_sectors == 0 || request.sector % block == 0);
    assert_eq!(request.nr_sectors % block, 0);

    // The disk panics on what is out of bounds.
    let mut guest = Guest::default();
    for segment in segments.iter().take(usize::from(granted)) {
        guest.pages.insert(segment.gref, [granted; 4096]);
    }
    let mut disk = Disk::new(limits);
    let _ = disk.execute(&request, &segments, &mut guest);
}

/// The operation that stands in the response.
fn code(raw: &RawRequest) -> u8 {
    match raw.body {
        Body::Indirect { operation, .. } => operation,
        _ => raw.operation,
    }
}

fn parse(
    raw: &RawRequest,
    limits: &Limits,
    list: &[u8],
) -> Result<(Request, Vec<Segment>), protocol::blkif::Refusal> {
    match Request::parse(raw, limits)? {
        Parsed::Whole(request, segments) => Ok((request, segments.to_vec())),
        Parsed::Indirect(indirect) => {
            assert!((1..=8).contains(&indirect.pages().len()));
            assert!(indirect.list_len() <= 4096 * indirect.pages().len());
            let mut segments = Vec::new();
            let request = indirect.parse(list, limits, |segment| segments.push(segment))?;
            assert_eq!(segments.len(), indirect.nr_segments());
            Ok((request, segments))
        }
    }
}

fn response(abi: Abi, bytes: &[u8]) {
    let response = abi.decode_response(bytes);
    let mut again = vec![0; bytes.len()];
    abi.encode_response(&response, &mut again);
    assert_eq!(
        abi.decode_response(&again),
        response,
        "what is read can be written"
    );

    let mut pending = Pending::<[_; 8]>::new();
    let sent = [(1, op::READ), (3, op::WRITE), (7, op::FLUSH_DISKCACHE)];
    for (id, operation) in sent {
        pending.start(id, operation).expect("free");
    }
    match pending.finish(&response) {
        Ok(id) => {
            assert!(sent.contains(&(id, response.operation)));
            assert_eq!(id as u64, response.id);
            pending.finish(&response).expect_err("not twice");
            assert_eq!(pending.iter().count(), 2);
        }
        Err(_) => assert!(pending.iter().eq(sent)),
    }
}
