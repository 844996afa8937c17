// SPDX-License-Identifier: GPL-2.0
//! The guard of one driver domain: watches it while it lives, notes what it serves, starts it again
//! when it has died or hangs, and attaches again what it served.
//!
//! A disk is attached again only when nothing is left of the old domain in Xen. As long as somebody
//! has pages of it mapped, a request that it sent on may still be on its way to a disk, and would
//! overwrite what the guest wrote after it.

use crate::args::Run;
use crate::device::Device;
use crate::heart::{self, Heart};
use crate::memory::Memory;
use crate::xl::{Life, Xl};
use crate::{config, log, Result};
use std::fmt::Arguments;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use xen::store::Store;
use xen::DomId;

/// The store says by this that a domain has gone, or stopped.
const RELEASE: &str = "@releaseDomain";
/// How long a guest's front end may take to connect to its new back end before a line says so.
const CONNECT: Duration = Duration::from_secs(20);
/// After this without a word of the hotplug script, its caller is told once more.
const NUDGE: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(30);

/// A driver domain and what is known of it.
pub(crate) struct Guard {
    name: String,
    config: String,
    run: Run,
    xl: Xl,
    store: Store,
    memory: Memory,
}

impl Guard {
    /// The guard of the domain that the file describes.
    pub(crate) fn new(path: &Path, run: &Run) -> Result<Self> {
        let say = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let config = path.to_str().ok_or_else(|| say(&"not a name in UTF-8"))?;
        let text = std::fs::read_to_string(path).map_err(|e| say(&e))?;
        let name = config::name(&text).map_err(|e| say(&e))?;
        let memory = Memory::load(&run.state, &name)?;
        let xl = Xl {
            program: run.xl.clone(),
            limit: run.limit,
        };
        Ok(Guard {
            config: config.to_string(),
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

    fn log(&self, text: Arguments<'_>) {
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

    /// The number of the domain that has the name, if there is one.
    fn find(&mut self) -> Result<Option<DomId>> {
        for id in self.store.list("/local/domain")? {
            let name = self.store.read_opt(&format!("/local/domain/{id}/name"))?;
            if let (true, Ok(domid)) = (name.as_deref() == Some(&self.name), id.parse()) {
                if self.xl.life(domid)? != Life::Gone {
                    return Ok(Some(domid));
                }
            }
        }
        Ok(None)
    }

    /// The same; waits until xl knows.
    fn find_at_last(&mut self) -> Result<Option<DomId>> {
        loop {
            // That of the store is one of its own, below.
            match self.find() {
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
        let (backs, beats) = (format!("{home}/backend"), format!("{home}/{}", heart::NODE));
        self.store.watch(&backs, "backs")?;
        self.store.watch(&beats, "beats")?;
        let mut heart = Heart::new(Instant::now());
        let why = loop {
            let limit = heart.left(self.run.stuck, Instant::now());
            // The longest wait is for nothing in particular.
            let wait = limit.unwrap_or(Duration::from_secs(3600));
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
            heart.look(self.store.read_opt(&beats)?, Instant::now());
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
    /// A disk whose back end's directory has gone is forgotten only if its front end does not point
    /// there any more: that is a detach. Else the domain is being destroyed.
    fn note(&mut self, domid: DomId) -> Result {
        let base = format!("/local/domain/{domid}/backend/vbd");
        let found = self.store.transaction(|store| {
            let mut found = Vec::new();
            for guest in store.list(&base).unwrap_or_default() {
                for number in store.list(&format!("{base}/{guest}")).unwrap_or_default() {
                    found.extend(Device::read(store, &format!("{base}/{guest}/{number}"))?);
                }
            }
            Ok(found)
        })?;
        let mut changed = false;
        let same = |a: &Device, b: &Device| (a.guest, a.number) == (b.guest, b.number);
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

    fn save(&self) {
        if let Err(e) = self.memory.save() {
            self.log(format_args!("cannot remember: {e}"));
        }
    }

    /// The back end that the front end of a disk points to; `None` when there is no front end.
    fn front_of(&mut self, device: &Device) -> Result<Option<String>> {
        Ok(self
            .store
            .read_opt(&format!("{}/backend", device.front()))?)
    }

    /// Ends what is left of the old domain and starts a new one; waits until that can serve.
    fn restart(&mut self, old: Option<DomId>, died: Instant) -> Result<DomId> {
        if let Some(domid) = old {
            self.end(domid)?;
        }
        let gone = Instant::now();
        self.xl.create(&self.config)?;
        let domid = self.find()?.ok_or("it is not there after xl create")?;
        let created = Instant::now();
        self.await_beat(domid)?;
        self.log(format_args!(
            "domain {domid} is up: destroyed in {:.3} s, created in {:.3} s, booted in {:.3} s",
            (gone - died).as_secs_f64(),
            (created - gone).as_secs_f64(),
            created.elapsed().as_secs_f64()
        ));
        Ok(domid)
    }

    /// Waits until Xen has nothing of a domain any more, which it is told to destroy.
    fn end(&mut self, domid: DomId) -> Result {
        let mut told = false;
        let mut line = Instant::now() + Duration::from_secs(10);
        loop {
            match self.xl.life(domid) {
                Ok(Life::Gone) => return Ok(()),
                Ok(Life::Dead("dying")) => {}
                Err(e) => self.log(format_args!("{e}")),
                _ if told => {}
                _ => {
                    told = true;
                    // It may have gone on its own meanwhile; if not, that is seen below.
                    if let Err(e) = self.xl.destroy(domid) {
                        self.log(format_args!("{e}"));
                    }
                    continue;
                }
            }
            if Instant::now() > line {
                self.log(format_args!("waits for the rest of domain {domid} to go"));
                line += Duration::from_secs(10);
                told = false;
            }
            self.store.event_of(RELEASE, Duration::from_millis(100))?;
        }
    }

    /// Waits for the first beat of a domain that has just been started.
    fn await_beat(&mut self, domid: DomId) -> Result {
        let beats = format!("/local/domain/{domid}/{}", heart::NODE);
        let until = Instant::now() + self.run.boot;
        self.store.watch(&beats, "first")?;
        let result = loop {
            if self.store.read_opt(&beats)?.is_some() {
                break Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(format!(
                    "domain {domid} has no heartbeat after {:?}",
                    self.run.boot
                ));
            }
            self.store
                .event_of("first", left.min(Duration::from_secs(1)))?;
            if self
                .store
                .read_opt(&format!("/local/domain/{domid}/name"))?
                .is_none()
            {
                break Err(format!("domain {domid} died while it booted"));
            }
        };
        self.store.unwatch(&beats, "first")?;
        if result.is_err() {
            self.end(domid)?;
        }
        Ok(result?)
    }

    /// Attaches again what an earlier life of the domain served.
    fn restore(&mut self, domid: DomId) -> Result {
        self.note(domid)?;
        let began = Instant::now();
        let home = format!("/local/domain/{domid}/");
        let old: Vec<_> = self
            .memory
            .devices()
            .filter(|d| !d.back.starts_with(&home))
            .cloned()
            .collect();
        let mut threads = Vec::new();
        for device in old {
            if self.front_of(&device)?.as_deref() != Some(&device.back) {
                self.log(format_args!(
                    "forgets {} of domain {}, which is gone",
                    device.dev, device.guest
                ));
                self.memory.forget(&device);
                continue;
            }
            // Of a life before this devmgr's own, perhaps.
            while let Some(Ok(Life::Dead(_))) = device.domain().map(|old| self.xl.life(old)) {
                thread::sleep(Duration::from_millis(300));
            }
            let (name, xl) = (self.name.clone(), self.xl.clone());
            threads.push(thread::spawn(move || {
                let Device { dev, guest, .. } = &device;
                match attach(&xl, &name, domid, &device) {
                    Ok(()) => log::line(&name, format_args!("{dev} of domain {guest} is back")),
                    Err(e) => log::line(&name, format_args!("{dev} of domain {guest}: {e}")),
                }
            }));
        }
        let count = threads.len();
        for thread in threads {
            thread.join().map_err(|_| "a thread has died")?;
        }
        self.note(domid)?;
        self.save();
        if count > 0 {
            let took = began.elapsed().as_secs_f64();
            self.log(format_args!(
                "{count} devices attached again in {took:.3} s"
            ));
        }
        Ok(())
    }
}

/// Attaches a disk again, to the new life `domid` of its driver domain, and waits until it is used.
fn attach(xl: &Xl, name: &str, domid: DomId, device: &Device) -> Result {
    let back = format!(
        "/local/domain/{domid}/backend/vbd/{}/{}",
        device.guest, device.number
    );
    let mut store = Store::open()?;
    for attempt in 1.. {
        forget_attached(&mut store, device)?;
        match xl.attach(device.guest, &device.spec(name)) {
            Ok(()) => break,
            // As far as the toolstack is concerned it may be attached, for all that went wrong later.
            Err(e) if store.read_opt(&format!("{back}/state"))?.is_some() => {
                log::line(name, format_args!("{}: {e}", device.dev));
                break;
            }
            Err(e) if attempt == 3 => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(300)),
        }
    }
    let until = Instant::now() + CONNECT;
    let (mut state, status) = (format!("{back}/state"), format!("{back}/hotplug-status"));
    store.watch(&state, "state")?;
    while store.read_opt(&state)?.as_deref() != Some("4") {
        if Instant::now() > until {
            state = store.read_opt(&state)?.unwrap_or_default();
            return Err(format!("attached, but not connected (state {state:?})").into());
        }
        if !store.event_of("state", NUDGE)? && store.read_opt(&status)?.is_none() {
            // `xl devd` may have begun to listen after the device had come: let it look again.
            let online = format!("{back}/online");
            if let Some(value) = store.read_opt(&online)? {
                store.write(&online, value)?;
            }
        }
    }
    Ok(())
}

/// Has the toolstack forget that the disk is attached to the domain that died: its own record of the
/// disk, which the front end does not see. As long as that is there, it refuses to attach a disk of
/// the same name; and to detach would take the disk away from the guest.
fn forget_attached(store: &mut Store, device: &Device) -> Result {
    let record = format!("/libxl/{}/device/vbd/{}", device.guest, device.number);
    store.transaction(|store| {
        if store.read_opt(&format!("{record}/backend"))?.as_deref() == Some(&device.back) {
            store.remove(&record)?;
        }
        Ok(())
    })?;
    Ok(())
}
