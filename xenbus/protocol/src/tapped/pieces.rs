// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Which pages of a data window are in use: pieces, each some pages in a row.

use core::ops::DerefMut;

/// Some pages in a row; it may be none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The first page.
    pub at: u32,
    /// How many.
    pub pages: u32,
}

/// The free pages of a window: a bit for each page in use.
///
/// A piece is looked for from where the last one was taken, or one before that was given back: the
/// search is short, and pages that were used lately are used again.
pub struct Pieces<S> {
    bits: S,
    pages: u32,
    next: u32,
    used: u32,
}

const BITS: u32 = u64::BITS;

impl<S: DerefMut<Target = [u64]>> Pieces<S> {
    /// All of `pages` pages are free, or as many as `bits` has bits; what is in those does not
    /// matter.
    pub fn new(mut bits: S, pages: u32) -> Self {
        let mut room = 0u32;
        for word in bits.iter_mut() {
            *word = 0;
            room = room.saturating_add(BITS);
        }
        Self {
            bits,
            pages: pages.min(room),
            next: 0,
            used: 0,
        }
    }

    /// How many pages are in use.
    #[inline]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Takes `count` pages in a row, if there are so many free ones.
    #[inline]
    pub fn take(&mut self, count: u32) -> Option<Piece> {
        if count == 0 {
            return Some(Piece::default());
        }
        let at = self
            .find(self.next, self.pages, count)
            // What begins before `next` may end behind it.
            .or_else(|| self.find(0, self.next.saturating_add(count).min(self.pages), count))?;
        let piece = Piece { at, pages: count };
        self.mark(piece, true);
        self.next = at.wrapping_add(count);
        Some(piece)
    }

    /// Gives a piece back.
    #[inline]
    pub fn give(&mut self, piece: Piece) {
        self.mark(piece, false);
        // What was used last is in the caches.
        if piece.pages > 0 {
            self.next = self.next.min(piece.at);
        }
    }

    fn is_used(&self, page: u32) -> bool {
        self.bits
            .get((page / BITS) as usize)
            .is_none_or(|word| word >> (page % BITS) & 1 != 0)
    }

    /// The first of `count` free pages in a row, all from `from` on and before `end`.
    #[inline]
    fn find(&self, from: u32, end: u32, count: u32) -> Option<u32> {
        let (mut at, mut free) = (from, 0u32);
        while at < end {
            // A word that is full is skipped as a whole.
            if at % BITS == 0 && self.bits.get((at / BITS) as usize) == Some(&u64::MAX) {
                free = 0;
                at = at.wrapping_add(BITS);
                continue;
            }
            free = if self.is_used(at) {
                0
            } else {
                free.wrapping_add(1)
            };
            at = at.wrapping_add(1);
            if free == count {
                return Some(at.wrapping_sub(count));
            }
        }
        None
    }

    fn mark(&mut self, piece: Piece, used: bool) {
        for page in piece.at..piece.at.saturating_add(piece.pages).min(self.pages) {
            let Some(word) = self.bits.get_mut((page / BITS) as usize) else {
                continue;
            };
            let bit = 1 << (page % BITS);
            match used {
                true if *word & bit == 0 => {
                    *word |= bit;
                    self.used = self.used.wrapping_add(1);
                }
                false if *word & bit != 0 => {
                    *word &= !bit;
                    self.used = self.used.wrapping_sub(1);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    #[test]
    fn the_whole_window_and_no_more() {
        let mut pieces = Pieces::new(vec![u64::MAX; 4], 256);
        assert_eq!(pieces.take(257), None);
        let all = Piece { at: 0, pages: 256 };
        assert_eq!(pieces.take(256), Some(all));
        assert_eq!(pieces.take(1), None);
        assert_eq!(pieces.take(0), Some(Piece::default()));
        pieces.give(all);
        assert_eq!(pieces.used(), 0);
        assert_eq!(pieces.take(256), Some(all));
    }

    #[test]
    fn a_piece_across_the_one_taken_last() {
        let mut pieces = Pieces::new(vec![0; 2], 100);
        let first = pieces.take(40).unwrap();
        let second = pieces.take(20).unwrap();
        pieces.give(first);
        pieces.give(second);
        assert_eq!(pieces.take(70), Some(Piece { at: 0, pages: 70 }));
    }

    proptest! {
        #[test]
        fn pieces_never_overlap(
            steps in proptest::collection::vec((0usize..8, 1u32..40), 0..200),
        ) {
            let mut pieces = Pieces::new(vec![0; 3], 150);
            let mut taken: Vec<Piece> = Vec::new();
            let mut used = [false; 150];
            for (which, count) in steps {
                if which < taken.len() && count % 2 == 0 {
                    let piece = taken.swap_remove(which);
                    pieces.give(piece);
                    for page in piece.at..piece.at + piece.pages {
                        used[page as usize] = false;
                    }
                } else if let Some(piece) = pieces.take(count) {
                    prop_assert_eq!(piece.pages, count);
                    for page in piece.at..piece.at + piece.pages {
                        prop_assert!(!used[page as usize]);
                        used[page as usize] = true;
                    }
                    taken.push(piece);
                } else {
                    let free = used.split(|used| *used).map(<[bool]>::len).max();
                    prop_assert!(free.unwrap() < count as usize, "there was room");
                }
                prop_assert_eq!(pieces.used() as usize, used.iter().filter(|used| **used).count());
            }
        }
    }
}
