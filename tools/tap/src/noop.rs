// SPDX-License-Identifier: GPL-2.0
//! `noop`: a filter that changes nothing, to measure what a filter costs by itself.

use crate::chain::{Extension, Options};
use crate::dev::Hook;
use crate::{AnyDisk, Disk};
use std::io;
use std::rc::Rc;

/// The disk below.
pub struct Noop(AnyDisk);

impl Disk for Noop {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.0)
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.0.discard(at, len).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        self.0.write_zeroes(at, len, fua).await
    }
}

struct Nothing;

impl Hook for Nothing {
    fn wants_replies(&self) -> bool {
        false
    }
}

impl Extension for Noop {
    const NAME: &str = "noop";
    const HELP: &str = "changes nothing";
    const FILTER: bool = true;
    const PARALLEL: bool = true;

    fn is_hook(_: &Options) -> bool {
        true
    }

    async fn hook(_: &Options) -> io::Result<Rc<dyn Hook>> {
        Ok(Rc::new(Nothing))
    }

    async fn open(options: &Options) -> io::Result<Self> {
        Ok(Noop(options.below()?))
    }
}
