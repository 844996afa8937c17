// SPDX-License-Identifier: GPL-2.0 OR MIT

//! One face for the front ends of both languages, and one for the back ends.

use protocol::blkif::{Abi, RawRequest, Response};
use protocol::ring::{self, Memory};

/// A front end.
pub trait Front {
    /// Writes a request; `false` if the ring is full.
    fn push(&mut self, request: &RawRequest) -> bool;
    /// Publishes; whether a notification is due.
    fn publish(&mut self) -> bool;
    /// Takes a response.
    fn pop(&mut self) -> Option<Response>;
    /// Last look before sleeping: whether there is work.
    fn check(&mut self) -> bool;
    /// Number of free entries.
    fn free(&self) -> u32;
    /// Whether there are more responses in the ring than there can be.
    fn overrun(&mut self) -> bool;
}

/// A back end.
pub trait Back {
    /// Writes a response; `false` if no request is unanswered.
    fn push(&mut self, response: &Response) -> bool;
    /// Publishes; whether a notification is due.
    fn publish(&mut self) -> bool;
    /// Takes a request.
    fn pop(&mut self) -> Option<RawRequest>;
    /// Last look before sleeping: whether there is work.
    fn check(&mut self) -> bool;
    /// Whether there are more requests in the ring than there can be.
    fn overrun(&mut self) -> bool;
}

impl<M: Memory> Front for ring::Front<M, Abi> {
    fn push(&mut self, request: &RawRequest) -> bool {
        self.push(request).is_ok()
    }
    fn publish(&mut self) -> bool {
        self.publish()
    }
    fn pop(&mut self) -> Option<Response> {
        self.pop().unwrap()
    }
    fn check(&mut self) -> bool {
        self.final_check().unwrap()
    }
    fn overrun(&mut self) -> bool {
        self.unconsumed().is_err()
    }
    fn free(&self) -> u32 {
        self.free()
    }
}

impl<M: Memory> Back for ring::Back<M, Abi> {
    fn push(&mut self, response: &Response) -> bool {
        self.push(response).is_ok()
    }
    fn publish(&mut self) -> bool {
        self.publish()
    }
    fn pop(&mut self) -> Option<RawRequest> {
        self.pop().unwrap()
    }
    fn check(&mut self) -> bool {
        self.final_check().unwrap()
    }
    fn overrun(&mut self) -> bool {
        self.unconsumed().is_err()
    }
}
