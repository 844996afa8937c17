// SPDX-License-Identifier: GPL-2.0
//! Commands that change something.

use crate::args;
use crate::disk::Disk;
use crate::program::{self, Start};
use std::io;
use std::time::Duration;
use tap::dev::{Device, Info, Policy};

/// A policy's name, as the program's command line has it.
pub(crate) fn policy_name(policy: u32) -> &'static str {
    match Policy::from_number(policy) {
        Some(Policy::Passthrough) => "passthrough",
        Some(Policy::Error) => "error",
        _ => "hold",
    }
}

/// The tap of a disk.
pub(crate) fn tapped(device: &Device, disk: Disk) -> io::Result<Info> {
    let none = || {
        let what = format!("{disk} has no tap; `tapctl list` shows those that have one");
        io::Error::new(io::ErrorKind::NotFound, what)
    };
    device.find(disk.domid, disk.handle)?.ok_or_else(none)
}

pub(crate) fn attach(args: &args::Attach) -> io::Result<()> {
    let disk = args.disk.find()?;
    if let Some(info) = Device::open()?.find(disk.domid, disk.handle)? {
        if info.pid != 0 {
            return Err(io::Error::other(format!(
                "{disk} is served by process {} already; `tapctl upgrade` replaces it, \
                 `tapctl detach` ends it",
                info.pid
            )));
        }
    }
    let start = Start {
        disk,
        chain: &args.chain,
        policy: args.policy.into(),
        program: program::chosen(&args.with)?.unwrap_or_else(program::default_program),
        wait: false,
    };
    let pid = start
        .start()?
        .ready(Duration::from_secs(args.with.timeout))?;
    start.remember(pid)
}

pub(crate) fn detach(disk: &args::Disk, if_any: bool) -> io::Result<()> {
    let disk = disk.find()?;
    let device = match Device::open() {
        Err(_) if if_any => return Ok(()),
        device => device?,
    };
    if if_any && device.find(disk.domid, disk.handle)?.is_none() {
        program::forget(disk);
        return Ok(());
    }
    let info = tapped(&device, disk)?;
    if info.pid != 0 {
        program::end(info.pid, || {
            let now = device.find(disk.domid, disk.handle)?;
            Ok(now.is_none_or(|now| now.pid != info.pid))
        })?;
    }
    // The tap may have gone with the disk meanwhile.
    if device.find(disk.domid, disk.handle)?.is_some() {
        device.remove(disk.domid, disk.handle)?;
    }
    program::forget(disk);
    Ok(())
}

pub(crate) fn mode(disk: &args::Disk, mode: args::Mode) -> io::Result<()> {
    let (disk, device) = (disk.find()?, Device::open()?);
    tapped(&device, disk)?;
    device.set_mode(disk.domid, disk.handle, mode.into())
}

pub(crate) fn policy(disk: &args::Disk, policy: args::Policy) -> io::Result<()> {
    let (disk, device) = (disk.find()?, Device::open()?);
    tapped(&device, disk)?;
    device.set_policy(disk.domid, disk.handle, policy.into())
}

/// What a disk's program was started with.
fn known_chain(disk: Disk) -> io::Result<String> {
    let unknown = || {
        let what = format!("it is not known which chain serves {disk}; say it to `tapctl upgrade`");
        io::Error::new(io::ErrorKind::NotFound, what)
    };
    program::chain(disk).ok_or_else(unknown)
}

pub(crate) fn restart(disk: &args::Disk) -> io::Result<()> {
    let disk = disk.find()?;
    replace(disk, &known_chain(disk)?, None, Duration::from_secs(30))
}

pub(crate) fn upgrade(args: &args::Upgrade) -> io::Result<()> {
    let disk = args.disk.find()?;
    let chain = match &args.chain {
        Some(chain) => chain.clone(),
        None => known_chain(disk)?,
    };
    let timeout = Duration::from_secs(args.with.timeout);
    replace(disk, &chain, program::chosen(&args.with)?, timeout)
}

/// Has a new program wait for the disk, and ends the old one. Requests wait in between.
fn replace(
    disk: Disk,
    chain: &str,
    file: Option<std::path::PathBuf>,
    timeout: Duration,
) -> io::Result<()> {
    let device = Device::open()?;
    let old = tapped(&device, disk)?;
    let start = Start {
        disk,
        chain,
        policy: Policy::from_number(old.policy).unwrap_or_default(),
        program: file
            .or_else(|| program::program(disk))
            .unwrap_or_else(program::default_program),
        wait: true,
    };
    // What the new one cannot read, the old one is not ended for.
    start.check()?;
    let mut new = start.start()?;
    if old.pid != 0 {
        device.set_policy(disk.domid, disk.handle, Policy::Hold)?;
        let ended = program::end(old.pid, || {
            let now = device.find(disk.domid, disk.handle)?;
            Ok(now.is_none_or(|now| now.pid != old.pid))
        });
        if ended.is_err() {
            let _ = device.set_policy(disk.domid, disk.handle, start.policy);
            return ended;
        }
    }
    let pid = new.ready(timeout)?;
    start.remember(pid)
}
