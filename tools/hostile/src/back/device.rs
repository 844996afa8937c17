// SPDX-License-Identifier: GPL-2.0
//! The back end's half of one virtual disk of a guest that runs a real front end.
//!
//! The disk is memory. Its store entries are the toolstack's and the back end's in one, below
//! `backend/hostile`, so that no driver of dom0 takes it.

use std::collections::hash_map::{Entry, HashMap};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::nodes::Back;
pub(crate) use crate::nodes::{CLOSED, CLOSING, CONNECTED, INITIALISED, INITIALISING, INIT_WAIT};
use crate::wire::{
    self, Request, Response, Seg, BARRIER, DISCARD, ERROR, FLUSH, INDIRECT, NOT_SUPPORTED, OKAY,
    READ, WRITE,
};
use crate::{ensure, Result};
use xen::evtchn::EventChannel;
use xen::gntdev::{GrantCopier, MappedPages};
use xen::privcmd::Grants;

/// The disk's size, in sectors of 512 bytes.
pub(crate) const SECTORS: u64 = 4096;
/// The sector that is read to make a scenario misbehave.
const TRIGGER: u64 = 2048;

/// A ring as the back end has it.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) page: MappedPages,
    /// How many entries it has.
    pub(crate) entries: u32,
    pub(crate) channel: EventChannel,
    /// Requests taken so far.
    pub(crate) cons: u32,
    /// Responses put so far.
    pub(crate) prod: u32,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Device {
    nodes: Back,
    /// How long to wait for the guest.
    pub(crate) timeout: Duration,
    copier: GrantCopier,
    /// One for each queue.
    rings: Vec<Ring>,
    /// The one that is in use: that of the request taken last.
    at: usize,
    /// The pages that are kept mapped, if they are; by reference.
    kept: Option<HashMap<u32, MappedPages>>,
    /// The most segments of an indirect request that were offered, or that there can be.
    indirect: u16,
    pub(crate) data: Vec<u8>,
    /// The guest's name of the disk.
    disk: String,
    poke: String,
    child: Option<Child>,
    /// There is no back end any more that could close.
    vanished: bool,
}

impl Deref for Device {
    type Target = Back;
    fn deref(&self) -> &Back {
        &self.nodes
    }
}

impl DerefMut for Device {
    fn deref_mut(&mut self) -> &mut Back {
        &mut self.nodes
    }
}

impl Device {
    /// Makes the store entries of disk `number`, up to the own state, which is Initialising. An
    /// `extended` one is xvdz by a number that is beyond `virtual-device`.
    pub(crate) fn create(
        guest: u16,
        number: u64,
        extended: bool,
        poke: &str,
        timeout: Duration,
    ) -> Result<Self> {
        let (key, vdev, letter) = match extended {
            true => ("virtual-device-ext", (1 << 28) | (25 << 8), b'z'),
            false => ("virtual-device", number, b'a' + (number % 256 / 16) as u8),
        };
        let vdev = vdev.to_string();
        let theirs = [("device-type", "disk"), (key, &vdev)];
        let nodes = Back::create("vbd", guest, number, &[("mode", "w")], &theirs)?;
        // Each sector has a byte of its own.
        let data = (0..SECTORS as usize * 512)
            .map(|i| (i / 512 * 31) as u8)
            .collect();
        let (disk, poke) = (format!("xvd{}", letter as char), poke.into());
        let copier = GrantCopier::new()?;
        Ok(Device {
            nodes,
            timeout,
            copier,
            rings: Vec::new(),
            at: 0,
            kept: None,
            indirect: 256,
            data,
            disk,
            poke,
            child: None,
            vanished: false,
        })
    }

    /// Goes without a word: ring, channel and all nodes.
    pub(crate) fn vanish(&mut self) -> Result {
        self.detach();
        self.vanished = true;
        self.remove_own()
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
            if !self.rings.is_empty() {
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

    /// Offers all that can be offered before there is a ring; and to keep pages, if `keep`.
    pub(crate) fn offer_much(&mut self, keep: bool) -> Result {
        self.indirect = 64;
        self.put("multi-queue-max-queues", 4)?;
        self.put("max-ring-page-order", 4)?;
        self.nodes
            .put("feature-max-indirect-segments", self.indirect)?;
        self.put("feature-discard", 1)?;
        self.put("discard-granularity", 4096)?;
        self.put("discard-alignment", 0)?;
        self.put("discard-secure", 1)?;
        if keep {
            self.put("feature-persistent", 1)?;
            self.kept = Some(HashMap::new());
        }
        Ok(())
    }

    /// Waits for the front end's rings and maps them.
    pub(crate) fn attach(&mut self) -> Result {
        self.await_state(&[INITIALISED, CONNECTED])?;
        let protocol = self.read_theirs("protocol")?;
        ensure!(
            protocol.as_deref() == Some("x86_64-abi"),
            "the front end's protocol is {protocol:?}"
        );
        let queues = self.theirs("multi-queue-num-queues")?.unwrap_or(1);
        let order = self.theirs("ring-page-order")?.unwrap_or(0);
        ensure!(
            (1..=64).contains(&queues) && order <= 4,
            "the front end has {queues} queues of 2^{order} pages"
        );
        for queue in 0..queues {
            let below = match queues {
                1 => String::new(),
                _ => format!("queue-{queue}/"),
            };
            let mut number = |key: String| -> Result<u32> {
                Ok(self.theirs(&key)?.ok_or(format!("no {key}"))? as u32)
            };
            let grefs = match order {
                0 => vec![number(format!("{below}ring-ref"))?],
                _ => (0..1 << order)
                    .map(|i| number(format!("{below}ring-ref{i}")))
                    .collect::<Result<_>>()?,
            };
            let port = number(format!("{below}event-channel"))?;
            let page = MappedPages::map(self.guest, &grefs, true)?;
            let prod = page.load(wire::RSP_PROD);
            self.rings.push(Ring {
                page,
                entries: wire::entries(grefs.len()),
                channel: EventChannel::bind_interdomain(self.guest, port)?,
                cons: prod,
                prod,
            });
        }
        Ok(())
    }

    /// How many queues there are.
    pub(crate) fn queues(&self) -> usize {
        self.rings.len()
    }

    /// Uses the ring of another queue.
    pub(crate) fn use_queue(&mut self, queue: usize) {
        self.at = queue;
    }

    /// Connects as an honest back end does; serves until the front end is Connected.
    pub(crate) fn connect(&mut self) -> Result {
        self.offer()?;
        self.set_state(INIT_WAIT)?;
        self.attach()?;
        self.set_state(CONNECTED)?;
        self.await_state(&[CONNECTED])?;
        // The search for partitions may go on.
        self.serve_for(Duration::from_millis(100))
    }

    /// The ring.
    pub(crate) fn ring(&mut self) -> Result<&mut Ring> {
        Ok(self.rings.get_mut(self.at).ok_or("no ring")?)
    }

    /// The next request of any queue, if there is one; that queue is in use then.
    pub(crate) fn next(&mut self) -> Result<Option<Request>> {
        ensure!(!self.rings.is_empty(), "no ring");
        for (at, ring) in self.rings.iter_mut().enumerate() {
            let claimed = ring.page.load(wire::REQ_PROD).wrapping_sub(ring.cons);
            ensure!(
                claimed <= ring.entries,
                "the front end claims {claimed} requests in {} entries",
                ring.entries
            );
            if claimed == 0 {
                continue;
            }
            let mut request = Request([0; wire::ENTRY]);
            let entry = wire::entry_of(ring.cons, ring.entries);
            ring.page.read(entry, &mut request.0);
            ring.cons = ring.cons.wrapping_add(1);
            ring.page.store(wire::REQ_EVENT, ring.cons.wrapping_add(1));
            self.at = at;
            return Ok(Some(request));
        }
        Ok(None)
    }

    /// Waits for an event of any queue.
    pub(crate) fn wait(&mut self, time: Duration) -> Result {
        if let [one] = self.rings.as_slice() {
            one.channel.wait(time)?;
            return Ok(());
        }
        let mut any = false;
        for ring in &self.rings {
            any |= ring.channel.wait(Duration::ZERO)?;
        }
        if !any {
            std::thread::sleep(time.min(Duration::from_millis(1)));
        }
        Ok(())
    }

    /// The segments of a read or write, from its list if it has one.
    fn segments(&mut self, request: &Request) -> Result<(u8, Vec<Seg>)> {
        if request.op() != INDIRECT {
            return Ok((request.op(), request.segs()));
        }
        let (op, count, grefs) = request.list();
        ensure!(
            count > 0 && count <= self.indirect,
            "an indirect request of {count} segments, {} were offered",
            self.indirect
        );
        let mut bytes = vec![0; usize::from(count) * 8];
        for (page, gref) in bytes.chunks_mut(4096).zip(grefs) {
            self.copier.read(self.guest, gref, 0, page)?;
        }
        Ok((op, bytes.chunks(8).map(Seg::parse).collect()))
    }

    /// Does what the request asks for, on the disk in memory, and returns the status.
    pub(crate) fn execute(&mut self, request: &Request) -> Result<i16> {
        if [FLUSH, BARRIER].contains(&request.op()) && request.segs().is_empty() {
            return Ok(OKAY);
        }
        if request.op() == DISCARD {
            let at = request.sector() as usize * 512;
            let range = at..at.saturating_add(request.discarded() as usize * 512);
            return Ok(self.data.get(range).map_or(ERROR, |_| OKAY));
        }
        let (op, segs) = self.segments(request)?;
        if ![READ, WRITE, BARRIER].contains(&op) {
            return Ok(NOT_SUPPORTED);
        }
        let guest = self.guest;
        let mut at = request.sector() as usize * 512;
        for seg in segs {
            ensure!(
                seg.first <= seg.last && seg.last < 8,
                "a segment is {seg:?}"
            );
            let (from, len) = (
                u16::from(seg.first) * 512,
                (usize::from(seg.last) + 1 - usize::from(seg.first)) * 512,
            );
            let Some(bytes) = self.data.get_mut(at..at + len) else {
                return Ok(ERROR);
            };
            if let Some(kept) = &mut self.kept {
                let page = match kept.entry(seg.gref) {
                    Entry::Occupied(page) => page.into_mut(),
                    Entry::Vacant(place) => {
                        place.insert(MappedPages::map(guest, &[seg.gref], true)?)
                    }
                };
                if op == READ {
                    page.write(from.into(), bytes);
                } else {
                    page.read(from.into(), bytes);
                }
            } else if op == READ {
                self.copier.write(guest, seg.gref, from, bytes)?;
            } else {
                self.copier.read(guest, seg.gref, from, bytes)?;
            }
            at += len;
        }
        Ok(OKAY)
    }

    /// Whether pages are kept mapped.
    pub(crate) fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Unmaps the pages that are kept.
    pub(crate) fn let_go(&mut self) {
        self.kept = self.kept.take().map(|_| HashMap::new());
    }

    /// Writes to all the pages that are kept mapped.
    pub(crate) fn spoil_kept(&self) -> usize {
        let kept = self.kept.iter().flat_map(|kept| kept.values());
        kept.map(|page| page.write(0, &[0xbd; 4096])).count()
    }

    /// Puts a response and notifies.
    pub(crate) fn answer(&mut self, response: Response) -> Result {
        let ring = self.ring()?;
        ring.page
            .write(wire::entry_of(ring.prod, ring.entries), &response.bytes());
        ring.prod = ring.prod.wrapping_add(1);
        ring.page.store(wire::RSP_PROD, ring.prod);
        Ok(ring.channel.notify()?)
    }

    /// Answers a request as an honest back end does.
    pub(crate) fn serve(&mut self, request: &Request) -> Result {
        let status = self.execute(request)?;
        self.answer(Response {
            id: request.id(),
            op: request.answer_op(),
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
            self.wait(left.min(Duration::from_millis(20)))?;
        }
    }

    /// Has the guest read the trigger sector; serves until its request comes and returns that
    /// unanswered.
    pub(crate) fn trigger(&mut self) -> Result<Request> {
        self.trigger_by(&self.poke.clone(), READ)
    }

    /// The command that has the guest write single sectors, several from one page of its memory.
    pub(crate) fn small_poke(&self) -> String {
        self.poke.replace(
            "dd if=/dev/@ of=/dev/null bs=4096 skip=256 count=1 iflag=direct",
            "fio --name=small --filename=/dev/@ --rw=write:3584 --bs=512 --offset=1m --size=64k \
             --direct=1 --ioengine=libaio --iodepth=8",
        )
    }

    /// The command that has the guest write a page through the page cache and flush.
    pub(crate) fn flushing_poke(&self) -> String {
        self.poke.replace(
            "if=/dev/@ of=/dev/null bs=4096 skip=256 count=1 iflag=direct",
            "if=/dev/zero of=/dev/@ bs=4096 seek=300 count=1 conv=fsync",
        )
    }

    /// The command that has the guest discard 64 KB.
    pub(crate) fn discarding_poke(&self, option: &str) -> String {
        self.poke.replace(
            "dd if=/dev/@ of=/dev/null bs=4096 skip=256 count=1 iflag=direct",
            &format!("blkdiscard {option} -o 1M -l 64k /dev/@"),
        )
    }

    /// [`Device::trigger`] by another command, and operation.
    pub(crate) fn trigger_by(&mut self, poke: &str, op: u8) -> Result<Request> {
        self.start(poke)?;
        let until = Instant::now() + self.timeout;
        loop {
            while let Some(request) = self.next()? {
                if request.op() == op && (TRIGGER..TRIGGER + 8).contains(&request.sector()) {
                    return Ok(request);
                }
                self.serve(&request)?;
            }
            ensure!(
                Instant::now() < until,
                "the guest does not read sector {TRIGGER}: {}",
                self.poke
            );
            self.wait(Duration::from_millis(20))?;
        }
    }

    /// Starts the command that has the guest read.
    pub(crate) fn start_poke(&mut self) -> Result {
        self.start(&self.poke.clone())
    }

    /// Starts another command, in which `@` stands for the disk.
    pub(crate) fn start(&mut self, command: &str) -> Result {
        let command = Command::new("/bin/sh")
            .arg("-c")
            .arg(command.replace('@', &self.disk))
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
        let indices = |rings: &[Ring]| -> Vec<u32> {
            rings.iter().map(|r| r.page.load(wire::REQ_PROD)).collect()
        };
        let before = indices(&self.rings);
        self.start_poke()?;
        let status = self
            .poked(self.timeout, false)?
            .ok_or("the guest's next read has no end")?;
        ensure!(!status.success(), "the guest still reads from the disk");
        let after = indices(&self.rings);
        ensure!(
            before == after,
            "requests came to rings that should be stopped: {before:?}, then {after:?}"
        );
        Ok(())
    }

    /// Gives up rings, channels, and the pages that are kept.
    pub(crate) fn detach(&mut self) {
        self.rings.clear();
        self.kept = None;
    }

    /// Closes, as an honest back end does when the toolstack wants the disk away, and removes the
    /// store entries. The guest's reads must have an end by then.
    pub(crate) fn destroy(&mut self, tolerant: bool) -> Result {
        let mut result = Ok(());
        if !self.vanished && self.their_state()? != 0 {
            result = self.disconnect(tolerant);
        }
        self.detach();
        self.remove()?;
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
        let rings = std::mem::take(&mut self.rings);
        let until = Instant::now() + Duration::from_secs(2);
        while self.their_state()? != CLOSED && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.let_go();
        self.set_state(CLOSED)?;
        drop(rings);
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
