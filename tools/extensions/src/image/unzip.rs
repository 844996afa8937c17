// SPDX-License-Identifier: GPL-2.0
//! Compressed clusters: deflate without a header, or zstd.

use super::wrong;
use miniz_oxide::inflate::core::{decompress, inflate_flags, DecompressorOxide};
use miniz_oxide::inflate::TINFLStatus;
use std::io::{self, Read};

/// The `size` bytes that `from` stands for. What follows in `from` is not looked at.
pub fn unzip(from: &[u8], size: usize, zstd: bool) -> io::Result<Vec<u8>> {
    let mut out = vec![0; size];
    if zstd {
        let decoder = zstd::stream::read::Decoder::with_buffer(from)?;
        decoder.single_frame().read_exact(&mut out)?;
        return Ok(out);
    }
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut state = DecompressorOxide::new();
    let (status, _, have) = decompress(&mut state, from, &mut out, 0, flags);
    match status {
        // QEMU's stream ends with the cluster, or the cluster before the stream.
        TINFLStatus::Done | TINFLStatus::HasMoreOutput if have == size => Ok(out),
        _ => Err(wrong("a compressed cluster is damaged")),
    }
}
