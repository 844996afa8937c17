// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The pages that a back end keeps mapped (persistent grants), found by grant reference.
//!
//! A page is *busy* from [`Kept::take`] or [`Kept::insert`] to [`Kept::put`]: it is in use by one
//! request, is not given to a second one, and is never purged. The idle ones are in the order of
//! their use, so that a purge takes the least recently used and costs nothing for those that stay.
//!
//! The table does not grow: all its memory is the slice that it was made with. What a front end
//! says can neither make it panic nor, without knowing the seed, make its chains long.

use core::ops::DerefMut;

/// A place of a [`Kept`] table, and the head of one of its chains.
pub struct Entry<T> {
    /// First of the entries whose reference belongs to this place.
    head: u16,
    /// The next one in the chain that this entry is in; or the next free one.
    chain: u16,
    /// Neighbours among the idle entries.
    older: u16,
    newer: u16,
    gref: u32,
    busy: bool,
    /// When it was last in use.
    used: u64,
    value: Option<T>,
}

const NONE: u16 = u16::MAX;

impl<T> Default for Entry<T> {
    fn default() -> Self {
        Self {
            head: NONE,
            chain: NONE,
            older: NONE,
            newer: NONE,
            gref: 0,
            busy: false,
            used: 0,
            value: None,
        }
    }
}

/// Where a value is, from [`Kept::take`] or [`Kept::insert`] to [`Kept::put`].
#[derive(Debug, PartialEq, Eq)]
pub struct Place(u16);

/// What is known of a grant reference.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing.
    Missing,
    /// Its page is in use.
    Busy,
    /// Its page has been idle, and is busy from now on.
    Here(Place),
}

/// A table of values by grant reference, of at most 65535.
pub struct Kept<S> {
    entries: S,
    seed: u64,
    free: u16,
    /// The ends of the list of idle entries.
    oldest: u16,
    newest: u16,
    len: usize,
    /// An insert was refused since the last purge.
    overflow: bool,
}

impl<T, S: DerefMut<Target = [Entry<T>]>> Kept<S> {
    /// An empty table with room for as many values as `entries`, which are in their default state.
    /// `seed` is any number that the front end does not know.
    pub fn new(mut entries: S, seed: u64) -> Self {
        let (mut free, mut next) = (NONE, 0u16);
        for entry in entries.iter_mut().take(usize::from(NONE)) {
            *entry = Entry::default();
            entry.chain = free;
            free = next;
            next = next.wrapping_add(1);
        }
        Self {
            entries,
            seed: seed | 1,
            free,
            oldest: NONE,
            newest: NONE,
            len: 0,
            overflow: false,
        }
    }

    /// Number of values.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most values.
    pub fn capacity(&self) -> usize {
        self.entries.len().min(usize::from(NONE))
    }

    /// Takes the value of `gref` into use.
    #[inline]
    pub fn take(&mut self, gref: u32) -> Taken {
        let Some(at) = self.find(gref) else {
            return Taken::Missing;
        };
        if self
            .entry(at)
            .is_none_or(|entry| core::mem::replace(&mut entry.busy, true))
        {
            return Taken::Busy;
        }
        self.unlink(at);
        Taken::Here(Place(at))
    }

    /// Whether [`Self::insert`] would add a value. If there is no room, that is remembered until the
    /// next purge.
    pub fn has_room(&mut self, gref: u32, max: usize) -> bool {
        if self.len >= max || self.free == NONE {
            self.overflow = true;
            return false;
        }
        self.find(gref).is_none()
    }

    /// Where a reference is.
    #[inline]
    fn find(&mut self, gref: u32) -> Option<u16> {
        let mut at = self.head(gref);
        // No chain is longer than the table.
        for _ in 0..self.len {
            let entry = self.entry(at)?;
            if entry.gref == gref {
                return Some(at);
            }
            at = entry.chain;
        }
        None
    }

    /// Adds a value, in use from now on, if there are less than `max`.
    ///
    /// # Errors
    ///
    /// The value, when there is no room for it or `gref` has one already.
    pub fn insert(&mut self, gref: u32, value: T, max: usize) -> Result<Place, T> {
        if !self.has_room(gref, max) {
            return Err(value);
        }
        let (place, head) = (self.free, self.head(gref));
        let bucket = self.bucket(gref);
        let Some(entry) = self.entry(place) else {
            return Err(value);
        };
        let free = core::mem::replace(&mut entry.chain, head);
        entry.gref = gref;
        entry.busy = true;
        entry.value = Some(value);
        self.free = free;
        if let Some(entry) = self.entries.get_mut(bucket) {
            entry.head = place;
        }
        self.len = self.len.wrapping_add(1);
        Ok(Place(place))
    }

    /// The value that is in use at `place`.
    #[inline]
    pub fn get(&self, place: &Place) -> Option<&T> {
        self.entries.get(usize::from(place.0))?.value.as_ref()
    }

    /// Gives a value back that was in use until `now`.
    #[inline]
    pub fn put(&mut self, place: Place, now: u64) {
        let (at, newest) = (place.0, self.newest);
        let Some(entry) = self.entry(at) else { return };
        if !core::mem::take(&mut entry.busy) {
            return;
        }
        entry.used = now;
        entry.older = newest;
        entry.newer = NONE;
        match self.entry(newest) {
            Some(entry) => entry.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    /// Since when the value that has been idle the longest is so.
    pub fn idle_since(&self) -> Option<u64> {
        Some(self.entries.get(usize::from(self.oldest))?.used)
    }

    /// Whether a purge is due, since there are more than `max`, or would be if there were room.
    pub fn is_over(&self, max: usize) -> bool {
        let max = max.min(self.capacity());
        self.len > max || (self.len == max && self.len > 0 && self.overflow)
    }

    /// Takes out what is not in use: all that was last used before `before`; and when the table has
    /// overflown `max`, at least what is above it and a twentieth. Hands each to `each`.
    pub fn purge(&mut self, before: Option<u64>, max: usize, mut each: impl FnMut(T)) {
        let max = max.min(self.capacity());
        let mut wanted = 0usize;
        if self.is_over(max) {
            let excess = self.len.wrapping_sub(max);
            // At least one, or a small table would never be renewed.
            wanted = excess.wrapping_add((max / 20).max(1));
        }
        let mut gone = 0usize;
        while let Some(since) = self.idle_since() {
            if gone >= wanted && before.is_none_or(|before| since >= before) {
                break;
            }
            let Some(value) = self.remove(self.oldest) else {
                break;
            };
            each(value);
            gone = gone.wrapping_add(1);
        }
        if gone > 0 {
            self.overflow = false;
        }
    }

    /// Takes everything out that is not in use.
    pub fn clear(&mut self, mut each: impl FnMut(T)) {
        while let Some(value) = self.remove(self.oldest) {
            each(value);
        }
    }

    /// Takes an idle entry out.
    fn remove(&mut self, at: u16) -> Option<T> {
        let entry = self.entry(at)?;
        let (gref, chain) = (entry.gref, entry.chain);
        let value = entry.value.take()?;
        self.unlink(at);
        // Out of its chain.
        let bucket = self.bucket(gref);
        if self.head(gref) == at {
            if let Some(entry) = self.entries.get_mut(bucket) {
                entry.head = chain;
            }
        } else {
            let mut before = self.head(gref);
            for _ in 0..self.len {
                let Some(entry) = self.entry(before) else {
                    break;
                };
                if entry.chain == at {
                    entry.chain = chain;
                    break;
                }
                before = entry.chain;
            }
        }
        let free = self.free;
        if let Some(entry) = self.entry(at) {
            entry.chain = free;
        }
        self.free = at;
        self.len = self.len.wrapping_sub(1);
        Some(value)
    }

    /// Takes an entry out of the list of idle ones.
    #[inline]
    fn unlink(&mut self, at: u16) {
        let Some(entry) = self.entry(at) else { return };
        let (older, newer) = (entry.older, entry.newer);
        entry.older = NONE;
        entry.newer = NONE;
        match self.entry(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entry(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    #[inline]
    fn entry(&mut self, at: u16) -> Option<&mut Entry<T>> {
        self.entries.get_mut(usize::from(at))
    }

    #[inline]
    fn head(&self, gref: u32) -> u16 {
        self.entries
            .get(self.bucket(gref))
            .map_or(NONE, |entry| entry.head)
    }

    /// Which chain a reference belongs to.
    #[inline]
    fn bucket(&self, gref: u32) -> usize {
        let hash = (u64::from(gref).wrapping_add(1)).wrapping_mul(self.seed) >> 32;
        (hash.wrapping_mul(self.entries.len() as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeMap, vec::Vec};

    fn table(n: usize) -> Kept<Vec<Entry<u32>>> {
        Kept::new(
            (0..n).map(|_| Entry::default()).collect(),
            0x9e37_79b9_7f4a_7c15,
        )
    }

    fn keep(table: &mut Kept<Vec<Entry<u32>>>, gref: u32, now: u64) {
        let place = table.insert(gref, gref, 100).unwrap();
        table.put(place, now);
    }

    #[test]
    fn a_page_is_in_use_once() {
        let mut table = table(4);
        assert_eq!(table.take(8), Taken::Missing);
        let place = table.insert(8, 80, 4).unwrap();
        assert_eq!(table.get(&place), Some(&80));
        assert_eq!(table.take(8), Taken::Busy);
        assert_eq!(table.insert(8, 81, 4), Err(81), "not a second one");
        table.put(place, 5);
        let Taken::Here(place) = table.take(8) else {
            panic!("it is idle");
        };
        assert_eq!(table.take(8), Taken::Busy);
        table.put(place, 6);
        assert_eq!((table.len(), table.idle_since()), (1, Some(6)));
    }

    #[test]
    fn what_is_in_use_is_not_purged() {
        let mut table = table(4);
        let busy = table.insert(1, 1, 4).unwrap();
        keep(&mut table, 2, 10);
        let mut gone = Vec::new();
        table.purge(Some(u64::MAX), 0, |gref| gone.push(gref));
        assert_eq!((gone.as_slice(), table.len()), ([2].as_slice(), 1));
        table.clear(|_| panic!("in use"));
        table.put(busy, 11);
        table.clear(|gref| gone.push(gref));
        assert_eq!((gone.as_slice(), table.len()), ([2, 1].as_slice(), 0));
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let mut table = table(100);
        for gref in 0..40 {
            keep(&mut table, gref, u64::from(gref));
        }
        let Taken::Here(place) = table.take(0) else {
            panic!("it is idle");
        };
        table.put(place, 100);
        let mut gone = Vec::new();
        table.purge(None, 40, |gref| gone.push(gref));
        assert!(gone.is_empty(), "full, but nothing was refused");
        assert_eq!(table.insert(99, 99, 40), Err(99));
        table.purge(None, 40, |gref| gone.push(gref));
        assert_eq!(gone, [1, 2], "a twentieth");
        table.purge(Some(5), 40, |gref| gone.push(gref));
        assert_eq!(gone, [1, 2, 3, 4], "unused for long");
        table.purge(None, 30, |gref| gone.push(gref));
        assert_eq!(table.len(), 29, "the excess, and a twentieth");
        assert_eq!(table.take(0), Taken::Here(Place(99)));
    }

    #[test]
    fn a_place_is_given_back_once() {
        let mut table = table(4);
        keep(&mut table, 1, 1);
        keep(&mut table, 2, 2);
        // A place that nobody could have: the list of idle entries stays in order.
        table.put(Place(2), 3);
        table.put(Place(3), 3);
        let mut gone = Vec::new();
        table.clear(|gref| gone.push(gref));
        assert_eq!((gone.as_slice(), table.len()), ([1, 2].as_slice(), 0));
    }

    #[test]
    fn no_room_at_all() {
        let mut table = table(0);
        assert_eq!(table.take(1), Taken::Missing);
        assert_eq!(table.insert(1, 1, 10), Err(1));
        table.purge(Some(1), 0, |_| panic!("empty"));
        table.put(Place(7), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a map and a plain list in the order of use.
        #[test]
        fn as_a_map_would(
            size in 0usize..20,
            steps in proptest::collection::vec((0u8..6, 0u32..24), 0..300),
        ) {
            let mut table = table(size);
            let mut busy = BTreeMap::new();
            let mut idle = Vec::<u32>::new();
            for (now, (step, gref)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => match table.take(gref) {
                        Taken::Missing => prop_assert!(!busy.contains_key(&gref) && !idle.contains(&gref)),
                        Taken::Busy => prop_assert!(busy.contains_key(&gref)),
                        Taken::Here(place) => {
                            prop_assert_eq!(table.get(&place), Some(&gref));
                            prop_assert!(idle.contains(&gref));
                            idle.retain(|&g| g != gref);
                            busy.insert(gref, place);
                        }
                    },
                    2 | 3 => match table.insert(gref, gref, 15) {
                        Ok(place) => {
                            prop_assert!(!idle.contains(&gref));
                            prop_assert!(busy.insert(gref, place).is_none());
                        }
                        Err(_) => prop_assert!(
                            busy.len() + idle.len() >= size.min(15)
                                || busy.contains_key(&gref)
                                || idle.contains(&gref)
                        ),
                    },
                    4 => if let Some(place) = busy.remove(&gref) {
                        table.put(place, now as u64);
                        idle.push(gref);
                    },
                    _ => {
                        let mut gone = Vec::new();
                        table.purge(None, 10, |gref| gone.push(gref));
                        let expected: Vec<_> = idle.drain(..gone.len()).collect();
                        prop_assert_eq!(gone, expected);
                    }
                }
                prop_assert_eq!(table.len(), busy.len() + idle.len());
            }
        }
    }
}
