// SPDX-License-Identifier: GPL-2.0
//! Packets for the guest that are wrong. The front end drops them, and goes on; only where it can rely
//! on nothing any more it gives the interface up.

use std::time::Duration;

use super::vif::Vif;
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::net::{frames, gso_extra};
use crate::random::Random;
use crate::Result;
use protocol::netif::{rxf, Extra, Info, RxResponse, RxSlot};
use xen::gntdev::MappedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "rx-overrun",
        "packets for pages that were not given, or fewer than before: given up",
        overrun,
    )
    .of("xsa376_net_receive_overrun"),
    Scenario::new(
        "rx-keep-grant",
        "a packet in a page that is still mapped: given up",
        keep_grant,
    )
    .of("xsa396_net_receive"),
    Scenario::new(
        "rx-id",
        "responses with each other's id, or the same twice: dropped",
        id,
    ),
    Scenario::new("rx-page", "parts beyond their page: dropped", page),
    Scenario::new("rx-status", "negative sizes: dropped", status),
    Scenario::new("rx-slots", "packets of 19 to 200 parts: dropped", slots),
    Scenario::new(
        "rx-unfinished",
        "the last part says that there is more: dropped",
        unfinished,
    ),
    Scenario::new(
        "rx-extra",
        "extra information of no type, twice, without an end: dropped",
        extra,
    ),
    Scenario::new("rx-gso", "segments of no size or type: dropped", gso),
    Scenario::new(
        "rx-gso-odd",
        "segmentation of what cannot be segmented: goes on",
        gso_odd,
    ),
    Scenario::new(
        "rx-header",
        "frames of 0 to 14 bytes, empty parts: goes on",
        header,
    )
    .of("net_short_ethernet_header"),
    Scenario::new(
        "rx-garbage",
        "blank checksums over garbage: goes on",
        garbage,
    ),
    Scenario::new(
        "rx-rewrite",
        "responses that change while they are read: goes on, or is given up",
        rewrite,
    ),
];

/// An interface that goes on after `wrong`.
fn goes_on(lab: &mut Lab, wrong: impl FnOnce(&mut Vif) -> Result) -> Result<Outcome> {
    lab.with(|vif| {
        vif.connect()?;
        vif.find_guest()?;
        wrong(vif)?;
        vif.verify()
    })
}

fn overrun(lab: &mut Lab) -> Result<Outcome> {
    for by in [1, 1 << 31] {
        lab.stopped(format!("{by} beyond the requests"), |vif| {
            let queue = vif.queue()?;
            queue.rx.claim(queue.rx.theirs().wrapping_add(by));
            queue.notify_rx()
        })?;
    }
    lab.stopped("back by one", |vif| {
        let queue = vif.queue()?;
        queue.rx.claim(queue.rx.prod.wrapping_sub(1));
        queue.notify_rx()
    })?;
    Ok(Passed)
}

fn keep_grant(lab: &mut Lab) -> Result<Outcome> {
    lab.stopped("a page kept", |vif| {
        let (_, frame, _) = vif.echo_request(1400);
        let to = vif.room(1)?[0];
        let page = MappedPages::map(vif.guest, &[to.gref], true)?;
        let response = vif.fill(&to, &frame)?;
        vif.put_rx(&[response], &[])?;
        vif.expect_stopped()?;
        drop(page);
        Ok(())
    })?;
    Ok(Passed)
}

fn id(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        let frame = frames::arp_request(vif.way());
        for change in [1, 255, 256, 0x8000] {
            let room = vif.room(2)?;
            for to in &room {
                let mut response = vif.fill(to, &frame)?;
                response.id = response.id.wrapping_add(change);
                vif.put_rx(&[response], &[])?;
            }
        }
        let room = vif.room(2)?;
        for _ in 0..2 {
            let response = vif.fill(&room[0], &frame)?;
            vif.put_rx(&[response], &[])?;
        }
        Ok(())
    })
}

fn page(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        for (offset, size) in [
            (4095, 60),
            (4096, 60),
            (65_535, 60),
            (0, 4097),
            (100, 32_767),
            (65_000, 32_767),
        ] {
            let response = RxResponse {
                offset,
                status: size,
                ..vif.cut(&[7; 60], &[])?[0]
            };
            vif.put_rx(&[response], &[])?;
            // As a part that follows a good one, too.
            let mut all = vif.cut(&[7; 100], &[60])?;
            (all[1].offset, all[1].status) = (offset, size);
            vif.put_rx(&all, &[])?;
        }
        Ok(())
    })
}

fn status(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        for status in [-1, -2, -3, i16::MIN] {
            for at in 0..3 {
                let mut all = vif.cut(&[7; 300], &[60, 120])?;
                all[at].status = status;
                vif.put_rx(&all, &[])?;
            }
        }
        Ok(())
    })
}

fn slots(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        for count in [18, 19, 20, 21, 60, 100, 200] {
            let cuts: Vec<_> = (1..count).map(|i| 20 + i).collect();
            let (_, frame, _) = vif.echo_request(1000);
            let all = vif.cut(&frame, &cuts)?;
            vif.put_rx(&all, &[])?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    })
}

fn unfinished(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        for cuts in [&[][..], &[60], &[60, 120, 180]] {
            let mut all = vif.cut(&[7; 300], cuts)?;
            let last = all.len() - 1;
            all[last].flags |= rxf::MORE_DATA;
            vif.put_rx(&all, &[])?;
            // What is not there in time does not belong to it.
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    })
}

/// Extra information of any type, as an entry.
fn any_extra(kind: u8, more: bool) -> Extra {
    let info = match kind {
        1 => Info::Gso {
            size: 1000,
            kind: 1,
            features: 0,
        },
        2 => Info::McastAdd([1; 6]),
        3 => Info::McastDel([1; 6]),
        4 => Info::Hash {
            kind: 1,
            algorithm: 1,
            value: 0x1234_5678,
        },
        5 => Info::Xdp { headroom: 0 },
        other => Info::Other(other),
    };
    Extra { info, more }
}

/// Sends a frame with this extra information.
pub(super) fn with_extras(vif: &mut Vif, frame: &[u8], flags: u16, extras: &[Extra]) -> Result {
    let mut all = vif.cut_around(frame, &[], extras.len())?;
    all[0].flags |= flags;
    vif.put_rx(&all, extras)
}

fn extra(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        let frame = frames::arp_request(vif.way());
        for kind in [0, 2, 3, 6, 200, 255] {
            with_extras(vif, &frame, 0, &[any_extra(kind, false)])?;
        }
        for count in [2, 3, 50] {
            with_extras(vif, &frame, 0, &vec![any_extra(4, false); count])?;
        }
        // None where one is announced, and none behind one that announces it.
        with_extras(vif, &frame, rxf::EXTRA_INFO, &[])?;
        std::thread::sleep(Duration::from_millis(50));
        with_extras(vif, &frame, 0, &[any_extra(4, true)])?;
        std::thread::sleep(Duration::from_millis(50));
        with_extras(vif, &frame, 0, &[any_extra(4, false)])
    })
}

fn gso(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        let frame = frames::tcp(vif.way(), 3000);
        for (size, kind) in [(0, 1), (1000, 0), (1000, 3), (1000, 255), (0, 0)] {
            with_extras(vif, &frame, 0, &[gso_extra(size, kind)])?;
        }
        Ok(())
    })
}

fn gso_odd(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        let way = vif.way();
        let blank = rxf::CSUM_BLANK | rxf::DATA_VALIDATED;
        let all = [
            frames::tcp(way, 3000),
            frames::tcp(way, 60_000),
            frames::tcp(way, 0),
            frames::tcp6(way, 20_000),
            frames::arp_request(way),
            frames::echo_request(way, frames::NOBODY, &[3; 1000]),
            frames::tcp(way, 1000)[..40].to_vec(),
            frames::tcp(way, 1000)[..54].to_vec(),
            vec![0xff; 200],
        ];
        for frame in &all {
            for (size, kind) in [(1448, 1), (1448, 2), (1, 1), (65_535, 1), (8, 2)] {
                for flags in [0, blank, rxf::DATA_VALIDATED] {
                    with_extras(vif, frame, flags, &[gso_extra(size, kind)])?;
                }
            }
            vif.serve_for(Duration::from_millis(10))?;
        }
        Ok(())
    })
}

fn header(lab: &mut Lab) -> Result<Outcome> {
    goes_on(lab, |vif| {
        let frame = frames::arp_request(vif.way());
        for len in 0..=14 {
            vif.send(&frame[..len], &[])?;
        }
        for cuts in [&[1][..], &[13], &[14], &[0, 0], &[0, 13, 13], &[42, 42, 42]] {
            let (number, frame, sent) = vif.echo_request(100);
            vif.send(&frame, cuts)?;
            vif.echo_answer(number, &sent)
                .map_err(|e| format!("cut at {cuts:?}: {e}"))?;
        }
        Ok(())
    })
}

fn garbage(lab: &mut Lab) -> Result<Outcome> {
    let mut random = Random::new(lab.options.seed);
    goes_on(lab, |vif| {
        let way = vif.way();
        for round in 0..200 {
            let frame = frames::garbled(way, round, &mut random);
            let mut all = vif.cut(&frame, &[])?;
            all[0].flags |= random.bits() as u16 & !(rxf::MORE_DATA | rxf::EXTRA_INFO);
            vif.put_rx(&all, &[])?;
            vif.serve_for(Duration::from_millis(1))?;
        }
        Ok(())
    })
}

fn rewrite(lab: &mut Lab) -> Result<Outcome> {
    // Less than a ring: what is written too late would hit the guest's next request.
    let rounds = lab.options.count.min(200);
    lab.with(|vif| {
        vif.connect()?;
        vif.find_guest()?;
        for _ in 0..rounds {
            let (_, frame, _) = vif.echo_request(300);
            let all = vif.cut(&frame, &[])?;
            let rx = &vif.queue()?.rx;
            let at = rx.offset(rx.prod);
            vif.put_rx(&all, &[])?;
            let rx = &vif.queue()?.rx;
            for i in 0..300u16 {
                let (offset, size): (u16, i16) = match i % 3 {
                    0 => (0, 342),
                    1 => (4000, 342),
                    _ => (0, 20_000),
                };
                rx.page.write(at + 2, &offset.to_le_bytes());
                rx.page.write(at + 6, &size.to_le_bytes());
            }
            vif.serve_for(Duration::from_millis(1))?;
        }
        Ok(())
    })?;
    Ok(Passed)
}

/// A response as an entry of any bytes; for the random scenarios.
pub(super) fn raw(vif: &mut Vif, slots: &[RxSlot]) -> Result {
    let queue = vif.queue()?;
    slots.iter().for_each(|slot| queue.rx.response(slot));
    queue.rx.publish();
    queue.notify_rx()
}
