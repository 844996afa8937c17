// SPDX-License-Identifier: GPL-2.0
//! Discards: what the front end makes of an offer, and of its end.

use std::time::{Duration, Instant};

use super::device::{Device, CONNECTED, INIT_WAIT};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::wire::{Response, DISCARD, ERROR, NOT_SUPPORTED, OKAY};
use crate::{ensure, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "discard-revoked",
        "discards offered, then refused as unknown: no more come, the disk goes on",
        revoked,
    ),
    Scenario::new(
        "discard-failed",
        "a discard that fails: the next one comes all the same",
        failed,
    ),
    Scenario::new(
        "discard-secure",
        "an erasing discard says so, a plain one does not; not offered, it does not come",
        secure,
    ),
];

/// Connects a disk that discards, and erases if `secure`.
fn connect(dev: &mut Device, secure: bool) -> Result {
    dev.offer()?;
    dev.put("feature-discard", 1)?;
    dev.put("discard-granularity", 4096)?;
    dev.put("discard-secure", u8::from(secure))?;
    dev.set_state(INIT_WAIT)?;
    dev.attach()?;
    dev.set_state(CONNECTED)?;
    dev.await_state(&[CONNECTED])?;
    dev.serve_for(Duration::from_millis(100))
}

/// Has the guest discard 64 KB, with `option`; answers discards with `status`. Gives the flags of
/// those that came, and whether the guest was content.
fn discard(dev: &mut Device, option: &str, status: i16) -> Result<(Vec<u8>, bool)> {
    dev.start(&dev.discarding_poke(option))?;
    let mut seen = Vec::new();
    let until = Instant::now() + dev.timeout;
    loop {
        while let Some(request) = dev.next()? {
            if request.op() == DISCARD {
                ensure!(
                    (request.sector(), request.discarded()) == (2048, 128),
                    "{} sectors from {} on are discarded",
                    request.discarded(),
                    request.sector()
                );
                seen.push(request.discard_flag());
                dev.answer(Response {
                    id: request.id(),
                    op: DISCARD,
                    status,
                })?;
            } else {
                dev.serve(&request)?;
            }
        }
        if let Some(exit) = dev.poked(Duration::ZERO, false)? {
            return Ok((seen, exit.success()));
        }
        ensure!(Instant::now() < until, "the guest's discard has no end");
        dev.wait(Duration::from_millis(20))?;
    }
}

fn revoked(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        connect(dev, true)?;
        let seen = discard(dev, "", OKAY)?;
        ensure!(seen == (vec![0], true), "as offered: {seen:?}");
        // Linux does not tell whoever wants a discard that there is none.
        let (seen, _) = discard(dev, "", NOT_SUPPORTED)?;
        ensure!(seen == [0], "refused: {seen:?}");
        for option in ["", "-s"] {
            let until = Instant::now() + dev.timeout;
            loop {
                let (seen, content) = discard(dev, option, OKAY)?;
                ensure!(seen.is_empty(), "after that, {option:?}: {seen:?}");
                if !content {
                    break;
                }
                ensure!(Instant::now() < until, "the disk still says it discards");
            }
        }
        dev.verify()?;
        Ok(Passed)
    })
}

fn failed(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        connect(dev, false)?;
        let seen = discard(dev, "", ERROR)?;
        ensure!(seen == (vec![0], false), "failed: {seen:?}");
        let seen = discard(dev, "", OKAY)?;
        ensure!(seen == (vec![0], true), "after that: {seen:?}");
        dev.verify()?;
        Ok(Passed)
    })
}

fn secure(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|dev| {
        connect(dev, true)?;
        for (option, flag) in [("", 0), ("-s", 1)] {
            let seen = discard(dev, option, OKAY)?;
            ensure!(seen == (vec![flag], true), "{option:?}: {seen:?}");
        }
        Ok(Passed)
    })?;
    lab.with(|dev| {
        connect(dev, false)?;
        let seen = discard(dev, "-s", OKAY)?;
        ensure!(seen == (vec![], false), "not offered: {seen:?}");
        Ok(Passed)
    })
}
