// SPDX-License-Identifier: GPL-2.0
//! The ioctls of `/dev/blktap`.

use crate::rt::Fd;
use crate::sys::{ioctl::call, map::Region};
use protocol::tap::ioctl::{self, set, Attach, Geometry, Info, QueueInfo, Set};
use protocol::tap::{Mode, Policy, VERSION};
use std::fs::{File, OpenOptions};
use std::io;
use std::rc::Rc;

/// Where the device is.
pub const DEVICE: &str = "/dev/blktap";

/// An error with what was tried, and what helps.
fn context(what: &str, error: io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENODEV) => {
            "there is no such disk at this host; `xl block-list DOMAIN` shows them"
        }
        Some(libc::EBUSY) => {
            "another program has this disk; `tapctl list` says which, `tapctl detach` ends it"
        }
        Some(libc::EPROTO) => "the module blktap is of another version than this program",
        Some(libc::ENOENT) => "this disk has no tap; `tapctl list` shows those that have one",
        Some(libc::EPERM | libc::EACCES) => "this needs root",
        Some(libc::EOPNOTSUPP) => "this disk cannot be changed in this way",
        _ => return io::Error::new(error.kind(), format!("{what}: {error}")),
    };
    io::Error::new(error.kind(), format!("{what}: {hint} ({error})"))
}

/// An open `/dev/blktap`, not attached: to ask about all taps, and to change them.
pub struct Device(File);

impl Device {
    /// Opens it.
    ///
    /// # Errors
    /// Those of open, with what helps.
    pub fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(DEVICE);
        file.map(Self).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "; is the module loaded? `modprobe blktap`",
                io::ErrorKind::PermissionDenied => "; this needs root",
                _ => "",
            };
            io::Error::new(error.kind(), format!("{DEVICE}: {error}{hint}"))
        })
    }

    /// All tapped disks.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn list(&self) -> io::Result<Vec<Info>> {
        let mut all = Vec::new();
        // The first one comes after the smallest that there can be, so that one is asked for too.
        all.extend(self.find(0, 0)?);
        let (mut domid, mut handle) = (0, 0);
        loop {
            let mut info = Info {
                domid,
                handle,
                flags: ioctl::NEXT,
                ..Info::default()
            };
            match call(&self.0, &mut info) {
                Ok(()) => (),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(all),
                Err(error) => return Err(context("list", error)),
            }
            (domid, handle) = (info.domid, info.handle);
            all.push(info);
        }
    }

    /// The tap of this disk, if it has one.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn find(&self, domid: u32, handle: u32) -> io::Result<Option<Info>> {
        let mut info = Info {
            domid,
            handle,
            ..Info::default()
        };
        match call(&self.0, &mut info) {
            Ok(()) => Ok(Some(info)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(context("info", error)),
        }
    }

    /// About a queue of a tap.
    ///
    /// # Errors
    /// Those of the ioctl; there are queues 0 to [`Info::nr_queues`] − 1.
    pub fn queue(&self, domid: u32, handle: u32, queue: u32) -> io::Result<QueueInfo> {
        let mut info = QueueInfo {
            domid,
            handle,
            queue,
            ..QueueInfo::default()
        };
        call(&self.0, &mut info).map_err(|error| context("queue", error))?;
        Ok(info)
    }

    fn set(&self, domid: u32, handle: u32, what: u32, value: u32, name: &str) -> io::Result<()> {
        let mut set = Set {
            domid,
            handle,
            what,
            value,
        };
        call(&self.0, &mut set).map_err(|error| context(name, error))
    }

    /// Changes a tap's mode. Returns when no request goes the old way.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn set_mode(&self, domid: u32, handle: u32, mode: Mode) -> io::Result<()> {
        self.set(domid, handle, set::MODE, mode as u32, "mode")
    }

    /// Changes a tap's policy.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn set_policy(&self, domid: u32, handle: u32, policy: Policy) -> io::Result<()> {
        self.set(domid, handle, set::POLICY, policy as u32, "policy")
    }

    /// Takes a tap away.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn remove(&self, domid: u32, handle: u32) -> io::Result<()> {
        self.set(domid, handle, set::REMOVE, 0, "remove")
    }

    /// Attaches to a disk: fills in `attach`, its version too.
    ///
    /// # Errors
    /// Those of the ioctl, with what helps.
    pub fn attach(self, mut attach: Attach) -> io::Result<Opened> {
        attach.version = VERSION;
        let (domid, handle) = (attach.domid, attach.handle);
        call(&self.0, &mut attach)
            .map_err(|error| context(&format!("domain {domid}, device {handle}"), error))?;
        Ok(Opened {
            file: self.0,
            attach,
        })
    }
}

/// A `/dev/blktap` that is attached to a disk.
pub struct Opened {
    file: File,
    attach: Attach,
}

impl Opened {
    /// What was agreed upon.
    pub fn attach(&self) -> &Attach {
        &self.attach
    }

    /// Another one for the same, for another thread.
    ///
    /// # Errors
    /// Those of dup.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            attach: self.attach,
        })
    }

    pub(super) fn fd(&self) -> io::Result<Fd> {
        Ok(Rc::new(self.file.try_clone()?.into()))
    }

    pub(super) fn region(&self, queue: u32) -> io::Result<Rc<Region>> {
        Region::map(&self.file, queue, self.attach.region_bytes)
            .map_err(|error| context(&format!("map queue {queue}"), error))
    }

    /// Says that there is something in the rings of the queues in `mask`.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn kick(&self, mut mask: u64) -> io::Result<()> {
        call(&self.file, &mut mask)
    }

    /// About the disk; what has changed until now is not told again by `POLLPRI`.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn info(&self) -> io::Result<Info> {
        let mut info = Info::default();
        call(&self.file, &mut info).map_err(|error| context("info", error))?;
        Ok(info)
    }

    /// Says what the disk is.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn set_geometry(&self, mut geometry: Geometry) -> io::Result<()> {
        call(&self.file, &mut geometry).map_err(|error| context("geometry", error))
    }

    /// Changes the policy.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn set_policy(&self, policy: Policy) -> io::Result<()> {
        let mut set = Set {
            what: set::POLICY,
            value: policy as u32,
            ..Set::default()
        };
        call(&self.file, &mut set).map_err(|error| context("policy", error))
    }
}
