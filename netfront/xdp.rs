// SPDX-License-Identifier: GPL-2.0

//! XDP: which program is run on what is received, and the room that the back end leaves for it.
//!
//! The back end reads how much room it is to leave in front of a packet (`xdp-headroom`) when it
//! connects, and whenever the front end goes to Reconfiguring; it answers with Reconfigured. That is
//! for speed only: a packet without the room, of which there are some at every change, is copied to a
//! page with room ([`Rx`](crate::rx::Rx)). The C back end stays at Reconfigured, so that it is not
//! known when it has read the key another time.

use crate::interface::Interface;
use kernel::{
    bindings::EOPNOTSUPP,
    str::CString,
    sync::MutexGuard,
    time::{delay::fsleep, msecs_to_jiffies, Delta},
};
use xenbus::{
    kthread::jiffies,
    net::{ExtAck, Program, Rtnl, XDP_HEADROOM, XDP_MAX_LEN},
    prelude::*,
    protocol::netif::ETH_HLEN,
    store::{self, NIL},
};

/// The largest MTU with a program: the packet, with its Ethernet header and a VLAN tag, has to be in
/// one page, with the room around it.
pub(crate) const MAX_MTU: u32 = XDP_MAX_LEN as u32 - ETH_HLEN - 4;

/// How long the back end may take to read how much room is wanted, in milliseconds. Interfaces cannot be
/// configured meanwhile.
const PATIENCE: u32 = 1000;

/// The program, and what has been told to the back end; the lock of this is held while this end's state
/// is changed.
#[derive(Default)]
pub(crate) struct Xdp {
    pub(crate) program: Option<Program>,
    /// The back end leaves room, if asked to.
    pub(crate) offered: bool,
    /// The device, which is another one when the back end's domain has been replaced.
    pub(crate) device: Option<ARef<Device>>,
    /// The back end's directory in xenstore.
    pub(crate) otherend: Option<CString>,
}

impl Xdp {
    /// The room that is wanted, in bytes.
    pub(crate) fn headroom(&self) -> usize {
        match self.program {
            Some(_) => XDP_HEADROOM,
            None => 0,
        }
    }
}

impl Interface {
    /// Has `program`, or none, run on what is received. Sleeps.
    pub(crate) fn change_program(
        &self,
        program: Option<&Program>,
        ack: &mut ExtAck,
        _rtnl: &Rtnl,
    ) -> Result {
        let shared = self.shared();
        let mut xdp = shared.xdp.lock();
        if program.is_some() {
            if shared.is_broken() {
                ack.set(fmt!("interface is disabled, its back end has misbehaved"));
                return Err(ENODEV);
            }
            if shared.net.mtu() > MAX_MTU {
                ack.set(fmt!("MTU is too large for XDP, at most {MAX_MTU} works"));
                return Err(EINVAL);
            }
            if !xdp.offered {
                ack.set(fmt!("back end leaves no headroom for XDP"));
                return Err(Error::from_errno(-(EOPNOTSUPP as i32)));
            }
        }
        let changed = program.is_some() != xdp.program.is_some();
        let old = core::mem::replace(&mut xdp.program, program.cloned());
        let mut result = Ok(());
        if changed {
            (xdp, result) = self.reconfigure(xdp, true);
        }
        // What is left without a program is room that nobody needs.
        if program.is_none() {
            result = Ok(());
        }
        if result.is_err() {
            ack.set(fmt!("back end does not say that it leaves headroom"));
            // Nobody else has changed it: that takes the lock under which interfaces are configured.
            xdp.program = old;
            (xdp, _) = self.reconfigure(xdp, false);
        }
        // Also if it is the one that was there: new rings may have come meanwhile.
        for queue in self.queues().iter() {
            queue.target().set_program(xdp.program.clone());
        }
        result
    }

    /// Tells the back end how much room is wanted, and waits until it has heard, if that is to be.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` if it does not answer, others if it cannot be told.
    fn reconfigure<'a>(
        &'a self,
        xdp: MutexGuard<'a, Xdp>,
        wait: bool,
    ) -> (MutexGuard<'a, Xdp>, Result) {
        let shared = self.shared();
        let Some(dev) = xdp.device.clone() else {
            return (xdp, Ok(()));
        };
        let wanted = xdp.headroom();
        let told = store::transaction(|store| {
            // Otherwise it is told when it is connected to; and what has been removed from the store
            // must not be there again.
            let ours = store.read_number(dev.nodename(), c"state")?;
            if dev.state() != XenbusState::Connected || ours != Some(XenbusState::Connected as u64)
            {
                return Ok(false);
            }
            store.printf(dev.nodename(), c"xdp-headroom", fmt!("{wanted}"))?;
            Ok(true)
        });
        let told = match told {
            Ok(true) => dev.switch_state(XenbusState::Reconfiguring),
            Ok(false) => return (xdp, Ok(())),
            Err(e) => Err(e),
        };
        let otherend = xdp.otherend.as_deref().map(CString::try_from);
        // Whoever has to say that the interface is gone must not wait for the back end.
        drop(xdp);
        let result = match (told, otherend) {
            (Ok(()), _) if !wait => Ok(()),
            (Ok(()), Some(Ok(otherend))) => wait_for(&dev, &otherend),
            (Err(e), _) => Err(e),
            _ => Err(ENODEV),
        };
        let xdp = shared.xdp.lock();
        if dev.state() == XenbusState::Reconfiguring {
            // An error has been told already.
            let _ = dev.switch_state(XenbusState::Connected);
        }
        (xdp, result)
    }
}

/// Waits until the back end has heard.
fn wait_for(dev: &Device, otherend: &CStr) -> Result {
    let end = jiffies().wrapping_add(msecs_to_jiffies(PATIENCE) as u64);
    while (jiffies().wrapping_sub(end) as i64) < 0 {
        let state = NIL.read_number(otherend, c"state")?.unwrap_or(0);
        if state == XenbusState::Reconfigured as u64 {
            return Ok(());
        }
        if state != XenbusState::Connected as u64 || dev.state() != XenbusState::Reconfiguring {
            return Err(ENODEV);
        }
        fsleep(Delta::from_millis(1));
    }
    Err(ETIMEDOUT)
}
