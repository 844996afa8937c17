// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The back end of a ring: receives requests, sends responses.

use super::end::{End, Shared};
use super::{index, Codec, Memory, Overrun, TooSmall};

/// The back end of a ring.
///
/// The usual order, on an event: [`pop`](Self::pop) until there is nothing, then
/// [`final_check`](Self::final_check), and again if that says so. For each request popped, in any
/// order and at any time, one [`push`](Self::push); then [`publish`](Self::publish), and notify the
/// peer if that says so.
pub struct Back<M, C> {
    end: End<M>,
    codec: C,
}

/// The indices of a ring. Those that the front end writes may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Indices {
    pub entries: u32,
    pub req_prod: u32,
    pub req_cons: u32,
    pub req_event: u32,
    pub rsp_prod: u32,
    pub rsp_prod_pvt: u32,
    pub rsp_event: u32,
}

/// Why a back end cannot attach to a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The area is too small for this protocol.
    TooSmall,
    /// The shared indices are garbage.
    Overrun(Overrun),
}

/// Every request received has its response already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unasked;

impl<M: Memory, C: Codec> Back<M, C> {
    /// Attaches to the ring that a front end has made in `memory`.
    ///
    /// Starts at the shared `rsp_prod`: a front end may have used the ring with another back end
    /// before, and then finds its unanswered requests served by this one.
    pub fn attach(memory: M, codec: C) -> Result<Self, AttachError> {
        let start = memory.load(index::RSP_PROD);
        let requests = Shared {
            prod: index::REQ_PROD,
            event: index::REQ_EVENT,
        };
        let responses = Shared {
            prod: index::RSP_PROD,
            event: index::RSP_EVENT,
        };
        let end = End::new(memory, codec.entry_size(), responses, requests, start)
            .map_err(|TooSmall| AttachError::TooSmall)?;

        let mut back = Self { end, codec };
        back.unconsumed().map_err(AttachError::Overrun)?;
        Ok(back)
    }

    /// All indices, for whoever looks for an error.
    pub fn indices(&self) -> Indices {
        let shared = |at| self.end.memory.load(at);
        Indices {
            entries: self.end.layout.entries(),
            req_prod: shared(index::REQ_PROD),
            req_cons: self.end.consumed,
            req_event: shared(index::REQ_EVENT),
            rsp_prod: self.end.published,
            rsp_prod_pvt: self.end.produced,
            rsp_event: shared(index::RSP_EVENT),
        }
    }

    /// Number of entries of the ring.
    #[inline]
    pub fn size(&self) -> u32 {
        self.end.layout.entries()
    }

    /// Takes the next request, `None` if there is none yet.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<C::Request>, Overrun> {
        let codec = &self.codec;
        self.end
            .read(self.possible(), codec.request_size(), |bytes| {
                codec.decode_request(bytes)
            })
    }

    /// To be called before going to sleep: `true` if there is a request after all. If not, the
    /// front end has been asked to notify us of the next one.
    #[inline]
    pub fn final_check(&mut self) -> Result<bool, Overrun> {
        self.final_check_for(1)
    }

    /// Like [`final_check`](Self::final_check), for a back end that needs `count` requests, at least
    /// 1 and at most as many as the ring has entries: whether there are so many after all. If not,
    /// the front end has been asked to notify us when there are.
    #[inline]
    pub fn final_check_for(&mut self, count: u32) -> Result<bool, Overrun> {
        self.end.final_check(self.possible(), count)
    }

    /// Number of requests that wait to be received.
    #[inline]
    pub fn unconsumed(&mut self) -> Result<u32, Overrun> {
        self.end.available(self.possible())
    }

    /// Whether at least `count` requests, 1 or more, wait to be received. The front end's index is
    /// looked at only if those that are known of are fewer.
    #[inline]
    pub fn has(&mut self, count: u32) -> Result<bool, Overrun> {
        self.end.has(self.possible(), count)
    }

    /// The index of the next request to be taken.
    #[inline]
    pub fn consumed(&self) -> u32 {
        self.end.consumed
    }

    /// Number of requests received that have no response yet.
    #[inline]
    pub fn unanswered(&self) -> u32 {
        self.end.consumed.wrapping_sub(self.end.produced)
    }

    /// Writes a response, which the front end learns of by the next [`publish`](Self::publish).
    #[inline]
    pub fn push(&mut self, response: &C::Response) -> Result<(), Unasked> {
        if self.unanswered() == 0 {
            return Err(Unasked);
        }
        let codec = &self.codec;
        self.end.write(codec.response_size(), |bytes| {
            codec.encode_response(response, bytes)
        });
        Ok(())
    }

    /// Shows all pushed responses to the front end. `true`: it wants to be notified.
    #[inline]
    #[must_use = "a front end that is not notified sleeps on"]
    pub fn publish(&mut self) -> bool {
        self.end.publish()
    }

    /// The memory that the ring is in.
    #[inline]
    pub fn memory(&self) -> &M {
        &self.end.memory
    }

    /// Ends the use of the ring and gives its memory back.
    pub fn into_memory(self) -> M {
        self.end.memory
    }

    /// As many requests can wait as entries hold neither a request received and not yet answered
    /// nor a response that the front end cannot know of.
    #[inline]
    fn possible(&self) -> u32 {
        let in_use = self.end.consumed.wrapping_sub(self.end.published);
        self.size().wrapping_sub(in_use)
    }
}
