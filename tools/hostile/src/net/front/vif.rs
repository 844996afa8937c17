// SPDX-License-Identifier: GPL-2.0
//! The front end's half of one virtual interface: its store entries, rings, channels and pages.
//!
//! The nodes follow `xen/io/netif.h`. Each step can be taken alone, so that a scenario can take it
//! wrongly. Who answers is the bridge at the other end, whose address is [`PEER`].

use std::collections::VecDeque;
use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::net::frames::{self, Frame, Ip, Way};
use crate::net::ring::{End, Ring};
use crate::nodes::{Front, CONNECTED};
use crate::{ensure, Result};
use protocol::netif::{
    self, extra, rxf, status, txf, ControlRequest, ControlResponse, Extra, RxRequest, TxRequest,
    TxResponse, TxSlot,
};
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

    /// Writes a part of a packet into a page of its own, so that it begins at byte `offset`, and
    /// makes the request for it. What does not fit the page is left out, but not of the size.
    pub(crate) fn part(&mut self, bytes: &[u8], offset: u16) -> TxRequest {
        let page = self.next_page;
        self.next_page = (page + 1) % PAGES;
        let from = usize::from(offset).min(xen::PAGE_SIZE);
        let fits = bytes.len().min(xen::PAGE_SIZE - from);
        self.data
            .write(page * xen::PAGE_SIZE + from, &bytes[..fits]);
        TxRequest {
            gref: self.data.grefs()[page],
            offset,
            flags: 0,
            id: page as u16,
            size: bytes.len() as u16,
        }
    }

    /// The requests for a frame, cut at `cuts`: the first has the size of all, all but the last
    /// say that there is more.
    pub(crate) fn cut(&mut self, frame: &[u8], cuts: &[usize]) -> Vec<TxRequest> {
        let (mut from, mut all) = (0, Vec::new());
        for to in cuts.iter().copied().chain([frame.len()]) {
            let mut request = self.part(&frame[from..to], 0);
            if to < frame.len() || all.len() < cuts.len() {
                request.flags |= txf::MORE_DATA;
            }
            all.push(request);
            from = to;
        }
        if let Some(first) = all.first_mut() {
            first.size = frame.len() as u16;
        }
        all
    }

    /// The requests for a frame, cut only at the ends of pages.
    pub(crate) fn whole(&mut self, frame: &[u8]) -> Vec<TxRequest> {
        let cuts: Vec<_> = (1..frame.len().div_ceil(4096)).map(|i| i * 4096).collect();
        self.cut(frame, &cuts)
    }

    /// Puts entries on the transmit ring, without regard for what is there, and notifies.
    pub(crate) fn submit(&mut self, slots: &[TxSlot]) -> Result {
        let queue = self.queue()?;
        slots.iter().for_each(|slot| queue.tx.request(slot));
        queue.tx.publish();
        Ok(queue.channel.notify()?)
    }

    /// Takes the answers to what was sent that are there, and what was received.
    pub(crate) fn take(&mut self) -> Result<Vec<TxResponse>> {
        self.receive()?;
        let queue = self.queue()?;
        let mut all = Vec::new();
        while let Some((_, response)) = queue.tx.next_response()? {
            all.push(response);
        }
        Ok(all)
    }

    /// Waits for an event, for a short time.
    pub(crate) fn wait(&mut self, left: Duration) -> Result {
        let several = self.queues.len() > 1;
        let queue = self.queue()?;
        if queue.rx_channel.is_some() || several {
            std::thread::sleep(left.min(Duration::from_millis(2)));
        } else {
            queue.channel.wait(left.min(Duration::from_millis(50)))?;
        }
        Ok(())
    }

    /// Waits for `count` answers. Returns those that came within `time`.
    pub(crate) fn answers_within(
        &mut self,
        count: usize,
        time: Duration,
    ) -> Result<Vec<TxResponse>> {
        let until = Instant::now() + time;
        let mut all = self.take()?;
        while all.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.wait(left)?;
            all.extend(self.take()?);
        }
        Ok(all)
    }

    /// Waits for `count` answers; fewer are an error.
    pub(crate) fn answers(&mut self, count: usize) -> Result<Vec<TxResponse>> {
        let all = self.answers_within(count, self.timeout())?;
        ensure!(
            all.len() == count,
            "{} of {count} entries were answered",
            all.len()
        );
        Ok(all)
    }

    /// Sends a packet: its first request, extra information, the other requests. Each request must be
    /// answered once, with one of `statuses`, and each piece of extra information with nothing.
    pub(crate) fn expect(
        &mut self,
        what: &str,
        requests: &[TxRequest],
        extras: &[Extra],
        statuses: &[i16],
    ) -> Result<i16> {
        self.submit(&slots(requests, extras))?;
        let all = self
            .answers(requests.len() + extras.len())
            .map_err(|e| format!("{what}: {e}"))?;
        let nulls = all.iter().filter(|a| a.status == status::NULL).count();
        ensure!(
            nulls == extras.len(),
            "{what}: {nulls} entries of extra information answered of {}",
            extras.len()
        );
        let mut ids: Vec<_> = requests.iter().map(|r| r.id).collect();
        for answer in all.iter().filter(|a| a.status != status::NULL) {
            let at = ids.iter().position(|id| *id == answer.id);
            let at = at.ok_or(format!("{what}: answered {answer:?}"))?;
            ids.swap_remove(at);
            ensure!(
                statuses.contains(&answer.status),
                "{what}: status {}, expected {statuses:?}",
                answer.status
            );
        }
        Ok(all.first().map_or(status::NULL, |a| a.status))
    }

    /// Gives the back end pages to receive into, as many as there are.
    pub(crate) fn post_all(&mut self) -> Result {
        // Each queue has its share.
        let share = PAGES / self.shape.queues.max(1);
        let first = self.at * share;
        let grefs: Vec<_> = self.buffers.grefs()[first..first + share].to_vec();
        let queue = self.queue()?;
        for (i, gref) in grefs.into_iter().enumerate() {
            if !queue.posted.contains(&Some(first + i)) {
                queue.post(first + i, gref);
            }
        }
        queue.rx.publish();
        queue.notify_rx()
    }

    /// Takes what has been received by any queue, and gives the pages again.
    fn receive(&mut self) -> Result {
        (0..self.queues.len()).try_for_each(|at| self.receive_by(at))
    }

    fn receive_by(&mut self, at: usize) -> Result {
        let receives = self.shape.receives;
        let queue = self.queues.get_mut(at).ok_or("no such queue")?;
        let (mut any, mut announced) = (false, false);
        while let Some((index, slot)) = queue.rx.next_response()? {
            let entry = index as usize % queue.posted.len();
            let page = queue.posted[entry].take();
            let page = page.ok_or(format!("received {slot:?} for nothing"))?;
            any = true;
            if let (true, Some(gref)) = (receives, self.buffers.grefs().get(page)) {
                queue.post(page, *gref);
            }
            if std::mem::take(&mut announced) {
                announced = slot.extra().more;
                continue;
            }
            let r = slot.response();
            ensure!(
                usize::from(r.id) == entry,
                "entry {entry} answered with {r:?}"
            );
            let (frame, failed) = &mut queue.partial;
            match usize::try_from(r.status) {
                Ok(len) => {
                    ensure!(page != NONE, "received {r:?} to nowhere");
                    let from = usize::from(r.offset);
                    ensure!(from + len <= xen::PAGE_SIZE, "received {r:?}");
                    let mut bytes = vec![0; len];
                    self.buffers.read(page * xen::PAGE_SIZE + from, &mut bytes);
                    frame.extend(bytes);
                }
                Err(_) => {
                    *failed = true;
                    self.failed += 1;
                }
            }
            announced = r.flags & rxf::EXTRA_INFO != 0;
            if r.flags & rxf::MORE_DATA == 0 {
                let (frame, failed) = std::mem::take(&mut queue.partial);
                if !failed {
                    self.frames.push_back(frame);
                }
            }
        }
        if any && receives {
            queue.rx.publish();
            queue.notify_rx()?;
        }
        Ok(())
    }

    /// Has the control ring serve one request.
    pub(crate) fn ask(&mut self, kind: u16, data: [u32; 3]) -> Result<ControlResponse> {
        let timeout = self.timeout();
        let control = self.control.as_mut().ok_or("no control ring")?;
        let id = control.ring.prod as u16;
        control.ring.request(&ControlRequest { id, kind, data });
        control.ring.publish();
        control.channel.notify()?;
        let until = Instant::now() + timeout;
        loop {
            if let Some((_, answer)) = control.ring.next_response()? {
                ensure!(
                    answer.id == id && answer.kind == kind,
                    "{kind} {data:?} answered {answer:?}"
                );
                return Ok(answer);
            }
            ensure!(Instant::now() < until, "no answer to {kind} {data:?}");
            control.channel.wait(Duration::from_millis(20))?;
        }
    }

    /// Waits for a frame that `wanted` makes something of. Answers those who look for this end.
    pub(crate) fn frame<T>(
        &mut self,
        time: Duration,
        mut wanted: impl FnMut(Frame) -> Option<T>,
    ) -> Result<Option<T>> {
        let until = Instant::now() + time;
        loop {
            self.receive()?;
            while let Some(bytes) = self.frames.pop_front() {
                let frame = frames::parse(&bytes);
                if let Frame::ArpRequest(mac, ip, OWN) = frame {
                    let way = Way {
                        to: (mac, ip),
                        ..self.way
                    };
                    let reply = self.whole(&frames::arp_reply(way));
                    self.submit(&slots(&reply, &[]))?;
                    self.answers(1)?;
                }
                if let Some(found) = wanted(frame) {
                    return Ok(Some(found));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(left)?;
        }
    }

    /// Shows that the interface sends: a good packet is taken.
    pub(crate) fn verify_sends(&mut self) -> Result {
        let frame = frames::arp_request(self.way);
        let requests = self.whole(&frame);
        self.expect("a good packet", &requests, &[], &[status::OKAY])?;
        Ok(())
    }

    /// Shows that the interface works both ways: the bridge answers, with the bytes that it was sent.
    pub(crate) fn verify(&mut self) -> Result {
        self.find_peer()?;
        let cuts = [34, 42, 1000];
        ensure!(self.echo(1400, &cuts)?, "the bridge does not answer");
        Ok(())
    }

    /// Asks for the bridge's address until it answers: the interface may have come up just now.
    pub(crate) fn find_peer(&mut self) -> Result {
        let until = Instant::now() + self.timeout();
        loop {
            self.verify_sends()?;
            let is_peer = |f| match f {
                Frame::ArpReply(mac, PEER) => Some(mac),
                _ => None,
            };
            if let Some(mac) = self.frame(Duration::from_millis(300), is_peer)? {
                self.way.to.0 = mac;
                return Ok(());
            }
            ensure!(Instant::now() < until, "the bridge does not answer");
        }
    }

    /// Sends an echo request of `len` bytes, cut at `cuts`, and compares the answer. False: there is
    /// none.
    pub(crate) fn echo(&mut self, len: usize, cuts: &[usize]) -> Result<bool> {
        self.number = self.number.wrapping_add(1) & 0x7fff;
        let number = self.number;
        let sent = frames::pattern(number, len);
        let frame = frames::echo_request(self.way, number, &sent);
        let requests = self.cut(&frame, cuts);
        self.expect("an echo request", &requests, &[], &[status::OKAY])?;
        let got = self.frame(Duration::from_secs(3), |f| match f {
            Frame::EchoReply(n, bytes) if n == number => Some(bytes),
            _ => None,
        })?;
        ensure!(
            got.as_ref().is_none_or(|got| *got == sent),
            "an echo of {len} bytes, cut at {cuts:?}, is not what was sent"
        );
        Ok(got.is_some())
    }

    /// Shows that the back end has disabled the interface: it does not answer a good request.
    pub(crate) fn expect_stopped(&mut self) -> Result {
        self.healthy = false;
        let frame = frames::arp_request(self.way);
        let request = self.whole(&frame);
        let before = self.queue()?.tx.theirs();
        // An honest producer index again, one good request on.
        self.submit(&slots(&request, &[]))?;
        std::thread::sleep(Duration::from_millis(150));
        let after = self.queue()?.tx.theirs();
        ensure!(before == after, "a good request was answered");
        self.stopped += 1;
        Ok(())
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
