// SPDX-License-Identifier: GPL-2.0
//! Well-formed packets, some of them mutated, as many as one likes.
//!
//! Each batch has a generator of its own, made of the seed and the batch's number, so that `--seed`,
//! `--from` and `--count` repeat a part of a run. A packet that is as it should be must be taken, each
//! entry answered; only a batch with something in it that no front end sends may end the interface,
//! which is connected anew then.

use std::time::{Duration, Instant};

use super::ring::post_bad;
use super::vif::{extra_slot, slots, Shape, Vif, PAGES};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::net::{frames, gso_extra};
use crate::nodes::{CLOSED, CLOSING, CONNECTED};
use crate::random::Random;
use crate::{ensure, Result};
use protocol::netif::{status, txf, Extra, Info, TxRequest, TxSlot};
use protocol::ring::Codec;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "fuzz",
        "packets, some mutated: the good ones taken, each entry answered",
        fuzz,
    ),
    Scenario::new("fuzz-nodes", "random store entries", fuzz_nodes),
];

/// Batches between two connections.
const BATCHES: u64 = 200;
/// The most packets of a batch.
const BATCH: u64 = 24;
/// The most entries of a batch: one for each page, and some of extra information.
const ENTRIES: usize = PAGES - 20;

/// What is to come of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is taken.
    Good,
    /// It is answered, in whatever way.
    Any,
    /// It may end the interface.
    Fatal,
}

/// A packet's entries.
#[derive(Debug)]
struct Packet {
    slots: Vec<TxSlot>,
    /// Of its requests, if they are known to be such.
    ids: Vec<u16>,
    fate: Fate,
}

/// What is sent in it.
fn frame(vif: &Vif, random: &mut Random, good: bool) -> Vec<u8> {
    let way = vif.way();
    let len = random.pick(&[0, 10, 100, 500, 1400, 3000, 9000]);
    let mut frame = match random.below(4) {
        0 => frames::arp_request(way),
        1 => frames::tcp(way, len),
        2 => frames::ip(way, 17, 1, &vec![1; len + 8]),
        _ => frames::echo_request(way, frames::NOBODY, &vec![5; len.min(100)]),
    };
    if !good {
        // Not the addresses: others' traffic is to be left alone.
        for _ in 0..random.below(4) {
            let at = 12 + random.below(frame.len() as u64 - 12) as usize;
            frame[at] = random.bits() as u8;
        }
    }
    frame
}

/// Cuts it somewhere.
fn cuts(random: &mut Random, frame: &[u8]) -> Vec<usize> {
    let mut cuts: Vec<_> = (1..frame.len().div_ceil(4096)).map(|i| i * 4096).collect();
    if random.one_in(3) && frame.len() > 14 {
        let room = frame.len() as u64 - 14;
        cuts.extend((0..random.below(6)).map(|_| 14 + random.below(room) as usize));
        cuts.sort_unstable();
    }
    cuts
}

/// Packet `number` of a batch; one in `fatal` is for the end of the interface.
fn packet(vif: &mut Vif, random: &mut Random, number: u64, fatal: u64) -> Packet {
    let fatal = random.one_in(fatal);
    let good = !fatal && !random.one_in(4);
    let frame = frame(vif, random, good);
    let cuts = cuts(random, &frame);
    let mut requests = vif.cut(&frame, &cuts);
    for (i, request) in requests.iter_mut().enumerate() {
        request.id = (number << 5) as u16 | (i as u16 & 31);
    }
    if random.one_in(2) {
        requests[0].flags |= txf::CSUM_BLANK | txf::DATA_VALIDATED;
    }
    let mut extras = Vec::new();
    let known = Extra {
        info: Info::Hash {
            kind: random.below(6) as u8,
            algorithm: random.bits() as u8,
            value: random.bits() as u32,
        },
        more: false,
    };
    if random.one_in(8) {
        extras.push(known);
    }
    if frame.len() > 1500 || random.one_in(8) {
        let size = 1 + random.below(1448) as u16;
        extras.push(gso_extra(size, random.pick(&[1, 1, 1, 2])));
    }
    if !good && !fatal {
        mutate(vif, random, &mut requests, &mut extras);
    }
    let ids = requests.iter().map(|r| r.id).collect();
    let mut slots = slots(&requests, &extras);
    if fatal {
        spoil(random, &mut slots);
    }
    let gso = extras.iter().any(|e| matches!(e.info, Info::Gso { .. }));
    Packet {
        slots,
        ids,
        fate: match (good, fatal) {
            (_, true) => Fate::Fatal,
            // What cannot be segmented may be refused.
            (true, _) if !gso => Fate::Good,
            _ => Fate::Any,
        },
    }
}

/// Changes what a packet may get wrong without ill will.
fn mutate(vif: &Vif, random: &mut Random, requests: &mut [TxRequest], extras: &mut Vec<Extra>) {
    let more = false;
    for _ in 0..1 + random.below(2) {
        let at = random.below(requests.len() as u64) as usize;
        match random.below(7) {
            0 => requests[at].gref = 0x4000 + random.below(0x4000) as u32,
            1 => requests[at].gref = random.odd() as u32 | 0x8000_0000,
            2 => requests[at].gref = random.pick(vif.data.grefs()),
            // Less than the others together, or less than a header.
            3 => requests[0].size = random.below(u64::from(requests[0].size) + 1) as u16,
            4 => requests[0].flags ^= random.pick(&[txf::CSUM_BLANK, txf::DATA_VALIDATED]),
            5 => {
                let address = [1, 0, 0x5e, 0, 0, random.bits() as u8];
                let info = random.pick(&[Info::McastAdd(address), Info::McastDel(address)]);
                extras.push(Extra { info, more });
            }
            _ => {
                let headroom = random.bits() as u16;
                let info = Info::Xdp { headroom };
                extras.push(Extra { info, more });
            }
        }
    }
}

/// Changes what no front end gets wrong.
fn spoil(random: &mut Random, slots: &mut Vec<TxSlot>) {
    let at = random.below(slots.len() as u64) as usize;
    let mut bytes = [0; 12];
    protocol::netif::Tx.encode_request(&slots[at], &mut bytes);
    match random.below(6) {
        0 => bytes[4..6].copy_from_slice(&(random.odd() as u16).to_le_bytes()),
        1 => bytes[6..8].copy_from_slice(&(random.bits() as u16).to_le_bytes()),
        2 => bytes[10..12].copy_from_slice(&(random.odd() as u16).to_le_bytes()),
        3 => {
            let kind = random.bits() as u8;
            let mut data = [0; 6];
            random.fill(&mut data);
            let more = random.one_in(2);
            slots.insert(at, extra_slot(kind, more, data));
            return;
        }
        4 => {
            slots.truncate(at + 1);
            bytes[6] |= txf::MORE_DATA as u8;
        }
        _ => {
            random.fill(&mut bytes);
            // Neither the console nor the store of this domain.
            bytes[3] |= 0x80;
        }
    }
    slots[at] = bytes.into();
}

/// Sends a batch, the number of whose first packet is `first`. False: the interface was disabled.
fn exchange(vif: &mut Vif, all: &[Packet]) -> Result<bool> {
    let entries: Vec<_> = all.iter().flat_map(|p| p.slots.clone()).collect();
    vif.submit(&entries)?;
    let fatal = all.iter().any(|p| p.fate == Fate::Fatal);
    let time = match fatal {
        true => Duration::from_millis(300),
        false => vif.timeout(),
    };
    let answers = vif.answers_within(entries.len(), time)?;
    if answers.len() < entries.len() {
        ensure!(
            fatal,
            "{} of {} entries were answered: {all:?}",
            answers.len(),
            entries.len()
        );
        vif.expect_stopped()?;
        return Ok(false);
    }
    if fatal {
        // What is a request there, and what extra information, cannot be said.
        return Ok(true);
    }
    for packet in all {
        for id in &packet.ids {
            let own: Vec<_> = answers
                .iter()
                .filter(|a| a.id == *id && a.status != status::NULL)
                .collect();
            let fine = match own.as_slice() {
                [one] => packet.fate != Fate::Good || one.status == status::OKAY,
                _ => false,
            };
            ensure!(fine, "{packet:?} answered {own:?}");
        }
    }
    Ok(true)
}

/// The shape of connection number `number`.
fn shape(number: u64, queues: usize) -> Shape {
    Shape {
        queues: if number % 2 == 1 { queues } else { 1 },
        split: number % 3 == 1,
        headroom: if number % 4 == 2 { 256 } else { 0 },
        ..Shape::PLAIN
    }
}

fn fuzz(lab: &mut Lab) -> Result<Outcome> {
    let options = lab.options;
    let vif = &mut lab.vif;
    vif.restart()?;
    let most = vif.theirs("multi-queue-max-queues")?.unwrap_or(1);
    let queues = most.clamp(1, 2) as usize;
    let (began, mut told) = (Instant::now(), Instant::now());
    let (mut sent, mut mutated, mut disabled) = (0, 0, 0u64);
    let mut batch = options.from;
    let mut fresh = true;
    while sent < options.count && began.elapsed() < options.limit {
        if fresh || batch % BATCHES == 0 {
            let shape = shape(batch / BATCHES, queues);
            vif.connect_as(shape, u32::MAX - 100)?;
            if batch % BATCHES == 0 {
                vif.verify()?;
            }
            fresh = false;
        }
        let mut random = Random::new(options.seed ^ batch.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let queue = random.below(vif.shape.queues as u64) as usize;
        vif.use_queue(queue);
        let (mut all, mut entries) = (Vec::<Packet>::new(), 0);
        for number in 0..(1 + random.below(BATCH)).min(options.count - sent) {
            let packet = packet(vif, &mut random, number, lab.fatal);
            entries += packet.slots.len();
            mutated += u64::from(packet.fate != Fate::Good);
            let last = packet.fate == Fate::Fatal || entries > ENTRIES;
            all.push(packet);
            if last {
                // What comes behind something wrong is read as anything.
                break;
            }
        }
        let seed = options.seed;
        let alive =
            exchange(vif, &all).map_err(|e| format!("--seed {seed} --from {batch}: {e}"))?;
        sent += all.len() as u64;
        if !alive {
            disabled += 1;
            fresh = true;
        } else if random.one_in(16) {
            disturb(vif, &mut random)?;
        }
        batch += 1;
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            let rate = sent as f64 / began.elapsed().as_secs_f64();
            println!("# {sent} messages, {rate:.0}/s, batch {batch}");
        }
    }
    vif.connect()?;
    vif.verify()?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "# fuzz: {sent} messages, {mutated} mutated, {disabled} fatal ones, {seconds:.0} s, {:.0}/s, seed {}",
        sent as f64 / seconds,
        options.seed
    );
    Ok(Passed)
}

/// What costs nobody else anything: events for nothing, pages to receive into that there are not.
fn disturb(vif: &mut Vif, random: &mut Random) -> Result {
    match random.below(2) {
        0 => (0..random.below(8)).try_for_each(|_| Ok(vif.queue()?.channel.notify()?)),
        _ => post_bad(vif, random.odd() as u32 | 0x8000_0000),
    }
}

fn fuzz_nodes(lab: &mut Lab) -> Result<Outcome> {
    if lab.options.tolerant {
        return Ok(Skipped("the C back end takes what is no number for 0"));
    }
    let mut random = Random::new(lab.options.seed);
    let vif = &mut lab.vif;
    for _ in 0..(lab.options.count / 50).clamp(1, 12) {
        vif.restart()?;
        vif.shape = Shape {
            control: random.one_in(2),
            split: random.one_in(2),
            ..Shape::PLAIN
        };
        vif.make_rings(0)?;
        vif.publish()?;
        for _ in 0..1 + random.below(3) {
            let key = random.pick(&[
                "tx-ring-ref",
                "rx-ring-ref",
                "event-channel",
                "event-channel-tx",
                "event-channel-rx",
                "ctrl-ring-ref",
                "event-channel-ctrl",
                "multi-queue-num-queues",
                "request-rx-copy",
                "feature-rx-notify",
                "feature-sg",
                "request-multicast-control",
                "xdp-headroom",
            ]);
            let value = random.value(true);
            // Not the console's and the store's references.
            if !(key.ends_with("ring-ref") && value.parse().is_ok_and(|v: u32| v < 32)) {
                vif.put(key, value)?;
            }
        }
        vif.set_state(CONNECTED)?;
        vif.await_state(&[CONNECTED, CLOSING, CLOSED])?;
        vif.close()?;
        for key in ["event-channel-tx", "event-channel-rx", "ctrl-ring-ref"] {
            vif.unset(key)?;
        }
    }
    vif.connect()?;
    vif.verify()?;
    Ok(Passed)
}
