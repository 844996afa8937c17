// SPDX-License-Identifier: GPL-2.0
//! Results in KTAP, the kernel's test output: a plan, then one line a scenario.

use crate::Result;

/// How a scenario ended without an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The other end did as it should.
    Passed,
    /// It could not be tried here, for this reason.
    Skipped(&'static str),
}

/// Prints the lines and keeps count.
#[derive(Debug, Default)]
pub(crate) struct Ktap {
    number: usize,
    failed: usize,
}

impl Ktap {
    /// Prints the head for `count` scenarios.
    pub(crate) fn start(count: usize) -> Self {
        println!("KTAP version 1\n1..{count}");
        Ktap::default()
    }

    /// Prints a line about what comes next or has just been seen.
    pub(crate) fn note(&self, text: &str) {
        text.lines().for_each(|l| println!("# {l}"));
    }

    /// Prints the result of a scenario.
    pub(crate) fn result(&mut self, name: &str, result: Result<Outcome>) {
        self.number += 1;
        match result {
            Ok(Outcome::Passed) => println!("ok {} {name}", self.number),
            Ok(Outcome::Skipped(why)) => println!("ok {} {name} # SKIP {why}", self.number),
            Err(e) => {
                self.failed += 1;
                self.note(&e.to_string());
                println!("not ok {} {name}", self.number);
            }
        }
    }

    /// The exit code: 1 if a scenario failed.
    pub(crate) fn code(&self) -> u8 {
        (self.failed > 0).into()
    }
}
