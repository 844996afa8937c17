// SPDX-License-Identifier: GPL-2.0
//! Frames that the guest answers: whether its interface works, or was given up.

use std::time::{Duration, Instant};

use super::{Queue, Sent, Vif, GUEST, OWN};
use crate::net::frames::{self, Frame};
use crate::{ensure, Result};
use protocol::{netif::status, ring::index::REQ_PROD};

impl Vif {
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
        let got = self.frame(self.timeout, |f| match f {
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

    /// Has the guest send a packet of more than 1000 bytes, which is returned, not answered; smaller
    /// ones, which it may send of itself at any time, are.
    pub(crate) fn trigger(&mut self) -> Result<Sent> {
        self.find_guest()?;
        let (_, frame, _) = self.echo_request(1000);
        self.send(&frame, &[])?;
        let until = Instant::now() + self.timeout;
        loop {
            match self.next()? {
                Some(sent)
                    if sent
                        .requests
                        .iter()
                        .map(|r| usize::from(r.size))
                        .sum::<usize>()
                        > 1000 =>
                {
                    return Ok(sent)
                }
                Some(other) => self.answer(&other, status::OKAY)?,
                None => {
                    ensure!(Instant::now() < until, "the guest sends nothing");
                    self.wait(Duration::from_millis(5));
                }
            }
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
}
