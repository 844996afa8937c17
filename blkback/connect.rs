// SPDX-License-Identifier: GPL-2.0

//! What is read from xenstore and what is written there.
//!
//! | node  | read                                      | written                                  |
//! |-------|-------------------------------------------|------------------------------------------|
//! | own   | physical-device (watched), mode, dev      | feature-flush-cache, feature-barrier,    |
//! |       |                                           | sectors, info, sector-size,              |
//! |       |                                           | physical-sector-size                     |
//! | front | device-type, protocol, ring-ref,          |                                          |
//! |       | event-channel, multi-queue-num-queues,    |                                          |
//! |       | ring-page-order                           |                                          |
//!
//! C header: [`include/xen/interface/io/blkif.h`](srctree/include/xen/interface/io/blkif.h)

use crate::vbd::{Number, Vbd};
use xenbus::{
    prelude::*,
    protocol::negotiate::{self, BadKey, BadRing},
    store::NIL,
};

/// Offers of the C driver that we do not make: they would stay behind when a device changes from
/// that driver to ours.
const NOT_OFFERED: [&CStr; 8] = [
    c"feature-persistent",
    c"feature-max-indirect-segments",
    c"feature-discard",
    c"discard-granularity",
    c"discard-alignment",
    c"discard-secure",
    c"max-ring-page-order",
    c"multi-queue-max-queues",
];

/// Takes back what another driver has offered. Sleeps.
pub(crate) fn clear_offers(dev: &Device) -> Result {
    for key in NOT_OFFERED {
        if NIL.exists(dev.nodename(), key) {
            NIL.remove(dev.nodename(), key)?;
        }
    }
    Ok(())
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

/// The name of the thread that serves the ring, such as `3.xvda-0`. Sleeps.
pub(crate) fn thread_name(dev: &Device) -> Result<CString> {
    let node = NIL.read_opt(dev.nodename(), c"dev")?;
    // Without the key, the number of the virtual disk, which ends the node's path.
    let name = match &node {
        Some(value) => value.to_str()?,
        None => dev.nodename().to_str().map_err(|_| EINVAL)?,
    };
    let name = name.rsplit('/').next().unwrap_or("vbd");
    let domid = dev.otherend_id();
    CString::try_from_fmt(fmt!("{domid}.{name}-0"))
}

/// Reads how to reach the front end's ring. Sleeps.
///
/// # Errors
///
/// `EINVAL` after a message that names the key, when the front end has asked for something that we
/// have not offered, or has written garbage.
pub(crate) fn front_ring(dev: &Device, otherend: &CStr) -> Result<negotiate::Ring> {
    // Garbage is for `negotiate` to refuse: to it, it is as good as nothing.
    let number = |key| NIL.read_number::<u64>(otherend, key).unwrap_or(None);
    let fatal = |key: &str, value: Option<u64>| {
        match value {
            Some(value) => dev.fatal(EINVAL, fmt!("front end's {key} is {value}")),
            None => dev.fatal(EINVAL, fmt!("front end's {key} is missing or no number")),
        }
        EINVAL
    };

    let queues = c"multi-queue-num-queues";
    if NIL.exists(otherend, queues) {
        negotiate::queues(Some(number(queues).unwrap_or(0)), 1)
            .map_err(|BadKey { key, value }| fatal(key, value))?;
    }
    let order = c"ring-page-order";
    if NIL.exists(otherend, order) && number(order) != Some(0) {
        return Err(fatal("ring-page-order", number(order)));
    }
    // A front end that has been offered rings of many pages by another back end names its page so.
    let ring_ref = match number(c"ring-ref") {
        None if NIL.exists(otherend, order) => number(c"ring-ref0"),
        ring_ref => ring_ref,
    };

    let protocol = NIL.read_opt(otherend, c"protocol")?;
    let protocol = protocol.as_ref().map(|value| value.to_str().unwrap_or(""));
    negotiate::Ring::negotiate(protocol, ring_ref, number(c"event-channel")).map_err(|e| match e {
        BadRing::Key(BadKey { key, value }) => fatal(key, value),
        BadRing::Protocol => {
            dev.fatal(EINVAL, fmt!("front end's protocol is unknown"));
            EINVAL
        }
    })
}

/// Tells the front end what the disk is like. False, without effect, when the toolstack has told us
/// meanwhile to close, by writing our state. Sleeps.
pub(crate) fn publish(dev: &Device, vbd: &Vbd) -> Result<bool> {
    let limits = vbd.limits();
    let node = dev.nodename();
    store::transaction(|store| {
        if own_state(store, node)? == XenbusState::Closing {
            return Ok(false);
        }
        let number = |key, value: u64| store.printf(node, key, fmt!("{value}"));
        number(c"feature-flush-cache", limits.features.flush.into())?;
        number(c"feature-barrier", limits.features.barrier.into())?;
        number(c"sectors", limits.capacity_sectors)?;
        number(c"info", vbd.info().into())?;
        number(c"sector-size", limits.sector_size.into())?;
        let physical = vbd.disk.physical_block_size();
        number(c"physical-sector-size", physical.into())?;
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
