// SPDX-License-Identifier: GPL-2.0
//! Writes that were answered, and that no flush has covered yet.
//!
//! A server that crashes and comes back has forgotten what was in its cache. The guest has not been
//! told, and its next flush would say that its data is stable. So these writes are done again on
//! each new connection, before anything else.

use std::collections::VecDeque;
use tap::nbd::proto::{command, Request, COMMAND_FUA};
use tap::Buf;

/// A write of zeroes takes no data; it is counted as so many bytes.
const SMALL: u64 = 64;

/// Writes in the order of their answers.
#[derive(Default)]
pub struct Kept {
    all: VecDeque<(Request, Option<Buf>)>,
    bytes: u64,
    /// How many were forgotten, ever: the number of the first in `all`.
    first: u64,
}

fn cost(data: Option<&Buf>) -> u64 {
    SMALL + data.map_or(0, |data| data.len() as u64)
}

impl Kept {
    /// A request was answered.
    pub fn add(&mut self, request: &Request, data: Option<Buf>) {
        let stable = request.flags & COMMAND_FUA != 0;
        if !stable && matches!(request.command, command::WRITE | command::WRITE_ZEROES) {
            self.bytes += cost(data.as_ref());
            self.all.push_back((*request, data));
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A mark: all that were added until now are before it.
    pub fn mark(&self) -> u64 {
        self.first + self.all.len() as u64
    }

    /// All before `mark` are stable.
    pub fn forget(&mut self, mark: u64) {
        while self.first < mark {
            let Some((_, data)) = self.all.pop_front() else {
                return;
            };
            self.bytes -= cost(data.as_ref());
            self.first += 1;
        }
    }

    /// The one that has this number, or the first after it, and its number.
    pub fn get(&self, number: u64) -> Option<(u64, Request, Option<Buf>)> {
        let number = number.max(self.first);
        let (request, data) = self.all.get((number - self.first) as usize)?;
        Some((
            number,
            *request,
            data.as_ref().map(|data| Buf::copy_of(data)),
        ))
    }
}
