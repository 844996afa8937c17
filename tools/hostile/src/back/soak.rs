// SPDX-License-Identifier: GPL-2.0
//! An honest exchange under load, some of whose answers are mutated, as many as one likes.
//!
//! Each disk has a generator of its own, made of the seed and the disk's number, so that `--seed`,
//! `--from` and `--count` repeat a part of a run (as far as the guest asks for the same again).

use std::time::{Duration, Instant};

use super::device::Device;
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::random::Random;
use crate::wire::*;
use crate::{ensure, Result};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "soak",
    "answers to a busy guest, some mutated, and a fatal one in the end",
    soak,
)];

/// What has been sent.
#[derive(Default)]
struct Account {
    sent: u64,
    mutated: u64,
    fatal: u64,
}

fn soak(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(Skipped("the C front end never ends its requests"));
    }
    let Some(load) = lab.load.clone() else {
        return Ok(Skipped("there is no --load"));
    };
    let (began, mut told) = (Instant::now(), Instant::now());
    let mut all = Account::default();
    let (seed, count, mut number) = (lab.seed, lab.count, lab.from);
    while all.sent < count && began.elapsed() < lab.limit {
        let mut random = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        lab.with(|dev| {
            one(dev, &load, &mut random, count, &mut all)
                .map_err(|e| format!("--seed {seed} --from {number}: {e}"))?;
            Ok(Passed)
        })?;
        number += 1;
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            let rate = all.sent as f64 / began.elapsed().as_secs_f64();
            println!("# {} messages, {rate:.0}/s, disk {number}", all.sent);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "# soak: {} messages, {} mutated, {} fatal ones, {} disks, {seconds:.0} s, {:.0}/s, seed {seed}",
        all.sent,
        all.mutated,
        all.fatal,
        number - lab.from,
        all.sent as f64 / seconds,
    );
    Ok(Passed)
}

/// One disk, from its offers to the end of the guest's load.
fn one(dev: &mut Device, load: &str, random: &mut Random, count: u64, all: &mut Account) -> Result {
    if random.one_in(2) {
        dev.offer_much(random.one_in(2))?;
    }
    dev.connect()?;
    dev.start(load)?;
    // Now and then the disk lives as long as the load does.
    let life = random.below(60_000).min(count.saturating_sub(all.sent));
    let began = all.sent;
    let mut waiting: Vec<Request> = Vec::new();
    let mut last = Instant::now();
    loop {
        while let Some(request) = dev.next()? {
            // Those of other queues are answered in their own.
            if dev.queues() > 1 || !random.one_in(4) || waiting.len() >= 8 {
                answer(dev, &request, random, all)?;
            } else {
                waiting.push(request);
            }
            last = Instant::now();
        }
        while !waiting.is_empty() {
            // In any order.
            let request = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
            answer(dev, &request, random, all)?;
        }
        if all.sent - began >= life {
            fatal(dev, random, all)?;
            break;
        }
        if dev.poked(Duration::ZERO, false)?.is_some() {
            return Ok(());
        }
        ensure!(
            last.elapsed() < dev.timeout * 3,
            "the guest's load has no end, and asks for nothing"
        );
        dev.wait(Duration::from_millis(20))?;
    }
    // What the front end has given up it may only end when nobody has it mapped any more; and some
    // of it, only when the disk goes, which comes next.
    if dev.poked(Duration::from_secs(1), false)?.is_none() {
        dev.let_go();
        dev.poked(dev.timeout / 2, false)?;
    }
    Ok(())
}

/// Does what is asked for and answers it, in one of the ways that lose no disk.
fn answer(dev: &mut Device, request: &Request, random: &mut Random, all: &mut Account) -> Result {
    let honest = dev.execute(request)?;
    // Not those by which an offer is taken back, or there would soon be nothing to ask for.
    let status = match random.below(64) {
        0 => ERROR,
        1 if [READ, WRITE, INDIRECT].contains(&request.op()) => {
            random.pick(&[NOT_SUPPORTED, 1, 77, i16::MAX, i16::MIN, -3])
        }
        _ => honest,
    };
    all.mutated += u64::from(status != honest);
    if random.one_in(16) {
        all.mutated += 1;
        disturb(dev, random)?;
    }
    all.sent += 1;
    dev.answer(Response {
        id: request.id(),
        op: request.answer_op(),
        status,
    })
}

/// Overwrites what the front end has to have copies of, or raises events for nothing.
fn disturb(dev: &mut Device, random: &mut Random) -> Result {
    let ring = dev.ring()?;
    match random.below(3) {
        // An entry that has been taken and not been answered: the one that is answered next.
        0 => {
            let mut bytes = [0; ENTRY];
            random.fill(&mut bytes);
            let at = entry_of(ring.prod, ring.entries);
            ring.page.write(at, &bytes);
        }
        1 => ring.page.store(RSP_EVENT, random.odd() as u32),
        _ => (0..random.below(8)).try_for_each(|_| ring.channel.notify())?,
    }
    Ok(())
}

/// A burst of what no front end may put up with.
fn fatal(dev: &mut Device, random: &mut Random, all: &mut Account) -> Result {
    for _ in 0..1 + random.below(8) {
        all.sent += 1;
        all.mutated += 1;
        all.fatal += 1;
        let ring = dev.ring()?;
        let entries = ring.entries;
        match random.below(4) {
            0 => {
                let beyond = ring
                    .prod
                    .wrapping_add(ring.entries + 1 + random.odd() as u32 / 2);
                ring.page.store(RSP_PROD, beyond);
                ring.channel.notify()?;
            }
            1 => dev.answer(Response {
                id: random.odd(),
                op: READ,
                status: OKAY,
            })?,
            2 => {
                let mut bytes = [0; 16];
                random.fill(&mut bytes);
                dev.answer(Response::parse(&bytes))?;
            }
            _ => dev.answer(Response {
                id: random.below(entries.into()),
                op: random.below(8) as u8,
                status: random.pick(&[OKAY, ERROR, NOT_SUPPORTED]),
            })?,
        }
    }
    // One that is fatal whatever became of the others.
    let ring = dev.ring()?;
    let beyond = ring.prod.wrapping_add(1 << 31);
    ring.page.store(RSP_PROD, beyond);
    Ok(ring.channel.notify()?)
}
