// SPDX-License-Identifier: GPL-2.0
//! Offers of many queues, pages and segments, good and bad, and pages that are kept mapped. A bad
//! offer loses no disk: the front end takes what is sensible of it, or does without.

use std::time::Duration;

use super::device::{Device, CLOSED, CLOSING, CONNECTED, INIT_WAIT};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::wire::*;
use crate::{ensure, Result};
use xen::gntdev::MappedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("shapes", "as much as can be offered: served", shapes),
    Scenario::new(
        "offers-garbage",
        "nonsense for the numbers of queues, pages, segments: served",
        offers_garbage,
    ),
    Scenario::new(
        "discard-garbage",
        "nonsense for what can be discarded: served",
        discard_garbage,
    ),
    Scenario::new(
        "queue-overrun",
        "one of several rings is overrun: the disk stops",
        queue_overrun,
    ),
    Scenario::new("kept", "pages kept mapped, as agreed: served", kept),
    Scenario::new(
        "kept-changes",
        "kept pages change after the answer: the data does not",
        kept_changes,
    ),
    Scenario::new(
        "kept-detach",
        "pages kept mapped until the disk has gone: it goes, nothing leaks",
        kept_detach,
    )
    .of("xsa396_kept_pages"),
    Scenario::new(
        "untrusted",
        "a toolstack that does not trust us: nothing of the guest's is shown",
        untrusted,
    )
    .of("xsa403_bounce"),
];

/// Connects with the offers of `offer`, and serves.
fn connect(dev: &mut Device, offer: impl FnOnce(&mut Device) -> Result) -> Result {
    offer(dev)?;
    dev.connect()
}

fn shapes(lab: &mut Lab) -> Result<Outcome> {
    for keep in [false, true] {
        lab.with(|dev| {
            connect(dev, |dev| dev.offer_much(keep))?;
            let chosen = [
                "multi-queue-num-queues",
                "ring-page-order",
                "feature-persistent",
            ];
            for key in chosen {
                println!("# {key}: {:?}", dev.theirs(key)?);
            }
            (0..4).try_for_each(|_| dev.verify())?;
            Ok(Passed)
        })?;
    }
    Ok(Passed)
}

/// Each of `values` in all of `keys` is served.
fn served(lab: &mut Lab, keys: &[&str], values: &[&str]) -> Result<Outcome> {
    for value in values {
        lab.with(|dev| {
            connect(dev, |dev| {
                keys.iter().try_for_each(|key| dev.put(key, value))
            })
            .and_then(|()| dev.verify())
            .map_err(|e| format!("{value:?}: {e}"))?;
            Ok(Passed)
        })?;
    }
    Ok(Passed)
}

const GARBAGE: [&str; 5] = ["0", "-1", "banana", "4294967295", "18446744073709551615"];

fn offers_garbage(lab: &mut Lab) -> Result<Outcome> {
    let keys = [
        "multi-queue-max-queues",
        "max-ring-page-order",
        "feature-max-indirect-segments",
    ];
    // Our own limit is what attaching and the requests are held against.
    if lab.tolerant {
        return Ok(Skipped("the C front end may take 8 queues for -1"));
    }
    served(lab, &keys, &GARBAGE)
}

fn discard_garbage(lab: &mut Lab) -> Result<Outcome> {
    let keys = ["discard-granularity", "discard-alignment", "discard-secure"];
    for value in GARBAGE[..3].iter().chain(&["511", "1099511627776"]) {
        lab.with(|dev| {
            dev.put("feature-discard", 1)?;
            for key in keys {
                dev.put(key, value)?;
            }
            dev.connect()
                .and_then(|()| dev.verify())
                .map_err(|e| format!("{value:?}: {e}"))?;
            Ok(Passed)
        })?;
    }
    Ok(Passed)
}

fn queue_overrun(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(Skipped("the C front end never ends its requests"));
    }
    lab.with(|dev| {
        connect(dev, |dev| dev.offer_much(false))?;
        dev.verify()?;
        if dev.queues() < 2 {
            return Ok(Skipped("the guest has one CPU, and so one queue"));
        }
        let last = dev.queues() - 1;
        dev.use_queue(last);
        let ring = dev.ring()?;
        let beyond = ring.prod.wrapping_add(ring.entries + 1);
        ring.page.store(RSP_PROD, beyond);
        ring.channel.notify()?;
        std::thread::sleep(Duration::from_millis(200));
        // On whichever CPU, and so in whichever queue.
        (0..4).try_for_each(|_| dev.expect_refused())?;
        Ok(Passed)
    })
}

/// Whether the front end lets us keep pages.
fn agreed(dev: &mut Device) -> Result<bool> {
    connect(dev, |dev| dev.offer_much(true))?;
    Ok(dev.keeps() && dev.theirs("feature-persistent")? == Some(1))
}

const NOT_AGREED: Outcome = Skipped("the front end does not agree to it");

fn kept(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        if !agreed(dev)? {
            return Ok(NOT_AGREED);
        }
        (0..8).try_for_each(|_| dev.verify())?;
        Ok(Passed)
    })
}

fn kept_changes(lab: &mut Lab) -> Result<Outcome> {
    let Some(reread) = lab.reread.clone() else {
        return Ok(Skipped("there is no --reread"));
    };
    lab.with(|dev| {
        if !agreed(dev)? {
            return Ok(NOT_AGREED);
        }
        dev.start(&reread)?;
        let mut spoilt = 0;
        let until = std::time::Instant::now() + dev.timeout;
        let status = loop {
            // All that it asks for is answered, and changed as soon as it is.
            if let Some(status) = dev.poked(Duration::from_millis(10), true)? {
                break status;
            }
            spoilt += dev.spoil_kept();
            ensure!(std::time::Instant::now() < until, "the reads have no end");
        };
        ensure!(spoilt > 0, "no page was kept");
        ensure!(
            status.success(),
            "what was read has changed afterwards: {status}"
        );
        Ok(Passed)
    })
}

fn kept_detach(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        if !agreed(dev)? {
            return Ok(NOT_AGREED);
        }
        dev.verify()?;
        dev.put("online", 0)?;
        dev.set_state(CLOSING)?;
        dev.await_state(&[CLOSED])?;
        // The pages are let go of when the device is removed, which comes now.
        Ok(Passed)
    })?;
    // Also before there is a request.
    lab.with(|dev| {
        dev.offer_much(true)?;
        dev.offer()?;
        dev.set_state(INIT_WAIT)?;
        dev.attach()?;
        dev.set_state(CLOSING)?;
        dev.await_state(&[CLOSED, CLOSING, CONNECTED])?;
        Ok(Passed)
    })
}

/// A front end that is told `trusted=0` shows pages of its own, which are empty but for the data.
fn untrusted(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(Skipped("that is the C front end's own affair"));
    }
    lab.with(|dev| {
        dev.put_theirs("trusted", 0)?;
        dev.connect()?;
        // One sector, so that the rest of the page is somebody else's.
        let request = dev.trigger_by(&dev.small_poke(), WRITE)?;
        for seg in request.segs() {
            let page = MappedPages::map(dev.guest, &[seg.gref], false)?;
            let mut bytes = vec![0; 4096];
            page.read(0, &mut bytes);
            let data = usize::from(seg.first)..usize::from(seg.last) + 1;
            ensure!(data.len() < 8, "a whole page was written");
            // What was read before may be there: each sector of ours is all one byte.
            let strange = bytes.chunks(512).enumerate().find(|(i, sector)| {
                !data.contains(i) && sector.iter().any(|byte| *byte != sector[0])
            });
            ensure!(
                strange.is_none(),
                "a page shows more than sectors {data:?} of it: {strange:?}"
            );
        }
        dev.serve(&request)?;
        let status = dev.poked(dev.timeout, true)?;
        ensure!(
            status.is_some_and(|s| s.success()),
            "the guest's writes: {status:?}"
        );
        Ok(Passed)
    })
}
