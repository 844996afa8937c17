// SPDX-License-Identifier: GPL-2.0
//! Random numbers that are the same each time, for faults and for tests.

use std::cell::Cell;

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Random(Cell<u64>);

impl Random {
    /// The same numbers for the same `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next.
    pub fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let x = self.0.get();
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// One of `0..end`.
    pub fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    /// Fills `bytes`.
    #[cfg(test)]
    pub fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}
