// SPDX-License-Identifier: GPL-2.0
//! What has changed, and into the base with it.

use super::check_base;
use super::delta::{open_path, Delta, Make};
use super::header::Header;
use std::fmt::Write;
use std::io;
use std::ops::Range;
use std::path::Path;
use tap::{AnyDisk, Buf};

/// Bytes that are copied at once.
const STEP: u64 = 1 << 20;

/// Writes what is in the delta at `path` into `base`, and empties the delta. `progress` is told how
/// many bytes are done, of how many. Nobody else may have either open.
///
/// It can be done again, from the start, after it has failed or was cut off: the delta keeps all
/// until the base has it all, and both together are the same disk at any time.
///
/// # Errors
/// Those of the delta and of the base; that the base is read-only, or of another size.
pub async fn commit(
    base: &AnyDisk,
    path: &Path,
    progress: impl FnMut(u64, u64),
) -> io::Result<Changes> {
    let delta = open_path(path, Make::No, none).await?;
    delta.settle().await?;
    commit_delta(base, &delta, progress).await
}

pub(super) async fn commit_delta(
    base: &AnyDisk,
    delta: &Delta,
    mut progress: impl FnMut(u64, u64),
) -> io::Result<Changes> {
    check_base(&base.info(), &delta.header)?;
    if base.info().read_only {
        return Err(io::Error::other("the base is read-only"));
    }
    let changes = Changes::of(delta);
    let (mut done, total) = (0, changes.changed());
    for run in changes.runs.iter().filter(|run| run.changed) {
        let mut at = run.bytes.start;
        while at < run.bytes.end {
            let mut buf = Buf::new((run.bytes.end - at).min(STEP) as usize);
            delta.file.read(delta.header.data + at, &mut buf).await?;
            base.write(at, &buf, false).await?;
            at += buf.len() as u64;
            done += buf.len() as u64;
            progress(done, total);
        }
    }
    base.flush().await?;
    delta.map.borrow_mut().clear();
    delta.flush().await?;
    for run in changes.runs.iter().filter(|run| run.changed) {
        let len = run.bytes.end - run.bytes.start;
        delta
            .file
            .discard(delta.header.data + run.bytes.start, len)
            .await?;
    }
    Ok(changes)
}

fn none() -> io::Result<Header> {
    Err(io::ErrorKind::NotFound.into())
}

/// What of a disk is in its delta. As long as somebody has the disk open, and after a program that
/// was killed, it is what was so at the last flush.
///
/// # Errors
/// Those of the file, and that it is no delta.
pub async fn changes(path: &Path) -> io::Result<Changes> {
    let file = AnyDisk::new(tap::Raw::open(path, true, false)?);
    let delta = Delta::open(file, &path.display().to_string()).await?;
    Ok(Changes::of(&delta))
}

/// What of a disk has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a cluster.
    pub cluster: u32,
    /// All of the disk, in order.
    pub runs: Vec<Run>,
    data: u64,
}

/// A piece of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// From where to where.
    pub bytes: Range<u64>,
    /// Whether it is in the delta.
    pub changed: bool,
}

impl Changes {
    pub(super) fn of(delta: &Delta) -> Self {
        let (header, map) = (&delta.header, delta.map.borrow());
        let cluster = u64::from(header.cluster);
        let run = |(clusters, changed): (Range<u64>, bool)| Run {
            bytes: clusters.start * cluster..(clusters.end * cluster).min(header.size),
            changed,
        };
        Self {
            size: header.size,
            cluster: header.cluster,
            runs: map.runs(map.whole()).map(run).collect(),
            data: header.data,
        }
    }

    /// Bytes that are in the delta.
    pub fn changed(&self) -> u64 {
        let changed = self.runs.iter().filter(|run| run.changed);
        changed.map(|run| run.bytes.end - run.bytes.start).sum()
    }

    /// As `qemu-img map --output=json` has it: what is in the delta has depth 0 and its offset there,
    /// the rest depth 1.
    pub fn to_json(&self) -> String {
        let mut text = String::from("[");
        for (index, run) in self.runs.iter().enumerate() {
            let (start, len) = (run.bytes.start, run.bytes.end - run.bytes.start);
            let separator = if index == 0 { "" } else { ",\n" };
            let _ = write!(
                text,
                "{separator}{{ \"start\": {start}, \"length\": {len}, \"depth\": {}, \
                 \"present\": true, \"zero\": false, \"data\": true, \"offset\": {} }}",
                u8::from(!run.changed),
                if run.changed {
                    self.data + start
                } else {
                    start
                },
            );
        }
        text + "]\n"
    }

    /// What is in the delta, a line for each piece: where it starts, and its length; then the sum.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for run in self.runs.iter().filter(|run| run.changed) {
            let len = run.bytes.end - run.bytes.start;
            let _ = writeln!(text, "{:>16} {len:>16}", run.bytes.start);
        }
        let (changed, size) = (self.changed(), self.size);
        let _ = writeln!(text, "{changed} of {size} bytes changed");
        text
    }
}
