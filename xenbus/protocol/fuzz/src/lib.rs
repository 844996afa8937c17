// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Fuzz targets: each takes bytes, does with them what a hostile peer could, and panics if the
//! protocol crate does not keep a promise.
//!
//! - [`ring`]: both ends of a ring, in a memory that changes under their feet
//! - [`blkif`]: a request out of the ring, up to the sectors of a disk; a response
//! - [`netif`]: the rings of a network device, from either end
//! - [`negotiate`]: what is read from xenstore
//! - [`tapped`]: what a program behind a tap says

mod blkif;
mod negotiate;
mod netif;
mod ring;
mod tapped;
#[cfg(test)]
mod tests;

pub use blkif::blkif;
pub use negotiate::negotiate;
pub use netif::netif;
pub use ring::ring;
pub use tapped::tapped;

/// Numbers taken off the front of an input; zeroes at its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        for (to, from) in array.iter_mut().zip(self) {
            *to = from;
        }
        array
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

impl Iterator for Input<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}
