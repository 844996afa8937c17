// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A ring's memory and event channels as loom sees them: every order of the two ends' accesses is
//! tried, and every value that a weakly ordered machine may load.

use loom::sync::atomic::{fence, AtomicU32, Ordering};
use loom::sync::Notify;
use protocol::ring::{Codec, Memory, HEADER};
// Not loom's, whose destructor panics once more when a test has failed.
use std::sync::Arc;

/// Entries in the ring.
pub const ENTRIES: usize = 2;

/// Words before the entries that are used: the indices.
const INDICES: usize = 4;

/// What may be wrong with a memory, to see that the tests notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// The barrier does nothing.
    NoBarrier,
    /// Stores do not release.
    NoRelease,
    /// Loads do not acquire.
    NoAcquire,
}

/// A memory with a ring of [`ENTRIES`] entries of one word. Clones are the same memory.
#[derive(Clone)]
pub struct Area {
    words: Arc<[AtomicU32; INDICES + ENTRIES]>,
    flaw: Flaw,
}

impl Area {
    /// Zeroed memory.
    pub fn new(flaw: Flaw) -> Self {
        Self {
            words: Arc::new(std::array::from_fn(|_| AtomicU32::new(0))),
            flaw,
        }
    }

    /// The word at a byte offset: an index, or an entry.
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        match offset.checked_sub(HEADER) {
            None => self.words[..INDICES].get(offset / 4),
            Some(entry) => self.words[INDICES..].get(entry / 4),
        }
    }
}

impl Memory for Area {
    fn len(&self) -> usize {
        HEADER + ENTRIES * 4
    }

    fn load(&self, offset: usize) -> u32 {
        let relaxed = self.flaw == Flaw::NoAcquire;
        let order = if relaxed {
            Ordering::Relaxed
        } else {
            Ordering::Acquire
        };
        self.word(offset).map_or(0, |word| word.load(order))
    }

    fn store(&self, offset: usize, value: u32) {
        let relaxed = self.flaw == Flaw::NoRelease;
        let order = if relaxed {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        if let Some(word) = self.word(offset) {
            word.store(value, order);
        }
    }

    fn barrier(&self) {
        if self.flaw != Flaw::NoBarrier {
            fence(Ordering::SeqCst);
        }
    }

    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        for (i, bytes) in to.chunks_exact_mut(4).enumerate() {
            let value = self
                .word(offset + i * 4)
                .map_or(0, |word| word.load(Ordering::Relaxed));
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        for (i, bytes) in from.chunks_exact(4).enumerate() {
            if let (Some(word), Ok(bytes)) = (self.word(offset + i * 4), bytes.try_into()) {
                word.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
            }
        }
    }
}

/// Requests and responses of one word.
pub struct Words;

impl Codec for Words {
    type Request = u32;
    type Response = u32;

    fn request_size(&self) -> usize {
        4
    }
    fn response_size(&self) -> usize {
        4
    }
    fn decode_request(&self, bytes: &[u8]) -> u32 {
        bytes.try_into().map_or(0, u32::from_le_bytes)
    }
    fn encode_request(&self, request: &u32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&request.to_le_bytes());
    }
    fn decode_response(&self, bytes: &[u8]) -> u32 {
        self.decode_request(bytes)
    }
    fn encode_response(&self, response: &u32, bytes: &mut [u8]) {
        self.encode_request(response, bytes);
    }
}

/// One direction of an event channel. An event that comes before the wait is not lost, and several
/// of them are one. Clones are the same channel.
#[derive(Clone)]
pub struct Event(Arc<Notify>);

impl Event {
    /// A channel on which nothing has happened.
    pub fn new() -> Self {
        Self(Arc::new(Notify::new()))
    }

    /// Sends an event.
    pub fn notify(&self) {
        self.0.notify();
    }

    /// Sleeps until there is an event, or for no reason. Loom reports a deadlock if there never is
    /// one.
    pub fn wait(&self) {
        self.0.wait();
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}
