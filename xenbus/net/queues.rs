// SPDX-License-Identifier: GPL-2.0

//! The queues of an interface, and what they count.

use super::{
    device::{NetDev, Rtnl},
    napi::{Napi, Poll},
};
use crate::kthread::online_cpus;
use core::{
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use kernel::{prelude::*, sync::Arc};

/// More is never believed: queues of an interface.
const MAX_QUEUES: u32 = 256;

/// Queues if nobody says how many: as many as there are CPUs, but not more.
const DEFAULT_QUEUES: u32 = 8;

/// How many queues an interface has at most when the administrator has asked for so many; 0: not said.
pub fn max_queues(asked: u32) -> u32 {
    match asked {
        0 => online_cpus().clamp(1, DEFAULT_QUEUES),
        most => most.min(MAX_QUEUES),
    }
}

/// A number that one thread at a time adds to.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it. Not at the same time as itself.
    #[inline]
    pub fn add(&self, more: u64) {
        let sum = self.0.load(Relaxed).wrapping_add(more);
        self.0.store(sum, Relaxed);
    }

    /// What it has come to. In any context.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// All queues that an interface can have.
pub struct Queues<Q: Poll>(KVec<Arc<Napi<Q>>>);

impl<Q: Poll> Queues<Q> {
    /// As many as `count`, of `dev`, that `make` makes by their index. Takes the device's lock.
    pub fn new(
        dev: &Arc<NetDev>,
        count: u32,
        mut make: impl FnMut(u32) -> Result<Arc<Q>>,
    ) -> Result<Self> {
        let mut all = KVec::with_capacity(count as usize, GFP_KERNEL)?;
        for index in 0..count {
            let queue = make(index)?;
            all.push(Arc::new(Napi::new(dev, &queue)?, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Queues(all))
    }

    /// For [`Operations::open`](super::Operations::open): has all polled, and the stack send. Sleeps.
    pub fn open(&self, dev: &NetDev, rtnl: &Rtnl) {
        for queue in self.iter() {
            queue.enable(rtnl);
            queue.kick();
        }
        dev.start_all_queues();
    }

    /// For [`Operations::stop`](super::Operations::stop): the opposite. Sleeps.
    pub fn stop(&self, dev: &NetDev, rtnl: &Rtnl) {
        dev.stop_all_queues();
        for queue in self.iter() {
            queue.disable(rtnl);
        }
    }

    /// What a count of all of them comes to. In any context.
    pub fn sum(&self, which: impl Fn(&Q) -> &Count) -> u64 {
        self.iter().fold(0, |sum, queue| {
            sum.wrapping_add(which(queue.target()).get())
        })
    }
}

impl<Q: Poll> Deref for Queues<Q> {
    type Target = [Arc<Napi<Q>>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
