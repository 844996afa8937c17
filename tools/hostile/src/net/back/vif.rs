// SPDX-License-Identifier: GPL-2.0
//! The back end's half of one virtual interface of a guest that runs a real front end.
//!
//! Its store entries are the toolstack's and the back end's in one, below `backend/hostile`, so that
//! no driver of dom0 takes it. The guest is to give the interface with the address [`MAC`] the
//! address [`GUEST`], and bring it up.

mod exchange;
mod program;
mod verify;

pub(crate) use program::{RECONFIGURED, RECONFIGURING};

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::net::frames::{Ip, Mac, Way};
use crate::net::ring::{End, Ring};
use crate::nodes::{Back, CLOSED, CLOSING, CONNECTED, INITIALISED, INIT_WAIT};
use crate::{ensure, Result};
use protocol::netif::{self, TxRequest};
use xen::evtchn::EventChannel;
use xen::gntdev::{GrantCopier, MappedPages};
use xen::privcmd::Grants;

/// The guest's interface, and its address.
const MAC: &str = "00:16:3e:0a:00:01";
pub(crate) const GUEST: Ip = [10, 10, 0, 2];
/// This end.
const OWN: (Mac, Ip) = ([2, 0, 0, 0xba, 0xd0, 1], [10, 10, 0, 1]);

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) tx: Ring<MappedPages, netif::Tx>,
    pub(crate) rx: Ring<MappedPages, netif::Rx>,
    pub(crate) channel: EventChannel,
    rx_channel: Option<EventChannel>,
}

impl Queue {
    pub(crate) fn notify_rx(&self) -> Result {
        Ok(self.rx_channel.as_ref().unwrap_or(&self.channel).notify()?)
    }
}

/// A packet that the guest has sent, not answered.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) queue: usize,
    pub(crate) requests: Vec<TxRequest>,
    pub(crate) extras: usize,
}

/// The interface.
#[derive(Debug)]
pub(crate) struct Vif {
    nodes: Back,
    pub(crate) timeout: Duration,
    copier: GrantCopier,
    pub(crate) queues: Vec<Queue>,
    way: Way,
    number: u16,
    /// Frames that the guest has sent.
    pub(crate) frames: VecDeque<Vec<u8>>,
    /// By which the guest is told of programs; `@` stands for what it is to do.
    pub(crate) program: Option<String>,
    /// There is no back end any more that could close.
    vanished: bool,
}

impl Deref for Vif {
    type Target = Back;
    fn deref(&self) -> &Back {
        &self.nodes
    }
}

impl DerefMut for Vif {
    fn deref_mut(&mut self) -> &mut Back {
        &mut self.nodes
    }
}

impl Vif {
    /// Makes the store entries of interface `number`, up to the own state, which is Initialising.
    pub(crate) fn create(guest: u16, number: u64, mac: &str, timeout: Duration) -> Result<Self> {
        let handle = number.to_string();
        let mac = if mac.is_empty() { MAC } else { mac };
        let theirs = [("mac", mac), ("handle", &handle), ("mtu", "1500")];
        let ours = [("mac", mac), ("handle", handle.as_str())];
        Ok(Vif {
            nodes: Back::create("vif", guest, number, &ours, &theirs)?,
            timeout,
            copier: GrantCopier::new()?,
            queues: Vec::new(),
            way: Way {
                from: OWN,
                to: (netif::mac_address(MAC).ok_or("mac")?, GUEST),
            },
            number: 0,
            frames: VecDeque::new(),
            program: None,
            vanished: false,
        })
    }

    /// From this end to the guest.
    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// Offers what an honest interface does.
    pub(crate) fn offer(&mut self) -> Result {
        for key in [
            "feature-rx-copy",
            "feature-sg",
            "feature-gso-tcpv4",
            "feature-gso-tcpv6",
            "feature-ipv6-csum-offload",
            "feature-split-event-channels",
            "feature-multicast-control",
            "feature-dynamic-multicast-control",
            "feature-ctrl-ring",
            "feature-xdp-headroom",
        ] {
            self.put(key, 1)?;
        }
        self.put("feature-rx-flip", 0)?;
        self.put("multi-queue-max-queues", 1)
    }

    /// Serves, where there are rings, until the front end is in one of `states`.
    pub(crate) fn await_state(&mut self, states: &[u64]) -> Result<u64> {
        let until = Instant::now() + self.timeout;
        loop {
            let state = self.their_state()?;
            if states.contains(&state) {
                return Ok(state);
            }
            ensure!(
                Instant::now() < until,
                "the front end should be in one of the states {states:?}, it is in {state}"
            );
            self.serve_for(Duration::from_millis(20))?;
        }
    }

    /// Waits for the front end's rings and maps them.
    pub(crate) fn attach(&mut self) -> Result {
        self.await_state(&[INITIALISED, CONNECTED])?;
        let queues = self.theirs("multi-queue-num-queues")?.unwrap_or(1);
        ensure!(
            (1..=64).contains(&queues),
            "the front end has {queues} queues"
        );
        let guest = self.guest;
        for queue in 0..queues {
            let below = match queues {
                1 => String::new(),
                _ => format!("queue-{queue}/"),
            };
            let mut number = |key: &str| self.theirs(&format!("{below}{key}"));
            let mut gref =
                |key| -> Result<u32> { Ok(number(key)?.ok_or(format!("no {key}"))? as u32) };
            let tx = MappedPages::map(guest, &[gref("tx-ring-ref")?], true)?;
            let rx = MappedPages::map(guest, &[gref("rx-ring-ref")?], true)?;
            let bind = |port: u64| EventChannel::bind_interdomain(guest, port as u32);
            let (channel, rx_channel) = match number("event-channel-tx")? {
                Some(port) => {
                    let rx = number("event-channel-rx")?.ok_or("no event-channel-rx")?;
                    (bind(port)?, Some(bind(rx)?))
                }
                None => {
                    let port = number("event-channel")?.ok_or("no event-channel")?;
                    (bind(port)?, None)
                }
            };
            self.queues.push(Queue {
                tx: Ring::attach(tx, netif::Tx, End::Back)?,
                rx: Ring::attach(rx, netif::Rx, End::Back)?,
                channel,
                rx_channel,
            });
        }
        Ok(())
    }

    /// Connects as an honest back end does.
    pub(crate) fn connect(&mut self) -> Result {
        self.offer()?;
        self.finish_connect()
    }

    /// [`Vif::connect`], with whatever was offered.
    pub(crate) fn finish_connect(&mut self) -> Result {
        self.set_state(INIT_WAIT)?;
        self.attach()?;
        self.set_state(CONNECTED)?;
        self.await_state(&[CONNECTED])?;
        Ok(())
    }

    /// The first queue.
    pub(crate) fn queue(&mut self) -> Result<&mut Queue> {
        Ok(self.queues.first_mut().ok_or("no ring")?)
    }

    /// Gives up rings and channels.
    pub(crate) fn detach(&mut self) {
        self.queues.clear();
    }

    /// Goes without a word: rings, channels and all nodes.
    pub(crate) fn vanish(&mut self) -> Result {
        self.detach();
        self.vanished = true;
        self.remove_own()
    }

    /// Closes, as an honest back end does when the toolstack wants the interface away, and removes the
    /// store entries.
    pub(crate) fn destroy(&mut self) -> Result {
        let mut result = Ok(());
        if !self.vanished && self.their_state()? != 0 {
            result = self.disconnect();
        }
        self.detach();
        self.nodes.remove()?;
        result
    }

    /// Has the front end close.
    fn disconnect(&mut self) -> Result {
        self.put("online", 0)?;
        self.set_state(CLOSING)?;
        // Unserved: what is unanswered stays so.
        let queues = std::mem::take(&mut self.queues);
        let until = Instant::now() + Duration::from_secs(2);
        while self.their_state()? != CLOSED && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(queues);
        self.set_state(CLOSED)?;
        self.await_state(&[CLOSED]).map(drop)
    }

    /// The guest's grants to dom0.
    pub(crate) fn grants(guest: u16) -> Result<Grants> {
        Ok(xen::privcmd::grants(guest)?
            .get(&0)
            .copied()
            .unwrap_or_default())
    }
}
