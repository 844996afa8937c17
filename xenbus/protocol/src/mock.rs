// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What tests need in place of Xen and a peer. Needs std; not part of the kernel modules.
//!
//! - [`Area`]: memory that both ends of a ring share
//! - [`Faulty`]: a [`Memory`] that a peer damages at chosen points, such as between two accesses of
//!   one function
//! - [`Guest`], [`Disk`]: a front end's pages and a back end's sectors (`mock/disk.rs`)
//! - [`Pages`], [`Loopback`]: a front end's pages and a network back end (`mock/vif.rs`)

mod disk;
#[cfg(test)]
mod tests;
mod vif;

pub use disk::{Disk, Guest};
pub use vif::{Broken, Loopback, Looped, Pages, NOT_THERE};

use crate::ring::{index, Layout, Memory, HEADER};
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{fence, AtomicU32, Ordering};
use std::sync::Arc;
use std::vec::Vec;

/// Memory for one ring. Clones are the same memory.
#[derive(Clone)]
pub struct Area(Arc<[AtomicU32]>);

impl Area {
    /// Zeroed memory of `bytes` bytes, rounded down to words.
    pub fn new(bytes: usize) -> Self {
        Self((0..bytes / 4).map(|_| AtomicU32::new(0)).collect())
    }

    /// One page.
    pub fn page() -> Self {
        Self::new(4096)
    }

    /// All bytes, for comparison.
    pub fn bytes(&self) -> Box<[u8]> {
        let mut bytes = std::vec![0; self.len()];
        self.copy_out(0, &mut bytes);
        bytes.into()
    }

    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        self.0.get(offset / 4)
    }
}

impl Memory for Area {
    fn len(&self) -> usize {
        self.0.len() * 4
    }

    fn load(&self, offset: usize) -> u32 {
        self.word(offset)
            .map_or(0, |w| u32::from_le(w.load(Ordering::Acquire)))
    }

    fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value.to_le(), Ordering::Release);
        }
    }

    fn barrier(&self) {
        fence(Ordering::SeqCst);
    }

    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        for (at, byte) in (offset..).zip(to) {
            if let Some(word) = self.word(at) {
                *byte = word.load(Ordering::Relaxed).to_ne_bytes()[at % 4];
            }
        }
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        for (at, byte) in (offset..).zip(from) {
            if let Some(word) = self.word(at) {
                let mut bytes = word.load(Ordering::Relaxed).to_ne_bytes();
                bytes[at % 4] = *byte;
                word.store(u32::from_ne_bytes(bytes), Ordering::Relaxed);
            }
        }
    }
}

/// What a peer does to the shared memory.
#[derive(Clone, Debug)]
pub enum Damage {
    /// Sets an index of [`index`].
    Set(usize, u32),
    /// Adds to an index of [`index`].
    Add(usize, u32),
    /// Overwrites the bytes at an offset.
    Bytes(usize, Vec<u8>),
}

impl Damage {
    /// Does it.
    pub fn apply(&self, memory: &impl Memory) {
        match self {
            Self::Set(offset, value) => memory.store(*offset, *value),
            Self::Add(offset, value) => {
                memory.store(*offset, memory.load(*offset).wrapping_add(*value))
            }
            Self::Bytes(offset, bytes) => memory.copy_in(*offset, bytes),
        }
    }

    /// Damage read off fuzzing input, somewhere in the indices or in the entries of `layout`.
    /// `None` at the end of the input.
    pub fn from_input(input: &mut impl Iterator<Item = u8>, layout: &Layout) -> Option<Self> {
        let indices = [
            index::REQ_PROD,
            index::REQ_EVENT,
            index::RSP_PROD,
            index::RSP_EVENT,
        ];
        let (kind, value) = (input.next()?, input.next()?);
        let offset = *indices.get(usize::from(kind >> 4) % 4)?;
        // Sign-extended: small steps either way hit the limits of the checks best.
        let small = value as i8 as u32;
        Some(match kind % 4 {
            0 => Self::Set(offset, small),
            1 | 2 => Self::Add(offset, small),
            _ => {
                let start = layout.offset(u32::from(kind >> 2)) - HEADER;
                let bytes = input.by_ref().take(usize::from(value % 32)).collect();
                Self::Bytes(HEADER + start + usize::from(value), bytes)
            }
        })
    }
}

/// A memory in which a peer does damage right before chosen accesses.
pub struct Faulty<M> {
    memory: M,
    plan: RefCell<Vec<(u64, Damage)>>,
    clock: Cell<u64>,
}

impl<M: Memory> Faulty<M> {
    /// `plan`: before which access, counted from 0, the peer does what.
    pub fn new(memory: M, plan: Vec<(u64, Damage)>) -> Self {
        Self {
            memory,
            plan: RefCell::new(plan),
            clock: Cell::new(0),
        }
    }

    /// Number of accesses so far.
    pub fn accesses(&self) -> u64 {
        self.clock.get()
    }

    /// Has the peer do `damage` before the access that comes after `delay` others.
    pub fn damage_after(&self, delay: u64, damage: Damage) {
        self.plan
            .borrow_mut()
            .push((self.clock.get() + delay, damage));
    }

    fn tick(&self) -> &M {
        let now = self.clock.replace(self.clock.get() + 1);
        self.plan.borrow_mut().retain(|(when, damage)| {
            if *when == now {
                damage.apply(&self.memory);
            }
            *when > now
        });
        &self.memory
    }
}

impl<M: Memory> Memory for Faulty<M> {
    fn len(&self) -> usize {
        self.memory.len()
    }
    fn load(&self, offset: usize) -> u32 {
        self.tick().load(offset)
    }
    fn store(&self, offset: usize, value: u32) {
        self.tick().store(offset, value)
    }
    fn barrier(&self) {
        self.tick().barrier()
    }
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.tick().copy_out(offset, to)
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.tick().copy_in(offset, from)
    }
}
