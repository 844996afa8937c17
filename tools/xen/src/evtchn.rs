// SPDX-License-Identifier: GPL-2.0
//! Event channels: `/dev/xen/evtchn`, `xen/evtchn.h`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use crate::sys::{self, EvtchnBindInterdomain, EvtchnBindUnbound, EvtchnNotify, EvtchnUnbind};
use crate::DomId;

/// One bound event channel, with a device handle of its own. Drop closes it.
#[derive(Debug)]
pub struct EventChannel {
    file: File,
    port: u32,
}

impl EventChannel {
    /// Opens a port that `remote` may bind to; what a front end does.
    pub fn alloc_unbound(remote: DomId) -> io::Result<Self> {
        let file = sys::open("/dev/xen/evtchn")?;
        let port = sys::ioctl(
            &file,
            &mut EvtchnBindUnbound {
                remote_domain: remote.into(),
            },
        )?;
        Ok(EventChannel { file, port })
    }

    /// Binds to a port that `remote` offers; what a back end does.
    pub fn bind_interdomain(remote: DomId, remote_port: u32) -> io::Result<Self> {
        let file = sys::open("/dev/xen/evtchn")?;
        let mut arg = EvtchnBindInterdomain {
            remote_domain: remote.into(),
            remote_port,
        };
        let port = sys::ioctl(&file, &mut arg)?;
        Ok(EventChannel { file, port })
    }

    /// The local port, to be written to the store.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends an event to the other end.
    pub fn notify(&self) -> io::Result<()> {
        sys::ioctl(&self.file, &mut EvtchnNotify { port: self.port }).map(drop)
    }

    /// Waits for an event and unmasks the port again. False when `timeout` has passed.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        if !sys::poll_in(&[&self.file], Some(timeout))?[0] {
            return Ok(false);
        }
        let mut port = [0; 4];
        (&self.file).read_exact(&mut port)?;
        (&self.file).write_all(&port)?;
        Ok(true)
    }

    /// The device handle, readable when an event is pending.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // The handle's close would do it too; an error can only mean that it is gone already.
        let _ = sys::ioctl(&self.file, &mut EvtchnUnbind { port: self.port });
    }
}
