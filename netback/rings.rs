// SPDX-License-Identifier: GPL-2.0

//! The rings of an interface while it is connected, and the threads that serve them.

use crate::{
    connect::Front,
    control, debug,
    queue::{Calls, Channel, Port, Queue},
    rx::{self, Rx},
    tx::Tx,
    vif::Vif,
};
use kernel::dev_err;
use xenbus::{
    debugfs::Dir,
    kthread::Kthread,
    net::Napi,
    prelude::*,
    protocol::{
        netif::{self, Ports, VifQueue},
        ring::{AttachError, Back, Codec, Overrun},
    },
    ring::BackArea,
    timer::HrTimer,
};

/// The rings of an interface. Dropping it ends them: the interface has no carrier, and nothing of the
/// front end's is in use any more. Sleeps.
pub(crate) struct Rings {
    vif: Arc<Vif>,
    threads: KVec<Kthread>,
    /// What debugfs shows of them.
    files: Option<Dir>,
}

impl Rings {
    /// Maps the rings that the front end has described, binds their event channels, and starts to
    /// serve them. Sleeps.
    ///
    /// # Errors
    ///
    /// What Xen answers when a reference or a port are not what the front end says; `EINVAL` when the
    /// indices in a ring are garbage; `ENOMEM`.
    pub(crate) fn start(dev: &Device, vif: &Arc<Vif>, front: &Front) -> Result<Self> {
        vif.shared().set_front(front);
        let mut rings = Rings {
            vif: vif.clone(),
            threads: KVec::with_capacity(front.queues.len(), GFP_KERNEL)?,
            files: None,
        };
        for (napi, queue) in vif.queues().iter().zip(front.queues.iter()) {
            let thread = start(dev, napi, queue)?;
            // There is room.
            let _ = rings.threads.push_within_capacity(thread);
        }
        let queues = front.queues.len() as u32;
        if let Some(control) = &front.control {
            let thread = control::start(dev, vif.shared(), control, queues)?;
            rings.threads.push(thread, GFP_KERNEL)?;
        }
        vif.connected(queues)?;
        rings.files = debug::show(vif, front.queues.len(), front.control.is_some());
        Ok(rings)
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        self.files = None;
        self.vif.shared().net.set_carrier(false);
        for napi in self.vif.queues().iter() {
            // What the stack still sends is dropped.
            napi.target().set_calls(None);
            napi.target().set_tx(None);
            napi.target().set_rx(None);
        }
        self.threads.clear();
        // One of them may have found just now that the guest receives again.
        self.vif.shared().net.set_carrier(false);
    }
}

/// Starts to serve a queue; the thread is the one that serves its receive ring.
fn start(dev: &Device, napi: &Arc<Napi<Queue>>, front: &VifQueue) -> Result<Kthread> {
    let queue = napi.target();
    let domid = dev.otherend_id();
    let tx = attach(dev, front.tx_ring_ref, netif::Tx)?;
    let rx = attach(dev, front.rx_ring_ref, netif::Rx)?;
    let calls = Calls::new()?;
    let bind = |remote, name, port: Arc<Port>| -> Result<Arc<Channel>> {
        let channel = Channel::bind_interdomain(dev, remote, name, port)?;
        Ok(Arc::new(channel, GFP_KERNEL)?)
    };
    // Xen raises an event on a channel that has just been bound, so that what the front end has sent
    // already is looked at.
    let (tx_channel, rx_channel) = match front.ports {
        Ports::Shared(port) => {
            let both = Port::new(Some(napi), Some(&calls))?;
            let channel = bind(port, c"netback", both)?;
            (channel.clone(), channel)
        }
        Ports::Split { tx, rx } => (
            bind(tx, c"netback-tx", Port::new(Some(napi), None)?)?,
            bind(rx, c"netback-rx", Port::new(None, Some(&calls))?)?,
        ),
    };
    let split = matches!(front.ports, Ports::Split { .. });
    let timed = napi.clone();
    let timer = HrTimer::new(move || timed.schedule())?;
    let tx = Tx::new(dev, tx, &tx_channel, timer)?;
    let rx = Rx::new(rx, &rx_channel, &calls, (domid, split))?;
    queue.set_rx(Some(rx));
    let (served, called) = (queue.clone(), calls.clone());
    let name = queue
        .shared
        .net
        .with_name(|name| CString::try_from_fmt(fmt!("{name}-q{}-rx", queue.index)))?;
    let thread = Kthread::spawn(fmt!("{}", &*name), move |thread| {
        rx::run(&served, &called, thread);
    })?;
    queue.set_tx(Some(tx));
    queue.set_calls(Some(calls));
    Ok(thread)
}

/// Maps a ring of one page. Sleeps.
pub(crate) fn attach<C: Codec>(dev: &Device, gref: u32, codec: C) -> Result<Back<BackArea, C>> {
    let area = BackArea::map(dev, &[gref])?;
    Back::attach(area, codec).map_err(|e| {
        if let AttachError::Overrun(Overrun { claimed, possible }) = e {
            dev_err!(
                dev.dev(),
                "ring overrun: front end claims {claimed} requests where {possible} fit\n"
            );
        }
        EINVAL
    })
}
