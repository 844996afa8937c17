// SPDX-License-Identifier: GPL-2.0
//! What several extensions need.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tap::{rt, AnyDisk, Buf, Raw};

/// What is written.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// These bytes.
    Bytes(&'a Buf),
    /// So many zeroes.
    Zeroes(u64),
}

impl Data<'_> {
    /// Bytes.
    pub fn len(&self) -> u64 {
        match self {
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Zeroes(len) => *len,
        }
    }

    /// Writes it to byte `at` of `disk`.
    pub async fn put(&self, disk: &AnyDisk, at: u64, fua: bool) -> io::Result<()> {
        match self {
            Data::Bytes(bytes) => disk.write(at, bytes, fua).await,
            Data::Zeroes(len) => disk.write_zeroes(at, *len, fua).await,
        }
    }
}

/// Work that many ask for at the same time, and that is done once for all who asked before it began.
pub struct Share {
    /// The number of the first call that is not done.
    turn: rt::Lock<u64>,
    calls: Cell<u64>,
}

impl Share {
    /// Nobody has asked.
    pub fn new() -> Self {
        Self {
            turn: rt::Lock::new(0),
            calls: Cell::new(0),
        }
    }

    /// Does `work`, unless somebody did it who began after this call.
    pub async fn run<F: Future<Output = io::Result<()>>>(
        &self,
        work: impl FnOnce() -> F,
    ) -> io::Result<()> {
        let call = self.calls.replace(self.calls.get() + 1);
        let mut done = self.turn.lock().await;
        if *done > call {
            return Ok(());
        }
        let first_left = self.calls.get();
        work().await?;
        *done = first_left;
        Ok(())
    }
}

/// Makes a file of `len` bytes, which `fill` fills, and puts it in its place when it is whole.
pub async fn make_file<F: Future<Output = io::Result<()>>>(
    path: &Path,
    len: u64,
    fill: impl FnOnce(AnyDisk) -> F,
) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let context =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", new.display()));
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&new);
    let sized = file.and_then(|file| file.set_len(len)).map_err(context);
    let done = match sized.and_then(|()| Raw::open(&new, false, false)) {
        Ok(file) => fill(AnyDisk::new(file)).await,
        Err(error) => Err(error),
    };
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let done = done.and_then(|()| {
        fs::rename(&new, path).map_err(context)?;
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    });
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done
}

/// How long a file may still be locked by the program before this one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Locks a file that one program at a time may have open, for as long as what this returns lives.
pub async fn lock(path: &Path) -> io::Result<File> {
    let context =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(context)?;
    let start = Instant::now();
    while !tap::lock(&file).map_err(context)? {
        if start.elapsed() > PATIENCE {
            let busy = io::Error::new(io::ErrorKind::ResourceBusy, "it is in use");
            return Err(context(busy));
        }
        rt::sleep(Duration::from_millis(20)).await;
    }
    Ok(file)
}

/// CRC-32C (Castagnoli).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
    !bytes
        .iter()
        .fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[test]
fn crc_is_castagnolis() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
