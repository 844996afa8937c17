// SPDX-License-Identifier: GPL-2.0
//! The control ring, and the multicast filter: what is wrong is answered so, and changes nothing.

use super::packets::stopped;
use super::vif::{Shape, Vif};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::net::frames;
use crate::random::Random;
use crate::{ensure, Result};
use protocol::netif::{ctrl, status, txf, Extra, Info};
use xen::gntalloc::SharedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "control-garbage",
        "control requests of no type, with no sense: refused",
        garbage,
    ),
    Scenario::new(
        "control-mapping",
        "mapping beyond the table, to queues that are not there: refused",
        mapping,
    )
    .of("xsa270_net_mapping"),
    Scenario::new(
        "control-flood",
        "random control requests while packets flow: each answered",
        flood,
    ),
    Scenario::new(
        "control-overrun",
        "a control producer too far, or gone back: disabled",
        overrun,
    ),
    Scenario::new(
        "multicast",
        "64 multicast addresses are taken, no more; none is needed to go on",
        multicast,
    ),
];

/// Two queues, if there are two, with a control ring.
fn connect(vif: &mut Vif) -> Result<bool> {
    vif.restart()?;
    let queues = vif.theirs("multi-queue-max-queues")?.unwrap_or(1).min(2) as usize;
    if vif.theirs("feature-ctrl-ring")?.unwrap_or(0) == 0 {
        return Ok(false);
    }
    let shape = Shape {
        queues,
        control: true,
        ..Shape::PLAIN
    };
    vif.connect_as(shape, u32::MAX - 10)?;
    Ok(true)
}

const NOT_OFFERED: Outcome = Skipped("the back end does not offer it");

/// Asks, and wants one of `statuses`.
fn ask(vif: &mut Vif, kind: u16, data: [u32; 3], statuses: &[u32]) -> Result<u32> {
    let answer = vif.ask(kind, data)?;
    ensure!(
        statuses.contains(&answer.status),
        "{kind} {data:?} answered {answer:?}, expected {statuses:?}"
    );
    Ok(answer.data)
}

const OKAY: &[u32] = &[ctrl::SUCCESS];
const REFUSED: &[u32] = &[
    ctrl::NOT_SUPPORTED,
    ctrl::INVALID_PARAMETER,
    ctrl::BUFFER_OVERFLOW,
];

fn garbage(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    if !connect(vif)? {
        return Ok(NOT_OFFERED);
    }
    let page = SharedPages::alloc(vif.backend_id(), 1, false)?;
    let gref = page.grefs()[0];
    for kind in [0, 8, 9, 10, 11, 255, 256, 65535] {
        ask(vif, kind, [gref, 1, 0], REFUSED)?;
    }
    for algorithm in [2, 3, u32::MAX] {
        ask(vif, ctrl::SET_HASH_ALGORITHM, [algorithm, 0, 0], REFUSED)?;
    }
    // No algorithm, no flags.
    ask(vif, ctrl::SET_HASH_FLAGS, [1, 0, 0], REFUSED)?;
    ask(vif, ctrl::SET_HASH_ALGORITHM, [1, 0, 0], OKAY)?;
    for flags in [16, u32::MAX, 1 << 31] {
        ask(vif, ctrl::SET_HASH_FLAGS, [flags, 0, 0], REFUSED)?;
    }
    let flags = ask(vif, ctrl::GET_HASH_FLAGS, [0; 3], OKAY)?;
    ask(vif, ctrl::SET_HASH_FLAGS, [flags, 0, 0], OKAY)?;
    let revoked = vif.revoked_gref()?;
    for bad in [0x7f_ffff, u32::MAX, revoked] {
        ask(vif, ctrl::SET_HASH_KEY, [bad, 40, 0], REFUSED)?;
    }
    for len in [41, 4096, u32::MAX] {
        ask(vif, ctrl::SET_HASH_KEY, [gref, len, 0], REFUSED)?;
    }
    page.write(0, &[0x6d; 40]);
    ask(vif, ctrl::SET_HASH_KEY, [gref, 40, 0], OKAY)?;
    vif.verify()?;
    Ok(Passed)
}

fn mapping(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    if !connect(vif)? {
        return Ok(NOT_OFFERED);
    }
    let queues = vif.shape.queues as u32;
    let page = SharedPages::alloc(vif.backend_id(), 1, false)?;
    let gref = page.grefs()[0];
    ask(vif, ctrl::SET_HASH_ALGORITHM, [1, 0, 0], OKAY)?;
    ask(vif, ctrl::SET_HASH_FLAGS, [15, 0, 0], OKAY)?;
    let most = ask(vif, ctrl::GET_HASH_MAPPING_SIZE, [0; 3], OKAY)?;
    for size in [most + 1, u32::MAX, 1 << 31] {
        ask(vif, ctrl::SET_HASH_MAPPING_SIZE, [size, 0, 0], REFUSED)?;
    }
    ask(vif, ctrl::SET_HASH_MAPPING_SIZE, [most, 0, 0], OKAY)?;
    for (count, from) in [
        (1, most),
        (2, most - 1),
        (most + 1, 0),
        (1, u32::MAX),
        (2, u32::MAX),
        (u32::MAX, 1),
        (u32::MAX, 0),
        (1 << 30, 0),
        (1025, 0),
    ] {
        ask(vif, ctrl::SET_HASH_MAPPING, [gref, count, from], REFUSED)?;
    }
    for bad in [0x7f_ffff, u32::MAX] {
        ask(vif, ctrl::SET_HASH_MAPPING, [bad, 4, 0], REFUSED)?;
    }
    for queue in [queues, 65536, u32::MAX] {
        for at in [0, 5] {
            (0..6).for_each(|i| page.store(4 * i, 0));
            page.store(4 * at, queue);
            ask(vif, ctrl::SET_HASH_MAPPING, [gref, 6, 0], REFUSED)?;
        }
    }
    // Each queue has it all, in its turn.
    for queue in 0..queues {
        (0..most as usize).for_each(|i| page.store(4 * i, queue));
        ask(vif, ctrl::SET_HASH_MAPPING, [gref, most, 0], OKAY)?;
        vif.use_queue(queue as usize);
        vif.verify()?;
        vif.use_queue(0);
    }
    Ok(Passed)
}

fn flood(lab: &mut Lab) -> Result<Outcome> {
    let count = lab.options.count.min(1000);
    let vif = &mut lab.vif;
    if !connect(vif)? {
        return Ok(NOT_OFFERED);
    }
    let mut random = Random::new(lab.options.seed);
    let page = SharedPages::alloc(vif.backend_id(), 1, false)?;
    let mut bytes = [0; 512];
    for i in 0..count {
        if random.one_in(4) {
            random.fill(&mut bytes);
            bytes.chunks_mut(4).for_each(|c| c[1..].fill(0));
            page.write(0, &bytes);
        }
        let gref = match random.below(8) {
            0 => random.odd() as u32 | 0x8000_0000,
            _ => page.grefs()[0],
        };
        let small = |random: &mut Random| match random.below(4) {
            0 => random.odd() as u32,
            _ => random.below(130) as u32,
        };
        let first = match random.below(3) {
            0 => small(&mut random),
            _ => gref,
        };
        let data = [first, small(&mut random), small(&mut random)];
        vif.ask(random.below(12) as u16, data)?;
        if i % 64 == 0 {
            vif.verify_sends()?;
        }
    }
    // Any queue may have the answers now.
    vif.verify()?;
    Ok(Passed)
}

fn overrun(lab: &mut Lab) -> Result<Outcome> {
    if lab.options.tolerant {
        return Ok(Skipped("the C back end does not look"));
    }
    if !connect(&mut lab.vif)? {
        return Ok(NOT_OFFERED);
    }
    for by in [129, 1 << 31, u32::MAX] {
        connect(&mut lab.vif)?;
        let vif = &mut lab.vif;
        ask(vif, ctrl::GET_HASH_MAPPING_SIZE, [0; 3], OKAY)?;
        let control = vif.control.as_ref().ok_or("no control ring")?;
        control.ring.claim(control.ring.prod.wrapping_add(by));
        control.channel.notify()?;
        std::thread::sleep(std::time::Duration::from_millis(100));
        vif.expect_stopped().map_err(|e| format!("by {by}: {e}"))?;
    }
    stopped(lab, "and without a control ring", |vif| {
        vif.queue()?.tx.claim(0x4000_0000);
        Ok(vif.queue()?.channel.notify()?)
    })?;
    Ok(Passed)
}

/// A change of the filter.
fn filter(vif: &mut Vif, info: Info, statuses: &[i16]) -> Result {
    let request = vif.part(&[0; 14], 0);
    let more = false;
    vif.expect(
        "a change of the filter",
        &[request],
        &[Extra { info, more }],
        statuses,
    )?;
    Ok(())
}

fn multicast(lab: &mut Lab) -> Result<Outcome> {
    let tolerant = lab.options.tolerant;
    let vif = &mut lab.vif;
    let shape = Shape {
        multicast: true,
        ..Shape::PLAIN
    };
    vif.connect_as(shape, 0)?;
    let address = |i: u64| {
        let [a, b, ..] = i.to_le_bytes();
        [0x33, 0x33, 0, 0, b, a]
    };
    for _ in 0..2 {
        for i in 0..64 {
            filter(vif, Info::McastAdd(address(i)), &[status::OKAY])?;
        }
        for i in 64..64 + lab.options.count.min(300) {
            filter(vif, Info::McastAdd(address(i)), &[status::ERROR])?;
        }
        vif.verify()?;
        for i in 0..400 {
            filter(
                vif,
                Info::McastDel(address(i)),
                &[status::OKAY, status::ERROR],
            )?;
        }
    }
    // A change is all that a packet is.
    if !tolerant {
        let frame = frames::arp_request(vif.way());
        let mut requests = vif.cut(&frame, &[20]);
        requests[0].flags |= txf::MORE_DATA;
        let more = false;
        let info = Info::McastAdd(address(1));
        let refused = &[status::ERROR];
        vif.expect(
            "a change with data",
            &requests,
            &[Extra { info, more }],
            refused,
        )?;
    }
    for value in ["banana", "0", "1", "-1", "99999999999999999999", ""] {
        vif.put("request-multicast-control", value)?;
        vif.verify_sends()?;
    }
    vif.put("request-multicast-control", 0)?;
    vif.verify()?;
    Ok(Passed)
}
