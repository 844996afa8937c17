// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Numbers in a row, in memory that does not grow.

use core::ops::DerefMut;

/// A queue of as many numbers as `S` has places.
pub struct Fifo<S> {
    places: S,
    first: usize,
    len: usize,
}

impl<S: DerefMut<Target = [u16]>> Fifo<S> {
    /// An empty queue; what is in `places` does not matter.
    pub fn new(places: S) -> Self {
        Self {
            places,
            first: 0,
            len: 0,
        }
    }

    /// How many numbers there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `i`-th place from the first one on, less than twice as far as there are places.
    #[inline]
    fn at(&self, i: usize) -> usize {
        let (at, size) = (self.first.wrapping_add(i), self.places.len());
        if at >= size {
            at.wrapping_sub(size)
        } else {
            at
        }
    }

    /// Adds a number as the last one. False when there is no room.
    #[inline]
    pub fn push(&mut self, number: u16) -> bool {
        if self.len >= self.places.len() {
            return false;
        }
        let at = self.at(self.len);
        if let Some(place) = self.places.get_mut(at) {
            *place = number;
        }
        self.len = self.len.wrapping_add(1);
        true
    }

    /// Adds a number before the first one. False when there is no room.
    pub fn push_first(&mut self, number: u16) -> bool {
        if self.len >= self.places.len() {
            return false;
        }
        let at = self.at(self.places.len().wrapping_sub(1));
        if let Some(place) = self.places.get_mut(at) {
            *place = number;
        }
        self.first = at;
        self.len = self.len.wrapping_add(1);
        true
    }

    /// The first number, which stays.
    #[inline]
    pub fn first(&self) -> Option<u16> {
        match self.len {
            0 => None,
            _ => self.places.get(self.first).copied(),
        }
    }

    /// Takes the first number out.
    #[inline]
    pub fn pop(&mut self) -> Option<u16> {
        let number = self.first()?;
        self.first = self.at(1);
        self.len = self.len.wrapping_sub(1);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::VecDeque, vec, vec::Vec};

    #[test]
    fn no_places() {
        let mut fifo = Fifo::new(Vec::new());
        assert!(!fifo.push(1) && !fifo.push_first(1));
        assert_eq!((fifo.pop(), fifo.first()), (None, None));
    }

    proptest! {
        #[test]
        fn like_a_deque(steps in proptest::collection::vec((0u8..4, any::<u16>()), 0..100)) {
            let mut fifo = Fifo::new(vec![0; 5]);
            let mut model = VecDeque::new();
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        let room = model.len() < 5;
                        if step == 0 {
                            prop_assert_eq!(fifo.push(number), room);
                        } else {
                            prop_assert_eq!(fifo.push_first(number), room);
                        }
                        match (room, step) {
                            (true, 0) => model.push_back(number),
                            (true, _) => model.push_front(number),
                            _ => {}
                        }
                    }
                    _ => prop_assert_eq!(fifo.pop(), model.pop_front()),
                }
                prop_assert_eq!(fifo.first(), model.front().copied());
                prop_assert_eq!((fifo.len(), fifo.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
