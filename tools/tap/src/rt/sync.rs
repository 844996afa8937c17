// SPDX-License-Identifier: GPL-2.0
//! For tasks of one thread that wait for each other.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Tells waiting tasks that something has changed.
#[derive(Clone, Default)]
pub struct Notify(Rc<Waiters>);

#[derive(Default)]
struct Waiters {
    count: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Notify {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes all that wait now.
    pub fn notify(&self) {
        self.0.count.set(self.0.count.get().wrapping_add(1));
        let mut wakers = self.0.wakers.take();
        wakers.drain(..).for_each(Waker::wake);
        // What was allocated is used again, unless somebody waits already.
        let mut now = self.0.wakers.borrow_mut();
        if now.is_empty() {
            *now = wakers;
        }
    }

    /// Waits until `ready` gives something; it is asked now, and after each
    /// [`notify`](Self::notify).
    pub async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| match ready() {
            Some(result) => Poll::Ready(result),
            None => {
                let mut wakers = self.0.wakers.borrow_mut();
                if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }

    /// Waits for the next [`notify`](Self::notify).
    pub async fn notified(&self) {
        let before = self.0.count.get();
        self.until(|| (self.0.count.get() != before).then_some(()))
            .await
    }
}

/// A value that one task has at a time, over `.await` too. First come, first served.
#[derive(Default)]
pub struct Lock<T> {
    value: RefCell<T>,
    held: Cell<bool>,
    next: Cell<u64>,
    queue: RefCell<VecDeque<u64>>,
    changed: Notify,
}

impl<T> Lock<T> {
    /// Nobody has it.
    pub fn new(value: T) -> Self {
        Self {
            value: RefCell::new(value),
            held: Cell::new(false),
            next: Cell::new(0),
            queue: RefCell::default(),
            changed: Notify::new(),
        }
    }

    /// Waits for its turn.
    pub async fn lock(&self) -> LockGuard<'_, T> {
        let ticket = Ticket {
            number: self.next.replace(self.next.get().wrapping_add(1)),
            queue: &self.queue,
            changed: &self.changed,
        };
        self.queue.borrow_mut().push_back(ticket.number);
        let mine = || self.queue.borrow().front() == Some(&ticket.number) && !self.held.get();
        self.changed.until(|| mine().then_some(())).await;
        self.held.set(true);
        LockGuard {
            value: Some(self.value.borrow_mut()),
            held: &self.held,
            changed: &self.changed,
        }
    }
}

/// A place in a queue, given up when it is dropped.
struct Ticket<'a> {
    number: u64,
    queue: &'a RefCell<VecDeque<u64>>,
    changed: &'a Notify,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queue = self.queue.borrow_mut();
        queue.retain(|number| *number != self.number);
        drop(queue);
        self.changed.notify();
    }
}

/// The value of a [`Lock`].
pub struct LockGuard<'a, T> {
    value: Option<RefMut<'a, T>>,
    held: &'a Cell<bool>,
    changed: &'a Notify,
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("there until the drop")
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("there until the drop")
    }
}

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.held.set(false);
        self.changed.notify();
    }
}

/// Keeps apart what works on the same bytes of a disk, such as two writes that each read a block,
/// change it and write it back. First come, first served.
#[derive(Clone, Default)]
pub struct Ranges(Rc<Held>);

#[derive(Default)]
struct Held {
    /// In the order of their coming: number, range, and whether shared.
    all: RefCell<VecDeque<(u64, Range<u64>, bool)>>,
    next: Cell<u64>,
    changed: Notify,
}

impl Ranges {
    /// Nobody has any.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until nobody who came before has a byte of `range`.
    pub async fn lock(&self, range: Range<u64>) -> RangeGuard {
        self.take(range, false).await
    }

    /// Waits until nobody who came before has a byte of `range`, but for others that share.
    pub async fn share(&self, range: Range<u64>) -> RangeGuard {
        self.take(range, true).await
    }

    async fn take(&self, range: Range<u64>, shared: bool) -> RangeGuard {
        let number = self.0.next.replace(self.0.next.get().wrapping_add(1));
        let guard = RangeGuard {
            held: self.0.clone(),
            number,
        };
        let entry = (number, range.clone(), shared);
        self.0.all.borrow_mut().push_back(entry);
        let free = || {
            let all = self.0.all.borrow();
            let mut before = all.iter().take_while(|(other, ..)| *other != number);
            !before.any(|(_, other, other_shared)| {
                other.start < range.end && range.start < other.end && !(shared && *other_shared)
            })
        };
        self.0.changed.until(|| free().then_some(())).await;
        guard
    }
}

/// A range of [`Ranges`], given back when it is dropped.
pub struct RangeGuard {
    held: Rc<Held>,
    number: u64,
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        let mut all = self.held.all.borrow_mut();
        all.retain(|(number, ..)| *number != self.number);
        drop(all);
        self.held.changed.notify();
    }
}

/// Something that comes once, for tasks of any thread. Clones are the same.
#[derive(Clone, Default)]
pub struct Flag(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Flag {
    /// Now.
    pub fn set(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits for it.
    pub async fn wait(&self) {
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 {
                return Poll::Ready(());
            }
            if !state.1.iter().any(|waker| waker.will_wake(context.waker())) {
                state.1.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;

    #[test]
    fn one_at_a_time_and_in_order() {
        let seen = rt::run(async {
            let lock = Rc::new(Lock::new(Vec::new()));
            let tasks: Vec<_> = (0..5)
                .map(|n| {
                    let lock = lock.clone();
                    rt::spawn(async move {
                        let mut list = lock.lock().await;
                        list.push(n);
                        rt::yield_now().await;
                        list.push(n);
                    })
                })
                .collect();
            rt::join_all(tasks).await;
            let list = lock.lock().await;
            list.clone()
        });
        assert_eq!(seen.unwrap(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn ranges_exclude_what_overlaps() {
        rt::run(async {
            let ranges = Ranges::new();
            let one = ranges.lock(0..10).await;
            let far = ranges.lock(10..20).await;
            let shared = ranges.share(20..30).await;
            let both = ranges.share(25..30).await;
            let waits = rt::spawn({
                let ranges = ranges.clone();
                async move { ranges.lock(5..25).await }
            });
            // It must wait for the one that came before, though nobody has a byte of it.
            let behind = rt::spawn({
                let ranges = ranges.clone();
                async move { ranges.share(22..23).await }
            });
            rt::idle().await;
            assert!(!waits.is_finished() && !behind.is_finished());
            drop((one, far));
            rt::idle().await;
            assert!(!waits.is_finished());
            drop((shared, both));
            drop(waits.await);
            behind.await;
        })
        .unwrap();
    }
}
