// SPDX-License-Identifier: GPL-2.0
//! Starts a driver domain again, and attaches again what it served.
//!
//! What can be done at the same time is: the new domain boots while Xen takes the old one down and
//! while the devices are attached; each is served as soon as the new domain can.

use crate::attach::{attach, attach_own, await_connected, await_gone, nudge};
use crate::device::Device;
use crate::guard::{find, Guard, RELEASE};
use crate::heart;
use crate::log;
use crate::Result;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xen::store::Store;
use xen::{privcmd, DomId};

/// Devices that are being attached, by a thread each.
type Attaching = Vec<JoinHandle<Option<Device>>>;

/// When `xl devd` is told of devices that it may have missed, after the first beat.
const NUDGES: [u64; 2] = [1, 10];

impl Guard {
    /// Ends what is left of the old domain and has a new one in its place, which serves what the
    /// old one did.
    pub(crate) fn restart(&mut self, old: Option<DomId>, died: Instant) -> Result<DomId> {
        if let Some(domid) = old {
            self.end(domid)?;
        }
        let gone = Instant::now();
        let spare = self.spare.as_mut().and_then(|spare| spare.take());
        let domid = match spare {
            Some(domid) => domid,
            None => self.create(old)?,
        };
        let created = Instant::now();
        let own = spare.map(|domid| {
            let (xl, name, disks) = (self.xl.clone(), self.name.clone(), self.disks.clone());
            thread::spawn(move || {
                if let Err(e) = attach_own(&xl, domid, &disks) {
                    log::line(&name, format_args!("its disks: {e}"));
                }
            })
        });
        if spare.is_some() {
            // The disks are attached by name: that is what the guests' configurations keep.
            if let Err(e) = self.xl.rename(domid, &self.name) {
                self.end(domid)?;
                return Err(e);
            }
        }
        let attaching = self.begin_attach(domid)?;
        let up = self.await_beat(domid);
        if up.is_ok() {
            let destroyed = (gone - died).as_secs_f64();
            let (made, booted) = (
                (created - gone).as_secs_f64(),
                created.elapsed().as_secs_f64(),
            );
            match spare {
                Some(_) => self.log(format_args!(
                    "domain {domid}, the spare, is up: destroyed in {destroyed:.3} s, has its disks in {booted:.3} s"
                )),
                None => self.log(format_args!(
                    "domain {domid} is up: destroyed in {destroyed:.3} s, created in {made:.3} s, booted in {booted:.3} s"
                )),
            }
        }
        self.finish_attach(attaching, up.is_ok())?;
        if let Some(own) = own {
            own.join().map_err(|_| "a thread has died")?;
        }
        up?;
        Ok(domid)
    }

    /// Starts the domain.
    fn create(&mut self, old: Option<DomId>) -> Result<DomId> {
        let mut made = self.xl.create(&self.config);
        if let (Err(e), Some(old)) = (&made, old) {
            if privcmd::exists(old)? {
                // There may not be memory for both.
                self.log(format_args!("{e}; again when domain {old} has gone"));
                await_gone(&self.name, old)?;
                made = self.xl.create(&self.config);
            }
        }
        made?;
        let domid = find(&mut self.store, &self.xl, &self.name)?;
        Ok(domid.ok_or("it is not there after xl create")?)
    }

    /// Destroys a domain, unless that is done already: it has gone from the store, but Xen may
    /// still have something of it.
    fn end(&mut self, domid: DomId) -> Result {
        let mut told = false;
        let mut again = Instant::now();
        let name = format!("/local/domain/{domid}/name");
        while privcmd::exists(domid)? && self.store.read_opt(&name)?.is_some() {
            if Instant::now() >= again {
                if told {
                    self.log(format_args!("waits for domain {domid} to go"));
                }
                told = true;
                again = Instant::now() + Duration::from_secs(10);
                // It may have gone on its own meanwhile; if not, that is seen above.
                if let Err(e) = self.xl.destroy(domid) {
                    self.log(format_args!("{e}"));
                }
            } else {
                self.store.event_of(RELEASE, Duration::from_millis(20))?;
            }
        }
        Ok(())
    }

    /// Waits for the first beat of a domain that has just been started.
    fn await_beat(&mut self, domid: DomId) -> Result {
        let home = format!("/local/domain/{domid}");
        let beats = format!("{home}/{}", heart::NODE);
        let until = Instant::now() + self.run.boot;
        self.store.watch(&beats, "first")?;
        let result = loop {
            if heart::can_serve(self.store.read_opt(&beats)?.as_deref()) {
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
            if self.store.read_opt(&format!("{home}/name"))?.is_none() {
                break Err(format!("domain {domid} died while it booted"));
            }
        };
        // With its directory it may have gone.
        let _ = self.store.unwatch(&beats, "first");
        if result.is_err() {
            self.end(domid)?;
        }
        Ok(result?)
    }

    /// Attaches again what an earlier life of the domain served and this one does not.
    pub(crate) fn restore(&mut self, domid: DomId) -> Result {
        self.note(domid)?;
        let attaching = self.begin_attach(domid)?;
        self.finish_attach(attaching, true)
    }

    /// Begins to attach all devices of earlier lives.
    fn begin_attach(&mut self, domid: DomId) -> Result<Attaching> {
        let home = format!("/local/domain/{domid}/");
        let old: Vec<_> = self
            .memory
            .devices()
            .filter(|d| !d.back.starts_with(&home))
            .cloned()
            .collect();
        let mut attaching = Vec::new();
        for device in old {
            if self.front_of(&device)?.as_deref() != Some(&device.back) {
                self.log(format_args!(
                    "forgets {} of domain {}, which is gone",
                    device.dev, device.guest
                ));
                self.memory.forget(&device);
                continue;
            }
            let (name, xl) = (self.name.clone(), self.xl.clone());
            attaching.push(thread::spawn(move || {
                attach(&xl, &name, domid, &device)
                    .inspect_err(|e| {
                        let Device { dev, guest, .. } = &device;
                        log::line(&name, format_args!("{dev} of domain {guest}: {e}"));
                    })
                    .ok()
            }));
        }
        Ok(attaching)
    }

    /// Waits until all of them are attached, and used, if the domain is `up`.
    fn finish_attach(&mut self, attaching: Attaching, up: bool) -> Result {
        if attaching.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let mut devices = Vec::new();
        for thread in attaching {
            devices.extend(thread.join().map_err(|_| "a thread has died")?);
        }
        for device in &devices {
            self.memory.keep(device.clone());
        }
        self.save();
        if !up {
            return Ok(());
        }
        for device in &devices {
            let Device { dev, guest, .. } = device;
            match await_connected(device) {
                Ok(()) => self.log(format_args!("{dev} of domain {guest} is back")),
                Err(e) => self.log(format_args!("{dev} of domain {guest}: {e}")),
            }
        }
        let took = began.elapsed().as_secs_f64();
        self.log(format_args!(
            "{} devices attached again in {took:.3} s",
            devices.len()
        ));
        thread::spawn(move || nudge_all(&devices));
        Ok(())
    }
}

/// Tells `xl devd` of all of them, so that it knows them when they are detached.
fn nudge_all(devices: &[Device]) {
    for seconds in NUDGES {
        thread::sleep(Duration::from_secs(seconds));
        // What has gone meanwhile is nobody's concern.
        if let Ok(mut store) = Store::open() {
            devices
                .iter()
                .for_each(|device| drop(nudge(&mut store, device)));
        }
    }
}
