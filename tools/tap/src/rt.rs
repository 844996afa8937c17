// SPDX-License-Identifier: GPL-2.0
//! The runtime: one thread, its tasks, its io_uring.
//!
//! [`run`] is the way in. Everything else here is for futures that it runs. Nothing is `Send`, so
//! a disk's state is in `Cell`, `RefCell` and `Rc`; do not keep a `RefCell` borrowed over `.await`.
//!
//! - `rt/task.rs`: tasks, and how they are woken
//! - `rt/sync.rs`: for tasks that wait for each other: [`Lock`], [`Ranges`], [`Notify`]
//! - `rt/join.rs`: several futures at once: [`join`], [`join_all`], [`race`], [`timeout`]

mod join;
mod sync;
mod task;

pub use crate::sys::op::{poll, sleep, Fd};
pub use join::{join, join_all, race, timeout, Either};
pub use sync::{Flag, Lock, LockGuard, Notify, RangeGuard, Ranges};
pub use task::{spawn, Task};

use crate::sys::op;
use crate::sys::uring::Uring;
use crate::sys::{buf::Buf, os};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::Arc;
use std::task::{Poll, Waker};

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

#[derive(Clone)]
struct Here {
    uring: Rc<Uring>,
    tasks: Rc<task::Tasks>,
    idle: Rc<RefCell<Vec<Waker>>>,
}

fn here() -> Here {
    HERE.with_borrow(Clone::clone)
        .expect("this must be called by a future that tap::rt::run runs")
}

pub(crate) fn uring() -> Rc<Uring> {
    HERE.with_borrow(|here| here.as_ref().map(|here| here.uring.clone()))
        .expect("this must be called by a future that tap::rt::run runs")
}

/// Runs `future` and what it spawns on this thread until `future` is ready. Tasks that are not are
/// dropped.
///
/// # Errors
/// If there is no io_uring, or it breaks.
///
/// # Panics
/// Inside of another one.
pub fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> io::Result<T> {
    let remote = Arc::new(task::Remote::new(os::eventfd()?));
    let here = Here {
        uring: Rc::new(Uring::new()?),
        tasks: Rc::new(task::Tasks::new(remote.clone())),
        idle: Rc::default(),
    };
    HERE.with_borrow_mut(|now| {
        assert!(now.is_none(), "tap::rt::run inside of another one");
        *now = Some(here.clone());
    });
    let _reset = Reset;
    let main = spawn(future);
    let event: Fd = Rc::new(remote.event()?);
    let wakes = spawn(async move {
        let mut count = Buf::zeroed(8);
        while op::read_at(&event, &mut count, 0).await.is_ok() {}
    });
    wakes.detach();
    loop {
        let quiet = here.tasks.run_ready();
        if main.is_finished() {
            break;
        }
        if quiet {
            let idle = here.idle.take();
            if !idle.is_empty() {
                idle.into_iter().for_each(Waker::wake);
                continue;
            }
        }
        // From here on who wakes a task from another thread also raises the event.
        let sleep = quiet && remote.may_sleep();
        here.uring.enter(u32::from(sleep))?;
        remote.awake();
        here.uring.reap();
    }
    main.now_or_never()
        .ok_or_else(|| io::Error::other("the main task has panicked"))
}

/// Drops the tasks while there still is a runtime, then the runtime.
struct Reset;

impl Drop for Reset {
    fn drop(&mut self) {
        if let Some(here) = HERE.with_borrow(Clone::clone) {
            here.tasks.clear();
            here.uring.finish();
        }
        HERE.with_borrow_mut(|here| *here = None);
    }
}

/// Ready when all tasks have run that can, just before the thread would wait: the place to pass on
/// in one go what they have left.
pub async fn idle() {
    let mut asked = false;
    std::future::poll_fn(|context| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        here().idle.borrow_mut().push(context.waker().clone());
        Poll::Pending
    })
    .await
}

/// Lets the other tasks run that can.
pub async fn yield_now() {
    let mut asked = false;
    std::future::poll_fn(|context| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Runs `work` on a thread of its own and waits for it: for what blocks (to connect to a name) or
/// takes long (to compress a megabyte).
///
/// # Errors
/// If there can be no thread, or it panics.
pub async fn unblock<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let waker = std::future::poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().spawn(move || {
        // Locals go in reverse order, and what is captured after them: the sender is gone when the
        // waker wakes, also in a panic.
        let _wake = WakeAtEnd(waker);
        let sender = sender;
        let _ = sender.send(work());
    })?;
    std::future::poll_fn(|_| match receiver.try_recv() {
        Ok(result) => Poll::Ready(Ok(result)),
        Err(mpsc::TryRecvError::Empty) => Poll::Pending,
        Err(mpsc::TryRecvError::Disconnected) => Poll::Ready(Err(())),
    })
    .await
    .map_err(|()| {
        let _ = thread.join();
        io::Error::other("a helper thread has panicked")
    })
}

struct WakeAtEnd(Waker);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    #[test]
    fn tasks_run_and_sleep() {
        let order = run(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = [30, 10, 20]
                .into_iter()
                .map(|ms| {
                    let order = order.clone();
                    spawn(async move {
                        sleep(Duration::from_millis(ms)).await;
                        order.borrow_mut().push(ms);
                    })
                })
                .collect();
            join_all(tasks).await;
            order.take()
        });
        assert_eq!(order.unwrap(), [10, 20, 30]);
    }

    #[test]
    fn other_threads_wake() {
        let start = Instant::now();
        let sum = run(async {
            let slow = |n: u32| {
                unblock(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    n
                })
            };
            let (one, other) = join(slow(1), slow(2)).await;
            one.unwrap() + other.unwrap()
        });
        assert_eq!(sum.unwrap(), 3);
        assert!(start.elapsed() >= Duration::from_millis(50));
        let panicked = run(async { unblock(|| panic!("as it should")).await });
        assert!(panicked.unwrap().is_err());
    }

    #[test]
    fn idle_is_after_all_tasks() {
        let seen = run(async {
            let count = Rc::new(Cell::new(0));
            for _ in 0..10 {
                let count = count.clone();
                spawn(async move {
                    yield_now().await;
                    count.set(count.get() + 1);
                })
                .detach();
            }
            idle().await;
            count.get()
        });
        assert_eq!(seen.unwrap(), 10);
    }

    #[test]
    fn busy_tasks_do_not_keep_others_waiting() {
        run(async {
            let busy = spawn(async {
                loop {
                    yield_now().await;
                }
            });
            sleep(Duration::from_millis(5)).await;
            drop(busy);
        })
        .unwrap();
    }

    #[test]
    fn a_dropped_read_takes_its_buffer_along() {
        run(async {
            let (reader, _writer) = std::os::unix::net::UnixStream::pair().unwrap();
            let reader: Fd = Rc::new(reader.into());
            let mut buf = Buf::zeroed(512);
            let late = timeout(Duration::from_millis(10), op::recv(&reader, &mut buf)).await;
            assert!(late.is_none());
            assert!(buf.is_empty());
        })
        .unwrap();
    }
}
