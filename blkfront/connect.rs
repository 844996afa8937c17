// SPDX-License-Identifier: GPL-2.0

//! What the two ends tell each other in xenstore.
//!
//! C header: the first part of `xen/io/blkif.h`, through [`xenbus::protocol::negotiate`].

use crate::{
    mq::Params,
    queue::Queues,
    ring::{Ring, ABI},
    transport::Access,
};
use kernel::prelude::*;
use xenbus::{
    prelude::*,
    protocol::negotiate::{self, BadKey, Discard, Flush},
};

/// What we have told the back end, or have decided ourselves.
#[derive(Clone, Copy)]
pub(crate) struct Published {
    /// Pages of the guest's own are never shown.
    bounce: bool,
    /// Pages that are granted once and kept are welcome.
    persistent: bool,
    /// The most segments of an indirect request that we would send.
    max_segments: u32,
}

/// What the back end offers.
pub(crate) struct Offer {
    /// What the disk is like.
    pub disk: negotiate::Disk,
    /// How written data is made durable.
    pub flush: Flush,
    /// How sectors can be discarded, if they can.
    pub discard: Option<Discard>,
    /// How the back end gets at the data.
    pub access: Access,
    /// The most segments of an indirect request, 0: there are none.
    pub indirect: u16,
}

/// Makes rings for `queues` and tells the back end of them. Sleeps.
pub(crate) fn publish_rings(dev: &Device<Core>, queues: &Queues) -> Result<Published> {
    let params = Params::now();
    let trusted = store::NIL.read_number::<u64>(dev.nodename(), c"trusted");
    let published = Published {
        bounce: !params.trusted || matches!(trusted, Ok(Some(0))),
        persistent: params.feature_persistent,
        max_segments: params.max_indirect_segments,
    };
    let most = queues.all().len() as u32;
    let count = negotiate::queue_count(number(dev, c"multi-queue-max-queues"), most);
    let offered = number(dev, c"max-ring-page-order");
    let order = negotiate::ring_order(offered, params.max_ring_page_order);

    let mut rings = KVec::new();
    for queue in queues.all().iter().take(count as usize) {
        rings.push(Ring::new(dev, queue, 1 << order)?, GFP_KERNEL)?;
    }
    let dir = dev.nodename();
    store::transaction(|store| {
        // What another driver, or we ourselves, may have said about other rings.
        remove_leftovers(store, dir)?;
        if order > 0 {
            store.printf(dir, c"ring-page-order", fmt!("{order}"))?;
        }
        match &*rings {
            [ring] => write_ring(store, dir, ring)?,
            rings => {
                store.printf(dir, c"multi-queue-num-queues", fmt!("{}", rings.len()))?;
                let dir = dir.to_str()?;
                for (i, ring) in rings.iter().enumerate() {
                    let dir = CString::try_from_fmt(fmt!("{dir}/queue-{i}"))?;
                    write_ring(store, &dir, ring)?;
                }
            }
        }
        store.printf(dir, c"protocol", fmt!("{}", ABI.protocol()))?;
        let persistent = u8::from(published.persistent);
        store.printf(dir, c"feature-persistent", fmt!("{persistent}"))
    })?;
    queues.set_rings(rings);
    Ok(published)
}

/// Writes what the back end has to know of a ring.
fn write_ring(store: &Store, dir: &CStr, ring: &Ring) -> Result {
    match ring.grefs() {
        [gref] => store.printf(dir, c"ring-ref", fmt!("{gref}"))?,
        grefs => {
            for (i, gref) in grefs.iter().enumerate() {
                let key = CString::try_from_fmt(fmt!("ring-ref{i}"))?;
                store.printf(dir, &key, fmt!("{gref}"))?;
            }
        }
    }
    store.printf(dir, c"event-channel", fmt!("{}", ring.port()))
}

fn remove_leftovers(store: &Store, dir: &CStr) -> Result {
    const KEYS: [&[u8]; 3] = [
        b"event-channel",
        b"ring-page-order",
        b"multi-queue-num-queues",
    ];
    store.for_each(dir, |key| {
        let name = key.to_bytes();
        let ours = name.starts_with(b"ring-ref") || name.starts_with(b"queue-");
        if ours || KEYS.contains(&name) {
            store.remove(dir, key)?;
        }
        Ok(())
    })
}

/// Reads what the back end offers. Sleeps.
pub(crate) fn read_offer(
    dev: &Device<Core>,
    published: &Published,
) -> core::result::Result<Offer, BadKey> {
    let read = |key| number(dev, key);
    let disk = negotiate::Disk::negotiate(
        read(c"sectors"),
        read(c"sector-size"),
        read(c"physical-sector-size"),
        read(c"info"),
    )?;
    let persistent = published.persistent && negotiate::flag(read(c"feature-persistent"));
    Ok(Offer {
        flush: Flush::negotiate(read(c"feature-flush-cache"), read(c"feature-barrier")),
        discard: Discard::negotiate(
            read(c"feature-discard"),
            read(c"discard-granularity"),
            read(c"discard-alignment"),
            read(c"discard-secure"),
            disk.sector_size,
        ),
        access: match (persistent, published.bounce) {
            (true, _) => Access::Persistent,
            (false, true) => Access::Bounce,
            (false, false) => Access::Direct,
        },
        indirect: negotiate::indirect_segments(
            read(c"feature-max-indirect-segments"),
            published.max_segments,
        ),
        disk,
    })
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
