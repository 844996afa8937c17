// SPDX-License-Identifier: GPL-2.0
//! Indices, notifications and pages to receive into that are wrong. A ring whose producer is where it
//! cannot be costs the interface; anything else is served or ignored.

use std::time::{Duration, Instant};

use super::packets::stopped;
use super::vif::{slots, Shape, Vif, NONE};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::net::frames;
use crate::nodes::{CLOSED, CONNECTED};
use crate::{ensure, Result};
use protocol::netif::status;
use protocol::ring::index::{REQ_EVENT, RSP_PROD};
use xen::gntalloc::SharedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "shapes",
        "several queues, two channels each, headroom: every queue serves",
        shapes,
    ),
    Scenario::new(
        "full-again",
        "the whole ring again and again, indices wrap: served",
        full_again,
    ),
    Scenario::new(
        "tx-overrun",
        "a transmit producer one or 2^31 too far, or gone back: disabled",
        tx_overrun,
    )
    .of("xsa39_net_overrun"),
    Scenario::new(
        "rx-overrun",
        "a receive producer one or 2^31 too far, or gone back: disabled",
        rx_overrun,
    ),
    Scenario::new(
        "response-index",
        "the back end's own indices overwritten: goes on",
        response_index,
    ),
    Scenario::new(
        "event-storm",
        "5,000 notifications for nothing: goes on",
        event_storm,
    )
    .of("xsa332_net_event_storm"),
    Scenario::new(
        "rx-gref",
        "bad references to receive into: those parts fail, the others do not",
        rx_gref,
    )
    .of("xsa362_net_receive_status"),
    Scenario::new(
        "rx-none",
        "nothing to receive into: so much waits, and is dropped in time",
        rx_none,
    )
    .of("xsa392_net_receive_queue"),
    Scenario::new(
        "rx-disabled",
        "disabled while packets wait: the test looks at what has become of them",
        rx_disabled,
    )
    .of("xsa392_net_disabled_queue"),
    Scenario::new(
        "vanish",
        "rings, pages and channel given up with packets in flight",
        vanish,
    )
    .of("xsa350_net_gone_in_flight"),
    Scenario::new(
        "closed-at-once",
        "Closed with packets in flight, without Closing",
        closed_at_once,
    ),
];

fn shapes(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.restart()?;
    let most = vif.theirs("multi-queue-max-queues")?.unwrap_or(1) as usize;
    let split = vif.theirs("feature-split-event-channels")?.unwrap_or(0) > 0;
    for shape in [
        Shape {
            split,
            ..Shape::PLAIN
        },
        Shape {
            queues: most.min(2),
            split,
            ..Shape::PLAIN
        },
        Shape {
            queues: most.min(4),
            ..Shape::PLAIN
        },
        Shape {
            headroom: 256,
            ..Shape::PLAIN
        },
    ] {
        if lab.options.tolerant && shape.headroom > 0 {
            // The C back end counts it among the bytes.
            continue;
        }
        vif.connect_as(shape, u32::MAX - 3)?;
        for queue in 0..shape.queues {
            vif.use_queue(queue);
            vif.verify()
                .map_err(|e| format!("{shape:?}, queue {queue}: {e}"))?;
        }
    }
    Ok(Passed)
}

fn full_again(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connect_as(Shape::PLAIN, u32::MAX - 300)?;
    for _ in 0..3 {
        load(vif)?;
        let all = vif.answers(256)?;
        ensure!(
            all.iter().all(|a| a.status == status::OKAY),
            "answered {all:?}"
        );
    }
    vif.verify()?;
    Ok(Passed)
}

/// As many small packets as the ring holds.
fn load(vif: &mut Vif) -> Result {
    let frame = frames::arp_request(vif.way());
    let requests: Vec<_> = (0..256).flat_map(|_| vif.whole(&frame)).collect();
    let all: Vec<_> = requests.into_iter().map(Into::into).collect();
    vif.submit(&all)
}

fn tx_overrun(lab: &mut Lab) -> Result<Outcome> {
    for by in [257, 1 << 31, u32::MAX] {
        stopped(lab, format!("by {by}"), |vif| {
            let queue = vif.queue()?;
            queue.tx.claim(queue.tx.prod.wrapping_add(by));
            Ok(queue.channel.notify()?)
        })?;
    }
    Ok(Passed)
}

fn rx_overrun(lab: &mut Lab) -> Result<Outcome> {
    if lab.options.tolerant {
        return Ok(Skipped("the C back end does not look"));
    }
    let vif = &mut lab.vif;
    for by in [257, 1 << 31, u32::MAX] {
        vif.connect()?;
        vif.verify_sends()?;
        let until = Instant::now() + vif.timeout();
        loop {
            let queue = vif.queue()?;
            // From what the back end has answered so far: a packet for the guest, just now, makes room
            // for one request more.
            queue.rx.claim(queue.rx.theirs().wrapping_add(by));
            queue.notify_rx()?;
            // It is a thread that looks at this ring: on a busy host, packets are taken until it does.
            let Err(e) = vif.expect_stopped() else {
                break;
            };
            ensure!(Instant::now() < until, "by {by}: {e}");
            let queue = vif.queue()?;
            queue.tx.cons = queue.tx.theirs();
        }
    }
    Ok(Passed)
}

fn response_index(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connect()?;
    vif.verify()?;
    for value in [0, 1, u32::MAX, 1 << 31] {
        let frame = frames::arp_request(vif.way());
        let requests = vif.whole(&frame);
        let queue = vif.queue()?;
        for page in [&queue.tx.page, &queue.rx.page] {
            page.store(RSP_PROD, queue.tx.prod.wrapping_add(value));
            page.store(REQ_EVENT, value);
        }
        vif.submit(&slots(&requests, &[]))?;
        // The private index counts: the next response puts the shared one right.
        std::thread::sleep(Duration::from_millis(100));
        let queue = vif.queue()?;
        let (at, want) = (queue.tx.theirs(), queue.tx.prod);
        ensure!(
            at == want,
            "the back end answered at {at}, its own index is {want}"
        );
        queue.tx.cons = want;
    }
    // What has become of the receive ring, only the back end knows.
    vif.connect()?;
    vif.verify()?;
    Ok(Passed)
}

fn event_storm(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connect()?;
    for _ in 0..5_000 {
        vif.queue()?.channel.notify()?;
    }
    vif.verify()?;
    Ok(Passed)
}

fn rx_gref(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    let shape = Shape {
        receives: false,
        ..Shape::PLAIN
    };
    let readonly = SharedPages::alloc(vif.backend_id(), 1, false)?;
    let other = SharedPages::alloc(vif.backend_id() ^ 0x1000, 1, true)?;
    let bad = [
        0x7f_ffff,
        0xffff_ffff,
        vif.revoked_gref()?,
        readonly.grefs()[0],
        other.grefs()[0],
    ];
    vif.connect_as(shape, 0)?;
    let queue = vif.queue()?;
    bad.iter().for_each(|gref| queue.post(NONE, *gref));
    queue.rx.publish();
    queue.notify_rx()?;
    let before = vif.failed;
    let until = Instant::now() + vif.timeout();
    while vif.failed < before + bad.len() as u64 {
        ensure!(
            Instant::now() < until,
            "{} of {} parts have failed",
            vif.failed - before,
            bad.len()
        );
        vif.verify_sends()?;
        vif.frame(Duration::from_millis(100), |_| None::<()>)?;
    }
    ensure!(vif.frames.is_empty(), "a frame has come to nowhere");
    vif.shape.receives = true;
    vif.post_all()?;
    vif.verify()?;
    Ok(Passed)
}

/// The back end is to keep 512 KiB of packets, and no packet longer than its parameter
/// `rx_drain_timeout_msecs` says; the test sets that to a second.
fn rx_none(lab: &mut Lab) -> Result<Outcome> {
    const SENT: usize = 20_000;
    // So many answers of 42 bytes it keeps; the stack holds as many as the interface's queue is long,
    // 1000 (by pfifo_fast, which the test sets), and the ring had room for 256; and some are on the way.
    const KEPT: usize = 512 * 1024 / 42 + 1000 + 256 + 64;
    let vif = &mut lab.vif;
    let (mut counts, dropped) = ([0; 2], Duration::from_millis(3500));
    let mut slow = false;
    for (count, time) in counts.iter_mut().zip([Duration::ZERO, dropped]) {
        vif.connect()?;
        vif.verify()?;
        // The pages that the back end has are used up, and no more are given.
        vif.shape.receives = false;
        let began = Instant::now();
        flood(vif, SENT)?;
        // Most have expired before the last is sent.
        slow |= began.elapsed() > Duration::from_secs(20);
        std::thread::sleep(time);
        vif.frame(Duration::from_millis(100), |_| None::<()>)?;
        vif.shape.receives = true;
        vif.post_all()?;
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(300) {
            let some = vif.frame(Duration::from_millis(100), Some)?.is_some();
            *count += usize::from(some);
            if some {
                last = Instant::now();
            }
        }
        vif.verify()?;
    }
    let [at_once, later] = counts;
    println!("# of {SENT} answers {at_once} had waited; {later} for {dropped:?}");
    ensure!(
        at_once <= KEPT && (slow || at_once >= KEPT / 10),
        "{at_once} of {SENT} answers had waited, which should be {KEPT} at most"
    );
    ensure!(
        later < 100,
        "{later} of {SENT} answers had waited for {dropped:?}"
    );
    Ok(Passed)
}

/// What waits, perhaps another guest's memory, waits for nobody once the interface is disabled. That only
/// dom0 can see: the interface stays as it is for a while.
fn rx_disabled(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, "with packets waiting", |vif| {
        vif.shape.receives = false;
        let began = Instant::now();
        while began.elapsed() < vif.timeout() / 5 {
            // Nothing waits for longer than a second.
            flood(vif, 1_000)?;
        }
        let queue = vif.queue()?;
        queue.tx.claim(queue.tx.prod.wrapping_add(257));
        Ok(queue.channel.notify()?)
    })?;
    std::thread::sleep(Duration::from_secs(3));
    lab.vif.shape.receives = true;
    Ok(Passed)
}

/// Asks for the bridge's address, so often; nobody takes the answers.
fn flood(vif: &mut Vif, count: usize) -> Result {
    let frame = frames::arp_request(vif.way());
    for _ in 0..count / 200 {
        let requests: Vec<_> = (0..200).flat_map(|_| vif.whole(&frame)).collect();
        let all: Vec<_> = requests.into_iter().map(Into::into).collect();
        vif.submit(&all)?;
        vif.answers(200)?;
    }
    Ok(())
}

fn vanish(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connect()?;
    vif.verify()?;
    load(vif)?;
    vif.drop_rings();
    vif.drop_pages()?;
    std::thread::sleep(Duration::from_millis(200));
    vif.set_state(CLOSED)?;
    vif.await_state(&[CLOSED])?;
    vif.connect()?;
    vif.verify()?;
    Ok(Passed)
}

fn closed_at_once(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connect()?;
    ensure!(vif.their_state()? == CONNECTED, "not connected");
    load(vif)?;
    vif.set_state(CLOSED)?;
    vif.await_state(&[CLOSED])?;
    vif.drop_rings();
    vif.connect()?;
    vif.verify()?;
    Ok(Passed)
}

/// Puts requests for pages of no meaning; for the random scenarios.
pub(super) fn post_bad(vif: &mut Vif, gref: u32) -> Result {
    let queue = vif.queue()?;
    if queue.rx.free() > 0 {
        queue.post(NONE, gref);
        queue.rx.publish();
        queue.notify_rx()?;
    }
    Ok(())
}
