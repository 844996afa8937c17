// SPDX-License-Identifier: GPL-2.0
//! Attaches devices: to guests what a driver domain served in its last life, to a spare the disks that it
//! needs itself.

use crate::device::{Device, Sort};
use crate::xl::Xl;
use crate::{log, plain, vif, Result};
use std::thread;
use std::time::{Duration, Instant};
use xen::store::Store;
use xen::{privcmd, DomId};

/// How long a guest's front end may take to connect to its new back end before a line says so.
const CONNECT: Duration = Duration::from_secs(20);
/// After this without a word of the hotplug script, its caller is told once more.
const NUDGE: Duration = Duration::from_secs(1);

/// Waits until Xen has nothing of a domain any more.
pub(crate) fn await_gone(name: &str, domid: DomId) -> Result {
    let mut line = Instant::now() + Duration::from_secs(10);
    while privcmd::exists(domid)? {
        if Instant::now() > line {
            log::line(
                name,
                format_args!("waits for the rest of domain {domid} to go"),
            );
            line += Duration::from_secs(10);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Attaches a device again, to the new life `domid` of its driver domain, which may still be booting.
/// [`await_connected`] does the rest.
///
/// It is attached when nothing is left of the old domain in Xen. As long as somebody has pages of
/// that mapped, a request that it sent on may still be on its way to a disk, and would overwrite
/// what the guest wrote after it; and the guest's own pages are not all its own again.
pub(crate) fn attach(xl: &Xl, name: &str, domid: DomId, device: &Device) -> Result<Device> {
    if let Some(old) = device.domain() {
        await_gone(name, old)?;
    }
    let new = Device {
        back: device.back_in(domid),
        ..device.clone()
    };
    let mut store = Store::open()?;
    match device.sort {
        Sort::Disk => attach_disk(&mut store, xl, name, domid, device, &new)?,
        Sort::Vif => vif::attach(&mut store, domid, device, &new)?,
    }
    Ok(new)
}

/// Attaches a disk to a domain, by xl.
fn attach_disk(
    store: &mut Store,
    xl: &Xl,
    name: &str,
    domid: DomId,
    device: &Device,
    new: &Device,
) -> Result {
    let Device { guest, number, .. } = device;
    let again = plain::AGAIN;
    store.write(
        &format!("/local/domain/{domid}/{again}/{guest}/{number}"),
        "",
    )?;
    let front = format!("{}/backend", device.front());
    for attempt in 1.. {
        forget_attached(store, device)?;
        match xl.attach(*guest, &device.spec(name)) {
            Ok(()) => break,
            // As far as the toolstack is concerned it may be attached, for all that went wrong
            // later: it does not wait as long as a domain may take to boot, or that has died.
            Err(e) if store.read_opt(&front)?.as_deref() == Some(&new.back) => {
                log::line(name, format_args!("{}: {e}", device.dev));
                break;
            }
            Err(e) if attempt == 3 => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(300)),
        }
    }
    Ok(())
}

/// Waits until a device that was attached again is used.
pub(crate) fn await_connected(device: &Device) -> Result {
    let mut store = Store::open()?;
    let until = Instant::now() + CONNECT;
    let state = format!("{}/state", device.back);
    let status = format!("{}/hotplug-status", device.back);
    store.watch(&state, "state")?;
    loop {
        let value = store.read_opt(&state)?;
        if value.as_deref() == Some("4") {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("attached, but not connected (state {value:?})").into());
        }
        if !store.event_of("state", NUDGE)? && store.read_opt(&status)?.is_none() {
            nudge(&mut store, device)?;
        }
    }
}

/// Has `xl devd` look at a device: it may have begun to listen after that had come.
pub(crate) fn nudge(store: &mut Store, device: &Device) -> Result {
    let online = format!("{}/online", device.back);
    if let Some(value) = store.read_opt(&online)? {
        store.write(&online, value)?;
    }
    Ok(())
}

/// Has the toolstack forget that the disk is attached to the domain that died: its own record of the
/// disk, which the front end does not see. As long as that is there, it refuses to attach a disk of
/// the same name; and to detach would take the disk away from the guest.
fn forget_attached(store: &mut Store, device: &Device) -> Result {
    let record = device.record();
    store.transaction(|store| {
        if store.read_opt(&format!("{record}/backend"))?.as_deref() == Some(&device.back) {
            store.remove(&record)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Attaches to a driver domain the disks that its configuration names, and waits until the
/// toolstack has done so.
pub(crate) fn attach_own(xl: &Xl, domid: DomId, disks: &[String]) -> Result {
    let mut store = Store::open()?;
    let base = "/local/domain/0/backend/vbd";
    let own = format!("{base}/{domid}");
    store.watch(&own, "own")?;
    thread::scope(|scope| {
        let call = |disk| move || xl.attach(domid, disk).map_err(|e| e.to_string());
        let calls: Vec<_> = disks.iter().map(|disk| scope.spawn(call(disk))).collect();
        while calls.iter().any(|call| !call.is_finished()) {
            if store.event_of("own", Duration::from_millis(20))? {
                for number in store.list(&own).unwrap_or_default() {
                    plain::serve(&mut store, base, &domid.to_string(), &number)?;
                }
            }
        }
        for call in calls {
            call.join().map_err(|_| "a thread has died")??;
        }
        Ok(())
    })
}
