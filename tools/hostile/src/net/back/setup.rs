// SPDX-License-Identifier: GPL-2.0
//! Store entries and states that are wrong. The front end refuses the interface, or does without what
//! is wrong; either way it stays in good order.

use std::time::{Duration, Instant};

use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::net::frames;
use crate::nodes::{CLOSED, CLOSING, CONNECTED, INITIALISING, INIT_WAIT};
use crate::random::Random;
use crate::{ensure, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("rx-copy", "no feature-rx-copy: refused", rx_copy),
    Scenario::new("mac", "hardware addresses that are none: refused", mac),
    Scenario::new(
        "queues",
        "0, very many, a negative number of queues, text: served, by a few",
        queues,
    ),
    Scenario::new(
        "features",
        "nonsense in everything that is optional: served",
        features,
    ),
    Scenario::new(
        "bare",
        "nothing offered but what must be, no control ring: served",
        bare,
    ),
    Scenario::new("mtu", "an MTU that is none: served", mtu),
    Scenario::new(
        "connected-first",
        "Connected at once, then as it should be: served",
        connected_first,
    ),
    Scenario::new(
        "closing-first",
        "Closing at once: closed; Closed at once: waited for",
        closing_first,
    ),
    Scenario::new(
        "state-garbage",
        "states that do not exist, in between: served",
        state_garbage,
    ),
    Scenario::new(
        "state-back",
        "earlier states while connected: goes on, or ends in good order",
        state_back,
    ),
    Scenario::new(
        "state-waits",
        "InitWait again before it is Connected: served as soon as there are rings",
        state_waits,
    ),
    Scenario::new(
        "state-away",
        "InitWait while connected: nothing is sent; Connected: served",
        state_away,
    ),
    Scenario::new(
        "state-flapping",
        "states in quick random order",
        state_flapping,
    ),
    Scenario::new(
        "connected-again",
        "Connected again and again: served",
        connected_again,
    ),
];

fn rx_copy(lab: &mut Lab) -> Result<Outcome> {
    for value in [None, Some("0"), Some("banana"), Some("")] {
        lab.with(|vif| {
            vif.offer()?;
            match value {
                Some(value) => vif.put("feature-rx-copy", value)?,
                None => vif.unset("feature-rx-copy")?,
            }
            vif.set_state(INIT_WAIT)?;
            vif.await_state(&[CLOSING, CLOSED])
                .map_err(|e| format!("{value:?}: {e}"))?;
            Ok(())
        })?;
    }
    Ok(Passed)
}

fn mac(lab: &mut Lab) -> Result<Outcome> {
    for mac in [
        "banana",
        " ",
        "00:16:3e:0a:00",
        "00:16:3e:0a:00:01:02",
        "00:16:3e:0a:00:1ff",
        "00-16-3e-0a-00-01",
    ] {
        lab.with_mac(mac, |vif| {
            vif.offer()?;
            vif.set_state(INIT_WAIT)?;
            vif.await_state(&[CLOSING, CLOSED])
                .map_err(|e| format!("{mac:?}: {e}"))?;
            Ok(())
        })?;
    }
    Ok(Passed)
}

fn queues(lab: &mut Lab) -> Result<Outcome> {
    for value in [
        "0",
        "1000000",
        "4294967295",
        "18446744073709551616",
        "-1",
        "banana",
    ] {
        lab.with(|vif| {
            vif.offer()?;
            vif.put("multi-queue-max-queues", value)?;
            vif.finish_connect()?;
            ensure!(
                vif.queues.len() <= 8,
                "{} queues with {value:?}",
                vif.queues.len()
            );
            vif.verify().map_err(|e| format!("{value:?}: {e}").into())
        })?;
    }
    Ok(Passed)
}

fn features(lab: &mut Lab) -> Result<Outcome> {
    for value in ["banana", "-1", "4294967295", "999999999999999999999999"] {
        lab.with(|vif| {
            vif.offer()?;
            for key in [
                "feature-rx-flip",
                "feature-sg",
                "feature-gso-tcpv4",
                "feature-gso-tcpv6",
                "feature-no-csum-offload",
                "feature-ipv6-csum-offload",
                "feature-split-event-channels",
                "feature-multicast-control",
                "feature-dynamic-multicast-control",
                "feature-ctrl-ring",
                "feature-xdp-headroom",
                "carrier",
            ] {
                vif.put(key, value)?;
            }
            vif.finish_connect()?;
            vif.verify().map_err(|e| format!("{value:?}: {e}").into())
        })?;
    }
    Ok(Passed)
}

fn bare(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.put("feature-rx-copy", 1)?;
        vif.finish_connect()?;
        vif.verify()?;
        let sent = vif.trigger()?;
        ensure!(sent.requests.len() == 1, "several parts: {sent:?}");
        vif.answer(&sent, 0)
    })
}

fn mtu(lab: &mut Lab) -> Result<Outcome> {
    for value in ["banana", "0", "-1", "67", "65536", "4294967295", ""] {
        lab.with(|vif| {
            vif.put_theirs("mtu", value)?;
            vif.put("mtu", value)?;
            vif.connect()?;
            vif.verify().map_err(|e| format!("{value:?}: {e}").into())
        })?;
    }
    Ok(Passed)
}

fn connected_first(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.offer()?;
        vif.set_state(CONNECTED)?;
        std::thread::sleep(Duration::from_millis(100));
        vif.finish_connect()?;
        vif.verify()
    })
}

fn closing_first(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.set_state(CLOSING)?;
        vif.await_state(&[CLOSED]).map(drop)
    })?;
    // That is of the connection before.
    lab.with(|vif| {
        vif.set_state(CLOSED)?;
        std::thread::sleep(Duration::from_millis(100));
        vif.connect()?;
        vif.verify()
    })
}

fn state_garbage(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        for state in ["banana", "99", "-1", ""] {
            vif.set_state(state)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        vif.connect()?;
        for state in ["banana", "99", "7", "8"] {
            vif.set_state(state)?;
            vif.serve_for(Duration::from_millis(50))?;
        }
        vif.set_state(CONNECTED)?;
        vif.verify()
    })
}

fn state_back(lab: &mut Lab) -> Result<Outcome> {
    for state in [INITIALISING, INIT_WAIT] {
        lab.with(|vif| {
            vif.connect()?;
            vif.verify()?;
            vif.set_state(state)?;
            vif.serve_for(Duration::from_millis(100))
        })?;
    }
    Ok(Passed)
}

fn state_waits(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.offer()?;
        vif.set_state(INIT_WAIT)?;
        vif.attach()?;
        for _ in 0..3 {
            vif.set_state(INIT_WAIT)?;
            vif.serve_for(Duration::from_millis(100))?;
        }
        vif.verify()?;
        vif.set_state(CONNECTED)?;
        vif.verify()
    })
}

fn state_away(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        vif.verify()?;
        for _ in 0..2 {
            let until = Instant::now() + vif.timeout;
            loop {
                vif.set_state(INIT_WAIT)?;
                vif.serve_for(Duration::from_millis(200))?;
                vif.frames.clear();
                for _ in 0..5 {
                    vif.send(&frames::arp_request(vif.way()), &[])?;
                }
                vif.serve_for(Duration::from_millis(100))?;
                if vif.frames.is_empty() {
                    break;
                }
                let late = Instant::now() >= until;
                ensure!(!late, "it sends to a back end that is away");
                // Perhaps it has not seen Connected yet, and takes this for the InitWait before that.
                vif.set_state(CONNECTED)?;
                vif.serve_for(Duration::from_millis(200))?;
            }
            vif.set_state(CONNECTED)?;
            vif.verify()?;
        }
        Ok(())
    })
}

fn state_flapping(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.options.seed);
    for _ in 0..3 {
        lab.with(|vif| {
            vif.offer()?;
            for _ in 0..20 {
                vif.set_state(1 + random.below(6))?;
            }
            Ok(())
        })?;
    }
    Ok(Passed)
}

fn connected_again(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        vif.verify()?;
        for _ in 0..10 {
            vif.set_state(CONNECTED)?;
        }
        vif.verify()
    })
}
