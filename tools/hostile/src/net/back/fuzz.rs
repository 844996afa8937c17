// SPDX-License-Identifier: GPL-2.0
//! An honest exchange, parts of which are mutated, as many messages as one likes.
//!
//! Each batch has a generator of its own, made of the seed and the batch's number, so that `--seed`,
//! `--from` and `--count` repeat a part of a run. What is not mutated the guest must answer; now and
//! then a message ends the interface, and there comes another.

use std::time::{Duration, Instant};

use super::rx::raw;
use super::vif::Vif;
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::net::frames::{self, Frame};
use crate::random::Random;
use crate::{ensure, Result};
use protocol::netif::{rxf, status, Extra, Info, RxResponse, RxSlot};
use protocol::ring::index::RSP_EVENT;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "fuzz",
        "packets and answers, some mutated, and a fatal one in the end",
        fuzz,
    ),
    Scenario::new("fuzz-nodes", "random store entries", fuzz_nodes),
];

/// The most packets of a batch.
const BATCH: u64 = 8;

/// What has been sent.
#[derive(Default)]
struct Account {
    sent: u64,
    mutated: u64,
    fatal: u64,
}

fn fuzz(lab: &mut Lab) -> Result<Outcome> {
    let options = lab.options;
    let began = Instant::now();
    let mut told = Instant::now();
    let mut all = Account::default();
    let (mut batch, mut made) = (options.from, 0);
    while all.sent < options.count && began.elapsed() < options.limit {
        let (mut fatal, queues) = (false, 1 + made % 2);
        made += 1;
        let ended = |all: &Account| all.sent >= options.count || began.elapsed() > options.limit;
        lab.with(|vif| {
            vif.offer()?;
            vif.put("multi-queue-max-queues", queues)?;
            vif.finish_connect()?;
            vif.find_guest()?;
            let mut life = 60 + batch % 200;
            while life > 0 && !ended(&all) {
                one(vif, options.seed, batch, &mut all)
                    .map_err(|e| format!("--seed {} --from {batch}: {e}", options.seed))?;
                (batch, life) = (batch + 1, life - 1);
                if told.elapsed() > Duration::from_secs(20) {
                    told = Instant::now();
                    let rate = all.sent as f64 / began.elapsed().as_secs_f64();
                    println!("# {} messages, {rate:.0}/s, batch {batch}", all.sent);
                }
            }
            vif.verify()?;
            if life == 0 {
                let mut random = generator(options.seed, batch);
                end(vif, &mut random, &mut all)?;
                vif.expect_stopped()?;
                fatal = true;
            }
            Ok(())
        })?;
        lab.stopped += u64::from(fatal);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "# fuzz: {} messages, {} mutated, {} fatal ones, {made} interfaces, {seconds:.0} s, {:.0}/s, seed {}",
        all.sent,
        all.mutated,
        all.fatal,
        all.sent as f64 / seconds,
        options.seed,
    );
    Ok(Passed)
}

fn generator(seed: u64, batch: u64) -> Random {
    Random::new(seed ^ batch.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A batch of packets, and the guest's answers to those that were not mutated.
fn one(vif: &mut Vif, seed: u64, batch: u64, all: &mut Account) -> Result {
    let mut random = generator(seed, batch);
    let mut wanted = Vec::new();
    for _ in 0..1 + random.below(BATCH) {
        all.sent += 1;
        if random.one_in(3) {
            all.mutated += 1;
            mutated(vif, &mut random)?;
            continue;
        }
        let len = random.pick(&[0, 56, 200, 214, 215, 1000, 1400]);
        let (number, frame, sent) = vif.echo_request(len);
        let cuts: Vec<_> = (0..random.below(6))
            .map(|_| random.below(frame.len() as u64) as usize)
            .collect();
        vif.send(&frame, &cuts)?;
        wanted.push((number, sent));
    }
    let until = Instant::now() + vif.timeout;
    while !wanted.is_empty() {
        while let Some(sent) = vif.next()? {
            let frame = vif.copy(&sent)?;
            if let Frame::EchoReply(number, bytes) = frames::parse(&frame) {
                if let Some(at) = wanted.iter().position(|w| w.0 == number) {
                    ensure!(wanted[at].1 == bytes, "an echo is not what was sent");
                    wanted.swap_remove(at);
                }
            }
            all.sent += 1;
            let status = match random.below(16) {
                0 => random.pick(&[status::ERROR, status::DROPPED, -77, 2, i16::MAX, i16::MIN]),
                _ => status::OKAY,
            };
            all.mutated += u64::from(status != status::OKAY);
            vif.answer(&sent, status)?;
            // Who asks for this end is answered.
            if let Frame::ArpRequest(..) = frames::parse(&frame) {
                let reply = frames::arp_reply(vif.way());
                vif.send(&reply, &[])?;
            }
        }
        ensure!(
            Instant::now() < until,
            "{} echo requests were not answered",
            wanted.len()
        );
        std::thread::sleep(Duration::from_micros(200));
    }
    if random.one_in(8) {
        let queue = vif.queue()?;
        (0..random.below(8)).try_for_each(|_| queue.notify_rx())?;
    }
    Ok(())
}

/// A packet that is wrong in some way that costs only itself.
fn mutated(vif: &mut Vif, random: &mut Random) -> Result {
    let way = vif.way();
    let len = random.pick(&[0, 10, 100, 500, 1400, 3000]);
    let frame = match random.below(3) {
        0 => frames::tcp(way, len),
        1 => frames::ip(way, 17, 1, &vec![1; len + 8]),
        _ => frames::echo_request(way, frames::NOBODY, &vec![5; len]),
    };
    mutate(vif, random, frame)
}

/// Sends `frame`, changed in some such way.
pub(super) fn mutate(vif: &mut Vif, random: &mut Random, mut frame: Vec<u8>) -> Result {
    for _ in 0..random.below(4) {
        // Behind the type, so that no address is told to anybody.
        let at = 14 + random.below(frame.len() as u64 - 14) as usize;
        frame[at] = random.bits() as u8;
    }
    let cuts: Vec<_> = (0..random.below(24))
        .map(|_| random.below(frame.len() as u64) as usize)
        .collect();
    let extras: Vec<_> = (0..random.below(3)).map(|_| extra(random)).collect();
    let mut parts = vif.cut_around(&frame, &cuts, extras.len())?;
    for _ in 0..random.below(3) {
        let at = random.below(parts.len() as u64) as usize;
        change(random, &mut parts[at]);
    }
    let mut slots: Vec<RxSlot> = Vec::new();
    let count = extras.len();
    for (i, part) in parts.iter_mut().enumerate() {
        if i == 0 && count > 0 {
            part.flags |= rxf::EXTRA_INFO;
        }
        slots.push((*part).into());
        if i == 0 {
            for (j, e) in extras.iter().enumerate() {
                let more = j + 1 < count || random.one_in(16);
                slots.push(Extra { more, ..*e }.into());
            }
        }
    }
    if random.one_in(16) {
        let at = random.below(slots.len() as u64) as usize;
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        slots[at] = bytes.into();
    }
    raw(vif, &slots)?;
    // If it says that it goes on, what comes next must not be taken for a part of it.
    for _ in 0..50 {
        let rx = &vif.queue()?.rx;
        if rx.page.load(RSP_EVENT) == rx.prod.wrapping_add(1) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn extra(random: &mut Random) -> Extra {
    let info = match random.below(5) {
        0 => Info::Gso {
            size: random.odd() as u16,
            kind: random.below(4) as u8,
            features: random.bits() as u16,
        },
        1 => Info::Hash {
            kind: random.bits() as u8,
            algorithm: random.bits() as u8,
            value: random.bits() as u32,
        },
        2 => Info::Xdp {
            headroom: random.odd() as u16,
        },
        3 => Info::McastAdd([random.bits() as u8; 6]),
        _ => Info::Other(random.bits() as u8),
    };
    Extra { info, more: false }
}

fn change(random: &mut Random, part: &mut RxResponse) {
    match random.below(5) {
        0 => part.id = random.bits() as u16,
        1 => part.offset = random.odd() as u16,
        2 => part.flags = random.bits() as u16,
        3 => part.status = random.odd() as i16,
        _ => part.status = -1 - random.below(4) as i16,
    }
}

/// What no front end may put up with.
fn end(vif: &mut Vif, random: &mut Random, all: &mut Account) -> Result {
    all.sent += 1;
    all.mutated += 1;
    all.fatal += 1;
    let id = 128 + random.below(2) as u16 * 1000;
    match random.below(4) {
        0 => vif.answer_one(0, id, status::OKAY),
        1 => vif.answer_one(0, 0, status::NULL),
        2 => {
            let tx = &vif.queue()?.tx;
            tx.claim(tx.theirs().wrapping_add(1 + random.odd() as u32 / 4));
            Ok(vif.queue()?.channel.notify()?)
        }
        _ => {
            let rx = &vif.queue()?.rx;
            rx.claim(rx.theirs().wrapping_add(1 + random.odd() as u32 / 4));
            vif.queue()?.notify_rx()
        }
    }
}

fn fuzz_nodes(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.options.seed);
    for _ in 0..(lab.options.count / 250).clamp(1, 8) {
        lab.with(|vif| {
            vif.offer()?;
            for _ in 0..1 + random.below(4) {
                let key = random.pick(&[
                    "feature-rx-copy",
                    "feature-sg",
                    "feature-gso-tcpv4",
                    "feature-ipv6-csum-offload",
                    "feature-split-event-channels",
                    "feature-ctrl-ring",
                    "multi-queue-max-queues",
                    "feature-xdp-headroom",
                ]);
                let value = random.value(false);
                vif.put(key, value)?;
            }
            vif.set_state(crate::nodes::INIT_WAIT)?;
            if vif.attach().is_ok() {
                vif.set_state(crate::nodes::CONNECTED)?;
                vif.serve_for(Duration::from_millis(200))?;
            }
            Ok(())
        })?;
    }
    Ok(Passed)
}
