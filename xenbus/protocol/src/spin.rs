// SPDX-License-Identifier: GPL-2.0 OR MIT

//! How long a thread looks at a ring before it sleeps.
//!
//! To sleep until an event comes costs two context switches, an interrupt, and a hypercall at either
//! end; to look at the ring over and over costs a CPU. Which is the better one depends on how soon
//! there is something to do again, which [`Spin`] learns from how long the thread has slept.

/// When a thread spins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Never: it sleeps as soon as there is nothing to do.
    Never = 0,
    /// As long as that has been worth it lately.
    #[default]
    Adaptive = 1,
    /// Always: it never sleeps.
    Always = 2,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Never, Self::Adaptive, Self::Always];

    /// The name that users know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Adaptive => "adaptive",
            Self::Always => "always",
        }
    }

    /// Its name, in brackets if it is `chosen`: so a file in sysfs shows what there is to choose from.
    pub fn marked(self, chosen: Self) -> &'static str {
        match (self, self == chosen) {
            (Self::Never, true) => "[never]",
            (Self::Adaptive, true) => "[adaptive]",
            (Self::Always, true) => "[always]",
            (_, false) => self.name(),
        }
    }

    /// The mode with this name or number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        let number = text.parse::<u8>().ok();
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text || number == Some(*mode as u8))
    }
}

/// What a thread that begins to spin spins at least, in ns: about what it costs to sleep.
const LEAST: u64 = 10_000;

/// How long a thread spins, in ns.
///
/// It begins with nothing. A sleep that a spin of less than `max` would have spared doubles the next
/// one; a longer sleep halves it, down to nothing. So a device that is busy soon finds its thread
/// awake, and one that is idle costs less than `2 * max` in all from the last request on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spin {
    length: u64,
}

impl Spin {
    /// How long to spin before a sleep; [`u64::MAX`]: without an end.
    #[inline]
    pub fn length(&self, mode: Mode, max: u64) -> u64 {
        match mode {
            Mode::Never => 0,
            Mode::Adaptive => self.length.min(max),
            Mode::Always => u64::MAX,
        }
    }

    /// The thread has spun for [`Spin::length`] in vain, and then slept for `ns`.
    #[inline]
    pub fn slept(&mut self, ns: u64, max: u64) {
        let spared = ns.saturating_add(self.length) < max;
        self.length = if spared {
            self.length.saturating_mul(2).clamp(LEAST.min(max), max)
        } else {
            let half = self.length / 2;
            if half < LEAST {
                0
            } else {
                half
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100_000;

    #[test]
    fn names_and_numbers() {
        for mode in Mode::ALL {
            assert_eq!(Mode::parse(mode.name()), Some(mode));
            let number = std::format!(" {}\n", mode as u8);
            assert_eq!(Mode::parse(&number), Some(mode));
            assert_eq!(mode.marked(mode), std::format!("[{}]", mode.name()));
            assert_eq!(mode.marked(Mode::ALL[(mode as usize + 1) % 3]), mode.name());
        }
        for text in ["", "3", "-1", "Always", "always never"] {
            assert_eq!(Mode::parse(text), None);
        }
    }

    #[test]
    fn modes() {
        let mut spin = Spin::default();
        assert_eq!(spin.length(Mode::Adaptive, MAX), 0, "it begins asleep");
        spin.slept(0, MAX);
        assert_eq!(spin.length(Mode::Never, MAX), 0);
        assert_eq!(spin.length(Mode::Adaptive, MAX), LEAST);
        assert_eq!(spin.length(Mode::Adaptive, 5), 5, "a limit lowered since");
        assert_eq!(spin.length(Mode::Always, MAX), u64::MAX);
    }

    #[test]
    fn busy_devices_stay_awake() {
        let mut spin = Spin::default();
        for _ in 0..10 {
            spin.slept(20_000, MAX);
        }
        let length = spin.length(Mode::Adaptive, MAX);
        assert!((20_000..=MAX).contains(&length), "{length}");
    }

    #[test]
    fn idle_devices_cost_nothing() {
        for sleep in [MAX, MAX + 1, 1_000_000_000, u64::MAX] {
            let mut spin = Spin { length: MAX };
            let mut spun = 0;
            for _ in 0..20 {
                spun += spin.length(Mode::Adaptive, MAX);
                spin.slept(sleep, MAX);
            }
            assert!(spun <= 2 * MAX, "{spun}");
            assert_eq!(spin.length(Mode::Adaptive, MAX), 0);
        }
    }

    #[test]
    fn any_numbers() {
        let mut spin = Spin::default();
        for (ns, max) in [(0, 0), (u64::MAX, u64::MAX), (0, u64::MAX), (1, 1)] {
            for _ in 0..70 {
                spin.slept(ns, max);
                assert!(spin.length(Mode::Adaptive, max) <= max);
            }
        }
    }
}
