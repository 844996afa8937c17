// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The guest's requests that the program has, by the ids under which it has them.
//!
//! An id is the number of an entry and, above its lowest 16 bits, how often that entry was used: so
//! an answer that comes twice is never taken for that of the next request with the same entry.
//!
//! When the guest's connection ends, the program still has its requests. They are [orphans](Sent::orphan_all)
//! then: their answers are nobody's, but not wrong, and what they have of the window is theirs
//! until the answer comes.

use super::Piece;
use core::ops::DerefMut;

/// A request that the program has, or the place for one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    state: State,
    uses: u16,
    /// Which request of the caller's it is.
    pub request: u16,
    /// One of [`op`](crate::tap::op).
    pub op: u8,
    /// Its data in the window.
    pub piece: Piece,
    /// When it was sent, on the caller's clock.
    pub since: u64,
    /// Its number among all that were sent, by which the order is known.
    order: u64,
    /// The guest's pages are in use by a request of the program's.
    pub busy: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    Sent,
    Orphan,
}

/// What an answer was the answer to.
#[derive(Clone, Copy, Debug)]
pub enum Answered {
    /// This request.
    Request(Entry),
    /// One of a connection that has ended.
    Orphan(Entry),
}

/// There is no such request: it was never sent, or it has been answered, or its pages are in use.
/// The program has broken the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// The requests that the program has: as many as `S` has entries, at most 65536.
pub struct Sent<S> {
    entries: S,
    /// Where to look for a free entry first.
    next: usize,
    order: u64,
    count: usize,
    orphans: usize,
}

impl<S: DerefMut<Target = [Entry]>> Sent<S> {
    /// No requests; `entries` are in their default state.
    pub fn new(entries: S) -> Self {
        Self {
            entries,
            next: 0,
            order: 0,
            count: 0,
            orphans: 0,
        }
    }

    /// How many there are, orphans excepted.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there is no room for another one.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.count.wrapping_add(self.orphans) >= self.entries.len()
    }

    /// Notes that `request` is sent; its id. `None` when there is no room.
    #[inline]
    pub fn send(&mut self, request: u16, op: u8, piece: Piece, since: u64) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let size = self.entries.len();
        for _ in 0..size {
            let at = self.next;
            self.next = match at.wrapping_add(1) {
                next if next >= size => 0,
                next => next,
            };
            let Some(entry) = self.entries.get_mut(at) else {
                continue;
            };
            if entry.state != State::Free {
                continue;
            }
            let uses = entry.uses.wrapping_add(1);
            *entry = Entry {
                state: State::Sent,
                uses,
                request,
                op,
                piece,
                since,
                order: self.order,
                busy: false,
            };
            self.order = self.order.wrapping_add(1);
            self.count = self.count.wrapping_add(1);
            return Some(u32::from(uses) << 16 | at as u32);
        }
        None
    }

    /// The entry with this id, if the program has it.
    #[inline]
    fn find(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries
            .get_mut((id & 0xffff) as usize)
            .filter(|entry| entry.state != State::Free && u32::from(entry.uses) == id >> 16)
    }

    /// The request with this id, if the program has it and it is no orphan.
    #[inline]
    pub fn get(&mut self, id: u32) -> Option<&mut Entry> {
        self.find(id).filter(|entry| entry.state == State::Sent)
    }

    /// The program has answered.
    #[inline]
    pub fn answer(&mut self, id: u32) -> Result<Answered, Unknown> {
        let entry = self.find(id).filter(|entry| !entry.busy).ok_or(Unknown)?;
        let answered = *entry;
        entry.state = State::Free;
        if answered.state == State::Orphan {
            self.orphans = self.orphans.wrapping_sub(1);
            Ok(Answered::Orphan(answered))
        } else {
            self.count = self.count.wrapping_sub(1);
            Ok(Answered::Request(answered))
        }
    }

    /// The connection has ended: hands each request to `each`, and makes it an orphan.
    pub fn orphan_all(&mut self, mut each: impl FnMut(&Entry)) {
        for entry in self.entries.iter_mut() {
            if entry.state == State::Sent {
                each(entry);
                entry.state = State::Orphan;
            }
        }
        self.orphans = self.orphans.wrapping_add(self.count);
        self.count = 0;
    }

    /// The program has gone: takes back what it had, and hands each request to `each`, the one sent
    /// last first. Orphans are forgotten.
    pub fn take_back(&mut self, mut each: impl FnMut(&Entry)) {
        for entry in self.entries.iter_mut() {
            if entry.state == State::Orphan {
                entry.state = State::Free;
            }
        }
        // A program does not die so often that this would have to be fast.
        while self.count > 0 {
            let last = self
                .entries
                .iter_mut()
                .filter(|entry| entry.state == State::Sent)
                .max_by_key(|entry| entry.order);
            if let Some(entry) = last {
                each(entry);
                entry.state = State::Free;
                entry.busy = false;
            }
            self.count = self.count.wrapping_sub(1);
        }
        self.orphans = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    const PIECE: Piece = Piece { at: 3, pages: 2 };

    fn sent(entries: usize) -> Sent<Vec<Entry>> {
        Sent::new(vec![Entry::default(); entries])
    }

    fn request(answered: Result<Answered, Unknown>) -> Option<u16> {
        match answered {
            Ok(Answered::Request(entry)) => Some(entry.request),
            _ => None,
        }
    }

    #[test]
    fn an_answer_counts_once() {
        let mut sent = sent(2);
        let id = sent.send(7, 1, PIECE, 5).unwrap();
        let entry = *sent.get(id).unwrap();
        assert_eq!((entry.op, entry.piece, entry.since), (1, PIECE, 5));
        assert_eq!(sent.answer(id ^ 1).unwrap_err(), Unknown, "never sent");
        assert_eq!(sent.answer(id ^ 0x10000).unwrap_err(), Unknown);
        assert_eq!(request(sent.answer(id)), Some(7));
        assert_eq!(sent.answer(id).unwrap_err(), Unknown, "twice");
        assert!(sent.get(id).is_none());
        for _ in 0..2 {
            // Both entries are used, so one of these has the entry of the first.
            sent.send(8, 1, PIECE, 5).unwrap();
        }
        assert_eq!(sent.answer(id).unwrap_err(), Unknown, "of the next one");
        assert_eq!(sent.send(9, 1, PIECE, 5), None, "full");
    }

    #[test]
    fn ids_that_cannot_be() {
        let mut sent = sent(2);
        for id in [0, 1, 2, 0x10000, u32::MAX] {
            assert!(sent.answer(id).is_err());
            assert!(sent.get(id).is_none());
        }
    }

    #[test]
    fn one_whose_pages_are_in_use_cannot_be_answered() {
        let mut sent = sent(2);
        let id = sent.send(7, 0, PIECE, 0).unwrap();
        sent.get(id).unwrap().busy = true;
        assert_eq!(sent.answer(id).unwrap_err(), Unknown);
        sent.get(id).unwrap().busy = false;
        assert_eq!(request(sent.answer(id)), Some(7));
    }

    #[test]
    fn orphans_keep_their_entries_until_they_are_answered() {
        let mut sent = sent(2);
        let id = sent.send(7, 0, PIECE, 0).unwrap();
        let mut seen = Vec::new();
        sent.orphan_all(|entry| seen.push(entry.request));
        assert_eq!((seen, sent.len()), (vec![7], 0));
        assert!(sent.get(id).is_none(), "its pages are gone");
        let other = sent.send(8, 0, PIECE, 0).unwrap();
        assert!(sent.is_full());
        match sent.answer(id) {
            Ok(Answered::Orphan(entry)) => assert_eq!(entry.piece, PIECE),
            other => panic!("{other:?}"),
        }
        assert_eq!(sent.answer(id).unwrap_err(), Unknown);
        assert_eq!(request(sent.answer(other)), Some(8));
        assert!(!sent.is_full());
    }

    #[test]
    fn what_is_taken_back_comes_in_order() {
        let mut sent = sent(4);
        let ids: Vec<u32> = (0..4).map(|i| sent.send(i, 0, PIECE, 0).unwrap()).collect();
        sent.orphan_all(|_| ());
        for (i, id) in ids.iter().enumerate() {
            sent.answer(*id).unwrap();
            sent.send(10 + i as u16, 0, PIECE, 0).unwrap();
        }
        let second = *sent.entries.iter().find(|e| e.request == 11).unwrap();
        let id = u32::from(second.uses) << 16 | 1;
        assert_eq!(request(sent.answer(id)), Some(11));
        sent.send(20, 0, PIECE, 0).unwrap();
        let mut back = Vec::new();
        sent.take_back(|entry| back.push(entry.request));
        assert_eq!(back, [20, 13, 12, 10]);
        assert!(sent.is_empty() && !sent.is_full());
    }
}
