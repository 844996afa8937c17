// SPDX-License-Identifier: GPL-2.0
//! What the guest sends, and is sent: entries of the rings, and the pages behind them.

use std::time::{Duration, Instant};

use super::{Sent, Vif};
use crate::{ensure, Result};
use protocol::netif::{rxf, status, txf, Extra, RxRequest, RxResponse, TxResponse};

impl Vif {
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

    /// The whole page that a reference is for, whatever the guest wants seen of it.
    pub(crate) fn page(&self, gref: u32) -> Result<Vec<u8>> {
        let mut page = vec![0; 4096];
        self.copier.read(self.guest, gref, 0, &mut page)?;
        Ok(page)
    }

    /// That the pages of a packet hold zeroes beside it.
    pub(crate) fn shows_nothing_else(&self, sent: &Sent) -> Result {
        for r in &sent.requests {
            let page = self.page(r.gref)?;
            let (from, to) = (usize::from(r.offset), usize::from(r.offset + r.size));
            let rest = [&page[..from], &page[to..]].concat();
            ensure!(
                rest.iter().all(|byte| *byte == 0),
                "its page shows more than {} bytes at {from}",
                r.size
            );
        }
        Ok(())
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
        self.put_answer(sent, status)?;
        Ok(self.queues[sent.queue].channel.notify()?)
    }

    /// Answers a packet as an honest back end does, which notifies if it has been asked to.
    pub(crate) fn answer_if_asked(&mut self, sent: &Sent) -> Result {
        if self.put_answer(sent, status::OKAY)? {
            self.queues[sent.queue].channel.notify()?;
        }
        Ok(())
    }

    /// Puts the answers to a packet's entries. Whether the front end wants an event for that.
    fn put_answer(&mut self, sent: &Sent, status: i16) -> Result<bool> {
        let queue = self.queues.get_mut(sent.queue).ok_or("no such queue")?;
        for (i, r) in sent.requests.iter().enumerate() {
            queue.tx.response(&TxResponse { id: r.id, status });
            for _ in 0..if i == 0 { sent.extras } else { 0 } {
                let (id, status) = (0, status::NULL);
                queue.tx.response(&TxResponse { id, status });
            }
        }
        Ok(queue.tx.publish())
    }

    /// Serves what is there as an honest back end does.
    pub(super) fn serve(&mut self) -> Result {
        while let Some(sent) = self.next()? {
            let frame = self.copy(&sent)?;
            self.frames.push_back(frame);
            self.answer(&sent, status::OKAY)?;
        }
        Ok(())
    }

    /// Waits for an event of any queue, for a short time.
    pub(super) fn wait(&self, left: Duration) {
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
        self.fill_at(to, 0, bytes)
    }

    /// The same, at an offset of the page.
    pub(crate) fn fill_at(&self, to: &RxRequest, offset: u16, bytes: &[u8]) -> Result<RxResponse> {
        if !bytes.is_empty() {
            self.copier.write(self.guest, to.gref, offset, bytes)?;
        }
        Ok(RxResponse {
            id: to.id,
            offset,
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
}
