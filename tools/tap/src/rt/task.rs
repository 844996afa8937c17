// SPDX-License-Identifier: GPL-2.0
//! Tasks, and how they are woken.

use super::here;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// So many tasks run before a look at what the kernel has done.
const ROUND: usize = 256;

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// What a thread's tasks share with those who wake them, who may be other threads.
pub(super) struct Remote {
    ready: Mutex<VecDeque<usize>>,
    sleeps: AtomicBool,
    event: File,
}

impl Remote {
    pub(super) fn new(event: OwnedFd) -> Self {
        Self {
            ready: Mutex::default(),
            sleeps: AtomicBool::new(false),
            event: event.into(),
        }
    }

    pub(super) fn event(&self) -> io::Result<OwnedFd> {
        Ok(self.event.try_clone()?.into())
    }

    fn push(&self, index: usize) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push_back(index);
        drop(ready);
        if self.sleeps.swap(false, Ordering::SeqCst) {
            let _ = (&self.event).write_all(&1u64.to_ne_bytes());
        }
    }

    fn pop(&self) -> Option<usize> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.pop_front()
    }

    /// Whether nothing is ready; whoever changes that from now on raises the event.
    pub(super) fn may_sleep(&self) -> bool {
        self.sleeps.store(true, Ordering::SeqCst);
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.is_empty()
    }

    pub(super) fn awake(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
    }
}

/// The waker of the task that is at `index`; of a later one there too, which does no harm.
struct Bell {
    index: usize,
    rung: AtomicBool,
    remote: Arc<Remote>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.remote.push(self.index);
        }
    }
}

struct Slot {
    /// Not there while it runs, and after.
    future: Option<Boxed>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// The tasks of a thread.
pub(super) struct Tasks {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    remote: Arc<Remote>,
    over: Cell<bool>,
}

impl Tasks {
    pub(super) fn new(remote: Arc<Remote>) -> Self {
        Self {
            slots: RefCell::default(),
            free: RefCell::default(),
            remote,
            over: Cell::new(false),
        }
    }

    fn add(&self, future: Boxed) {
        if self.over.get() {
            return;
        }
        let mut slots = self.slots.borrow_mut();
        let index = match self.free.borrow_mut().pop() {
            Some(index) => {
                slots[index].future = Some(future);
                index
            }
            None => {
                let index = slots.len();
                let bell = Arc::new(Bell {
                    index,
                    rung: AtomicBool::new(false),
                    remote: self.remote.clone(),
                });
                slots.push(Slot {
                    future: Some(future),
                    waker: bell.clone().into(),
                    bell,
                });
                index
            }
        };
        slots[index].bell.wake_by_ref();
    }

    /// Runs tasks until none can, or enough have; whether none can.
    pub(super) fn run_ready(&self) -> bool {
        for _ in 0..ROUND {
            let Some(index) = self.remote.pop() else {
                return true;
            };
            let (future, waker) = {
                let mut slots = self.slots.borrow_mut();
                let slot = &mut slots[index];
                slot.bell.rung.store(false, Ordering::Release);
                (slot.future.take(), slot.waker.clone())
            };
            let Some(mut future) = future else { continue };
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => self.slots.borrow_mut()[index].future = Some(future),
                Poll::Ready(()) => {
                    drop(future);
                    self.free.borrow_mut().push(index);
                }
            }
        }
        false
    }

    /// Drops all tasks.
    pub(super) fn clear(&self) {
        self.over.set(true);
        let count = self.slots.borrow().len();
        for index in 0..count {
            let future = self.slots.borrow_mut()[index].future.take();
            drop(future);
        }
    }
}

/// Starts a task on this thread. It runs on while the [`Task`] is dropped only after
/// [`detach`](Task::detach); else it ends with it.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let state = Rc::new(State {
        result: Cell::new(None),
        waiter: RefCell::new(None),
        cancelled: Cell::new(false),
        finished: Cell::new(false),
        own: RefCell::new(None),
    });
    let inner = state.clone();
    let mut future = Some(Box::pin(future));
    let task = std::future::poll_fn(move |context| {
        if inner.cancelled.get() {
            future = None;
            return Poll::Ready(());
        }
        let Some(running) = future.as_mut() else {
            return Poll::Ready(());
        };
        match running.as_mut().poll(context) {
            Poll::Pending => {
                if inner.own.borrow().is_none() {
                    *inner.own.borrow_mut() = Some(context.waker().clone());
                }
                Poll::Pending
            }
            Poll::Ready(result) => {
                future = None;
                inner.result.set(Some(result));
                inner.finished.set(true);
                if let Some(waiter) = inner.waiter.take() {
                    waiter.wake();
                }
                Poll::Ready(())
            }
        }
    });
    here().tasks.add(Box::pin(task));
    Task {
        state,
        detached: false,
    }
}

struct State<T> {
    result: Cell<Option<T>>,
    waiter: RefCell<Option<Waker>>,
    cancelled: Cell<bool>,
    finished: Cell<bool>,
    /// The task's own waker, to have it notice that it is cancelled.
    own: RefCell<Option<Waker>>,
}

/// A task that was spawned; a future of what it gives. Dropping it ends the task.
#[must_use = "dropping it ends the task: detach it, or keep it"]
pub struct Task<T> {
    state: Rc<State<T>>,
    detached: bool,
}

impl<T> Task<T> {
    /// Lets it run on by itself.
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Whether it has come to its end.
    pub fn is_finished(&self) -> bool {
        self.state.finished.get()
    }

    /// What it gave, if it has; if not, the task that polls is woken then.
    pub(crate) fn poll_result(&self, context: &mut Context<'_>) -> Option<T> {
        let result = self.state.result.take();
        if result.is_none() {
            *self.state.waiter.borrow_mut() = Some(context.waker().clone());
        }
        result
    }

    /// What it gave, if it has and nobody took it.
    pub(super) fn now_or_never(self) -> Option<T> {
        self.state.result.take()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.poll_result(context).map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if self.detached || self.state.finished.get() {
            return;
        }
        self.state.cancelled.set(true);
        if let Some(own) = self.state.own.take() {
            own.wake();
        }
    }
}
