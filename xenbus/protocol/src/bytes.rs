// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Little-endian numbers in the private copy of a ring's entry. What is beyond its end reads as
//! zeroes, and is not written.

/// The `N` bytes at `offset`, zeroes where `bytes` is too short.
#[inline]
pub(crate) fn get<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

#[inline]
pub(crate) fn get_u8(bytes: &[u8], offset: usize) -> u8 {
    bytes.get(offset).copied().unwrap_or(0)
}

#[inline]
pub(crate) fn get_u16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(get(bytes, offset))
}

#[inline]
pub(crate) fn get_i16(bytes: &[u8], offset: usize) -> i16 {
    i16::from_le_bytes(get(bytes, offset))
}

#[inline]
pub(crate) fn get_u32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(get(bytes, offset))
}

#[inline]
pub(crate) fn get_u64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(get(bytes, offset))
}

/// Writes `value` at `offset`, if `bytes` reaches that far.
#[inline]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    if let Some(to) = bytes
        .get_mut(offset..)
        .and_then(|rest| rest.first_chunk_mut())
    {
        *to = value;
    }
}
