// SPDX-License-Identifier: GPL-2.0 OR MIT

//! How many requests a back end asks to be told of at once.
//!
//! A back end that is faster than its front end finds one packet at each event, and sleeps between
//! them: most of what a small packet costs is the event, and to sleep and wake up. While packets come
//! one after the other, and none goes the other way that they might answer, it may ask for the next
//! event when there are some of them, and look for itself after a while if there are not.

use core::num::NonZeroU64;

/// The pace of a transmit ring.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When the ring was found empty last, in nanoseconds.
    last: u64,
    /// How often in a row packets have come so soon that it would have been worth it.
    streak: u32,
    /// How often it has to be for that.
    wanted: u32,
    /// The answer of the last time.
    count: u32,
    /// Requests that have been taken since `last`, by looks that came too early.
    early: u32,
}

/// Before there are so many in a row, each packet has its event. Twice as many each time that one has
/// waited in vain: the front end may be waiting for it.
const STREAK: u32 = 16;

/// But not more.
const LONGEST: u32 = 1 << 14;

/// The most requests to be told of at once.
const MOST: u32 = 32;

impl Pace {
    /// At time 0, for a ring on which nothing has come.
    pub const fn new() -> Self {
        Self {
            last: 0,
            streak: 0,
            wanted: STREAK,
            count: 1,
            early: 0,
        }
    }

    /// The ring is empty again, at `now` nanoseconds, after `taken` requests. `alone`: no packet has
    /// gone the other way since the last time. No packet is to wait for longer than `delay` nanoseconds. Says how
    /// many requests, 1 to 32, are to come before the next event; if it is more than one, the ring
    /// is to be looked at after `delay` nanoseconds in any case.
    #[inline]
    pub fn next(&mut self, now: u64, taken: u32, alone: bool, delay: u64) -> u32 {
        let taken = self.early.saturating_add(taken);
        if taken == 0 && self.count == 1 {
            // Nobody has waited: an event or a timer of before.
            return 1;
        }
        let gap = now.wrapping_sub(self.last);
        if taken < self.count && gap < delay && alone {
            // As well, of which some have come meanwhile.
            self.early = taken;
            return self.count;
        }
        self.early = 0;
        self.last = now;
        self.count = self.after(gap, taken, alone, delay);
        self.count
    }

    #[inline]
    fn after(&mut self, gap: u64, taken: u32, alone: bool, delay: u64) -> u32 {
        let in_vain = taken < self.count && gap >= delay;
        if in_vain {
            self.wanted = self.wanted.saturating_mul(2).min(LONGEST);
        } else if self.count > 1 {
            self.wanted = STREAK;
        }
        if in_vain || !alone || gap / 2 >= delay {
            self.streak = 0;
            return 1;
        }
        if self.streak < self.wanted {
            self.streak = self.streak.wrapping_add(1);
            return 1;
        }
        let each = NonZeroU64::new(gap / u64::from(taken.max(1))).unwrap_or(NonZeroU64::MIN);
        // As many as come in three quarters of that time, so that it seldom runs out.
        let aim = (delay / 4).saturating_mul(3).saturating_add(each.get() / 2);
        let some = aim / each;
        let in_time = delay.saturating_sub(1) / each;
        some.min(in_time).clamp(1, u64::from(MOST)) as u32
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: u64 = 100_000;

    /// What is asked for after packets that came one at a time every `gap` nanoseconds.
    fn after(pace: &mut Pace, count: u64, gap: u64) -> u32 {
        (0..count).fold(0, |_, _| pace.next(pace.last + gap, 1, true, DELAY))
    }

    #[test]
    fn a_stream_is_told_of_by_several() {
        let mut pace = Pace::new();
        assert_eq!(after(&mut pace, 16, 30_000), 1);
        let mut next = |gap, taken| pace.next(pace.last + gap, taken, true, DELAY);
        assert_eq!(next(30_000, 1), 3);
        assert_eq!(next(90_000, 3), 3);
        // Late, for it takes time to wake up.
        assert_eq!(next(120_000, 3), 2);
        assert_eq!(next(99_998, 2), 2);
        assert_eq!(next(100_000, 2), 1);
        assert_eq!(next(5_000, 1), 15);
        assert_eq!(next(15_000, 150), MOST);
        assert_eq!(pace.next(pace.last, 64, true, DELAY), MOST);
    }

    #[test]
    fn all_else_is_told_of_at_once() {
        let mut pace = Pace::new();
        // Too seldom.
        assert_eq!(after(&mut pace, 100, DELAY), 1);
        assert_eq!(pace.next(pace.last + 2 * DELAY, 50, true, DELAY), 1);
        assert_eq!(after(&mut pace, 16, 30_000), 1);
        assert_eq!(pace.next(pace.last + 2 * DELAY - 2, 64, true, DELAY), 24);
        // The time has run out.
        assert_eq!(pace.next(pace.last + DELAY, 23, true, DELAY), 1);
        assert_eq!(after(&mut pace, 32, 30_000), 1);
        assert_eq!(after(&mut pace, 1, 30_000), 3);
        // Answers, or what is answered; nobody has waited in vain.
        assert_eq!(pace.next(pace.last + 90_000, 3, false, DELAY), 1);
        assert_eq!(after(&mut pace, 16, 30_000), 1);
        assert_eq!(after(&mut pace, 1, 30_000), 3);
        assert_eq!(pace.next(pace.last + DELAY, 1, true, DELAY), 1);
        assert_eq!(after(&mut pace, 32, 30_000), 1);
        assert_eq!(after(&mut pace, 1, 30_000), 3);
        assert_eq!(pace.next(pace.last + DELAY, 0, true, DELAY), 1);
        // An event or a timer of before.
        assert_eq!(pace.next(pace.last + 10, 0, true, DELAY), 1);
        assert_eq!(after(&mut pace, 64, 30_000), 1);
        assert_eq!(after(&mut pace, 1, 30_000), 3);
        assert_eq!(pace.next(pace.last + 90_000, 3, true, DELAY), 3);
        // The same when some are waited for, with none there, and with two of three.
        assert_eq!(pace.next(pace.last + 10, 0, true, DELAY), 3);
        assert_eq!(pace.next(pace.last + 60_000, 2, true, DELAY), 3);
        assert_eq!(pace.next(pace.last + 150_000, 3, true, DELAY), 3);
        assert_eq!(pace.next(pace.last + 60_000, 2, true, DELAY), 3);
        // But not if they are answers, nor for ever.
        assert_eq!(pace.next(pace.last + 70_000, 0, false, DELAY), 1);
        assert_eq!(after(&mut pace, 16, 30_000), 1);
        assert_eq!(after(&mut pace, 1, 30_000), 3);
        assert_eq!(pace.next(pace.last + 60_000, 2, true, DELAY), 3);
        assert_eq!(pace.next(pace.last + DELAY, 0, true, DELAY), 1);
        // It is switched off.
        assert_eq!(pace.next(pace.last, 64, true, 0), 1);
    }
}
