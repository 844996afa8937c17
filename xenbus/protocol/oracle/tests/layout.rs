// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Our layouts and constants against those that the C compiler gives.

use protocol::blkif::{op, status, vdisk, Abi, DISCARD_SECURE, MAX_INDIRECT_PAGES, MAX_SEGMENTS};
use protocol::ring::{index, Codec, Layout, HEADER};
use protocol::state::XenbusState;
use protocol_oracle::layout::{Entry, I386, X86_32, X86_64};

fn find(table: &[Entry], name: &str) -> Entry {
    *table
        .iter()
        .find(|e| e.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

/// Our ABIs, and the tables that they should agree with.
const ABIS: [(Abi, &[Entry]); 4] = [
    (Abi::X86_64, X86_64),
    (Abi::Native, X86_64),
    (Abi::X86_32, I386),
    (Abi::X86_32, X86_32),
];

#[test]
fn packing_to_4_bytes_gives_the_layout_of_i386() {
    // But for the padding at the end that only i386 has, inside of the size of a request.
    let skip = "blkif_request_indirect";
    assert_eq!(I386.len(), X86_32.len());
    for entry in I386.iter().filter(|e| e.name != skip) {
        assert_eq!(*entry, find(X86_32, entry.name));
    }
    assert!(find(I386, skip).size <= find(I386, "blkif_request").size);
}

#[test]
fn sizes() {
    for (abi, c) in ABIS {
        assert_eq!(abi.request_size(), find(c, "blkif_request").size);
        assert_eq!(abi.response_size(), find(c, "blkif_response").size);
        for pages in [1, 16] {
            let layout = Layout::new(pages * 4096, abi.entry_size()).unwrap();
            let entries = find(c, &format!("ring_size_{pages}")).value;
            assert_eq!(i64::from(layout.entries()), entries);
        }
    }
}

#[test]
fn shared_indices() {
    for (_, c) in ABIS {
        let at = |field: &str| find(c, &format!("blkif_sring.{field}")).value as usize;
        assert_eq!(at("req_prod"), index::REQ_PROD);
        assert_eq!(at("req_event"), index::REQ_EVENT);
        assert_eq!(at("rsp_prod"), index::RSP_PROD);
        assert_eq!(at("rsp_event"), index::RSP_EVENT);
        assert_eq!(at("ring[0]"), HEADER);
    }
}

/// A request or response with one field set, found in the bytes where C has that field.
#[test]
fn fields() {
    for (abi, c) in ABIS {
        // All bytes differ, so that each field's value tells where it was read.
        let bytes: Vec<u8> = (0..abi.request_size() as u8).map(|i| i + 100).collect();
        let number = |bytes: &[u8], entry: Entry| {
            let at = entry.value as usize;
            let field = bytes[at..at + entry.size].iter().rev();
            field.fold(0u64, |n, byte| (n << 8) | u64::from(*byte))
        };
        let with = |operation| [&[operation], &bytes[1..]].concat();

        let raw = with(op::WRITE);
        let field = |name: &str| number(&raw, find(c, &format!("blkif_request.{name}")));
        let got = abi.decode_request(&raw);
        let debug = format!("{got:?}");
        assert_eq!(u64::from(got.operation), field("operation"));
        assert_eq!(got.id, field("id"));
        let protocol::blkif::Body::Transfer {
            nr_segments,
            handle,
            sector,
            segments,
        } = got.body
        else {
            panic!("{debug}")
        };
        assert_eq!(u64::from(nr_segments), field("nr_segments"));
        assert_eq!(u64::from(handle), field("handle"));
        assert_eq!(sector, field("sector_number"));
        let array = find(c, "blkif_request.seg");
        let size = find(c, "blkif_request_segment").size;
        assert_eq!(array.size, segments.len() * size);
        for (i, segment) in segments.iter().enumerate() {
            let start = array.value as usize + i * size;
            let field = |name: &str| {
                number(
                    &raw[start..],
                    find(c, &format!("blkif_request_segment.{name}")),
                )
            };
            assert_eq!(u64::from(segment.gref), field("gref"));
            assert_eq!(u64::from(segment.first), field("first_sect"));
            assert_eq!(u64::from(segment.last), field("last_sect"));
        }

        let raw = with(op::DISCARD);
        let field = |name: &str| number(&raw, find(c, &format!("blkif_request_discard.{name}")));
        let got = abi.decode_request(&raw);
        let protocol::blkif::Body::Discard {
            flag,
            handle,
            sector,
            nr_sectors,
        } = got.body
        else {
            panic!("{got:?}")
        };
        assert_eq!(got.id, field("id"));
        assert_eq!(u64::from(flag), field("flag"));
        assert_eq!(u64::from(handle), field("handle"));
        assert_eq!(
            (sector, nr_sectors),
            (field("sector_number"), field("nr_sectors"))
        );

        let raw = with(op::INDIRECT);
        let field = |name: &str| number(&raw, find(c, &format!("blkif_request_indirect.{name}")));
        let got = abi.decode_request(&raw);
        let protocol::blkif::Body::Indirect {
            operation,
            nr_segments,
            handle,
            sector,
            grefs,
        } = got.body
        else {
            panic!("{got:?}")
        };
        assert_eq!(got.id, field("id"));
        assert_eq!(u64::from(operation), field("indirect_op"));
        assert_eq!(u64::from(nr_segments), field("nr_segments"));
        assert_eq!(u64::from(handle), field("handle"));
        assert_eq!(sector, field("sector_number"));
        let array = find(c, "blkif_request_indirect.indirect_grefs");
        assert_eq!(array.size, grefs.len() * 4);
        for (i, gref) in grefs.iter().enumerate() {
            let entry = Entry {
                value: array.value + i as i64 * 4,
                size: 4,
                ..array
            };
            assert_eq!(u64::from(*gref), number(&raw, entry));
        }

        let field = |name: &str| number(&bytes, find(c, &format!("blkif_response.{name}")));
        let got = abi.decode_response(&bytes[..abi.response_size()]);
        assert_eq!(got.id, field("id"));
        assert_eq!(u64::from(got.operation), field("operation"));
        assert_eq!(got.status as u16 as u64, field("status"));
    }
}

#[test]
fn constants() {
    let value = |name: &str| find(X86_64, name).value;
    for (ours, name) in [
        (op::READ, "BLKIF_OP_READ"),
        (op::WRITE, "BLKIF_OP_WRITE"),
        (op::WRITE_BARRIER, "BLKIF_OP_WRITE_BARRIER"),
        (op::FLUSH_DISKCACHE, "BLKIF_OP_FLUSH_DISKCACHE"),
        (op::DISCARD, "BLKIF_OP_DISCARD"),
        (op::INDIRECT, "BLKIF_OP_INDIRECT"),
        (DISCARD_SECURE, "BLKIF_DISCARD_SECURE"),
        (MAX_SEGMENTS as u8, "BLKIF_MAX_SEGMENTS_PER_REQUEST"),
        (
            MAX_INDIRECT_PAGES as u8,
            "BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST",
        ),
        (vdisk::CDROM as u8, "VDISK_CDROM"),
        (vdisk::REMOVABLE as u8, "VDISK_REMOVABLE"),
        (vdisk::READONLY as u8, "VDISK_READONLY"),
    ] {
        assert_eq!(i64::from(ours), value(name), "{name}");
    }
    for (ours, name) in [
        (status::OKAY, "BLKIF_RSP_OKAY"),
        (status::ERROR, "BLKIF_RSP_ERROR"),
        (status::EOPNOTSUPP, "BLKIF_RSP_EOPNOTSUPP"),
    ] {
        assert_eq!(i64::from(ours), value(name), "{name}");
    }
    for number in 0..9 {
        let ours = XenbusState::from(number);
        assert_eq!(i64::from(number), value(&format!("XenbusState{ours:?}")));
    }
}
