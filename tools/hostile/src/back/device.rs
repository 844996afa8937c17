// SPDX-License-Identifier: GPL-2.0
//! The back end's half of one virtual disk of a guest that runs a real front end.
//!
//! The disk is memory. Its store entries are the toolstack's and the back end's in one, below
//! `backend/hostile`, so that no driver of dom0 takes it.

use std::fmt::Display;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::wire::{
    self, Request, Response, ENTRIES, ERROR, FLUSH, NOT_SUPPORTED, OKAY, READ, WRITE,
};
use crate::{ensure, Result};
use xen::evtchn::EventChannel;
use xen::gntdev::{GrantCopier, MappedPages};
use xen::privcmd::Grants;
use xen::store::{Access, Perm, Store};

/// States of `enum xenbus_state`.
pub(crate) const INITIALISING: u64 = 1;
pub(crate) const INIT_WAIT: u64 = 2;
pub(crate) const INITIALISED: u64 = 3;
pub(crate) const CONNECTED: u64 = 4;
pub(crate) const CLOSING: u64 = 5;
pub(crate) const CLOSED: u64 = 6;

/// The disk's size, in sectors of 512 bytes.
pub(crate) const SECTORS: u64 = 4096;
/// The sector that is read to make a scenario misbehave.
const TRIGGER: u64 = 2048;

/// The ring as the back end has it.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) page: MappedPages,
    pub(crate) channel: EventChannel,
    /// Requests taken so far.
    pub(crate) cons: u32,
    /// Responses put so far.
    pub(crate) prod: u32,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) store: Store,
    pub(crate) guest: u16,
    front: String,
    back: String,
    /// How long to wait for the guest.
    pub(crate) timeout: Duration,
    copier: GrantCopier,
    ring: Option<Ring>,
    pub(crate) data: Vec<u8>,
    poke: String,
    child: Option<Child>,
    /// There is no back end any more that could close.
    vanished: bool,
}

impl Device {
    /// Makes the store entries of disk `number`, up to the own state, which is Initialising.
    pub(crate) fn create(guest: u16, number: u64, poke: &str, timeout: Duration) -> Result<Self> {
        let mut store = Store::open()?;
        let front = format!("/local/domain/{guest}/device/vbd/{number}");
        let back = format!("/local/domain/0/backend/hostile/{guest}/{number}");
        store.transaction(|tx| {
            tx.remove(&front)?;
            tx.remove(&back)?;
            tx.mkdir(&back)?;
            tx.set_perms(
                &back,
                &[Perm::new(0, Access::None), Perm::new(guest, Access::Read)],
            )?;
            for (key, value) in [
                ("frontend", front.as_str()),
                ("online", "1"),
                ("state", "1"),
                ("mode", "w"),
            ] {
                tx.write(&format!("{back}/{key}"), value)?;
            }
            tx.write(&format!("{back}/frontend-id"), guest)?;
            tx.mkdir(&front)?;
            tx.set_perms(
                &front,
                &[Perm::new(guest, Access::None), Perm::new(0, Access::Read)],
            )?;
            for (key, value) in [
                ("backend", back.as_str()),
                ("backend-id", "0"),
                ("state", "1"),
                ("device-type", "disk"),
            ] {
                tx.write(&format!("{front}/{key}"), value)?;
            }
            tx.write(&format!("{front}/virtual-device"), number)
        })?;
        // Each sector has a byte of its own.
        let data = (0..SECTORS as usize * 512)
            .map(|i| (i / 512 * 31) as u8)
            .collect();
        let letter = (b'a' + (number % 256 / 16) as u8) as char;
        let poke = poke.replace('@', &format!("xvd{letter}"));
        let copier = GrantCopier::new()?;
        Ok(Device {
            store,
            guest,
            front,
            back,
            timeout,
            copier,
            ring: None,
            data,
            poke,
            child: None,
            vanished: false,
        })
    }

    /// Writes a node of the back end's.
    pub(crate) fn put(&mut self, key: &str, value: impl Display) -> Result {
        Ok(self.store.write(&format!("{}/{key}", self.back), value)?)
    }

    /// Removes a node of the back end's.
    pub(crate) fn unset(&mut self, key: &str) -> Result {
        Ok(self.store.remove(&format!("{}/{key}", self.back))?)
    }

    /// Goes without a word: ring, channel and all nodes.
    pub(crate) fn vanish(&mut self) -> Result {
        self.detach();
        self.vanished = true;
        Ok(self.store.remove(&self.back)?)
    }

    /// Writes the own state.
    pub(crate) fn set_state(&mut self, state: impl Display) -> Result {
        self.put("state", state)
    }

    /// The front end's state; 0 where it has none.
    pub(crate) fn their_state(&mut self) -> Result<u64> {
        Ok(self
            .store
            .number(&format!("{}/state", self.front))?
            .unwrap_or(0))
    }

    /// Serves, where there is a ring, until the front end is in one of `states`.
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
            if self.ring.is_some() {
                self.serve_for(Duration::from_millis(20))?;
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Offers what an honest disk does.
    pub(crate) fn offer(&mut self) -> Result {
        self.put("feature-flush-cache", 1)?;
        self.put("sectors", SECTORS)?;
        self.put("info", 0)?;
        self.put("sector-size", 512)
    }

    /// Waits for the front end's ring and maps it.
    pub(crate) fn attach(&mut self) -> Result {
        self.await_state(&[INITIALISED, CONNECTED])?;
        let mut number = |key: &str| -> Result<u64> {
            Ok(self
                .store
                .number(&format!("{}/{key}", self.front))?
                .ok_or(format!("the front end has no {key}"))?)
        };
        let (gref, port) = (number("ring-ref")? as u32, number("event-channel")? as u32);
        let protocol = self.store.read_opt(&format!("{}/protocol", self.front))?;
        ensure!(
            protocol.as_deref() == Some("x86_64-abi"),
            "the front end's protocol is {protocol:?}"
        );
        let page = MappedPages::map(self.guest, &[gref], true)?;
        let prod = page.load(wire::RSP_PROD);
        self.ring = Some(Ring {
            page,
            channel: EventChannel::bind_interdomain(self.guest, port)?,
            cons: prod,
            prod,
        });
        Ok(())
    }

    /// Connects as an honest back end does; serves until the front end is Connected.
    pub(crate) fn connect(&mut self) -> Result {
        self.set_state(INIT_WAIT)?;
        self.offer()?;
        self.attach()?;
        self.set_state(CONNECTED)?;
        self.await_state(&[CONNECTED])?;
        // The search for partitions may go on.
        self.serve_for(Duration::from_millis(100))
    }

    /// The ring.
    pub(crate) fn ring(&mut self) -> Result<&mut Ring> {
        Ok(self.ring.as_mut().ok_or("no ring")?)
    }

    /// The next request, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Request>> {
        let ring = self.ring()?;
        let claimed = ring.page.load(wire::REQ_PROD).wrapping_sub(ring.cons);
        ensure!(
            claimed <= ENTRIES,
            "the front end claims {claimed} requests in {ENTRIES} entries"
        );
        if claimed == 0 {
            return Ok(None);
        }
        let mut request = Request([0; wire::ENTRY]);
        ring.page.read(wire::entry(ring.cons), &mut request.0);
        ring.cons = ring.cons.wrapping_add(1);
        ring.page.store(wire::REQ_EVENT, ring.cons.wrapping_add(1));
        Ok(Some(request))
    }

    /// Does what the request asks for, on the disk in memory, and returns the status.
    pub(crate) fn execute(&mut self, request: &Request) -> Result<i16> {
        if request.op() == FLUSH && request.segs().is_empty() {
            return Ok(OKAY);
        }
        if ![READ, WRITE].contains(&request.op()) {
            return Ok(NOT_SUPPORTED);
        }
        let mut at = request.sector() as usize * 512;
        for seg in request.segs() {
            let (from, len) = (
                u16::from(seg.first) * 512,
                (usize::from(seg.last) + 1 - usize::from(seg.first)) * 512,
            );
            let Some(bytes) = self.data.get_mut(at..at + len) else {
                return Ok(ERROR);
            };
            if request.op() == READ {
                self.copier.write(self.guest, seg.gref, from, bytes)?;
            } else {
                self.copier.read(self.guest, seg.gref, from, bytes)?;
            }
            at += len;
        }
        Ok(OKAY)
    }

    /// Puts a response and notifies.
    pub(crate) fn answer(&mut self, response: Response) -> Result {
        let ring = self.ring()?;
        ring.page.write(wire::entry(ring.prod), &response.bytes());
        ring.prod = ring.prod.wrapping_add(1);
        ring.page.store(wire::RSP_PROD, ring.prod);
        Ok(ring.channel.notify()?)
    }

    /// Answers a request as an honest back end does.
    pub(crate) fn serve(&mut self, request: &Request) -> Result {
        let status = self.execute(request)?;
        self.answer(Response {
            id: request.id(),
            op: request.op(),
            status,
        })
    }

    /// Serves honestly for a time.
    pub(crate) fn serve_for(&mut self, time: Duration) -> Result {
        let until = Instant::now() + time;
        loop {
            while let Some(request) = self.next()? {
                self.serve(&request)?;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.ring()?
                .channel
                .wait(left.min(Duration::from_millis(20)))?;
        }
    }

    /// Has the guest read the trigger sector; serves until its request comes and returns that
    /// unanswered.
    pub(crate) fn trigger(&mut self) -> Result<Request> {
        self.start_poke()?;
        let until = Instant::now() + self.timeout;
        loop {
            while let Some(request) = self.next()? {
                if request.op() == READ && (TRIGGER..TRIGGER + 8).contains(&request.sector()) {
                    return Ok(request);
                }
                self.serve(&request)?;
            }
            ensure!(
                Instant::now() < until,
                "the guest does not read sector {TRIGGER}: {}",
                self.poke
            );
            self.ring()?.channel.wait(Duration::from_millis(20))?;
        }
    }

    /// Starts the command that has the guest read.
    pub(crate) fn start_poke(&mut self) -> Result {
        let command = Command::new("/bin/sh")
            .arg("-c")
            .arg(&self.poke)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(command?);
        Ok(())
    }

    /// How the guest's read ended; serves meanwhile if `serving`. `None` if it has not within
    /// `time`.
    pub(crate) fn poked(&mut self, time: Duration, serving: bool) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + time;
        loop {
            let Some(child) = self.child.as_mut() else {
                return Ok(None);
            };
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            if serving {
                self.serve_for(Duration::from_millis(20))?;
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Has the guest read the trigger sector, and serves it; the read must succeed.
    pub(crate) fn verify(&mut self) -> Result {
        let request = self.trigger()?;
        self.serve(&request)?;
        let status = self
            .poked(self.timeout, true)?
            .ok_or("the guest's read does not end")?;
        ensure!(status.success(), "the guest's read failed: {status}");
        Ok(())
    }

    /// Shows that the front end has given the disk up: the read in flight ends, with an error, and
    /// so does the next.
    pub(crate) fn expect_stopped(&mut self) -> Result {
        let status = self
            .poked(self.timeout, false)?
            .ok_or("the guest's read has no end")?;
        ensure!(!status.success(), "the guest's read succeeded");
        self.expect_refused()
    }

    /// Shows that the guest's next read fails at once, and that no request comes.
    pub(crate) fn expect_refused(&mut self) -> Result {
        let before = self.ring()?.page.load(wire::REQ_PROD);
        self.start_poke()?;
        let status = self
            .poked(self.timeout, false)?
            .ok_or("the guest's next read has no end")?;
        ensure!(!status.success(), "the guest still reads from the disk");
        let after = self.ring()?.page.load(wire::REQ_PROD);
        ensure!(
            before == after,
            "{} requests came to a ring that should be stopped",
            after.wrapping_sub(before)
        );
        Ok(())
    }

    /// Gives up ring page and channel.
    pub(crate) fn detach(&mut self) {
        self.ring = None;
    }

    /// Closes, as an honest back end does when the toolstack wants the disk away, and removes the
    /// store entries. The guest's reads must have an end by then.
    pub(crate) fn destroy(&mut self, tolerant: bool) -> Result {
        let mut result = Ok(());
        if !self.vanished && self.their_state()? != 0 {
            result = self.disconnect(tolerant);
        }
        self.detach();
        self.store.remove(&self.front)?;
        self.store.remove(&self.back)?;
        if self.child.is_some() && self.poked(self.timeout, false)?.is_none() {
            if let Some(mut child) = self.child.take() {
                child.kill()?;
                child.wait()?;
            }
            result = result.and(Err(
                "a read of the guest's has no end, although the disk is gone".into(),
            ));
        }
        result
    }

    /// Has the front end close. It may wait for whoever has the disk open, and that for an answer
    /// that does not come: then the back end goes without it.
    fn disconnect(&mut self, tolerant: bool) -> Result {
        self.put("online", 0)?;
        self.set_state(CLOSING)?;
        // Unserved: what is unanswered stays so.
        let ring = self.ring.take();
        let until = Instant::now() + Duration::from_secs(2);
        while self.their_state()? != CLOSED && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.set_state(CLOSED)?;
        drop(ring);
        if tolerant && self.their_state()? == CLOSING {
            // The C front end stays there when it was the first to give up.
            return Ok(());
        }
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
