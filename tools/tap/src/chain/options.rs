// SPDX-License-Identifier: GPL-2.0
//! The values that an extension is opened with.

use super::parse::{Error, Given};
use super::{Chain, Entry, Registry};
use crate::AnyDisk;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The options of an extension, and the disk below it.
///
/// Each is asked for by its name in [`Extension::OPTIONS`](super::Extension::OPTIONS); one that is
/// not in there is a mistake of the extension's, and a panic. The errors say what is wrong with the
/// value, and stand in the chain's log as they are.
pub struct Options {
    pub(super) entry: Entry,
    pub(super) chain: String,
    pub(super) registry: Arc<Registry>,
    pub(super) given: Vec<Given>,
    pub(super) below: Option<AnyDisk>,
}

impl Options {
    /// The disk below.
    ///
    /// # Errors
    /// If there is none: the extension is no [`FILTER`](super::Extension::FILTER).
    pub fn below(&self) -> io::Result<AnyDisk> {
        let name = self.entry.name;
        let none = || io::Error::other(format!("{name}: there is no disk below to filter"));
        self.below.clone().ok_or_else(none)
    }

    /// The text of an option, or its default, if it has either.
    pub fn get(&self, name: &str) -> Option<&str> {
        let option = self.entry.options.iter().find(|option| option.name == name);
        let option = option.unwrap_or_else(|| panic!("{} has no {name}", self.entry.name));
        let given = self.given.iter().find(|given| given.name == name);
        given.map(|given| given.value.as_str()).or(option.default)
    }

    /// The text of an option.
    ///
    /// # Errors
    /// If it is not given.
    pub fn text(&self, name: &str) -> io::Result<&str> {
        let missing = || self.wrong(name, format!("{} needs {name}=…", self.entry.name));
        self.get(name).ok_or_else(missing)
    }

    /// An error about an option: `what` says what would be right.
    pub fn wrong(&self, name: &str, what: impl Into<String>) -> io::Error {
        let given = self.given.iter().find(|given| given.name == name);
        Error {
            chain: self.chain.clone(),
            part: given.map_or(name, |given| &given.part).into(),
            what: what.into(),
        }
        .into()
    }

    /// A path.
    ///
    /// # Errors
    /// If it is not given, or empty.
    pub fn path(&self, name: &str) -> io::Result<PathBuf> {
        match self.text(name)? {
            "" => Err(self.wrong(name, "a path is missing")),
            path => Ok(path.into()),
        }
    }

    /// `yes` or `no`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn yes(&self, name: &str) -> io::Result<bool> {
        match self.text(name)? {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(self.wrong(name, format!("{name} is yes or no"))),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// If it is none.
    pub fn number(&self, name: &str) -> io::Result<u64> {
        let wrong = |_| self.wrong(name, format!("{name} is a number, such as 100"));
        self.text(name)?.parse().map_err(wrong)
    }

    /// A number of bytes, which may end with `k`, `M`, `G` or `T` for 2¹⁰, 2²⁰, 2³⁰ and 2⁴⁰.
    ///
    /// # Errors
    /// If it is none.
    pub fn bytes(&self, name: &str) -> io::Result<u64> {
        let text = self.text(name)?;
        let units = [("k", 10), ("K", 10), ("M", 20), ("G", 30), ("T", 40)];
        let unit = units
            .iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
        let (number, shift) = unit.unwrap_or((text, 0));
        let number: Option<u64> = number.parse().ok();
        number
            .and_then(|number| number.checked_mul(1 << shift))
            .ok_or_else(|| self.wrong(name, format!("{name} is a size, such as 4096 or 64M")))
    }

    /// A time, a number that ends with `us`, `ms`, `s` or `m`.
    ///
    /// # Errors
    /// If it is none.
    pub fn time(&self, name: &str) -> io::Result<Duration> {
        let text = self.text(name)?;
        let units = [("us", 1), ("ms", 1000), ("s", 1_000_000), ("m", 60_000_000)];
        let unit = units
            .iter()
            .find_map(|(unit, micros)| Some((text.strip_suffix(unit)?, *micros)));
        unit.and_then(|(number, micros)| number.parse::<u64>().ok()?.checked_mul(micros))
            .map(Duration::from_micros)
            .ok_or_else(|| self.wrong(name, format!("{name} is a time, such as 10ms or 2s")))
    }

    /// A disk: a path, or a chain, which is opened. With `read_only`, a plain file is opened so.
    ///
    /// # Errors
    /// If it cannot be read as a chain, or not opened.
    pub async fn disk(&self, name: &str, read_only: bool) -> io::Result<AnyDisk> {
        let chain = Chain::parse(&self.registry, self.text(name)?)?;
        if chain.is_filter() {
            let what = format!("{name} ends with a filter, and has no disk to filter");
            return Err(self.wrong(name, what));
        }
        Box::pin(chain.open_as(None, read_only)).await
    }

    /// The chain that all this is of, for messages.
    pub fn chain(&self) -> &str {
        &self.chain
    }
}
