// SPDX-License-Identifier: GPL-2.0
//! The guard of one driver domain: watches it while it lives, notes what it serves, and starts it
//! again when it has died or hangs.

use crate::args::Run;
use crate::device::{Device, Sort};
use crate::heart::{self, Heart};
use crate::memory::Memory;
use crate::spare::Spare;
use crate::xl::{Life, Xl};
use crate::{config, log, Result};
use std::fmt::Arguments;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use xen::store::Store;
use xen::DomId;

/// The store says by this that a domain has gone, or stopped.
pub(crate) const RELEASE: &str = "@releaseDomain";
/// The longest pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(30);

/// A driver domain and what is known of it.
pub(crate) struct Guard {
    pub(crate) name: String,
    pub(crate) config: String,
    /// The domain's own disks.
    pub(crate) disks: Vec<String>,
    pub(crate) run: Run,
    pub(crate) xl: Xl,
    pub(crate) store: Store,
    pub(crate) memory: Memory,
    pub(crate) spare: Option<Spare>,
}

impl Guard {
    /// The guard of the domain that the file describes.
    pub(crate) fn new(path: &Path, run: &Run) -> Result<Self> {
        let say = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let config = path.to_str().ok_or_else(|| say(&"not a name in UTF-8"))?;
        let text = std::fs::read_to_string(path).map_err(|e| say(&e))?;
        let name = config::name(&text).map_err(|e| say(&e))?;
        let disks = match run.spare {
            true => config::disks(&text).map_err(|e| say(&e))?,
            false => Vec::new(),
        };
        let memory = Memory::load(&run.state, &name)?;
        let xl = Xl {
            program: run.xl.clone(),
            limit: run.limit,
        };
        Ok(Guard {
            spare: run.spare.then(|| Spare::new(&name, config, &xl)),
            config: config.to_string(),
            disks,
            name,
            run: run.clone(),
            xl,
            store: Store::open().map_err(|e| format!("the store: {e}"))?,
            memory,
        })
    }

    /// The domain's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn log(&self, text: Arguments<'_>) {
        log::line(&self.name, text);
    }

    /// Looks after the domain until the end; an error is one of the store.
    pub(crate) fn run(mut self) -> Result {
        self.store.watch(RELEASE, RELEASE)?;
        let mut domain = self.find_at_last()?;
        let mut pause = Duration::from_secs(1);
        loop {
            let began = Instant::now();
            if let Some(domid) = domain {
                self.restore(domid)?;
                self.log(format_args!("watching domain {domid}"));
                let why = self.serve(domid)?;
                let served = self.memory.devices().count();
                self.log(format_args!(
                    "domain {domid} {why}; it served {served} devices"
                ));
            }
            let died = Instant::now();
            match self.restart(domain, died) {
                Ok(domid) => {
                    domain = Some(domid);
                    pause = Duration::from_secs(1);
                }
                Err(e) => {
                    self.log(format_args!("cannot start: {e}; again in {pause:?}"));
                    thread::sleep(pause);
                    pause = (pause * 2).min(PATIENCE);
                    domain = self.find_at_last()?;
                }
            }
            // One that dies as soon as it is up must not keep the host busy.
            if began.elapsed() < Duration::from_secs(2) {
                thread::sleep(pause);
            }
        }
    }

    /// The number of the domain; waits until xl knows.
    fn find_at_last(&mut self) -> Result<Option<DomId>> {
        loop {
            // That of the store is one of its own, below.
            match find(&mut self.store, &self.xl, &self.name) {
                Ok(domain) => return Ok(domain),
                Err(e) => self.log(format_args!("{e}")),
            }
            self.store.list("/local/domain")?;
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// Watches a domain until it has died or hangs, and says which.
    fn serve(&mut self, domid: DomId) -> Result<String> {
        let home = format!("/local/domain/{domid}");
        let (backs, name) = (format!("{home}/backend"), format!("{home}/name"));
        let beats = format!("{home}/{}", heart::NODE);
        self.store.watch(&backs, "backs")?;
        self.store.watch(&beats, "beats")?;
        let mut heart = Heart::new(Instant::now());
        let why = loop {
            let limit = heart.left(self.run.stuck, Instant::now());
            let spare = match &mut self.spare {
                Some(spare) => spare.tend(&mut self.store)?,
                None => None,
            };
            // The longest wait is for nothing in particular.
            let wait = limit.into_iter().chain(spare).min();
            let wait = wait.unwrap_or(Duration::from_secs(3600));
            let mut event = self.store.event(wait)?;
            if event.is_none() && limit.is_some() {
                // The last beat may have come in the meantime.
                heart.look(self.store.read_opt(&beats)?, Instant::now());
                if heart.left(self.run.stuck, Instant::now()) == Some(Duration::ZERO) {
                    break format!("has had no heartbeat for {:?}", self.run.stuck);
                }
            }
            // Whatever has come by now is one change.
            let (mut look, mut ended) = (false, false);
            while let Some(e) = event {
                look |= e.token == "backs";
                ended |= e.token == RELEASE;
                event = self.store.event(Duration::ZERO)?;
            }
            let beat = self.store.read_opt(&beats)?;
            // Xen may be at work on its end still, but the toolstack has done its part.
            if beat.is_none() && heart.beats() && self.store.read_opt(&name)?.is_none() {
                break "has gone".to_string();
            }
            heart.look(beat, Instant::now());
            if look {
                self.note(domid)?;
            }
            if ended {
                match self.xl.life(domid) {
                    Ok(Life::Running) => {}
                    Ok(Life::Dead(how)) => break format!("has died ({how})"),
                    Ok(Life::Gone) => break "has gone".to_string(),
                    Err(e) => self.log(format_args!("{e}")),
                }
            }
        };
        // With its directory they may have gone.
        let _ = self.store.unwatch(&backs, "backs");
        let _ = self.store.unwatch(&beats, "beats");
        Ok(why)
    }

    /// Takes note of what the domain serves now.
    ///
    /// A device whose back end's directory has gone is forgotten only if its front end does not point
    /// there any more: that is a detach. Else the domain is being destroyed.
    pub(crate) fn note(&mut self, domid: DomId) -> Result {
        let found = self.store.transaction(|store| {
            let mut found = Vec::new();
            for sort in Sort::ALL {
                let base = format!("/local/domain/{domid}/backend/{}", sort.dir());
                for guest in store.list(&base).unwrap_or_default() {
                    for number in store.list(&format!("{base}/{guest}")).unwrap_or_default() {
                        found.extend(Device::read(store, &format!("{base}/{guest}/{number}"))?);
                    }
                }
            }
            Ok(found)
        })?;
        let mut changed = false;
        let same = |a: &Device, b: &Device| a.key() == b.key();
        let lost: Vec<_> = self
            .memory
            .devices()
            .filter(|old| !found.iter().any(|new| same(old, new)))
            .cloned()
            .collect();
        for device in lost {
            if self.front_of(&device)?.as_deref() != Some(&device.back) {
                self.log(format_args!(
                    "forgets {} of domain {}",
                    device.dev, device.guest
                ));
                self.memory.forget(&device);
                changed = true;
            }
        }
        for device in found {
            // One that is on its way out is none.
            let online = self.store.read_opt(&format!("{}/online", device.back))?;
            if online.as_deref() != Some("0") && self.memory.keep(device.clone()) {
                let Device {
                    dev, guest, params, ..
                } = &device;
                self.log(format_args!("serves {dev} of domain {guest}: {params}"));
                changed = true;
            }
        }
        if changed {
            self.save();
        }
        Ok(())
    }

    pub(crate) fn save(&self) {
        if let Err(e) = self.memory.save() {
            self.log(format_args!("cannot remember: {e}"));
        }
    }

    /// The back end that the front end of a device points to; `None` when there is no front end.
    pub(crate) fn front_of(&mut self, device: &Device) -> Result<Option<String>> {
        Ok(self
            .store
            .read_opt(&format!("{}/backend", device.front()))?)
    }
}

/// The number of the domain that has the name, if there is one.
pub(crate) fn find(store: &mut Store, xl: &Xl, name: &str) -> Result<Option<DomId>> {
    for id in store.list("/local/domain")? {
        let found = store.read_opt(&format!("/local/domain/{id}/name"))?;
        if let (true, Ok(domid)) = (found.as_deref() == Some(name), id.parse()) {
            if xl.life(domid)? != Life::Gone {
                return Ok(Some(domid));
            }
        }
    }
    Ok(None)
}
