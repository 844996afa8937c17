// SPDX-License-Identifier: GPL-2.0

//! The interface, as the stack of this guest sees it.

use crate::{
    connect::Offer,
    params,
    queue::Queue,
    xdp::{self, Xdp},
};
use core::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use kernel::{cpu::CpuId, dev_alert, new_mutex, sync::Mutex};
use xenbus::{
    net::{
        self, ExtAck, Features, GsoKind, Mac, NetDev, Operations, Program, Queues, Rtnl, Settings,
        SkBuff, SkBuffMut, Stats, XdpFrames,
    },
    prelude::*,
    protocol::netif::MAX_TX_SIZE,
};

/// The largest packet without SG, without its Ethernet header.
const ETH_DATA_LEN: u32 = 1500;

/// An interface.
pub(crate) struct Interface {
    shared: Arc<Shared>,
    queues: Queues<Queue>,
}

/// What all queues of an interface look at.
#[pin_data]
pub(crate) struct Shared {
    pub(crate) net: Arc<NetDev>,
    pub(crate) dev: ARef<Device>,
    /// What the back end takes: bits.
    takes: AtomicU32,
    bounce: AtomicBool,
    /// The back end has broken the rules: it is not used any more.
    broken: AtomicBool,
    #[pin]
    pub(crate) xdp: Mutex<Xdp>,
}

const SG: u32 = 1 << 0;
const GSO_V4: u32 = 1 << 1;
const GSO_V6: u32 = 1 << 2;
const CSUM_V6: u32 = 1 << 3;

impl Shared {
    fn takes(&self, what: u32) -> bool {
        self.takes.load(Relaxed) & what == what
    }

    /// Whether the back end takes a packet of so many parts.
    #[inline]
    pub(crate) fn takes_parts(&self, parts: usize) -> bool {
        parts <= 1 || self.takes(SG)
    }

    /// Whether the back end takes large packets of a kind.
    #[inline]
    pub(crate) fn takes_gso(&self, kind: GsoKind) -> bool {
        self.takes(match kind {
            GsoKind::TcpV4 => GSO_V4,
            GsoKind::TcpV6 => GSO_V6,
        })
    }

    /// Whether packets are to be copied to pages that hold nothing else.
    #[inline]
    pub(crate) fn bounces(&self) -> bool {
        self.bounce.load(Relaxed)
    }

    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Acquire)
    }

    /// The back end is not to be used any more, for this reason. In any context.
    pub(crate) fn set_broken(&self, why: fmt::Arguments<'_>) {
        if !self.broken.swap(true, Release) {
            dev_alert!(self.dev.dev(), "{why}; interface disabled\n");
            self.net.set_carrier(false);
        }
    }

    /// Notes what the back end of a new connection takes.
    pub(crate) fn set_offer(&self, offer: &Offer) {
        let bit = |is: bool, bit: u32| if is { bit } else { 0 };
        let back = &offer.back.takes;
        let takes = bit(back.sg, SG)
            | bit(back.gso_tcpv4, GSO_V4)
            | bit(back.gso_tcpv6, GSO_V6)
            | bit(back.ipv6_csum, CSUM_V6);
        self.takes.store(takes, Relaxed);
        self.bounce.store(offer.bounce, Relaxed);
        self.broken.store(false, Release);
    }
}

impl Interface {
    /// An interface with at most `queues` queues. Sleeps.
    pub(crate) fn new(dev: &Device<Core>, queues: u32) -> Result<Arc<Self>> {
        let net = NetDev::new(c"eth%d", queues)?;
        let (of_net, of_dev) = (net.clone(), dev.into());
        let shared = Arc::pin_init(
            pin_init!(Shared {
                net: of_net,
                dev: of_dev,
                takes: AtomicU32::new(0),
                bounce: AtomicBool::new(false),
                broken: AtomicBool::new(false),
                xdp <- new_mutex!(Xdp::default()),
            }),
            GFP_KERNEL,
        )?;
        let queues = Queues::new(&net, queues, |index| Queue::new(&shared, index))?;
        Ok(Arc::new(Interface { shared, queues }, GFP_KERNEL)?)
    }

    /// Shows the interface to the rest of the system. Sleeps.
    pub(crate) fn register(
        self: &Arc<Self>,
        dev: &Device,
        mac: Mac,
    ) -> Result<net::Registration<Interface>> {
        let hw_features = Features::SG | Features::IPV6_CSUM | Features::TSO | Features::TSO6;
        let settings = Settings {
            features: hw_features | Features::IP_CSUM | Features::RXCSUM | Features::GSO_ROBUST,
            hw_features,
            max_mtu: MAX_TX_SIZE,
            mac,
            files: Some(params::files()),
        };
        net::Registration::new(&self.shared.net, self, &settings, dev)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// All queues that there can be.
    pub(crate) fn queues(&self) -> &Queues<Queue> {
        &self.queues
    }

    /// Has everything looked at that may have happened before the connection was there.
    pub(crate) fn kick(&self) {
        self.shared.net.wake_all_queues();
        for queue in self.queues.iter() {
            queue.target().kick();
            queue.kick();
        }
    }
}

#[vtable]
impl Operations for Interface {
    const STATISTICS: &'static [&'static CStr] = &[
        c"rx_gso_checksum_fixup",
        c"rx_xdp_packets",
        c"rx_xdp_drops",
        c"rx_xdp_tx",
        c"rx_xdp_redirects",
        c"tx_xdp_xmits",
    ];

    fn open(&self, rtnl: &Rtnl) -> Result {
        self.queues.open(&self.shared.net, rtnl);
        Ok(())
    }

    fn stop(&self, rtnl: &Rtnl) {
        self.queues.stop(&self.shared.net, rtnl);
    }

    fn start_xmit(&self, skb: SkBuff) {
        let Some(queue) = self.queues.get(usize::from(skb.queue())) else {
            return;
        };
        queue.target().send(skb);
    }

    fn select_queue(&self, mut skb: SkBuffMut<'_>) -> u16 {
        match self.shared.net.queues() {
            0 | 1 => 0,
            count => (skb.flow_hash() % count) as u16,
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            rx_packets: self.queues.sum(|queue| &queue.counts.rx_packets),
            rx_bytes: self.queues.sum(|queue| &queue.counts.rx_bytes),
            rx_errors: self.queues.sum(|queue| &queue.counts.rx_errors),
            rx_dropped: 0,
            tx_packets: self
                .queues
                .sum(|queue| &queue.counts.tx_packets)
                .wrapping_add(self.queues.sum(|queue| &queue.counts.frames)),
            tx_bytes: self
                .queues
                .sum(|queue| &queue.counts.tx_bytes)
                .wrapping_add(self.queues.sum(|queue| &queue.counts.frame_bytes)),
            tx_errors: 0,
            tx_dropped: self.queues.sum(|queue| &queue.counts.tx_dropped),
        }
    }

    fn fix_features(&self, features: Features) -> Features {
        let shared = &self.shared;
        features
            .without_unless(shared.takes(SG), Features::SG)
            .without_unless(shared.takes(GSO_V4), Features::TSO)
            .without_unless(shared.takes(GSO_V6), Features::TSO6)
            .without_unless(shared.takes(CSUM_V6), Features::IPV6_CSUM)
    }

    fn set_features(&self, features: Features, rtnl: &Rtnl) -> Result {
        if !features.has(Features::SG) && self.shared.net.mtu() > ETH_DATA_LEN {
            self.shared.net.set_mtu(ETH_DATA_LEN, rtnl);
        }
        Ok(())
    }

    fn change_mtu(&self, mtu: u32) -> Result {
        if mtu > ETH_DATA_LEN && !self.shared.net.features().has(Features::SG) {
            return Err(EINVAL);
        }
        if mtu > xdp::MAX_MTU && self.shared.xdp.lock().program.is_some() {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn set_program(&self, program: Option<&Program>, ack: &mut ExtAck, rtnl: &Rtnl) -> Result {
        self.change_program(program, ack, rtnl)
    }

    fn send_frames(&self, frames: &mut XdpFrames<'_>) {
        // Those of one CPU by one queue, as far as there are as many.
        let count = self.shared.net.queues().max(1);
        let index = CpuId::current().as_u32().wrapping_rem(count);
        if let Some(queue) = self.queues.get(index as usize) {
            queue.target().send_frames(frames);
        }
    }

    fn statistic(&self, index: usize) -> u64 {
        match index {
            0 => self.queues.sum(|queue| &queue.counts.gso_fixup),
            1 => self.queues.sum(|queue| &queue.counts.xdp_packets),
            2 => self.queues.sum(|queue| &queue.counts.xdp_drops),
            3 => self.queues.sum(|queue| &queue.counts.xdp_tx),
            4 => self.queues.sum(|queue| &queue.counts.xdp_redirects),
            5 => self.queues.sum(|queue| &queue.counts.frames),
            _ => 0,
        }
    }
}
