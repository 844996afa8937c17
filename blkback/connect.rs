// SPDX-License-Identifier: GPL-2.0

//! What is read from xenstore and what is written there.
//!
//! | node  | read                                 | written                                    |
//! |-------|--------------------------------------|--------------------------------------------|
//! | own   | physical-device (watched), mode,     | feature-max-indirect-segments,             |
//! |       | dev, discard-enable                  | multi-queue-max-queues,                    |
//! |       |                                      | max-ring-page-order, feature-persistent,   |
//! |       |                                      | feature-flush-cache, feature-barrier,      |
//! |       |                                      | feature-discard, discard-granularity,      |
//! |       |                                      | discard-alignment, discard-secure,         |
//! |       |                                      | sectors, info, sector-size,                |
//! |       |                                      | physical-sector-size                       |
//! | front | device-type, protocol,               |                                            |
//! |       | feature-persistent, ring-page-order, |                                            |
//! |       | multi-queue-num-queues; and for each |                                            |
//! |       | queue ring-ref or ring-refN,         |                                            |
//! |       | event-channel                        |                                            |
//!
//! C header: [`include/xen/interface/io/blkif.h`](srctree/include/xen/interface/io/blkif.h)

use crate::{
    bio::params,
    vbd::{self, Number, Vbd, MAX_INDIRECT_SEGMENTS},
};
use xenbus::{
    prelude::*,
    protocol::{
        blkif::{Abi, Limits},
        negotiate::{self, BadKey},
        tap::ioctl::Geometry,
    },
    store::NIL,
};

/// What is offered before there is a disk: how many segments a request can have, how many queues
/// there can be, and the order of the largest ring.
#[derive(Clone, Copy)]
pub(crate) struct Offers {
    pub(crate) queues: u32,
    pub(crate) ring_order: u32,
}

/// Offers of discards, each of which is made or taken back.
const DISCARD: [&CStr; 4] = [
    c"feature-discard",
    c"discard-granularity",
    c"discard-alignment",
    c"discard-secure",
];

/// Tells the front end what it may choose of. Sleeps.
pub(crate) fn offer(dev: &Device, offers: &Offers) -> Result {
    let number = |key, value: u64| NIL.printf(dev.nodename(), key, fmt!("{value}"));
    let segments = MAX_INDIRECT_SEGMENTS as u64;
    number(c"feature-max-indirect-segments", segments)?;
    number(c"multi-queue-max-queues", offers.queues.into())?;
    number(c"max-ring-page-order", offers.ring_order.into())
}

/// Whether the toolstack allows discards, as it does unless it says otherwise. Sleeps.
pub(crate) fn discard_enabled(dev: &Device) -> bool {
    let enable = NIL.read_number::<u32>(dev.nodename(), c"discard-enable");
    enable.unwrap_or(None) != Some(0)
}

/// The device that the hotplug script has chosen, if it has done so yet. Sleeps.
///
/// # Errors
///
/// `EINVAL` when the key holds something else.
pub(crate) fn physical_device(dev: &Device) -> Result<Option<Number>> {
    match NIL.read_opt(dev.nodename(), c"physical-device")? {
        None => Ok(None),
        Some(value) => Number::parse(value.to_str()?).map(Some).ok_or(EINVAL),
    }
}

/// The guest and the number of the virtual device, which end the node's path.
///
/// # Errors
///
/// `EINVAL` when they do not.
pub(crate) fn numbers(dev: &Device) -> Result<(u16, u32)> {
    let node = dev.nodename().to_str().map_err(|_| EINVAL)?;
    let handle = node.rsplit('/').next().unwrap_or("");
    let handle = handle.parse().map_err(|_| EINVAL)?;
    Ok((dev.otherend_id(), handle))
}

/// The key `mode`, such as `r`, `w` or `w!`. Sleeps.
pub(crate) fn mode(dev: &Device) -> Result<CString> {
    Ok(CString::try_from(
        NIL.read(dev.nodename(), c"mode")?.as_cstr(),
    )?)
}

/// Whether the front end is to see a CD-ROM drive. Sleeps.
pub(crate) fn is_cdrom(otherend: &CStr) -> Result<bool> {
    let device_type = NIL.read_opt(otherend, c"device-type")?;
    Ok(device_type.is_some_and(|value| value.as_bytes() == b"cdrom"))
}

/// The front end's state; `Unknown` when it has none. Sleeps.
pub(crate) fn front_state(otherend: &CStr) -> XenbusState {
    let state = NIL.read_number::<u32>(otherend, c"state").unwrap_or(None);
    XenbusState::from(state.unwrap_or(0))
}

/// The name of the threads that serve the disk, before their number, such as `3.xvda`. Sleeps.
pub(crate) fn thread_name(dev: &Device) -> Result<CString> {
    let node = NIL.read_opt(dev.nodename(), c"dev")?;
    // Without the key, the number of the virtual disk, which ends the node's path.
    let name = match &node {
        Some(value) => value.to_str()?,
        None => dev.nodename().to_str().map_err(|_| EINVAL)?,
    };
    let name = name.rsplit('/').next().unwrap_or("vbd");
    let domid = dev.otherend_id();
    CString::try_from_fmt(fmt!("{domid}.{name}"))
}

/// How to reach a front end.
pub(crate) struct Front {
    pub(crate) abi: Abi,
    /// We offer to keep its pages mapped.
    pub(crate) offered: bool,
    /// It wants its pages to be kept mapped, and so do we.
    pub(crate) persistent: bool,
    /// One at least.
    pub(crate) queues: KVec<negotiate::Queue>,
}

/// Reads how to reach the front end's rings. Sleeps.
///
/// # Errors
///
/// `EINVAL` after a message that names the key, when the front end has asked for something that we
/// have not offered, or has written garbage.
pub(crate) fn front(dev: &Device, otherend: &CStr, offers: &Offers) -> Result<Front> {
    // Garbage is for `negotiate` to refuse: to it, it is as good as nothing.
    let number = |dir: &CStr, key: &CStr| NIL.read_number::<u64>(dir, key).unwrap_or(None);
    let fatal = |BadKey { key, value }: BadKey| {
        match value {
            Some(value) => dev.fatal(EINVAL, fmt!("front end's {key} is {value}")),
            None => dev.fatal(EINVAL, fmt!("front end's {key} is missing or no number")),
        }
        EINVAL
    };

    let protocol = NIL.read_opt(otherend, c"protocol")?;
    let protocol = protocol.as_ref().map(|value| value.to_str().unwrap_or(""));
    let abi = Abi::from_protocol(protocol).map_err(|_| {
        dev.fatal(EINVAL, fmt!("front end's protocol is unknown"));
        EINVAL
    })?;

    let key = c"multi-queue-num-queues";
    let count = match NIL.exists(otherend, key) {
        true => Some(number(otherend, key).unwrap_or(0)),
        false => None,
    };
    let count = negotiate::queues(count, offers.queues).map_err(fatal)?;
    let key = c"ring-page-order";
    let pages = match NIL.exists(otherend, key) {
        true => {
            let order = number(otherend, key);
            Some(negotiate::ring_pages(order, offers.ring_order).map_err(fatal)?)
        }
        false => None,
    };

    let mut queues = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for i in 0..count {
        let dir = match count {
            1 => CString::try_from(otherend)?,
            _ => CString::try_from_fmt(fmt!("{otherend}/queue-{i}"))?,
        };
        let port = number(&dir, c"event-channel");
        let queue = match (pages, number(&dir, c"ring-ref")) {
            // Some name their only page so whether or not they write its order.
            (None, ring_ref) | (Some(1), ring_ref @ Some(_)) => {
                negotiate::Queue::single(ring_ref, port)
            }
            (Some(pages), _) => {
                let ring_ref = |i: usize| {
                    let key = CString::try_from_fmt(fmt!("ring-ref{i}")).ok()?;
                    number(&dir, &key)
                };
                negotiate::Queue::multi(pages, ring_ref, port)
            }
        };
        queues.push(queue.map_err(fatal)?, GFP_KERNEL)?;
    }
    // Read once: the two ends must not come to think differently.
    let offered = params::feature_persistent();
    let wanted = negotiate::flag(number(otherend, c"feature-persistent"));
    Ok(Front {
        abi,
        offered,
        persistent: wanted && offered,
        queues,
    })
}

/// Tells a front end what the disk is like. False, without effect, when the toolstack has told us
/// meanwhile to close, by writing our state. Sleeps.
pub(crate) fn publish(dev: &Device, vbd: &Vbd, it: &Geometry, front: &Front) -> Result<bool> {
    let node = dev.nodename();
    let limits: Limits = vbd::limits(it);
    store::transaction(|store| {
        if own_state(store, node)? == XenbusState::Closing {
            return Ok(false);
        }
        let number = |key, value: u64| store.printf(node, key, fmt!("{value}"));
        number(c"feature-flush-cache", limits.features.flush.into())?;
        number(c"feature-barrier", limits.features.barrier.into())?;
        number(c"feature-persistent", front.offered.into())?;
        for key in DISCARD {
            // What another driver, or an earlier connection, has offered.
            if store.exists(node, key) {
                store.remove(node, key)?;
            }
        }
        number(c"feature-discard", limits.features.discard.into())?;
        if limits.features.discard {
            let secure = limits.features.secure_discard;
            number(c"discard-granularity", it.discard_granularity.into())?;
            number(c"discard-alignment", vbd.discard_alignment().into())?;
            number(c"discard-secure", secure.into())?;
        }
        number(c"sectors", limits.capacity_sectors)?;
        number(c"info", vbd::info(it).into())?;
        number(c"sector-size", limits.sector_size.into())?;
        number(c"physical-sector-size", it.physical_sector_size.into())?;
        Ok(true)
    })
}

/// This end's state as it stands in the store.
fn own_state(store: &Store, node: &CStr) -> Result<XenbusState> {
    let state = store.read_number::<u32>(node, c"state")?;
    Ok(XenbusState::from(state.unwrap_or(0)))
}

/// Tells the front end of another size: by writing the state again, if we are still connected.
/// Sleeps.
pub(crate) fn publish_size(dev: &Device, sectors: u64) -> Result {
    let node = dev.nodename();
    store::transaction(|store| {
        // In the transaction, so that a state written meanwhile is not overwritten, nor a node made
        // again that has been removed.
        let state = own_state(store, node)?;
        if state != XenbusState::Unknown {
            store.printf(node, c"sectors", fmt!("{sectors}"))?;
        }
        if state == XenbusState::Connected {
            store.printf(node, c"state", fmt!("{}", state as u32))?;
        }
        Ok(())
    })
}

/// Takes back an offer that has turned out to be wrong. Sleeps.
pub(crate) fn take_back(dev: &Device, key: &CStr) -> Result {
    let node = dev.nodename();
    store::transaction(|store| match own_state(store, node)? {
        XenbusState::Unknown => Ok(()),
        _ => store.write(node, key, c"0"),
    })
}
