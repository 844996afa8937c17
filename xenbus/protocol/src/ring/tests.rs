// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Tests of the ring: examples, attacks, and random interleavings against a model.

use super::*;
use crate::mock::{Area, Damage, Faulty};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec::Vec;

/// A ring protocol with requests of 8 and responses of 4 bytes.
#[derive(Clone, Copy)]
struct Numbers;

impl Codec for Numbers {
    type Request = u64;
    type Response = u32;

    fn request_size(&self) -> usize {
        8
    }
    fn response_size(&self) -> usize {
        4
    }
    fn decode_request(&self, bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().unwrap())
    }
    fn encode_request(&self, request: &u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&request.to_le_bytes());
    }
    fn decode_response(&self, bytes: &[u8]) -> u32 {
        u32::from_le_bytes(bytes.try_into().unwrap())
    }
    fn encode_response(&self, response: &u32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&response.to_le_bytes());
    }
}

/// An area of `entries` entries of [`Numbers`], and some bytes that are too few for another one.
fn area(entries: usize) -> Area {
    Area::new(HEADER + entries * 8 + 4)
}

type Ends = (Area, Front<Area, Numbers>, Back<Area, Numbers>);

fn ends(entries: usize, start: u32) -> Ends {
    let area = area(entries);
    let front = Front::new_at(area.clone(), Numbers, start).unwrap();
    let back = Back::attach(area.clone(), Numbers).unwrap();
    (area, front, back)
}

#[test]
fn layout_is_the_largest_power_of_two_that_fits() {
    let entries = |area, size| Layout::new(area, size).map(|l| l.entries());
    assert_eq!(entries(4096, 112), Ok(32));
    assert_eq!(entries(4096, 108), Ok(32));
    assert_eq!(entries(4096 * 16, 112), Ok(512));
    assert_eq!(entries(4096, 12), Ok(256));
    assert_eq!(entries(4096, 8), Ok(256));
    assert_eq!(entries(64 + 8, 8), Ok(1));
    assert_eq!(entries(64 + 7, 8), Err(TooSmall));
    assert_eq!(entries(63, 8), Err(TooSmall));
    assert_eq!(entries(0, 8), Err(TooSmall));
    assert_eq!(entries(4096, 0), Err(TooSmall));
    assert_eq!(entries(4096, MAX_ENTRY + 1), Err(TooSmall));
    assert_eq!(entries(usize::MAX, 1), Ok(1 << 31));
}

#[test]
fn new_initialises_the_header() {
    let area = area(4);
    area.copy_in(0, &[0xaa; HEADER]);
    let front = Front::new(area.clone(), Numbers).unwrap();
    let indices = [0, 4, 8, 12].map(|offset| area.load(offset));
    assert_eq!(indices, [0, 1, 0, 1]);
    assert_eq!((front.size(), front.free()), (4, 4));
    assert!(area.bytes()[16..HEADER].iter().all(|byte| *byte == 0));
}

#[test]
fn requests_and_responses_go_round() {
    // The indices pass 2^32 on the way.
    let (_, mut front, mut back) = ends(4, u32::MAX - 5);
    for round in 0..20u64 {
        for i in 0..4 {
            front.push(&(round * 4 + i)).unwrap();
        }
        assert_eq!(front.push(&0), Err(Full));
        assert_eq!(back.pop(), Ok(None), "not published yet");
        let _ = front.publish();
        for i in 0..4 {
            let request = back.pop().unwrap().unwrap();
            assert_eq!(request, round * 4 + i);
            back.push(&(request as u32 ^ 1)).unwrap();
        }
        assert_eq!((back.pop(), back.push(&0)), (Ok(None), Err(Unasked)));
        assert_eq!(front.pop(), Ok(None), "not published yet");
        let _ = back.publish();
        assert_eq!((front.unconsumed(), front.free()), (Ok(4), 0));
        for i in 0..4 {
            assert_eq!(front.pop(), Ok(Some((round * 4 + i) as u32 ^ 1)));
        }
        assert_eq!((front.pop(), front.free()), (Ok(None), 4));
    }
}

#[test]
fn indices_are_shown_as_they_are() {
    let (_, mut front, mut back) = ends(8, 5);
    for request in 0..3 {
        front.push(&request).unwrap();
    }
    let _ = front.publish();
    back.pop().unwrap();
    back.pop().unwrap();
    back.push(&0).unwrap();
    let _ = back.publish();
    back.push(&1).unwrap();
    let indices = Indices {
        entries: 8,
        req_prod: 8,
        req_cons: 7,
        req_event: 6,
        rsp_prod: 6,
        rsp_prod_pvt: 7,
        rsp_event: 6,
    };
    assert_eq!(back.indices(), indices);
}

#[test]
fn a_notification_is_due_only_when_asked_for() {
    let (_, mut front, mut back) = ends(8, u32::MAX);
    let send = |front: &mut Front<_, _>| {
        front.push(&1).unwrap();
        front.publish()
    };
    assert!(send(&mut front), "a new ring asks for the first request");
    assert!(!send(&mut front), "the back end is awake");
    assert!(!front.publish(), "nothing new");
    assert_eq!(back.final_check(), Ok(true));
    assert!(!send(&mut front));
    while back.pop().unwrap().is_some() {}
    assert_eq!(back.final_check(), Ok(false));
    assert!(send(&mut front), "the back end was asleep");

    back.push(&1).unwrap();
    assert!(back.publish());
    back.push(&1).unwrap();
    assert!(!back.publish());
    while front.pop().unwrap().is_some() {}
    assert_eq!(front.final_check(), Ok(false));
    back.push(&1).unwrap();
    assert!(back.publish());
}

#[test]
fn a_back_end_that_needs_several_requests_is_told_when_they_are_there() {
    for start in [0, u32::MAX - 1] {
        let (_, mut front, mut back) = ends(8, start);
        let send = |front: &mut Front<_, _>| {
            front.push(&1).unwrap();
            front.publish()
        };
        let _ = send(&mut front);
        assert_eq!(back.final_check_for(1), Ok(true));
        assert_eq!(back.final_check_for(3), Ok(false));
        assert!(!send(&mut front), "two are not enough");
        assert!(send(&mut front), "three are");
        assert_eq!(back.final_check_for(3), Ok(true));
        assert!(!send(&mut front), "the back end is awake");
        // What was sent before it asks counts.
        assert_eq!(back.final_check_for(5), Ok(false));
        front.push(&1).unwrap();
        front.push(&1).unwrap();
        assert!(front.publish(), "more than enough at once");
    }
}

#[test]
fn an_event_in_the_middle_of_a_batch_counts() {
    let (area, mut front, mut back) = ends(8, u32::MAX - 1);
    for _ in 0..5 {
        front.push(&1).unwrap();
    }
    area.store(index::REQ_EVENT, 2); // The fourth of the five.
    assert!(front.publish());
    for _ in 0..5 {
        back.pop().unwrap();
        back.push(&1).unwrap();
    }
    area.store(index::RSP_EVENT, 4); // The sixth.
    assert!(!back.publish());
}

#[test]
fn too_many_responses_break_the_ring_for_good() {
    let (area, mut front, _) = ends(4, u32::MAX);
    front.push(&1).unwrap();
    front.push(&2).unwrap();
    let _ = front.publish();
    area.store(index::RSP_PROD, 2); // Three responses to two requests.
    let overrun = Overrun {
        claimed: 3,
        possible: 2,
    };
    assert_eq!(front.pop(), Err(overrun));
    area.store(index::RSP_PROD, 0);
    assert_eq!(front.pop(), Err(overrun), "no way back");
    assert_eq!(front.final_check(), Err(overrun));
    assert_eq!(front.unconsumed(), Err(overrun));
}

#[test]
fn an_answer_to_an_unpublished_request_breaks_the_ring() {
    let (area, mut front, _) = ends(4, 0);
    front.push(&1).unwrap();
    area.store(index::RSP_PROD, 1);
    assert_eq!(
        front.pop(),
        Err(Overrun {
            claimed: 1,
            possible: 0
        })
    );
}

#[test]
fn a_response_index_that_goes_back_breaks_the_ring() {
    let (area, mut front, mut back) = ends(4, 0);
    front.push(&1).unwrap();
    let _ = front.publish();
    back.pop().unwrap();
    back.push(&1).unwrap();
    let _ = back.publish();
    assert_eq!(front.pop(), Ok(Some(1)));
    area.store(index::RSP_PROD, 0);
    assert_eq!(
        front.pop(),
        Err(Overrun {
            claimed: u32::MAX,
            possible: 0
        })
    );
}

#[test]
fn too_many_requests_break_the_ring() {
    let (area, _, mut back) = ends(4, u32::MAX - 1);
    area.store(index::REQ_PROD, 2);
    assert_eq!(back.unconsumed(), Ok(4), "a full ring is fine");
    area.store(index::REQ_PROD, 3);
    assert_eq!(
        back.final_check(),
        Err(Overrun {
            claimed: 5,
            possible: 4
        })
    );
    assert_eq!(
        back.pop(),
        Err(Overrun {
            claimed: 5,
            possible: 4
        }),
        "for good"
    );
}

#[test]
fn a_request_over_an_unanswered_one_breaks_the_ring() {
    let (area, mut front, mut back) = ends(4, 0);
    for _ in 0..4 {
        front.push(&1).unwrap();
    }
    let _ = front.publish();
    for _ in 0..4 {
        back.pop().unwrap();
    }
    back.push(&1).unwrap(); // Not published: the front end cannot know of the free entry.
    area.store(index::REQ_PROD, 5);
    assert_eq!(
        back.pop(),
        Err(Overrun {
            claimed: 1,
            possible: 0
        })
    );
}

#[test]
fn a_request_index_that_goes_back_breaks_the_ring() {
    let (area, mut front, mut back) = ends(4, 0);
    front.push(&1).unwrap();
    let _ = front.publish();
    back.pop().unwrap();
    area.store(index::REQ_PROD, 0);
    assert_eq!(
        back.pop(),
        Err(Overrun {
            claimed: u32::MAX,
            possible: 3
        })
    );
}

#[test]
fn attach_finds_the_requests_that_another_back_end_has_left() {
    let (area, mut front, mut back) = ends(4, u32::MAX - 1);
    for i in 1..=4 {
        front.push(&i).unwrap();
    }
    let _ = front.publish();
    back.pop().unwrap();
    back.pop().unwrap();
    back.push(&10).unwrap();
    let _ = back.publish();
    drop(back);

    let mut second = Back::attach(area, Numbers).unwrap();
    assert_eq!(second.unconsumed(), Ok(3));
    assert_eq!(second.pop(), Ok(Some(2)));
    second.push(&20).unwrap();
    let _ = second.publish();
    assert_eq!(
        (front.pop(), front.pop(), front.pop()),
        (Ok(Some(10)), Ok(Some(20)), Ok(None))
    );
}

#[test]
fn attach_refuses_garbage() {
    let area = area(4);
    area.store(index::REQ_PROD, 5);
    let error = Back::attach(&area, Numbers).err();
    assert_eq!(
        error,
        Some(AttachError::Overrun(Overrun {
            claimed: 5,
            possible: 4
        }))
    );
    area.store(index::REQ_PROD, u32::MAX);
    assert!(matches!(
        Back::attach(&area, Numbers).err(),
        Some(AttachError::Overrun(_))
    ));
    let error = Back::attach(Area::new(64), Numbers).err();
    assert_eq!(error, Some(AttachError::TooSmall));
    assert!(Front::new(Area::new(0), Numbers).is_err());
}

#[test]
fn an_entry_is_copied_exactly_once() {
    let (area, mut front, _) = ends(4, 0);
    front.push(&0x1111).unwrap();
    let _ = front.publish();
    let memory = Faulty::new(area.clone(), Vec::new());
    let mut back = Back::attach(memory, Numbers).unwrap();
    // The attach's look at the index is still good, so there is the copy and nothing else.
    let before = back.memory().accesses();
    back.memory()
        .damage_after(1, Damage::Bytes(HEADER, [0xff; 8].into()));
    assert_eq!(back.pop(), Ok(Some(0x1111)));
    assert_eq!(back.memory().accesses() - before, 1);
}

#[test]
fn known_entries_are_read_without_another_look_at_the_index() {
    let (area, mut front, _) = ends(4, 0);
    front.push(&1).unwrap();
    front.push(&2).unwrap();
    let _ = front.publish();
    let memory = Faulty::new(area, Vec::new());
    let mut back = Back::attach(memory, Numbers).unwrap();
    let before = back.memory().accesses();
    assert_eq!((back.pop(), back.pop()), (Ok(Some(1)), Ok(Some(2))));
    assert_eq!(back.memory().accesses() - before, 2, "two copies, no load");
}

#[test]
fn the_last_look_before_sleep_comes_after_the_wish_for_an_event() {
    // The request arrives right after the first look: load, [here] store, barrier, load.
    for access in 1..=3 {
        let (area, _, _) = ends(4, 0);
        let mut back = Back::attach(Faulty::new(area, Vec::new()), Numbers).unwrap();
        back.memory()
            .damage_after(access, Damage::Set(index::REQ_PROD, 1));
        assert_eq!(back.final_check(), Ok(true), "access {access}");
    }
}

#[test]
fn an_event_for_so_many_requests() {
    // The indices pass 2^32 on the way.
    let (_, mut front, mut back) = ends(8, u32::MAX - 1);
    let send = |front: &mut Front<_, _>| {
        front.push(&1).unwrap();
        front.publish()
    };
    assert_eq!(back.final_check_for(3), Ok(false));
    assert_eq!(
        [(); 4].map(|()| send(&mut front)),
        [false, false, true, false]
    );
    assert_eq!(back.final_check_for(4), Ok(true));
    assert_eq!(back.final_check_for(5), Ok(false), "some, but not enough");
    back.pop().unwrap();
    assert_eq!(
        back.final_check_for(4),
        Ok(false),
        "counted from the next one on"
    );
    assert!(send(&mut front));
    assert_eq!(back.final_check_for(4), Ok(true));
    // The fourth arrives right after the first look: load, [here] store, barrier, load.
    for access in 1..=3 {
        let (area, _, _) = ends(4, 0);
        let mut back = Back::attach(Faulty::new(area, Vec::new()), Numbers).unwrap();
        back.memory()
            .damage_after(access, Damage::Set(index::REQ_PROD, 4));
        assert_eq!(back.final_check_for(4), Ok(true), "access {access}");
    }
}

/// One step of either end.
#[derive(Clone, Copy, Debug)]
enum Step {
    FrontPush(u64),
    FrontPublish,
    FrontPop,
    FrontCheck,
    BackPop,
    BackPush,
    BackPublish,
    BackCheck,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u64>().prop_map(Step::FrontPush),
        2 => Just(Step::FrontPublish),
        4 => Just(Step::FrontPop),
        1 => Just(Step::FrontCheck),
        4 => Just(Step::BackPop),
        4 => Just(Step::BackPush),
        2 => Just(Step::BackPublish),
        1 => Just(Step::BackCheck),
    ]
}

/// A ring as it should be: queues for the four places where a message can be, and the indices in
/// numbers that do not wrap.
#[derive(Default)]
struct Model {
    pushed: VecDeque<u64>,
    requests: VecDeque<u64>,
    popped: VecDeque<u64>,
    answered: VecDeque<u32>,
    responses: VecDeque<u32>,
    req_prod: u64,
    req_event: u64,
    rsp_prod: u64,
    rsp_event: u64,
}

impl Model {
    fn in_use(&self) -> usize {
        self.pushed.len()
            + self.requests.len()
            + self.popped.len()
            + self.answered.len()
            + self.responses.len()
    }
}

/// Moves everything; the number moved.
fn drain<T>(from: &mut VecDeque<T>, to: &mut VecDeque<T>) -> u64 {
    let moved = from.len();
    to.append(from);
    moved as u64
}

fn run(entries: usize, start: u32, steps: &[Step]) {
    let (_, mut front, mut back) = ends(entries, start);
    let mut model = Model {
        req_event: 1,
        rsp_event: 1,
        ..Model::default()
    };
    let mut consumed = (0u64, 0u64);
    for step in steps {
        match *step {
            Step::FrontPush(value) => {
                let full = model.in_use() == entries;
                assert_eq!(front.push(&value), if full { Err(Full) } else { Ok(()) });
                if !full {
                    model.pushed.push_back(value);
                }
            }
            Step::FrontPublish => {
                let old = model.req_prod;
                model.req_prod += drain(&mut model.pushed, &mut model.requests);
                let due = old < model.req_event && model.req_event <= model.req_prod;
                assert_eq!(front.publish(), due);
            }
            Step::FrontPop => {
                let expected = model.responses.pop_front();
                consumed.0 += u64::from(expected.is_some());
                assert_eq!(front.pop(), Ok(expected));
            }
            Step::FrontCheck => {
                let work = !model.responses.is_empty();
                if !work {
                    model.rsp_event = consumed.0 + 1;
                }
                assert_eq!(front.final_check(), Ok(work));
            }
            Step::BackPop => {
                let expected = model.requests.pop_front();
                consumed.1 += u64::from(expected.is_some());
                model.popped.extend(expected);
                assert_eq!(back.pop(), Ok(expected));
            }
            Step::BackPush => match model.popped.pop_back() {
                Some(request) => {
                    assert_eq!(back.push(&(request as u32)), Ok(()));
                    model.answered.push_back(request as u32);
                }
                None => assert_eq!(back.push(&0), Err(Unasked)),
            },
            Step::BackPublish => {
                let old = model.rsp_prod;
                model.rsp_prod += drain(&mut model.answered, &mut model.responses);
                let due = old < model.rsp_event && model.rsp_event <= model.rsp_prod;
                assert_eq!(back.publish(), due);
            }
            Step::BackCheck => {
                let work = !model.requests.is_empty();
                if !work {
                    model.req_event = consumed.1 + 1;
                }
                assert_eq!(back.final_check(), Ok(work));
            }
        }
        assert_eq!(front.free() as usize, entries - model.in_use());
        assert_eq!(back.unanswered() as usize, model.popped.len());
        assert_eq!(front.unconsumed(), Ok(model.responses.len() as u32));
        assert_eq!(back.unconsumed(), Ok(model.requests.len() as u32));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_interleavings_follow_the_model(
        log in 0u32..6,
        before_wrap in 0u32..100,
        steps in proptest::collection::vec(step(), 0..400),
    ) {
        run(1 << log, u32::MAX - before_wrap, &steps);
    }

    #[test]
    fn any_start_is_as_good(start: u32, steps in proptest::collection::vec(step(), 0..100)) {
        run(4, start, &steps);
    }
}
