// SPDX-License-Identifier: GPL-2.0
//! The spare of a driver domain: another one of the same configuration, booted, without its disks,
//! that takes over when the first one dies. It is made in the background.

use crate::guard::find;
use crate::heart;
use crate::xl::Xl;
use crate::{log, Result};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xen::store::Store;
use xen::{privcmd, DomId};

/// How often it is looked whether it has been made.
const LOOK: Duration = Duration::from_millis(500);
/// The time between two attempts to make one.
const AGAIN: Duration = Duration::from_secs(30);

/// The spare, if there is one.
#[derive(Debug)]
pub(crate) struct Spare {
    /// The name of the domain that it is for.
    of: String,
    /// Its own.
    name: String,
    config: String,
    xl: Xl,
    maker: Option<JoinHandle<std::result::Result<DomId, String>>>,
    domid: Option<DomId>,
    /// When it was made.
    since: Instant,
    ready: bool,
    not_before: Instant,
}

impl Spare {
    /// For a domain; nothing is made yet.
    pub(crate) fn new(of: &str, config: &str, xl: &Xl) -> Self {
        let now = Instant::now();
        Spare {
            of: of.into(),
            name: format!("{of}.spare"),
            config: config.into(),
            xl: xl.clone(),
            maker: None,
            domid: None,
            since: now,
            ready: false,
            not_before: now,
        }
    }

    /// Sees to it that there is one; returns when to look again, `None` when no time is due.
    pub(crate) fn tend(&mut self, store: &mut Store) -> Result<Option<Duration>> {
        if self.maker.as_ref().is_some_and(JoinHandle::is_finished) {
            self.made();
        }
        if let Some(domid) = self.domid {
            if !privcmd::exists(domid)? {
                self.say(format_args!("domain {domid} has gone"));
                self.domid = None;
                self.not_before = Instant::now() + AGAIN;
            } else if self.ready {
                return Ok(None);
            } else {
                let beats = format!("/local/domain/{domid}/{}", heart::NODE);
                self.ready = store.read_opt(&beats)?.is_some();
                if self.ready {
                    let took = self.since.elapsed().as_secs_f64();
                    self.say(format_args!(
                        "domain {domid} is ready, booted in {took:.3} s"
                    ));
                }
            }
        } else if self.maker.is_none() {
            let left = self.not_before.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Ok(Some(left));
            }
            let (name, config, xl) = (self.name.clone(), self.config.clone(), self.xl.clone());
            let make = move || make(&name, &config, &xl).map_err(|e| e.to_string());
            self.since = Instant::now();
            self.maker = Some(thread::spawn(make));
        }
        Ok(Some(LOOK))
    }

    /// Gives it away, to be the domain itself; waits for one that is being made.
    pub(crate) fn take(&mut self) -> Option<DomId> {
        self.made();
        let domid = self.domid.take()?;
        privcmd::exists(domid)
            .is_ok_and(|here| here)
            .then_some(domid)
    }

    /// Takes note of what the maker has made.
    fn made(&mut self) {
        let Some(maker) = self.maker.take() else {
            return;
        };
        match maker.join() {
            Ok(Ok(domid)) => {
                let took = self.since.elapsed().as_secs_f64();
                self.say(format_args!("domain {domid} is created in {took:.3} s"));
                self.domid = Some(domid);
                self.since = Instant::now();
                self.ready = false;
            }
            Ok(Err(e)) => {
                self.say(format_args!("{e}; again in {AGAIN:?}"));
                self.not_before = Instant::now() + AGAIN;
            }
            Err(_) => self.say(format_args!("a thread has died")),
        }
    }

    fn say(&self, text: std::fmt::Arguments<'_>) {
        log::line(&self.of, format_args!("spare: {text}"));
    }
}

/// Starts a spare, if there is none from an earlier devmgr.
fn make(name: &str, config: &str, xl: &Xl) -> Result<DomId> {
    let mut store = Store::open()?;
    if let Some(domid) = find(&mut store, xl, name)? {
        return Ok(domid);
    }
    xl.create_spare(config, name)?;
    Ok(find(&mut store, xl, name)?.ok_or("it is not there after xl create")?)
}
