// SPDX-License-Identifier: GPL-2.0
//! The guest has a program (`verdicts` of tools/xdp) run on what it receives: packets for that which are
//! wrong, and a back end that answers wrongly, or not at all, to what the program sends.

use std::time::{Duration, Instant};

use super::fuzz::mutate;
use super::rx::with_extras;
use super::vif::{Sent, Vif, RECONFIGURED, RECONFIGURING};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::net::{frames, gso_extra};
use crate::nodes::CLOSING;
use crate::random::Random;
use crate::{ensure, Result};
use protocol::netif::{rxf, status, txf};
use xen::gntdev::MappedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("xdp-good", "each verdict; more frames than memory", good),
    Scenario::new(
        "xdp-page",
        "frames at the ends of their page and beyond, of any size: seen whole, or dropped",
        page,
    ),
    Scenario::new(
        "xdp-parts",
        "frames of many parts, extra information: dropped; segmentation: kept",
        parts,
    ),
    Scenario::new(
        "xdp-untrusted",
        "the key trusted=0: pages show nothing but frames",
        untrusted,
    ),
    Scenario::new(
        "xdp-answers",
        "a frame answered twice, for another, or while its page is mapped: given up",
        answers,
    ),
    Scenario::new(
        "xdp-silent",
        "a ring full of frames, no answer: all else goes on, and nothing is left",
        silent,
    ),
    Scenario::new(
        "xdp-replaced",
        "programs come and go while frames are in flight: none is lost",
        replaced,
    ),
    Scenario::new(
        "xdp-refused",
        "no headroom, no answer about it, Closing in its place: no program",
        refused,
    ),
    Scenario::new("xdp-fuzz", "random frames, answered late or not", fuzz),
];

/// Whether there is a way to have a program. If not, why the scenario is skipped.
fn able(lab: &Lab) -> Option<Outcome> {
    match lab.program {
        Some(_) => None,
        None => Some(Skipped("there is no --program")),
    }
}

/// An interface with a program, which goes on after `wrong`; that is told the interface's number.
fn goes_on(lab: &mut Lab, wrong: impl FnOnce(&mut Vif, u32) -> Result) -> Result<Outcome> {
    if let Some(skipped) = able(lab) {
        return Ok(skipped);
    }
    lab.with(|vif| {
        vif.connect()?;
        vif.find_guest()?;
        let number = vif.attached()?;
        wrong(vif, number)?;
        vif.verify_by_program()
    })
}

/// Sends a frame for which the program does `op`, one part without more.
fn send(vif: &mut Vif, op: u8, number: u32, len: usize) -> Result<Vec<u8>> {
    let frame = frames::program(vif.way(), op, number, len);
    vif.send(&frame, &[])?;
    Ok(frame)
}

/// That the program sends `frame`, which is answered; gives what was sent.
fn comes(vif: &mut Vif, frame: &[u8]) -> Result<Sent> {
    let (sent, got) = vif.await_program()?;
    ensure!(
        got == frame,
        "a frame of {} bytes is sent as another, of {}",
        frame.len(),
        got.len()
    );
    vif.answer(&sent, status::OKAY)?;
    Ok(sent)
}

/// That the program sends nothing of what it has got.
fn nothing_comes(vif: &mut Vif, what: impl std::fmt::Display) -> Result {
    vif.seen()?;
    ensure!(
        vif.sent_by_program()?.is_none(),
        "{what}: the program has sent it"
    );
    Ok(())
}

/// Fails if the guest has lost memory since it had `before` KiB.
fn memory(vif: &mut Vif, before: u32, most: u32) -> Result {
    let now = vif.told("memory")?;
    println!("# free memory: {before} KiB before, {now} KiB now");
    ensure!(
        now + most >= before,
        "the guest has lost memory: {before} KiB were free, {now} KiB are"
    );
    Ok(())
}

fn good(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif, own| {
        for op in *b"daulsgch" {
            send(vif, op, 0, 300)?;
            nothing_comes(vif, op as char)?;
        }
        for op in *b"tr" {
            for len in [20, 60, 256, 257, 1514] {
                let frame = send(vif, op, own, len)?;
                comes(vif, &frame)?;
            }
        }
        // Checksums that were to be filled in still are.
        let frame = frames::program(vif.way(), b't', 0, 100);
        let mut all = vif.cut(&frame, &[])?;
        all[0].flags |= rxf::CSUM_BLANK | rxf::DATA_VALIDATED;
        vif.put_rx(&all, &[])?;
        let sent = comes(vif, &frame)?;
        ensure!(
            sent.requests[0].flags & txf::CSUM_BLANK != 0,
            "the checksum is not to be filled in any more"
        );
        // As many as fill the rings several times, and are more than the memory that may be lost.
        let before = vif.told("memory")?;
        for at in 0..75u32 {
            let op = if at % 2 == 0 { b't' } else { b'r' };
            let frame = frames::program(vif.way(), op, own, 200);
            for _ in 0..16 {
                vif.send(&frame, &[])?;
            }
            for _ in 0..16 {
                comes(vif, &frame)?;
            }
        }
        memory(vif, before, 3072)
    })
}

fn page(lab: &mut Lab) -> Result<Outcome> {
    const MOST: usize = 4096 - 256 - 320;
    goes_on(lab, |vif, _| {
        for (offset, len, whole) in [
            (0, 60, true),
            (1, 60, true),
            (255, 60, true),
            (256, 60, true),
            (4036, 60, true),
            (256, MOST, true),
            (0, MOST, true),
            (576, MOST, true),
            (256, MOST + 1, false),
            (0, MOST + 1, false),
            (0, 4096, false),
        ] {
            let frame = frames::program(vif.way(), b't', 0, len);
            let to = vif.room(1)?[0];
            let response = vif.fill_at(&to, offset, &frame)?;
            vif.put_rx(&[response], &[])?;
            let what = format!("{len} bytes at {offset}");
            if whole {
                comes(vif, &frame).map_err(|e| format!("{what}: {e}"))?;
            } else {
                nothing_comes(vif, what)?;
            }
        }
        for (offset, size) in [
            (4037, 60),
            (4095, 60),
            (4096, 60),
            (65_535, 60),
            (0, 4097),
            (65_000, 32_767),
            (0, 0),
            (256, 13),
            (256, 14),
            (256, -1),
            (256, i16::MIN),
        ] {
            let frame = frames::program(vif.way(), b't', 0, 1000);
            let mut all = vif.cut(&frame, &[])?;
            (all[0].offset, all[0].status) = (offset, size);
            vif.put_rx(&all, &[])?;
            nothing_comes(vif, format!("{size} bytes at {offset}"))?;
        }
        Ok(())
    })
}

/// A checksum that is to be filled in.
const BLANK: u16 = rxf::CSUM_BLANK | rxf::DATA_VALIDATED;

fn parts(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif, own| {
        for op in *b"tr" {
            let frame = frames::program(vif.way(), op, own, 3000);
            for count in [2, 3, 18, 19, 60] {
                // The first one is a frame for the program by itself.
                let cuts: Vec<_> = (1..count).map(|i| 40 * i).collect();
                vif.send(&frame, &cuts)?;
                nothing_comes(vif, format!("{count} parts"))?;
            }
        }
        let frame = frames::program(vif.way(), b't', 0, 3000);
        for (size, kind) in [(0, 1), (1000, 0), (1000, 3)] {
            with_extras(vif, &frame, BLANK, &[gso_extra(size, kind)])?;
            nothing_comes(vif, format!("segmentation {kind}, {size}"))?;
        }
        with_extras(
            vif,
            &frame,
            BLANK,
            &[gso_extra(1000, 1), gso_extra(1000, 1)],
        )?;
        nothing_comes(vif, "segmentation, twice")?;
        for kind in [1, 2] {
            with_extras(vif, &frame, BLANK, &[gso_extra(1000, kind)])?;
            let sent = comes(vif, &frame)?;
            ensure!(
                sent.extras == 1,
                "{} entries of extra information with a large frame",
                sent.extras
            );
        }
        Ok(())
    })?;
    if let Some(skipped) = able(lab) {
        return Ok(skipped);
    }
    // A back end that takes no large packets gets none.
    lab.with(|vif| {
        vif.offer()?;
        vif.put("feature-gso-tcpv4", 0)?;
        vif.put("feature-gso-tcpv6", 0)?;
        vif.finish_connect()?;
        vif.find_guest()?;
        vif.attached()?;
        let frame = frames::program(vif.way(), b't', 0, 3000);
        for kind in [1, 2] {
            with_extras(vif, &frame, BLANK, &[gso_extra(1000, kind)])?;
            nothing_comes(vif, format!("segmentation {kind}, not offered"))?;
        }
        vif.verify_by_program()
    })
}

fn untrusted(lab: &mut Lab) -> Result<Outcome> {
    if let Some(skipped) = able(lab) {
        return Ok(skipped);
    }
    lab.with(|vif| {
        vif.put_theirs("trusted", 0)?;
        vif.connect()?;
        vif.find_guest()?;
        let own = vif.attached()?;
        for at in 0..300u32 {
            let op = if at % 2 == 0 { b't' } else { b'r' };
            let len = [60, 1000][at as usize % 2];
            // From a page that holds other things, too.
            let frame = frames::program(vif.way(), op, own, len);
            let to = vif.room(1)?[0];
            vif.fill(&to, &[0xee; 4096])?;
            let response = vif.fill_at(&to, 256, &frame)?;
            vif.put_rx(&[response], &[])?;
            let (sent, got) = vif.await_program()?;
            ensure!(got == frame, "frame {at} is sent as another");
            if at % 16 < 2 {
                vif.shows_nothing_else(&sent)
                    .map_err(|e| format!("frame {at}: {e}"))?;
            }
            vif.answer(&sent, status::OKAY)?;
        }
        vif.verify_by_program()
    })
}

fn answers(lab: &mut Lab) -> Result<Outcome> {
    if let Some(skipped) = able(lab) {
        return Ok(skipped);
    }
    for op in *b"tr" {
        lab.stopped(format!("{}: twice", op as char), |vif| {
            let own = vif.attached()?;
            // Others stay unanswered.
            for _ in 0..20 {
                send(vif, op, own, 500)?;
            }
            let (sent, _) = vif.await_program()?;
            vif.answer(&sent, status::OKAY)?;
            vif.answer(&sent, status::OKAY)
        })?;
    }
    lab.stopped("an id that is free", |vif| {
        vif.attached()?;
        send(vif, b't', 0, 500)?;
        let (sent, _) = vif.await_program()?;
        vif.answer_one(sent.queue, (sent.requests[0].id + 100) % 256, status::OKAY)
    })?;
    lab.stopped("a page kept", |vif| {
        vif.attached()?;
        send(vif, b't', 0, 500)?;
        let (sent, _) = vif.await_program()?;
        let page = MappedPages::map(vif.guest, &[sent.requests[0].gref], false)?;
        vif.answer(&sent, status::OKAY)?;
        vif.expect_stopped()?;
        is_refused(vif, Some(RECONFIGURED)).map_err(|e| format!("another program: {e}"))?;
        drop(page);
        Ok(())
    })?;
    Ok(Passed)
}

/// Has the program send until the guest's ring is full; gives what was sent, unanswered.
fn fill(vif: &mut Vif, op: u8, own: u32) -> Result<Vec<Sent>> {
    let frame = frames::program(vif.way(), op, own, 200);
    for _ in 0..350 {
        vif.send(&frame, &[])?;
    }
    vif.seen()?;
    let mut held = Vec::new();
    while let Some(sent) = vif.next()? {
        held.push(sent);
    }
    ensure!(
        (200..=256).contains(&held.len()),
        "of a ring of 256 entries {} are in use",
        held.len()
    );
    Ok(held)
}

fn silent(lab: &mut Lab) -> Result<Outcome> {
    if let Some(skipped) = able(lab) {
        return Ok(skipped);
    }
    let mut before = 0;
    for round in 0..5 {
        let op = if round % 2 == 0 { b't' } else { b'r' };
        lab.with(|vif| {
            vif.connect()?;
            vif.find_guest()?;
            let own = vif.attached()?;
            if round == 0 {
                before = vif.told("memory")?;
            }
            if round < 2 {
                let held = fill(vif, op, own)?;
                vif.told("replace")?;
                vif.told("detach")?;
                vif.told("down")?;
                let (some, rest) = held.split_at(held.len() / 2);
                for sent in some {
                    vif.answer(sent, status::OKAY)?;
                }
                vif.told("up")?;
                vif.attached()?;
                for sent in rest {
                    vif.answer(sent, status::OKAY)?;
                }
                vif.verify_by_program()?;
            }
            // Once more, and never answered.
            fill(vif, op, own).map(drop)?;
            if round == 4 {
                memory(vif, before, 3072)?;
            }
            Ok(())
        })
        .map_err(|e| format!("{}: {e}", op as char))?;
    }
    Ok(Passed)
}

fn replaced(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif, own| {
        for (what, all) in [("replace", true), ("cycle", false)] {
            let mut child = vif.start(what)?;
            let until = Instant::now() + 2 * vif.timeout;
            let (mut sent, mut came, mut held) = (0, 0, Vec::new());
            let mut running = true;
            while running {
                running = vif.ended(&mut child)?.is_none();
                vif.heard()?;
                for at in 0..40 {
                    send(vif, [b't', b'r'][at % 2], own, 300)?;
                    sent += 1;
                }
                vif.seen()?;
                // The answers to these come when the next ones are there.
                let late = std::mem::take(&mut held);
                while let Some((sent, _)) = vif.sent_by_program()? {
                    came += 1;
                    held.push(sent);
                }
                for sent in late {
                    vif.answer(&sent, status::OKAY)?;
                }
                ensure!(Instant::now() < until, "the guest does not end to {what}");
            }
            for sent in held {
                vif.answer(&sent, status::OKAY)?;
            }
            println!("# {what}: of {sent} frames {came} came back");
            ensure!(
                !all || came == sent,
                "{what}: of {sent} frames {came} came back"
            );
            // Without a program they do not.
            ensure!(came > 0 && came <= sent, "{what}: {came} of {sent} frames");
        }
        Ok(())
    })
}

/// That the guest cannot attach the program, while this end goes to `answer` when it is asked.
fn is_refused(vif: &mut Vif, answer: Option<u64>) -> Result {
    let mut child = vif.start("attach")?;
    let until = Instant::now() + vif.timeout;
    while child.try_wait()?.is_none() {
        if let Some(state) = answer {
            if vif.their_state()? == RECONFIGURING {
                vif.set_state(state)?;
            }
        }
        ensure!(Instant::now() < until, "it is neither refused nor done");
        std::thread::sleep(Duration::from_millis(10));
    }
    ensure!(!child.wait()?.success(), "it is not refused");
    Ok(())
}

fn refused(lab: &mut Lab) -> Result<Outcome> {
    if let Some(skipped) = able(lab) {
        return Ok(skipped);
    }
    lab.with(|vif| {
        vif.offer()?;
        vif.put("feature-xdp-headroom", 0)?;
        vif.finish_connect()?;
        vif.find_guest()?;
        is_refused(vif, Some(RECONFIGURED)).map_err(|e| format!("no headroom: {e}"))?;
        vif.verify()
    })?;
    lab.with(|vif| {
        vif.connect()?;
        vif.find_guest()?;
        is_refused(vif, None).map_err(|e| format!("no answer: {e}"))?;
        send(vif, b't', 0, 100)?;
        nothing_comes(vif, "refused")?;
        vif.verify()?;
        vif.attached()?;
        vif.verify_by_program()
    })?;
    lab.with(|vif| {
        vif.connect()?;
        vif.find_guest()?;
        is_refused(vif, Some(CLOSING)).map_err(|e| format!("Closing: {e}").into())
    })
}

fn fuzz(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.options.seed);
    let count = lab.options.count;
    goes_on(lab, |vif, own| {
        let mut held: Vec<Sent> = Vec::new();
        for _ in 0..count {
            let op = random.pick(b"pdautrlsgch");
            let len = random.pick(&[20, 60, 300, 1514, 3000, 5000]);
            let frame = frames::program(vif.way(), op, own, len);
            match random.one_in(2) {
                true => vif.send(&frame, &[])?,
                false => mutate(vif, &mut random, frame)?,
            }
            while let Some((sent, _)) = vif.sent_by_program()? {
                held.push(sent);
            }
            if random.one_in(30) {
                for sent in held.drain(..) {
                    let status = random.pick(&[status::OKAY, status::ERROR, status::DROPPED, 77]);
                    vif.answer(&sent, status)?;
                }
            }
        }
        for sent in held {
            vif.answer(&sent, status::OKAY)?;
        }
        Ok(())
    })
}
