// SPDX-License-Identifier: GPL-2.0
//! `raw`: a file or a block device as it is.

use crate::chain::{Extension, Opt, Options};
use crate::rt::{self, Fd};
use crate::sys::{op, os};
use crate::{Buf, Disk, Info};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// How often the size of a file is looked at, which may grow while it is used.
const LOOK: Duration = Duration::from_secs(2);

/// A file or a block device: `O_DIRECT` where the file system knows it and the request is aligned,
/// by the page cache otherwise.
pub struct Raw {
    path: PathBuf,
    /// For requests that are not aligned as `direct` wants it.
    cached: Fd,
    direct: Option<Fd>,
    /// What `direct` wants the offsets and lengths to be multiples of.
    align: u64,
    info: Info,
    size: Cell<u64>,
    file: File,
}

impl Raw {
    /// Opens `path`; without `direct`, by the page cache only.
    ///
    /// # Errors
    /// Those of open, with the path.
    pub fn open(path: &Path, read_only: bool, direct: bool) -> io::Result<Self> {
        let context =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only);
        let file = options.open(path).map_err(context)?;
        let kind = file.metadata().map_err(context)?.file_type();
        let (block, physical) = match kind.is_block_device() {
            true => os::block_sizes(&file).map_err(context)?,
            false if kind.is_file() => (512, 4096),
            false => return Err(context(io::Error::other("no file and no block device"))),
        };
        let size = end(&file).map_err(context)?;
        let direct = direct
            .then(|| options.custom_flags(libc::O_DIRECT).open(path).ok())
            .flatten();
        Ok(Self {
            path: path.into(),
            cached: Rc::new(file.try_clone().map_err(context)?.into()),
            align: if kind.is_file() { 4096 } else { block.into() },
            direct: direct.map(|file| Rc::new(file.into())),
            info: Info {
                block_size: block,
                physical_block_size: physical,
                read_only,
                discard: !read_only,
                discard_granularity: physical,
                ..Info::new(0)
            },
            size: Cell::new(size),
            file,
        })
    }

    /// The file for a request; memory is aligned too, as long as the offset in it is.
    fn file(&self, at: u64, buf: &Buf) -> &Fd {
        let bits = at | buf.len() as u64 | buf.as_ptr() as u64;
        match &self.direct {
            Some(direct) if bits % self.align == 0 => direct,
            _ => &self.cached,
        }
    }

    fn context(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// `fallocate`, and whether the file system can.
    async fn allocate(&self, mode: i32, at: u64, len: u64) -> io::Result<bool> {
        let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
        match op::allocate(&self.cached, mode, at, len).await {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => Ok(false),
                _ => Err(self.context(error)),
            },
        }
    }
}

/// Bytes of a file or a block device.
fn end(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

impl Disk for Raw {
    fn info(&self) -> Info {
        let block = u64::from(self.info.block_size);
        Info {
            size: self.size.get() / block * block,
            ..self.info
        }
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let file = self.file(at, buf);
        let mut done = op::read_at(file, buf, at).await;
        if matches!(&done, Ok(n) if *n == buf.len()) {
            return Ok(());
        }
        // Rare: a part only, or the file refuses the alignment.
        if matches!(&done, Err(error) if error.raw_os_error() == Some(libc::EINVAL)) {
            done = Ok(0);
        }
        let mut have = done.map_err(|error| self.context(error))?;
        while have < buf.len() {
            let mut rest = buf.part_mut(have..);
            match op::read_at(&self.cached, &mut rest, at + have as u64).await {
                Ok(0) => {
                    let short = io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("it ends at byte {}", at + have as u64),
                    );
                    return Err(self.context(short));
                }
                Ok(more) => have += more,
                Err(error) => return Err(self.context(error)),
            }
        }
        Ok(())
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let mut done = match op::write_at(self.file(at, buf), buf, at, fua).await {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => 0,
            done => done.map_err(|error| self.context(error))?,
        };
        while done < buf.len() {
            let rest = buf.part(done..);
            match op::write_at(&self.cached, &rest, at + done as u64, fua).await {
                Ok(0) => return Err(self.context(io::ErrorKind::WriteZero.into())),
                Ok(more) => done += more,
                Err(error) => return Err(self.context(error)),
            }
        }
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        let done = op::sync(&self.cached).await;
        done.map_err(|error| self.context(error))
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.allocate(libc::FALLOC_FL_PUNCH_HOLE, at, len).await?;
        Ok(())
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        if !self.allocate(libc::FALLOC_FL_ZERO_RANGE, at, len).await? {
            let zeroes = Buf::zeroed(len.min(1 << 20) as usize);
            let mut done = 0;
            while done < len {
                let part = zeroes.part(..(len - done).min(1 << 20) as usize);
                self.write(at + done, &part, false).await?;
                done += part.len() as u64;
            }
        }
        match fua {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn resized(&self) {
        loop {
            rt::sleep(LOOK).await;
            // A disk that got shorter is one whose end cannot be read: an error, not a size.
            match end(&self.file) {
                Ok(size) if size > self.size.get() => break self.size.set(size),
                _ => (),
            }
        }
    }
}

impl Extension for Raw {
    const NAME: &str = "raw";
    const HELP: &str = "a file or a block device as it is";
    const OPTIONS: &[Opt] = &[
        Opt::main("file", "its path"),
        Opt::or("readonly", "no", "yes: refuse writes"),
        Opt::or("cache", "no", "yes: by the host's page cache, not O_DIRECT"),
    ];
    const PARALLEL: bool = true;

    async fn open(options: &Options) -> io::Result<Self> {
        let direct = !options.yes("cache")?;
        Raw::open(&options.path("file")?, options.yes("readonly")?, direct)
    }
}
