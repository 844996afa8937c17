// SPDX-License-Identifier: GPL-2.0
//! A block's contents: in each sector its number, how often it has been written, and a pattern of
//! both.

/// Bytes of a block.
pub(crate) const SIZE: usize = 4096;
const SECTOR: usize = 512;

/// A buffer for a block, placed as direct I/O wants it.
pub(crate) struct Block {
    memory: Vec<u8>,
    start: usize,
}

impl Block {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let memory = vec![0; 2 * SIZE];
        let start = memory.as_ptr().align_offset(SIZE);
        Block { memory, start }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + SIZE]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + SIZE]
    }

    /// Overwrites it with nothing, before it is read into.
    pub(crate) fn clear(&mut self) {
        self.bytes_mut().fill(0);
    }

    /// Makes it that of block `number`, written for the `count`th time.
    pub(crate) fn fill(&mut self, number: u64, count: u64) {
        for (i, word) in self.bytes_mut().chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&Self::word(i, number, count).to_le_bytes());
        }
    }

    /// What stands at word `i` of the block.
    fn word(i: usize, number: u64, count: u64) -> u64 {
        match i % (SECTOR / 8) {
            0 => number,
            1 => count,
            _ => (number << 40 ^ count << 16 ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Whether it is that; what it is instead.
    pub(crate) fn check(&self, number: u64, count: u64) -> Result<(), String> {
        let words = self.bytes().chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_le_bytes(bytes)
        });
        let words: Vec<_> = words.collect();
        let good = |i: usize| words[i] == Self::word(i, number, count);
        match (0..words.len()).find(|i| !good(*i)) {
            None => Ok(()),
            Some(i) => {
                let sector = i / (SECTOR / 8);
                let at = sector * (SECTOR / 8);
                let (number, count) = (words[at], words[at + 1]);
                Err(format!(
                    "sector {sector} is of block {number}, count {count}"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_is_right() {
        let mut block = Block::new();
        assert_eq!(block.bytes().as_ptr().align_offset(SIZE), 0);
        block.fill(7, 3);
        assert_eq!(block.check(7, 3), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let mut block = Block::new();
        block.fill(7, 2);
        // A write that was lost, or an older one that came again.
        assert_eq!(
            block.check(7, 3),
            Err("sector 0 is of block 7, count 2".into())
        );
        // One that went elsewhere.
        assert!(block.check(8, 2).is_err());
        // A torn one.
        let old = block.bytes()[6 * SECTOR..].to_vec();
        block.fill(7, 3);
        block.bytes_mut()[6 * SECTOR..].copy_from_slice(&old);
        assert_eq!(
            block.check(7, 3),
            Err("sector 6 is of block 7, count 2".into())
        );
        // A flipped bit anywhere.
        for byte in (0..SIZE).step_by(97) {
            block.fill(7, 3);
            block.bytes_mut()[byte] ^= 0x10;
            assert!(block.check(7, 3).is_err(), "byte {byte}");
        }
        block.clear();
        assert!(block.check(7, 3).is_err());
    }
}
