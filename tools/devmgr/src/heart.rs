// SPDX-License-Identifier: GPL-2.0
//! The heart of a driver domain: a node that the domain counts up while it is well.

use crate::args::Heartbeat;
use crate::{log, plain, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use xen::store::Store;

/// The node, below the domain's directory; the domain may write there. 0 in a domain that is up and
/// waits for its disks.
pub(crate) const NODE: &str = "data/heartbeat";
/// How often it is looked whether the disks have come, and for how long after something has changed.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(10));

/// Beats until the end, and serves what is attached again.
pub(crate) fn beat(args: &Heartbeat) -> Result {
    let mut store = Store::open()?;
    await_disks(&mut store, &args.wait)?;
    for path in [plain::AGAIN, "backend"] {
        store.watch(path, "look")?;
    }
    for count in 1u64.. {
        store.write(NODE, count)?;
        let next = Instant::now() + args.interval;
        // The first events come at once.
        while store.event_of("look", next.saturating_duration_since(Instant::now()))? {
            if let Err(e) = plain::serve_all(&mut store) {
                log::line("", format_args!("{e}"));
            }
        }
    }
    Ok(())
}

/// Waits until all of `paths` are there.
fn await_disks(store: &mut Store, paths: &[PathBuf]) -> Result {
    if paths.is_empty() {
        return Ok(());
    }
    store.write(NODE, 0)?;
    store.watch("device", "disks")?;
    let mut busy = Instant::now();
    while !paths.iter().all(|path| path.exists()) {
        let (nap, long) = LOOK;
        let quiet = busy.elapsed() > long;
        if store.event_of("disks", if quiet { long } else { nap })? {
            busy = Instant::now();
        }
    }
    Ok(store.unwatch("device", "disks")?)
}

/// Whether the value of the node is that of a domain that can serve.
pub(crate) fn can_serve(value: Option<&str>) -> bool {
    value.is_some_and(|value| value != "0")
}

/// What is known of a heart: its last value, and since when it has that.
#[derive(Debug)]
pub(crate) struct Heart {
    last: Option<String>,
    since: Instant,
}

impl Heart {
    /// One that has not beaten yet.
    pub(crate) fn new(now: Instant) -> Self {
        Heart {
            last: None,
            since: now,
        }
    }

    /// Takes note of the node's value.
    pub(crate) fn look(&mut self, value: Option<String>, now: Instant) {
        if value.is_some() && value != self.last {
            self.last = value;
            self.since = now;
        }
    }

    /// Whether it has ever beaten.
    pub(crate) fn beats(&self) -> bool {
        self.last.is_some()
    }

    /// How long it may still stand still; `None` for ever: `limit` is 0, or the domain has no heart.
    pub(crate) fn left(&self, limit: Duration, now: Instant) -> Option<Duration> {
        if limit.is_zero() || !self.beats() {
            return None;
        }
        Some((self.since + limit).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_that_stands_still_is_noticed() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let value = |n: u32| Some(n.to_string());
        let mut heart = Heart::new(start);
        heart.look(None, start);
        assert!(!heart.beats());
        assert_eq!(heart.left(second, start + second * 9), None);
        heart.look(value(1), start);
        assert_eq!(heart.left(second * 3, start + second), Some(second * 2));
        // The same value again is no beat, nor is a node that has gone.
        heart.look(value(1), start + second * 2);
        heart.look(None, start + second * 2);
        assert_eq!(heart.left(second * 3, start + second * 2), Some(second));
        heart.look(value(2), start + second * 2);
        assert_eq!(heart.left(second * 3, start + second * 2), Some(second * 3));
        assert_eq!(
            heart.left(second * 3, start + second * 7),
            Some(Duration::ZERO)
        );
        assert_eq!(heart.left(Duration::ZERO, start + second * 7), None);
    }
}
