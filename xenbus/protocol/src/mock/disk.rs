// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A front end's pages and a back end's sectors, in ordinary memory.

use crate::blkif::{
    status, Limits, Op, Parsed, RawRequest, Reason, Refusal, Request, Response, Segment,
    SECTOR_SIZE,
};
use crate::ring::{Back, Codec, Memory, Overrun};
use std::collections::BTreeMap;
use std::vec::Vec;

const SECTOR: usize = SECTOR_SIZE as usize;

/// The pages that a front end has granted, by grant reference.
#[derive(Default)]
pub struct Guest {
    /// The pages.
    pub pages: BTreeMap<u32, [u8; 4096]>,
}

impl Guest {
    /// The part of a page that a segment names; `None` if there is no such grant.
    fn segment(&mut self, segment: &Segment) -> Option<&mut [u8]> {
        let page = self.pages.get_mut(&segment.gref)?;
        page.get_mut(segment.offset() as usize..)?
            .get_mut(..segment.bytes() as usize)
    }
}

/// A disk, and the back end that serves it.
pub struct Disk {
    /// What the back end allows. The capacity fits `data`.
    pub limits: Limits,
    /// The contents.
    pub data: Vec<u8>,
}

impl Disk {
    /// A zeroed disk.
    pub fn new(limits: Limits) -> Self {
        let bytes = limits.capacity_sectors as usize * SECTOR;
        Self {
            limits,
            data: std::vec![0; bytes],
        }
    }

    /// Serves what waits in the ring. Returns how many requests that were, and whether the front
    /// end wants to be notified.
    pub fn serve<M, C>(
        &mut self,
        ring: &mut Back<M, C>,
        guest: &mut Guest,
    ) -> Result<(usize, bool), Overrun>
    where
        M: Memory,
        C: Codec<Request = RawRequest, Response = Response>,
    {
        let mut served = 0;
        loop {
            while let Some(raw) = ring.pop()? {
                let response = match self.parse(&raw, guest) {
                    Ok((request, segments)) => {
                        let done = self.execute(&request, &segments, guest).is_some();
                        request.response(if done { status::OKAY } else { status::ERROR })
                    }
                    Err(refusal) => refusal.response(),
                };
                // One response for the request just popped.
                let _ = ring.push(&response);
                served += 1;
            }
            if !ring.final_check()? {
                return Ok((served, ring.publish()));
            }
        }
    }

    /// Checks a request, and reads the list of segments of an indirect one.
    pub fn parse(
        &self,
        raw: &RawRequest,
        guest: &Guest,
    ) -> Result<(Request, Vec<Segment>), Refusal> {
        match Request::parse(raw, &self.limits)? {
            Parsed::Whole(request, segments) => Ok((request, segments.to_vec())),
            Parsed::Indirect(indirect) => {
                let mut list = Vec::new();
                for gref in indirect.pages() {
                    let page = guest.pages.get(gref);
                    list.extend(page.ok_or(indirect.refuse(Reason::Segment))?);
                }
                let mut segments = Vec::new();
                let request =
                    indirect.parse(&list, &self.limits, |segment| segments.push(segment))?;
                Ok((request, segments))
            }
        }
    }

    /// Carries out a request; `None` if a grant reference is bad.
    ///
    /// Panics if the request is not what [`Request::parse`] promises: this is a test.
    pub fn execute(
        &mut self,
        request: &Request,
        segments: &[Segment],
        guest: &mut Guest,
    ) -> Option<()> {
        if request.nr_sectors == 0 {
            return Some(());
        }
        let start = request.sector as usize * SECTOR;
        let range = &mut self.data[start..start + request.nr_sectors as usize * SECTOR];
        if let Op::Discard { .. } = request.op {
            range.fill(0);
            return Some(());
        }
        let mut rest = range;
        for segment in segments {
            let (here, after) = rest.split_at_mut(segment.bytes() as usize);
            let page = guest.segment(segment)?;
            match request.op {
                Op::Read => page.copy_from_slice(here),
                _ => here.copy_from_slice(page),
            }
            rest = after;
        }
        assert!(rest.is_empty(), "the segments add up to the sectors");
        Some(())
    }
}
