// SPDX-License-Identifier: GPL-2.0
//! Reading a file that goes on with zeroes, and numbers in it.

use std::io;
use tap::{AnyDisk, Buf, Disk};

/// Numbers, as they are in the file.
pub(super) fn bytes(numbers: &[u64]) -> Buf {
    let mut buf = Buf::new(numbers.len() * 8);
    for (bytes, number) in buf.chunks_exact_mut(8).zip(numbers) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
    buf
}

pub(super) async fn numbers(
    file: &impl Disk,
    len: u64,
    at: u64,
    count: usize,
) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let most = (count - numbers.len()).min(128 << 10);
        let mut buf = Buf::new(most * 8);
        read(file, len, at + 8 * numbers.len() as u64, &mut buf).await?;
        let part = buf.chunks_exact(8).filter_map(|bytes| bytes.first_chunk());
        numbers.extend(part.map(|bytes| u64::from_be_bytes(*bytes)));
    }
    Ok(numbers)
}

/// Reads from a file of `len` bytes, which goes on with zeroes.
pub(super) async fn read(file: &impl Disk, len: u64, at: u64, buf: &mut Buf) -> io::Result<()> {
    let have = len.saturating_sub(at).min(buf.len() as u64) as usize;
    buf[have..].fill(0);
    match have {
        0 => Ok(()),
        _ if have == buf.len() => file.read(at, buf).await,
        _ => file.read(at, &mut buf.part_mut(..have)).await,
    }
}

pub(super) async fn read_disk(disk: &AnyDisk, len: u64, at: u64, buf: &mut Buf) -> io::Result<()> {
    let have = len.saturating_sub(at).min(buf.len() as u64) as usize;
    buf[have..].fill(0);
    match have {
        0 => Ok(()),
        _ if have == buf.len() => disk.read(at, buf).await,
        _ => disk.read(at, &mut buf.part_mut(..have)).await,
    }
}
