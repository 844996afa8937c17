// SPDX-License-Identifier: GPL-2.0
//! Well-formed exchanges, some of them mutated, as many as one likes.
//!
//! Each batch of messages has a generator of its own, made of the seed and the batch's number, so
//! that `--seed`, `--from` and `--count` repeat a part of a run.

use std::time::{Duration, Instant};

use super::device::{Device, Offers, Shape};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::random::Random;
use crate::wire::*;
use crate::{ensure, Result};
use xen::gntalloc::SharedPages;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "soak",
    "a corpus of exchanges, a quarter mutated: each answered once, the good ones well",
    soak,
)];

/// Batches between two connections.
const BATCHES: u64 = 500;
/// The most messages of a batch, in rings that hold as many.
const BATCH: u64 = 64;

/// A message, and whether it is as the corpus has it.
struct Message {
    request: Request,
    good: bool,
}

/// What the messages are made with.
struct Corpus {
    grefs: Vec<u32>,
    /// Pages that list segments of indirect requests.
    lists: SharedPages,
    sectors: u64,
    indirect: u64,
    readonly: bool,
    discard: bool,
}

impl Corpus {
    fn new(lab: &Lab) -> Result<Self> {
        let disk = lab.dev.disk;
        Ok(Corpus {
            grefs: lab.dev.data.grefs().to_vec(),
            lists: SharedPages::alloc(lab.dev.backend_id(), 4, true)?,
            sectors: disk.sectors,
            indirect: disk.indirect,
            readonly: disk.readonly,
            discard: disk.discard,
        })
    }

    fn seg(&self, random: &mut Random) -> Seg {
        let first = random.below(8) as u8;
        Seg {
            gref: random.pick(&self.grefs),
            first,
            last: first + random.below(8 - u64::from(first)) as u8,
        }
    }

    /// Whole pages, as many as `most`, or parts of pages.
    fn segs(&self, random: &mut Random, most: u64) -> Vec<Seg> {
        let count = 1 + random.below(most);
        let whole = random.one_in(2);
        let one = |random: &mut Random| match whole {
            true => Seg::page(random.pick(&self.grefs)),
            false => self.seg(random),
        };
        (0..count).map(|_| one(random)).collect()
    }

    /// Writes a list of segments into a page of its own, for an indirect request.
    fn list(&self, random: &mut Random, page: usize, mutate: bool) -> u16 {
        let segs = self.segs(random, self.indirect.clamp(1, 64));
        for (i, seg) in segs.iter().enumerate() {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&seg.gref.to_le_bytes());
            bytes[4] = seg.first;
            bytes[5] = seg.last;
            if mutate && random.one_in(4) {
                let at = random.below(8) as usize;
                bytes[at] = random.bits() as u8;
                // References of this domain's own console, store and ring are spared.
                bytes[1] |= 0x40 * u8::from(at < 4);
            }
            self.lists.write(page * 4096 + 8 * i, &bytes);
        }
        segs.len() as u16
    }

    /// The next message of a batch. Indirect ones are at most as many as there are `lists` left.
    fn message(&self, random: &mut Random, id: u64, lists: &mut usize) -> Message {
        let mutate = random.one_in(4);
        let write = if self.readonly { READ } else { WRITE };
        let op = random.pick(&[READ, write]);
        // So low that what a request needs at most lies behind it.
        let sector = random.below(self.sectors / 2);
        let mut good = !mutate;
        let mut request = match random.below(16) {
            0 => Request::rw(FLUSH, id, 0, &[]),
            1 if self.discard && !self.readonly => {
                Request::discard(id, sector, 1 + random.below(64), 0)
            }
            2..=5 if self.indirect > 0 && *lists > 0 => {
                *lists -= 1;
                // What is mutated may be the list, or the request, or both.
                let count = self.list(random, *lists, mutate);
                Request::indirect(op, id, sector, count, &[self.lists.grefs()[*lists]])
            }
            6 => {
                // What is not offered is refused, and no harm done.
                good = false;
                Request::rw(BARRIER, id, sector, &[])
            }
            _ => Request::rw(op, id, sector, &self.segs(random, 11)),
        };
        if mutate {
            self.mutate(random, &mut request);
        }
        Message { request, good }
    }

    /// One to three changes, to anything but the id, by which the answers are told apart.
    fn mutate(&self, random: &mut Random, request: &mut Request) {
        for _ in 0..1 + random.below(3) {
            match random.below(8) {
                0 => request.put(0, &[random.bits() as u8]),
                1 => request.put(0, &[random.below(8) as u8]),
                2 => request.put(1, &[random.bits() as u8]),
                3 => request.put(1, &[random.below(16) as u8]),
                4 => request.put(2, &(random.odd() as u16).to_le_bytes()),
                5 => request.put(16, &random.odd().to_le_bytes()),
                6 => {
                    let at = 24 + 8 * random.below(11) as usize;
                    request.put(at + 4, &[random.bits() as u8, random.bits() as u8]);
                }
                _ => {
                    // A reference: free, or far beyond the table; or one of ours, where the
                    // request has something else.
                    let gref = match random.below(3) {
                        0 => 0x4000 + random.below(0x4000) as u32,
                        1 => random.odd() as u32 | 0x8000_0000,
                        _ => random.pick(&self.grefs),
                    };
                    let at = 24 + 4 * random.below(22) as usize;
                    request.put(at, &gref.to_le_bytes());
                }
            }
        }
    }
}

/// The shape of connection number `number`.
fn shape(offers: &Offers, number: u64) -> Shape {
    Shape {
        queues: if number % 3 == 1 {
            offers.queues.clamp(1, 2)
        } else {
            1
        },
        order: [0, 1, 4][(number / 2 % 3) as usize].min(offers.order),
        persistent: offers.persistent && number % 2 == 1,
    }
}

/// Wrong notifications and event indices, which cost nobody else anything.
fn disturb(lab: &mut Lab, random: &mut Random) -> Result {
    let ring = lab.dev.ring()?;
    match random.below(3) {
        0 => ring.page.store(REQ_EVENT, random.odd() as u32),
        1 => {
            // It has an index of its own, so nothing comes of it.
            let prod = ring.page.load(RSP_PROD);
            ring.page.store(RSP_PROD, random.odd() as u32);
            ring.channel.notify()?;
            ring.page.store(RSP_PROD, prod);
        }
        _ => (0..random.below(8)).try_for_each(|_| ring.channel.notify())?,
    }
    Ok(())
}

/// Sends the messages of a batch, whose ids begin with `first`, and looks at the answers. How many
/// were mutated, and how many were refused.
fn exchange(dev: &mut Device, all: &[Message], first: u64) -> Result<(u64, u64)> {
    let requests: Vec<_> = all.iter().map(|m| m.request).collect();
    dev.submit(&requests)?;
    let mut seen = vec![false; all.len()];
    let mut refused = 0;
    for rsp in dev.responses(all.len())? {
        let at = rsp.id.wrapping_sub(first) as usize;
        let message = all.get(at).ok_or(format!("answered {rsp:?}"))?;
        ensure!(
            !std::mem::replace(&mut seen[at], true),
            "answered twice: {rsp:?}"
        );
        ensure!(
            message.request.is_answered_as(rsp.op),
            "operation {} answered as {}",
            message.request.op(),
            rsp.op
        );
        ensure!(
            [OKAY, ERROR, NOT_SUPPORTED].contains(&rsp.status),
            "status {}",
            rsp.status
        );
        refused += u64::from(rsp.status != OKAY);
        let flush = message.request.op() == FLUSH && rsp.status == NOT_SUPPORTED;
        ensure!(
            !message.good || rsp.status == OKAY || flush,
            "a good request answered {rsp:?}: {:?}",
            message.request.0
        );
    }
    let mutated = all.iter().filter(|m| !m.good).count() as u64;
    Ok((mutated, refused))
}

fn soak(lab: &mut Lab) -> Result<Outcome> {
    let offers = lab.dev.offers()?;
    lab.dev.connect()?;
    let corpus = Corpus::new(lab)?;
    let (mut sent, mut mutated, mut refused) = (0, 0u64, 0u64);
    let (began, mut told) = (Instant::now(), Instant::now());
    let mut batch = lab.from;
    while sent < lab.count && began.elapsed() < lab.limit {
        if sent == 0 || batch % BATCHES == 0 {
            let shape = shape(&offers, batch / BATCHES);
            lab.dev.connect_as(shape, u32::MAX - 40)?;
            lab.dev.verify(8, batch as u8)?;
        }
        let mut random = Random::new(lab.seed ^ batch.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let queue = random.below(lab.dev.shape.queues.into()) as usize;
        lab.dev.use_queue(queue);
        let room = u64::from(lab.dev.ring()?.entries).min(BATCH);
        let count = (1 + random.below(room)).min(lab.count - sent);
        let mut lists = corpus.lists.count();
        let first = batch << 8;
        let all: Vec<_> = (first..first + count)
            .map(|id| corpus.message(&mut random, id, &mut lists))
            .collect();
        let seed = lab.seed;
        let (bad, no) = exchange(&mut lab.dev, &all, first)
            .map_err(|e| format!("--seed {seed} --from {batch}: {e}"))?;
        mutated += bad;
        refused += no;
        sent += count;
        batch += 1;
        if random.one_in(8) {
            disturb(lab, &mut random)?;
        }
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            let rate = sent as f64 / began.elapsed().as_secs_f64();
            println!("# {sent} messages, {rate:.0}/s, batch {batch}");
        }
    }
    lab.dev.use_queue(0);
    lab.dev.verify(8, 50)?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "# soak: {sent} messages, {mutated} mutated, {refused} refused, {seconds:.0} s, {:.0}/s, seed {}",
        sent as f64 / seconds,
        lab.seed
    );
    Ok(Passed)
}
