// SPDX-License-Identifier: GPL-2.0

//! What is read from xenstore and what is written there.
//!
//! | node  | read                                   | written                                |
//! |-------|----------------------------------------|----------------------------------------|
//! | own   | handle, script, mac, rate (watched),   | feature-sg, feature-gso-tcpv4,         |
//! |       | hotplug-status (watched)               | feature-gso-tcpv6,                     |
//! |       |                                        | feature-ipv6-csum-offload,             |
//! |       |                                        | feature-rx-copy, feature-rx-flip,      |
//! |       |                                        | feature-xdp-headroom,                  |
//! |       |                                        | feature-multicast-control,             |
//! |       |                                        | feature-dynamic-multicast-control,     |
//! |       |                                        | feature-split-event-channels,          |
//! |       |                                        | feature-ctrl-ring,                     |
//! |       |                                        | multi-queue-max-queues                 |
//! | front | multi-queue-num-queues,                |                                        |
//! |       | request-rx-copy, feature-rx-notify,    |                                        |
//! |       | feature-sg, feature-gso-tcpv4,         |                                        |
//! |       | feature-gso-tcpv6,                     |                                        |
//! |       | feature-no-csum-offload,               |                                        |
//! |       | feature-ipv6-csum-offload,             |                                        |
//! |       | xdp-headroom, ctrl-ring-ref,           |                                        |
//! |       | event-channel-ctrl,                    |                                        |
//! |       | request-multicast-control (watched);   |                                        |
//! |       | and for each queue tx-ring-ref,        |                                        |
//! |       | rx-ring-ref, event-channel or          |                                        |
//! |       | event-channel-tx and event-channel-rx  |                                        |
//!
//! C header: [`include/xen/interface/io/netif.h`](srctree/include/xen/interface/io/netif.h)

use crate::params;
use kernel::dev_warn;
use xenbus::{
    prelude::*,
    protocol::{
        negotiate::BadKey,
        netif::{self, key, ControlRing, Rate, VifQueue, Wish},
    },
    store::NIL,
};

/// Tells the front end what it may choose of. Sleeps.
pub(crate) fn offer(dev: &Device, queues: u32) -> Result {
    let node = dev.nodename();
    store::transaction(|store| {
        let flag = |key, is: bool| store.printf(node, key, fmt!("{}", u8::from(is)));
        flag(c"feature-sg", true)?;
        flag(c"feature-gso-tcpv4", true)?;
        flag(c"feature-gso-tcpv6", true)?;
        flag(c"feature-ipv6-csum-offload", true)?;
        flag(c"feature-rx-copy", true)?;
        flag(c"feature-rx-flip", false)?;
        flag(c"feature-xdp-headroom", params::xdp_headroom())?;
        flag(c"feature-multicast-control", true)?;
        flag(c"feature-dynamic-multicast-control", true)?;
        flag(c"feature-split-event-channels", params::split_channels())?;
        flag(c"feature-ctrl-ring", true)?;
        store.printf(node, c"multi-queue-max-queues", fmt!("{queues}"))
    })
}

/// The name of the interface, from the number of the guest and that of the interface. Sleeps.
///
/// # Errors
///
/// `EINVAL` when there is no such number.
pub(crate) fn vif_name(dev: &Device) -> Result<CString> {
    let node = dev.nodename().to_str().map_err(|_| EINVAL)?;
    let last = node.rsplit('/').next().unwrap_or("");
    let handle = match NIL.read_number::<u32>(dev.nodename(), c"handle") {
        Ok(Some(handle)) => handle,
        _ => last.parse().map_err(|_| EINVAL)?,
    };
    CString::try_from_fmt(fmt!("vif{}.{handle}", dev.otherend_id()))
}

/// The script that puts the interface where it belongs, if there is one. Sleeps.
pub(crate) fn script(dev: &Device) -> Option<CString> {
    let value = NIL.read_opt(dev.nodename(), c"script").ok()??;
    CString::try_from(value.as_cstr()).ok()
}

/// Whether the script has done its part. Sleeps.
pub(crate) fn is_hotplugged(dev: &Device) -> bool {
    let status = NIL.read_opt(dev.nodename(), c"hotplug-status");
    matches!(status, Ok(Some(value)) if value.as_bytes() == b"connected")
}

/// The script is to be run again, should the device come again. Sleeps.
pub(crate) fn forget_hotplug(dev: &Device) {
    // There may be no such node, or none at all any more.
    let _ = NIL.remove(dev.nodename(), c"hotplug-status");
}

/// Says that nobody serves the interface now, as before the front end has connected. The toolstack
/// may have asked for something else meanwhile, which stays. Sleeps.
pub(crate) fn let_go(dev: &Device) {
    let node = dev.nodename();
    // Without the node nobody misses it.
    let _ = store::transaction(|store| {
        const SERVED: [u32; 2] = [
            XenbusState::Connected as u32,
            XenbusState::Reconfigured as u32,
        ];
        if store
            .read_number(node, c"state")?
            .is_some_and(|state: u32| SERVED.contains(&state))
        {
            store.printf(node, c"state", fmt!("{}", XenbusState::InitWait as u32))?;
        }
        Ok(())
    });
}

/// How much the guest may send. Sleeps.
pub(crate) fn rate(dev: &Device) -> Rate {
    let Ok(Some(value)) = NIL.read_opt(dev.nodename(), c"rate") else {
        return Rate::UNLIMITED;
    };
    value
        .to_str()
        .ok()
        .and_then(Rate::parse)
        .unwrap_or_else(|| {
            dev_warn!(dev.dev(), "the rate makes no sense; no limit\n");
            Rate::UNLIMITED
        })
}

/// The front end's state; `Unknown` when it has none. Sleeps.
pub(crate) fn front_state(otherend: &CStr) -> XenbusState {
    let state = NIL.read_number::<u32>(otherend, c"state").unwrap_or(None);
    XenbusState::from(state.unwrap_or(0))
}

/// A number of the front end's; garbage is as good as nothing. Sleeps.
fn number(dir: &CStr, key: &str) -> Option<u64> {
    let key = CString::try_from_fmt(fmt!("{key}")).ok()?;
    NIL.read_number(dir, &key).unwrap_or(None)
}

/// Bytes that the front end wants in front of each packet. Sleeps.
pub(crate) fn headroom(otherend: &CStr) -> u16 {
    if params::xdp_headroom() {
        netif::headroom(number(otherend, key::XDP_HEADROOM))
    } else {
        0
    }
}

/// Whether the front end wants to say which multicast packets it gets. Sleeps.
pub(crate) fn wants_multicast_control(otherend: &CStr) -> bool {
    number(otherend, key::REQUEST_MULTICAST_CONTROL).is_some_and(|value| value != 0)
}

/// What a front end wants, and how to reach it.
pub(crate) struct Front {
    pub(crate) wish: Wish,
    pub(crate) control: Option<ControlRing>,
    /// One at least.
    pub(crate) queues: KVec<VifQueue>,
}

/// Reads what the front end wants. Sleeps.
///
/// # Errors
///
/// `EINVAL` after a message that names the key, when the front end has asked for something that we
/// have not offered, or has written garbage.
pub(crate) fn front(dev: &Device, otherend: &CStr, most: u32) -> Result<Front> {
    let fatal = |BadKey { key, value }: BadKey| {
        match value {
            Some(value) => dev.fatal(EINVAL, fmt!("front end's {key} is {value}")),
            None => dev.fatal(EINVAL, fmt!("front end's {key} is missing or no number")),
        }
        EINVAL
    };
    let is_garbage = |key: &str| match CString::try_from_fmt(fmt!("{key}")) {
        Ok(key) => NIL.exists(otherend, &key),
        Err(_) => false,
    };
    let read = |key| match number(otherend, key) {
        // A number of queues that is no number is not one queue.
        None if key == key::MULTI_QUEUE_NUM_QUEUES && is_garbage(key) => Some(0),
        value => value,
    };
    let mut wish = Wish::read(read, most).map_err(fatal)?;
    if !params::xdp_headroom() {
        wish.headroom = 0;
    }
    let count = wish.queues;
    let mut queues = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for i in 0..count {
        let dir = match count {
            1 => CString::try_from(otherend)?,
            _ => CString::try_from_fmt(fmt!("{otherend}/queue-{i}"))?,
        };
        let queue = VifQueue::read(|key| number(&dir, key)).map_err(fatal)?;
        queues.push(queue, GFP_KERNEL)?;
    }
    let control = ControlRing::read(|key| number(otherend, key)).map_err(fatal)?;
    Ok(Front {
        wish,
        control,
        queues,
    })
}
