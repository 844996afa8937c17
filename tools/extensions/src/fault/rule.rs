// SPDX-License-Identifier: GPL-2.0
//! Which requests are hit.

use crate::random::Random;
use std::ops::Range;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A read.
    Read,
    /// A write, also of zeroes.
    Write,
    /// A flush.
    Flush,
    /// A discard.
    Discard,
}

/// Their names, as in the option `op`.
pub const NAMES: [(&str, Op); 4] = [
    ("read", Op::Read),
    ("write", Op::Write),
    ("flush", Op::Flush),
    ("discard", Op::Discard),
];

/// Which requests are hit: those that match in all respects.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Of these.
    pub ops: Vec<Op>,
    /// With a byte in this; a flush has none, and matches if this is everything.
    pub bytes: Range<u64>,
    /// Of those that match so far, only the nth, counted from 1.
    pub nth: Option<u64>,
    /// Of those that match so far, each nth.
    pub every: u64,
    /// Of those, by chance, so many of 2³².
    pub chance: u64,
    /// Not more than so many.
    pub times: u64,
    /// How many have matched in op and bytes.
    pub seen: u64,
    /// How many were hit.
    pub hit: u64,
    /// What makes chance the same every time.
    pub random: Random,
}

impl Rule {
    /// Whether this request is hit. Each is asked about once.
    pub fn hits(&mut self, op: Op, at: u64, len: u64) -> bool {
        let inside = match op {
            Op::Flush => self.bytes == (0..u64::MAX),
            _ => at < self.bytes.end && self.bytes.start < at.saturating_add(len),
        };
        if !self.ops.contains(&op) || !inside {
            return false;
        }
        self.seen += 1;
        let counted = self.nth.is_none_or(|nth| nth == self.seen) && self.seen % self.every == 0;
        let hit = counted && self.hit < self.times && self.random.next() >> 32 < self.chance;
        self.hit += u64::from(hit);
        hit
    }
}

/// A chance of 1.
pub const ALWAYS: u64 = 1 << 32;

/// The chance in a text: a number from 0 to 1, or of percent.
pub fn chance(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let chance = number.parse::<f64>().ok()? / unit;
    (0.0..=1.0)
        .contains(&chance)
        .then_some((chance * ALWAYS as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            ops: vec![Op::Write, Op::Flush],
            bytes: 1000..2000,
            nth: None,
            every: 1,
            chance: ALWAYS,
            times: u64::MAX,
            seen: 0,
            hit: 0,
            random: Random::new(1),
        }
    }

    #[test]
    fn ops_and_bytes() {
        let mut rule = rule();
        assert!(rule.hits(Op::Write, 0, 1001) && rule.hits(Op::Write, 1999, 1));
        assert!(!rule.hits(Op::Write, 0, 1000) && !rule.hits(Op::Write, 2000, 9));
        assert!(!rule.hits(Op::Read, 1500, 1) && !rule.hits(Op::Discard, 1500, 1));
        assert!(!rule.hits(Op::Flush, 0, 0));
        rule.bytes = 0..u64::MAX;
        assert!(rule.hits(Op::Flush, 0, 0));
    }

    #[test]
    fn counting() {
        let hits = |mut rule: Rule| -> Vec<u32> {
            (1..=9).filter(|_| rule.hits(Op::Write, 1500, 1)).collect()
        };
        let base = rule();
        assert_eq!(
            hits(Rule {
                nth: Some(4),
                ..base.clone()
            }),
            [4]
        );
        assert_eq!(
            hits(Rule {
                every: 4,
                ..base.clone()
            }),
            [4, 8]
        );
        assert_eq!(
            hits(Rule {
                times: 2,
                ..base.clone()
            }),
            [1, 2]
        );
        assert_eq!(
            hits(Rule {
                times: 1,
                every: 3,
                ..base.clone()
            }),
            [3]
        );
        assert!(hits(Rule { chance: 0, ..base }).is_empty());
    }

    #[test]
    fn chances() {
        let third = chance("33.3%").unwrap();
        let count = |seed| {
            let mut rule = Rule {
                chance: third,
                random: Random::new(seed),
                ..rule()
            };
            let hits: Vec<bool> = (0..10_000).map(|_| rule.hits(Op::Write, 1500, 1)).collect();
            (rule.hit, hits)
        };
        for seed in 0..5 {
            let (hit, hits) = count(seed);
            assert!((3100..3560).contains(&hit), "{hit}");
            assert!(hits == count(seed).1 && hits != count(seed + 1).1);
        }
        assert_eq!(
            (chance("1"), chance("0"), chance("100%")),
            (Some(ALWAYS), Some(0), Some(ALWAYS))
        );
        assert!(["1.1", "-1", "x", "", "%", "NaN"]
            .iter()
            .all(|text| chance(text).is_none()));
    }
}
