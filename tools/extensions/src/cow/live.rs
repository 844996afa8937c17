// SPDX-License-Identifier: GPL-2.0
//! Bits of the map that are not in the delta yet, where they outlive this program.
//!
//! The delta gets a bit when its cluster is stable, at a flush. A guest whose program is killed
//! before that has not lost its power: what was answered must be there. So each bit is put into a
//! file in memory as well, which a power cut takes away, as it should.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Where such files are, of root and of others.
const STATE: &str = "/run/blktap";
const OTHERS: &str = "XDG_RUNTIME_DIR";

/// The file in memory that belongs to a delta.
pub struct Live {
    path: PathBuf,
    /// Not there where there is no place for it.
    file: Option<File>,
}

impl Live {
    /// That of the delta `file`, with what is in it.
    ///
    /// # Errors
    /// Those of looking at the delta, and of reading what there is.
    pub fn open(delta: &File) -> io::Result<(Self, Vec<u8>)> {
        let path = place(delta)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let mut file = made.and_then(|()| options.open(&path)).ok();
        let mut bits = Vec::new();
        if let Some(file) = &mut file {
            file.read_to_end(&mut bits)?;
        }
        Ok((Self { path, file }, bits))
    }

    /// Puts `bytes` of the map, from its byte `at` on; `false`: there is no place for them.
    pub fn put(&self, at: u64, bytes: &[u8]) -> bool {
        let put = |file: &File| file.write_all_at(bytes, at).is_ok();
        self.file.as_ref().is_some_and(put)
    }

    /// The delta has it all.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What is in memory for the delta at `path` is of one that is no more.
pub fn forget(path: &Path) {
    if let Ok(place) = File::open(path).and_then(|file| place(&file)) {
        let _ = fs::remove_file(place);
    }
}

fn place(delta: &File) -> io::Result<PathBuf> {
    let meta = delta.metadata()?;
    // A block device is the same by whatever name; a file's number may be another one's later.
    let born = meta.created().ok();
    let born = born.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (device, number, born) = match meta.rdev() {
        0 => (meta.dev(), meta.ino(), born.map_or(0, |it| it.as_nanos())),
        device => (device, 0, 0),
    };
    let state = match fs::metadata("/proc/self").is_ok_and(|me| me.uid() != 0) {
        true => std::env::var_os(OTHERS).map(|path| Path::new(&path).join("blktap")),
        false => Some(STATE.into()),
    };
    // Without such a folder, one that cannot be made.
    let state = state.unwrap_or_else(|| "/proc/blktap".into());
    Ok(state.join(format!("cow-{device:x}-{number:x}-{born:x}")))
}
