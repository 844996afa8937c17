// SPDX-License-Identifier: GPL-2.0
//! Which clusters are in the delta: a bit each, of which blocks are dirty until they are written.

use super::header::BLOCK;
use std::collections::BTreeSet;
use std::ops::Range;

/// Clusters of a block of the map.
const PER_BLOCK: u64 = BLOCK * 8;

/// A bit for each cluster.
pub struct Map {
    bits: Vec<u8>,
    clusters: u64,
    /// Blocks with bits that are not in the file.
    dirty: BTreeSet<u64>,
}

impl Map {
    /// `bits` as they are in the file. Those behind the last cluster do not count.
    pub fn new(bits: Vec<u8>, clusters: u64) -> Self {
        Self {
            bits,
            clusters,
            dirty: BTreeSet::new(),
        }
    }

    fn byte(&self, cluster: u64) -> u8 {
        self.bits.get((cluster / 8) as usize).copied().unwrap_or(0)
    }

    /// Whether `cluster` is in the delta.
    pub fn get(&self, cluster: u64) -> bool {
        self.byte(cluster) & (1 << (cluster % 8)) != 0
    }

    /// Whether the first of `clusters` is in the delta, and how far this holds.
    pub fn run(&self, clusters: Range<u64>) -> (Range<u64>, bool) {
        let set = self.get(clusters.start);
        let same = if set { 0xff } else { 0 };
        let mut at = clusters.start;
        while at < clusters.end {
            if at % 8 == 0 && self.byte(at) == same {
                at += 8;
            } else if self.get(at) == set {
                at += 1;
            } else {
                break;
            }
        }
        (clusters.start..at.min(clusters.end), set)
    }

    /// All runs of `clusters`, in order.
    pub fn runs(&self, clusters: Range<u64>) -> impl Iterator<Item = (Range<u64>, bool)> + '_ {
        let mut at = clusters.start;
        std::iter::from_fn(move || {
            if at >= clusters.end {
                return None;
            }
            let (run, set) = self.run(at..clusters.end);
            at = run.end;
            Some((run, set))
        })
    }

    /// All clusters of the disk.
    pub fn whole(&self) -> Range<u64> {
        0..self.clusters
    }

    /// Whether all of `clusters` are in the delta.
    pub fn all(&self, clusters: Range<u64>) -> bool {
        clusters.is_empty() || self.run(clusters.clone()) == (clusters, true)
    }

    /// `clusters` are in the delta now.
    pub fn set(&mut self, clusters: Range<u64>) {
        for cluster in clusters {
            let bit = 1 << (cluster % 8);
            if let Some(byte) = self.bits.get_mut((cluster / 8) as usize) {
                if *byte & bit == 0 {
                    *byte |= bit;
                    self.dirty.insert(cluster / PER_BLOCK);
                }
            }
        }
    }

    /// Those of `bits` are in the delta, too.
    pub fn add(&mut self, bits: &[u8]) {
        for (byte, bits) in (0..self.clusters.div_ceil(8)).zip(bits) {
            if *bits != 0 {
                let set = (0..8).filter(|bit| bits >> bit & 1 != 0);
                let clusters = set.map(|bit| byte * 8 + bit);
                clusters.for_each(|it| self.set(it..self.clusters.min(it + 1)));
            }
        }
    }

    /// The bytes that have the bits of `clusters`, and the number of the first.
    pub fn bytes(&self, clusters: Range<u64>) -> (u64, &[u8]) {
        let (first, end) = (clusters.start / 8, clusters.end.div_ceil(8));
        let bytes = self.bits.get(first as usize..end as usize);
        (first, bytes.unwrap_or(&[]))
    }

    /// No cluster is in the delta now.
    pub fn clear(&mut self) {
        self.bits.fill(0);
        self.dirty = (0..self.bits.len() as u64 / BLOCK).collect();
    }

    /// Whether the file has the bits of `clusters`, as far as nobody writes them now.
    pub fn is_clean(&self, clusters: Range<u64>) -> bool {
        let last = clusters.end.saturating_sub(1) / PER_BLOCK;
        let blocks = clusters.start / PER_BLOCK..=last;
        self.dirty.range(blocks).next().is_none()
    }

    /// The blocks that are to be written. They count as clean from now on.
    pub fn take_dirty(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.dirty)
    }

    /// `blocks` are not in the file after all.
    pub fn mark_dirty(&mut self, blocks: &BTreeSet<u64>) {
        self.dirty.extend(blocks);
    }

    /// A block of the map.
    pub fn block(&self, block: u64) -> &[u8] {
        let start = (block * BLOCK) as usize;
        self.bits.get(start..start + BLOCK as usize).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn it_is_a_set_of_numbers() {
        let random = Random::new(1);
        for _ in 0..50 {
            let clusters = 1 + random.below(40000);
            let bytes = clusters.div_ceil(8).next_multiple_of(BLOCK);
            let mut map = Map::new(vec![0; bytes as usize], clusters);
            let mut set = BTreeSet::new();
            for _ in 0..random.below(20) {
                let start = random.below(clusters);
                let end = start + random.below(clusters - start).min(900);
                map.set(start..end);
                set.extend(start..end);
                let dirty: BTreeSet<u64> = set.iter().map(|n| n / PER_BLOCK).collect();
                assert_eq!(map.dirty, dirty);
            }
            let mut next = 0;
            for (run, is_set) in map.runs(map.whole()) {
                assert_eq!(run.start, next);
                next = run.end;
                assert!(run.clone().all(|n| set.contains(&n) == is_set));
                assert_eq!(map.all(run), is_set);
            }
            assert_eq!(next, clusters);
            let taken = map.take_dirty();
            assert!(map.is_clean(map.whole()));
            map.mark_dirty(&taken);
            assert_eq!(map.is_clean(map.whole()), taken.is_empty());
            let bits: Vec<u8> = (0..bytes / BLOCK)
                .flat_map(|n| map.block(n).to_vec())
                .collect();
            assert_eq!(bits, map.bits);
        }
    }
}
