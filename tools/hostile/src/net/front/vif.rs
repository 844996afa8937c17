// SPDX-License-Identifier: GPL-2.0
//! The front end's half of one virtual interface: its store entries, rings, channels and pages.
//!
//! The nodes follow `xen/io/netif.h`. Each step can be taken alone, so that a scenario can take it
//! wrongly. Who answers is the bridge at the other end, whose address is [`PEER`].

mod exchange;
mod verify;

use std::collections::VecDeque;
use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::net::frames::{self, Ip, Way};
use crate::net::ring::{End, Ring};
use crate::nodes::{Front, CONNECTED};
use crate::Result;
use protocol::netif::{self, extra, txf, Extra, RxRequest, TxRequest, TxSlot};
use xen::evtchn::EventChannel;
use xen::gntalloc::SharedPages;

/// The bridge's address, and that of this end.
pub(crate) const PEER: Ip = [10, 9, 0, 1];
const OWN: Ip = [10, 9, 0, 200];

/// Pages of what is sent, and of what is received.
pub(crate) const PAGES: usize = 64;
/// In place of such a page's number: one that the back end cannot write to.
pub(crate) const NONE: usize = PAGES;

/// How to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) queues: usize,
    /// An event channel for each ring.
    pub(crate) split: bool,
    pub(crate) control: bool,
    pub(crate) multicast: bool,
    /// Bytes in front of each packet.
    pub(crate) headroom: u32,
    /// Pages to receive into are given.
    pub(crate) receives: bool,
}

impl Shape {
    /// One queue, one channel, and nothing else.
    pub(crate) const PLAIN: Self = Shape {
        queues: 1,
        split: false,
        control: false,
        multicast: false,
        headroom: 0,
        receives: true,
    };
}

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) tx: Ring<SharedPages, netif::Tx>,
    pub(crate) rx: Ring<SharedPages, netif::Rx>,
    pub(crate) channel: EventChannel,
    /// That of the receive ring, if it has one of its own.
    rx_channel: Option<EventChannel>,
    /// The page of each entry of the receive ring that the back end has: an index.
    posted: Vec<Option<usize>>,
    /// Parts of a packet of which more is to come, and whether it is one that failed.
    partial: (Vec<u8>, bool),
}

impl Queue {
    pub(crate) fn notify_rx(&self) -> Result {
        Ok(self.rx_channel.as_ref().unwrap_or(&self.channel).notify()?)
    }
}

/// The control ring.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) ring: Ring<SharedPages, netif::Control>,
    pub(crate) channel: EventChannel,
}

/// One virtual interface without a driver of its own.
#[derive(Debug)]
pub(crate) struct Vif {
    nodes: Front,
    pub(crate) shape: Shape,
    pub(crate) queues: Vec<Queue>,
    /// The one that is in use.
    at: usize,
    pub(crate) control: Option<Control>,
    pub(crate) data: SharedPages,
    /// The next of them to be written.
    next_page: usize,
    pub(crate) buffers: SharedPages,
    way: Way,
    number: u16,
    /// Frames that have come.
    pub(crate) frames: VecDeque<Vec<u8>>,
    /// Parts that have failed.
    pub(crate) failed: u64,
    /// How often the back end was seen to have disabled the interface.
    pub(crate) stopped: u64,
    healthy: bool,
}

impl Deref for Vif {
    type Target = Front;
    fn deref(&self) -> &Front {
        &self.nodes
    }
}

impl DerefMut for Vif {
    fn deref_mut(&mut self) -> &mut Front {
        &mut self.nodes
    }
}

/// The nodes of an honest front end, which the next connection may have again.
const HONEST: &[&str] = &[
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel",
    "request-rx-copy",
    "feature-rx-notify",
    "feature-sg",
    "feature-gso-tcpv4",
    "feature-gso-tcpv6",
    "feature-ipv6-csum-offload",
];

/// Those that are there for some shapes only.
const OPTIONAL: &[&str] = &[
    "multi-queue-num-queues",
    "event-channel-tx",
    "event-channel-rx",
    "ctrl-ring-ref",
    "event-channel-ctrl",
    "request-multicast-control",
    "xdp-headroom",
];

impl Vif {
    /// Takes hold of `device/vif/NUMBER`, waiting until it is there.
    pub(crate) fn open(number: u64, timeout: Duration) -> Result<Self> {
        let mut nodes = Front::open("vif", number, timeout, OPTIONAL)?;
        let mac = nodes.own("mac")?.ok_or("no mac")?;
        let mac = netif::mac_address(mac.trim()).ok_or("mac is none")?;
        let remote = nodes.backend_id();
        Ok(Vif {
            nodes,
            shape: Shape::PLAIN,
            queues: Vec::new(),
            at: 0,
            control: None,
            data: SharedPages::alloc(remote, PAGES, false)?,
            next_page: 0,
            buffers: SharedPages::alloc(remote, PAGES, true)?,
            way: Way {
                from: (mac, OWN),
                to: (frames::BROADCAST, PEER),
            },
            number: 0,
            frames: VecDeque::new(),
            failed: 0,
            stopped: 0,
            healthy: false,
        })
    }

    /// From this end to the bridge.
    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// Writes the own state, even if it is the same.
    pub(crate) fn set_state(&mut self, state: impl Display) -> Result {
        self.healthy = false;
        self.nodes.set_state(state)
    }

    /// Brings both ends to where a front end starts.
    pub(crate) fn restart(&mut self) -> Result {
        self.healthy = false;
        if self.nodes.restart(HONEST)? {
            self.shape = Shape::PLAIN;
        }
        Ok(())
    }

    /// Makes rings whose indices all are `start`, in the pages of the last ones.
    pub(crate) fn make_rings(&mut self, start: u32) -> Result {
        let remote = self.nodes.backend_id();
        let page = || SharedPages::alloc(remote, 1, true);
        self.queues.truncate(self.shape.queues);
        while self.queues.len() < self.shape.queues {
            self.queues.push(Queue {
                tx: Ring::attach(page()?, netif::Tx, End::Front)?,
                rx: Ring::attach(page()?, netif::Rx, End::Front)?,
                channel: EventChannel::alloc_unbound(remote)?,
                rx_channel: None,
                posted: Vec::new(),
                partial: Default::default(),
            });
        }
        for queue in &mut self.queues {
            queue.tx.reset(start);
            queue.rx.reset(start);
            queue.posted = vec![None; queue.rx.entries() as usize];
            queue.partial = Default::default();
            if self.shape.split != queue.rx_channel.is_some() {
                queue.rx_channel = match self.shape.split {
                    true => Some(EventChannel::alloc_unbound(remote)?),
                    false => None,
                };
            }
        }
        self.control = None;
        if self.shape.control {
            let mut ring = Ring::attach(page()?, netif::Control, End::Front)?;
            ring.reset(start);
            let channel = EventChannel::alloc_unbound(remote)?;
            self.control = Some(Control { ring, channel });
        }
        self.at = 0;
        self.frames.clear();
        Ok(())
    }

    /// Writes the nodes that say where the rings are, but not the state.
    pub(crate) fn publish(&mut self) -> Result {
        let shape = self.shape;
        let mut all = Vec::new();
        for (i, queue) in self.queues.iter().enumerate() {
            let below = match shape.queues {
                1 => String::new(),
                _ => format!("queue-{i}/"),
            };
            let mut one = |key: &str, value: u32| all.push((format!("{below}{key}"), value));
            one("tx-ring-ref", queue.tx.page.grefs()[0]);
            one("rx-ring-ref", queue.rx.page.grefs()[0]);
            match &queue.rx_channel {
                None => one("event-channel", queue.channel.port()),
                Some(rx) => {
                    one("event-channel-tx", queue.channel.port());
                    one("event-channel-rx", rx.port());
                }
            }
        }
        if shape.queues > 1 {
            all.push(("multi-queue-num-queues".into(), shape.queues as u32));
        }
        if let Some(control) = &self.control {
            all.push(("ctrl-ring-ref".into(), control.ring.page.grefs()[0]));
            all.push(("event-channel-ctrl".into(), control.channel.port()));
        }
        if shape.multicast {
            all.push(("request-multicast-control".into(), 1));
        }
        if shape.headroom > 0 {
            all.push(("xdp-headroom".into(), shape.headroom));
        }
        for key in HONEST
            .iter()
            .filter(|k| k.contains("feature") || k.contains("request"))
        {
            all.push((key.to_string(), 1));
        }
        if shape.split || shape.queues > 1 {
            self.unset("event-channel")?;
        }
        all.iter().try_for_each(|(key, value)| self.put(key, value))
    }

    /// Connects as an honest front end does, as `shape` says, with ring indices that begin at
    /// `start`.
    pub(crate) fn connect_as(&mut self, shape: Shape, start: u32) -> Result {
        self.restart()?;
        self.shape = shape;
        self.make_rings(start)?;
        self.publish()?;
        self.set_state(CONNECTED)?;
        self.finish_connect()
    }

    /// The second half of connecting: waits for the back end, and lets it send.
    pub(crate) fn finish_connect(&mut self) -> Result {
        self.await_state(&[CONNECTED])?;
        if self.shape.receives {
            for queue in 0..self.shape.queues {
                self.at = queue;
                self.post_all()?;
            }
            self.at = 0;
        }
        Ok(())
    }

    /// Connects as an honest front end does.
    pub(crate) fn connect(&mut self) -> Result {
        self.connect_as(Shape::PLAIN, u32::MAX - 40)
    }

    /// Connects unless the connection of the last scenario is as good as new.
    pub(crate) fn connected(&mut self) -> Result {
        if !self.healthy {
            self.connect()?;
            self.healthy = true;
        }
        Ok(())
    }

    /// Nothing can be said of the connection any more: the next scenario makes one of its own.
    pub(crate) fn spoilt(&mut self) {
        self.healthy = false;
    }

    /// Closes as an honest front end does, unless the next scenario may go on with the connection.
    pub(crate) fn end_scenario(&mut self) -> Result {
        match self.healthy {
            true => Ok(()),
            false => self.nodes.close(),
        }
    }

    /// Gives up rings and channels without a word.
    pub(crate) fn drop_rings(&mut self) {
        self.healthy = false;
        self.queues.clear();
        self.control = None;
    }

    /// Gives up the pages of both directions, in use or not, and takes others.
    pub(crate) fn drop_pages(&mut self) -> Result {
        let remote = self.backend_id();
        self.data = SharedPages::alloc(remote, PAGES, false)?;
        self.buffers = SharedPages::alloc(remote, PAGES, true)?;
        Ok(())
    }

    /// A reference that was granted to the back end once and is free now. It lies deep in the
    /// kernel's list of free ones, so that it stays free for a while.
    pub(crate) fn revoked_gref(&self) -> Result<u32> {
        Ok(SharedPages::alloc(self.backend_id(), 64, true)?.grefs()[0])
    }

    /// The queue in use.
    pub(crate) fn queue(&mut self) -> Result<&mut Queue> {
        Ok(self.queues.get_mut(self.at).ok_or("no ring")?)
    }

    /// Uses the rings of another queue from now on.
    pub(crate) fn use_queue(&mut self, queue: usize) {
        self.at = queue;
    }
}

impl Queue {
    /// Puts a page into the receive ring; to be published.
    pub(crate) fn post(&mut self, page: usize, gref: u32) {
        let entry = self.rx.prod % self.rx.entries();
        if let Some(place) = self.posted.get_mut(entry as usize) {
            *place = Some(page);
        }
        let id = entry as u16;
        self.rx.request(&RxRequest { id, gref });
    }
}

/// The entries for a packet, as an honest front end puts them: flags are set for what follows.
pub(crate) fn slots(requests: &[TxRequest], extras: &[Extra]) -> Vec<TxSlot> {
    let mut all = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        let mut request = *request;
        if i == 0 && !extras.is_empty() {
            request.flags |= txf::EXTRA_INFO;
        }
        all.push(request.into());
        if i == 0 {
            for (j, e) in extras.iter().enumerate() {
                let more = j + 1 < extras.len();
                all.push(TxSlot::from(Extra { more, ..*e }));
            }
        }
    }
    all
}

/// Extra information of a type that there may or may not be, with anything in it.
pub(crate) fn extra_slot(kind: u8, more: bool, data: [u8; 6]) -> TxSlot {
    let mut bytes = [0; 12];
    bytes[0] = kind;
    bytes[1] = u8::from(more) * extra::FLAG_MORE;
    bytes[2..8].copy_from_slice(&data);
    bytes.into()
}
