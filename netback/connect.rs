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
//! |       |                                        | multi-queue-max-queues                 |
//! | front | multi-queue-num-queues,                |                                        |
//! |       | request-rx-copy, feature-rx-notify,    |                                        |
//! |       | feature-sg, feature-gso-tcpv4,         |                                        |
//! |       | feature-gso-tcpv6,                     |                                        |
//! |       | feature-no-csum-offload,               |                                        |
//! |       | feature-ipv6-csum-offload,             |                                        |
//! |       | xdp-headroom,                          |                                        |
//! |       | request-multicast-control (watched);   |                                        |
//! |       | and for each queue tx-ring-ref,        |                                        |
//! |       | rx-ring-ref, event-channel or          |                                        |
//! |       | event-channel-tx and event-channel-rx  |                                        |
//!
//! C header: [`include/xen/interface/io/netif.h`](srctree/include/xen/interface/io/netif.h)

use crate::{credit::Rate, params};
use kernel::dev_warn;
use xenbus::{prelude::*, protocol::netif::MAX_XDP_HEADROOM, store::NIL};

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
        // What another driver may have offered.
        flag(c"feature-ctrl-ring", false)?;
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
fn number(dir: &CStr, key: &CStr) -> Option<u32> {
    NIL.read_number::<u32>(dir, key).unwrap_or(None)
}

fn flag(dir: &CStr, key: &CStr) -> bool {
    number(dir, key).is_some_and(|value| value != 0)
}

/// Bytes that the front end wants in front of each packet. Sleeps.
pub(crate) fn headroom(otherend: &CStr) -> u16 {
    let most = if params::xdp_headroom() {
        MAX_XDP_HEADROOM
    } else {
        0
    };
    number(otherend, c"xdp-headroom").unwrap_or(0).min(most) as u16
}

/// Whether the front end wants to say which multicast packets it gets. Sleeps.
pub(crate) fn wants_multicast_control(otherend: &CStr) -> bool {
    flag(otherend, c"request-multicast-control")
}

/// What a front end wants.
pub(crate) struct Front {
    /// It takes packets of several slots.
    pub(crate) sg: bool,
    /// It takes large packets of TCP over IPv4.
    pub(crate) gso_v4: bool,
    /// It takes large packets of TCP over IPv6.
    pub(crate) gso_v6: bool,
    /// It takes packets with a blank checksum over IPv4.
    pub(crate) csum_v4: bool,
    /// It takes packets with a blank checksum over IPv6.
    pub(crate) csum_v6: bool,
    /// It notifies of receive requests.
    pub(crate) rx_notify: bool,
    /// See [`headroom`].
    pub(crate) headroom: u16,
    /// See [`wants_multicast_control`].
    pub(crate) multicast_control: bool,
    /// One at least.
    pub(crate) queues: KVec<Queue>,
}

/// How to reach a queue of a front end.
#[derive(Clone, Copy)]
pub(crate) struct Queue {
    pub(crate) tx_ring: u32,
    pub(crate) rx_ring: u32,
    pub(crate) channels: Channels,
}

/// The ports of a queue.
#[derive(Clone, Copy)]
pub(crate) enum Channels {
    /// One for both rings.
    One(u32),
    /// One for each.
    Split { tx: u32, rx: u32 },
}

/// Reads what the front end wants. Sleeps.
///
/// # Errors
///
/// `EINVAL` after a message that names the key, when the front end has asked for something that we
/// have not offered, or has written garbage.
pub(crate) fn front(dev: &Device, otherend: &CStr, most: u32) -> Result<Front> {
    if !flag(otherend, c"request-rx-copy") {
        dev.fatal(EINVAL, fmt!("front end's request-rx-copy is not 1"));
        return Err(EINVAL);
    }
    let key = c"multi-queue-num-queues";
    let count = match NIL.exists(otherend, key) {
        true => number(otherend, key).unwrap_or(0),
        false => 1,
    };
    if count == 0 || count > most {
        dev.fatal(
            EINVAL,
            fmt!("front end wants {count} queues, not 1 to {most}"),
        );
        return Err(EINVAL);
    }
    let mut queues = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for i in 0..count {
        let dir = match count {
            1 => CString::try_from(otherend)?,
            _ => CString::try_from_fmt(fmt!("{otherend}/queue-{i}"))?,
        };
        let needed = |key: &CStr| {
            number(&dir, key).ok_or_else(|| {
                dev.fatal(EINVAL, fmt!("front end's {key} is missing or no number"));
                EINVAL
            })
        };
        let split = (
            number(&dir, c"event-channel-tx"),
            number(&dir, c"event-channel-rx"),
        );
        let queue = Queue {
            tx_ring: needed(c"tx-ring-ref")?,
            rx_ring: needed(c"rx-ring-ref")?,
            channels: match split {
                (Some(tx), Some(rx)) => Channels::Split { tx, rx },
                _ => Channels::One(needed(c"event-channel")?),
            },
        };
        queues.push(queue, GFP_KERNEL)?;
    }
    Ok(Front {
        sg: flag(otherend, c"feature-sg"),
        gso_v4: flag(otherend, c"feature-gso-tcpv4"),
        gso_v6: flag(otherend, c"feature-gso-tcpv6"),
        csum_v4: !flag(otherend, c"feature-no-csum-offload"),
        csum_v6: flag(otherend, c"feature-ipv6-csum-offload"),
        rx_notify: flag(otherend, c"feature-rx-notify"),
        headroom: headroom(otherend),
        multicast_control: wants_multicast_control(otherend),
        queues,
    })
}
