// SPDX-License-Identifier: GPL-2.0
//! `crypt`: a disk whose data is encrypted below, in volumes of LUKS.
//!
//! - `crypt/luks.rs`, `crypt/luks1.rs`, `crypt/luks2.rs`: the volume's header
//! - `crypt/xts.rs`: the encryption

mod luks;
mod luks1;
mod luks2;
#[cfg(test)]
mod tests;
mod xts;

use luks::Header;
use sha2::{Digest, Sha256};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tap::rt;
use tap::{AnyDisk, Buf, Disk, Extension, Info, Opt, Options};
use xts::Xts;

/// The keys of volumes that are open: each queue of a guest's disk opens it for itself, and to find
/// the key takes a second and much memory, on purpose.
static KEYS: Mutex<Vec<([u8; 32], Weak<Xts>)>> = Mutex::new(Vec::new());

/// What a LUKS volume on the disk below contains.
pub struct Crypt {
    below: AnyDisk,
    key: Arc<Xts>,
    header: Header,
    discard: bool,
}

impl Crypt {
    /// Opens the volume on `below`, whose header is on `header`.
    ///
    /// # Errors
    /// If there is no such volume, or no keyslot has this passphrase.
    pub async fn open(
        below: AnyDisk,
        header: &AnyDisk,
        passphrase: Vec<u8>,
        discard: bool,
    ) -> io::Result<Self> {
        let volume = luks::read(header).await?;
        let mut areas = Vec::new();
        for slot in &volume.slots {
            areas.push(luks::bytes(header, slot.area, slot.area_len()?).await?);
        }
        let slots = volume.slots.clone();
        let key = rt::unblock(move || key(&slots, areas, &passphrase)).await??;
        let size = below.info().size.checked_sub(volume.offset);
        let size = size.filter(|size| volume.size.is_none_or(|wanted| wanted <= *size));
        if size.is_none_or(|size| size == 0) {
            return Err(luks::bad("the disk ends before the volume does"));
        }
        if volume.offset % u64::from(below.info().block_size) != 0 {
            return Err(luks::bad(
                "the data does not begin with a block of the disk below",
            ));
        }
        Ok(Self {
            below,
            key,
            header: volume,
            discard,
        })
    }

    fn iv(&self, at: u64) -> u64 {
        (at / 512).wrapping_add(self.header.tweak)
    }
}

/// The volume key. The lock is held all the time, so that who comes second finds it there.
fn key(slots: &[luks::Slot], areas: Vec<Vec<u8>>, passphrase: &[u8]) -> io::Result<Arc<Xts>> {
    let mut known = Sha256::new_with_prefix(passphrase);
    for (slot, area) in slots.iter().zip(&areas) {
        known.update(&slot.check.digest);
        known.update(area);
    }
    let known: [u8; 32] = known.finalize().into();
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    keys.retain(|(_, key)| key.strong_count() > 0);
    let found = keys.iter().find(|(of, _)| *of == known);
    if let Some(key) = found.and_then(|(_, key)| key.upgrade()) {
        return Ok(key);
    }
    let mut result = Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        match slots.is_empty() {
            true => "LUKS: there is no keyslot that is known here",
            false => "LUKS: no keyslot has this passphrase",
        },
    ));
    for (slot, area) in slots.iter().zip(areas) {
        match slot.open(passphrase, area) {
            Ok(Some(key)) => {
                let xts = Xts::new(&key).ok_or_else(|| luks::bad("a key of an unknown size"))?;
                let xts = Arc::new(xts);
                keys.push((known, Arc::downgrade(&xts)));
                return Ok(xts);
            }
            Ok(None) => (),
            Err(error) => {
                result = Err(luks::bad(format!("keyslot {}: {error}", slot.name)));
            }
        }
    }
    result
}

impl Disk for Crypt {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.below)
    }

    fn info(&self) -> Info {
        let below = self.below.info();
        let block_size = below.block_size.max(self.header.sector);
        let left = below.size.saturating_sub(self.header.offset);
        let size = self.header.size.unwrap_or(left).min(left);
        Info {
            size: size / u64::from(block_size) * u64::from(block_size),
            block_size,
            physical_block_size: below.physical_block_size.max(block_size),
            discard: below.discard && self.discard,
            ..below
        }
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        self.below.read(at + self.header.offset, buf).await?;
        let sector = self.header.sector as usize;
        self.key.decrypt(buf, sector, self.iv(at));
        Ok(())
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let mut copy = Buf::copy_of(buf);
        let sector = self.header.sector as usize;
        self.key.encrypt(&mut copy, sector, self.iv(at));
        self.below.write(at + self.header.offset, &copy, fua).await
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        match self.discard {
            true => self.below.discard(at + self.header.offset, len).await,
            false => Ok(()),
        }
    }
}

impl Extension for Crypt {
    const NAME: &str = "crypt";
    const HELP: &str = "what a LUKS volume on the disk below contains: AES-XTS\n\n\
        Volumes of LUKS1 and LUKS2, as cryptsetup makes them: see \
        Documentation/extensions/crypt.md.";
    const OPTIONS: &[Opt] = &[
        Opt::may(
            "key-file",
            "a file whose bytes, all of them, are the passphrase",
        ),
        Opt::may(
            "passphrase-file",
            "a file whose first line is the passphrase",
        ),
        Opt::may(
            "header",
            "the disk that has the volume's header; otherwise the one below",
        ),
        Opt::or(
            "discard",
            "no",
            "yes: discard below too, which shows what is in use",
        ),
    ];
    const FILTER: bool = true;
    const PARALLEL: bool = true;

    async fn open(options: &Options) -> io::Result<Self> {
        let below = options.below()?;
        let given = ["key-file", "passphrase-file"].map(|name| options.get(name).map(|_| name));
        let (name, line) = match given {
            [Some(name), None] => (name, false),
            [None, Some(name)] => (name, true),
            _ => return Err(options.wrong("key-file", "it needs key-file or passphrase-file")),
        };
        let path = options.path(name)?;
        let mut passphrase = std::fs::read(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        if line {
            let end = passphrase.iter().position(|byte| *byte == b'\n');
            passphrase.truncate(end.unwrap_or(passphrase.len()));
        }
        let header = match options.get("header") {
            Some(_) => options.disk("header", true).await?,
            None => below.clone(),
        };
        let discard = options.yes("discard")?;
        Crypt::open(below, &header, passphrase, discard).await
    }
}
