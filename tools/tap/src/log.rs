// SPDX-License-Identifier: GPL-2.0
//! Messages to the standard error output, which is the log of a program that was sent to the
//! background.

use std::cell::Cell;
use std::fmt::Display;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// More than this many messages in a [`PERIOD`] are counted only.
const BURST: u32 = 20;
const PERIOD: Duration = Duration::from_secs(5);

/// Who says it, and how often. Clones are the same.
#[derive(Clone)]
pub struct Log(Rc<Inner>);

struct Inner {
    who: String,
    since: Cell<Instant>,
    said: Cell<u32>,
}

impl Log {
    /// `who` stands before each message: the chain's text.
    pub fn new(who: &str) -> Self {
        Self(Rc::new(Inner {
            who: who.into(),
            since: Cell::new(Instant::now()),
            said: Cell::new(0),
        }))
    }

    /// Something that is as it should be.
    pub fn info(&self, what: impl Display) {
        eprintln!("{}: {what}", self.0.who);
    }

    /// Something that has failed. If much does, not every one is shown.
    pub fn error(&self, doing: &str, error: &dyn Display) {
        let inner = &self.0;
        if inner.since.get().elapsed() > PERIOD {
            let more = inner.said.get().saturating_sub(BURST);
            if more > 0 {
                eprintln!("{}: {more} further errors", inner.who);
            }
            inner.since.set(Instant::now());
            inner.said.set(0);
        }
        inner.said.set(inner.said.get().saturating_add(1));
        if inner.said.get() <= BURST {
            eprintln!("{}: {doing}: {error}", inner.who);
        }
    }
}
