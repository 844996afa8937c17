// SPDX-License-Identifier: GPL-2.0
//! Frames that are answered: whether the interface works, or is disabled.

use std::time::{Duration, Instant};

use super::{slots, Vif, OWN, PEER};
use crate::net::frames::{self, Frame, Way};
use crate::{ensure, Result};
use protocol::netif::status;

impl Vif {
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
        let got = self.frame(self.timeout(), |f| match f {
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
