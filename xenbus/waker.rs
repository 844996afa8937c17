// SPDX-License-Identifier: GPL-2.0

//! Wakes a thread from wherever something has happened for it.

use kernel::{
    current,
    sync::{aref::ARef, SetOnce},
    task::Task,
};

/// The thread to be woken, once there is one.
///
/// It holds a reference on the task, so that an event or a completion that comes after the thread
/// has returned wakes nobody and touches nothing that was freed (XSA-350).
pub struct Waker(SetOnce<ARef<Task>>);

impl Waker {
    /// With nobody to be woken yet.
    pub fn new() -> Self {
        Waker(SetOnce::new())
    }

    /// From now on the calling thread is woken. What happened before it has not been told of, so
    /// it looks at everything once before it sleeps.
    pub fn set_current(&self) {
        self.0.populate(ARef::from(&**current!()));
    }

    /// Wakes the thread. In any context. What it shall find must have been written with a full
    /// barrier after it (a `SeqCst` exchange).
    pub fn wake(&self) {
        if let Some(task) = self.0.as_ref() {
            task.wake_up();
        }
    }
}

impl Default for Waker {
    fn default() -> Self {
        Waker::new()
    }
}
