// SPDX-License-Identifier: GPL-2.0

//! What the two ends tell each other in xenstore.
//!
//! C header: the first part of `xen/io/blkif.h`, through [`xenbus::protocol::negotiate`].

use crate::{
    queue::Queue,
    ring::{Ring, ABI},
};
use kernel::prelude::*;
use xenbus::{
    prelude::*,
    protocol::negotiate::{self, BadKey, Flush},
};

/// The disk that the back end offers.
pub(crate) struct Offer {
    /// What it is like.
    pub disk: negotiate::Disk,
    /// How written data is made durable.
    pub flush: Flush,
}

/// Makes a ring for `queue` and tells the back end of it. Sleeps.
pub(crate) fn publish_ring(dev: &Device, queue: &Arc<Queue>) -> Result {
    let ring = Ring::new(dev, queue)?;
    let (gref, port) = (ring.gref()?, ring.port());
    let dir = dev.nodename();
    store::transaction(|store| {
        store.printf(dir, c"ring-ref", fmt!("{gref}"))?;
        store.printf(dir, c"event-channel", fmt!("{port}"))?;
        store.printf(dir, c"protocol", fmt!("{}", ABI.protocol()))?;
        store.printf(dir, c"feature-persistent", fmt!("0"))?;
        // What another driver may have said about its own rings.
        for key in [c"ring-page-order", c"multi-queue-num-queues"] {
            if store.exists(dir, key) {
                store.remove(dir, key)?;
            }
        }
        Ok(())
    })?;
    queue.set_ring(ring);
    Ok(())
}

/// Reads what the back end offers. Sleeps.
pub(crate) fn read_offer(dev: &Device<Core>) -> core::result::Result<Offer, BadKey> {
    let read = |key| number(dev, key);
    let disk = negotiate::Disk::negotiate(
        read(c"sectors"),
        read(c"sector-size"),
        read(c"physical-sector-size"),
        read(c"info"),
    )?;
    let flush = Flush::negotiate(read(c"feature-flush-cache"), read(c"feature-barrier"));
    Ok(Offer { disk, flush })
}

/// Reads the size of the disk, in sectors of 512 bytes. Sleeps.
pub(crate) fn read_capacity(
    dev: &Device<Core>,
    sector_size: u32,
) -> core::result::Result<u64, BadKey> {
    negotiate::capacity(number(dev, c"sectors"), sector_size)
}

/// What stands in a key of the back end, `None` if that is no number.
fn number(dev: &Device<Core>, key: &CStr) -> Option<u64> {
    store::NIL.read_number(dev.otherend(), key).ok().flatten()
}

/// Reads the number of the virtual device, from which its name and minors follow. Sleeps.
pub(crate) fn read_vdev(dev: &Device) -> Result<u32> {
    let dir = dev.nodename();
    let value = match store::NIL.read_opt(dir, c"virtual-device")? {
        Some(value) => value,
        None => store::NIL.read(dir, c"virtual-device-ext")?,
    };
    let text = value.to_str()?.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|_| EINVAL)
}

/// Whether the toolstack calls the device a CD-ROM drive. Sleeps.
pub(crate) fn is_cdrom(dev: &Device) -> Result<bool> {
    let value = store::NIL.read(dev.nodename(), c"device-type")?;
    Ok(value.as_bytes().starts_with(b"cdrom"))
}

/// The number that requests carry: that of the device's directory, cut to 16 bits.
pub(crate) fn handle(dev: &Device) -> u16 {
    let name = dev.nodename().to_bytes();
    let digits = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let number = core::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse::<u32>().ok());
    number.unwrap_or(0) as u16
}
