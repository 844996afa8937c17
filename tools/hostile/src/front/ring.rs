// SPDX-License-Identifier: GPL-2.0
//! Indices and notifications that are wrong. A ring whose producer is where it cannot be is
//! stopped for good; anything else is served or ignored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::device::{CLOSED, CLOSING, CONNECTED};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::wire::*;
use crate::{ensure, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "wrap",
        "an honest front end whose indices wrap around 32 bits",
        wrap,
    ),
    Scenario::new(
        "overrun",
        "one request more than the ring holds: stopped",
        overrun,
    )
    .of("xsa39_garbage_ends_the_ring"),
    Scenario::new(
        "overrun-far",
        "a producer index 2^31 ahead: stopped",
        overrun_far,
    ),
    Scenario::new(
        "backwards",
        "a producer index behind what was consumed: stopped",
        backwards,
    ),
    Scenario::new(
        "full-again",
        "the whole ring again, responses left untaken: served",
        full_again,
    ),
    Scenario::new(
        "rewrite",
        "requests that change while they are read: answered, nothing else",
        rewrite,
    )
    .of("xsa155_copy_once"),
    Scenario::new(
        "response-index",
        "the back end's own indices overwritten: goes on",
        response_index,
    ),
    Scenario::new(
        "event-storm",
        "5,000 notifications for nothing: goes on",
        event_storm,
    )
    .of("xsa332_event_storm"),
    Scenario::new(
        "vanish",
        "ring, buffers and channel given up with requests in flight",
        vanish,
    )
    .of("xsa350_gone_in_flight"),
    Scenario::new(
        "closed-at-once",
        "Closed with requests in flight, without Closing",
        closed_at_once,
    ),
];

fn wrap(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect_at(u32::MAX - 8)?;
    for i in 0..8 {
        lab.dev.verify(8 * i, i as u8)?;
    }
    ensure!(lab.dev.ring()?.prod < 20, "the index has not wrapped");
    Ok(Passed)
}

/// Connects, serves a little, sets the producer index by `spoil`, and wants the ring stopped.
fn stopped(lab: &mut Lab, spoil: fn(u32) -> u32) -> Result<Outcome> {
    lab.dev.connect()?;
    lab.dev.verify(8, 3)?;
    let ring = lab.dev.ring()?;
    ring.page.store(REQ_PROD, spoil(ring.prod));
    ring.channel.notify()?;
    let before = lab.dev.responses_within(1, Duration::from_millis(300))?;
    ensure!(before.is_empty(), "requests were made up: {before:?}");
    lab.dev.expect_stopped()?;
    let state = lab.dev.their_state()?;
    ensure!(
        [CONNECTED, CLOSING, CLOSED].contains(&state),
        "the back end went to state {state}"
    );
    Ok(Passed)
}

fn overrun(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, |prod| prod.wrapping_add(ENTRIES + 1))
}

fn overrun_far(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, |prod| prod.wrapping_add(1 << 31))
}

fn backwards(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, |prod| prod.wrapping_sub(1))
}

fn full_again(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    let segs = lab.dev.pages(1);
    let mut id = 0;
    for _ in 0..8 {
        let all: Vec<_> = (0..ENTRIES)
            .map(|i| Request::rw(READ, id + u64::from(i), 0, &segs))
            .collect();
        lab.dev.submit(&all)?;
        // Taken only now, all at once.
        let mut ids: Vec<_> = lab.dev.responses(all.len())?.iter().map(|r| r.id).collect();
        ids.sort_unstable();
        ensure!(
            ids == (id..id + u64::from(ENTRIES)).collect::<Vec<_>>(),
            "answered {ids:?}"
        );
        id += u64::from(ENTRIES);
    }
    Ok(Passed)
}

fn rewrite(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    let segs = lab.dev.pages(11);
    let rounds = lab.count.min(100);
    let stop = AtomicBool::new(false);
    let end = lab.dev.disk.sectors;
    for round in 0..rounds {
        let slot = entry(lab.dev.ring()?.prod);
        let request = Request::rw(READ, 0x7000 + round, 0, &segs);
        stop.store(false, Ordering::Relaxed);
        lab.dev.submit(&[request])?;
        // The count, the sector and a segment's bounds, over and over until the answer is there.
        let ring = lab.dev.ring()?;
        let (page, cons) = (&ring.page, ring.cons);
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut i = 0u32;
                while !stop.load(Ordering::Relaxed) && page.load(RSP_PROD) == cons {
                    i = i.wrapping_add(1);
                    page.write(slot + 1, &[if i % 2 == 0 { 11 } else { 255 }]);
                    page.write(slot + 16, &(if i % 3 == 0 { 0 } else { end }).to_le_bytes());
                    page.write(slot + 28, &[0, (i % 16) as u8]);
                }
            });
            std::thread::sleep(Duration::from_millis(2));
            stop.store(true, Ordering::Relaxed);
        });
        let rsp = lab.dev.responses(1)?[0];
        // The last change may have hit the response: byte 1 is the lower half of its id.
        ensure!(
            (rsp.id ^ request.id()) & !0xff00 == 0 && rsp.op == READ,
            "answered {rsp:?}"
        );
        ensure!([OKAY, ERROR].contains(&rsp.status), "status {}", rsp.status);
    }
    lab.dev.verify(8, 4)?;
    Ok(Passed)
}

fn response_index(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    lab.dev.verify(8, 5)?;
    for value in [0, 1, u32::MAX, 1 << 31] {
        let ring = lab.dev.ring()?;
        ring.page.store(RSP_PROD, ring.prod.wrapping_add(value));
        ring.page.store(REQ_EVENT, value);
        let segs = lab.dev.pages(1);
        lab.dev.submit(&[Request::rw(READ, 14, 0, &segs)])?;
        // The private index counts: the next response puts the shared one right.
        std::thread::sleep(Duration::from_millis(200));
        let ring = lab.dev.ring()?;
        let (prod, want) = (ring.page.load(RSP_PROD), ring.prod);
        ensure!(
            prod == want,
            "the back end answered at {prod}, its own index is {want}"
        );
        ring.cons = want;
    }
    lab.dev.verify(8, 6)?;
    Ok(Passed)
}

fn event_storm(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    for _ in 0..5_000 {
        lab.dev.ring()?.channel.notify()?;
    }
    lab.dev.verify(8, 7)?;
    Ok(Passed)
}

/// Reads of all buffers, as many as the ring holds.
fn load(lab: &mut Lab) -> Result {
    let segs = lab.dev.pages(11);
    let all: Vec<_> = (0..ENTRIES)
        .map(|i| Request::rw(READ, i.into(), 0, &segs))
        .collect();
    lab.dev.submit(&all)
}

fn vanish(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    lab.dev.verify(8, 8)?;
    load(lab)?;
    lab.dev.drop_ring();
    lab.dev.drop_buffers()?;
    std::thread::sleep(Duration::from_millis(200));
    lab.dev.set_state(CLOSED)?;
    lab.dev.await_state(&[CLOSED])?;
    again(lab)
}

fn closed_at_once(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    load(lab)?;
    lab.dev.set_state(CLOSED)?;
    lab.dev.await_state(&[CLOSED])?;
    lab.dev.drop_ring();
    again(lab)
}

/// Shows that the device can be connected again.
fn again(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    lab.dev.verify(8, 9)?;
    Ok(Passed)
}
