// SPDX-License-Identifier: GPL-2.0
//! What is sent and received: entries of the rings, and the pages behind them.

use std::time::{Duration, Instant};

use super::{slots, Vif, NONE, PAGES};
use crate::{ensure, Result};
use protocol::netif::{
    rxf, status, txf, ControlRequest, ControlResponse, Extra, TxRequest, TxResponse, TxSlot,
};

impl Vif {
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
    pub(super) fn receive(&mut self) -> Result {
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
}
