// SPDX-License-Identifier: GPL-2.0
//! Which regions of which leg are not what they should be, in memory and in a file.

use crate::common::{crc32c, Share};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use tap::{rt, AnyDisk, Buf};

const BLOCK: u64 = 4096;
const MAGIC: [u8; 8] = *b"tap-mir\n";
const VERSION: u32 = 1;
const SUM: usize = 4092;

/// Of a region: it is stale on the leg of this number.
const STALE: [u8; 2] = [1, 2];
/// Of a region: it was written to, and the legs may differ after a power cut.
const WRITTEN: u8 = 4;

/// The state of each region. What protects data after a power cut is in the file before a write
/// begins, or before it is acknowledged; that a region is well again may be in the file later.
pub struct Map {
    file: AnyDisk,
    region: u64,
    size: u64,
    states: RefCell<Vec<u8>>,
    stale: [Cell<u64>; 2],
    /// Blocks of the file that must be written, and those that may.
    dirty: RefCell<BTreeSet<u64>>,
    lazy: RefCell<BTreeSet<u64>>,
    saving: Share,
    busy: Cell<bool>,
}

/// Bytes of the file for a disk of `size` bytes.
pub fn file_len(size: u64, region: u64) -> u64 {
    BLOCK + size.div_ceil(region).next_multiple_of(BLOCK)
}

impl Map {
    /// Makes a map in `file`, where all of the second leg is stale, unless the legs are `equal`.
    pub async fn create(file: &AnyDisk, size: u64, region: u64, equal: bool) -> io::Result<()> {
        let regions = size.div_ceil(region);
        let mut states = Buf::zeroed((file_len(size, region) - BLOCK) as usize);
        if !equal {
            states[..regions as usize].fill(STALE[1]);
        }
        file.write(BLOCK, &states, false).await?;
        file.flush().await?;
        file.write(0, &header(size, region), false).await?;
        file.flush().await
    }

    /// Opens the map in `file`, of a disk of `size` bytes. The message says what is wrong with it.
    pub async fn open(file: AnyDisk, size: u64) -> io::Result<Self> {
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let mut first = Buf::zeroed(BLOCK as usize);
        if file.info().size >= BLOCK {
            file.read(0, &mut first).await?;
        }
        let four = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| first[at + i]));
        let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
        if first[..8] != MAGIC {
            return wrong("it is no map of a mirror".into());
        }
        if four(8) != VERSION {
            return wrong("it is a map of a version that this program does not know".into());
        }
        let (region, of) = (u64::from(four(12)), eight(16));
        if four(SUM) != crc32c(&first[..SUM]) || !region.is_power_of_two() || region < 4096 {
            return wrong("its header is damaged".into());
        }
        if of != size {
            return wrong(format!(
                "it is of a disk of {of} bytes, not {size}: the size of a mirror cannot change"
            ));
        }
        if file.info().size < file_len(size, region) {
            return wrong("it has lost its end".into());
        }
        let regions = size.div_ceil(region) as usize;
        let mut states = Buf::new((file_len(size, region) - BLOCK) as usize);
        file.read(BLOCK, &mut states).await?;
        let mut states = states.to_vec();
        for state in &mut states[..regions] {
            // Nobody was told that the last writes are there: either leg is right.
            *state = match *state & (STALE[0] | STALE[1]) {
                0 if *state & WRITTEN != 0 => STALE[1],
                stale => stale,
            };
            if *state == STALE[0] | STALE[1] {
                return wrong("it is damaged: a region is stale on both legs".into());
            }
        }
        let count = |bit| {
            states[..regions]
                .iter()
                .filter(|state| **state & bit != 0)
                .count()
        };
        let stale = STALE.map(|bit| Cell::new(count(bit) as u64));
        Ok(Self {
            file,
            region,
            size,
            states: RefCell::new(states),
            stale,
            dirty: RefCell::default(),
            lazy: RefCell::default(),
            saving: Share::new(),
            busy: Cell::new(false),
        })
    }

    /// The regions that `len` bytes at `at` are in.
    pub fn regions(&self, at: u64, len: u64) -> Range<u64> {
        at / self.region..(at + len).div_ceil(self.region)
    }

    /// All.
    pub fn all(&self) -> Range<u64> {
        0..self.size.div_ceil(self.region)
    }

    /// The bytes of a region.
    pub fn bytes(&self, region: u64) -> Range<u64> {
        region * self.region..((region + 1) * self.region).min(self.size)
    }

    fn has(&self, region: u64, bits: u8) -> bool {
        let states = self.states.borrow();
        states
            .get(region as usize)
            .is_some_and(|state| state & bits != 0)
    }

    /// Whether a region is stale on `leg`.
    pub fn is_stale(&self, leg: usize, region: u64) -> bool {
        self.has(region, STALE[leg])
    }

    /// How many are, on `leg`.
    pub fn stale(&self, leg: usize) -> u64 {
        self.stale[leg].get()
    }

    /// The first that is, on `leg`, from `from` on.
    pub fn next_stale(&self, leg: usize, from: u64) -> Option<u64> {
        let states = self.states.borrow();
        let mut rest = states.iter().enumerate().skip(from as usize);
        rest.find(|(_, state)| **state & STALE[leg] != 0)
            .map(|(region, _)| region as u64)
    }

    /// Whether it was written to lately.
    pub fn is_written(&self, region: u64) -> bool {
        self.has(region, WRITTEN)
    }

    /// Those that were.
    pub fn written(&self) -> Vec<u64> {
        self.all()
            .filter(|region| self.is_written(*region))
            .collect()
    }

    fn change(&self, region: u64, set: u8, clear: u8) {
        let mut states = self.states.borrow_mut();
        let Some(state) = states.get_mut(region as usize) else {
            return;
        };
        let (old, new) = (*state, *state & !clear | set);
        *state = new;
        for (bit, count) in STALE.iter().zip(&self.stale) {
            match (old & bit != 0, new & bit != 0) {
                (false, true) => count.set(count.get() + 1),
                (true, false) => count.set(count.get() - 1),
                _ => (),
            }
        }
        if new & !old != 0 {
            self.dirty.borrow_mut().insert(region / BLOCK);
        } else if new != old {
            self.lazy.borrow_mut().insert(region / BLOCK);
        }
    }

    /// It is stale on `leg`. It must not be on the other.
    pub fn set_stale(&self, leg: usize, region: u64) {
        self.change(region, STALE[leg], 0);
    }

    /// It is as it should be, on `leg`.
    pub fn set_fresh(&self, leg: usize, region: u64) {
        self.change(region, 0, STALE[leg]);
    }

    /// It is being written to.
    pub fn set_written(&self, region: u64) {
        self.change(region, WRITTEN, 0);
    }

    /// The legs have the same there, also after a power cut.
    pub fn set_settled(&self, region: u64) {
        self.change(region, 0, WRITTEN);
    }

    /// All that must be in the file is there when this returns.
    pub async fn save(&self) -> io::Result<()> {
        if self.dirty.borrow().is_empty() && !self.busy.get() {
            return Ok(());
        }
        self.saving.run(|| self.save_now()).await
    }

    /// And what may be in the file.
    pub async fn save_all(&self) -> io::Result<()> {
        self.dirty.borrow_mut().append(&mut self.lazy.borrow_mut());
        self.save().await
    }

    async fn save_now(&self) -> io::Result<()> {
        self.dirty.borrow_mut().append(&mut self.lazy.borrow_mut());
        let mut saving = Saving {
            map: self,
            blocks: self.dirty.take(),
        };
        self.busy.set(true);
        let block = |index: &u64| {
            let start = (index * BLOCK) as usize;
            let states = self.states.borrow();
            (
                BLOCK + index * BLOCK,
                Buf::copy_of(&states[start..start + BLOCK as usize]),
            )
        };
        let blocks: Vec<(u64, Buf)> = saving.blocks.iter().map(block).collect();
        let writes = blocks
            .iter()
            .map(|(at, block)| self.file.write(*at, block, false));
        for result in rt::join_all(writes).await {
            result?;
        }
        self.file.flush().await?;
        saving.blocks.clear();
        Ok(())
    }
}

/// Blocks that are being written, and must be written again if that comes to nothing.
struct Saving<'a> {
    map: &'a Map,
    blocks: BTreeSet<u64>,
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.map.busy.set(false);
        self.map.dirty.borrow_mut().append(&mut self.blocks);
    }
}

fn header(size: u64, region: u64) -> Buf {
    let mut bytes = Buf::zeroed(BLOCK as usize);
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(region as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&size.to_le_bytes());
    let sum = crc32c(&bytes[..SUM]);
    bytes[SUM..].copy_from_slice(&sum.to_le_bytes());
    bytes
}
