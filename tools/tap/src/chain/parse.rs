// SPDX-License-Identifier: GPL-2.0
//! From text to [`Chain`].

use super::{Entry, Options, Registry};
use crate::dev::Hook;
use crate::AnyDisk;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// What is wrong with a chain, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// All of it.
    pub chain: String,
    /// The part that is wrong.
    pub part: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain \"{}\"", self.chain)?;
        if self.part != self.chain {
            write!(f, ", at \"{}\"", self.part)?;
        }
        write!(f, ": {}", self.what)
    }
}

impl Error {
    /// For people, behind "error: ": the chain, a mark under the part, what is wrong.
    pub fn picture(&self) -> String {
        let at = self.chain.find(&self.part);
        let Some(at) = at.filter(|_| !self.part.is_empty()) else {
            return self.to_string();
        };
        let text = "error: ".len();
        let mark = text + self.chain[..at].chars().count();
        let under = "^".repeat(self.part.chars().count());
        format!(
            "{}\n{:mark$}{under}\n{:text$}{}",
            self.chain, "", "", self.what
        )
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// An option as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) name: &'static str,
    pub(super) value: String,
    /// As it stands in the chain.
    pub(super) part: String,
}

#[derive(Clone)]
struct Link {
    entry: Entry,
    given: Vec<Given>,
}

impl Link {
    /// The option that is given and names the disk below.
    fn base(&self) -> Option<&'static str> {
        let mut options = self.entry.options.iter().filter(|option| option.below);
        let given = |name| self.given.iter().any(|given| given.name == name);
        options.find_map(|option| given(option.name).then_some(option.name))
    }

    fn is_filter(&self) -> bool {
        self.entry.filter && self.base().is_none()
    }
}

/// A chain whose names are right, and which has all options that it needs.
#[derive(Clone)]
pub struct Chain {
    text: String,
    registry: Arc<Registry>,
    links: Vec<Link>,
}

impl Chain {
    /// Reads `text`, with the extensions of `registry`.
    ///
    /// # Errors
    /// An [`Error`] with the first thing that is wrong.
    pub fn parse(registry: &Arc<Registry>, text: &str) -> Result<Self, Error> {
        let wrong = |part: &str, what: String| Error {
            chain: text.into(),
            part: part.into(),
            what,
        };
        if text.is_empty() {
            let what = "it is empty; a chain is such as \"raw:/srv/disk.raw\"";
            return Err(wrong(text, what.into()));
        }
        let mut links = Vec::new();
        for part in split(text, '+') {
            let link = link(registry, part).map_err(|(part, what)| wrong(part, what))?;
            links.push((part, link));
        }
        for (part, link) in links.iter().rev().skip(1) {
            if !link.is_filter() {
                let name = link.entry.name;
                let with = link.base().map(|base| format!(" with {base}="));
                let with = with.unwrap_or_default();
                let what = format!(
                    "{name} is no filter{with}, it can only be the last; a + in a path is written ++"
                );
                return Err(wrong(part, what));
            }
        }
        Ok(Self {
            text: text.into(),
            registry: registry.clone(),
            links: links.into_iter().map(|(_, link)| link).collect(),
        })
    }

    /// How it was read: a line for each extension, with its options; the last one says what is
    /// behind that.
    pub fn description(&self) -> String {
        let mut text = String::new();
        for link in &self.links {
            let given = |given: &Given| format!(" {}={}", given.name, given.value);
            let given: String = link.given.iter().map(given).collect();
            text += format!("{:<12}{given}", link.entry.name).trim_end();
            text.push('\n');
        }
        text + match self.is_filter() {
            true => "over the guest's own disk\n",
            false => "in the place of the guest's disk\n",
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether its last extension is a filter too, so that it needs a disk below.
    pub fn is_filter(&self) -> bool {
        self.links.last().is_some_and(Link::is_filter)
    }

    /// Whether it can be open several times at once: see
    /// [`Extension::PARALLEL`](super::Extension::PARALLEL).
    pub fn is_parallel(&self) -> bool {
        self.links.iter().all(|link| link.entry.parallel)
    }

    /// Whether it is of filters that are all hooks: see
    /// [`Extension::is_hook`](super::Extension::is_hook).
    pub fn is_hooks(&self) -> bool {
        let is_hook = |link: &Link| {
            let options = self.options(link, link.given.clone(), None);
            (link.entry.is_hook)(&options)
        };
        self.is_filter() && self.links.iter().all(is_hook)
    }

    /// Opens all of it as [hooks](Self::is_hooks), the last one first; they are given in the chain's
    /// order.
    ///
    /// # Errors
    /// The extension's.
    pub async fn open_hooks(&self) -> io::Result<Vec<Rc<dyn Hook>>> {
        let mut hooks = Vec::new();
        for link in self.links.iter().rev() {
            let options = self.options(link, link.given.clone(), None);
            hooks.push((link.entry.hook)(&options).await?);
        }
        hooks.reverse();
        Ok(hooks)
    }

    fn options(&self, link: &Link, given: Vec<Given>, below: Option<AnyDisk>) -> Options {
        Options {
            entry: link.entry.clone(),
            chain: self.text.clone(),
            registry: self.registry.clone(),
            given,
            below,
        }
    }

    /// Opens all of it, the last one first; `below` is for [filters](Self::is_filter).
    ///
    /// # Errors
    /// The extension's.
    pub async fn open(&self, below: Option<AnyDisk>) -> io::Result<AnyDisk> {
        self.open_as(below, false).await
    }

    /// As [`open`](Self::open); a plain path is opened read-only if `read_only`.
    pub(super) async fn open_as(
        &self,
        below: Option<AnyDisk>,
        read_only: bool,
    ) -> io::Result<AnyDisk> {
        let mut disk = below;
        for link in self.links.iter().rev() {
            let mut given = link.given.clone();
            if read_only && link.entry.name == "raw" {
                let already = given.iter().any(|given| given.name == "readonly");
                given.extend((!already).then(|| Given {
                    name: "readonly",
                    value: "yes".into(),
                    part: String::new(),
                }));
            }
            let mut options = self.options(link, given, disk.take());
            if let Some(base) = link.base() {
                options.below = Some(options.disk(base, true).await?);
            }
            disk = Some((link.entry.open)(&options).await?);
        }
        disk.ok_or_else(|| io::Error::other("a chain of nothing"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({:?})", self.text)
    }
}

/// The parts of `text` between each `separator` that is not doubled.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut chars) = (0, text.char_indices().peekable());
    while let Some((at, char)) = chars.next() {
        if char != separator {
            continue;
        }
        if chars.next_if(|(_, next)| *next == separator).is_none() {
            parts.push(&text[start..at]);
            start = at + separator.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// What a value stands for.
fn plain(value: &str) -> String {
    value.replace("++", "+").replace(",,", ",")
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// One extension; or what is wrong, and with which part.
fn link<'a>(registry: &Registry, part: &'a str) -> Result<Link, (&'a str, String)> {
    let (name, options) = match part.starts_with('/') {
        true => ("raw", Some(part)),
        false => match part.split_once(':') {
            Some((name, options)) => (name, Some(options)),
            None => (part, None),
        },
    };
    let Some(entry) = registry.get(name) else {
        let names = registry.entries().iter().map(|entry| entry.name);
        let what = match name {
            "" => "the name of an extension is missing; a + in a path is written ++".into(),
            _ if !is_name(name) => "this begins with no extension's name and is no path".into(),
            _ => format!("there is no extension {name}{}", instead(name, names)),
        };
        return Err((part, what));
    };
    let mut given: Vec<Given> = Vec::new();
    let options = options.into_iter().filter(|options| !options.is_empty());
    for (index, part) in options.flat_map(|text| split(text, ',')).enumerate() {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) if is_name(name) => (Some(name), value),
            _ => (None, part),
        };
        let option = match name {
            Some(name) => entry.options.iter().find(|option| option.name == name),
            None if index == 0 => entry.options.iter().find(|option| option.main),
            None => None,
        };
        let names = entry.options.iter().map(|option| option.name);
        let Some(option) = option else {
            let what = match name {
                Some(name) => format!(
                    "{} has no option {name}{}",
                    entry.name,
                    instead(name, names)
                ),
                None => format!(
                    "an option is a name, = and a value; a comma in a value is written ,,{}",
                    instead(part, names)
                ),
            };
            return Err((part, what));
        };
        if given.iter().any(|given| given.name == option.name) {
            return Err((part, format!("{} is given twice", option.name)));
        }
        given.push(Given {
            name: option.name,
            value: plain(value),
            part: part.into(),
        });
    }
    for option in entry.options.iter().filter(|option| option.required) {
        if !given.iter().any(|given| given.name == option.name) {
            let (name, option, help) = (entry.name, option.name, option.help);
            return Err((part, format!("{name} needs {option}=… ({help})")));
        }
    }
    Ok(Link {
        entry: entry.clone(),
        given,
    })
}

/// A hint at names that there are.
fn instead<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let near = names.iter().map(|other| (distance(name, other), other));
    match near.min() {
        None => "; it takes none".into(),
        Some((distance, near)) if distance <= 2 && distance < name.len() => {
            format!("; did you mean {near}? (there are: {})", names.join(", "))
        }
        Some(_) => format!("; there are: {}", names.join(", ")),
    }
}

/// How many characters are to be changed, put in or taken out to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
