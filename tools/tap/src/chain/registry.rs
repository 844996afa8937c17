// SPDX-License-Identifier: GPL-2.0
//! The extensions that a program has.

use super::Options;
use crate::dev::Hook;
use crate::{AnyDisk, Disk};
use std::fmt::Write;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// An option of an extension.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Of letters, digits and `-`.
    pub name: &'static str,
    /// In one line: what it is for, and what values it takes.
    pub help: &'static str,
    /// What it is if it is not given.
    pub default: Option<&'static str>,
    /// Whether it has to be given.
    pub required: bool,
    /// Whether its value may stand first, without the name.
    pub main: bool,
    /// Whether its value, if it is given, is the disk below: see [`below`](Self::below).
    pub below: bool,
}

impl Opt {
    /// The main option: it has to be given, and its value may stand first.
    pub const fn main(name: &'static str, help: &'static str) -> Self {
        Self {
            main: true,
            ..Self::must(name, help)
        }
    }

    /// One that has to be given.
    pub const fn must(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            default: None,
            required: true,
            main: false,
            below: false,
        }
    }

    /// One that may be given.
    pub const fn may(name: &'static str, help: &'static str) -> Self {
        Self {
            required: false,
            ..Self::must(name, help)
        }
    }

    /// One of a filter that may be given: a disk, which is opened read-only, and is
    /// [`Options::below`] then. The filter is none in a chain where it is given, but the last.
    pub const fn below(name: &'static str, help: &'static str) -> Self {
        Self {
            below: true,
            ..Self::may(name, help)
        }
    }

    /// One with a default.
    pub const fn or(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self {
            default: Some(default),
            ..Self::may(name, help)
        }
    }
}

/// How a [`Disk`] is made by name.
#[allow(async_fn_in_trait)]
pub trait Extension: Disk + Sized {
    /// Its name in a chain: of letters, digits and `-`.
    const NAME: &str;
    /// In one line: what it does. A longer text may follow after an empty line.
    const HELP: &str;
    /// Its options.
    const OPTIONS: &[Opt] = &[];
    /// Whether it has a disk below: [`Options::below`].
    const FILTER: bool = false;
    /// Whether it can be open several times at once for the same guest's disk, with nothing shared
    /// but what is below: then each queue has one in a thread of its own. If one in the chain cannot,
    /// one thread serves all queues.
    const PARALLEL: bool = false;

    /// Whether, with these options, it is a filter that can be had as a [`Hook`](crate::dev::Hook)
    /// too, by [`hook`](Self::hook): one that does not look at data. The options need not be right.
    fn is_hook(options: &Options) -> bool {
        let _ = options;
        false
    }

    /// Makes one as a hook. There is no disk below to be asked then.
    async fn hook(options: &Options) -> io::Result<Rc<dyn Hook>> {
        let _ = options;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes one. What goes wrong is told with names: the file's, the option's.
    async fn open(options: &Options) -> io::Result<Self>;
}

type Opening<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + 'a>>;

type Open = dyn for<'a> Fn(&'a Options) -> Opening<'a, AnyDisk> + Send + Sync;

type OpenHook = for<'a> fn(&'a Options) -> Opening<'a, Rc<dyn Hook>>;

/// An [`Extension`] as a value.
#[derive(Clone)]
pub struct Entry {
    /// [`Extension::NAME`].
    pub name: &'static str,
    /// [`Extension::HELP`].
    pub help: &'static str,
    /// [`Extension::OPTIONS`].
    pub options: &'static [Opt],
    /// [`Extension::FILTER`].
    pub filter: bool,
    /// [`Extension::PARALLEL`].
    pub parallel: bool,
    pub(super) open: Arc<Open>,
    pub(super) is_hook: fn(&Options) -> bool,
    pub(super) hook: OpenHook,
}

impl Entry {
    fn of<E: Extension>() -> Self {
        Self {
            name: E::NAME,
            help: E::HELP,
            options: E::OPTIONS,
            filter: E::FILTER,
            parallel: E::PARALLEL,
            open: Arc::new(|options| Box::pin(async { Ok(AnyDisk::new(E::open(options).await?)) })),
            is_hook: E::is_hook,
            hook: |options| Box::pin(E::hook(options)),
        }
    }

    /// Its help in one line.
    pub fn summary(&self) -> &'static str {
        self.help.lines().next().unwrap_or_default()
    }
}

/// The extensions that a program has, in the order in which they are shown.
#[derive(Clone, Default)]
pub struct Registry(Vec<Entry>);

impl Registry {
    /// Those that this crate brings: `raw` and `noop`.
    pub fn new() -> Self {
        Self::default().with::<crate::Raw>().with::<crate::Noop>()
    }

    /// And `E`, which replaces one of the same name.
    #[must_use]
    pub fn with<E: Extension>(self) -> Self {
        self.and(Entry::of::<E>())
    }

    /// And a filter without options, which `make` makes of the disk below; it replaces one of the
    /// same name.
    #[must_use]
    pub fn with_filter<D: Disk>(self, name: &'static str, make: fn(AnyDisk) -> D) -> Self {
        self.and(Entry {
            name,
            help: "this program's own",
            options: &[],
            filter: true,
            parallel: false,
            open: Arc::new(move |options| {
                Box::pin(async move { Ok(AnyDisk::new(make(options.below()?))) })
            }),
            is_hook: |_| false,
            hook: |_| Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
        })
    }

    fn and(mut self, new: Entry) -> Self {
        self.0.retain(|entry| entry.name != new.name);
        self.0.push(new);
        self
    }

    /// All.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.name == name)
    }

    /// All extensions and their options, for `--help`.
    pub fn help(&self) -> String {
        let mut text = String::new();
        for entry in &self.0 {
            let kind = if entry.filter { " (filter)" } else { "" };
            let _ = writeln!(text, "  {:<12}{}{kind}", entry.name, entry.summary());
            for option in entry.options {
                let note = match option.default {
                    Some(default) => format!(" [{default}]"),
                    None if option.required => " (required)".into(),
                    None => String::new(),
                };
                let _ = writeln!(text, "    {:<12}{}{note}", option.name, option.help);
            }
        }
        text
    }
}
