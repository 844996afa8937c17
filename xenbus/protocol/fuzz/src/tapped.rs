// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What a program behind a tap says: requests, geometries, answers to ids that it has made up.

use crate::Input;
use protocol::blkif::{Limits, Offered, Op};
use protocol::ring::Codec;
use protocol::tap::{self, flag, ioctl::Geometry, op, Entries, Request};
use protocol::tapped::{check, check_geometry, Answered, Data, Entry, Piece, Pieces, Sent};
use std::collections::{BTreeMap, BTreeSet};

/// Pages of the window, and places for requests that the program has.
const PAGES: u32 = 96;
const PLACES: usize = 5;

/// Three bytes of what the disk allows, a request, a geometry, then steps of a program.
pub fn tapped(input: &[u8]) {
    let mut input = Input(input);
    let [kind, capacity, window] = input.array();
    let limits = Limits {
        capacity_sectors: u64::from(capacity) << 4,
        read_only: kind & 2 != 0,
        max_segments: 11,
        max_indirect_segments: 256,
        sector_size: 512 << (kind >> 6),
        features: Offered {
            flush: kind & 4 != 0,
            barrier: kind & 8 != 0,
            discard: kind & 16 != 0,
            secure_discard: kind & 32 != 0,
        },
    };
    let window = u64::from(window) << 4;
    let sector = near(&mut input, &[0, limits.capacity_sectors, u64::MAX]);
    let left = limits.capacity_sectors.wrapping_sub(sector);
    let nr_sectors = near(&mut input, &[0, left, window, tap::MAX_SECTORS]);
    let end = window.wrapping_sub(nr_sectors);
    let data = near(&mut input, &[0, end, u64::from(tap::NO_DATA)]) as u32;
    let [op, flags] = input.array();
    let raw = Request {
        id: input.u32(),
        op: [op::READ, op::WRITE, op::FLUSH, op::DISCARD, op][usize::from(op % 5)],
        flags: [0, 1, 2, 4, flags][usize::from(flags % 5)],
        sector,
        nr_sectors,
        data,
        guest: input.u32(),
    };
    request(&raw, &limits, window);
    geometry(Geometry {
        sectors: input.u64(),
        sector_size: input.u32(),
        physical_sector_size: input.u32(),
        features: input.u32(),
        discard_granularity: input.u32(),
    });
    Program::new().run(input);
}

/// A number at most 128 away from one of these; seldom, any.
fn near(input: &mut Input<'_>, these: &[u64]) -> u64 {
    let [which, away] = input.array();
    match which {
        0xf0.. => input.u64(),
        _ => these[usize::from(which) % these.len()].wrapping_add_signed(i64::from(away as i8)),
    }
}

fn request(raw: &Request, limits: &Limits, window: u64) {
    let mut bytes = [0; tap::ENTRY];
    Entries.encode_request(raw, &mut bytes);
    assert_eq!(
        Entries.decode_request(&bytes),
        *raw,
        "it is read as written"
    );
    let (request, data) = match check(raw, limits, window) {
        Ok(checked) => checked,
        Err(bad) => return assert!(bad.status() < 0),
    };
    assert_eq!(request.id, u64::from(raw.id));
    let has_data = matches!(request.op, Op::Read | Op::Write | Op::WriteBarrier);
    match data {
        Data::None => assert!(!has_data),
        Data::Window(at) => assert!(u64::from(at) + request.nr_sectors <= window),
        Data::Guest(id) => assert!(id == raw.guest && raw.flags & flag::GUEST != 0),
    }
    if has_data {
        assert!((1..=tap::MAX_SECTORS).contains(&request.nr_sectors));
    } else {
        assert_eq!(raw.flags & flag::GUEST, 0);
    }
    if request.op == Op::Flush {
        return assert!(request.nr_sectors == 0);
    }
    let block = u64::from(limits.sector_size / 512);
    assert!(request.nr_sectors > 0 && request.nr_sectors % block == 0);
    assert!(request.sector % block == 0);
    let left = limits.capacity_sectors.checked_sub(request.sector);
    assert!(left.is_some_and(|left| request.nr_sectors <= left));
    assert!(request.op == Op::Read || !limits.read_only);
}

fn geometry(it: Geometry) {
    if check_geometry(&it) {
        assert!(matches!(it.sector_size, 512 | 1024 | 2048 | 4096));
        let bytes = it.sectors.checked_mul(512).expect("a size in bytes");
        assert_eq!(bytes % u64::from(it.sector_size), 0);
        assert_eq!(it.physical_sector_size % it.sector_size, 0);
    }
}

/// A request that the program has, as it must be known.
struct Had {
    request: u16,
    piece: Piece,
    orphan: bool,
    busy: bool,
}

/// What a program does with the guest's requests, and a second account of it.
struct Program {
    sent: Sent<Vec<Entry>>,
    pieces: Pieces<Vec<u64>>,
    has: BTreeMap<u32, Had>,
    /// In the order in which they were sent, the orphans too.
    order: Vec<u32>,
    pages: BTreeSet<u32>,
    requests: u16,
}

impl Program {
    fn new() -> Self {
        Self {
            sent: Sent::new(vec![Entry::default(); PLACES]),
            pieces: Pieces::new(vec![!0; PAGES as usize / 64 + 1], PAGES),
            has: BTreeMap::new(),
            order: Vec::new(),
            pages: BTreeSet::new(),
            requests: 0,
        }
    }

    fn run(mut self, mut input: Input<'_>) {
        while let Some(step) = input.next() {
            match step % 8 {
                0..=2 => self.send(near(&mut input, &[0, 32, 64, 96]) as u32),
                3 => self.answer(input.u32()),
                4 => {
                    // One that it has, or has had.
                    let place = usize::from(input.u8());
                    let known = self.order.get(place % self.order.len().max(1)).copied();
                    self.answer(known.unwrap_or(u32::from(step)));
                }
                5 => self.use_pages(usize::from(input.u8()), step & 8 != 0),
                6 => self.disconnect(),
                _ => self.die(),
            }
            let live = self.has.values().filter(|it| !it.orphan).count();
            assert_eq!((self.sent.len(), self.sent.is_empty()), (live, live == 0));
            assert_eq!(self.sent.is_full(), self.has.len() == PLACES);
            assert_eq!(self.pieces.used() as usize, self.pages.len());
        }
    }

    fn send(&mut self, count: u32) {
        let Some(piece) = self.pieces.take(count) else {
            // What there is of free pages is in shorter pieces.
            let mut run = 0;
            let free = (0..PAGES).map(|page| {
                run = if self.pages.contains(&page) {
                    0
                } else {
                    run + 1
                };
                run
            });
            return assert!(free.max() < Some(count));
        };
        assert_eq!(piece.pages, count);
        let pages = piece.at..piece.at + piece.pages;
        assert!(pages.end <= PAGES && pages.clone().all(|page| !self.pages.contains(&page)));
        let full = self.has.len() == PLACES;
        self.requests = self.requests.wrapping_add(1);
        let Some(id) = self.sent.send(self.requests, 0, piece, 0) else {
            assert!(full);
            return self.pieces.give(piece);
        };
        assert!(!full);
        self.pages.extend(pages);
        let new = Had {
            request: self.requests,
            piece,
            orphan: false,
            busy: false,
        };
        assert!(self.has.insert(id, new).is_none());
        self.order.retain(|old| *old != id);
        self.order.push(id);
    }

    fn forget(&mut self, piece: Piece) {
        self.pieces.give(piece);
        for page in piece.at..piece.at + piece.pages {
            assert!(self.pages.remove(&page));
        }
    }

    fn answer(&mut self, id: u32) {
        let had = match self.has.get(&id) {
            Some(had) if !had.busy => self.has.remove(&id),
            _ => None,
        };
        let entry = match (self.sent.answer(id), &had) {
            (Err(_), None) => return,
            (Ok(Answered::Request(entry)), Some(had)) if !had.orphan => entry,
            (Ok(Answered::Orphan(entry)), Some(had)) if had.orphan => entry,
            (answered, _) => panic!("{id:#x}: {answered:?}"),
        };
        let had = had.expect("it is there");
        assert_eq!((entry.request, entry.piece), (had.request, had.piece));
        self.forget(had.piece);
    }

    /// The disk begins or ends to use a request's pages.
    fn use_pages(&mut self, place: usize, busy: bool) {
        let Some(id) = self.order.get(place % self.order.len().max(1)) else {
            return;
        };
        let had = self.has.get_mut(id).filter(|had| !had.orphan);
        match (self.sent.get(*id), had) {
            (Some(entry), Some(had)) => (entry.busy, had.busy) = (busy, busy),
            (None, None) => (),
            _ => panic!("{id:#x}"),
        }
    }

    /// The connection ends, when the disk uses none of its pages.
    fn disconnect(&mut self) {
        for id in &self.order {
            if let Some(entry) = self.sent.get(*id) {
                entry.busy = false;
            }
        }
        let mut seen = BTreeSet::new();
        self.sent.orphan_all(|entry| {
            seen.insert(entry.request);
        });
        for had in self.has.values_mut() {
            assert_eq!(seen.remove(&had.request), !had.orphan);
            (had.orphan, had.busy) = (true, false);
        }
        assert!(seen.is_empty());
    }

    /// The program ends: the last one comes back first.
    fn die(&mut self) {
        let mut back = Vec::new();
        self.sent.take_back(|entry| back.push(entry.request));
        let live = self.order.iter().rev().filter_map(|id| self.has.get(id));
        assert!(live
            .filter(|had| !had.orphan)
            .map(|had| had.request)
            .eq(back));
        let has = std::mem::take(&mut self.has);
        has.into_values().for_each(|had| self.forget(had.piece));
        self.order.clear();
    }
}
