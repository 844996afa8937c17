// SPDX-License-Identifier: GPL-2.0
//! The 64-bit x86 block ABI as bytes, `xen/io/blkif.h` and `xen/io/ring.h`.
//!
//! Nothing is checked: the callers want it wrong.

/// Bytes in a ring's entry.
pub(crate) const ENTRY: usize = 112;
/// Entries in a ring of one page.
pub(crate) const ENTRIES: u32 = 32;
/// Bytes before the first entry.
const HEADER: usize = 64;

/// Offsets of the ring's indices.
pub(crate) const REQ_PROD: usize = 0;
pub(crate) const REQ_EVENT: usize = 4;
pub(crate) const RSP_PROD: usize = 8;
pub(crate) const RSP_EVENT: usize = 12;

pub(crate) const READ: u8 = 0;
pub(crate) const WRITE: u8 = 1;
pub(crate) const BARRIER: u8 = 2;
pub(crate) const FLUSH: u8 = 3;
pub(crate) const DISCARD: u8 = 5;
pub(crate) const INDIRECT: u8 = 6;

pub(crate) const OKAY: i16 = 0;
pub(crate) const ERROR: i16 = -1;
pub(crate) const NOT_SUPPORTED: i16 = -2;

/// The byte at which the entry of a free-running index starts, in a ring of one page.
pub(crate) fn entry(index: u32) -> usize {
    entry_of(index, ENTRIES)
}

/// The byte at which the entry of a free-running index starts, in a ring of `entries`.
pub(crate) fn entry_of(index: u32, entries: u32) -> usize {
    HEADER + (index % entries) as usize * ENTRY
}

/// Entries in a ring of `pages`: a power of two.
pub(crate) fn entries(pages: usize) -> u32 {
    1 << ((pages * 4096 - HEADER) / ENTRY).ilog2()
}

/// A segment: part of a granted page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seg {
    pub(crate) gref: u32,
    pub(crate) first: u8,
    pub(crate) last: u8,
}

impl Seg {
    /// A segment out of a list.
    pub(crate) fn parse(b: &[u8]) -> Self {
        Seg {
            gref: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            first: b[4],
            last: b[5],
        }
    }

    /// The whole page.
    pub(crate) fn page(gref: u32) -> Self {
        Seg {
            gref,
            first: 0,
            last: 7,
        }
    }
}

/// A request's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request(pub(crate) [u8; ENTRY]);

impl Request {
    /// A read, write, barrier or flush. `segs` beyond the eleventh are counted, not written.
    pub(crate) fn rw(op: u8, id: u64, sector: u64, segs: &[Seg]) -> Self {
        let mut r = Request([0; ENTRY]);
        r.0[0] = op;
        r.0[1] = segs.len() as u8;
        r.put(8, &id.to_le_bytes());
        r.put(16, &sector.to_le_bytes());
        for (i, s) in segs.iter().take(11).enumerate() {
            r.put(24 + 8 * i, &s.gref.to_le_bytes());
            r.put(28 + 8 * i, &[s.first, s.last]);
        }
        r
    }

    /// A discard of `count` sectors.
    pub(crate) fn discard(id: u64, sector: u64, count: u64, flag: u8) -> Self {
        let mut r = Self::rw(DISCARD, id, sector, &[]);
        r.0[1] = flag;
        r.put(24, &count.to_le_bytes());
        r
    }

    /// An indirect request of `count` segments, listed in the pages `grefs`.
    pub(crate) fn indirect(op: u8, id: u64, sector: u64, count: u16, grefs: &[u32]) -> Self {
        let mut r = Self::rw(INDIRECT, id, sector, &[]);
        r.0[1] = op;
        r.put(2, &count.to_le_bytes());
        // The handle is at 24, the references follow it.
        for (i, g) in grefs.iter().take(8).enumerate() {
            r.put(28 + 4 * i, &g.to_le_bytes());
        }
        r
    }

    /// Overwrites bytes.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The same request, claiming `n` segments.
    pub(crate) fn claiming(mut self, n: u8) -> Self {
        self.0[1] = n;
        self
    }

    pub(crate) fn op(&self) -> u8 {
        self.0[0]
    }

    /// Whether `op` may stand in the response: the request's own, or that within an indirect one.
    pub(crate) fn is_answered_as(&self, op: u8) -> bool {
        op == self.op() || (self.op() == INDIRECT && op == self.0[1])
    }

    /// The operation that an honest answer has: of an indirect request, the one within.
    pub(crate) fn answer_op(&self) -> u8 {
        match self.op() {
            INDIRECT => self.0[1],
            op => op,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.word(8)
    }

    pub(crate) fn sector(&self) -> u64 {
        self.word(16)
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }

    /// Of an indirect request: the operation, the number of segments, the pages that list them.
    pub(crate) fn list(&self) -> (u8, u16, [u32; 8]) {
        let gref = |i: usize| u32::from_le_bytes(std::array::from_fn(|b| self.0[28 + 4 * i + b]));
        let count = u16::from_le_bytes([self.0[2], self.0[3]]);
        (self.0[1], count, std::array::from_fn(gref))
    }

    /// Of a discard: the number of sectors.
    pub(crate) fn discarded(&self) -> u64 {
        self.word(24)
    }

    /// Of a discard: its flags, of which the lowest bit asks to erase.
    pub(crate) fn discard_flag(&self) -> u8 {
        self.0[1]
    }

    /// The segments of a request that is not indirect, at most eleven.
    pub(crate) fn segs(&self) -> Vec<Seg> {
        let one = |i: usize| Seg::parse(&self.0[24 + 8 * i..32 + 8 * i]);
        (0..usize::from(self.0[1]).min(11)).map(one).collect()
    }
}

/// A response's bytes: 16 of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) id: u64,
    pub(crate) op: u8,
    pub(crate) status: i16,
}

impl Response {
    pub(crate) fn parse(b: &[u8; 16]) -> Self {
        Response {
            id: u64::from_le_bytes(std::array::from_fn(|i| b[i])),
            op: b[8],
            status: i16::from_le_bytes([b[10], b[11]]),
        }
    }

    pub(crate) fn bytes(&self) -> [u8; 16] {
        let mut b = [0; 16];
        b[..8].copy_from_slice(&self.id.to_le_bytes());
        b[8] = self.op;
        b[10..12].copy_from_slice(&self.status.to_le_bytes());
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_ends_within_the_page() {
        assert!(entry(ENTRIES - 1) + ENTRY <= 4096);
        assert_eq!(entry(ENTRIES), entry(0));
        assert_eq!(entry(u32::MAX), entry(ENTRIES - 1));
        assert_eq!((entries(1), entries(16)), (ENTRIES, 512));
        assert!(entry_of(511, 512) + ENTRY <= 16 * 4096);
    }

    #[test]
    fn fields_come_back() {
        let segs = [
            Seg {
                gref: 0x01020304,
                first: 2,
                last: 5,
            },
            Seg::page(9),
        ];
        let r = Request::rw(WRITE, 77, 1 << 40, &segs);
        assert_eq!(
            (r.op(), r.id(), r.sector(), r.segs()),
            (WRITE, 77, 1 << 40, segs.to_vec())
        );
        let rsp = Response {
            id: u64::MAX - 1,
            op: 3,
            status: -2,
        };
        assert_eq!(Response::parse(&rsp.bytes()), rsp);
    }
}
