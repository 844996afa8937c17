// SPDX-License-Identifier: GPL-2.0
//! Store entries and states that are wrong. The back end refuses the connection and goes to
//! Closing (or Closed); the same device connects again when the front end has come to its senses.

use std::time::Duration;

use super::device::{CLOSED, CLOSING, CONNECTED, INITIALISED, INITIALISING, INIT_WAIT};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::wire::{ENTRIES, REQ_PROD, RSP_PROD};
use crate::{ensure, Result};
use xen::gntalloc::SharedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("ring-ref-missing", "no ring-ref at all", |l| {
        missing(l, "ring-ref")
    }),
    Scenario::new(
        "ring-ref-garbage",
        "ring-ref that is no reference",
        ring_ref_garbage,
    )
    .of("xsa361_ring_grant_status"),
    Scenario::new(
        "ring-ref-revoked",
        "ring-ref that is granted no longer",
        ring_ref_revoked,
    ),
    Scenario::new(
        "ring-ref-readonly",
        "ring page granted for reading only",
        ring_ref_readonly,
    ),
    Scenario::new("channel-missing", "no event-channel at all", |l| {
        missing(l, "event-channel")
    }),
    Scenario::new(
        "channel-garbage",
        "event-channel that is no port",
        channel_garbage,
    ),
    Scenario::new("protocol-garbage", "protocol that does not exist", |l| {
        nodes(l, &[("protocol", Some("z80-abi"))])
    }),
    Scenario::new("queues", "0, many and nonsensical queues", queues).of("no_queue_is_no_number"),
    Scenario::new("page-order", "rings of 2^5 pages and more", page_order),
    Scenario::new(
        "ring-preset",
        "a ring that is overrun from the start",
        ring_preset,
    ),
    Scenario::new(
        "connected-early",
        "Connected without a ring",
        connected_early,
    ),
    Scenario::new(
        "state-unknown-number",
        "states 7, 8 and 2, which are no front end's",
        state_numbers,
    ),
    Scenario::new("state-back", "Initialising while connected", state_back),
    Scenario::new(
        "state-flapping",
        "states in quick random order",
        state_flapping,
    )
    .of("xsa349_watch_flood"),
    Scenario {
        reusable: false,
        ..Scenario::new(
            "state-garbage",
            "a state that is no number; the device may go",
            state_garbage,
        )
    },
    Scenario {
        reusable: false,
        ..Scenario::new(
            "state-removed",
            "no state any more; the device may go",
            state_removed,
        )
    },
];

/// The C back end has a WARN in its clean-up, where it has read a ring's nodes in part.
const C_WARNS: Outcome = Skipped("the C back end warns");

/// One node is not there.
fn missing(lab: &mut Lab, key: &str) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(C_WARNS);
    }
    nodes(lab, &[(key, None)])
}

/// Connects wrongly: all as it should be but for `changes` (`None` leaves a node out). The back
/// end must refuse.
fn nodes(lab: &mut Lab, changes: &[(&str, Option<&str>)]) -> Result<Outcome> {
    lab.dev.restart()?;
    lab.dev.make_ring(0)?;
    lab.dev.publish()?;
    for (key, value) in changes {
        match value {
            Some(v) => lab.dev.put(key, v)?,
            None => lab.dev.unset(key)?,
        }
    }
    lab.dev.set_state(INITIALISED)?;
    let state = lab
        .dev
        .await_state(&[CLOSING, CLOSED])
        .map_err(|e| format!("{changes:?}: {e}"))?;
    ensure!(state != CONNECTED, "connected");
    lab.dev.close()?;
    Ok(Passed)
}

/// [`nodes`] with each of `values` for `key`, but those that are no number for the C back end; then the back end must connect to the honest front end.
fn each(lab: &mut Lab, key: &str, values: &[&str]) -> Result<Outcome> {
    for v in values {
        if lab.tolerant && v.parse::<u32>().is_err() {
            continue;
        }
        nodes(lab, &[(key, Some(v))])?;
    }
    lab.dev.connect()?;
    lab.dev.verify(8, 20)?;
    Ok(Passed)
}

fn ring_ref_garbage(lab: &mut Lab) -> Result<Outcome> {
    each(
        lab,
        "ring-ref",
        &["banana", "", "-1", "8388607", "4294967295"],
    )
}

fn ring_ref_revoked(lab: &mut Lab) -> Result<Outcome> {
    let gref = lab.dev.revoked_gref()?.to_string();
    each(lab, "ring-ref", &[&gref])
}

fn ring_ref_readonly(lab: &mut Lab) -> Result<Outcome> {
    let page = SharedPages::alloc(lab.dev.backend_id(), 1, false)?;
    let gref = page.grefs()[0].to_string();
    each(lab, "ring-ref", &[&gref])
}

fn channel_garbage(lab: &mut Lab) -> Result<Outcome> {
    each(
        lab,
        "event-channel",
        &["banana", "", "4095", "131071", "4294967295"],
    )
}

fn queues(lab: &mut Lab) -> Result<Outcome> {
    each(
        lab,
        "multi-queue-num-queues",
        &["0", "1000000", "4294967295"],
    )
}

fn page_order(lab: &mut Lab) -> Result<Outcome> {
    each(lab, "ring-page-order", &["5", "31", "32", "4294967295"])
}

fn ring_preset(lab: &mut Lab) -> Result<Outcome> {
    for (rsp, req) in [(0, ENTRIES + 1), (5, 4), (u32::MAX, 1 << 31)] {
        lab.dev.restart()?;
        lab.dev.make_ring(0)?;
        let page = &lab.dev.ring()?.page;
        page.store(RSP_PROD, rsp);
        page.store(REQ_PROD, req);
        lab.dev.publish()?;
        lab.dev.set_state(INITIALISED)?;
        lab.dev
            .await_state(&[CLOSING, CLOSED])
            .map_err(|e| format!("indices {rsp} and {req}: {e}"))?;
        lab.dev.close()?;
    }
    lab.dev.connect()?;
    lab.dev.verify(8, 21)?;
    Ok(Passed)
}

fn connected_early(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(C_WARNS);
    }
    lab.dev.restart()?;
    for key in ["ring-ref", "event-channel", "protocol"] {
        lab.dev.unset(key)?;
    }
    lab.dev.set_state(CONNECTED)?;
    lab.dev.await_state(&[CLOSING, CLOSED])?;
    Ok(Passed)
}

fn state_numbers(lab: &mut Lab) -> Result<Outcome> {
    for state in [7, 8, INIT_WAIT] {
        lab.dev.connect()?;
        lab.dev.set_state(state)?;
        lab.dev
            .await_state(&[CLOSING, CLOSED])
            .map_err(|e| format!("state {state}: {e}"))?;
        lab.dev.close()?;
    }
    Ok(Passed)
}

fn state_back(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    lab.dev.set_state(INITIALISING)?;
    if lab.tolerant {
        // The C back end does not look; the ring goes on.
        std::thread::sleep(Duration::from_millis(200));
        return Ok(Passed);
    }
    lab.dev.await_state(&[CLOSING, CLOSED])?;
    Ok(Passed)
}

fn state_flapping(lab: &mut Lab) -> Result<Outcome> {
    let mut random = crate::random::Random::new(lab.seed);
    lab.dev.restart()?;
    lab.dev.make_ring(0)?;
    lab.dev.publish()?;
    for _ in 0..100 {
        lab.dev.set_state(1 + random.below(6))?;
    }
    lab.dev.close()?;
    lab.dev.connect()?;
    lab.dev.verify(8, 22)?;
    Ok(Passed)
}

/// After this the back end may have unregistered the device: what counts is that the ring is let
/// go, which dom0 sees in the grants.
fn state_garbage(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    lab.dev.set_state("banana")?;
    std::thread::sleep(Duration::from_millis(500));
    lab.dev.set_state(CLOSED)?;
    std::thread::sleep(Duration::from_millis(500));
    lab.dev.drop_ring();
    Ok(Passed)
}

fn state_removed(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    lab.dev.unset("state")?;
    std::thread::sleep(Duration::from_millis(500));
    lab.dev.drop_ring();
    Ok(Passed)
}
