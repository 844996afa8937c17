// SPDX-License-Identifier: GPL-2.0
//! Responses and indices that are wrong. The front end gives the disk up with one message: reads
//! fail, no request comes any more, and the disk goes away in good order.

use std::process::Command;
use std::time::{Duration, Instant};

use super::device::{Device, CLOSED, CONNECTED, INIT_WAIT};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::wire::*;
use crate::{ensure, Result};
use xen::gntdev::MappedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("good", "an honest back end: reads succeed", good),
    Scenario::new("answer-twice", "a response twice", answer_twice).of("xsa376_answer_twice"),
    Scenario::new(
        "id-never-sent",
        "a response for an id that is free",
        id_never_sent,
    ),
    Scenario::new(
        "id-not-pending",
        "a response for an id that is free, in place of another's",
        id_not_pending,
    )
    .of("xsa376_not_pending"),
    Scenario::new(
        "id-unknown",
        "a response for an id beyond the ring",
        id_unknown,
    ),
    Scenario::new("id-huge", "a response for an id of 64 bits", id_huge).of("xsa376_unknown_id"),
    Scenario::new("overrun", "more responses than requests", overrun).of("xsa376_overrun"),
    Scenario::new("overrun-far", "a producer index 2^31 ahead", overrun_far),
    Scenario::new(
        "backwards",
        "a producer index behind what was consumed",
        backwards,
    ),
    Scenario::new(
        "wrong-operation",
        "a response for another operation",
        wrong_operation,
    ),
    Scenario::new(
        "status",
        "a status that does not exist: the read fails, the disk goes on",
        status,
    ),
    Scenario::new(
        "error",
        "an honest error: the read fails, the disk goes on",
        error,
    ),
    Scenario::new(
        "flush-revoked",
        "flushes offered, then refused as unknown: written all the same, and no more come",
        flush_revoked,
    ),
    Scenario::new(
        "barrier",
        "barriers offered and no flushes: a flush is an empty barrier",
        barrier,
    ),
    Scenario::new(
        "keep-grant",
        "an answer while the page is still mapped",
        keep_grant,
    )
    .of("xsa396_end_access"),
    Scenario::new(
        "request-index",
        "the front end's own indices overwritten: goes on",
        request_index,
    ),
    Scenario::new(
        "event-storm",
        "5,000 notifications for nothing: goes on",
        event_storm,
    )
    .of("xsa391_event_storm"),
    Scenario::new(
        "never-answer",
        "no answer, then Closed: the read fails",
        never_answer,
    ),
    Scenario::new(
        "vanish",
        "ring, channel and store entries gone with a read in flight",
        vanish,
    ),
];

/// The C front end leaves a request without an end that was in flight when it gave up.
const NO_END: Outcome = Skipped("the C front end never ends the request");

/// A disk that serves one read, then does `wrong` and is given up.
fn stopped(lab: &mut Lab, wrong: fn(&mut Device, &Request) -> Result) -> Result<Outcome> {
    let tolerant = lab.tolerant;
    lab.with(|dev| {
        dev.connect()?;
        dev.verify()?;
        let request = dev.trigger()?;
        // An honest answer first: the guest's read succeeds, nothing is left in flight.
        dev.serve(&request)?;
        dev.poked(dev.timeout, true)?;
        wrong(dev, &request)?;
        // The time that an interrupt takes.
        std::thread::sleep(Duration::from_millis(200));
        // The C front end keeps what is asked of it from now on until the end of days.
        if !tolerant {
            dev.expect_refused()?;
        }
        Ok(Passed)
    })
}

fn response(id: u64) -> Response {
    Response {
        id,
        op: READ,
        status: OKAY,
    }
}

fn good(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        dev.connect()?;
        (0..4).try_for_each(|_| dev.verify())?;
        Ok(Passed)
    })
}

fn answer_twice(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, |dev, request| dev.answer(response(request.id())))
}

fn id_never_sent(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, |dev, request| {
        dev.answer(response((request.id() + 7) % 32))
    })
}

/// Answers a read that is in flight with `wrong` instead: the read must fail. The C front end would
/// never end it, so there the honest answer comes first.
fn instead(lab: &mut Lab, wrong: fn(&mut Device, &Request) -> Result) -> Result<Outcome> {
    if lab.tolerant {
        return stopped(lab, wrong);
    }
    lab.with(|dev| {
        dev.connect()?;
        let request = dev.trigger()?;
        dev.execute(&request)?;
        wrong(dev, &request)?;
        dev.expect_stopped()?;
        Ok(Passed)
    })
}

fn id_not_pending(lab: &mut Lab) -> Result<Outcome> {
    // As many responses as requests: it is not the ring that notices.
    instead(lab, |dev, request| {
        dev.answer(response((request.id() + 7) % 32))
    })
}

fn id_unknown(lab: &mut Lab) -> Result<Outcome> {
    instead(lab, |dev, request| {
        dev.answer(response(request.id() + u64::from(ENTRIES)))
    })
}

fn id_huge(lab: &mut Lab) -> Result<Outcome> {
    instead(lab, |dev, request| {
        dev.answer(response(request.id() | 1 << 32))
    })
}

/// Sets the producer index by `spoil` and notifies.
fn index(dev: &mut Device, spoil: fn(u32) -> u32) -> Result {
    let ring = dev.ring()?;
    ring.page.store(RSP_PROD, spoil(ring.prod));
    Ok(ring.channel.notify()?)
}

fn overrun(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, |dev, _| {
        index(dev, |prod| prod.wrapping_add(ENTRIES + 1))
    })
}

fn overrun_far(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, |dev, _| index(dev, |prod| prod.wrapping_add(1 << 31)))
}

fn backwards(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, |dev, _| index(dev, |prod| prod.wrapping_sub(1)))
}

fn wrong_operation(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(NO_END);
    }
    instead(lab, |dev, request| {
        dev.answer(Response {
            op: WRITE,
            ..response(request.id())
        })
    })?;
    instead(lab, |dev, request| {
        dev.answer(Response {
            op: 77,
            ..response(request.id())
        })
    })
}

/// Answers a read with `status`: it must fail, the next one must not.
fn failing(lab: &mut Lab, status: i16) -> Result<Outcome> {
    lab.with(|dev| {
        dev.connect()?;
        let request = dev.trigger()?;
        let wrong = Response {
            status,
            ..response(request.id())
        };
        dev.answer(wrong)?;
        // The front end may try again.
        let until = Instant::now() + dev.timeout;
        let exit = loop {
            if let Some(exit) = dev.poked(Duration::from_millis(20), false)? {
                break exit;
            }
            while let Some(r) = dev.next()? {
                dev.answer(Response {
                    id: r.id(),
                    op: r.answer_op(),
                    status,
                })?;
            }
            ensure!(
                Instant::now() < until,
                "a read answered with status {status} has no end"
            );
        };
        ensure!(
            !exit.success(),
            "a read answered with status {status} succeeded"
        );
        dev.verify()?;
        Ok(Passed)
    })
}

fn status(lab: &mut Lab) -> Result<Outcome> {
    for s in [77, NOT_SUPPORTED] {
        failing(lab, s)?;
    }
    Ok(Passed)
}

fn error(lab: &mut Lab) -> Result<Outcome> {
    failing(lab, ERROR)
}

/// Has the guest write and flush, answers flushes and barriers with `status`, and gives their
/// operations.
fn flushes(dev: &mut Device, status: i16) -> Result<Vec<u8>> {
    dev.start(&dev.flushing_poke())?;
    let mut seen = Vec::new();
    let until = Instant::now() + dev.timeout;
    loop {
        while let Some(request) = dev.next()? {
            if [FLUSH, BARRIER].contains(&request.op()) {
                seen.push(request.op());
                dev.answer(Response {
                    id: request.id(),
                    op: request.op(),
                    status,
                })?;
            } else {
                dev.serve(&request)?;
            }
        }
        if let Some(exit) = dev.poked(Duration::ZERO, false)? {
            ensure!(exit.success(), "the guest's write failed: {exit}");
            return Ok(seen);
        }
        ensure!(Instant::now() < until, "the guest's write has no end");
        dev.wait(Duration::from_millis(20))?;
    }
}

fn flush_revoked(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        dev.connect()?;
        let seen = flushes(dev, NOT_SUPPORTED)?;
        ensure!(seen.contains(&FLUSH), "no flush came: {seen:?}");
        let seen = flushes(dev, OKAY)?;
        ensure!(seen.is_empty(), "flushes still come: {seen:?}");
        dev.verify()?;
        Ok(Passed)
    })
}

fn barrier(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        dev.offer()?;
        dev.put("feature-barrier", 1)?;
        dev.unset("feature-flush-cache")?;
        dev.set_state(INIT_WAIT)?;
        dev.attach()?;
        dev.set_state(CONNECTED)?;
        dev.await_state(&[CONNECTED])?;
        let seen = flushes(dev, OKAY)?;
        ensure!(
            seen.contains(&BARRIER) && !seen.contains(&FLUSH),
            "what came is {seen:?}"
        );
        dev.verify()?;
        Ok(Passed)
    })
}

fn keep_grant(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(NO_END);
    }
    let irqs = lab.irqs.clone();
    lab.with(|dev| {
        dev.connect()?;
        let request = dev.trigger()?;
        let grefs: Vec<_> = request.segs().iter().map(|s| s.gref).collect();
        let kept = MappedPages::map(dev.guest, &grefs, true)?;
        dev.serve(&request)?;
        // As long as we could change the data the read must not end well. It may stay in flight.
        if let Some(status) = dev.poked(Duration::from_millis(500), false)? {
            ensure!(
                !status.success(),
                "the guest trusts a page that is still mapped"
            );
        }
        // The event has got no EOI, so that no other comes.
        let before = interrupts(&irqs)?;
        for _ in 0..20 {
            dev.ring()?.channel.notify()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        let after = interrupts(&irqs)?;
        ensure!(
            before == after,
            "the guest still takes interrupts of this disk: {before:?}, then {after:?}"
        );
        drop(kept);
        // With the disk gone it has an end.
        dev.set_state(CLOSED)?;
        Ok(Passed)
    })
}

fn request_index(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        dev.connect()?;
        for value in [0, 1 << 31] {
            let ring = dev.ring()?;
            ring.page.store(REQ_PROD, ring.cons.wrapping_add(value));
            ring.page.store(RSP_EVENT, value);
            // The private index counts: the next request puts the shared one right.
            let want = ring.cons.wrapping_add(1);
            dev.start_poke()?;
            let until = Instant::now() + dev.timeout;
            while dev.ring()?.page.load(REQ_PROD) != want && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            ensure!(
                dev.next()?.is_some_and(|r| dev.serve(&r).is_ok()),
                "no request came"
            );
            ensure!(
                dev.poked(dev.timeout, true)?.is_some(),
                "the read has no end"
            );
        }
        dev.verify()?;
        Ok(Passed)
    })
}

/// How many interrupts of its disks the guest has had, if it can be asked.
fn interrupts(irqs: &Option<String>) -> Result<Option<u64>> {
    let Some(command) = irqs else {
        return Ok(None);
    };
    let output = Command::new("/bin/sh").arg("-c").arg(command).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Some(
        text.trim()
            .parse()
            .map_err(|_| format!("{command} says {text:?}"))?,
    ))
}

fn event_storm(lab: &mut Lab) -> Result<Outcome> {
    let irqs = lab.irqs.clone();
    lab.with(|dev| {
        dev.connect()?;
        let before = interrupts(&irqs)?;
        let start = Instant::now();
        for _ in 0..5_000 {
            dev.ring()?.channel.notify()?;
            // The time in which an interrupt could be taken.
            std::thread::sleep(Duration::from_micros(100));
        }
        let took = start.elapsed().as_millis() as u64;
        // The kernel lets two spurious events in a row pass, and delays the next by one jiffy (4 ms)
        // at least.
        if let (Some(before), Some(after)) = (before, interrupts(&irqs)?) {
            let came = after.saturating_sub(before);
            println!("# {came} interrupts in {took} ms");
            ensure!(
                came < took / 2 + 20,
                "the guest took {came} interrupts for nothing in {took} ms"
            );
        }
        dev.verify()?;
        Ok(Passed)
    })
}

fn never_answer(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(NO_END);
    }
    lab.with(|dev| {
        dev.connect()?;
        dev.trigger()?;
        std::thread::sleep(Duration::from_millis(500));
        // Not `Closing`, which may wait for the last close, and so for the read.
        dev.set_state(CLOSED)?;
        Ok(Passed)
    })
}

fn vanish(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(NO_END);
    }
    lab.with(|dev| {
        dev.connect()?;
        dev.trigger()?;
        dev.vanish()?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(Passed)
    })
}
