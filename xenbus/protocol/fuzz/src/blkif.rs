// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A request out of the ring, up to the sectors of a disk; and a response.

use crate::Input;
use protocol::blkif::{op, Abi, Limits, Offered, Op, Pending, Request, MAX_SEGMENTS};
use protocol::mock::{Disk, Guest};
use protocol::ring::Codec;

/// Four bytes of what the disk allows, then an entry of the ring.
pub fn blkif(input: &[u8]) {
    let mut input = Input(input);
    let [kind, capacity, max_segments, granted] = input.array();
    let abi = [Abi::X86_64, Abi::X86_32][usize::from(kind & 1)];
    let limits = Limits {
        capacity_sectors: u64::from(capacity),
        read_only: kind & 2 != 0,
        max_segments: usize::from(max_segments),
        sector_size: 512 << (kind >> 6),
        features: Offered {
            flush: kind & 4 != 0,
            barrier: kind & 8 != 0,
            discard: kind & 16 != 0,
        },
    };
    let entry: [u8; 112] = input.array();
    request(abi, &entry[..abi.request_size()], limits, granted);
    response(abi, &entry[..abi.response_size()]);
}

fn request(abi: Abi, bytes: &[u8], limits: Limits, granted: u8) {
    let raw = abi.decode_request(bytes);
    let mut again = vec![0; bytes.len()];
    abi.encode_request(&raw, &mut again);
    assert_eq!(
        abi.decode_request(&again),
        raw,
        "what is read can be written"
    );

    let request = match Request::parse(&raw, &limits) {
        Ok(request) => request,
        Err(refusal) => {
            let response = refusal.response();
            assert_eq!((response.id, response.operation), (raw.id, raw.operation));
            assert!(response.status < 0);
            return;
        }
    };
    assert_eq!((request.id, request.op.code()), (raw.id, raw.operation));
    assert!(request.segments.len() <= limits.max_segments.min(MAX_SEGMENTS));
    let changes = request.op != Op::Read && request.nr_sectors > 0;
    assert!(!(limits.read_only && changes));
    let needs_block = matches!(request.op, Op::Read | Op::Write | Op::Discard { .. });
    assert!(request.nr_sectors > 0 || !needs_block);
    let block = u64::from(limits.sector_size / 512);
    assert!(request.nr_sectors == 0 || request.sector % block == 0);
    assert_eq!(request.nr_sectors % block, 0);

    // The disk panics on what is out of bounds.
    let mut guest = Guest::default();
    for segment in request.segments.iter().take(usize::from(granted)) {
        guest.pages.insert(segment.gref, [granted; 4096]);
    }
    let mut disk = Disk::new(limits);
    let _ = disk.execute(&request, &mut guest);
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
