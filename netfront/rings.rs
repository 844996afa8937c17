// SPDX-License-Identifier: GPL-2.0

//! The rings of an interface while it is connected.

use crate::{
    connect::Offer,
    interface::Interface,
    queue::{Channel, Channels, Port, Published, Queue},
    rx::Rx,
    tx::Tx,
};
use xenbus::{
    net::{self, Napi},
    prelude::*,
    protocol::{
        netif,
        ring::{Codec, Front},
    },
    ring::FrontArea,
    timer::Timer,
};

/// The rings of an interface. Dropping it ends their use: nothing is sent any more, and the back end
/// has access to nothing but what it does not let go of. Sleeps.
pub(crate) struct Rings {
    interface: Arc<Interface>,
    published: KVec<Published>,
    offer: netif::Offer,
}

impl Rings {
    /// Makes rings for as many queues as have been agreed upon, or for fewer, if there are not enough
    /// references, but for one. Sleeps.
    pub(crate) fn start(dev: &Device, interface: &Arc<Interface>, offer: &Offer) -> Result<Self> {
        let mut rings = Rings {
            interface: interface.clone(),
            published: KVec::with_capacity(offer.back.queues as usize, GFP_KERNEL)?,
            offer: offer.back,
        };
        for napi in interface.queues().iter().take(offer.back.queues as usize) {
            match start(dev, napi, offer.back.split_event_channels) {
                Ok(published) => rings.published.push(published, GFP_KERNEL)?,
                Err(e) if rings.published.is_empty() => return Err(e),
                Err(_) => break,
            }
        }
        rings.offer.queues = rings.published.len() as u32;
        let rtnl = net::rtnl();
        interface
            .shared()
            .net
            .set_queues(rings.offer.queues, &rtnl)?;
        drop(rtnl);
        Ok(rings)
    }

    /// What they were made for: of the back end's offer, with as many queues as there are.
    pub(crate) fn offer(&self) -> &netif::Offer {
        &self.offer
    }

    /// What the back end is told, a queue each.
    pub(crate) fn published(&self) -> &[Published] {
        &self.published
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        self.interface.shared().net.set_carrier(false);
        for napi in self.interface.queues().iter() {
            napi.target().take_rings();
        }
    }
}

fn start(dev: &Device, napi: &Arc<Napi<Queue>>, split: bool) -> Result<Published> {
    let (tx, tx_ring) = ring(dev, netif::Tx)?;
    let (rx, rx_ring) = ring(dev, netif::Rx)?;
    let bind = |name| -> Result<Arc<Channel>> {
        let channel = Channel::alloc_unbound(dev, name, Port::new(napi)?)?;
        Ok(Arc::new(channel, GFP_KERNEL)?)
    };
    let (tx_channel, rx_channel) = if split {
        (bind(c"netfront-tx")?, Some(bind(c"netfront-rx")?))
    } else {
        (bind(c"netfront")?, None)
    };
    let channels = Channels::new(&tx_channel, rx_channel.as_ref());
    let published = Published {
        tx_ring,
        rx_ring,
        tx_port: tx_channel.port(),
        rx_port: channels.rx().port(),
    };
    let timer = || {
        let timed = napi.clone();
        Timer::new(move || timed.schedule())
    };
    let tx = Tx::new(tx, &tx_channel, dev.otherend_id(), timer()?)?;
    let rx = Rx::new(dev, napi, rx, channels, timer()?)?;
    napi.target().set_rings(tx, rx);
    Ok(published)
}

/// An empty ring, and its reference.
fn ring<C: Codec>(dev: &Device, codec: C) -> Result<(Front<FrontArea, C>, u32)> {
    let area = FrontArea::new(dev, 1)?;
    let gref = area.grefs().first().copied().ok_or(ENOMEM)?;
    Ok((Front::new(area, codec).map_err(|_| EINVAL)?, gref))
}
