// SPDX-License-Identifier: GPL-2.0

//! What the two ends tell each other in xenstore.
//!
//! | node  | read                                   | written                                |
//! |-------|----------------------------------------|----------------------------------------|
//! | own   | mac, trusted                           | tx-ring-ref, rx-ring-ref,              |
//! |       |                                        | event-channel or event-channel-tx and  |
//! |       |                                        | event-channel-rx, for each queue;      |
//! |       |                                        | multi-queue-num-queues,                |
//! |       |                                        | request-rx-copy, feature-rx-notify,    |
//! |       |                                        | feature-sg, feature-gso-tcpv4,         |
//! |       |                                        | feature-gso-tcpv6,                     |
//! |       |                                        | feature-ipv6-csum-offload,             |
//! |       |                                        | xdp-headroom                           |
//! | back  | multi-queue-max-queues,                |                                        |
//! |       | feature-split-event-channels,          |                                        |
//! |       | feature-rx-copy, feature-sg,           |                                        |
//! |       | feature-gso-tcpv4, feature-gso-tcpv6,  |                                        |
//! |       | feature-ipv6-csum-offload,             |                                        |
//! |       | feature-xdp-headroom                   |                                        |
//!
//! C header: [`include/xen/interface/io/netif.h`](srctree/include/xen/interface/io/netif.h)

use crate::{params, queue::Published, rings::Rings};
use xenbus::{
    net::Mac,
    prelude::*,
    protocol::{
        negotiate::BadKey,
        netif::{self, key},
    },
    store::NIL,
};

/// What the back end offers, and what we make of it.
pub(crate) struct Offer {
    pub(crate) back: netif::Offer,
    /// The back end knows of several queues.
    pub(crate) multi_queue: bool,
    /// The interface's address.
    pub(crate) mac: Mac,
    /// Pages of the guest's own are never shown to the back end.
    pub(crate) bounce: bool,
}

/// A number; garbage is as good as nothing. Sleeps.
fn number(dir: &CStr, key: &str) -> Option<u64> {
    let key = CString::try_from_fmt(fmt!("{key}")).ok()?;
    NIL.read_number(dir, &key).unwrap_or(None)
}

/// Reads what the back end offers; at most `most` queues are wanted. Sleeps.
pub(crate) fn read_back(dev: &Device<Core>, most: u32) -> Result<netif::Offer, BadKey> {
    netif::Offer::read(|key| number(dev.otherend(), key), most)
}

/// Reads what the back end offers, and what else there is to know before a connection. Sleeps.
///
/// # Errors
///
/// `EINVAL` or `ENODEV` after a message, when there is no address, or when the back end cannot copy.
pub(crate) fn read_offer(dev: &Device<Core>, most: u32) -> Result<Offer> {
    let back = read_back(dev, most).map_err(|BadKey { key, .. }| {
        dev.fatal(ENODEV, fmt!("back end's {key} is not 1"));
        ENODEV
    })?;
    let mac = read_mac(dev).inspect_err(|e| dev.fatal(*e, fmt!("reading mac")))?;
    Ok(Offer {
        back,
        multi_queue: number(dev.otherend(), key::MULTI_QUEUE_MAX_QUEUES).is_some(),
        mac,
        bounce: !params::trusted() || number(dev.nodename(), key::TRUSTED) == Some(0),
    })
}

fn read_mac(dev: &Device) -> Result<Mac> {
    let value = NIL.read(dev.nodename(), c"mac")?;
    netif::mac_address(value.to_str()?.trim()).ok_or(EINVAL)
}

/// Tells the back end of the rings, and how many bytes it is to leave in front of a packet. Sleeps.
pub(crate) fn publish(dev: &Device<Core>, rings: &Rings, offer: &Offer, headroom: usize) -> Result {
    let dir = dev.nodename();
    store::transaction(|store| {
        // What another driver, or we ourselves, may have said about other rings.
        remove_leftovers(store, dir)?;
        if offer.multi_queue {
            store.printf(
                dir,
                c"multi-queue-num-queues",
                fmt!("{}", rings.published().len()),
            )?;
        }
        match rings.published() {
            [ring] => write_rings(store, dir, ring)?,
            all => {
                for (i, ring) in all.iter().enumerate() {
                    let dir = CString::try_from_fmt(fmt!("{dir}/queue-{i}"))?;
                    write_rings(store, &dir, ring)?;
                }
            }
        }
        if offer.back.xdp_headroom {
            store.printf(dir, c"xdp-headroom", fmt!("{headroom}"))?;
        }
        store.write(dir, c"request-rx-copy", c"1")?;
        store.write(dir, c"feature-rx-notify", c"1")?;
        store.write(dir, c"feature-sg", c"1")?;
        store.write(dir, c"feature-gso-tcpv4", c"1")?;
        store.write(dir, c"feature-gso-tcpv6", c"1")?;
        store.write(dir, c"feature-ipv6-csum-offload", c"1")
    })
}

/// Writes what the back end has to know of a queue.
fn write_rings(store: &Store, dir: &CStr, queue: &Published) -> Result {
    store.printf(dir, c"tx-ring-ref", fmt!("{}", queue.tx_ring))?;
    store.printf(dir, c"rx-ring-ref", fmt!("{}", queue.rx_ring))?;
    if queue.tx_port == queue.rx_port {
        store.printf(dir, c"event-channel", fmt!("{}", queue.tx_port))
    } else {
        store.printf(dir, c"event-channel-tx", fmt!("{}", queue.tx_port))?;
        store.printf(dir, c"event-channel-rx", fmt!("{}", queue.rx_port))
    }
}

fn remove_leftovers(store: &Store, dir: &CStr) -> Result {
    const KEYS: [&[u8]; 7] = [
        b"tx-ring-ref",
        b"rx-ring-ref",
        b"event-channel",
        b"event-channel-tx",
        b"event-channel-rx",
        b"multi-queue-num-queues",
        b"xdp-headroom",
    ];
    store.for_each(dir, |key| {
        let name = key.to_bytes();
        if name.starts_with(b"queue-") || KEYS.contains(&name) {
            store.remove(dir, key)?;
        }
        Ok(())
    })
}
