// SPDX-License-Identifier: GPL-2.0
//! The first 4096 bytes of a delta.

use crate::common::crc32c;
use std::io;

/// Bytes of the header, of a block of the map, and what places in the file are multiples of.
pub const BLOCK: u64 = 4096;
/// Where the data is, if the map is short enough.
const DATA: u64 = 1 << 20;
/// So many clusters there are at most: a map of 512 MiB.
const MOST: u64 = 1 << 32;
/// More clusters than this there are only if they were asked to be so small: a map of 32 MiB.
const MANY: u64 = 1 << 28;

const MAGIC: [u8; 8] = *b"tap-cow\n";
const VERSION: u32 = 1;
/// Where the checksum of all that is before it is.
const SUM: usize = 4092;

/// What a delta is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of a cluster, a power of two from 512 to 2 MiB.
    pub cluster: u32,
    /// Bytes of a logical block of the disk; a cluster has one at least.
    pub block: u32,
    /// Bytes of the disk, and of the base.
    pub size: u64,
    /// Bytes of the map, a multiple of [`BLOCK`].
    pub map_len: u64,
    /// Where in the file byte 0 of the disk is.
    pub data: u64,
}

impl Header {
    /// For a disk of `size` bytes in blocks of `block`. Clusters are of 4 KiB, but more for disks
    /// beyond 1 TiB, if it is not said how large.
    ///
    /// # Errors
    /// What is wrong with the cluster, or with the disk.
    pub fn new(size: u64, block: u32, cluster: Option<u64>) -> Result<Self, String> {
        let cluster = cluster.unwrap_or_else(|| {
            let fair = size.div_ceil(MANY).next_power_of_two();
            fair.max(BLOCK)
        });
        let fits = cluster.is_power_of_two() && (512..=2 << 20).contains(&cluster);
        if !fits || cluster < block.into() {
            return Err(format!(
                "a cluster is a power of two from {block} to 2M bytes, not {cluster}"
            ));
        }
        let clusters = size.div_ceil(cluster);
        if clusters > MOST {
            return Err(format!("a disk of {size} bytes needs larger clusters"));
        }
        let map_len = clusters.div_ceil(8).max(1).next_multiple_of(BLOCK);
        Ok(Self {
            cluster: cluster as u32,
            block,
            size,
            map_len,
            data: (BLOCK + map_len).next_multiple_of(DATA.max(cluster)),
        })
    }

    /// How many clusters the disk has; the last may not be a whole one.
    pub fn clusters(&self) -> u64 {
        self.size.div_ceil(self.cluster.into())
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.data + self.clusters() * u64::from(self.cluster)
    }

    /// As it stands in the file.
    pub fn encode(&self) -> [u8; BLOCK as usize] {
        let mut bytes = [0; BLOCK as usize];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &self.cluster.to_le_bytes());
        put(16, &self.size.to_le_bytes());
        put(24, &BLOCK.to_le_bytes());
        put(32, &self.map_len.to_le_bytes());
        put(40, &self.data.to_le_bytes());
        put(48, &self.block.to_le_bytes());
        let sum = crc32c(&bytes[..SUM]);
        bytes[SUM..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// From the first [`BLOCK`] bytes of a file.
    ///
    /// # Errors
    /// That it is no delta, or one that is damaged or newer than this program.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let Some(bytes) = bytes.get(..BLOCK as usize) else {
            return wrong("it is too short for a delta");
        };
        let four = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
        if bytes[..8] != MAGIC {
            return wrong("it is no delta");
        }
        if four(8) != VERSION {
            return wrong("it is a delta of a version that this program does not know");
        }
        if four(SUM) != crc32c(&bytes[..SUM]) {
            return wrong("the header of the delta is damaged");
        }
        // Only one layout follows from the sizes so far.
        match Self::new(eight(16), four(48), Some(four(12).into())) {
            Ok(header) if header.encode() == *bytes => Ok(header),
            _ => wrong("the header of the delta makes no sense"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_written() {
        for (size, cluster) in [
            (0, None),
            (512, None),
            (10 << 40, None),
            (1 << 30, Some(65536)),
        ] {
            let header = Header::new(size, 512, cluster).unwrap();
            assert_eq!(Header::decode(&header.encode()).unwrap(), header);
            assert!(header.map_len * 8 >= header.clusters());
            assert!(header.data >= BLOCK + header.map_len && header.data % DATA == 0);
        }
        assert_eq!(Header::new(1 << 40, 512, None).unwrap().cluster, 4096);
        assert_eq!(Header::new(3 << 40, 512, None).unwrap().cluster, 16384);
    }

    #[test]
    fn damage_is_noticed() {
        let good = Header::new(1 << 20, 512, None).unwrap().encode();
        for at in [0, 8, 12, 16, 24, 32, 40, 48, 52, 4000, 4092] {
            let mut bad = good;
            bad[at] ^= 1;
            assert!(Header::decode(&bad).is_err(), "byte {at}");
        }
        assert!(Header::decode(&good[..4000]).is_err());
        for cluster in [0, 511, 513, 4 << 20] {
            assert!(Header::new(1 << 20, 512, Some(cluster)).is_err());
        }
        assert!(Header::new(1 << 20, 4096, Some(512)).is_err());
        assert!(Header::new(u64::MAX, 512, Some(512)).is_err());
    }
}
