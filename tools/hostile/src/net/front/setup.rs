// SPDX-License-Identifier: GPL-2.0
//! Store entries and states that are wrong. The back end refuses the connection and goes to
//! Closing (or Closed); the same device connects again when the front end has come to its senses.

use std::time::Duration;

use super::vif::Shape;
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::nodes::{CLOSED, CLOSING, CONNECTED, INITIALISING, INIT_WAIT};
use crate::random::Random;
use crate::{ensure, Result};
use protocol::ring::index::{REQ_PROD, RSP_PROD};
use xen::gntalloc::SharedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "ring-ref",
        "a ring-ref missing, none, revoked or for reading only: refused",
        ring_ref,
    )
    .of("xsa361_net_ring_grant_status"),
    Scenario::new(
        "channel",
        "an event channel missing, or none: refused",
        channel,
    ),
    Scenario::new("rx-copy", "no request-rx-copy: refused", rx_copy),
    Scenario::new(
        "queues",
        "0, too many and nonsensical queues: refused",
        queues,
    )
    .of("net_no_queue_is_no_number"),
    Scenario::new(
        "queue-keys",
        "garbage for the second queue: refused, nothing stays mapped",
        queue_keys,
    ),
    Scenario::new(
        "queue-twice",
        "rings or channels that are one and the same: no harm",
        queue_twice,
    ),
    Scenario::new(
        "control-keys",
        "garbage for the control ring: refused",
        control_keys,
    ),
    Scenario::new(
        "ring-preset",
        "rings that are overrun from the start: refused",
        ring_preset,
    ),
    Scenario::new(
        "features",
        "nonsense in everything that is optional: served",
        features,
    ),
    Scenario::new(
        "reconfigure",
        "headroom of all sizes, by Reconfiguring: served",
        reconfigure,
    ),
    Scenario::new(
        "connected-early",
        "Connected without a ring: refused",
        connected_early,
    ),
    Scenario::new(
        "connected-twice",
        "Connected again and again: served",
        connected_twice,
    ),
    Scenario::new(
        "state-numbers",
        "states 2 and 8, which are no front end's",
        state_numbers,
    ),
    Scenario::new(
        "state-back",
        "Initialising while connected, then new rings: served",
        state_back,
    ),
    Scenario::new(
        "state-flapping",
        "states in quick random order",
        state_flapping,
    )
    .of("xsa349_net_watch_flood"),
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

/// Connects wrongly: all as it should be but for `changes` (`None` leaves a node out). The back
/// end must refuse.
fn refused(lab: &mut Lab, shape: Shape, changes: &[(&str, Option<&str>)]) -> Result {
    let vif = &mut lab.vif;
    vif.restart()?;
    vif.shape = shape;
    vif.make_rings(0)?;
    vif.publish()?;
    for (key, value) in changes {
        match value {
            Some(v) => vif.put(key, v)?,
            None => vif.unset(key)?,
        }
    }
    vif.set_state(CONNECTED)?;
    vif.await_state(&[CLOSING, CLOSED])
        .map_err(|e| format!("{changes:?}: {e}"))?;
    vif.close()
}

/// [`refused`] with each of `values` for `key`, and without it; for the C back end without those that
/// are no number.
fn each(lab: &mut Lab, shape: Shape, key: &str, values: &[&str]) -> Result {
    for v in values {
        if lab.options.tolerant && v.parse::<u32>().is_err() {
            continue;
        }
        refused(lab, shape, &[(key, Some(v))])?;
    }
    refused(lab, shape, &[(key, None)])
}

/// An honest connection at the end.
fn then_good(lab: &mut Lab) -> Result<Outcome> {
    lab.vif.connect()?;
    lab.vif.verify()?;
    Ok(Passed)
}

fn ring_ref(lab: &mut Lab) -> Result<Outcome> {
    let remote = lab.vif.backend_id();
    let readonly = SharedPages::alloc(remote, 1, false)?;
    let gref = readonly.grefs()[0].to_string();
    let revoked = lab.vif.revoked_gref()?.to_string();
    let all = ["banana", "", "-1", "8388607", "4294967295", &gref, &revoked];
    each(lab, Shape::PLAIN, "tx-ring-ref", &all)?;
    each(lab, Shape::PLAIN, "rx-ring-ref", &all[..5])?;
    then_good(lab)
}

fn channel(lab: &mut Lab) -> Result<Outcome> {
    let all = ["banana", "", "4095", "131071", "4294967295"];
    each(lab, Shape::PLAIN, "event-channel", &all)?;
    let split = Shape {
        split: true,
        ..Shape::PLAIN
    };
    each(lab, split, "event-channel-rx", &all[2..])?;
    then_good(lab)
}

fn rx_copy(lab: &mut Lab) -> Result<Outcome> {
    each(lab, Shape::PLAIN, "request-rx-copy", &["0", "banana"])?;
    then_good(lab)
}

fn queues(lab: &mut Lab) -> Result<Outcome> {
    for value in ["0", "3000", "1000000", "4294967295", "-1", "banana", ""] {
        if lab.options.tolerant && value.parse::<u32>().is_err() {
            continue;
        }
        refused(
            lab,
            Shape::PLAIN,
            &[("multi-queue-num-queues", Some(value))],
        )?;
    }
    then_good(lab)
}

/// Two queues, if there can be two.
fn two(lab: &mut Lab) -> Result<Option<Shape>> {
    lab.vif.restart()?;
    let most = lab.vif.theirs("multi-queue-max-queues")?.unwrap_or(1);
    Ok((most > 1).then_some(Shape {
        queues: 2,
        ..Shape::PLAIN
    }))
}

fn queue_keys(lab: &mut Lab) -> Result<Outcome> {
    let Some(shape) = two(lab)? else {
        return Ok(Skipped("there is one queue only"));
    };
    for key in ["tx-ring-ref", "rx-ring-ref", "event-channel"] {
        let key = format!("queue-1/{key}");
        refused(lab, shape, &[(&key, Some("8388607"))])?;
        refused(lab, shape, &[(&key, None)])?;
    }
    then_good(lab)
}

fn queue_twice(lab: &mut Lab) -> Result<Outcome> {
    let mut cases = vec![(Shape::PLAIN, "tx-ring-ref", "rx-ring-ref")];
    if let Some(shape) = two(lab)? {
        for (from, to) in [
            ("queue-0/tx-ring-ref", "queue-1/tx-ring-ref"),
            ("queue-0/rx-ring-ref", "queue-1/rx-ring-ref"),
            ("queue-0/event-channel", "queue-1/event-channel"),
        ] {
            cases.push((shape, from, to));
        }
    }
    for (shape, from, to) in cases {
        let vif = &mut lab.vif;
        vif.restart()?;
        vif.shape = shape;
        vif.make_rings(0)?;
        vif.publish()?;
        let same = vif.own(from)?.ok_or("no such key")?;
        vif.put(to, same)?;
        vif.set_state(CONNECTED)?;
        let state = vif.await_state(&[CONNECTED, CLOSING, CLOSED])?;
        if state == CONNECTED {
            // Two that take from one ring: whatever comes of it, it ends.
            for queue in 0..shape.queues {
                vif.use_queue(queue);
                vif.post_all()?;
                let frame = crate::net::frames::arp_request(vif.way());
                let request = vif.whole(&frame);
                vif.submit(&super::vif::slots(&request, &[]))?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        vif.close()?;
        // What is in these rings makes no sense any more; and the nodes must be written again.
        vif.drop_rings();
        vif.unset(to)?;
    }
    then_good(lab)
}

fn control_keys(lab: &mut Lab) -> Result<Outcome> {
    let shape = Shape {
        control: true,
        ..Shape::PLAIN
    };
    lab.vif.restart()?;
    if lab.vif.theirs("feature-ctrl-ring")?.unwrap_or(0) == 0 {
        return Ok(Skipped("the back end does not offer it"));
    }
    for value in ["8388607", "4294967295"] {
        refused(lab, shape, &[("ctrl-ring-ref", Some(value))])?;
    }
    each(lab, shape, "event-channel-ctrl", &["4095", "banana"])?;
    then_good(lab)
}

fn ring_preset(lab: &mut Lab) -> Result<Outcome> {
    if lab.options.tolerant {
        return Ok(Skipped("the C back end may find out later"));
    }
    for tx in [true, false] {
        for (rsp, req) in [(0, 257), (5, 4), (u32::MAX, 1 << 31)] {
            let vif = &mut lab.vif;
            vif.restart()?;
            vif.shape = Shape::PLAIN;
            vif.make_rings(0)?;
            let queue = vif.queue()?;
            let page = match tx {
                true => &queue.tx.page,
                false => &queue.rx.page,
            };
            page.store(RSP_PROD, rsp);
            page.store(REQ_PROD, req);
            vif.publish()?;
            vif.set_state(CONNECTED)?;
            vif.await_state(&[CLOSING, CLOSED])
                .map_err(|e| format!("indices {rsp} and {req}: {e}"))?;
            vif.close()?;
        }
    }
    then_good(lab)
}

fn features(lab: &mut Lab) -> Result<Outcome> {
    for value in [
        "banana",
        "",
        "-1",
        "4294967295",
        "18446744073709551615",
        "999999999999999999999999",
    ] {
        let vif = &mut lab.vif;
        vif.restart()?;
        vif.shape = Shape::PLAIN;
        vif.make_rings(0)?;
        vif.publish()?;
        for key in [
            "feature-rx-notify",
            "feature-sg",
            "feature-gso-tcpv4",
            "feature-gso-tcpv6",
            "feature-no-csum-offload",
            "feature-ipv6-csum-offload",
            "request-multicast-control",
            "xdp-headroom",
        ] {
            // The C back end believes in any headroom.
            if !(lab.options.tolerant && key == "xdp-headroom") {
                vif.put(key, value)?;
            }
        }
        vif.set_state(CONNECTED)?;
        vif.finish_connect()
            .map_err(|e| format!("{value:?}: {e}"))?;
        vif.verify().map_err(|e| format!("{value:?}: {e}"))?;
        vif.unset("feature-no-csum-offload")?;
    }
    then_good(lab)
}

fn reconfigure(lab: &mut Lab) -> Result<Outcome> {
    const RECONFIGURING: u64 = 7;
    const RECONFIGURED: u64 = 8;
    let vif = &mut lab.vif;
    vif.connect()?;
    vif.verify()?;
    if vif.theirs("feature-xdp-headroom")?.unwrap_or(0) == 0 {
        return Ok(Skipped("the back end does not offer it"));
    }
    let wild = [
        "256",
        "0",
        "448",
        "65535",
        "4294967295",
        "banana",
        "-1",
        "0",
    ];
    let count = if lab.options.tolerant { 2 } else { wild.len() };
    for value in &wild[..count] {
        vif.put("xdp-headroom", value)?;
        vif.set_state(RECONFIGURING)?;
        vif.await_state(&[RECONFIGURED])?;
        vif.set_state(CONNECTED)?;
        if !lab.options.tolerant {
            vif.verify().map_err(|e| format!("{value:?}: {e}"))?;
        }
    }
    Ok(Passed)
}

fn connected_early(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.restart()?;
    for key in ["tx-ring-ref", "rx-ring-ref", "event-channel"] {
        vif.unset(key)?;
    }
    vif.set_state(CONNECTED)?;
    vif.await_state(&[CLOSING, CLOSED])?;
    Ok(Passed)
}

fn connected_twice(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connect()?;
    for _ in 0..10 {
        vif.set_state(CONNECTED)?;
    }
    vif.verify()?;
    // Other rings, of which nobody is told: those that are there go on.
    vif.put("tx-ring-ref", "banana")?;
    vif.put("rx-ring-ref", "4294967295")?;
    vif.set_state(CONNECTED)?;
    vif.verify()?;
    Ok(Passed)
}

fn state_numbers(lab: &mut Lab) -> Result<Outcome> {
    for state in [INIT_WAIT, 8] {
        lab.vif.connect()?;
        lab.vif.set_state(state)?;
        lab.vif
            .await_state(&[CLOSING, CLOSED])
            .map_err(|e| format!("state {state}: {e}"))?;
        lab.vif.close()?;
    }
    then_good(lab)
}

fn state_back(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    for _ in 0..3 {
        vif.connect()?;
        vif.verify_sends()?;
        vif.set_state(INITIALISING)?;
        if lab.options.tolerant {
            // It closes, or goes on.
            std::thread::sleep(Duration::from_millis(200));
            vif.close()?;
            continue;
        }
        vif.await_state(&[INIT_WAIT])?;
    }
    then_good(lab)
}

fn state_flapping(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.options.seed);
    let vif = &mut lab.vif;
    vif.restart()?;
    vif.shape = Shape::PLAIN;
    vif.make_rings(0)?;
    vif.publish()?;
    for _ in 0..60 {
        vif.set_state(1 + random.below(6))?;
    }
    vif.close()?;
    then_good(lab)
}

/// After this the back end may have unregistered the device: what counts is that the rings are let
/// go, which dom0 sees in the grants.
fn state_garbage(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connect()?;
    vif.set_state("banana")?;
    std::thread::sleep(Duration::from_millis(500));
    vif.set_state(CLOSED)?;
    std::thread::sleep(Duration::from_millis(500));
    vif.drop_rings();
    Ok(Passed)
}

fn state_removed(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connect()?;
    vif.unset("state")?;
    std::thread::sleep(Duration::from_millis(500));
    vif.drop_rings();
    ensure!(vif.own("state")?.is_none(), "there is a state again");
    Ok(Passed)
}
