// SPDX-License-Identifier: GPL-2.0
//! Barriers among writes, in all queues at once, all of them honest. That the disk gets them in the
//! right order is seen in the domain of the back end (`tools/lab/tests/blkback_barrier.sh`).

use super::device::Shape;
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::wire::{Request, BARRIER, OKAY, WRITE};
use crate::{ensure, Result};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "barriers",
    "barriers between writes, in all queues at once: all are done",
    barriers,
)];

const ROUNDS: u64 = 4;
/// A barrier is the last of so many requests.
const GROUP: u64 = 5;

fn barriers(lab: &mut Lab) -> Result<Outcome> {
    let offers = lab.dev.offers()?;
    let queues = offers.queues.clamp(1, 2);
    let shape = Shape {
        queues,
        ..Shape::PLAIN
    };
    lab.dev.connect_as(shape, 0)?;
    if lab.dev.disk.readonly || lab.dev.theirs("feature-barrier")? != Some(1) {
        return Ok(Skipped("the disk takes no barriers"));
    }
    let page = lab.dev.pages(1);
    for round in 0..ROUNDS {
        for queue in 0..queues {
            // Each request has sectors of its own, so that they are known apart.
            let first = (round * u64::from(queues) + u64::from(queue)) * 3 * GROUP;
            let requests: Vec<_> = (first..first + 3 * GROUP)
                .map(|n| {
                    let op = if n % GROUP == GROUP - 1 {
                        BARRIER
                    } else {
                        WRITE
                    };
                    Request::rw(op, n, n * 8, &page)
                })
                .collect();
            lab.dev.use_queue(queue as usize);
            lab.dev.submit(&requests)?;
        }
        for queue in 0..queues {
            lab.dev.use_queue(queue as usize);
            let answers = lab.dev.responses(3 * GROUP as usize)?;
            ensure!(
                answers.iter().all(|a| a.status == OKAY),
                "the answers are {answers:?}"
            );
        }
    }
    Ok(Passed)
}
