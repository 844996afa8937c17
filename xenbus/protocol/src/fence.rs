// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Holds all queues of a back end while one of them has something that must be alone, a barrier.
//!
//! A number that is odd while the fence is up, and for each queue what it has last seen of it while
//! it had nothing on its way. So the way of an ordinary request costs a look at a word that hardly
//! ever changes.
//!
//! - A queue that finds [`Fence::must_stand_aside`], before it takes another request, finishes what
//!   it has on its way, calls [`Fence::stand_aside`], and waits until [`Fence::is_up`] no more.
//! - A queue with a barrier finishes what it has, takes the fence by [`Fence::raise`], waits until
//!   all others [are aside](Fence::are_aside), does what it has to do, and calls [`Fence::lower`].
//! - A queue that ends calls [`Fence::leave`] when it has nothing on its way.
//!
//! After each of the calls that change something, whoever waits is to be woken.

use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};

/// What a queue that has ended has seen.
const LEFT: u32 = 0;

/// What a queue has seen that has just begun, and the number of a fence that was never up.
const NEW: u32 = 2;

/// A fence for as many queues as `S` has words.
pub struct Fence<S> {
    number: AtomicU32,
    aside: S,
}

impl<S: Deref<Target = [AtomicU32]>> Fence<S> {
    /// A fence that is down; what is in `aside` does not matter.
    pub fn new(aside: S) -> Self {
        for seen in aside.iter() {
            seen.store(NEW, Ordering::Relaxed);
        }
        Self {
            number: AtomicU32::new(NEW),
            aside,
        }
    }

    /// Whether some queue holds the fence.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.number.load(Ordering::SeqCst) % 2 != 0
    }

    /// Whether another queue than `index` holds the fence, and this one has not yet stood aside.
    #[inline]
    pub fn must_stand_aside(&self, index: usize) -> bool {
        let number = self.number.load(Ordering::Acquire);
        number % 2 != 0
            && self
                .aside
                .get(index)
                .is_some_and(|seen| seen.load(Ordering::Relaxed) != number)
    }

    /// Queue `index` has nothing on its way, and will take nothing until the fence is down.
    pub fn stand_aside(&self, index: usize) {
        if let Some(seen) = self.aside.get(index) {
            seen.store(self.number.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// Takes the fence for queue `index`, which has nothing on its way; false if another holds it.
    pub fn raise(&self, index: usize) -> bool {
        let number = self.number.load(Ordering::SeqCst);
        // Not up to the highest, after which 0 would come, which has its own meaning.
        let up = match number.wrapping_add(1) {
            u32::MAX => NEW.wrapping_add(1),
            up => up,
        };
        let raised = number % 2 == 0
            && self
                .number
                .compare_exchange(number, up, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if raised {
            // The holder need not stand aside for itself.
            self.stand_aside(index);
        }
        raised
    }

    /// Whether all queues but `index`, which holds the fence, stand aside.
    pub fn are_aside(&self, index: usize) -> bool {
        let number = self.number.load(Ordering::SeqCst);
        let mut i = 0usize;
        for seen in self.aside.iter() {
            let seen = seen.load(Ordering::SeqCst);
            if i != index && seen != number && seen != LEFT {
                return false;
            }
            i = i.wrapping_add(1);
        }
        true
    }

    /// Gives the fence back.
    pub fn lower(&self) {
        self.number.fetch_add(1, Ordering::SeqCst);
    }

    /// Queue `index` has ended, with nothing on its way: it stands aside for ever.
    pub fn leave(&self, index: usize) {
        if let Some(seen) = self.aside.get(index) {
            seen.store(LEFT, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{thread, vec::Vec};

    fn fence(queues: usize) -> Fence<Vec<AtomicU32>> {
        Fence::new((0..queues).map(|_| AtomicU32::new(9)).collect())
    }

    #[test]
    fn one_holds_it_when_all_others_are_aside() {
        let fence = fence(3);
        assert!(!fence.is_up() && !fence.must_stand_aside(0));
        assert!(fence.raise(1));
        assert!(!fence.raise(2), "one at a time");
        assert!(fence.must_stand_aside(0) && !fence.must_stand_aside(1));
        assert!(!fence.are_aside(1));
        fence.stand_aside(0);
        assert!(!fence.must_stand_aside(0) && !fence.are_aside(1));
        fence.leave(2);
        assert!(fence.are_aside(1));
        fence.lower();
        assert!(!fence.is_up() && !fence.must_stand_aside(2));
        assert!(fence.raise(1), "again");
        assert!(fence.must_stand_aside(0), "it has seen the first only");
        assert!(!fence.are_aside(1));
    }

    #[test]
    fn alone() {
        let fence = fence(1);
        assert!(fence.raise(0) && fence.are_aside(0));
        fence.lower();
        assert!(!fence.is_up());
        fence.stand_aside(7);
        fence.leave(7);
        assert!(!fence.must_stand_aside(7));
    }

    #[test]
    fn numbers_run_over() {
        let fence = fence(2);
        fence.number.store(u32::MAX - 1, Ordering::SeqCst);
        assert!(fence.raise(0));
        assert!(fence.must_stand_aside(1));
        fence.lower();
        assert!(fence.raise(1) && fence.must_stand_aside(0));
    }

    /// Each queue has requests on its way, now and then a barrier, during which there must be none.
    #[test]
    fn nothing_is_on_its_way_beside_a_barrier() {
        const QUEUES: usize = 4;
        let fence = fence(QUEUES);
        let on_their_way = AtomicU32::new(0);
        thread::scope(|scope| {
            for me in 0..QUEUES {
                let (fence, on_their_way) = (&fence, &on_their_way);
                let stand_aside = move || {
                    fence.stand_aside(me);
                    while fence.is_up() && !fence.must_stand_aside(me) {
                        thread::yield_now();
                    }
                };
                scope.spawn(move || {
                    for round in 0..2000 {
                        while fence.must_stand_aside(me) {
                            stand_aside();
                        }
                        on_their_way.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        on_their_way.fetch_sub(1, Ordering::SeqCst);
                        if round % (7 + me) == 0 {
                            while !fence.raise(me) {
                                stand_aside();
                            }
                            while !fence.are_aside(me) {
                                thread::yield_now();
                            }
                            for _ in 0..3 {
                                assert_eq!(on_their_way.load(Ordering::SeqCst), 0);
                                thread::yield_now();
                            }
                            fence.lower();
                        }
                    }
                    fence.leave(me);
                });
            }
        });
    }
}
