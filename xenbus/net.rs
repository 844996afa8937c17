// SPDX-License-Identifier: GPL-2.0

//! Network devices and packets, as far as a Xen driver needs them.
//!
//! Shaped so that upstream could take it: nothing here but `copy.rs` and
//! `lend.rs` knows of Xen.
//!
//! - `net/device.rs`, `net/device/`: a network device, its registration, and what a driver implements
//! - `net/ethtool.rs`: what `ethtool` is told
//! - `net/skb.rs`, `net/skb/`: a packet as an owned value; `net/list.rs`: a queue of packets
//! - `net/napi.rs`: polling in soft interrupt context; `net/queues.rs`: the queues that are polled
//! - `net/pool.rs`: pages that packets are received into
//! - `net/xdp.rs`: programs that decide on packets
//! - `net/copy.rs`: packets made of granted pages, and copied into them, by Xen (back end)
//! - `net/lend.rs`: packets and pages that another domain is given access to (front end)
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

pub mod copy;
mod device;
mod ethtool;
mod lend;
mod list;
mod napi;
mod pool;
mod queues;
mod skb;
mod xdp;

pub use self::{
    device::{
        is_rate_limited, rtnl, without_softirqs, Features, Files, Mac, NetDev, Operations,
        Registration, Rtnl, Settings, Stats,
    },
    lend::{LentPackets, LentPage, Outgoing, Staging, StillMapped, STAGED},
    list::SkbList,
    napi::{Napi, Poll, PollContext},
    pool::{PagePool, PoolPage},
    queues::{max_queues, Count, Queues},
    skb::{Checksum, Gso, GsoKind, Part, SkBuff, SkBuffMut, MAX_FRAGMENTS},
    xdp::{
        ExtAck, Program, Verdict, XdpBuff, XdpFrame, XdpFrames, XdpQueue, XDP_HEADROOM, XDP_MAX_LEN,
    },
};
