// SPDX-License-Identifier: GPL-2.0
//! Random requests, indices and store entries, the same for the same seed.

use super::device::{CLOSED, CLOSING, CONNECTED, INITIALISED};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::random::Random;
use crate::wire::*;
use crate::{ensure, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "fuzz-requests",
        "random requests: each answered once",
        fuzz_requests,
    ),
    Scenario::new(
        "fuzz-ring",
        "random bytes all over the ring page",
        fuzz_ring,
    ),
    Scenario::new("fuzz-nodes", "random store entries", fuzz_nodes),
];

/// A good request with a few bytes changed, or none at all.
fn mutate(random: &mut Random, grefs: &[u32], sectors: u64, id: u64) -> Request {
    let n = random.below(12) as usize;
    let seg = |random: &mut Random| Seg {
        gref: if random.one_in(8) {
            random.odd() as u32
        } else {
            random.pick(grefs)
        },
        first: if random.one_in(8) {
            random.bits() as u8
        } else {
            random.below(4) as u8
        },
        last: if random.one_in(8) {
            random.bits() as u8
        } else {
            4 + random.below(4) as u8
        },
    };
    let segs: Vec<_> = (0..n).map(|_| seg(random)).collect();
    let sector = if random.one_in(4) {
        random.odd()
    } else {
        random.below(sectors)
    };
    let op = if random.one_in(8) {
        random.bits() as u8
    } else {
        random.pick(&[READ, WRITE, READ, WRITE, BARRIER, FLUSH])
    };
    let mut request = match random.below(10) {
        0 => Request::discard(id, sector, random.odd(), random.bits() as u8),
        1 => {
            let list: Vec<_> = (0..8).map(|_| random.pick(grefs)).collect();
            Request::indirect(op, id, sector, random.odd() as u16, &list)
        }
        _ => Request::rw(op, id, sector, &segs),
    };
    for _ in 0..random.below(4) {
        let at = random.below(ENTRY as u64) as usize;
        // Not the id: by it the answers are counted. References 0 to 31 are the console's, the
        // store's and the ring's, of which the guest would only hurt itself.
        if !(8..16).contains(&at) && at < 24 {
            request.0[at] = random.bits() as u8;
        }
    }
    request
}

fn fuzz_requests(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.seed);
    lab.dev.connect()?;
    let sectors = lab.dev.disk.sectors;
    let grefs = lab.dev.data.grefs().to_vec();
    let mut sent = 0;
    while sent < lab.count {
        let batch = 1 + random.below(u64::from(ENTRIES)).min(lab.count - sent - 1);
        // Data pages double as lists of indirect segments.
        let mut bytes = [0; 256];
        random.fill(&mut bytes);
        lab.dev.data.write(random.below(16) as usize * 4096, &bytes);
        let all: Vec<_> = (0..batch)
            .map(|i| mutate(&mut random, &grefs, sectors, sent + i))
            .collect();
        lab.dev.submit(&all)?;
        let answers = lab
            .dev
            .responses(all.len())
            .map_err(|e| format!("request {sent} and on: {e}"))?;
        let mut ids: Vec<_> = answers.iter().map(|r| r.id).collect();
        ids.sort_unstable();
        ensure!(
            ids == (sent..sent + batch).collect::<Vec<_>>(),
            "answered {ids:?}, sent {sent} to {}",
            sent + batch
        );
        for r in &answers {
            let request = all[(r.id - sent) as usize];
            ensure!(
                request.is_answered_as(r.op),
                "operation {} answered as {}",
                request.op(),
                r.op
            );
        }
        sent += batch;
    }
    lab.dev.verify(8, 30)?;
    Ok(Passed)
}

fn fuzz_ring(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.seed);
    for _ in 0..(lab.count / 100).clamp(1, 20) {
        lab.dev.connect()?;
        for _ in 0..50 {
            let ring = lab.dev.ring()?;
            match random.below(3) {
                0 => ring.page.store(
                    REQ_PROD,
                    ring.page
                        .load(RSP_PROD)
                        .wrapping_add(random.below(33) as u32),
                ),
                1 => ring
                    .page
                    .store(4 * random.below(4) as usize, random.odd() as u32),
                _ => {
                    let mut bytes = [0; ENTRY];
                    random.fill(&mut bytes);
                    bytes[0] %= 8;
                    // Grants that do not exist, whatever the bytes say.
                    (0..11).for_each(|i| bytes[27 + 8 * i] |= 0x80);
                    ring.page.write(entry(random.below(32) as u32), &bytes);
                }
            }
            ring.channel.notify()?;
        }
        lab.dev.close()?;
    }
    lab.dev.connect()?;
    lab.dev.verify(8, 31)?;
    Ok(Passed)
}

fn fuzz_nodes(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(Skipped("the C back end warns"));
    }
    let mut random = Random::new(lab.seed);
    for _ in 0..(lab.count / 50).clamp(1, 20) {
        lab.dev.restart()?;
        lab.dev.make_ring(0)?;
        lab.dev.publish()?;
        for _ in 0..1 + random.below(3) {
            let key = random.pick(&[
                "ring-ref",
                "event-channel",
                "protocol",
                "ring-page-order",
                "multi-queue-num-queues",
                "feature-persistent",
            ]);
            let value = random.value(true);
            // Not the console's and the store's references.
            if !(key == "ring-ref" && value.parse().is_ok_and(|v: u32| v < 32)) {
                lab.dev.put(key, value)?;
            }
        }
        lab.dev.set_state(INITIALISED)?;
        lab.dev.await_state(&[CONNECTED, CLOSING, CLOSED])?;
        lab.dev.close()?;
        lab.dev.unset("feature-persistent")?;
    }
    lab.dev.connect()?;
    lab.dev.verify(8, 32)?;
    Ok(Passed)
}
