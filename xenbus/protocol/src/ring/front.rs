// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The front end of a ring: sends requests, receives responses.

use super::end::{End, Shared};
use super::{index, Codec, Memory, Overrun, TooSmall, HEADER};

/// The front end of a ring.
///
/// The usual order: [`push`](Self::push) while there is something to send, [`publish`](Self::publish)
/// once, notify the peer if that says so. On an event: [`pop`](Self::pop) until there is nothing,
/// then [`final_check`](Self::final_check), and again if that says so.
pub struct Front<M, C> {
    end: End<M>,
    codec: C,
}

/// There is no free entry: responses must be received first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<M: Memory, C: Codec> Front<M, C> {
    /// Makes an empty ring in `memory`, which no back end may be attached to yet.
    pub fn new(memory: M, codec: C) -> Result<Self, TooSmall> {
        Self::new_at(memory, codec, 0)
    }

    /// Like [`new`](Self::new), with all indices at `start`. A back end that attaches at the
    /// shared `rsp_prod`, as [`Back::attach`](super::Back::attach) does, finds its place.
    pub fn new_at(memory: M, codec: C, start: u32) -> Result<Self, TooSmall> {
        let requests = Shared {
            prod: index::REQ_PROD,
            event: index::REQ_EVENT,
        };
        let responses = Shared {
            prod: index::RSP_PROD,
            event: index::RSP_EVENT,
        };
        let end = End::new(memory, codec.entry_size(), requests, responses, start)?;

        // An empty ring, like SHARED_RING_INIT; the padding must not show what was there before.
        end.memory.copy_in(0, &[0; HEADER]);
        end.memory.store(index::REQ_PROD, start);
        end.memory.store(index::RSP_PROD, start);
        end.memory.store(index::REQ_EVENT, start.wrapping_add(1));
        end.memory.store(index::RSP_EVENT, start.wrapping_add(1));
        Ok(Self { end, codec })
    }

    /// Number of entries of the ring.
    pub fn size(&self) -> u32 {
        self.end.layout.entries()
    }

    /// Number of requests that can be pushed now.
    pub fn free(&self) -> u32 {
        let in_use = self.end.produced.wrapping_sub(self.end.consumed);
        self.size().wrapping_sub(in_use)
    }

    /// The entry that the next [`push`](Self::push) fills, 0 to [`size`](Self::size) − 1.
    pub fn next_request(&self) -> u32 {
        self.end.produced & self.size().wrapping_sub(1)
    }

    /// The entry that the next [`pop`](Self::pop) reads, 0 to [`size`](Self::size) − 1.
    pub fn next_response(&self) -> u32 {
        self.end.consumed & self.size().wrapping_sub(1)
    }

    /// Writes a request, which the back end learns of by the next [`publish`](Self::publish).
    pub fn push(&mut self, request: &C::Request) -> Result<(), Full> {
        if self.free() == 0 {
            return Err(Full);
        }
        let codec = &self.codec;
        self.end.write(codec.request_size(), |bytes| {
            codec.encode_request(request, bytes)
        });
        Ok(())
    }

    /// Shows all pushed requests to the back end. `true`: it wants to be notified.
    #[must_use = "a back end that is not notified sleeps on"]
    pub fn publish(&mut self) -> bool {
        self.end.publish()
    }

    /// Takes the next response, `None` if there is none yet.
    pub fn pop(&mut self) -> Result<Option<C::Response>, Overrun> {
        let codec = &self.codec;
        self.end
            .read(self.possible(), codec.response_size(), |bytes| {
                codec.decode_response(bytes)
            })
    }

    /// To be called before going to sleep: `true` if there is a response after all. If not, the
    /// back end has been asked to notify us of the next one.
    pub fn final_check(&mut self) -> Result<bool, Overrun> {
        self.end.final_check(self.possible(), 1)
    }

    /// Like [`final_check`](Self::final_check), for a front end that can wait until there are `count`
    /// responses, at least 1 and at most as many as are to come.
    #[inline]
    pub fn final_check_for(&mut self, count: u32) -> Result<bool, Overrun> {
        self.end.final_check(self.possible(), count)
    }

    /// Number of published requests that no response has been received to.
    #[inline]
    pub fn unanswered(&self) -> u32 {
        self.possible()
    }

    /// Number of responses that wait to be received.
    pub fn unconsumed(&mut self) -> Result<u32, Overrun> {
        self.end.available(self.possible())
    }

    /// The memory that the ring is in.
    pub fn memory(&self) -> &M {
        &self.end.memory
    }

    /// Ends the use of the ring and gives its memory back.
    pub fn into_memory(self) -> M {
        self.end.memory
    }

    /// As many responses can wait as published requests are unanswered.
    fn possible(&self) -> u32 {
        self.end.published.wrapping_sub(self.end.consumed)
    }
}
