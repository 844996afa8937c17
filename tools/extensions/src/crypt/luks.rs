// SPDX-License-Identifier: GPL-2.0
//! Volumes of LUKS1 and LUKS2, as in the two on-disk format specifications of the project
//! cryptsetup: where the data is, and the key, for a passphrase.
//!
//! - `crypt/luks1.rs`, `crypt/luks2.rs`: the headers, each turned into [`Header`]

use super::luks1;
use super::luks2;
use super::xts::Xts;
use argon2::{Algorithm, Argon2, Params, Version};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use std::io;
use tap::{AnyDisk, Buf};

/// The magic bytes of both versions, and of LUKS2's second header.
pub const MAGIC: &[u8; 6] = b"LUKS\xba\xbe";
pub const SECOND_MAGIC: &[u8; 6] = b"SKUL\xba\xbe";

/// What a keyslot may take: more is damage, or an attack.
const MAX_AREA: u64 = 64 << 20;
const MAX_MEMORY_KIB: u32 = 4 << 20;

/// A volume, as its header describes it.
#[derive(Clone, Debug)]
pub struct Header {
    /// Where the data begins, in bytes.
    pub offset: u64,
    /// Bytes of data; `None`: to the end.
    pub size: Option<u64>,
    /// Bytes of an encrypted sector.
    pub sector: u32,
    /// What is added to a sector's number, which is in units of 512 bytes.
    pub tweak: u64,
    pub slots: Vec<Slot>,
}

/// A copy of the volume key, encrypted with a passphrase.
#[derive(Clone, Debug)]
pub struct Slot {
    pub name: String,
    pub kdf: Kdf,
    /// Bytes of the volume key.
    pub key: usize,
    /// Bytes of the key that encrypts the slot.
    pub area_key: usize,
    /// Where the encrypted copy is, which consists of so many stripes.
    pub area: u64,
    pub stripes: usize,
    pub hash: Hash,
    pub check: Check,
}

/// How a volume key is known to be the right one.
#[derive(Clone, Debug)]
pub struct Check {
    pub hash: Hash,
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub digest: Vec<u8>,
}

/// From a passphrase to a key.
#[derive(Clone, Debug)]
pub enum Kdf {
    Pbkdf2 {
        hash: Hash,
        iterations: u32,
        salt: Vec<u8>,
    },
    Argon2 {
        id: bool,
        time: u32,
        kib: u32,
        lanes: u32,
        salt: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

pub fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("LUKS: {}", what.into()))
}

impl Hash {
    pub fn named(name: &str) -> io::Result<Self> {
        match name {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(bad(format!("the hash {name} is not known here"))),
        }
    }

    fn pbkdf2(self, password: &[u8], salt: &[u8], iterations: u32, key: &mut [u8]) {
        match self {
            Self::Sha1 => pbkdf2_hmac::<Sha1>(password, salt, iterations, key),
            Self::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, iterations, key),
            Self::Sha512 => pbkdf2_hmac::<Sha512>(password, salt, iterations, key),
        }
    }

    /// Each piece of a digest's length becomes the hash of its number and itself.
    fn diffuse(self, data: &mut [u8]) {
        fn each<D: Digest>(data: &mut [u8]) {
            let len = <D as Digest>::output_size();
            for (number, piece) in (0u32..).zip(data.chunks_mut(len)) {
                let hash = D::new().chain_update(number.to_be_bytes());
                let hash = hash.chain_update(&*piece).finalize();
                piece.copy_from_slice(&hash[..piece.len()]);
            }
        }
        match self {
            Self::Sha1 => each::<Sha1>(data),
            Self::Sha256 => each::<Sha256>(data),
            Self::Sha512 => each::<Sha512>(data),
        }
    }
}

impl Kdf {
    fn derive(&self, passphrase: &[u8], key: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Pbkdf2 {
                hash,
                iterations,
                salt,
            } => hash.pbkdf2(passphrase, salt, *iterations, key),
            Self::Argon2 {
                id,
                time,
                kib,
                lanes,
                salt,
            } => {
                if *kib > MAX_MEMORY_KIB {
                    return Err(bad(format!("a keyslot wants {kib} KiB of memory")));
                }
                let algorithm = if *id {
                    Algorithm::Argon2id
                } else {
                    Algorithm::Argon2i
                };
                let params = Params::new(*kib, *time, *lanes, Some(key.len()));
                let params = params.map_err(|error| bad(format!("Argon2: {error}")))?;
                Argon2::new(algorithm, Version::V0x13, params)
                    .hash_password_into(passphrase, salt, key)
                    .map_err(|error| bad(format!("Argon2: {error}")))?;
            }
        }
        Ok(())
    }
}

impl Slot {
    /// Bytes of the encrypted copy, in whole sectors.
    pub fn area_len(&self) -> io::Result<usize> {
        let len = (self.key as u64).checked_mul(self.stripes as u64);
        let len = len.and_then(|len| len.checked_next_multiple_of(512));
        let known = |len: &usize| matches!(len, 32 | 64);
        match len {
            Some(len @ 512..=MAX_AREA) if [self.key, self.area_key].iter().all(known) => {
                Ok(len as usize)
            }
            _ => Err(bad("a keyslot of an unknown size")),
        }
    }

    /// The volume key, if the passphrase is the slot's; `area` are its bytes.
    pub fn open(&self, passphrase: &[u8], mut area: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        let mut key = vec![0; self.area_key];
        self.kdf.derive(passphrase, &mut key)?;
        let xts = Xts::new(&key).ok_or_else(|| bad("a keyslot's key is of an unknown size"))?;
        xts.decrypt(&mut area, 512, 0);
        let stripes: Vec<&[u8]> = area.chunks_exact(self.key).take(self.stripes).collect();
        let (last, others) = stripes
            .split_last()
            .ok_or_else(|| bad("an empty keyslot"))?;
        let mut key = vec![0; self.key];
        let xor = |key: &mut [u8], with: &[u8]| {
            key.iter_mut()
                .zip(with)
                .for_each(|(byte, with)| *byte ^= with);
        };
        for stripe in others {
            xor(&mut key, stripe);
            self.hash.diffuse(&mut key);
        }
        xor(&mut key, last);
        let check = &self.check;
        let mut digest = vec![0; check.digest.len()];
        check
            .hash
            .pbkdf2(&key, &check.salt, check.iterations, &mut digest);
        Ok((digest == check.digest && !digest.is_empty()).then_some(key))
    }
}

/// Reads the header at the beginning of `disk`.
pub async fn read(disk: &AnyDisk) -> io::Result<Header> {
    let first = bytes(disk, 0, 4096).await?;
    let version = first
        .get(6..8)
        .map_or(0, |it| u16::from_be_bytes([it[0], it[1]]));
    if first.starts_with(MAGIC) && version == 1 {
        return luks1::parse(&first);
    }
    luks2::read(disk, &first).await
}

/// The `len` bytes at `at`, whatever the disk's blocks.
pub async fn bytes(disk: &AnyDisk, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let info = disk.info();
    let block = u64::from(info.block_size);
    let first = at / block * block;
    let end = (at.checked_add(len as u64)).and_then(|end| end.checked_next_multiple_of(block));
    let Some(end) = end.filter(|end| *end <= info.size) else {
        return Err(bad(format!("{len} bytes at {at} are beyond the end")));
    };
    let mut all = Vec::with_capacity((end - first) as usize);
    while first + (all.len() as u64) < end {
        let from = first + all.len() as u64;
        let mut buf = Buf::new((end - from).min(1 << 20) as usize);
        disk.read(from, &mut buf).await?;
        all.extend_from_slice(&buf);
    }
    let skip = (at - first) as usize;
    Ok(all[skip..skip + len].to_vec())
}
