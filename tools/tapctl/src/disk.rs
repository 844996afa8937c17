// SPDX-License-Identifier: GPL-2.0
//! Which disk is meant.

use crate::args;
use std::fmt;
use std::io;
use xen::store::Store;

/// A guest's disk, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub domid: u32,
    pub handle: u32,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {}, {}", self.domid, device_name(self.handle))
    }
}

/// What a device is called, or its number.
pub(crate) fn device_name(handle: u32) -> String {
    tap::vdev::name(handle).unwrap_or_else(|| handle.to_string())
}

impl args::Disk {
    /// Looks up the domain's number.
    pub(crate) fn find(&self) -> io::Result<Disk> {
        let domid = match self.domain.parse() {
            Ok(number) => number,
            Err(_) => domain(&self.domain)?,
        };
        Ok(Disk {
            domid,
            handle: self.device,
        })
    }
}

/// The domain of this name.
fn domain(name: &str) -> io::Result<u32> {
    let context = |error: io::Error| {
        let what = format!("cannot look up the domain \"{name}\": xenstore: {error}");
        io::Error::new(error.kind(), what)
    };
    let mut store = Store::open().map_err(context)?;
    for domid in store.list("/local/domain").map_err(context)? {
        let path = format!("/local/domain/{domid}/name");
        if store.read_opt(&path).map_err(context)?.as_deref() == Some(name) {
            return domid
                .parse()
                .map_err(|_| io::Error::other("xenstore: a domain without a number"));
        }
    }
    let what = format!("there is no domain \"{name}\"; `xl list` shows them");
    Err(io::Error::new(io::ErrorKind::NotFound, what))
}
