// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Regression tests, each named after the advisory whose hole it keeps closed: those that this
//! crate holds the check against. `hostile --list` names those that need a kernel.

mod net;

use crate::blkif::tests::LIMITS;
use crate::blkif::{
    op, Abi, BadResponse, Limits, Parsed, Pending, RawRequest, Reason, Request, Response, Segment,
};
use crate::mock::Area;
use crate::negotiate;
use crate::ring::{index, Back, Codec, Front, Memory, HEADER};
use core::cell::RefCell;
use std::vec;
use std::vec::Vec;

/// A memory whose peer turns every byte over as soon as it has been read, and that counts.
struct Fickle {
    area: Area,
    reads: RefCell<Vec<u32>>,
}

impl Fickle {
    fn new(area: Area) -> Self {
        let reads = RefCell::new(vec![0; area.len()]);
        Self { area, reads }
    }
}

impl Memory for Fickle {
    fn len(&self) -> usize {
        self.area.len()
    }
    fn load(&self, offset: usize) -> u32 {
        self.area.load(offset)
    }
    fn store(&self, offset: usize, value: u32) {
        self.area.store(offset, value)
    }
    fn barrier(&self) {}
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.area.copy_out(offset, to);
        let turned: Vec<u8> = to.iter().map(|byte| !byte).collect();
        self.area.copy_in(offset, &turned);
        for count in self
            .reads
            .borrow_mut()
            .iter_mut()
            .skip(offset)
            .take(to.len())
        {
            *count += 1;
        }
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.area.copy_in(offset, from)
    }
}

fn read(sector: u64) -> RawRequest {
    let segment = Segment {
        gref: 8,
        first: 0,
        last: 7,
    };
    RawRequest::transfer(op::READ, 5, 0, sector, &[segment])
}

/// A back end reads each byte of a request once, and what it checks is what it has read.
#[test]
fn xsa155_copy_once() {
    for abi in [Abi::X86_64, Abi::X86_32] {
        let area = Area::page();
        let mut front = Front::new(area.clone(), abi).unwrap();
        front.push(&read(8)).unwrap();
        let _ = front.publish();
        let mut back = Back::attach(Fickle::new(area), abi).unwrap();
        let raw = back.pop().unwrap().unwrap();
        assert_eq!(raw, read(8));
        let Ok(Parsed::Whole(request, _)) = Request::parse(&raw, &LIMITS) else {
            panic!("not parsed");
        };
        assert_eq!((request.sector, request.nr_sectors), (8, 8));
        assert_eq!(back.pop(), Ok(None));
        let reads = back.memory().reads.borrow();
        let entry = HEADER..HEADER + abi.request_size();
        assert!(reads[entry.clone()].iter().all(|count| *count == 1));
        assert!(reads[entry.end..].iter().all(|count| *count == 0));
    }
}

/// A front end reads each byte of a response once, too.
#[test]
fn xsa155_copy_once_in_front_ends() {
    let area = Area::page();
    let mut front = Front::new(Fickle::new(area.clone()), Abi::X86_64).unwrap();
    front.push(&read(8)).unwrap();
    let _ = front.publish();
    let mut back = Back::attach(area, Abi::X86_64).unwrap();
    back.pop().unwrap();
    let answer = Response {
        id: 5,
        operation: op::READ,
        status: 0,
    };
    back.push(&answer).unwrap();
    let _ = back.publish();
    assert_eq!(front.pop(), Ok(Some(answer)));
    assert!(front
        .memory()
        .reads
        .borrow()
        .iter()
        .all(|count| *count <= 1));
}

/// What an end writes into the shared page has no byte of its own memory in the padding.
#[test]
fn xsa216_no_padding_leaks() {
    for abi in [Abi::X86_64, Abi::X86_32] {
        let area = Area::page();
        let mut front = Front::new(area.clone(), abi).unwrap();
        front.push(&read(8)).unwrap();
        let _ = front.publish();
        let mut expected = vec![0; abi.request_size()];
        abi.encode_request(&read(8), &mut expected);
        let slot = |len: usize| area.bytes()[HEADER..HEADER + len].to_vec();
        assert_eq!(slot(abi.request_size()), expected);
        let used: usize = expected.iter().filter(|byte| **byte != 0).count();
        assert_eq!(
            used, 5,
            "nr_segments, id, sector, and in the segment gref and last"
        );

        let mut back = Back::attach(area.clone(), abi).unwrap();
        back.pop().unwrap();
        // What the slot holds now is the front end's own; the response goes over it.
        area.copy_in(HEADER, &[0xff; 112]);
        let answer = Response {
            id: 5,
            operation: op::READ,
            status: -1,
        };
        back.push(&answer).unwrap();
        let mut expected = vec![0; abi.response_size()];
        expected[0] = 5;
        expected[10] = 0xff;
        expected[11] = 0xff;
        assert_eq!(slot(abi.response_size()), expected);
    }
}

/// A front end takes no response that it has not asked for, nor for another operation.
#[test]
fn xsa376_front_ends_distrust() {
    let answer = |id, operation| Response {
        id,
        operation,
        status: 0,
    };
    let mut pending = Pending::<[_; 32]>::new();
    pending.start(5, op::READ).unwrap();
    let bad = |pending: &mut Pending<[Option<u8>; 32]>, id, operation| {
        pending.finish(&answer(id, operation)).err()
    };
    for id in [32, 1 << 32 | 5, u64::MAX] {
        assert_eq!(
            bad(&mut pending, id, op::READ),
            Some(BadResponse::UnknownId { id })
        );
    }
    assert_eq!(
        bad(&mut pending, 6, op::READ),
        Some(BadResponse::NotPending { id: 6 })
    );
    assert!(matches!(
        bad(&mut pending, 5, op::WRITE),
        Some(BadResponse::WrongOperation { .. })
    ));
    assert_eq!(pending.finish(&answer(5, op::READ)), Ok(5));
    assert_eq!(
        bad(&mut pending, 5, op::READ),
        Some(BadResponse::NotPending { id: 5 })
    );
}

/// A ring whose other end has broken its rules is not looked at again, whatever comes later.
#[test]
fn xsa39_garbage_ends_the_ring() {
    let area = Area::page();
    let mut front = Front::new(area.clone(), Abi::X86_64).unwrap();
    let mut back = Back::attach(area.clone(), Abi::X86_64).unwrap();
    area.store(index::REQ_PROD, 33);
    let overrun = back.pop().unwrap_err();
    area.store(index::REQ_PROD, 0);
    front.push(&read(8)).unwrap();
    let _ = front.publish();
    assert_eq!(back.pop(), Err(overrun));
    assert_eq!(back.final_check(), Err(overrun));
}

/// Nothing of a read-only disk is discarded (the hole of 2013, which has no XSA).
#[test]
fn cve_2013_2140_discard_is_writing() {
    let limits = Limits {
        read_only: true,
        ..LIMITS
    };
    for secure in [false, true] {
        let discard = RawRequest::discard(1, 0, 0, 8, secure);
        let refusal = Request::parse(&discard, &limits).unwrap_err();
        assert_eq!(refusal.reason, Reason::ReadOnly);
    }
}

/// A front end cannot ask for no queue at all (the hole of 2026, which has no XSA).
#[test]
fn no_queue_is_no_number_of_queues() {
    assert!(negotiate::queues(Some(0), 4).is_err());
    assert!(negotiate::queues(Some(5), 4).is_err());
    assert!(negotiate::queues(Some(1 << 32 | 1), 4).is_err());
    assert_eq!(negotiate::queues(Some(4), 4), Ok(4));
}
