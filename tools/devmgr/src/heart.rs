// SPDX-License-Identifier: GPL-2.0
//! The heart of a driver domain: a node that the domain counts up while it is well.

use crate::Result;
use std::thread;
use std::time::{Duration, Instant};
use xen::store::Store;

/// The node, below the domain's directory; the domain may write there.
pub(crate) const NODE: &str = "data/heartbeat";

/// Beats until the end.
pub(crate) fn beat(interval: Duration) -> Result {
    let mut store = Store::open()?;
    for count in 1u64.. {
        store.write(NODE, count)?;
        thread::sleep(interval);
    }
    Ok(())
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
