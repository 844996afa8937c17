// SPDX-License-Identifier: GPL-2.0
//! Records as they stand in files: lines, those of blktrace, those of dm-log-writes.

use std::fmt::Write;
use std::io;
use std::time::Duration;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A write that is stable on return.
    WriteFua,
    /// A write of zeroes.
    Zeroes,
    /// A flush.
    Flush,
    /// A discard.
    Discard,
}

/// A request; times are from the start of the trace.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What it does.
    pub op: Op,
    /// The first byte.
    pub at: u64,
    /// Bytes.
    pub len: u64,
    /// When it came.
    pub time: Duration,
}

/// The first lines of a text.
pub fn text_header(chain: &str, epoch: Duration) -> String {
    format!(
        "# trace of {chain}\n# starts at {}.{:06} (seconds since 1970)\n\
         # time/s op sector sectors latency/us status\n",
        epoch.as_secs(),
        epoch.subsec_micros(),
    )
}

/// A request that is done, as a line.
pub fn text(request: &Request, took: Duration, result: &io::Result<()>) -> String {
    let op = match request.op {
        Op::Read => "R",
        Op::Write => "W",
        Op::WriteFua => "WF",
        Op::Zeroes => "Z",
        Op::Flush => "F",
        Op::Discard => "D",
    };
    let mut line = format!(
        "{:6}.{:06} {op:2} {:>10} {:>5} {:>7} ",
        request.time.as_secs(),
        request.time.subsec_micros(),
        request.at / 512,
        request.len / 512,
        took.as_micros(),
    );
    match result {
        Ok(()) => line.push_str("ok\n"),
        Err(error) => {
            let text = error.to_string().replace('\n', " ");
            let _ = writeln!(line, "{text}");
        }
    }
    line
}

/// Events of `struct blk_io_trace`, of linux/blktrace_api.h, in the order of a processor with its
/// low byte first, which blkparse finds out by the magic number.
#[derive(Default)]
pub struct Blktrace {
    sequence: u32,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It came: `Q`.
    Queue = 1,
    /// It goes to the disk: `D`.
    Issue = 7,
    /// It is done: `C`.
    Complete = 8,
}

const MAGIC: u32 = 0x6561_7407;
/// A Xen block device of no number: major 202.
const DEVICE: u32 = 202 << 20;

impl Blktrace {
    fn record(
        &mut self,
        time: Duration,
        sector: u64,
        bytes: u32,
        action: u32,
        error: u16,
        more: &[u8],
    ) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut record = Vec::with_capacity(48 + more.len());
        record.extend(MAGIC.to_le_bytes());
        record.extend(self.sequence.to_le_bytes());
        record.extend((time.as_nanos() as u64).to_le_bytes());
        record.extend(sector.to_le_bytes());
        record.extend(bytes.to_le_bytes());
        record.extend(action.to_le_bytes());
        record.extend(std::process::id().to_le_bytes());
        record.extend(DEVICE.to_le_bytes());
        record.extend(0u32.to_le_bytes()); // the processor
        record.extend(error.to_le_bytes());
        record.extend((more.len() as u16).to_le_bytes());
        record.extend(more);
        record
    }

    /// The start: who it is, and what the time is.
    pub fn start(&mut self, epoch: Duration) -> Vec<u8> {
        const NOTIFY: u32 = 1 << 10 << 16;
        const PROCESS: u32 = 0;
        const TIMESTAMP: u32 = 1;
        let mut name = [0; 16];
        name[..3].copy_from_slice(b"tap");
        let mut records = self.record(Duration::ZERO, 0, 0, PROCESS | NOTIFY, 0, &name);
        let mut time = [0; 8];
        time[..4].copy_from_slice(&(epoch.as_secs() as u32).to_le_bytes());
        time[4..].copy_from_slice(&epoch.subsec_nanos().to_le_bytes());
        records.extend(self.record(Duration::ZERO, 0, 0, TIMESTAMP | NOTIFY, 0, &time));
        records
    }

    /// Something that happens to `request` at `time`.
    pub fn event(
        &mut self,
        event: Event,
        request: &Request,
        time: Duration,
        result: &io::Result<()>,
    ) -> Vec<u8> {
        const READ: u32 = 1 << 0;
        const WRITE: u32 = 1 << 1;
        const FLUSH: u32 = 1 << 2;
        const DISCARD: u32 = 1 << 13;
        const FUA: u32 = 1 << 15;
        let kind = match request.op {
            Op::Read => READ,
            Op::Write | Op::Zeroes => WRITE,
            Op::WriteFua => WRITE | FUA,
            Op::Flush => WRITE | FLUSH,
            Op::Discard => WRITE | DISCARD,
        };
        let category = match event {
            Event::Queue => 1 << 4,
            Event::Issue => 1 << 6,
            Event::Complete => 1 << 7,
        };
        let action = event as u32 | (kind | category) << 16;
        let error = result
            .as_ref()
            .err()
            .map_or(0, |error| error.raw_os_error().unwrap_or(5));
        let bytes = request.len.min(u64::from(u32::MAX) / 512 * 512) as u32;
        self.record(time, request.at / 512, bytes, action, error as u16, &[])
    }
}

/// The log of dm-log-writes.
pub mod log_writes {
    /// Bytes of the superblock, and of what is before the data of an entry.
    pub const SECTOR: u64 = 512;
    /// The entry is a flush.
    pub const FLUSH: u64 = 1 << 0;
    /// A write with FUA.
    pub const FUA: u64 = 1 << 1;
    /// A discard, without data.
    pub const DISCARD: u64 = 1 << 2;
    /// No request: a text.
    pub const MARK: u64 = 1 << 3;

    const MAGIC: u64 = 0x006a_7366_7773_6872;

    fn sector(numbers: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.resize(SECTOR as usize, 0);
        bytes
    }

    /// The first sector.
    pub fn superblock(entries: u64) -> Vec<u8> {
        sector(&[MAGIC, 1, entries, SECTOR])
    }

    /// An entry, with the bytes `data`; those of a mark are in its sector.
    pub fn entry(flags: u64, at: u64, len: u64, data: &[u8]) -> Vec<u8> {
        if flags & MARK != 0 {
            let mut bytes = sector(&[0, 0, flags, data.len() as u64]);
            bytes.truncate(32);
            bytes.extend(data);
            bytes.resize(SECTOR as usize, 0);
            return bytes;
        }
        let mut bytes = sector(&[at / SECTOR, len / SECTOR, flags, 0]);
        bytes.extend(data);
        bytes
    }
}
