// SPDX-License-Identifier: GPL-2.0
//! Connections of many queues, of rings of many pages, and with pages that the back end keeps.

use std::time::{Duration, Instant};

use super::device::{Shape, CLOSED, CLOSING, INITIALISED};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::wire::*;
use crate::{ensure, Result};
use xen::gntalloc::SharedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "shapes",
        "as many queues and pages as offered: every queue serves, indices wrap",
        shapes,
    ),
    Scenario::new(
        "abi-32",
        "a 32-bit front end, with and without saying so: served",
        abi_32,
    ),
    Scenario::new(
        "shape-overrun",
        "a large ring, one request more than it holds: stopped",
        overrun,
    ),
    Scenario::new(
        "queue-keys",
        "garbage for one of several queues: refused, nothing stays mapped",
        queue_keys,
    ),
    Scenario::new(
        "queue-twice",
        "two queues with one ring, or one channel: refused, or served in order",
        queue_twice,
    ),
    Scenario::new(
        "page-keys",
        "garbage for one page of a ring of several: refused",
        page_keys,
    ),
    Scenario::new("more-than-offered", "one queue more, one order more", more),
    Scenario::new(
        "kept-twice",
        "one kept page in all segments of all requests in flight",
        kept_twice,
    ),
    Scenario::new(
        "kept-cap",
        "more pages than the back end may keep: all served",
        kept_cap,
    ),
    Scenario::new(
        "kept-revoked",
        "pages given up while they are kept, then used again",
        kept_revoked,
    ),
    Scenario::new(
        "kept-readonly",
        "a kept page that may only be read: a read into it is refused",
        kept_readonly,
    ),
    Scenario::new(
        "kept-bad",
        "one bad reference among pages that are kept: ERROR, nothing leaks",
        kept_bad,
    )
    .of("xsa371_error_paths"),
    Scenario::new(
        "kept-vanish",
        "ring and pages given up while requests are in flight and pages are kept",
        kept_vanish,
    ),
];

const NOT_OFFERED: Outcome = Skipped("the back end does not offer it");

fn shapes(lab: &mut Lab) -> Result<Outcome> {
    let offers = lab.dev.offers()?;
    for (queues, order) in [(1, offers.order), (offers.queues, 0), (2, 1), (1, 0)] {
        let shape = Shape {
            queues: queues.clamp(1, offers.queues.min(4)),
            order: order.min(offers.order),
            persistent: offers.persistent,
        };
        lab.dev.connect_as(shape, u32::MAX - 8)?;
        for queue in 0..shape.queues as usize {
            lab.dev.use_queue(queue);
            for i in 0..6 {
                lab.dev
                    .verify(8 * i, (queue as u8) << 4 | i as u8)
                    .map_err(|e| format!("{shape:?}, queue {queue}: {e}"))?;
            }
            full(lab)?;
        }
    }
    Ok(Passed)
}

/// Sends a request in the layout of 32-bit x86 and gives the status of the answer.
fn exchange_32(lab: &mut Lab, op: u8, sector: u64, segs: &[Seg], claimed: u8) -> Result<i16> {
    const ENTRY_32: usize = 108;
    let ring = lab.dev.ring()?;
    let at = 64 + (ring.prod % ENTRIES) as usize * ENTRY_32;
    let id = 0x1_0000_0000 | u64::from(ring.prod);
    let mut bytes = [0; ENTRY_32];
    bytes[0] = op;
    bytes[1] = claimed;
    bytes[4..12].copy_from_slice(&id.to_le_bytes());
    bytes[12..20].copy_from_slice(&sector.to_le_bytes());
    for (i, seg) in segs.iter().enumerate() {
        bytes[20 + 8 * i..24 + 8 * i].copy_from_slice(&seg.gref.to_le_bytes());
        bytes[24 + 8 * i..26 + 8 * i].copy_from_slice(&[seg.first, seg.last]);
    }
    ring.page.write(at, &bytes);
    ring.prod = ring.prod.wrapping_add(1);
    ring.page.store(REQ_PROD, ring.prod);
    ring.channel.notify()?;
    let until = Instant::now() + Duration::from_secs(5);
    while ring.page.load(RSP_PROD) != ring.prod {
        ensure!(Instant::now() < until, "no answer to a 32-bit request");
        ring.channel.wait(Duration::from_millis(20))?;
    }
    ring.cons = ring.prod;
    ring.page.store(RSP_EVENT, ring.prod.wrapping_add(1));
    let mut answer = [0; 12];
    ring.page.read(at, &mut answer);
    ensure!(
        answer[..8] == id.to_le_bytes() && answer[8] == op,
        "the answer is {answer:?}"
    );
    Ok(i16::from_le_bytes([answer[10], answer[11]]))
}

fn abi_32(lab: &mut Lab) -> Result<Outcome> {
    for protocol in [Some("x86_32-abi"), None] {
        lab.dev.restart()?;
        lab.dev.make_ring(0)?;
        lab.dev.publish()?;
        match protocol {
            Some(name) => lab.dev.put("protocol", name)?,
            // The C back end takes its own then, which is 64-bit.
            None if lab.tolerant => continue,
            None => lab.dev.unset("protocol")?,
        }
        lab.dev.set_state(INITIALISED)?;
        lab.dev.finish_connect()?;
        let segs = lab.dev.pages(11);
        // More than a ring holds, so that every entry is used.
        for i in 0..40u8 {
            let want: Vec<u8> = (0..11 * 4096).map(|b| i ^ (b >> 8) as u8).collect();
            lab.dev.data.write(0, &want);
            let sector = 88 * u64::from(i % 4);
            let status = exchange_32(lab, WRITE, sector, &segs, 11)?;
            ensure!(status == OKAY, "a write: {status}");
            lab.dev.data.write(0, &vec![0; want.len()]);
            let status = exchange_32(lab, READ, sector, &segs, 11)?;
            ensure!(status == OKAY, "a read: {status}");
            let mut got = vec![0; want.len()];
            lab.dev.data.read(0, &mut got);
            ensure!(got == want, "round {i}: other data came back");
        }
        let end = lab.dev.disk.sectors;
        for (sector, claimed) in [(0, 0), (0, 12), (end, 1), (u64::MAX, 11)] {
            let status = exchange_32(lab, READ, sector, &segs, claimed)?;
            ensure!(status == ERROR, "{claimed} segments at {sector}: {status}");
        }
        lab.dev.close()?;
    }
    lab.dev.connect()?;
    lab.dev.verify(8, 39)?;
    Ok(Passed)
}

/// Fills the ring with reads and wants each answered.
fn full(lab: &mut Lab) -> Result {
    let segs = lab.dev.pages(1);
    let entries = u64::from(lab.dev.ring()?.entries);
    let all: Vec<_> = (0..entries)
        .map(|i| Request::rw(READ, i, 8, &segs))
        .collect();
    lab.dev.submit(&all)?;
    let mut ids: Vec<_> = lab.dev.responses(all.len())?.iter().map(|r| r.id).collect();
    ids.sort_unstable();
    ensure!(
        ids == (0..entries).collect::<Vec<_>>(),
        "answered {ids:?} in a ring of {entries}"
    );
    Ok(())
}

fn overrun(lab: &mut Lab) -> Result<Outcome> {
    let offers = lab.dev.offers()?;
    if offers.order == 0 && offers.queues == 1 {
        return Ok(NOT_OFFERED);
    }
    let shape = Shape {
        queues: offers.queues.min(2),
        order: offers.order,
        persistent: false,
    };
    for ahead in [1, 1 << 31, u32::MAX] {
        lab.dev.connect_as(shape, 7)?;
        lab.dev.use_queue(shape.queues as usize - 1);
        lab.dev.verify(8, 1)?;
        let ring = lab.dev.ring()?;
        let prod = ring.prod.wrapping_add(ring.entries.wrapping_add(ahead));
        // Behind what was consumed, for the last.
        let prod = if ahead == u32::MAX {
            ring.prod.wrapping_sub(1)
        } else {
            prod
        };
        ring.page.store(REQ_PROD, prod);
        ring.channel.notify()?;
        let before = lab.dev.responses_within(1, Duration::from_millis(300))?;
        ensure!(before.is_empty(), "requests were made up: {before:?}");
        lab.dev.expect_stopped()?;
    }
    Ok(Passed)
}

/// Publishes rings of `shape`, spoils them by `spoil`, and wants the connection refused; an honest
/// one must be served afterwards.
fn refused(lab: &mut Lab, shape: Shape, what: &str, spoil: impl Fn(&mut Lab) -> Result) -> Result {
    lab.dev.restart()?;
    lab.dev.shape = shape;
    lab.dev.make_ring(0)?;
    lab.dev.publish()?;
    spoil(lab)?;
    lab.dev.set_state(INITIALISED)?;
    lab.dev
        .await_state(&[CLOSING, CLOSED])
        .map_err(|e| format!("{what}: {e}"))?;
    lab.dev.close()
}

/// Likewise, with `key` holding each of `values`.
fn each(lab: &mut Lab, shape: Shape, key: &str, values: &[&str]) -> Result {
    for value in values {
        refused(lab, shape, &format!("{key} {value:?}"), |lab| {
            lab.dev.put(key, value)
        })?;
    }
    refused(lab, shape, &format!("no {key}"), |lab| lab.dev.unset(key))
}

fn again(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connect()?;
    lab.dev.verify(8, 40)?;
    Ok(Passed)
}

fn queue_keys(lab: &mut Lab) -> Result<Outcome> {
    let offers = lab.dev.offers()?;
    if offers.queues < 2 {
        return Ok(NOT_OFFERED);
    }
    if lab.tolerant {
        return Ok(Skipped("the C back end warns"));
    }
    let shape = Shape {
        queues: 2,
        ..Shape::PLAIN
    };
    let revoked = lab.dev.revoked_gref()?.to_string();
    each(lab, shape, "queue-1/ring-ref", &["banana", "0", &revoked])?;
    each(lab, shape, "queue-1/event-channel", &["0", "4095"])?;
    again(lab)
}

fn queue_twice(lab: &mut Lab) -> Result<Outcome> {
    let offers = lab.dev.offers()?;
    if offers.queues < 2 {
        return Ok(NOT_OFFERED);
    }
    let shape = Shape {
        queues: 2,
        ..Shape::PLAIN
    };
    // Two threads of the back end at one ring: it is the guest's own data that suffers, at most.
    for key in ["ring-ref", "event-channel"] {
        lab.dev.restart()?;
        lab.dev.shape = shape;
        lab.dev.make_ring(0)?;
        lab.dev.publish()?;
        let ring = lab.dev.ring()?;
        let value = if key == "ring-ref" {
            ring.page.grefs()[0]
        } else {
            ring.channel.port()
        };
        lab.dev.put(&format!("queue-1/{key}"), value)?;
        lab.dev.set_state(INITIALISED)?;
        let state = lab.dev.await_state(&[4, CLOSING, CLOSED])?;
        if state == 4 {
            let segs = lab.dev.pages(1);
            let all: Vec<_> = (0..16).map(|i| Request::rw(READ, i, 8, &segs)).collect();
            lab.dev.submit(&all)?;
            std::thread::sleep(Duration::from_millis(300));
        }
        lab.dev.close()?;
        // What the two have made of the indices is nothing that a ring could be kept with.
        lab.dev.drop_ring();
    }
    again(lab)
}

fn page_keys(lab: &mut Lab) -> Result<Outcome> {
    let offers = lab.dev.offers()?;
    if offers.order < 1 {
        return Ok(NOT_OFFERED);
    }
    if lab.tolerant {
        return Ok(Skipped("the C back end warns"));
    }
    let shape = Shape {
        order: offers.order,
        ..Shape::PLAIN
    };
    let revoked = lab.dev.revoked_gref()?.to_string();
    let last = format!("ring-ref{}", (1 << offers.order) - 1);
    each(lab, shape, &last, &["banana", &revoked])?;
    for value in ["banana", "-1", "32"] {
        refused(lab, shape, &format!("order {value:?}"), |lab| {
            lab.dev.put("ring-page-order", value)
        })?;
    }
    again(lab)
}

fn more(lab: &mut Lab) -> Result<Outcome> {
    let offers = lab.dev.offers()?;
    for (key, value) in [
        ("multi-queue-num-queues", offers.queues + 1),
        ("ring-page-order", offers.order + 1),
    ] {
        refused(lab, Shape::PLAIN, &format!("{key} {value}"), |lab| {
            lab.dev.put(key, value)
        })?;
    }
    again(lab)
}

/// Connects so that the back end may keep pages, if it does that.
fn keeping(lab: &mut Lab) -> Result<bool> {
    let persistent = lab.dev.offers()?.persistent;
    lab.dev.connect_as(
        Shape {
            persistent,
            ..Shape::PLAIN
        },
        0,
    )?;
    Ok(persistent)
}

fn kept_twice(lab: &mut Lab) -> Result<Outcome> {
    if !keeping(lab)? {
        return Ok(NOT_OFFERED);
    }
    // Fewer in all than the 128 times that Xen maps a page at once.
    let one = vec![lab.dev.pages(1)[0]; 3];
    for round in 0..20 {
        // The first time that the page is seen as well as later.
        let all: Vec<_> = (0..u64::from(ENTRIES))
            .map(|i| {
                let op = if i % 3 == round % 3 && !lab.dev.disk.readonly {
                    WRITE
                } else {
                    READ
                };
                Request::rw(op, i, 0, &one)
            })
            .collect();
        lab.dev.submit(&all)?;
        for rsp in lab.dev.responses(all.len())? {
            ensure!(rsp.status == OKAY, "answered {rsp:?}");
        }
    }
    lab.dev.verify(8, 41)?;
    Ok(Passed)
}

fn kept_cap(lab: &mut Lab) -> Result<Outcome> {
    if !keeping(lab)? {
        return Ok(NOT_OFFERED);
    }
    // The limit of gntalloc is 1,024 pages; what is given up while it is kept does not count.
    for round in 0..4 {
        let pages: Vec<_> = (0..8)
            .map(|_| SharedPages::alloc(lab.dev.backend_id(), 64, true))
            .collect::<std::io::Result<_>>()?;
        let grefs: Vec<_> = pages.iter().flat_map(|p| p.grefs().to_vec()).collect();
        for (i, some) in grefs.chunks(11).enumerate() {
            let segs: Vec<_> = some.iter().map(|gref| Seg::page(*gref)).collect();
            lab.dev.expect(
                &format!("pages {} and on of round {round}", 11 * i),
                Request::rw(READ, i as u64, 0, &segs),
                &[OKAY],
            )?;
        }
    }
    lab.dev.verify(8, 42)?;
    Ok(Passed)
}

fn kept_revoked(lab: &mut Lab) -> Result<Outcome> {
    if !keeping(lab)? {
        return Ok(NOT_OFFERED);
    }
    lab.dev.verify(8, 43)?;
    let old = lab.dev.pages(11);
    lab.dev.drop_buffers()?;
    // Kept, it may still be written to: it is nobody else's page. Not kept, it is refused.
    for op in [READ, WRITE] {
        if op == WRITE && lab.dev.disk.readonly {
            continue;
        }
        let request = Request::rw(op, 5, 128, &old);
        lab.dev.expect("pages given up", request, &[OKAY, ERROR])?;
    }
    lab.dev.verify(8, 44)?;
    Ok(Passed)
}

fn kept_readonly(lab: &mut Lab) -> Result<Outcome> {
    let kept = keeping(lab)?;
    if !kept {
        return Ok(NOT_OFFERED);
    }
    let page = SharedPages::alloc(lab.dev.backend_id(), 1, false)?;
    let segs = [Seg::page(page.grefs()[0])];
    page.write(0, &[0x5a; 64]);
    if !lab.dev.disk.readonly {
        let write = Request::rw(WRITE, 6, 64, &segs);
        lab.dev.expect("write", write, &[OKAY, ERROR])?;
    }
    // Mapped or not, this page cannot be read into.
    for _ in 0..3 {
        lab.dev
            .expect("read", Request::rw(READ, 6, 8, &segs), &[ERROR])?;
    }
    let mut now = [0; 64];
    page.read(0, &mut now);
    ensure!(now == [0x5a; 64], "the page was written");
    lab.dev.verify(8, 45)?;
    Ok(Passed)
}

fn kept_bad(lab: &mut Lab) -> Result<Outcome> {
    if !keeping(lab)? {
        return Ok(NOT_OFFERED);
    }
    for bad in [0, 5, 10] {
        // Pages that the back end has not seen yet, and in the second round has.
        lab.dev.drop_buffers()?;
        for op in [READ, WRITE, READ] {
            let mut segs = lab.dev.pages(11);
            segs[bad].gref = 0x7f_ffff;
            let request = Request::rw(op, 7, 0, &segs);
            lab.dev.expect("one bad page", request, &[ERROR])?;
        }
        lab.dev.verify(8, 46)?;
    }
    Ok(Passed)
}

fn kept_vanish(lab: &mut Lab) -> Result<Outcome> {
    if !keeping(lab)? {
        return Ok(NOT_OFFERED);
    }
    lab.dev.verify(8, 47)?;
    let segs = lab.dev.pages(11);
    let all: Vec<_> = (0..u64::from(ENTRIES))
        .map(|i| Request::rw(READ, i, 0, &segs))
        .collect();
    lab.dev.submit(&all)?;
    lab.dev.drop_ring();
    lab.dev.drop_buffers()?;
    lab.dev.set_state(CLOSED)?;
    lab.dev.await_state(&[CLOSED])?;
    again(lab)
}
