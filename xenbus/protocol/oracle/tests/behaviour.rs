// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Our ends of a ring against those made of C's macros: the same random steps for all four pairs of
//! ends, with the same results and the same bytes in the page after each.

use proptest::prelude::*;
use protocol::blkif::{op, Abi, Body, RawRequest, Response, Segment};
use protocol::ring::{self, index, Memory};
use protocol_oracle::{c, Back, Front, Page};
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Step {
    FrontPush(RawRequest),
    FrontPublish,
    FrontPop,
    FrontCheck,
    BackPop,
    BackPush(i16),
    BackPublish,
    BackCheck,
}

fn request() -> impl Strategy<Value = RawRequest> {
    let segments = any::<[(u32, u8, u8); 11]>();
    (
        0u8..8,
        any::<(u64, u16, u64, u64)>(),
        any::<(u8, u8, u16)>(),
        segments,
    )
        .prop_map(
            |(operation, (id, handle, sector, nr_sectors), (small, flag, large), segments)| {
                let body = match operation {
                    0..=3 => Body::Transfer {
                        nr_segments: small,
                        handle,
                        sector,
                        // What does not count is not read.
                        segments: std::array::from_fn(|i| match segments[i] {
                            (gref, first, last) if i < small.into() => {
                                Segment { gref, first, last }
                            }
                            _ => Segment::default(),
                        }),
                    },
                    op::DISCARD => Body::Discard {
                        flag,
                        handle,
                        sector,
                        nr_sectors,
                    },
                    op::INDIRECT => Body::Indirect {
                        operation: small,
                        nr_segments: large,
                        handle,
                        sector,
                        grefs: std::array::from_fn(|i| segments[i].0),
                    },
                    _ => Body::Other,
                };
                RawRequest {
                    operation,
                    id,
                    body,
                }
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => request().prop_map(Step::FrontPush),
        2 => Just(Step::FrontPublish),
        6 => Just(Step::FrontPop),
        1 => Just(Step::FrontCheck),
        6 => Just(Step::BackPop),
        6 => any::<i16>().prop_map(Step::BackPush),
        2 => Just(Step::BackPublish),
        1 => Just(Step::BackCheck),
    ]
}

/// What came of a step.
#[derive(Debug, PartialEq)]
enum Outcome {
    Flag(bool),
    Request(Option<RawRequest>),
    Response(Option<Response>),
}

/// A ring, its ends, and the requests that the back end has not answered.
struct Pair {
    name: &'static str,
    page: Page,
    front: Box<dyn Front>,
    back: Box<dyn Back>,
    unanswered: VecDeque<RawRequest>,
}

impl Pair {
    fn new(name: &'static str, abi: Abi, start: u32) -> Self {
        let page = Page::new();
        let front: Box<dyn Front> = if name.starts_with("C ") {
            Box::new(c::Front::new_at(page.clone(), abi, start))
        } else {
            Box::new(ring::Front::new_at(page.clone(), abi, start).unwrap())
        };
        let back: Box<dyn Back> = if name.ends_with(" C") {
            Box::new(c::Back::attach(page.clone(), abi))
        } else {
            Box::new(ring::Back::attach(page.clone(), abi).unwrap())
        };
        Self {
            name,
            page,
            front,
            back,
            unanswered: VecDeque::new(),
        }
    }

    fn step(&mut self, step: &Step) -> Outcome {
        Outcome::Flag(match step {
            Step::FrontPush(request) => self.front.push(request),
            Step::FrontPublish => self.front.publish(),
            Step::FrontPop => return Outcome::Response(self.front.pop()),
            Step::FrontCheck => self.front.check(),
            Step::BackPop => {
                let request = self.back.pop();
                self.unanswered.extend(request);
                return Outcome::Request(request);
            }
            Step::BackPush(status) => {
                let asked = self.unanswered.pop_back();
                let (id, operation) = asked.map_or((0, 0), |r| (r.id, r.operation));
                let done = self.back.push(&Response {
                    id,
                    operation,
                    status: *status,
                });
                assert_eq!(done, asked.is_some());
                done
            }
            Step::BackPublish => self.back.publish(),
            Step::BackCheck => self.back.check(),
        })
    }
}

fn run(abi: Abi, start: u32, steps: &[Step]) {
    let names = ["C with C", "C with ours", "ours with C", "ours with ours"];
    let mut pairs = names.map(|name| Pair::new(name, abi, start));
    for (i, step) in steps.iter().enumerate() {
        let outcomes = pairs.each_mut().map(|pair| pair.step(step));
        for (pair, outcome) in pairs.iter().zip(&outcomes) {
            assert_eq!(*outcome, outcomes[0], "{} at step {i}, {step:?}", pair.name);
            assert_eq!(
                pair.front.free(),
                pairs[0].front.free(),
                "{} at step {i}",
                pair.name
            );
            let same = pair.page.bytes() == pairs[0].page.bytes();
            assert!(
                same,
                "{} at step {i}, {step:?}: the page differs",
                pair.name
            );
        }
    }
}

fn start() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0),
        (0u32..200).prop_map(|n| u32::MAX - n),
        any::<u32>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn all_pairs_agree(
        x86_32: bool,
        start in start(),
        steps in proptest::collection::vec(step(), 0..300),
    ) {
        run(if x86_32 { Abi::X86_32 } else { Abi::X86_64 }, start, &steps);
    }

    /// What overflows in C overruns here. (The reverse does not hold: we see more.)
    #[test]
    fn lies_that_c_sees_we_see(
        start in start(),
        steps in proptest::collection::vec(step(), 0..100),
        of_front: bool,
        lie in prop_oneof![-80i32..80, any::<i32>()],
    ) {
        let mut c = Pair::new("C with C", Abi::Native, start);
        let mut ours = Pair::new("ours with ours", Abi::Native, start);
        for step in &steps {
            prop_assert_eq!(c.step(step), ours.step(step));
        }
        for pair in [&mut c, &mut ours] {
            prop_assert!(!pair.front.overrun() && !pair.back.overrun());
            let offset = if of_front { index::REQ_PROD } else { index::RSP_PROD };
            pair.page.store(offset, pair.page.load(offset).wrapping_add(lie as u32));
        }
        prop_assert!(ours.front.overrun() || !c.front.overrun());
        prop_assert!(ours.back.overrun() || !c.back.overrun());
    }
}
