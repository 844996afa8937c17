// SPDX-License-Identifier: GPL-2.0

//! The front-end ring: the guest's requests to the program, and its answers.

use super::{code, Broken, Counters, Inner};
use crate::program::WINDOW;
use blkback::tap::Desk;
use kernel::page::PAGE_SIZE;
use xenbus::{
    kthread,
    prelude::*,
    protocol::{
        blkif::{self, Op, SECTORS_PER_PAGE},
        tap::{flag, op, status, Request, NO_DATA},
        tapped::{Answered, Entry, Piece},
    },
    region::{RegionCopies, Way},
};

/// The sector of the window where a piece begins.
fn sector_of(piece: Piece) -> u32 {
    piece.at.wrapping_mul(u32::from(SECTORS_PER_PAGE))
}

/// Adds the copies of a request's data, all segments in a row, between the guest's pages and a piece
/// of the window.
fn copy(
    copies: &mut RegionCopies,
    way: Way,
    segments: &[blkif::Segment],
    piece: Piece,
    number: u16,
) -> Result {
    let mut at = WINDOW
        .wrapping_add(piece.at as usize)
        .wrapping_mul(PAGE_SIZE);
    for segment in segments {
        let len = segment.bytes() as usize;
        copies.push(way, (segment.gref, segment.offset()), at, len, number)?;
        at = at.wrapping_add(len);
    }
    Ok(())
}

/// A request that is about to be sent.
pub(super) struct Going {
    /// Which one of the guest's it is.
    number: u16,
    piece: Piece,
    request: Request,
    failed: bool,
}

/// An answer that is about to be given.
pub(super) struct Coming {
    entry: Entry,
    status: i16,
    failed: bool,
    /// The disk is to do it.
    pass: bool,
}

/// How many are worked on at a time.
pub(super) const BATCH: usize = 64;

impl Inner {
    /// Sends what waits to the program, as far as there is room; to be published by the caller.
    pub(super) fn send(&mut self, desk: &mut Desk<'_>) {
        while self.send_some(desk) == BATCH {}
    }

    /// How many.
    fn send_some(&mut self, desk: &mut Desk<'_>) -> usize {
        let Inner {
            program: Some(program),
            waiting,
            sent,
            going: batch,
            ..
        } = self
        else {
            return 0;
        };
        if waiting.is_empty() {
            return 0;
        }
        let now = kthread::now_ns();
        while let Some(number) = waiting.first() {
            if batch.len() == BATCH || (program.front.free() as usize) <= batch.len() {
                break;
            }
            let Some((request, segments)) = desk.request(number) else {
                // Never: it has not been given away.
                waiting.pop();
                continue;
            };
            let code = code(request.op, request.nr_sectors);
            let has_data = matches!(code, op::READ | op::WRITE) && !program.no_data;
            let pages = match has_data {
                true => request.nr_sectors.div_ceil(SECTORS_PER_PAGE.into()) as u32,
                false => 0,
            };
            let Some(piece) = program.pieces.take(pages) else {
                break;
            };
            let Some(id) = sent.send(number, code, piece, now) else {
                program.pieces.give(piece);
                break;
            };
            let mut failed = false;
            if has_data && code == op::WRITE {
                let index = batch.len() as u16;
                let copies = &mut program.copies;
                failed = copy(copies, Way::FromGuest, segments, piece, index).is_err();
            }
            let flags = match request.op {
                Op::WriteBarrier => flag::BARRIER,
                Op::Flush if request.nr_sectors > 0 => flag::BARRIER,
                Op::Discard { secure: true } => flag::SECURE,
                _ => 0,
            };
            let (sector, nr_sectors) = match code {
                op::FLUSH => (0, 0),
                _ => (request.sector, request.nr_sectors),
            };
            waiting.pop();
            // There is room.
            let _ = batch.push_within_capacity(Going {
                number,
                piece,
                request: Request {
                    id,
                    op: code,
                    flags,
                    sector,
                    nr_sectors,
                    data: if has_data { sector_of(piece) } else { NO_DATA },
                    guest: 0,
                },
                failed,
            });
        }
        program.copies.run(|index| {
            if let Some(going) = batch.get_mut(usize::from(index)) {
                going.failed = true;
            }
        });
        for going in batch.iter() {
            if going.failed {
                // The guest's pages are not there to be read.
                let _ = sent.answer(going.request.id);
                program.pieces.give(going.piece);
                desk.refuse(going.number);
            } else {
                // There is room.
                let _ = program.front.push(&going.request);
            }
        }
        let count = batch.len();
        batch.clear();
        count
    }

    /// Takes the program's answers, and gives them to the guest.
    pub(super) fn take_answers(&mut self, desk: &mut Desk<'_>) -> Result<(), Broken> {
        while self.take_some(desk)? == BATCH {}
        Ok(())
    }

    /// How many.
    fn take_some(&mut self, desk: &mut Desk<'_>) -> Result<usize, Broken> {
        let Inner {
            program: Some(program),
            sent,
            coming: batch,
            counters,
            ..
        } = self
        else {
            return Ok(0);
        };
        if program.front.unconsumed()? == 0 {
            return Ok(0);
        }
        let now = kthread::now_ns();
        let mut result = Ok(());
        while batch.len() < BATCH {
            let response = match program.front.pop() {
                Ok(Some(response)) => response,
                Ok(None) => break,
                Err(overrun) => {
                    result = Err(overrun.into());
                    break;
                }
            };
            let here = response.flags & flag::GUEST != 0;
            let pass = response.flags & flag::PASS != 0;
            let done = response.status == status::OKAY && !pass;
            if let Some(entry) = sent.get(response.id) {
                if entry.op == op::READ && entry.piece.pages == 0 && done && !here {
                    // There is nothing that could be given to the guest.
                    result = Err(Broken);
                    break;
                }
            }
            let entry = match sent.answer(response.id) {
                Ok(Answered::Request(entry)) => entry,
                Ok(Answered::Orphan(entry)) => {
                    program.pieces.give(entry.piece);
                    continue;
                }
                Err(_) => {
                    result = Err(Broken);
                    break;
                }
            };
            counters.answered(now.wrapping_sub(entry.since));
            let mut failed = false;
            if entry.op == op::READ && done && !here {
                if let Some((_, segments)) = desk.request(entry.request) {
                    let (way, index) = (Way::ToGuest, batch.len() as u16);
                    let copies = &mut program.copies;
                    failed = copy(copies, way, segments, entry.piece, index).is_err();
                }
            }
            // There is room.
            let _ = batch.push_within_capacity(Coming {
                entry,
                status: match response.status {
                    status::OKAY => status::OKAY,
                    status::EOPNOTSUPP => status::EOPNOTSUPP,
                    _ => status::ERROR,
                },
                failed,
                pass,
            });
        }
        program.copies.run(|index| {
            if let Some(coming) = batch.get_mut(usize::from(index)) {
                coming.failed = true;
            }
        });
        for coming in batch.iter() {
            program.pieces.give(coming.entry.piece);
            if coming.pass {
                desk.to_disk(coming.entry.request);
            } else if coming.failed {
                desk.refuse(coming.entry.request);
            } else {
                desk.answer(coming.entry.request, coming.status);
            }
        }
        let count = batch.len();
        batch.clear();
        result.map(|()| count)
    }
}

impl Counters {
    /// Counts how long the program took to answer, in ns.
    fn answered(&mut self, ns: u64) {
        let us = ns / 1000;
        let bucket = u64::BITS.wrapping_sub(us.leading_zeros()) as usize;
        let last = self.latency.len().saturating_sub(1);
        if let Some(count) = self.latency.get_mut(bucket.min(last)) {
            *count = count.wrapping_add(1);
        }
    }
}
