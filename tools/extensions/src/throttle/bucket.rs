// SPDX-License-Identifier: GPL-2.0
//! The token bucket, without a clock.

use std::time::Duration;

/// A rate that is kept on average, and a burst above it.
///
/// It is kept as the time at which the bucket will be full again, which moves on with each request
/// by what that costs. A request that costs more than a full bucket goes through as well, late.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: u64,
    burst: Duration,
    full: Duration,
}

impl Bucket {
    /// `per_second` tokens come in a second, at least one; a full bucket has what comes in `burst`.
    pub fn new(per_second: u64, burst: Duration) -> Self {
        Self {
            per_second: per_second.max(1),
            burst,
            full: Duration::ZERO,
        }
    }

    /// Takes `amount` tokens at the time `now`, which never goes back: how long to wait before they
    /// may be used. Those who come later wait at least until then.
    pub fn take(&mut self, now: Duration, amount: u64) -> Duration {
        let nanos = (u128::from(amount) * 1_000_000_000).div_ceil(self.per_second.into());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.full = self.full.max(now).saturating_add(cost);
        self.full.saturating_sub(now).saturating_sub(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(100, 50 * MS);
        let waits: Vec<_> = (0..8).map(|_| bucket.take(Duration::ZERO, 1)).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 10, 20, 30].map(|n| n * MS));
        assert_eq!(bucket.take(1000 * MS, 1), Duration::ZERO);
        assert_eq!(bucket.take(1000 * MS, 100), 960 * MS);
        let mut strict = Bucket::new(1 << 20, Duration::ZERO);
        assert_eq!(strict.take(Duration::ZERO, 1 << 20), 1000 * MS);
        assert!(strict.take(Duration::ZERO, u64::MAX) > 1000 * MS);
    }

    #[test]
    fn no_window_has_more_than_rate_and_burst() {
        let random = Random::new(1);
        for _ in 0..100 {
            let (rate, burst) = (1 + random.below(5000), random.below(200));
            let mut bucket = Bucket::new(rate, burst as u32 * MS);
            let (mut now, mut used) = (Duration::ZERO, Vec::new());
            let most = 1 + random.below(100);
            for _ in 0..100 {
                now += Duration::from_micros(random.below(3) * random.below(50_000));
                let amount = 1 + random.below(most);
                used.push((now + bucket.take(now, amount), amount));
            }
            assert!(used.is_sorted_by_key(|(time, _)| *time));
            let full = (rate as f64 * burst as f64 / 1e3).max(most as f64);
            for first in 0..used.len() {
                let mut sum = 0;
                for (time, amount) in &used[first..] {
                    sum += amount;
                    let window = (*time - used[first].0).as_secs_f64();
                    assert!(sum as f64 <= full + rate as f64 * window + 0.001);
                }
            }
        }
    }

    #[test]
    fn the_rate_is_reached() {
        let mut bucket = Bucket::new(3000, 100 * MS);
        let last = (0..30_000).map(|_| bucket.take(Duration::ZERO, 1)).last();
        let late = last.unwrap().as_secs_f64() - 9.9;
        assert!((0.0..0.001).contains(&late), "{late}");
    }
}
