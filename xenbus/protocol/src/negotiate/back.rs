// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What a back end reads from its front end: how many queues, how large their rings, and how to
//! reach each.

use super::{BadKey, MAX_RING_ORDER};

/// The highest event channel port: the FIFO ABI has 2¹⁷ of them.
pub const MAX_PORT: u32 = (1 << 17) - 1;

/// The most pages of a ring.
pub const MAX_RING_PAGES: usize = 1 << MAX_RING_ORDER;

/// The keys that hold the grant references of a ring of several pages.
pub const RING_REFS: [&str; MAX_RING_PAGES] = [
    "ring-ref0",
    "ring-ref1",
    "ring-ref2",
    "ring-ref3",
    "ring-ref4",
    "ring-ref5",
    "ring-ref6",
    "ring-ref7",
    "ring-ref8",
    "ring-ref9",
    "ring-ref10",
    "ring-ref11",
    "ring-ref12",
    "ring-ref13",
    "ring-ref14",
    "ring-ref15",
];

/// How to reach the ring of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    ring_refs: [u32; MAX_RING_PAGES],
    pages: usize,
    /// Port of the event channel in the front end's domain, 1 to [`MAX_PORT`].
    pub event_channel: u32,
}

impl Queue {
    /// Checks the front end's keys `ring-ref` and `event-channel`, for a ring of one page.
    pub fn single(ring_ref: Option<u64>, event_channel: Option<u64>) -> Result<Self, BadKey> {
        Self::negotiate(&["ring-ref"], |_| ring_ref, event_channel)
    }

    /// Checks the keys `ring-ref0` and so on of a ring of `pages` pages, 1 to [`MAX_RING_PAGES`],
    /// which `ring_ref` reads, and `event-channel`.
    pub fn multi(
        pages: usize,
        ring_ref: impl FnMut(usize) -> Option<u64>,
        event_channel: Option<u64>,
    ) -> Result<Self, BadKey> {
        let keys = RING_REFS.get(..pages).unwrap_or(&RING_REFS);
        Self::negotiate(keys, ring_ref, event_channel)
    }

    fn negotiate(
        keys: &[&'static str],
        mut ring_ref: impl FnMut(usize) -> Option<u64>,
        event_channel: Option<u64>,
    ) -> Result<Self, BadKey> {
        let between = |key, value, max| number(value, 1, max).ok_or(BadKey { key, value });
        let mut ring_refs = [0; MAX_RING_PAGES];
        let mut i = 0usize;
        for (to, key) in ring_refs.iter_mut().zip(keys) {
            *to = between(key, ring_ref(i), u32::MAX)?;
            i = i.wrapping_add(1);
        }
        Ok(Self {
            ring_refs,
            pages: keys.len(),
            event_channel: between("event-channel", event_channel, MAX_PORT)?,
        })
    }

    /// Grant references of the ring's pages, none of them 0.
    pub fn ring_refs(&self) -> &[u32] {
        self.ring_refs.get(..self.pages).unwrap_or(&[])
    }
}

/// A number from `min` to `max`, both included.
pub(crate) fn number(value: Option<u64>, min: u32, max: u32) -> Option<u32> {
    let number = u32::try_from(value?).ok()?;
    (min..=max).contains(&number).then_some(number)
}

/// Checks the front end's key `multi-queue-num-queues`: 1 to `max`, and 1 if there is no such key.
pub fn queues(num_queues: Option<u64>, max: u32) -> Result<u32, BadKey> {
    match num_queues {
        None => Ok(1),
        value => number(value, 1, max).ok_or(BadKey {
            key: "multi-queue-num-queues",
            value,
        }),
    }
}

/// Checks the front end's key `ring-page-order`, 0 to `max`, and gives the number of pages.
pub fn ring_pages(order: Option<u64>, max: u32) -> Result<usize, BadKey> {
    match number(order, 0, max.min(MAX_RING_ORDER)) {
        Some(order) => Ok(1 << order.min(MAX_RING_ORDER)),
        None => Err(BadKey {
            key: "ring-page-order",
            value: order,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_a_page() {
        let queue = Queue::single(Some(8), Some(5)).unwrap();
        assert_eq!((queue.ring_refs(), queue.event_channel), (&[8][..], 5));
        let bad = |key, value| Err(BadKey { key, value });
        for value in [None, Some(0), Some(1 << 32)] {
            assert_eq!(Queue::single(value, Some(5)), bad("ring-ref", value));
        }
        for value in [None, Some(0), Some(1 << 17), Some(u64::MAX)] {
            assert_eq!(Queue::single(Some(8), value), bad("event-channel", value));
        }
    }

    #[test]
    fn a_ring_of_many_pages() {
        let queue = Queue::multi(4, |i| Some(i as u64 + 1), Some(5)).unwrap();
        assert_eq!(queue.ring_refs(), [1, 2, 3, 4]);
        let most = Queue::multi(16, |i| Some(i as u64 + 1), Some(5)).unwrap();
        assert_eq!(most.ring_refs().len(), 16);
        let missing = BadKey {
            key: "ring-ref3",
            value: None,
        };
        let third = |i| (i != 3).then_some(7);
        assert_eq!(Queue::multi(16, third, Some(5)), Err(missing));
        assert!(Queue::multi(3, third, Some(5)).is_ok());
        let more = Queue::multi(1000, |_| Some(1), Some(5)).unwrap();
        assert_eq!(more.ring_refs().len(), 16, "never more");
    }

    #[test]
    fn orders() {
        assert_eq!(ring_pages(Some(0), 4), Ok(1));
        assert_eq!(ring_pages(Some(4), 4), Ok(16));
        assert_eq!(ring_pages(Some(4), 1000), Ok(16));
        for (value, max) in [
            (None, 4),
            (Some(5), 4),
            (Some(5), 1000),
            (Some(1), 0),
            (Some(u64::MAX), 4),
            (Some(1 << 32), 4),
        ] {
            let error = BadKey {
                key: "ring-page-order",
                value,
            };
            assert_eq!(ring_pages(value, max), Err(error));
        }
    }

    #[test]
    fn numbers_of_queues() {
        assert_eq!(queues(None, 4), Ok(1));
        assert_eq!(queues(Some(4), 4), Ok(4));
        for value in [Some(0), Some(5), Some((1 << 32) + 1)] {
            let error = BadKey {
                key: "multi-queue-num-queues",
                value,
            };
            assert_eq!(queues(value, 4), Err(error));
        }
    }
}
