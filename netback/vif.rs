// SPDX-License-Identifier: GPL-2.0

//! The interface, as the stack of this domain sees it.

use crate::{
    connect::Front,
    control::Spread,
    credit::Limit,
    params,
    queue::{Queue, HASH},
};
use core::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use kernel::time::msecs_to_jiffies;
use xenbus::{
    lock::SpinLockIrq,
    net::{
        self, Features, Mac, NetDev, Operations, Queues, Rtnl, Settings, SkBuff, SkBuffMut, Stats,
    },
    new_spinlock_irq,
    prelude::*,
    protocol::netif::{Extras, FlowHash, Gso, HashKind, Multicast, MulticastFilter, Rate},
};

/// The address of every vif: the largest that is none of a group, so that no bridge takes it for its
/// own.
const MAC: Mac = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];

/// The largest packet without SG, without its Ethernet header.
const ETH_DATA_LEN: u32 = 1500;

/// The largest packet, without its Ethernet header and that of a VLAN.
const MAX_MTU: u32 = 65535 - 18;

/// An interface.
pub(crate) struct Vif {
    shared: Arc<Shared>,
    queues: Queues<Queue>,
    limit: Arc<Limit>,
}

/// What all queues of an interface look at.
pub(crate) struct Shared {
    pub(crate) net: Arc<NetDev>,
    pub(crate) dev: ARef<Device>,
    /// What the front end takes: bits.
    takes: AtomicU32,
    headroom: AtomicU16,
    /// The front end has broken the rules: it is not served any more.
    broken: AtomicBool,
    /// How long a packet waits at most, and after how long there is no carrier, in jiffies.
    drain: AtomicU64,
    stall: AtomicU64,
    /// Queues without room for a packet for too long.
    stalled: AtomicU32,
    /// The guest has sent something, since a packet was last copied to it without the thread.
    heard: AtomicBool,
    /// The guest has been sent something since a queue last asked.
    sent: AtomicBool,
    /// How often a queue that has asked has found that.
    sendings: AtomicU32,
    pub(crate) filter: Pin<KBox<Filter>>,
    pub(crate) spread: Pin<KBox<Spread>>,
}

const SG: u32 = 1 << 0;
const GSO_V4: u32 = 1 << 1;
const GSO_V6: u32 = 1 << 2;
const CSUM_V4: u32 = 1 << 3;
const CSUM_V6: u32 = 1 << 4;

fn jiffies_of(ms: u32) -> u64 {
    msecs_to_jiffies(ms) as u64
}

impl Shared {
    fn takes(&self, what: u32) -> bool {
        self.takes.load(Relaxed) & what == what
    }

    /// Whether the front end takes packets of several slots.
    #[inline]
    pub(crate) fn sg(&self) -> bool {
        self.takes(SG)
    }

    /// What is said of a packet on its way to the front end, beside its data.
    #[inline]
    pub(crate) fn extras(&self, skb: &SkBuff) -> Extras {
        let gso = skb.gso().map(|gso| Gso {
            size: gso.size,
            ipv6: gso.kind == net::GsoKind::TcpV6,
        });
        Extras {
            gso: gso.filter(|gso| self.takes(if gso.ipv6 { GSO_V6 } else { GSO_V4 })),
            hash: hash_of(skb),
            headroom: self.headroom.load(Relaxed),
        }
    }

    pub(crate) fn set_headroom(&self, headroom: u16) {
        self.headroom.store(headroom, Relaxed);
    }

    /// How long a packet waits for the guest at most, in jiffies.
    #[inline]
    pub(crate) fn drain_timeout(&self) -> u64 {
        self.drain.load(Relaxed)
    }

    /// After how long without room for a packet there is no carrier, in jiffies; 0: never.
    #[inline]
    pub(crate) fn stall_timeout(&self) -> u64 {
        self.stall.load(Relaxed)
    }

    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Acquire)
    }

    /// The front end is not to be served any more. In any context.
    pub(crate) fn set_broken(&self) {
        if !self.broken.swap(true, Release) {
            self.net.set_carrier(false);
        }
    }

    /// The guest has sent something.
    #[inline]
    pub(crate) fn set_heard(&self) {
        // Its line of the cache is written to only if it has to be.
        if !self.heard.load(Relaxed) {
            self.heard.store(true, Relaxed);
        }
    }

    /// Whether the guest has sent something since this was last so.
    #[inline]
    pub(crate) fn take_heard(&self) -> bool {
        self.heard.load(Relaxed) && self.heard.swap(false, Relaxed)
    }

    /// The guest has been sent something, by any queue: an answer may come by another one.
    #[inline]
    pub(crate) fn set_sent(&self) {
        if !self.sent.load(Relaxed) {
            self.sent.store(true, Relaxed);
        }
    }

    /// Whether it has been since a queue, which keeps `seen` for this, last asked.
    #[inline]
    pub(crate) fn was_sent(&self, seen: &mut u32) -> bool {
        if self.sent.load(Relaxed) && self.sent.swap(false, Relaxed) {
            self.sendings.fetch_add(1, Relaxed);
        }
        let now = self.sendings.load(Relaxed);
        core::mem::replace(seen, now) != now
    }

    /// A queue has no room for a packet, for too long, or has it again. In any context.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        if stalled {
            if self.stalled.fetch_add(1, Relaxed) == 0 {
                self.net.set_carrier(false);
            }
        } else if self.stalled.fetch_sub(1, Relaxed) == 1 {
            self.raise_carrier();
        }
    }

    /// The front end is served; unless it has been found to break the rules meanwhile.
    fn raise_carrier(&self) {
        self.net.set_carrier(true);
        if self.is_broken() {
            self.net.set_carrier(false);
        }
    }

    /// Notes what the front end of a new connection takes.
    pub(crate) fn set_front(&self, front: &Front) {
        let wish = &front.wish;
        let bit = |is: bool, bit: u32| if is { bit } else { 0 };
        let takes = bit(wish.takes.sg, SG)
            | bit(wish.takes.gso_tcpv4, GSO_V4)
            | bit(wish.takes.gso_tcpv6, GSO_V6)
            | bit(wish.takes.ipv4_csum, CSUM_V4)
            | bit(wish.takes.ipv6_csum, CSUM_V6);
        self.takes.store(takes, Relaxed);
        self.set_headroom(wish.headroom);
        self.spread.reset();
        self.filter.clear();
        self.filter.enable(wish.multicast_control);
        // Whoever does not tell of new requests is looked after more often, and is never taken for
        // stalled.
        let (drain, stall) = if wish.rx_notify {
            (params::drain_ms(), params::stall_ms())
        } else {
            (30, 0)
        };
        self.drain.store(jiffies_of(drain), Relaxed);
        self.stall.store(jiffies_of(stall), Relaxed);
        self.stalled.store(0, Relaxed);
        self.broken.store(false, Release);
    }
}

/// Notes the hash that the guest is to be told, in the place for that.
#[inline]
fn note_hash(skb: &mut SkBuff, hash: Option<FlowHash>) {
    let note = hash.map_or(0, |FlowHash { value, kind }| {
        1 << 63 | u64::from(kind.number()) << 32 | u64::from(value)
    });
    skb.set_note::<HASH>(note);
}

/// What was noted.
#[inline]
fn hash_of(skb: &SkBuff) -> Option<FlowHash> {
    let note = skb.note::<HASH>();
    let kind = HashKind::from_number((note >> 32) as u8)?;
    (note >> 63 != 0).then_some(FlowHash {
        value: note as u32,
        kind,
    })
}

/// The multicast addresses that a guest wants packets for.
#[pin_data]
pub(crate) struct Filter {
    enabled: AtomicBool,
    #[pin]
    addresses: SpinLockIrq<MulticastFilter>,
}

impl Filter {
    fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Filter {
                enabled: AtomicBool::new(false),
                addresses <- new_spinlock_irq!(MulticastFilter::new(), "netback::Filter::addresses"),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether it is to be asked at all.
    pub(crate) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }

    fn clear(&self) {
        *self.addresses.lock() = MulticastFilter::new();
    }

    /// Does what the guest wants; false: there are too many addresses.
    pub(crate) fn change(&self, change: Multicast) -> bool {
        self.addresses.lock().change(change).is_ok()
    }

    /// Whether the guest wants a packet.
    #[inline]
    fn wants(&self, skb: &SkBuff) -> bool {
        if !self.enabled.load(Relaxed) {
            return true;
        }
        match skb.destination() {
            Some(mac) => self.addresses.lock().lets_through(&mac),
            None => true,
        }
    }
}

impl Vif {
    /// An interface called `name` with at most `queues` queues. Sleeps.
    pub(crate) fn new(dev: &Device<Core>, name: &CStr, queues: u32) -> Result<Arc<Self>> {
        let net = NetDev::new(name, queues)?;
        let shared = Shared {
            net: net.clone(),
            dev: dev.into(),
            takes: AtomicU32::new(SG | CSUM_V4),
            headroom: AtomicU16::new(0),
            broken: AtomicBool::new(false),
            drain: AtomicU64::new(jiffies_of(params::drain_ms())),
            stall: AtomicU64::new(jiffies_of(params::stall_ms())),
            stalled: AtomicU32::new(0),
            heard: AtomicBool::new(false),
            sent: AtomicBool::new(false),
            sendings: AtomicU32::new(0),
            filter: Filter::new()?,
            spread: Spread::new()?,
        };
        let shared = Arc::new(shared, GFP_KERNEL)?;
        let limit = Arc::new(Limit::new(), GFP_KERNEL)?;
        let queues = Queues::new(&net, queues, |index| Queue::new(&shared, index, &limit))?;
        let vif = Vif {
            shared,
            queues,
            limit,
        };
        Ok(Arc::new(vif, GFP_KERNEL)?)
    }

    /// Shows the interface to the rest of the system. Sleeps.
    pub(crate) fn register(self: &Arc<Self>, dev: &Device) -> Result<net::Registration<Vif>> {
        let hw_features = Features::SG
            | Features::IP_CSUM
            | Features::IPV6_CSUM
            | Features::TSO
            | Features::TSO6
            | Features::FRAGLIST;
        let settings = Settings {
            features: hw_features | Features::RXCSUM,
            hw_features,
            max_mtu: MAX_MTU,
            mac: MAC,
            files: None,
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

    pub(crate) fn set_rate(&self, rate: Rate) {
        self.limit.set(rate);
        for queue in self.queues.iter() {
            // One that waits may have to wait no longer.
            queue.kick();
        }
    }

    /// The rings are there: the interface gets ready for what the front end takes. Sleeps.
    pub(crate) fn connected(&self, queues: u32) -> Result {
        let net = &self.shared.net;
        {
            let rtnl = net::rtnl();
            net.set_queues(queues, &rtnl)?;
            if !self.shared.sg() && net.mtu() > ETH_DATA_LEN {
                net.set_mtu(ETH_DATA_LEN, &rtnl);
            }
        }
        net.update_features();
        self.shared.raise_carrier();
        net.wake_all_queues();
        // What the guest has sent before the interface was ready.
        for queue in self.queues.iter() {
            queue.kick();
        }
        Ok(())
    }
}

#[vtable]
impl Operations for Vif {
    const STATISTICS: &'static [&'static CStr] = &[
        c"rx_gso_checksum_fixup",
        c"tx_zerocopy_sent",
        c"tx_zerocopy_success",
        c"tx_zerocopy_fail",
        c"tx_frag_overflow",
    ];

    fn open(&self, rtnl: &Rtnl) -> Result {
        self.queues.open(&self.shared.net, rtnl);
        Ok(())
    }

    fn stop(&self, rtnl: &Rtnl) {
        self.queues.stop(&self.shared.net, rtnl);
    }

    fn start_xmit(&self, mut skb: SkBuff) {
        let Some(queue) = self.queues.get(usize::from(skb.queue())) else {
            return;
        };
        let queue = queue.target();
        if self.shared.is_broken() || !self.shared.filter.wants(&skb) {
            queue.counts.tx_dropped.add(1);
            return;
        }
        let hash = self.shared.spread.hash(&skb);
        note_hash(&mut skb, hash);
        skb.clear_hash();
        skb.timestamp();
        queue.enqueue(skb);
    }

    fn select_queue(&self, skb: SkBuffMut<'_>) -> u16 {
        let (net, spread) = (&self.shared.net, &self.shared.spread);
        if spread.is_on() {
            let hash = spread.hash(&skb);
            return spread.queue(hash, net.queues()) as u16;
        }
        net.pick_queue(skb)
    }

    fn stats(&self) -> Stats {
        Stats {
            rx_packets: self.queues.sum(|queue| &queue.counts.rx_packets),
            rx_bytes: self.queues.sum(|queue| &queue.counts.rx_bytes),
            rx_errors: self.queues.sum(|queue| &queue.counts.rx_errors),
            rx_dropped: self.queues.sum(|queue| &queue.counts.rx_dropped),
            tx_packets: self.queues.sum(|queue| &queue.counts.tx_packets),
            tx_bytes: self.queues.sum(|queue| &queue.counts.tx_bytes),
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
            .without_unless(shared.takes(CSUM_V4), Features::IP_CSUM)
            .without_unless(shared.takes(CSUM_V6), Features::IPV6_CSUM)
    }

    fn change_mtu(&self, mtu: u32) -> Result {
        let most = if self.shared.sg() {
            MAX_MTU
        } else {
            ETH_DATA_LEN
        };
        if mtu > most {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn statistic(&self, index: usize) -> u64 {
        match index {
            0 => self.queues.sum(|queue| &queue.counts.gso_fixup),
            // Everything is copied.
            _ => 0,
        }
    }
}
