// SPDX-License-Identifier: GPL-2.0
//! Packets that are wrong in themselves. What may happen to a front end without ill will costs it
//! the packet; what no front end does costs it the interface, with one message.

use std::time::Duration;

use super::vif::{extra_slot, slots, Vif};
use super::{Lab, Scenario};
use crate::ktap::Outcome::{self, Passed};
use crate::net::{frames, gso_extra};
use crate::random::Random;
use crate::{ensure, Result};
use protocol::netif::{status, txf, Extra, Info, TxRequest, TxSlot};
use protocol::ring::index::RSP_PROD;
use xen::gntalloc::SharedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("good", "an honest front end: echoes come back whole", good),
    Scenario::new(
        "pieces",
        "good packets cut in all ways, empty pieces too: echoes come back whole",
        pieces,
    )
    .of("xsa423_432_448_net_headers_in_pieces"),
    Scenario::new(
        "slots",
        "19 slots: taken; one to three more: refused, each slot answered",
        too_many_slots,
    )
    .of("xsa39_net_slots_are_answered"),
    Scenario::new("slots-fatal", "30 slots: disabled", slots_fatal),
    Scenario::new(
        "first-size",
        "the first slot's size is less than the sum of the others: refused",
        first_size,
    ),
    Scenario::new("sizes", "0 to 13 bytes: refused", sizes),
    Scenario::new("offset", "a slot beyond its page: disabled", offset),
    Scenario::new(
        "unfinished",
        "the last slot says that there is more: disabled",
        unfinished,
    ),
    Scenario::new(
        "extra-type",
        "extra information of no type: disabled",
        extra_type,
    ),
    Scenario::new(
        "extra-unfinished",
        "extra information without an end, or none at all: disabled",
        extra_unfinished,
    ),
    Scenario::new(
        "extra-twice",
        "extra information of one type twice: refused",
        extra_twice,
    ),
    Scenario::new(
        "gso-wrong",
        "segments of no size or type: disabled",
        gso_wrong,
    ),
    Scenario::new(
        "gso-odd",
        "segmentation of what cannot be segmented: goes on",
        gso_odd,
    ),
    Scenario::new(
        "checksum-odd",
        "blank checksums over garbage: goes on",
        checksum_odd,
    ),
    Scenario::new(
        "gref",
        "references unknown, revoked, of another domain: refused",
        gref,
    )
    .of("xsa362_net_copy_status"),
    Scenario::new(
        "rewrite",
        "packets that change while they are read: answered, nothing else",
        rewrite,
    )
    .of("xsa155_net_rewrite"),
    Scenario::new("padding", "responses show nothing but themselves", padding)
        .of("xsa216_net_padding"),
];

const ANY: &[i16] = &[status::OKAY, status::ERROR, status::DROPPED];

/// An interface that works; entries that must disable it.
pub(super) fn stopped(
    lab: &mut Lab,
    what: impl std::fmt::Display,
    wrong: impl FnOnce(&mut Vif) -> Result,
) -> Result {
    let vif = &mut lab.vif;
    vif.connect()?;
    vif.verify_sends()?;
    wrong(vif).map_err(|e| format!("{what}: {e}"))?;
    std::thread::sleep(Duration::from_millis(50));
    vif.expect_stopped()
        .map_err(|e| format!("{what}: {e}").into())
}

fn good(lab: &mut Lab) -> Result<Outcome> {
    lab.vif.connected()?;
    lab.vif.verify()?;
    for len in [0, 1, 100, 1400] {
        ensure!(lab.vif.echo(len, &[])?, "no echo of {len} bytes");
    }
    Ok(Passed)
}

fn pieces(lab: &mut Lab) -> Result<Outcome> {
    lab.vif.connected()?;
    lab.vif.find_peer()?;
    let mut random = Random::new(lab.options.seed);
    let fixed: [&[usize]; 8] = [
        &[14],
        &[14, 34, 42],
        &[
            15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
        ],
        &[64, 64, 64],
        &[42, 42],
        &[128],
        &[127, 128, 129],
        &[1442, 1442],
    ];
    for cuts in fixed {
        ensure!(lab.vif.echo(1400, cuts)?, "no echo of one cut at {cuts:?}");
    }
    for _ in 0..(lab.options.count / 50).clamp(4, 30) {
        let mut cuts: Vec<_> = (0..random.below(19))
            .map(|_| 14 + random.below(1400) as usize)
            .collect();
        cuts.sort_unstable();
        ensure!(lab.vif.echo(1400, &cuts)?, "no echo of one cut at {cuts:?}");
    }
    Ok(Passed)
}

/// The requests for an echo request in `count` slots.
fn many(vif: &mut Vif, count: usize) -> Vec<TxRequest> {
    let frame = frames::echo_request(vif.way(), frames::NOBODY, &[7; 400]);
    let cuts: Vec<_> = (1..count).map(|i| 40 + i).collect();
    vif.cut(&frame, &cuts)
}

fn too_many_slots(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connected()?;
    for (count, statuses) in [
        (19, &[status::OKAY]),
        (20, &[status::ERROR]),
        (19, &[status::OKAY]),
        (20, &[status::ERROR]),
    ] {
        let requests = many(vif, count);
        vif.expect(&format!("{count} slots"), &requests, &[], statuses)?;
    }
    vif.verify()?;
    Ok(Passed)
}

fn slots_fatal(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, "30 slots", |vif| {
        let requests = many(vif, 30);
        vif.submit(&slots(&requests, &[]))
    })?;
    Ok(Passed)
}

fn first_size(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connected()?;
    let frame = frames::echo_request(vif.way(), frames::NOBODY, &[7; 400]);
    for (size, cuts) in [
        (0, &[100][..]),
        (100, &[100]),
        (341, &[100]),
        (60, &[50, 60, 70]),
        (1, &[50, 60, 70]),
    ] {
        let mut requests = vif.cut(&frame, cuts);
        requests[0].size = size;
        vif.expect(
            &format!("{size} bytes cut at {cuts:?}"),
            &requests,
            &[],
            &[status::ERROR],
        )?;
    }
    vif.verify()?;
    Ok(Passed)
}

fn sizes(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connected()?;
    for size in [0, 1, 13] {
        let one = vif.part(&[0x55; 64], 0);
        let one = TxRequest { size, ..one };
        vif.expect(&format!("{size} bytes"), &[one], &[], &[status::ERROR])?;
    }
    // The header in pieces, which a front end has to put together.
    for first in [1, 13] {
        let frame = frames::echo_request(vif.way(), frames::NOBODY, &[7; 100]);
        let requests = vif.cut(&frame, &[first]);
        vif.expect(
            &format!("{first} bytes first"),
            &requests,
            &[],
            &[status::ERROR],
        )?;
    }
    // No more than the header is a packet, if one that nobody takes.
    let frame = &frames::arp_request(vif.way())[..frames::ETH];
    let one = vif.whole(frame);
    vif.expect("a header", &one, &[], ANY)?;
    vif.verify()?;
    Ok(Passed)
}

fn offset(lab: &mut Lab) -> Result<Outcome> {
    for (offset, size) in [(4095, 60), (4096, 60), (65535, 60), (0, 4097), (100, 65535)] {
        stopped(lab, format!("{size} bytes at {offset}"), |vif| {
            let one = vif.part(&[0x55; 60], offset);
            vif.submit(&[TxRequest { size, ..one }.into()])
        })?;
    }
    stopped(lab, "a second slot beyond its page", |vif| {
        let frame = frames::echo_request(vif.way(), frames::NOBODY, &[7; 400]);
        let mut requests = vif.cut(&frame, &[100]);
        requests[1].offset = 4096 - 10;
        vif.submit(&slots(&requests, &[]))
    })?;
    Ok(Passed)
}

fn unfinished(lab: &mut Lab) -> Result<Outcome> {
    for count in [1, 3] {
        stopped(lab, format!("{count} slots"), |vif| {
            let mut requests = many(vif, count);
            requests[count - 1].flags |= txf::MORE_DATA;
            vif.submit(&slots(&requests, &[]))
        })?;
    }
    Ok(Passed)
}

/// A good request that announces extra information.
fn announcing(vif: &mut Vif) -> TxSlot {
    let frame = frames::arp_request(vif.way());
    let mut one = vif.whole(&frame)[0];
    one.flags |= txf::EXTRA_INFO;
    one.into()
}

fn extra_type(lab: &mut Lab) -> Result<Outcome> {
    for kind in [0, 6, 200, 255] {
        stopped(lab, format!("type {kind}"), |vif| {
            let first = announcing(vif);
            vif.submit(&[first, extra_slot(kind, false, [1; 6])])
        })?;
    }
    Ok(Passed)
}

fn extra_unfinished(lab: &mut Lab) -> Result<Outcome> {
    stopped(lab, "no extra information", |vif| {
        let first = announcing(vif);
        vif.submit(&[first])
    })?;
    stopped(lab, "one piece of extra information", |vif| {
        let first = announcing(vif);
        vif.submit(&[first, extra_slot(4, true, [0; 6])])
    })?;
    Ok(Passed)
}

const HASH: Extra = Extra {
    info: Info::Hash {
        kind: 1,
        algorithm: 1,
        value: 0x1234_5678,
    },
    more: false,
};

fn extra_twice(lab: &mut Lab) -> Result<Outcome> {
    let refused = match lab.options.tolerant {
        true => ANY,
        false => &[status::ERROR],
    };
    let vif = &mut lab.vif;
    vif.connected()?;
    let frame = frames::arp_request(vif.way());
    let one = vif.whole(&frame);
    vif.expect("a hash", &one, &[HASH], &[status::OKAY])?;
    for count in [2, 3, 100] {
        vif.expect(
            &format!("a hash {count} times"),
            &one,
            &vec![HASH; count],
            refused,
        )?;
    }
    vif.verify()?;
    Ok(Passed)
}

fn gso_wrong(lab: &mut Lab) -> Result<Outcome> {
    for (size, kind) in [(0, 1), (1448, 0), (1448, 3), (1448, 255), (0, 0)] {
        stopped(lab, format!("size {size}, type {kind}"), |vif| {
            let frame = frames::tcp(vif.way(), 3000);
            let requests = vif.whole(&frame);
            vif.submit(&slots(&requests, &[gso_extra(size, kind)]))
        })?;
    }
    Ok(Passed)
}

fn gso_odd(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connected()?;
    vif.verify()?;
    let way = vif.way();
    let blank = txf::CSUM_BLANK | txf::DATA_VALIDATED;
    let all = [
        frames::tcp(way, 3000),
        frames::tcp(way, 60_000),
        frames::tcp(way, 0),
        frames::tcp6(way, 20_000),
        frames::arp_request(way),
        frames::echo_request(way, frames::NOBODY, &[3; 1000]),
        frames::tcp(way, 1000)[..40].to_vec(),
        frames::tcp(way, 1000)[..54].to_vec(),
        frames::ip(way, 6, 1, &[0; 4]),
        vec![0xff; 200],
    ];
    for (i, frame) in all.iter().enumerate() {
        for (size, kind) in [(1448, 1), (1448, 2), (1, 1), (65535, 1), (8, 2)] {
            for flags in [0, blank, txf::DATA_VALIDATED] {
                let mut requests = vif.whole(frame);
                requests[0].flags |= flags;
                let what = format!("frame {i}, size {size}, type {kind}, flags {flags}");
                vif.expect(&what, &requests, &[gso_extra(size, kind)], ANY)?;
            }
        }
    }
    vif.verify()?;
    Ok(Passed)
}

fn checksum_odd(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connected()?;
    vif.verify()?;
    let mut random = Random::new(lab.options.seed);
    let way = vif.way();
    for round in 0..100 {
        let frame = frames::garbled(way, round, &mut random);
        for flags in [txf::CSUM_BLANK, txf::CSUM_BLANK | txf::DATA_VALIDATED] {
            let mut requests = vif.whole(&frame);
            requests[0].flags |= flags;
            let what = format!("{frame:?} with flags {flags}");
            vif.expect(&what, &requests, &[], ANY)?;
        }
    }
    vif.verify()?;
    Ok(Passed)
}

fn gref(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connected()?;
    let other = SharedPages::alloc(vif.backend_id() ^ 0x1000, 1, true)?;
    let bad = [
        0x7f_ffff,
        0xffff_ffff,
        0x8000_0000,
        30_000,
        vif.revoked_gref()?,
        other.grefs()[0],
    ];
    let frame = frames::echo_request(vif.way(), frames::NOBODY, &[7; 400]);
    for gref in bad {
        for (cuts, at) in [
            (&[][..], 0),
            (&[100, 200], 0),
            (&[100, 200], 1),
            (&[100, 200], 2),
        ] {
            let mut requests = vif.cut(&frame, cuts);
            requests[at].gref = gref;
            vif.expect(
                &format!("reference {gref:#x} in slot {at} of {}", requests.len()),
                &requests,
                &[],
                &[status::ERROR],
            )?;
        }
    }
    vif.verify()?;
    Ok(Passed)
}

/// Sends a packet of four slots, and writes to the entry of slot `at`, over and over, while it is looked
/// at: `values` in turn, each at a byte of the entry. The number of slots answered.
fn race(vif: &mut Vif, at: u32, values: &[(usize, [u8; 4])]) -> Result<usize> {
    let frame = frames::echo_request(vif.way(), frames::NOBODY, &[7; 600]);
    let requests = vif.cut(&frame, &[100, 200, 300]);
    let queue = vif.queue()?;
    let entry = queue.tx.offset(queue.tx.prod.wrapping_add(at));
    let before = queue.tx.theirs();
    vif.submit(&slots(&requests, &[]))?;
    let tx = &vif.queue()?.tx;
    for (offset, value) in values.iter().cycle().take(1500) {
        tx.page.write(entry + offset, value);
        if tx.page.load(RSP_PROD) != before {
            break;
        }
    }
    let all = vif.answers_within(requests.len(), Duration::from_millis(300))?;
    Ok(all.len())
}

fn rewrite(lab: &mut Lab) -> Result<Outcome> {
    let rounds = lab.options.count.min(200) as u32;
    let vif = &mut lab.vif;
    vif.connect()?;
    vif.verify()?;
    let good = vif.data.grefs()[0].to_le_bytes();
    let bad = 0x7f_ffffu32.to_le_bytes();
    for round in 0..rounds {
        // Another reference: whichever was copied, it is answered.
        let answered = race(vif, round % 4, &[(0, good), (0, bad)])?;
        ensure!(answered == 4, "{answered} of 4 slots were answered");
    }
    vif.verify()?;
    for round in 0..rounds.min(8) {
        // Bounds beyond the page: if they were copied, that is the end of it.
        let wild = [(4, 60_000u32.to_le_bytes()), (4, [0; 4])];
        if race(vif, round % 4, &wild)? < 4 {
            vif.expect_stopped()?;
            vif.connect()?;
        }
    }
    vif.connect()?;
    vif.verify()?;
    Ok(Passed)
}

fn padding(lab: &mut Lab) -> Result<Outcome> {
    let vif = &mut lab.vif;
    vif.connected()?;
    for _ in 0..16 {
        let frame = frames::arp_request(vif.way());
        let requests = vif.whole(&frame);
        let tx = &vif.queue()?.tx;
        let at = tx.offset(tx.prod);
        vif.expect("a good packet", &requests, &[], &[status::OKAY])?;
        let mut now = [0; 12];
        vif.queue()?.tx.page.read(at, &mut now);
        let mut sent = [0; 12];
        use protocol::ring::Codec;
        protocol::netif::Tx.encode_request(&requests[0].into(), &mut sent);
        ensure!(
            now[4..] == sent[4..] || now[4..] == [0; 8],
            "behind a response is {:?}",
            &now[4..]
        );
    }
    vif.verify()?;
    Ok(Passed)
}
