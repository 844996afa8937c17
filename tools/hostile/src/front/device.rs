// SPDX-License-Identifier: GPL-2.0
//! The front end's half of one virtual disk: its store entries, ring page, channel and buffers.
//!
//! The nodes follow `xen/io/blkif.h`. Each step can be taken alone, so that a scenario can take it
//! wrongly.

use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::nodes::Front;
pub(crate) use crate::nodes::{CLOSED, CLOSING, CONNECTED, INITIALISED, INITIALISING, INIT_WAIT};
use crate::wire::{self, Request, Response, Seg, OKAY, READ, WRITE};
use crate::{ensure, Result};
use xen::evtchn::EventChannel;
use xen::gntalloc::SharedPages;

/// Pages of data that the scenarios use, all granted to the back end.
const BUFFERS: usize = 16;

/// What the back end says that the disk is like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disk {
    /// Size, in sectors of 512 bytes.
    pub(crate) sectors: u64,
    /// Whether the flag `VDISK_READONLY` is set.
    pub(crate) readonly: bool,
    /// The most segments of an indirect request; 0: they are not offered.
    pub(crate) indirect: u64,
    /// Whether discard is offered.
    pub(crate) discard: bool,
}

/// What the back end offers before there is a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offers {
    pub(crate) queues: u32,
    pub(crate) order: u32,
    pub(crate) persistent: bool,
}

/// How to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Number of queues.
    pub(crate) queues: u32,
    /// The rings have 2^order pages.
    pub(crate) order: u32,
    /// The back end may keep what it maps.
    pub(crate) persistent: bool,
}

impl Shape {
    /// One queue with a ring of one page.
    pub(crate) const PLAIN: Self = Shape {
        queues: 1,
        order: 0,
        persistent: false,
    };
}

/// The pages of a ring and its event channel, with the front end's own indices.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) page: SharedPages,
    /// How many there are.
    pub(crate) entries: u32,
    pub(crate) channel: EventChannel,
    /// Requests put so far.
    pub(crate) prod: u32,
    /// Responses taken so far.
    pub(crate) cons: u32,
}

/// One virtual disk without a driver of its own.
#[derive(Debug)]
pub(crate) struct Device {
    nodes: Front,
    pub(crate) disk: Disk,
    pub(crate) shape: Shape,
    /// One for each queue.
    rings: Vec<Ring>,
    /// The one that is in use.
    at: usize,
    pub(crate) data: SharedPages,
    /// Whether both ends are Connected and the ring is as an honest front end leaves it.
    healthy: bool,
}

impl Deref for Device {
    type Target = Front;
    fn deref(&self) -> &Front {
        &self.nodes
    }
}

impl DerefMut for Device {
    fn deref_mut(&mut self) -> &mut Front {
        &mut self.nodes
    }
}

impl Device {
    /// Takes hold of `device/vbd/NUMBER`, waiting until it is there.
    pub(crate) fn open(number: u64, timeout: Duration) -> Result<Self> {
        // What an earlier run has asked for, and was ended before it took it back.
        let left = [
            "feature-persistent",
            "multi-queue-num-queues",
            "ring-page-order",
        ];
        let nodes = Front::open("vbd", number, timeout, &left)?;
        Ok(Device {
            data: SharedPages::alloc(nodes.backend_id(), BUFFERS, true)?,
            nodes,
            disk: Disk::default(),
            shape: Shape::PLAIN,
            rings: Vec::new(),
            at: 0,
            healthy: false,
        })
    }

    /// Writes the own state, even if it is the same.
    pub(crate) fn set_state(&mut self, state: impl Display) -> Result {
        self.healthy = false;
        self.nodes.set_state(state)
    }

    /// Brings both ends to where a front end starts: own state Initialising, theirs InitWait.
    pub(crate) fn restart(&mut self) -> Result {
        self.healthy = false;
        let honest = ["ring-ref", "event-channel", "protocol"];
        if self.nodes.restart(&honest)? {
            self.shape = Shape::PLAIN;
        }
        Ok(())
    }

    /// Makes rings whose indices all are `start`, in the pages of the last ones where they fit.
    pub(crate) fn make_ring(&mut self, start: u32) -> Result {
        let pages = 1 << self.shape.order;
        self.rings.truncate(self.shape.queues as usize);
        self.rings.retain(|ring| ring.page.count() == pages);
        while self.rings.len() < self.shape.queues as usize {
            self.rings.push(Ring {
                page: SharedPages::alloc(self.backend_id(), pages, true)?,
                entries: wire::entries(pages),
                channel: EventChannel::alloc_unbound(self.backend_id())?,
                prod: 0,
                cons: 0,
            });
        }
        for ring in &mut self.rings {
            (0..pages).for_each(|page| ring.page.clear(page));
            ring.page.store(wire::REQ_PROD, start);
            ring.page.store(wire::RSP_PROD, start);
            ring.page.store(wire::REQ_EVENT, start.wrapping_add(1));
            ring.page.store(wire::RSP_EVENT, start.wrapping_add(1));
            (ring.prod, ring.cons) = (start, start);
        }
        self.at = 0;
        Ok(())
    }

    /// The ring in use.
    pub(crate) fn ring(&mut self) -> Result<&mut Ring> {
        Ok(self.rings.get_mut(self.at).ok_or("no ring")?)
    }

    /// Uses the ring of another queue from now on.
    pub(crate) fn use_queue(&mut self, queue: usize) {
        self.at = queue;
    }

    /// Gives up ring pages and channels without a word.
    pub(crate) fn drop_ring(&mut self) {
        self.healthy = false;
        self.rings.clear();
    }

    /// Gives up the data pages, in use or not, and takes others.
    pub(crate) fn drop_buffers(&mut self) -> Result {
        self.data = SharedPages::alloc(self.backend_id(), BUFFERS, true)?;
        Ok(())
    }

    /// A reference that was granted to the back end once and is free now. It lies deep in the
    /// kernel's list of free ones, so that it stays free for a while.
    pub(crate) fn revoked_gref(&self) -> Result<u32> {
        let pages = SharedPages::alloc(self.backend_id(), 64, true)?;
        Ok(pages.grefs()[0])
    }

    /// Writes the nodes that say where the rings are, but not the state.
    pub(crate) fn publish(&mut self) -> Result {
        let shape = self.shape;
        if shape.order > 0 {
            self.put("ring-page-order", shape.order)?;
        }
        if shape.queues > 1 {
            self.put("multi-queue-num-queues", shape.queues)?;
        }
        if shape.persistent {
            self.put("feature-persistent", 1)?;
        }
        for queue in 0..self.rings.len() {
            let below = if shape.queues > 1 {
                format!("queue-{queue}/")
            } else {
                String::new()
            };
            let ring = &self.rings[queue];
            let (grefs, port) = (ring.page.grefs().to_vec(), ring.channel.port());
            for (i, gref) in grefs.iter().enumerate() {
                let number = if shape.order > 0 {
                    i.to_string()
                } else {
                    String::new()
                };
                self.put(&format!("{below}ring-ref{number}"), gref)?;
            }
            self.put(&format!("{below}event-channel"), port)?;
        }
        self.put("protocol", "x86_64-abi")
    }

    /// What the back end offers to a front end that is about to connect.
    pub(crate) fn offers(&mut self) -> Result<Offers> {
        self.restart()?;
        Ok(Offers {
            queues: self.theirs("multi-queue-max-queues")?.unwrap_or(1) as u32,
            order: self.theirs("max-ring-page-order")?.unwrap_or(0) as u32,
            persistent: self.theirs("feature-persistent")?.unwrap_or(0) > 0,
        })
    }

    /// Connects as an honest front end does, with ring indices that begin at `start`.
    pub(crate) fn connect_at(&mut self, start: u32) -> Result {
        self.connect_as(Shape::PLAIN, start)
    }

    /// [`Device::connect_at`], with rings of `shape`.
    pub(crate) fn connect_as(&mut self, shape: Shape, start: u32) -> Result {
        self.restart()?;
        self.shape = shape;
        self.make_ring(start)?;
        self.publish()?;
        self.set_state(INITIALISED)?;
        self.finish_connect()
    }

    /// Connects as an honest front end does.
    pub(crate) fn connect(&mut self) -> Result {
        self.connect_at(0)
    }

    /// Connects unless the connection of the last scenario is as good as new.
    pub(crate) fn connected(&mut self) -> Result {
        if self.healthy {
            return Ok(());
        }
        self.connect()?;
        self.healthy = true;
        Ok(())
    }

    /// The second half of connecting: what the back end offers, then Connected.
    pub(crate) fn finish_connect(&mut self) -> Result {
        self.await_state(&[CONNECTED])?;
        if self.disk.sectors == 0 {
            self.disk = Disk {
                sectors: self.theirs("sectors")?.ok_or("no sectors")?,
                readonly: self.theirs("info")?.ok_or("no info")? & 4 != 0,
                indirect: self.theirs("feature-max-indirect-segments")?.unwrap_or(0),
                discard: self.theirs("feature-discard")?.unwrap_or(0) > 0,
            };
        }
        ensure!(
            self.disk.sectors >= 256,
            "the disk has {} sectors, the scenarios want 256",
            self.disk.sectors
        );
        self.set_state(CONNECTED)
    }

    /// Closes as an honest front end does, from any state, and waits until the back end has let
    /// go of the ring.
    pub(crate) fn close(&mut self) -> Result {
        self.nodes.close()?;
        self.healthy = false;
        Ok(())
    }

    /// [`Device::close`], unless the next scenario may go on with the connection.
    pub(crate) fn end_scenario(&mut self) -> Result {
        if self.healthy {
            return Ok(());
        }
        self.close()
    }

    /// Nothing can be said of the connection any more: the next scenario makes one of its own.
    pub(crate) fn spoilt(&mut self) {
        self.healthy = false;
    }

    /// Puts requests on the ring, without regard for what is there, and notifies.
    pub(crate) fn submit(&mut self, requests: &[Request]) -> Result {
        let ring = self.ring()?;
        for r in requests {
            ring.page
                .write(wire::entry_of(ring.prod, ring.entries), &r.0);
            ring.prod = ring.prod.wrapping_add(1);
        }
        ring.page.store(wire::REQ_PROD, ring.prod);
        Ok(ring.channel.notify()?)
    }

    /// Takes the responses that are there.
    pub(crate) fn take(&mut self) -> Result<Vec<Response>> {
        let ring = self.ring()?;
        let prod = ring.page.load(wire::RSP_PROD);
        let claimed = prod.wrapping_sub(ring.cons);
        let entries = ring.entries;
        ensure!(
            claimed <= entries,
            "the back end claims {claimed} responses in {entries} entries"
        );
        let mut all = Vec::new();
        while ring.cons != prod {
            let mut bytes = [0; 16];
            ring.page
                .read(wire::entry_of(ring.cons, ring.entries), &mut bytes);
            all.push(Response::parse(&bytes));
            ring.cons = ring.cons.wrapping_add(1);
        }
        ring.page.store(wire::RSP_EVENT, prod.wrapping_add(1));
        Ok(all)
    }

    /// Waits for `count` responses. Returns those that came within `time`.
    pub(crate) fn responses_within(
        &mut self,
        count: usize,
        time: Duration,
    ) -> Result<Vec<Response>> {
        let until = Instant::now() + time;
        let mut all = self.take()?;
        while all.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.ring()?
                .channel
                .wait(left.min(Duration::from_millis(50)))?;
            all.extend(self.take()?);
        }
        Ok(all)
    }

    /// Waits for `count` responses; fewer are an error.
    pub(crate) fn responses(&mut self, count: usize) -> Result<Vec<Response>> {
        let all = self.responses_within(count, self.timeout())?;
        ensure!(
            all.len() == count,
            "{} of {count} requests were answered",
            all.len()
        );
        Ok(all)
    }

    /// Sends one request and insists on one response, with its id and operation and `status`.
    pub(crate) fn expect(&mut self, what: &str, request: Request, statuses: &[i16]) -> Result {
        self.submit(&[request])?;
        let rsp = self.responses(1).map_err(|e| format!("{what}: {e}"))?[0];
        ensure!(
            rsp.id == request.id(),
            "{what}: id {:#x} answered as {:#x}",
            request.id(),
            rsp.id
        );
        ensure!(
            request.is_answered_as(rsp.op),
            "{what}: operation {} answered as {}",
            request.op(),
            rsp.op
        );
        ensure!(
            statuses.contains(&rsp.status),
            "{what}: status {}, expected {statuses:?}",
            rsp.status
        );
        Ok(())
    }

    /// A segment list of `n` whole buffer pages.
    pub(crate) fn pages(&self, n: usize) -> Vec<Seg> {
        self.data
            .grefs()
            .iter()
            .take(n)
            .map(|g| Seg::page(*g))
            .collect()
    }

    /// Shows that the disk serves: writes (where it may) and reads back three pages at `sector`.
    pub(crate) fn verify(&mut self, sector: u64, pattern: u8) -> Result {
        let segs = self.pages(3);
        let fill = |i: usize| pattern ^ (i as u8).wrapping_mul(31) ^ (i >> 8) as u8;
        let want: Vec<u8> = (0..3 * xen::PAGE_SIZE).map(fill).collect();
        if !self.disk.readonly {
            self.data.write(0, &want);
            self.expect(
                "good write",
                Request::rw(WRITE, 0x600d, sector, &segs),
                &[OKAY],
            )?;
        }
        (0..3).for_each(|p| self.data.clear(p));
        self.expect(
            "good read",
            Request::rw(READ, 0x600d, sector, &segs),
            &[OKAY],
        )?;
        let mut got = vec![0; want.len()];
        self.data.read(0, &mut got);
        ensure!(
            self.disk.readonly || got == want,
            "data read back differ from those written"
        );
        Ok(())
    }

    /// Shows that the back end has stopped the ring: it does not answer a good request.
    pub(crate) fn expect_stopped(&mut self) -> Result {
        let ring = self.ring()?;
        // An honest producer index again, one good request on.
        ring.prod = ring.page.load(wire::RSP_PROD);
        ring.cons = ring.prod;
        let segs = self.pages(1);
        self.submit(&[Request::rw(READ, 0xdead, 0, &segs)])?;
        let got = self.responses_within(1, Duration::from_millis(500))?;
        ensure!(got.is_empty(), "a stopped ring answered {got:?}");
        Ok(())
    }
}
