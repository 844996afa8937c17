// SPDX-License-Identifier: GPL-2.0
//! Random responses and store entries, the same for the same seed.

use std::time::Duration;

use super::device::{CLOSED, CLOSING, CONNECTED, INIT_WAIT};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::random::Random;
use crate::wire::*;
use crate::Result;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "fuzz-responses",
        "random responses and indices",
        fuzz_responses,
    ),
    Scenario::new("fuzz-nodes", "random store entries", fuzz_nodes),
];

fn fuzz_responses(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.seed);
    let tolerant = lab.tolerant;
    for _ in 0..(lab.count / 250).clamp(1, 20) {
        lab.with(|dev| {
            dev.connect()?;
            let request = dev.trigger()?;
            if tolerant || random.one_in(2) {
                dev.serve(&request)?;
                dev.poked(dev.timeout, true)?;
            }
            for _ in 0..50 {
                match random.below(4) {
                    0 => {
                        let ring = dev.ring()?;
                        ring.page
                            .store(4 * random.below(4) as usize, random.odd() as u32);
                        ring.channel.notify()?;
                    }
                    1 => {
                        let mut bytes = [0; 16];
                        random.fill(&mut bytes);
                        dev.answer(Response::parse(&bytes))?;
                    }
                    _ => dev.answer(Response {
                        id: random.below(33),
                        op: random.below(8) as u8,
                        status: random.pick(&[OKAY, ERROR, NOT_SUPPORTED]),
                    })?,
                }
            }
            std::thread::sleep(Duration::from_millis(100));
            Ok(Passed)
        })?;
    }
    Ok(Passed)
}

fn fuzz_nodes(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.seed);
    for _ in 0..(lab.count / 250).clamp(1, 20) {
        lab.with(|dev| {
            dev.offer()?;
            for _ in 0..1 + random.below(4) {
                let key = random.pick(&[
                    "sectors",
                    "info",
                    "sector-size",
                    "physical-sector-size",
                    "feature-flush-cache",
                    "feature-barrier",
                    "feature-discard",
                    "discard-granularity",
                    "feature-persistent",
                    "feature-max-indirect-segments",
                ]);
                let value = random.value(false);
                dev.put(key, value)?;
            }
            dev.set_state(INIT_WAIT)?;
            if dev.attach().is_ok() {
                dev.set_state(CONNECTED)?;
                if dev.await_state(&[CONNECTED, CLOSING, CLOSED])? == CONNECTED {
                    dev.serve_for(Duration::from_millis(300))?;
                }
            }
            Ok(Passed)
        })?;
    }
    Ok(Passed)
}
