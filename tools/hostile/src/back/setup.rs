// SPDX-License-Identifier: GPL-2.0
//! Store entries and states that are wrong. The front end refuses the disk, or does without what
//! is wrong; either way it stays in good order.

use std::time::Duration;

use super::device::{CLOSED, CLOSING, CONNECTED, INITIALISING, INIT_WAIT, SECTORS};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::wire::Seg;
use crate::{ensure, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("sectors", "sectors that are no size: refused", sectors),
    Scenario::new(
        "sector-size",
        "sector-size that is none: refused",
        sector_size,
    ),
    Scenario::new(
        "nodes-missing",
        "without sectors, info or sector-size: refused",
        nodes_missing,
    ),
    Scenario::new("info", "info that is no set of flags", info),
    Scenario::new(
        "features",
        "nonsense in everything that is optional: served",
        features,
    ),
    Scenario::new(
        "connected-first",
        "Connected at once: served",
        connected_first,
    ),
    Scenario::new(
        "blocks-4096",
        "a disk of 4096-byte blocks: served, in whole blocks",
        blocks_4096,
    ),
    Scenario::new(
        "extended",
        "a number beyond virtual-device, by virtual-device-ext: served, under its name",
        extended,
    ),
    Scenario::new("closing-first", "Closing at once: closed", closing_first),
    Scenario::new(
        "state-garbage",
        "states that do not exist, in between: served",
        state_garbage,
    ),
    Scenario::new(
        "state-back",
        "Initialising while connected, which ends it; InitWait, which does not",
        state_back,
    ),
    Scenario::new(
        "state-flapping",
        "states in quick random order",
        state_flapping,
    ),
    Scenario::new(
        "connected-again",
        "Connected again and again, with sizes good and bad",
        connected_again,
    ),
];

/// Connects with `changes` made to an honest disk's nodes (`None` leaves one out). True if the
/// front end has connected all the same.
fn connects(lab: &mut Lab, changes: &[(&str, Option<&str>)]) -> Result<bool> {
    let mut connected = false;
    lab.with(|dev| {
        dev.set_state(INIT_WAIT)?;
        dev.offer()?;
        for (key, value) in changes {
            match value {
                Some(v) => dev.put(key, v)?,
                None => dev.unset(key)?,
            }
        }
        dev.attach()?;
        dev.set_state(CONNECTED)?;
        let state = dev
            .await_state(&[CONNECTED, CLOSING, CLOSED])
            .map_err(|e| format!("{changes:?}: {e}"))?;
        connected = state == CONNECTED;
        if connected {
            dev.serve_for(Duration::from_millis(100))?;
        }
        Ok(Passed)
    })?;
    Ok(connected)
}

/// Each of `values` for `key` must be refused.
fn refused(lab: &mut Lab, key: &str, values: &[&str]) -> Result<Outcome> {
    for v in values {
        ensure!(
            !connects(lab, &[(key, Some(v))])?,
            "connected with {key} {v:?}"
        );
    }
    Ok(Passed)
}

fn sectors(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        // The C front end takes any number.
        return refused(lab, "sectors", &["banana", ""]);
    }
    refused(
        lab,
        "sectors",
        &[
            "banana",
            "",
            "-1",
            "18446744073709551615",
            "36028797018963968",
        ],
    )
}

fn sector_size(lab: &mut Lab) -> Result<Outcome> {
    // More of them: the host tests of the protocol crate.
    refused(lab, "sector-size", &["banana", "0", "513", "2147483648"])
}

fn nodes_missing(lab: &mut Lab) -> Result<Outcome> {
    for key in ["sectors", "info", "sector-size"] {
        ensure!(!connects(lab, &[(key, None)])?, "connected without {key}");
    }
    Ok(Passed)
}

fn info(lab: &mut Lab) -> Result<Outcome> {
    ensure!(
        !connects(lab, &[("info", Some("banana"))])?,
        "connected with info \"banana\""
    );
    // Unknown flags are not an error.
    connects(lab, &[("info", Some("4294967280"))])?;
    Ok(Passed)
}

fn features(lab: &mut Lab) -> Result<Outcome> {
    for value in [
        "banana",
        "-1",
        "4294967295",
        "18446744073709551615",
        "999999999999999999999999",
    ] {
        lab.with(|dev| {
            for key in [
                "feature-barrier",
                "feature-discard",
                "discard-granularity",
                "discard-alignment",
                "discard-secure",
                "feature-max-indirect-segments",
                "multi-queue-max-queues",
                "max-ring-page-order",
                "physical-sector-size",
            ] {
                dev.put(key, value)?;
            }
            // The ring may be of many pages and queues now; that it exists is all that is asked.
            dev.set_state(INIT_WAIT)?;
            dev.offer()?;
            let state = dev
                .await_state(&[3, CLOSING, CLOSED])
                .map_err(|e| format!("features {value:?}: {e}"))?;
            ensure!(state <= CLOSED, "state {state}");
            Ok(Passed)
        })?;
    }
    Ok(Passed)
}

fn connected_first(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        dev.offer()?;
        dev.set_state(CONNECTED)?;
        dev.attach()?;
        dev.await_state(&[CONNECTED])?;
        dev.serve_for(Duration::from_millis(100))?;
        dev.verify()?;
        Ok(Passed)
    })
}

fn blocks_4096(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        dev.offer()?;
        dev.put("sector-size", 4096)?;
        dev.put("physical-sector-size", 4096)?;
        dev.set_state(INIT_WAIT)?;
        dev.attach()?;
        dev.set_state(CONNECTED)?;
        dev.await_state(&[CONNECTED])?;
        for _ in 0..3 {
            let request = dev.trigger()?;
            let whole = |seg: &Seg| (seg.first, seg.last) == (0, 7);
            ensure!(
                request.sector() % 8 == 0 && request.segs().iter().all(whole),
                "sectors from {} on: {:?}",
                request.sector(),
                request.segs()
            );
            dev.serve(&request)?;
            let status = dev.poked(dev.timeout, true)?;
            ensure!(status.is_some_and(|s| s.success()), "the read: {status:?}");
        }
        Ok(Passed)
    })
}

fn extended(lab: &mut Lab) -> Result<Outcome> {
    lab.extended = true;
    let result = lab.with(|dev| {
        dev.connect()?;
        dev.verify()?;
        Ok(Passed)
    });
    lab.extended = false;
    result
}

fn closing_first(lab: &mut Lab) -> Result<Outcome> {
    for state in [CLOSING, CLOSED] {
        lab.with(|dev| {
            dev.set_state(state)?;
            dev.await_state(&[CLOSED])?;
            Ok(Passed)
        })?;
    }
    Ok(Passed)
}

fn state_garbage(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        for state in ["banana", "99", "-1", ""] {
            dev.set_state(state)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        dev.connect()?;
        for state in ["banana", "99"] {
            dev.set_state(state)?;
            dev.serve_for(Duration::from_millis(50))?;
        }
        dev.set_state(CONNECTED)?;
        dev.verify()?;
        Ok(Passed)
    })
}

fn state_back(lab: &mut Lab) -> Result<Outcome> {
    let tolerant = lab.tolerant;
    lab.with(|dev| {
        dev.connect()?;
        dev.set_state(INITIALISING)?;
        if tolerant {
            // The C front end does not look.
            return dev.serve_for(Duration::from_millis(200)).map(|_| Passed);
        }
        dev.await_state(&[CLOSING, CLOSED])?;
        Ok(Passed)
    })?;
    // A back end that is bound anew says so, takes up the ring, and is `Connected` again.
    lab.with(|dev| {
        dev.connect()?;
        dev.set_state(INIT_WAIT)?;
        dev.serve_for(Duration::from_millis(200))?;
        ensure!(
            dev.their_state()? == CONNECTED,
            "the front end has given up"
        );
        Ok(Passed)
    })
}

fn state_flapping(lab: &mut Lab) -> Result<Outcome> {
    let mut random = crate::random::Random::new(lab.seed);
    lab.with(|dev| {
        dev.offer()?;
        for _ in 0..50 {
            dev.set_state(1 + random.below(6))?;
        }
        Ok(Passed)
    })
}

fn connected_again(lab: &mut Lab) -> Result<Outcome> {
    let tolerant = lab.tolerant;
    lab.with(|dev| {
        dev.connect()?;
        let bad = ["banana", "", "18446744073709551615"];
        let wild = if tolerant { &bad[..2] } else { &bad[..] };
        for sectors in wild.iter().chain(&["8192", "4096"]) {
            dev.put("sectors", sectors)?;
            dev.set_state(CONNECTED)?;
            dev.serve_for(Duration::from_millis(100))?;
        }
        dev.put("sectors", SECTORS)?;
        dev.set_state(CONNECTED)?;
        dev.verify()?;
        Ok(Passed)
    })
}
