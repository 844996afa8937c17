// SPDX-License-Identifier: GPL-2.0
//! Several futures at once.

use super::sleep;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Waits for both.
pub async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut from_a, mut from_b) = (None, None);
    poll_fn(|context| {
        if from_a.is_none() {
            if let Poll::Ready(result) = a.as_mut().poll(context) {
                from_a = Some(result);
            }
        }
        if from_b.is_none() {
            if let Poll::Ready(result) = b.as_mut().poll(context) {
                from_b = Some(result);
            }
        }
        match (from_a.take(), from_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (from_a, from_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Waits for all; the results are in the futures' order.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = futures
        .into_iter()
        .map(|future| (Some(Box::pin(future)), None))
        .collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, result) in &mut all {
            let Some(running) = future else { continue };
            match running.as_mut().poll(context) {
                Poll::Pending => pending = true,
                Poll::Ready(ready) => {
                    *result = Some(ready);
                    *future = None;
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    all.into_iter().filter_map(|(_, result)| result).collect()
}

/// One of two results.
pub enum Either<A, B> {
    /// The first's.
    First(A),
    /// The second's.
    Second(B),
}

/// Waits for the one that is ready first, and drops the other.
pub async fn race<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|context| {
        if let Poll::Ready(result) = a.as_mut().poll(context) {
            return Poll::Ready(Either::First(result));
        }
        b.as_mut().poll(context).map(Either::Second)
    })
    .await
}

/// What `future` gives, or `None` if that takes longer than `time`; it is dropped then.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    match race(future, sleep(time)).await {
        Either::First(result) => Some(result),
        Either::Second(()) => None,
    }
}
