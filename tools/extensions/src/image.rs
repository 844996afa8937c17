// SPDX-License-Identifier: GPL-2.0
//! `image`: a file that has a disk in the format raw or qcow2.
//!
//! The crates that know qcow2 are of no use here: imago wants rustc 1.87 wherever it can discard or
//! resize, and an `unsafe` trait of `Send` types for other file I/O than its own, which blocks;
//! qcow2-rs cannot discard, and brings tokio with all its features, tokio-uring and clap. So this is
//! the part of the format that a block device needs, over our own file I/O.
//!
//! - `image/header.rs`: the header
//! - `image/map.rs`: where each cluster is, and which are free
//! - `image/qcow2.rs`: reads and writes
//! - `image/unzip.rs`: compressed clusters

#[cfg(test)]
mod cuts;
mod header;
mod map;
mod qcow2;
#[cfg(test)]
mod tests;
mod unzip;

use header::Header;
use qcow2::Qcow2;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use tap::{AnyDisk, Buf, Disk, Extension, Info, Opt, Options, Raw};

/// So many files, each the backing file of another, can be a disk.
const DEEPEST: u32 = 64;

/// A disk in a file; `QCOW2`: of that format, else of the one that is told.
pub struct Image<const QCOW2: bool = false>(AnyDisk);

/// How to open an image.
#[derive(Clone)]
struct How {
    read_only: bool,
    direct: bool,
    /// Instead of what the image names.
    backing: Option<AnyDisk>,
}

fn context(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<AnyDisk>> + 'a>>;

/// Opens a qcow2 image and what it is based on.
fn open_qcow2(path: &Path, how: How, depth: u32) -> Opening<'_> {
    Box::pin(async move {
        if depth > DEEPEST {
            return Err(wrong(
                "too many backing files, or one that is based on itself",
            ));
        }
        let file = Raw::open(path, how.read_only, how.direct)?;
        let header = Header::read(&file).await.map_err(context(path))?;
        let backing = match (how.backing, &header.backing) {
            (Some(given), _) => Some(given),
            (None, None) => None,
            (None, Some(named)) => {
                let (path, format) = beside(path, named).map_err(context(path))?;
                let how = How {
                    read_only: true,
                    direct: how.direct,
                    backing: None,
                };
                Some(match format {
                    Format::Raw => AnyDisk::new(Raw::open(&path, true, how.direct)?),
                    Format::Qcow2 => open_qcow2(&path, how, depth + 1).await?,
                })
            }
        };
        let disk = Qcow2::open(file, header, backing, how.read_only).await;
        Ok(AnyDisk::new(disk.map_err(context(path))?))
    })
}

#[derive(Clone, Copy)]
enum Format {
    Raw,
    Qcow2,
}

/// The backing file of the image at `path`, which names it relative to itself.
fn beside(path: &Path, named: &header::Backing) -> io::Result<(PathBuf, Format)> {
    let name = named.name.strip_prefix("file:").unwrap_or(&named.name);
    if !name.starts_with('/') && name.split('/').next().is_some_and(|it| it.contains(':')) {
        return Err(wrong(format!(
            "the backing file \"{name}\" is no path: give backing=…"
        )));
    }
    let format = match named.format.as_deref() {
        Some("raw" | "file" | "host_device") => Format::Raw,
        Some("qcow2") => Format::Qcow2,
        Some(other) => {
            return Err(wrong(format!(
                "the backing file is {other}: give backing=…"
            )))
        }
        // To guess from its content would let a guest that has written it choose a file.
        None => {
            return Err(wrong(
                "the image does not say which format its backing file has: give backing=…, or \
                 tell it by qemu-img rebase -u -F FORMAT",
            ))
        }
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    Ok((directory.join(name), format))
}

impl<const QCOW2: bool> Disk for Image<QCOW2> {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.0)
    }

    fn info(&self) -> Info {
        self.0.info()
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        self.0.read(at, buf).await
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        self.0.write(at, buf, fua).await
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.0.discard(at, len).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        self.0.write_zeroes(at, len, fua).await
    }
}

const FILE: Opt = Opt::main("file", "its path");
const BACKING: Opt = Opt::may(
    "backing",
    "the disk that the image is based on, instead of what it names",
);
const READ_ONLY: Opt = Opt::or("readonly", "no", "yes: refuse writes");
const CACHE: Opt = Opt::or("cache", "no", "yes: by the host's page cache, not O_DIRECT");

async fn open(options: &Options, format: Format) -> io::Result<AnyDisk> {
    let path = options.path("file")?;
    let how = How {
        read_only: options.yes("readonly")?,
        direct: !options.yes("cache")?,
        backing: match options.get("backing") {
            Some(_) => Some(options.disk("backing", true).await?),
            None => None,
        },
    };
    Ok(match format {
        Format::Raw => AnyDisk::new(Raw::open(&path, how.read_only, how.direct)?),
        Format::Qcow2 => open_qcow2(&path, how, 0).await?,
    })
}

impl Extension for Image<false> {
    const NAME: &str = "image";
    const HELP: &str = "a file that has a disk in the format qcow2 or raw\n\n\
        With backing files and compressed clusters, as qemu-img makes them: see \
        Documentation/extensions/image.md.";
    const OPTIONS: &[Opt] = &[
        FILE,
        Opt::may(
            "format",
            "qcow2 or raw; otherwise what the file's name ends with",
        ),
        BACKING,
        READ_ONLY,
        CACHE,
    ];

    async fn open(options: &Options) -> io::Result<Self> {
        let path = options.path("file")?;
        let end = path.extension().and_then(|end| end.to_str());
        let format = match (options.get("format"), end) {
            (Some("raw"), _) | (None, Some("raw" | "img" | "iso")) => Format::Raw,
            (Some("qcow2"), _) | (None, Some("qcow2")) => Format::Qcow2,
            (Some(_), _) => return Err(options.wrong("format", "format is qcow2 or raw")),
            (None, _) => {
                let what = "the file's name does not tell: give format=qcow2 or format=raw";
                return Err(options.wrong("file", what));
            }
        };
        open(options, format).await.map(Self)
    }
}

impl Extension for Image<true> {
    const NAME: &str = "qcow2";
    const HELP: &str = "image with format=qcow2";
    const OPTIONS: &[Opt] = &[FILE, BACKING, READ_ONLY, CACHE];

    async fn open(options: &Options) -> io::Result<Self> {
        open(options, Format::Qcow2).await.map(Self)
    }
}
