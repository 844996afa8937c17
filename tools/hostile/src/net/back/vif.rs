// SPDX-License-Identifier: GPL-2.0
//! The back end's half of one virtual interface of a guest that runs a real front end.
//!
//! Its store entries are the toolstack's and the back end's in one, below `backend/hostile`, so that
//! no driver of dom0 takes it. The guest is to give the interface with the address [`MAC`] the
//! address [`GUEST`], and bring it up.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::net::frames::{self, Frame, Ip, Mac, Way};
use crate::net::ring::{End, Ring};
use crate::nodes::{Back, CLOSED, CLOSING, CONNECTED, INITIALISED, INIT_WAIT};
use crate::{ensure, Result};
use protocol::netif::{
    self, rxf, status, txf, Extra, RxRequest, RxResponse, TxRequest, TxResponse,
};
use protocol::ring::index::REQ_PROD;
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
    extras: usize,
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

    /// The next packet of any queue, if there is one, not answered.
    pub(crate) fn next(&mut self) -> Result<Option<Sent>> {
        for (at, queue) in self.queues.iter_mut().enumerate() {
            let Some((_, first)) = queue.tx.next_request()? else {
                continue;
            };
            let first = first.request();
            let (mut extras, mut more) = (0, first.flags & txf::EXTRA_INFO != 0);
            while more {
                let (_, slot) = queue
                    .tx
                    .next_request()?
                    .ok_or("extra information missing")?;
                extras += 1;
                more = slot.extra().more;
            }
            let mut requests = vec![first];
            while requests
                .last()
                .is_some_and(|r| r.flags & txf::MORE_DATA != 0)
            {
                let (_, slot) = queue.tx.next_request()?.ok_or("a request missing")?;
                requests.push(slot.request());
            }
            let rest: u16 = requests[1..].iter().map(|r| r.size).sum();
            requests[0].size = first.size.wrapping_sub(rest);
            return Ok(Some(Sent {
                queue: at,
                requests,
                extras,
            }));
        }
        Ok(None)
    }

    /// Copies a packet.
    pub(crate) fn copy(&self, sent: &Sent) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        for r in &sent.requests {
            let mut bytes = vec![0; r.size.into()];
            if r.size > 0 {
                self.copier.read(self.guest, r.gref, r.offset, &mut bytes)?;
            }
            frame.extend(bytes);
        }
        Ok(frame)
    }

    /// Puts an answer to a request.
    pub(crate) fn answer_one(&mut self, queue: usize, id: u16, status: i16) -> Result {
        let queue = self.queues.get_mut(queue).ok_or("no such queue")?;
        queue.tx.response(&TxResponse { id, status });
        queue.tx.publish();
        Ok(queue.channel.notify()?)
    }

    /// Answers a packet.
    pub(crate) fn answer(&mut self, sent: &Sent, status: i16) -> Result {
        let queue = self.queues.get_mut(sent.queue).ok_or("no such queue")?;
        for (i, r) in sent.requests.iter().enumerate() {
            queue.tx.response(&TxResponse { id: r.id, status });
            for _ in 0..if i == 0 { sent.extras } else { 0 } {
                let (id, status) = (0, status::NULL);
                queue.tx.response(&TxResponse { id, status });
            }
        }
        queue.tx.publish();
        Ok(queue.channel.notify()?)
    }

    /// Serves what is there as an honest back end does.
    fn serve(&mut self) -> Result {
        while let Some(sent) = self.next()? {
            let frame = self.copy(&sent)?;
            self.frames.push_back(frame);
            self.answer(&sent, status::OKAY)?;
        }
        Ok(())
    }

    /// Waits for an event of any queue, for a short time.
    fn wait(&self, left: Duration) {
        for queue in &self.queues {
            // One that is broken off has no events; time passes all the same.
            let _ = queue.channel.wait(Duration::ZERO);
            if let Some(rx) = &queue.rx_channel {
                let _ = rx.wait(Duration::ZERO);
            }
        }
        std::thread::sleep(left.min(Duration::from_millis(3)));
    }

    /// Serves honestly for a time.
    pub(crate) fn serve_for(&mut self, time: Duration) -> Result {
        let until = Instant::now() + time;
        loop {
            self.serve()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.wait(left);
        }
    }

    /// Takes `count` of the guest's requests for packets, which have room for one part each.
    pub(crate) fn room(&mut self, count: usize) -> Result<Vec<RxRequest>> {
        let until = Instant::now() + self.timeout;
        let mut all = Vec::new();
        while all.len() < count {
            match self.queue()?.rx.next_request()? {
                Some((_, request)) => all.push(request),
                None => {
                    ensure!(
                        Instant::now() < until,
                        "the guest has given {} pages of {count} to receive into",
                        all.len()
                    );
                    self.wait(Duration::from_millis(5));
                }
            }
        }
        Ok(all)
    }

    /// Writes a part of a packet to where the guest wants it, and makes the response.
    pub(crate) fn fill(&self, to: &RxRequest, bytes: &[u8]) -> Result<RxResponse> {
        if !bytes.is_empty() {
            self.copier.write(self.guest, to.gref, 0, bytes)?;
        }
        Ok(RxResponse {
            id: to.id,
            offset: 0,
            flags: 0,
            status: bytes.len() as i16,
        })
    }

    /// The responses for a frame, cut at `cuts` and at the ends of pages.
    pub(crate) fn cut(&mut self, frame: &[u8], cuts: &[usize]) -> Result<Vec<RxResponse>> {
        self.cut_around(frame, cuts, 0)
    }

    /// The same, for a frame with so many entries of extra information behind the first part: the
    /// guest's requests for these are taken, too.
    pub(crate) fn cut_around(
        &mut self,
        frame: &[u8],
        cuts: &[usize],
        extras: usize,
    ) -> Result<Vec<RxResponse>> {
        let mut ends: Vec<_> = (1..frame.len().div_ceil(4096)).map(|i| i * 4096).collect();
        ends.extend(cuts.iter().copied().filter(|c| *c < frame.len()));
        ends.push(frame.len());
        ends.sort_unstable();
        let mut room = self.room(ends.len() + extras)?;
        room.drain(1..1 + extras);
        let (mut from, mut all) = (0, Vec::new());
        for (to, request) in ends.iter().zip(&room) {
            all.push(self.fill(request, &frame[from..*to])?);
            from = *to;
        }
        let last = all.len() - 1;
        all[..last]
            .iter_mut()
            .for_each(|r| r.flags |= rxf::MORE_DATA);
        Ok(all)
    }

    /// Puts responses, with what stands between the first and the others, and notifies.
    pub(crate) fn put_rx(&mut self, all: &[RxResponse], extras: &[Extra]) -> Result {
        let queue = self.queue()?;
        for (i, response) in all.iter().enumerate() {
            let mut response = *response;
            if i == 0 && !extras.is_empty() {
                response.flags |= rxf::EXTRA_INFO;
            }
            queue.rx.response(&response.into());
            for (j, e) in extras.iter().enumerate().filter(|_| i == 0) {
                let more = e.more || j + 1 < extras.len();
                queue.rx.response(&Extra { more, ..*e }.into());
            }
        }
        queue.rx.publish();
        queue.notify_rx()
    }

    /// Sends the guest a frame.
    pub(crate) fn send(&mut self, frame: &[u8], cuts: &[usize]) -> Result {
        let all = self.cut(frame, cuts)?;
        self.put_rx(&all, &[])
    }

    /// Waits for a frame that `wanted` makes something of, and serves. Answers those who look for
    /// this end.
    pub(crate) fn frame<T>(
        &mut self,
        time: Duration,
        mut wanted: impl FnMut(Frame) -> Option<T>,
    ) -> Result<Option<T>> {
        let until = Instant::now() + time;
        loop {
            self.serve()?;
            while let Some(bytes) = self.frames.pop_front() {
                let frame = frames::parse(&bytes);
                if matches!(&frame, Frame::ArpRequest(_, _, ip) if *ip == OWN.1) {
                    self.send(&frames::arp_reply(self.way), &[])?;
                }
                if let Some(found) = wanted(frame) {
                    return Ok(Some(found));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(left);
        }
    }

    /// Asks for the guest's address until it answers: the interface may have come up just now.
    pub(crate) fn find_guest(&mut self) -> Result {
        let until = Instant::now() + self.timeout;
        loop {
            self.send(&frames::arp_request(self.way), &[])?;
            let is_guest = |f| matches!(f, Frame::ArpReply(_, GUEST)).then_some(());
            if self.frame(Duration::from_millis(200), is_guest)?.is_some() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "the guest does not answer");
        }
    }

    /// A new echo request of `len` bytes, and what is in it.
    pub(crate) fn echo_request(&mut self, len: usize) -> (u16, Vec<u8>, Vec<u8>) {
        self.number = self.number.wrapping_add(1) & 0x7fff;
        let sent = frames::pattern(self.number, len);
        let frame = frames::echo_request(self.way, self.number, &sent);
        (self.number, frame, sent)
    }

    /// Waits for the answer to an echo request. One to garbage that happens to have its number may
    /// come before.
    pub(crate) fn echo_answer(&mut self, number: u16, sent: &[u8]) -> Result {
        let mut other = false;
        let got = self.frame(Duration::from_secs(3), |f| match f {
            Frame::EchoReply(n, bytes) if n == number => {
                let same = bytes == sent;
                other |= !same;
                same.then_some(())
            }
            _ => None,
        })?;
        ensure!(got.is_some() || !other, "an echo is not what was sent");
        Ok(got.ok_or("the guest does not answer an echo request")?)
    }

    /// Sends an echo request of `len` bytes, cut at `cuts`, and compares the answer.
    pub(crate) fn echo(&mut self, len: usize, cuts: &[usize]) -> Result {
        let (number, frame, sent) = self.echo_request(len);
        self.send(&frame, cuts)?;
        self.echo_answer(number, &sent)
            .map_err(|e| format!("{len} bytes, cut at {cuts:?}: {e}").into())
    }

    /// Shows that the interface works both ways.
    pub(crate) fn verify(&mut self) -> Result {
        self.find_guest()?;
        self.echo(1400, &[100, 1000])
    }

    /// Has the guest send a packet, which is returned, not answered.
    pub(crate) fn trigger(&mut self) -> Result<Sent> {
        self.find_guest()?;
        let (_, frame, _) = self.echo_request(1000);
        self.send(&frame, &[])?;
        let until = Instant::now() + self.timeout;
        loop {
            if let Some(sent) = self.next()? {
                return Ok(sent);
            }
            ensure!(Instant::now() < until, "the guest sends nothing");
            self.wait(Duration::from_millis(5));
        }
    }

    /// Shows that the front end has given the interface up: nothing comes any more, whatever is sent
    /// to it.
    pub(crate) fn expect_stopped(&mut self) -> Result {
        std::thread::sleep(Duration::from_millis(100));
        let index = |queues: &[Queue]| -> Vec<u32> {
            queues.iter().map(|q| q.tx.page.load(REQ_PROD)).collect()
        };
        let before = index(&self.queues);
        let frame = frames::arp_request(self.way);
        let queue = self.queue()?;
        if let Ok(Some((_, request))) = queue.rx.next_request() {
            let response = self.fill(&request, &frame)?;
            self.put_rx(&[response], &[])?;
        }
        self.queue()?.channel.notify()?;
        std::thread::sleep(Duration::from_millis(200));
        let after = index(&self.queues);
        ensure!(before == after, "a front end that gave up still sends");
        Ok(())
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
