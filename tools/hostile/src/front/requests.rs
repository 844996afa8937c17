// SPDX-License-Identifier: GPL-2.0
//! Requests that are wrong in themselves. Each is answered once, with an error and its own id, and
//! the disk goes on serving.

use std::time::{Duration, Instant};

use super::{device::INITIALISED, Lab, Scenario};
use crate::ktap::Outcome::{self, Passed, Skipped};
use crate::wire::*;
use crate::{ensure, Result};
use xen::gntalloc::SharedPages;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "good",
        "an honest front end: write, read back, compare",
        good,
    ),
    Scenario::new(
        "same-id",
        "requests in flight with one and the same id, of all bits: all answered",
        same_id,
    ),
    Scenario::new(
        "bad-operation",
        "operations that do not exist: EOPNOTSUPP",
        bad_operation,
    ),
    Scenario::new(
        "no-segments",
        "reads and writes of no segment: ERROR",
        no_segments,
    ),
    Scenario::new("many-segments", "12 to 255 segments: ERROR", many_segments),
    Scenario::new(
        "segment-bounds",
        "first after last, last past the page: ERROR",
        segment_bounds,
    ),
    Scenario::new("past-end", "sectors past the end: ERROR", past_end),
    Scenario::new(
        "sector-wrap",
        "sectors whose sum wraps around 64 bits: ERROR",
        sector_wrap,
    ),
    Scenario::new(
        "write-readonly",
        "every writing operation to a read-only disk: ERROR",
        write_readonly,
    )
    .of("cve_2013_2140_discard"),
    Scenario::new(
        "gref-unknown",
        "references never granted: ERROR",
        gref_unknown,
    )
    .of("xsa361_grant_status"),
    Scenario::new(
        "gref-revoked",
        "a reference granted no longer: ERROR",
        gref_revoked,
    )
    .of("xsa362_revoked_grant"),
    Scenario::new(
        "gref-readonly",
        "a read into a page granted for reading only: ERROR",
        gref_readonly,
    )
    .of("xsa367_readonly_grant"),
    Scenario::new(
        "gref-other-domain",
        "a page granted to another domain: ERROR",
        gref_other_domain,
    ),
    Scenario::new(
        "gref-one-bad",
        "one bad reference among ten good ones: ERROR, none stays mapped",
        gref_one_bad,
    )
    .of("xsa365_one_bad_grant"),
    Scenario::new(
        "indirect",
        "indirect requests with wrong operations, counts and references",
        indirect,
    ),
    Scenario::new(
        "indirect-list",
        "lists of segments that are long, revoked, read-only, or the data itself",
        indirect_list,
    ),
    Scenario::new(
        "indirect-rewrite",
        "lists that change while they are read: answered, nothing else",
        indirect_rewrite,
    )
    .of("xsa155_copy_list_once"),
    Scenario::new("discard", "discards past the end and wrapping", discard),
    Scenario::new(
        "bad-cost",
        "many bad requests in a row: each costs its sender a millisecond",
        bad_cost,
    ),
    Scenario::new(
        "idle",
        "honest requests, then 4 s of rest: dom0 may count what is mapped",
        idle,
    ),
    Scenario::new(
        "kept-pages",
        "pages kept mapped: one in many requests at once, as data and as list, then revoked",
        kept_pages,
    ),
];

/// Connects, runs the list of `(what, request)`, each to be answered with one of `statuses`, and
/// shows that the disk still serves.
fn refused(
    lab: &mut Lab,
    statuses: &[i16],
    make: impl Fn(&mut Lab) -> Vec<(String, Request)>,
) -> Result<Outcome> {
    lab.dev.connected()?;
    for (what, request) in make(lab) {
        lab.dev.expect(&what, request, statuses)?;
    }
    lab.dev.verify(8, 0x5a)?;
    Ok(Passed)
}

fn good(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connected()?;
    for i in 0..10 {
        lab.dev.verify(8 * i, i as u8)?;
    }
    let flush = Request::rw(FLUSH, 1, 0, &[]);
    lab.dev.expect("flush", flush, &[OKAY, NOT_SUPPORTED])?;
    Ok(Passed)
}

fn same_id(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connected()?;
    let segs = lab.dev.pages(1);
    for id in [
        0,
        31,
        32,
        u64::from(u32::MAX),
        u64::MAX,
        0x8000_0000_0000_0000,
    ] {
        let requests = vec![Request::rw(READ, id, 0, &segs); ENTRIES as usize];
        lab.dev.submit(&requests)?;
        for rsp in lab.dev.responses(requests.len())? {
            ensure!(
                rsp == Response {
                    id,
                    op: READ,
                    status: OKAY
                },
                "id {id:#x}: answered {rsp:?}"
            );
        }
    }
    lab.dev.verify(8, 1)?;
    Ok(Passed)
}

fn bad_operation(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[NOT_SUPPORTED], |lab| {
        let segs = lab.dev.pages(1);
        let of = |op: u8| {
            (
                format!("operation {op}"),
                Request::rw(op, 0x1_0000 + u64::from(op), 0, &segs),
            )
        };
        [4, 7, 8, 77, 127, 128, 255].map(of).into()
    })
}

fn no_segments(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[ERROR], |_| {
        [READ, WRITE]
            .map(|op| (format!("operation {op}"), Request::rw(op, 3, 0, &[])))
            .into()
    })
}

fn many_segments(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[ERROR], |lab| {
        let segs = lab.dev.pages(11);
        let of = |n: u8| {
            (
                format!("{n} segments"),
                Request::rw(READ, 4, 0, &segs).claiming(n),
            )
        };
        [12, 13, 32, 128, 255].map(of).into()
    })
}

fn segment_bounds(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[ERROR], |lab| {
        let gref = lab.dev.data.grefs()[0];
        let of = |(first, last)| {
            let seg = Seg { gref, first, last };
            (
                format!("sectors {first} to {last}"),
                Request::rw(READ, 5, 0, &[seg]),
            )
        };
        [
            (1, 0),
            (7, 6),
            (0, 8),
            (8, 8),
            (8, 7),
            (0, 255),
            (255, 0),
            (255, 255),
            (200, 100),
        ]
        .map(of)
        .into()
    })
}

fn past_end(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[ERROR], |lab| {
        let (segs, end) = (lab.dev.pages(1), lab.dev.disk.sectors);
        let mut all = Vec::new();
        for op in [READ, WRITE] {
            for sector in [
                end,
                end - 7,
                end - 1,
                end + 1,
                1 << 40,
                i64::MAX as u64,
                u64::MAX / 2 + 1,
            ] {
                all.push((
                    format!("operation {op} at {sector} of {end}"),
                    Request::rw(op, 6, sector, &segs),
                ));
            }
        }
        all
    })
}

fn sector_wrap(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[ERROR], |lab| {
        let segs = lab.dev.pages(11);
        let of = |sector: u64| {
            (
                format!("read at {sector:#x}"),
                Request::rw(READ, 7, sector, &segs),
            )
        };
        // With 88 sectors: sums of 0, 1 and 80, and byte offsets that wrap.
        [
            u64::MAX - 87,
            u64::MAX - 86,
            u64::MAX - 7,
            u64::MAX,
            1 << 55,
            (1 << 55) - 8,
        ]
        .map(of)
        .into()
    })
}

fn write_readonly(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connected()?;
    if !lab.dev.disk.readonly {
        return Ok(Skipped("the disk is writable"));
    }
    let segs = lab.dev.pages(1);
    lab.dev.data.write(0, &[0xee; xen::PAGE_SIZE]);
    lab.dev
        .expect("write", Request::rw(WRITE, 8, 0, &segs), &[ERROR])?;
    // A back end need not offer these at all.
    lab.dev.expect(
        "barrier",
        Request::rw(BARRIER, 8, 0, &segs),
        &[ERROR, NOT_SUPPORTED],
    )?;
    lab.dev.expect(
        "flush with data",
        Request::rw(FLUSH, 8, 0, &segs),
        &[ERROR, NOT_SUPPORTED],
    )?;
    lab.dev.expect(
        "discard",
        Request::discard(8, 0, 8, 0),
        &[ERROR, NOT_SUPPORTED],
    )?;
    lab.dev.expect(
        "secure discard",
        Request::discard(8, 0, 8, 1),
        &[ERROR, NOT_SUPPORTED],
    )?;
    let list = SharedPages::alloc(lab.dev.backend_id(), 1, true)?;
    list.write(0, &lab.dev.data.grefs()[0].to_le_bytes());
    list.write(4, &[0, 7]);
    let indirect = Request::indirect(WRITE, 8, 0, 1, list.grefs());
    lab.dev
        .expect("indirect write", indirect, &[ERROR, NOT_SUPPORTED])?;
    lab.dev.verify(0, 0)?;
    let mut now = [0; xen::PAGE_SIZE];
    lab.dev.data.read(0, &mut now);
    ensure!(now[..8] != [0xee; 8], "the read-only disk was written");
    Ok(Passed)
}

/// Reads and writes with the segments given, all to be refused.
fn both_ways(segs: &[Seg]) -> Vec<(String, Request)> {
    [READ, WRITE]
        .map(|op| (format!("operation {op}"), Request::rw(op, 9, 0, segs)))
        .into()
}

fn gref_unknown(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[ERROR], |_| {
        let of = |gref| both_ways(&[Seg::page(gref)]);
        [0x7f_ffff, 0xffff_ffff, 0x8000_0000, 30_000]
            .into_iter()
            .flat_map(of)
            .collect()
    })
}

fn gref_revoked(lab: &mut Lab) -> Result<Outcome> {
    let gref = lab.dev.revoked_gref()?;
    refused(lab, &[ERROR], |_| both_ways(&[Seg::page(gref)]))
}

fn gref_readonly(lab: &mut Lab) -> Result<Outcome> {
    let page = SharedPages::alloc(lab.dev.backend_id(), 1, false)?;
    let gref = page.grefs()[0];
    refused(lab, &[ERROR], |_| {
        vec![("read".into(), Request::rw(READ, 11, 0, &[Seg::page(gref)]))]
    })?;
    if !lab.dev.disk.readonly {
        lab.dev.expect(
            "write",
            Request::rw(WRITE, 11, 16, &[Seg::page(gref)]),
            &[OKAY],
        )?;
    }
    Ok(Passed)
}

fn gref_other_domain(lab: &mut Lab) -> Result<Outcome> {
    // A domain that is not there serves as well as one that is.
    let page = SharedPages::alloc(lab.dev.backend_id() ^ 0x1000, 1, true)?;
    let gref = page.grefs()[0];
    refused(lab, &[ERROR], |_| both_ways(&[Seg::page(gref)]))
}

fn gref_one_bad(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[ERROR], |lab| {
        let mut all = Vec::new();
        for bad in [0, 5, 10] {
            let mut segs = lab.dev.pages(11);
            segs[bad].gref = 0x7f_ffff;
            all.extend(both_ways(&segs));
        }
        all
    })
}

fn indirect(lab: &mut Lab) -> Result<Outcome> {
    let list = SharedPages::alloc(lab.dev.backend_id(), 1, true)?;
    let gref = list.grefs()[0];
    let entry = |i: usize, gref: u32, first: u8, last: u8| {
        list.write(8 * i, &gref.to_le_bytes());
        list.write(8 * i + 4, &[first, last, 0, 0]);
    };
    for i in 0..512 {
        entry(i, 0x7f_ffff, 0, 7);
    }
    refused(lab, &[ERROR, NOT_SUPPORTED], |_| {
        let mut all = Vec::new();
        for op in [BARRIER, FLUSH, DISCARD, INDIRECT, 9, 255] {
            all.push((
                format!("inner operation {op}"),
                Request::indirect(op, 12, 0, 1, &[gref]),
            ));
        }
        for n in [0, 257, 4096, 65535] {
            all.push((
                format!("{n} segments"),
                Request::indirect(READ, 12, 0, n, &[gref; 8]),
            ));
        }
        all.push((
            "bad list reference".into(),
            Request::indirect(READ, 12, 0, 20, &[0x7f_ffff]),
        ));
        all.push((
            "bad references in the list".into(),
            Request::indirect(READ, 12, 0, 20, &[gref]),
        ));
        all
    })?;
    entry(0, lab.dev.data.grefs()[0], 3, 2);
    let bounds = Request::indirect(READ, 12, 0, 1, &[gref]);
    lab.dev.expect(
        "first after last in the list",
        bounds,
        &[ERROR, NOT_SUPPORTED],
    )?;
    entry(0, lab.dev.data.grefs()[0], 0, 8);
    lab.dev.expect(
        "last past the page in the list",
        bounds,
        &[ERROR, NOT_SUPPORTED],
    )?;
    entry(0, lab.dev.data.grefs()[0], 0, 7);
    let good = if lab.dev.disk.indirect > 0 {
        &[OKAY][..]
    } else {
        &[ERROR, NOT_SUPPORTED]
    };
    lab.dev.expect("a good list", bounds, good)?;
    Ok(Passed)
}

/// A list of `n` segments, all of the page `gref`, in page `at` of `list`.
fn fill(list: &SharedPages, n: u16, gref: impl Fn(u16) -> u32) {
    for i in 0..n {
        let mut bytes = [0, 0, 0, 0, 0, 7, 0, 0];
        bytes[..4].copy_from_slice(&gref(i).to_le_bytes());
        list.write(8 * usize::from(i), &bytes);
    }
}

fn indirect_list(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connected()?;
    let most = lab.dev.disk.indirect.min(512) as u16;
    if most == 0 {
        return Ok(Skipped("the back end does not offer it"));
    }
    // Each page with a content of its own: written in one order, read in the other.
    let data = lab.dev.data.grefs().to_vec();
    let n = most.min(data.len() as u16);
    let list = SharedPages::alloc(lab.dev.backend_id(), 1, true)?;
    let gref = list.grefs()[0];
    if !lab.dev.disk.readonly {
        for page in 0..usize::from(n) {
            lab.dev.data.write(page * 4096, &[page as u8 + 1; 4096]);
        }
        fill(&list, n, |i| data[usize::from(i)]);
        let write = Request::indirect(WRITE, 12, 0, n, &[gref]);
        lab.dev.expect("a long write", write, &[OKAY])?;
        fill(&list, n, |i| data[usize::from(n - 1 - i)]);
        let read = Request::indirect(READ, 12, 0, n, &[gref]);
        lab.dev.expect("a long read", read, &[OKAY])?;
        for page in 0..usize::from(n) {
            let mut got = [0; 4096];
            lab.dev.data.read(page * 4096, &mut got);
            let want = (usize::from(n) - page) as u8;
            ensure!(got == [want; 4096], "page {page} is {:?}", &got[..4]);
        }
    }
    fill(&list, most, |i| data[usize::from(i) % data.len()]);
    let longest = Request::indirect(READ, 12, 0, most, &[gref]);
    lab.dev.expect("the longest list", longest, &[OKAY])?;
    let end = lab.dev.disk.sectors;
    for (what, sector) in [
        ("past the end", end - 8 * u64::from(most) + 1),
        ("wrapping", u64::MAX - 3),
    ] {
        let request = Request::indirect(READ, 12, sector, most, &[gref]);
        lab.dev.expect(what, request, &[ERROR])?;
    }
    for n in [most + 1, 512, 513, 4096, u16::MAX] {
        if n > most {
            let request = Request::indirect(READ, 12, 0, n, &[gref; 8]);
            lab.dev
                .expect(&format!("{n} segments"), request, &[ERROR])?;
        }
    }
    let revoked = lab.dev.revoked_gref()?;
    let request = Request::indirect(READ, 12, 0, 20, &[revoked]);
    lab.dev.expect("a list given up", request, &[ERROR])?;
    // A list that the back end may only read is all that it needs.
    let readonly = SharedPages::alloc(lab.dev.backend_id(), 1, false)?;
    fill(&readonly, 20, |i| data[usize::from(i) % data.len()]);
    let request = Request::indirect(READ, 12, 0, 20, readonly.grefs());
    lab.dev
        .expect("a list for reading", request, &[OKAY, ERROR])?;
    // The list is among the pages that are read into: it was copied before.
    fill(&list, 20, |_| gref);
    let request = Request::indirect(READ, 12, 0, 20, &[gref]);
    lab.dev
        .expect("a list that is the data", request, &[OKAY, ERROR])?;
    lab.dev.verify(8, 14)?;
    Ok(Passed)
}

fn indirect_rewrite(lab: &mut Lab) -> Result<Outcome> {
    lab.dev.connected()?;
    let most = lab.dev.disk.indirect.min(64) as u16;
    if most == 0 {
        return Ok(Skipped("the back end does not offer it"));
    }
    let data = lab.dev.data.grefs().to_vec();
    let list = SharedPages::alloc(lab.dev.backend_id(), 1, true)?;
    // At the very end of the disk: if the segments grow after the check, they are past it.
    let sector = lab.dev.disk.sectors - u64::from(most);
    for round in 0..lab.count.min(200) {
        for i in 0..most {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&data[usize::from(i) % data.len()].to_le_bytes());
            list.write(8 * usize::from(i), &bytes);
        }
        let id = 0x7_0000 + round;
        let request = Request::indirect(READ, id, sector, most, list.grefs());
        lab.dev.submit(&[request])?;
        let ring = lab.dev.ring()?;
        let (page, cons) = (&ring.page, ring.cons);
        let until = Instant::now() + Duration::from_millis(100);
        let mut i = 0u32;
        while page.load(RSP_PROD) == cons && Instant::now() < until {
            i = i.wrapping_add(1);
            let at = 8 * (i as usize * 7 % usize::from(most));
            let last = if i % 2 == 0 { 0 } else { 7 };
            list.write(at + 4, &[if i % 5 == 0 { 200 } else { 0 }, last]);
            if i % 11 == 0 {
                list.write(at, &0x7f_ffffu32.to_le_bytes());
            }
        }
        let rsp = lab.dev.responses(1)?[0];
        ensure!(
            rsp.id == id && [OKAY, ERROR].contains(&rsp.status),
            "answered {rsp:?}"
        );
    }
    lab.dev.verify(8, 15)?;
    Ok(Passed)
}

fn discard(lab: &mut Lab) -> Result<Outcome> {
    refused(lab, &[ERROR, NOT_SUPPORTED], |lab| {
        let end = lab.dev.disk.sectors;
        let ranges = [
            (end, 8),
            (end - 7, 8),
            (0, end + 1),
            (0, u64::MAX),
            (8, u64::MAX - 7),
            (u64::MAX - 7, 8),
            (u64::MAX, 2),
        ];
        let of = |(sector, count): (u64, u64)| {
            (
                format!("{count} from {sector}"),
                Request::discard(13, sector, count, 0),
            )
        };
        ranges.map(of).into()
    })?;
    let nothing = Request::discard(13, 8, 0, 0);
    let no = if lab.tolerant {
        &[OKAY, ERROR, NOT_SUPPORTED][..]
    } else {
        &[ERROR, NOT_SUPPORTED]
    };
    lab.dev.expect("no sector at all", nothing, no)?;
    // Flags that do not exist, or a secure one that may not be offered: done or refused.
    if !lab.dev.disk.readonly {
        for flag in [1, 2, 0x80, 0xff] {
            lab.dev.expect(
                &format!("flags {flag:#x}"),
                Request::discard(13, 128, 8, flag),
                &[OKAY, ERROR, NOT_SUPPORTED],
            )?;
        }
    }
    let some = Request::discard(13, 128, 8, 0);
    let fine = if lab.dev.disk.discard {
        &[OKAY][..]
    } else {
        &[OKAY, ERROR, NOT_SUPPORTED]
    };
    if !lab.dev.disk.readonly {
        lab.dev.expect("a good discard", some, fine)?;
    }
    Ok(Passed)
}

fn bad_cost(lab: &mut Lab) -> Result<Outcome> {
    if lab.tolerant {
        return Ok(Skipped("the C back end does not do that"));
    }
    lab.dev.connected()?;
    let began = Instant::now();
    for round in 0..4 {
        let bad = Request::rw(READ, 15 + round, u64::MAX, &lab.dev.pages(1));
        lab.dev.submit(&[bad; ENTRIES as usize])?;
        lab.dev.responses(ENTRIES as usize)?;
    }
    let took = began.elapsed();
    ensure!(
        took >= Duration::from_millis(4 * u64::from(ENTRIES)),
        "{} bad requests took {took:?}",
        4 * ENTRIES
    );
    lab.dev.verify(8, 16)?;
    Ok(Passed)
}

/// Beside the ring, nothing may be mapped in the end; that is for dom0 to see, as soon as there is
/// a file `/tmp/hostile-idle`.
fn idle(lab: &mut Lab) -> Result<Outcome> {
    let time = match lab.idle {
        true => Duration::from_secs(4),
        false => Duration::ZERO,
    };
    lab.dev.connect()?;
    (0..3).try_for_each(|i| lab.dev.verify(8, i))?;
    std::fs::write("/tmp/hostile-idle", "")?;
    std::thread::sleep(time);
    std::fs::remove_file("/tmp/hostile-idle")?;
    Ok(Passed)
}

/// Connects as a front end that lets its pages be kept mapped.
fn connect_persistent(lab: &mut Lab) -> Result {
    lab.dev.restart()?;
    lab.dev.make_ring(0)?;
    lab.dev.publish()?;
    lab.dev.put("feature-persistent", "1")?;
    lab.dev.set_state(INITIALISED)?;
    lab.dev.finish_connect()
}

fn kept_pages(lab: &mut Lab) -> Result<Outcome> {
    connect_persistent(lab)?;
    let seg = lab.dev.pages(1)[0];
    for round in 0..4 {
        let requests = vec![Request::rw(READ, 20, 0, &[seg; 11]); ENTRIES as usize];
        lab.dev.submit(&requests)?;
        for rsp in lab.dev.responses(requests.len())? {
            // Xen maps a page some 128 times at once at most.
            ensure!(
                rsp.id == 20 && [OKAY, ERROR].contains(&rsp.status),
                "round {round}: answered {rsp:?}"
            );
        }
    }
    if lab.dev.disk.indirect > 0 {
        // The list is its own data: what is read replaces it.
        for _ in 0..3 {
            for i in 0..11 {
                lab.dev.data.write(8 * i, &seg.gref.to_le_bytes());
                lab.dev.data.write(8 * i + 4, &[0, 7, 0, 0]);
            }
            let list = Request::indirect(READ, 21, 0, 11, &[seg.gref]);
            lab.dev.expect("a list of itself", list, &[OKAY, ERROR])?;
        }
    }
    let readonly = SharedPages::alloc(lab.dev.backend_id(), 1, false)?;
    let only = [Seg::page(readonly.grefs()[0])];
    for _ in 0..3 {
        let read = Request::rw(READ, 22, 0, &only);
        lab.dev
            .expect("a read into a read-only page", read, &[ERROR])?;
        let write = Request::rw(WRITE, 22, 0, &only);
        lab.dev
            .expect("a write from a read-only page", write, &[OKAY, ERROR])?;
    }
    refused_reference(lab)?;
    lab.dev.verify(8, 3)?;
    lab.dev.drop_buffers()?;
    lab.dev.verify(8, 4)?;
    lab.dev.close()?;
    lab.dev.connect()?;
    lab.dev.verify(8, 5)?;
    Ok(Passed)
}

/// A bad reference beside pages that are kept: nothing of the request stays in use.
fn refused_reference(lab: &mut Lab) -> Result {
    let mut segs = lab.dev.pages(11);
    segs[5].gref = 0x7f_ffff;
    for _ in 0..3 {
        let bad = Request::rw(READ, 23, 0, &segs);
        lab.dev.expect("one bad reference", bad, &[ERROR])?;
        let good = Request::rw(READ, 24, 0, &lab.dev.pages(5));
        lab.dev.expect("the good ones", good, &[OKAY])?;
    }
    Ok(())
}
