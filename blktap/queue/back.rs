// SPDX-License-Identifier: GPL-2.0

//! The back-end ring: the program's own requests to the disk.

use super::{code, Broken, Inner};
use crate::program::WINDOW;
use blkback::tap::{Desk, Token, OWN_REQUESTS};
use kernel::page::PAGE_SIZE;
use xenbus::{
    prelude::*,
    protocol::{
        blkif::{self, Limits},
        tap::{flag, status, Request, Response, SECTOR_SIZE},
        tapped::{check, Bad, Data},
    },
};

/// In the operation of a token: its tag is the guest's request whose pages are used.
const LENT: u8 = 1 << 7;

impl Inner {
    /// Takes back what the disk has done for the program.
    pub(super) fn take_done(&mut self, desk: &mut Desk<'_>) {
        while let Some((token, status)) = desk.done() {
            self.own = self.own.wrapping_sub(1);
            let lent = token.op & LENT != 0;
            if lent {
                if let Some(entry) = self.sent.get(token.tag) {
                    entry.busy = false;
                }
            }
            if let Some(program) = &mut self.program {
                if program.generation == token.generation {
                    program.respond(&Response {
                        id: token.id,
                        op: token.op & !LENT,
                        flags: if lent { flag::GUEST } else { 0 },
                        status,
                    });
                }
            }
        }
    }

    /// Whether no more requests can be on their way.
    pub(super) fn is_full(&self) -> bool {
        self.own as usize >= OWN_REQUESTS
    }

    /// Takes the program's requests.
    pub(super) fn take_requests(&mut self, desk: &mut Desk<'_>) -> Result<(), Broken> {
        let mut limits = None;
        while !self.is_full() {
            let Some(program) = &mut self.program else {
                break;
            };
            let Some(request) = program.back.pop()? else {
                break;
            };
            let limits = limits.get_or_insert_with(|| desk.disk_limits());
            if let Err(bad) = self.take_request(&request, limits, desk) {
                self.counters.refused = self.counters.refused.wrapping_add(1);
                if let Some(program) = &mut self.program {
                    program.respond(&Response {
                        id: request.id,
                        op: request.op,
                        flags: 0,
                        status: bad.status(),
                    });
                }
            }
        }
        Ok(())
    }

    fn take_request(
        &mut self,
        request: &Request,
        limits: &Limits,
        desk: &mut Desk<'_>,
    ) -> Result<(), Bad> {
        let program = self.program.as_ref().ok_or(Bad::Invalid)?;
        let (checked, data) = check(request, limits, program.window)?;
        let mut token = Token {
            id: request.id,
            tag: 0,
            generation: program.generation,
            op: request.op,
        };
        let result = match data {
            Data::Guest(id) => {
                let entry = self.sent.get(id).filter(|entry| !entry.busy);
                let entry = entry.ok_or(Bad::Invalid)?;
                let asked = desk.request(entry.request);
                if !asked.is_some_and(|(asked, _)| is_like(asked, request)) {
                    return Err(Bad::Invalid);
                }
                token.op |= LENT;
                token.tag = id;
                let result = desk.lend(entry.request, checked, token);
                entry.busy = result.is_ok();
                result
            }
            Data::Window(sector) => {
                let at = WINDOW
                    .wrapping_mul(PAGE_SIZE)
                    .wrapping_add((sector as usize).wrapping_mul(SECTOR_SIZE));
                desk.submit(checked, &program.region, at, token)
            }
            Data::None => desk.submit(checked, &program.region, 0, token),
        };
        result.map_err(|_| Bad::Invalid)?;
        self.own = self.own.wrapping_add(1);
        Ok(())
    }
}

/// Whether a request of the program's may use the pages of this one of the guest's.
fn is_like(asked: &blkif::Request, request: &Request) -> bool {
    code(asked.op, asked.nr_sectors) == request.op && asked.nr_sectors == request.nr_sectors
}

// The numbers of the two protocols are the same.
const _: () = assert!(
    status::OKAY == blkif::status::OKAY
        && status::ERROR == blkif::status::ERROR
        && status::EOPNOTSUPP == blkif::status::EOPNOTSUPP
);
