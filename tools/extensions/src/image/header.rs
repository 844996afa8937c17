// SPDX-License-Identifier: GPL-2.0
//! The header of an image, as in QEMU's `docs/interop/qcow2.txt`. All numbers are big-endian.

use super::wrong;
use std::io;
use tap::{Buf, Disk};

const MAGIC: &[u8; 4] = b"QFI\xfb";
const BACKING_FORMAT: u32 = 0xe279_2aca;
const BITMAPS: u32 = 0x2385_2875;

/// Bits of what a reader has to know.
pub const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Where `incompatible` and `autoclear` are.
pub const INCOMPATIBLE_AT: usize = 72;
pub const AUTOCLEAR_AT: usize = 88;

/// The file that an image is based on.
#[derive(Clone, Debug)]
pub struct Backing {
    pub name: String,
    pub format: Option<String>,
}

/// What an image's header says.
#[derive(Clone, Debug)]
pub struct Header {
    /// The logarithm of a cluster's size.
    pub bits: u32,
    /// Bytes of the disk.
    pub size: u64,
    pub l1_at: u64,
    pub l1_entries: usize,
    /// The table of refcount blocks.
    pub table_at: u64,
    pub table_clusters: u64,
    pub incompatible: u64,
    pub zstd: bool,
    pub backing: Option<Backing>,
    /// Why it cannot be written to.
    pub fixed: Option<&'static str>,
}

impl Header {
    /// Bytes of a cluster.
    pub fn cluster(&self) -> u64 {
        1 << self.bits
    }

    pub async fn read(file: &impl Disk) -> io::Result<Self> {
        // Header, extensions and the backing file's name are in the first cluster.
        let len = file.info().size.min(2 << 20);
        let mut bytes = Buf::zeroed(len.max(4096) as usize);
        let mut part = bytes.part_mut(..len as usize);
        if len > 0 {
            file.read(0, &mut part).await?;
        }
        drop(part);
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let short = || wrong("the header is cut short");
        let u32_at = |at: usize| {
            let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
            bytes
                .map(|bytes| u32::from_be_bytes(*bytes))
                .ok_or_else(short)
        };
        let u64_at = |at: usize| {
            let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
            bytes
                .map(|bytes| u64::from_be_bytes(*bytes))
                .ok_or_else(short)
        };
        let text = |at: u64, len: u32| {
            let range = at as usize..(at as usize).saturating_add(len as usize);
            let bytes = bytes.get(range).ok_or_else(short)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(bytes).into_owned())
        };
        if !bytes.starts_with(MAGIC) {
            return Err(wrong("this is no qcow2 image"));
        }
        let version = u32_at(4)?;
        let bits = u32_at(20)?;
        if !matches!(version, 2 | 3) || !(9..=21).contains(&bits) {
            return Err(wrong(format!(
                "version {version}, clusters of 2^{bits} bytes"
            )));
        }
        let (incompatible, order, length) = match version {
            2 => (0, 4, 72),
            _ => (u64_at(INCOMPATIBLE_AT)?, u32_at(96)?, u32_at(100)?),
        };
        let known = DIRTY | CORRUPT | COMPRESSION;
        match incompatible & !known {
            0 => (),
            DATA_FILE => return Err(wrong("an image with a data file of its own")),
            EXTENDED_L2 => return Err(wrong("an image with subclusters (extended_l2)")),
            bits => return Err(wrong(format!("incompatible features {bits:#x}"))),
        }
        if u32_at(32)? != 0 {
            return Err(wrong("the image is encrypted; use the filter crypt"));
        }
        let zstd = match (incompatible & COMPRESSION != 0, bytes.get(104)) {
            (false, _) | (true, Some(0)) => false,
            (true, Some(1)) => true,
            _ => return Err(wrong("an unknown compression")),
        };
        let (name_at, name_len) = (u64_at(8)?, u32_at(16)?);
        let (mut format, mut bitmaps) = (None, false);
        let mut at = u64::from(length);
        loop {
            let (kind, len) = (u32_at(at as usize)?, u32_at(at as usize + 4)?);
            match kind {
                0 => break,
                BACKING_FORMAT => format = Some(text(at + 8, len)?),
                BITMAPS => bitmaps = true,
                _ => (),
            }
            at += 8 + u64::from(len).next_multiple_of(8);
        }
        let backing = match name_at {
            0 => None,
            _ if name_len > 1023 => return Err(wrong("a backing file's name that is too long")),
            _ => Some(Backing {
                name: text(name_at, name_len)?,
                format,
            }),
        };
        let header = Self {
            bits,
            size: u64_at(24)?,
            l1_at: u64_at(40)?,
            l1_entries: u32_at(36)? as usize,
            table_at: u64_at(48)?,
            table_clusters: u32_at(56)?.into(),
            incompatible,
            zstd,
            backing,
            fixed: match () {
                () if version == 2 => Some("it is of version 2: qemu-img amend -o compat=1.1"),
                () if incompatible & CORRUPT != 0 => Some("it is damaged: qemu-img check -r all"),
                () if order != 4 => Some("its reference counts are not of 16 bits"),
                () if u32_at(60)? != 0 => Some("it has snapshots inside"),
                () if bitmaps => Some("it has dirty bitmaps inside"),
                () => None,
            },
        };
        let cluster = header.cluster();
        let reach = (header.l1_entries as u64).saturating_mul(cluster / 8 * cluster);
        if header.l1_entries > 4 << 20
            || header.size > reach
            || header.table_clusters << bits > 8 << 20
        {
            return Err(wrong("the header's sizes do not fit together"));
        }
        if (header.l1_at | header.table_at) % cluster != 0
            || (header.l1_at | header.table_at) >> 55 != 0
        {
            return Err(wrong("tables that do not begin with a cluster"));
        }
        Ok(header)
    }
}
