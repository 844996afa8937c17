// SPDX-License-Identifier: GPL-2.0
//! One end of a ring of one page, `xen/io/ring.h`. Its own indices may be set to anything.

use std::ops::Deref;
use std::sync::atomic::{fence, Ordering::SeqCst};

use crate::{ensure, Result};
use protocol::ring::index::{REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};
use protocol::ring::{Codec, Layout};
use xen::page::Pages;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

impl End {
    /// Where this end says how far it has filled the ring.
    fn own_prod(self) -> usize {
        [REQ_PROD, RSP_PROD][self as usize]
    }

    /// Where the other end does.
    fn their_prod(self) -> usize {
        [RSP_PROD, REQ_PROD][self as usize]
    }

    /// Where this end says when it wants an event.
    fn event(self) -> usize {
        [RSP_EVENT, REQ_EVENT][self as usize]
    }

    /// Where the other end does.
    fn their_event(self) -> usize {
        [REQ_EVENT, RSP_EVENT][self as usize]
    }
}

/// A ring, whose page is `P`, with entries of codec `C`.
#[derive(Debug)]
pub(crate) struct Ring<P, C> {
    pub(crate) page: P,
    pub(crate) codec: C,
    layout: Layout,
    end: End,
    /// Entries put so far.
    pub(crate) prod: u32,
    /// Entries taken so far.
    pub(crate) cons: u32,
}

impl<P: Deref<Target = Pages>, C: Codec> Ring<P, C> {
    /// The ring in `page`, as the other end has left it.
    pub(crate) fn attach(page: P, codec: C, end: End) -> Result<Self> {
        let layout = Layout::new(xen::PAGE_SIZE, codec.entry_size())
            .map_err(|_| "an entry is larger than a page")?;
        let prod = page.load(end.own_prod());
        Ok(Ring {
            page,
            codec,
            layout,
            end,
            prod,
            cons: prod,
        })
    }

    /// Makes it a new one, whose indices all are `start`.
    pub(crate) fn reset(&mut self, start: u32) {
        self.page.clear(0);
        for at in [REQ_PROD, RSP_PROD] {
            self.page.store(at, start);
        }
        for at in [REQ_EVENT, RSP_EVENT] {
            self.page.store(at, start.wrapping_add(1));
        }
        (self.prod, self.cons) = (start, start);
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> u32 {
        self.layout.entries()
    }

    /// Where the entry of an index is.
    pub(crate) fn offset(&self, index: u32) -> usize {
        self.layout.offset(index)
    }

    /// Puts an entry's bytes, without a look at what is there; to be published.
    fn put(&mut self, bytes: &[u8]) {
        let at = self.offset(self.prod);
        self.page.write(at, bytes);
        self.prod = self.prod.wrapping_add(1);
    }

    /// Puts a request.
    pub(crate) fn request(&mut self, request: &C::Request) {
        let mut bytes = vec![0; self.codec.request_size()];
        self.codec.encode_request(request, &mut bytes);
        self.put(&bytes);
    }

    /// Puts a response.
    pub(crate) fn response(&mut self, response: &C::Response) {
        let mut bytes = vec![0; self.codec.response_size()];
        self.codec.encode_response(response, &mut bytes);
        self.put(&bytes);
    }

    /// Lets the other end see what was put. Whether it wants an event for that.
    pub(crate) fn publish(&self) -> bool {
        let at = self.end.own_prod();
        let old = self.page.load(at);
        self.page.store(at, self.prod);
        fence(SeqCst);
        let event = self.page.load(self.end.their_event());
        self.prod.wrapping_sub(event) < self.prod.wrapping_sub(old)
    }

    /// Says that the own index is `prod`, whatever was put.
    pub(crate) fn claim(&self, prod: u32) {
        self.page.store(self.end.own_prod(), prod);
    }

    /// The other end's index.
    pub(crate) fn theirs(&self) -> u32 {
        self.page.load(self.end.their_prod())
    }

    /// The bytes of the next entry of the other end's, and where it is, if there is one.
    fn next(&mut self) -> Result<Option<(u32, Vec<u8>)>> {
        let claimed = self.theirs().wrapping_sub(self.cons);
        // A front end's requests have all gone before; a back end's too, but for those taken.
        let possible = match self.end {
            End::Front => self.prod.wrapping_sub(self.cons),
            End::Back => self
                .entries()
                .wrapping_sub(self.cons.wrapping_sub(self.prod)),
        };
        ensure!(
            claimed <= possible,
            "the other end claims {claimed} entries where {possible} can be"
        );
        if claimed == 0 {
            return Ok(None);
        }
        let at = self.cons;
        let mut bytes = vec![0; self.codec.entry_size()];
        self.page.read(self.offset(at), &mut bytes);
        self.cons = at.wrapping_add(1);
        self.page.store(self.end.event(), self.cons.wrapping_add(1));
        Ok(Some((at, bytes)))
    }

    /// The next request, and its index.
    pub(crate) fn next_request(&mut self) -> Result<Option<(u32, C::Request)>> {
        Ok(self
            .next()?
            .map(|(at, bytes)| (at, self.codec.decode_request(&bytes))))
    }

    /// The next response, and its index.
    pub(crate) fn next_response(&mut self) -> Result<Option<(u32, C::Response)>> {
        Ok(self
            .next()?
            .map(|(at, bytes)| (at, self.codec.decode_response(&bytes))))
    }

    /// How many more requests a front end can put.
    pub(crate) fn free(&self) -> u32 {
        self.entries()
            .wrapping_sub(self.prod.wrapping_sub(self.cons))
    }
}
