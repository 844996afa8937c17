// SPDX-License-Identifier: GPL-2.0
//! Numbers that look random and can be had again from the same seed (splitmix64).

/// The generator's state.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of `of`, which is not empty.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A 64-bit number of the kind that breaks things: near 0, near a power of two, or anything.
    pub(crate) fn odd(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(16),
            1 => (1u64 << self.below(64))
                .wrapping_add(self.below(3))
                .wrapping_sub(1),
            2 => u64::MAX - self.below(16),
            _ => self.bits(),
        }
    }

    /// A value for an entry of the store: a number of that kind, with or without a sign, or text; if
    /// `long`, also one of many digits.
    pub(crate) fn value(&mut self, long: bool) -> String {
        match self.below(3 + u64::from(long)) {
            0 => self.odd().to_string(),
            1 => (self.odd() as i64).to_string(),
            2 if long => "9".repeat(self.below(200) as usize),
            _ => (0..self.below(100))
                .map(|_| (b' ' + self.below(95) as u8) as char)
                .collect(),
        }
    }

    /// Fills `to`.
    pub(crate) fn fill(&mut self, to: &mut [u8]) {
        for chunk in to.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
    }
}
