// SPDX-License-Identifier: GPL-2.0
//! AES in the mode XTS (IEEE 1619), for whole sectors.
//!
//! The crate xts-mode does one block after the other, which leaves most of AES-NI's pipeline empty;
//! here all blocks of a piece go to the cipher at once. The tests compare both.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Aes256};

type Block = aes::cipher::Block<Aes256>;

/// Blocks that are given to the cipher at once: a sector of 512 bytes.
const PIECE: usize = 32;

/// A key, expanded.
pub enum Xts {
    /// AES-128, a key of 32 bytes.
    Aes128(Box<(Aes128, Aes128)>),
    /// AES-256, a key of 64 bytes.
    Aes256(Box<(Aes256, Aes256)>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Encrypt,
    Decrypt,
}

impl Xts {
    /// `None` unless the key has 32 or 64 bytes.
    pub fn new(key: &[u8]) -> Option<Self> {
        let (one, two) = key.split_at(key.len() / 2);
        match key.len() {
            32 => Some(Self::Aes128(Box::new((
                Aes128::new_from_slice(one).ok()?,
                Aes128::new_from_slice(two).ok()?,
            )))),
            64 => Some(Self::Aes256(Box::new((
                Aes256::new_from_slice(one).ok()?,
                Aes256::new_from_slice(two).ok()?,
            )))),
            _ => None,
        }
    }

    /// Encrypts sectors of `sector` bytes, a multiple of 512. `iv` is the number of the first one, in
    /// units of 512 bytes: dm-crypt's `plain64`.
    pub fn encrypt(&self, data: &mut [u8], sector: usize, iv: u64) {
        self.sectors(data, sector, iv, Way::Encrypt);
    }

    /// The reverse of [`encrypt`](Self::encrypt).
    pub fn decrypt(&self, data: &mut [u8], sector: usize, iv: u64) {
        self.sectors(data, sector, iv, Way::Decrypt);
    }

    fn sectors(&self, data: &mut [u8], sector: usize, iv: u64, way: Way) {
        match self {
            Self::Aes128(keys) => sectors(&keys.0, &keys.1, data, sector, iv, way),
            Self::Aes256(keys) => sectors(&keys.0, &keys.1, data, sector, iv, way),
        }
    }
}

fn sectors<C>(data_key: &C, tweak_key: &C, data: &mut [u8], sector: usize, iv: u64, way: Way)
where
    C: BlockCipherEncrypt
        + BlockCipherDecrypt
        + BlockSizeUser<BlockSize = aes::cipher::consts::U16>,
{
    let mut iv = iv;
    for data in data.chunks_exact_mut(sector) {
        let mut tweak: Block = Array(u128::from(iv).to_le_bytes());
        tweak_key.encrypt_block(&mut tweak);
        let mut tweak = u128::from_le_bytes(tweak.0);
        let (blocks, _) = Array::slice_as_chunks_mut(data);
        for blocks in blocks.chunks_mut(PIECE) {
            let mut tweaks = [0u128; PIECE];
            for (block, kept) in blocks.iter_mut().zip(&mut tweaks) {
                *kept = tweak;
                xor(block, tweak);
                // Multiply by x in GF(2^128).
                tweak = tweak << 1 ^ ((tweak as i128 >> 127) as u128 & 0x87);
            }
            match way {
                Way::Encrypt => data_key.encrypt_blocks(blocks),
                Way::Decrypt => data_key.decrypt_blocks(blocks),
            }
            for (block, tweak) in blocks.iter_mut().zip(&tweaks) {
                xor(block, *tweak);
            }
        }
        iv = iv.wrapping_add(sector as u64 / 512);
    }
}

fn xor(block: &mut Block, with: u128) {
    block.0 =
        (u128::from_ne_bytes(block.0) ^ u128::from_ne_bytes(with.to_le_bytes())).to_ne_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::Random;
    use std::time::Instant;
    use xts_mode::{get_tweak_default, Xts128};

    fn key(len: usize) -> Vec<u8> {
        let mut key = vec![0; len];
        Random::new(len as u64).fill(&mut key);
        key
    }

    #[test]
    fn as_the_crate_xts_mode() {
        let mut data = vec![0; 64 << 10];
        Random::new(7).fill(&mut data);
        let iv = 0x1_2345_6789;
        let (short, long) = (key(32), key(64));
        let mut want = data.clone();
        let half = |key: &[u8], at| Aes128::new_from_slice(&key[at..at + 16]).unwrap();
        Xts128::new(half(&short, 0), half(&short, 16)).encrypt_area(
            &mut want,
            512,
            iv,
            get_tweak_default,
        );
        let mut have = data.clone();
        Xts::new(&short).unwrap().encrypt(&mut have, 512, iv as u64);
        assert!(have == want);
        // Sectors of 4096 bytes are counted in units of 512.
        let half = |key: &[u8], at| Aes256::new_from_slice(&key[at..at + 32]).unwrap();
        let mut want = data.clone();
        Xts128::new(half(&long, 0), half(&long, 32)).encrypt_area(&mut want, 4096, 0, |sector| {
            get_tweak_default(iv + sector * 8)
        });
        let xts = Xts::new(&long).unwrap();
        let mut have = data.clone();
        xts.encrypt(&mut have, 4096, iv as u64);
        assert!(have == want);
        xts.decrypt(&mut have, 4096, iv as u64);
        assert!(have == data);
        assert!(Xts::new(&key(48)).is_none());
    }

    /// What a core does in a second; without AES-NI it is a tenth. `cargo test --release speed --
    /// --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        for len in [32, 64] {
            let key = key(len);
            let xts = Xts::new(&key).unwrap();
            let mut data = vec![1; 1 << 20];
            for way in ["encrypt", "decrypt", "xts-mode"] {
                let start = Instant::now();
                let mut count = 0;
                while start.elapsed().as_millis() < 500 {
                    match way {
                        "encrypt" => xts.encrypt(&mut data, 512, 0),
                        "decrypt" => xts.decrypt(&mut data, 512, 0),
                        _ if len == 64 => {
                            let half = |at| Aes256::new_from_slice(&key[at..at + 32]).unwrap();
                            let xts = Xts128::new(half(0), half(32));
                            xts.encrypt_area(&mut data, 512, 0, get_tweak_default);
                        }
                        _ => break,
                    }
                    count += 1;
                }
                let rate = f64::from(count) / start.elapsed().as_secs_f64();
                println!("AES-{}-XTS {way}: {rate:.0} MiB/s", len * 4);
            }
        }
    }
}
