// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What the front and the back end of a ring have in common.
//!
//! Either end produces entries of one kind and consumes entries of the other kind. It keeps its own
//! indices in private memory and never reads them back from the shared area, so the only thing that
//! a peer can lie about is its own producer index, and [`End::available`] is the only place where
//! that is read and checked. (Lying about the event index merely gains or loses the liar a
//! notification.)

use super::{Layout, Memory, Overrun, TooSmall, MAX_ENTRY};

/// Byte offsets of a producer index and of the event index that belongs to it.
pub(super) struct Shared {
    pub(super) prod: usize,
    pub(super) event: usize,
}

/// A private copy of an entry, on the boundary of a word, so that words can be copied.
#[repr(align(8))]
struct Aligned<const N: usize>([u8; N]);

/// Entries of up to so many bytes have a copy of that size, which is faster to clear than that of the
/// longest one.
const SMALL: usize = 16;

/// One end of a ring.
///
/// # Invariants
///
/// In free-running order, `published` is never ahead of `produced`, nor `consumed` of `seen`.
pub(super) struct End<M> {
    pub(super) memory: M,
    pub(super) layout: Layout,
    /// Shared indices of the direction in which this end produces.
    ours: Shared,
    /// Shared indices of the direction in which the peer produces.
    theirs: Shared,
    /// Entries up to here are written.
    pub(super) produced: u32,
    /// Entries up to here are made known to the peer.
    pub(super) published: u32,
    /// Entries up to here are read.
    pub(super) consumed: u32,
    /// The peer's producer index when it was last read, found valid.
    seen: u32,
    /// Set for good when the peer has broken the rules.
    broken: Option<Overrun>,
}

impl<M: Memory> End<M> {
    /// An end with all its indices at `start`; touches no shared memory.
    pub(super) fn new(
        memory: M,
        entry_size: usize,
        ours: Shared,
        theirs: Shared,
        start: u32,
    ) -> Result<Self, TooSmall> {
        let layout = Layout::new(memory.len(), entry_size)?;
        Ok(Self {
            memory,
            layout,
            ours,
            theirs,
            produced: start,
            published: start,
            consumed: start,
            seen: start,
            broken: None,
        })
    }

    /// Writes the next entry. The caller has made sure that there is room for it.
    #[inline]
    pub(super) fn write(&mut self, size: usize, encode: impl FnOnce(&mut [u8])) {
        if size <= SMALL {
            self.write_by(Aligned([0; SMALL]), size, encode);
        } else {
            self.write_by(Aligned([0; MAX_ENTRY]), size, encode);
        }
        self.produced = self.produced.wrapping_add(1);
    }

    #[inline]
    fn write_by<const N: usize>(
        &self,
        mut copy: Aligned<N>,
        size: usize,
        encode: impl FnOnce(&mut [u8]),
    ) {
        if let Some(bytes) = copy.0.get_mut(..size) {
            encode(bytes);
            self.memory
                .copy_in(self.layout.offset(self.produced), bytes);
        }
    }

    /// Makes the written entries known to the peer; says whether it wants to be notified of them.
    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.produced);
        if old == new {
            return false;
        }
        self.published = new;
        // The release makes the entries visible before the index.
        self.memory.store(self.ours.prod, new);
        // The peer sees the index, or we see its wish for an event; see `final_check`.
        self.memory.barrier();
        let event = self.memory.load(self.ours.event);
        new.wrapping_sub(event) < new.wrapping_sub(old)
    }

    /// Reads the next entry, if the peer has published one. There are at most `possible` entries.
    #[inline]
    pub(super) fn read<T>(
        &mut self,
        possible: u32,
        size: usize,
        decode: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Overrun> {
        if !self.has(possible, 1)? {
            return Ok(None);
        }
        let value = if size <= SMALL {
            self.read_by(Aligned([0; SMALL]), size, decode)
        } else {
            self.read_by(Aligned([0; MAX_ENTRY]), size, decode)
        };
        self.consumed = self.consumed.wrapping_add(1);
        Ok(value)
    }

    #[inline]
    fn read_by<T, const N: usize>(
        &self,
        mut copy: Aligned<N>,
        size: usize,
        decode: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let bytes = copy.0.get_mut(..size)?;
        self.memory
            .copy_out(self.layout.offset(self.consumed), bytes);
        Some(decode(bytes))
    }

    /// How many entries wait to be read. There are at most `possible` of them.
    #[inline]
    pub(super) fn available(&mut self, possible: u32) -> Result<u32, Overrun> {
        if let Some(overrun) = self.broken {
            return Err(overrun);
        }
        // The acquire makes the entries visible after the index.
        let prod = self.memory.load(self.theirs.prod);
        let claimed = prod.wrapping_sub(self.consumed);
        if claimed > possible {
            let overrun = Overrun { claimed, possible };
            self.broken = Some(overrun);
            // Whatever was valid before, `read` comes by here again.
            self.seen = self.consumed;
            return Err(overrun);
        }
        self.seen = prod;
        Ok(claimed)
    }

    /// Whether there are `count` entries, at least 1, to read.
    #[inline]
    pub(super) fn has(&mut self, possible: u32, count: u32) -> Result<bool, Overrun> {
        // While there are as many entries known to be valid, leave the peer's cache line alone.
        Ok(self.seen.wrapping_sub(self.consumed) >= count || self.available(possible)? >= count)
    }

    /// To be called before going to sleep: whether there are `count` entries, at least 1, to read
    /// after all. If not, the peer has been asked for a notification when there are.
    #[inline]
    pub(super) fn final_check(&mut self, possible: u32, count: u32) -> Result<bool, Overrun> {
        if self.available(possible)? >= count {
            return Ok(true);
        }
        self.memory
            .store(self.theirs.event, self.consumed.wrapping_add(count));
        // The peer sees our wish, or we see its index; see `publish`.
        self.memory.barrier();
        Ok(self.available(possible)? >= count)
    }
}
