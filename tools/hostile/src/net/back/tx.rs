// SPDX-License-Identifier: GPL-2.0
//! Answers to what the guest sends that are wrong. The front end gives the interface up with one
//! message: nothing comes any more, and it goes away in good order.

use std::time::Duration;

use super::vif::{Sent, Vif};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::net::frames;
use crate::{ensure, Result};
use protocol::netif::status;
use protocol::ring::index::{REQ_PROD, RSP_EVENT};
use xen::gntdev::MappedPages;
use xen::privcmd;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("good", "an honest back end: echoes come back whole", good),
    Scenario::new("tx-twice", "an answer twice: given up", twice).of("xsa376_net_answer_twice"),
    Scenario::new(
        "tx-id",
        "answers for ids that are free, or beyond all: given up",
        id,
    )
    .of("xsa376_net_not_pending"),
    Scenario::new(
        "tx-null",
        "an answer to extra information that was not sent: given up",
        null,
    ),
    Scenario::new(
        "tx-overrun",
        "more answers than requests, or fewer than before: given up",
        overrun,
    )
    .of("xsa376_net_overrun"),
    Scenario::new(
        "tx-keep-grant",
        "an answer while the page is still mapped: given up",
        keep_grant,
    )
    .of("xsa396_net_end_access"),
    Scenario::new(
        "tx-status",
        "errors, and a status that does not exist: goes on",
        statuses,
    ),
    Scenario::new(
        "tx-never",
        "no answer, then Closed: gone, and nothing is left",
        never,
    ),
    Scenario::new(
        "tx-never-mapped",
        "no answer, and the pages mapped for longer than that: they are kept",
        never_mapped,
    ),
    Scenario::new(
        "tx-some",
        "a few answers of many, too few for an event: taken all the same",
        some,
    ),
    Scenario::new(
        "request-index",
        "the front end's own indices and requests overwritten: goes on",
        request_index,
    )
    .of("xsa155_net_front_copies"),
    Scenario::new(
        "untrusted",
        "the key trusted=0: pages show nothing but packets",
        untrusted,
    )
    .of("xsa403_net_zeroed_pages"),
    Scenario::new(
        "event-storm",
        "5,000 notifications for nothing: goes on",
        event_storm,
    )
    .of("xsa391_net_event_storm"),
    Scenario::new(
        "vanish",
        "rings, channels and store entries gone with packets in flight",
        vanish,
    ),
];

fn good(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        vif.verify()?;
        for (len, cuts) in [
            (0, &[][..]),
            (1, &[]),
            (214, &[]),
            (215, &[]),
            (1400, &[14, 34, 42, 64]),
            (1400, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            (
                1400,
                &[
                    100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200,
                ],
            ),
        ] {
            vif.echo(len, cuts)?;
        }
        Ok(())
    })
}

fn twice(lab: &mut Lab) -> Result<Outcome> {
    lab.stopped("twice", |vif| {
        let sent = vif.trigger()?;
        vif.answer(&sent, status::OKAY)?;
        vif.answer_one(sent.queue, sent.requests[0].id, status::OKAY)
    })?;
    lab.stopped("twice in place of another's", |vif| {
        let one = vif.trigger()?;
        vif.answer(&one, status::OKAY)?;
        let other = vif.trigger()?;
        let id = other.requests[0].id;
        let wrong = (id + 1) % 256;
        vif.answer_one(other.queue, wrong, status::OKAY)
    })?;
    Ok(Passed)
}

fn id(lab: &mut Lab) -> Result<Outcome> {
    for id in [200, 256, 1000, 65_534, 65_535] {
        lab.stopped(format!("id {id}"), |vif| {
            let sent = vif.trigger()?;
            vif.answer_one(sent.queue, id, status::OKAY)
        })?;
    }
    Ok(Passed)
}

fn null(lab: &mut Lab) -> Result<Outcome> {
    lab.stopped("extra information", |vif| {
        let sent = vif.trigger()?;
        vif.answer_one(sent.queue, sent.requests[0].id, status::NULL)
    })?;
    Ok(Passed)
}

fn overrun(lab: &mut Lab) -> Result<Outcome> {
    // The last is back by more than the front end can have yet to look at.
    for by in [257, 1 << 31, 0u32.wrapping_sub(257)] {
        lab.stopped(format!("by {by}"), |vif| {
            let sent = vif.trigger()?;
            vif.answer(&sent, status::OKAY)?;
            let tx = &vif.queue()?.tx;
            tx.claim(tx.prod.wrapping_add(by));
            Ok(vif.queue()?.channel.notify()?)
        })?;
    }
    Ok(Passed)
}

fn keep_grant(lab: &mut Lab) -> Result<Outcome> {
    lab.stopped("a page kept", |vif| {
        let sent = vif.trigger()?;
        let page = MappedPages::map(vif.guest, &[sent.requests[0].gref], false)?;
        vif.answer(&sent, status::OKAY)?;
        // Long enough for the front end to look, and for it to look again.
        std::thread::sleep(Duration::from_millis(300));
        vif.expect_stopped()?;
        drop(page);
        Ok(())
    })?;
    Ok(Passed)
}

fn statuses(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        for status in [
            status::ERROR,
            status::DROPPED,
            -3,
            2,
            77,
            i16::MAX,
            i16::MIN,
        ] {
            let sent = vif.trigger()?;
            vif.answer(&sent, status)?;
        }
        vif.verify()
    })
}

fn never(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        for _ in 0..5 {
            let (_, frame, _) = vif.echo_request(1000);
            vif.find_guest()?;
            vif.send(&frame, &[])?;
        }
        std::thread::sleep(Duration::from_millis(100));
        while vif.next()?.is_some() {}
        Ok(())
    })
}

fn never_mapped(lab: &mut Lab) -> Result<Outcome> {
    let guest = lab.guest;
    let granted = || -> Result<u32> { Ok(Vif::grants(guest)?.granted) };
    let before = granted()?;
    let mut vif = lab.make("")?;
    vif.connect()?;
    let tx = vif.trigger()?.requests[0].gref;
    let rx = vif.room(1)?[0].gref;
    let pages = [
        MappedPages::map(guest, &[tx], false)?,
        MappedPages::map(guest, &[rx], true)?,
    ];
    vif.destroy()?;
    // All but these two is taken back; and of these, however often that is tried, none.
    wait_for("some pages are still granted", || {
        Ok(granted()? <= before + 2)
    })?;
    std::thread::sleep(Duration::from_millis(2500));
    let kept = granted()?;
    ensure!(
        kept >= before + 2,
        "{kept} references are granted, {before} were before two pages were kept mapped"
    );
    pages[1].write(0, &[0xbd; 4096]);
    drop(pages);
    wait_for("what was let go of stays granted", || {
        Ok(granted()? <= before)
    })?;
    Ok(Passed)
}

fn some(lab: &mut Lab) -> Result<Outcome> {
    let guest = lab.guest;
    lab.with(|vif| {
        vif.connect()?;
        let taken = |sent: &Sent| {
            wait_for("a page is not taken back", || {
                Ok(!privcmd::is_granted(guest, sent.requests[0].gref)?)
            })
        };
        for _ in 0..10 {
            let all = (0..9).map(|_| vif.trigger()).collect::<Result<Vec<_>>>()?;
            // There is an event for the first answer. Then it waits for half of the others.
            let (first, rest) = all.split_at(1);
            let (few, late) = rest.split_at(2);
            for several in [first, few, late] {
                several
                    .iter()
                    .try_for_each(|sent| vif.answer_if_asked(sent))?;
                several.iter().try_for_each(taken)?;
            }
        }
        vif.verify()
    })
}

fn wait_for(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result {
    for _ in 0..100 {
        if done()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(what.into())
}

fn request_index(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        vif.verify()?;
        for value in [0, 1, u32::MAX, 1 << 31] {
            let queue = vif.queue()?;
            // What it has in private copies.
            let (tx, rx) = (queue.tx.theirs(), queue.rx.theirs());
            queue.tx.page.store(RSP_EVENT, value);
            for (page, index) in [(&queue.tx.page, tx), (&queue.rx.page, rx)] {
                page.store(REQ_PROD, index.wrapping_add(value));
                page.store(REQ_PROD, index);
            }
            // Entries that were taken and answered, and whose answers were taken.
            std::thread::sleep(Duration::from_millis(50));
            let queue = vif.queue()?;
            for back in 1..20 {
                let at = queue.tx.offset(queue.tx.prod.wrapping_sub(back));
                queue.tx.page.write(at, &[value as u8; 12]);
            }
            vif.queue()?.channel.notify()?;
            vif.verify()?;
        }
        // What the front end has sent, changed before it is answered.
        let sent = vif.trigger()?;
        let queue = vif.queue()?;
        let at = queue.tx.offset(queue.tx.cons.wrapping_sub(1));
        queue.tx.page.write(at, &[0xff; 12]);
        vif.answer(&sent, status::OKAY)?;
        vif.verify()
    })
}

fn untrusted(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.put_theirs("trusted", 0)?;
        vif.connect()?;
        for n in 0..24 {
            // A packet that is large enough to keep the page that it is received in.
            let sent = vif.trigger()?;
            vif.shows_nothing_else(&sent)
                .map_err(|e| format!("packet {n}: {e}"))?;
            vif.answer(&sent, status::OKAY)?;
        }
        vif.verify()?;
        // Packets that keep their pages, which come again; those of others are copied out.
        let frame = frames::echo_request(vif.way(), frames::NOBODY, &[3; 1000]);
        for _ in 0..300 {
            vif.send(&frame, &[])?;
        }
        vif.verify()?;
        for r in vif.room(64)? {
            ensure!(
                vif.page(r.gref)?[256..].iter().all(|byte| *byte == 0),
                "a page to receive into shows what was in it before"
            );
        }
        Ok(())
    })
}

fn event_storm(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        vif.verify()?;
        for _ in 0..2_500 {
            vif.queue()?.channel.notify()?;
            vif.queue()?.notify_rx()?;
        }
        vif.verify()
    })
}

fn vanish(lab: &mut Lab) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        vif.verify()?;
        vif.trigger()?;
        vif.vanish()
    })
}
