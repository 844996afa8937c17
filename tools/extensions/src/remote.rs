// SPDX-License-Identifier: GPL-2.0
//! `remote`: a disk that an NBD server has.
//!
//! - `remote/proto.rs`: the handshake
//! - `remote/link.rs`: requests, each on as many connections as it takes
//! - `remote/kept.rs`: writes that the server has answered, but may still forget

mod kept;
mod link;
mod proto;
#[cfg(test)]
mod tests;

use link::Link;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tap::log::Log;
use tap::nbd::proto::{command, flag, Request, COMMAND_FUA};
use tap::net::Address;
use tap::rt::{self, Task};
use tap::{Buf, Disk, Extension, Info, Opt, Options};

/// A trim or a write of zeroes is of at most so many bytes, so that it is answered in time.
const LONG: u64 = 64 << 20;

/// A disk that an NBD server has.
pub struct Remote {
    link: Rc<Link>,
    _run: Task<()>,
}

impl Remote {
    /// Connects to the export `name`; from then on, connects again whenever it has to.
    ///
    /// # Errors
    /// If the server is not there now, or has no such export.
    pub async fn connect(server: Address, name: &str, settings: Settings) -> io::Result<Self> {
        let link = Rc::new(Link::new(server, name, settings));
        let first = link.clone().connect().await?;
        let run = rt::spawn(link.clone().run(first));
        Ok(Self { link, _run: run })
    }

    /// One request for each piece of the range that the server takes at once.
    async fn ranges(&self, command: u16, at: u64, len: u64, flags: u16) -> io::Result<()> {
        let end = at.saturating_add(len);
        let mut at = at;
        while at < end {
            let len = (end - at).min(LONG);
            let request = Request::new(command, flags, at, len as u32);
            self.link.call(request, None, None).await?;
            at += len;
        }
        Ok(())
    }

    fn fua(&self, fua: bool) -> (u16, bool) {
        match (fua, self.link.export().has(flag::FUA)) {
            (false, _) => (0, false),
            (true, true) => (COMMAND_FUA, false),
            (true, false) => (0, true),
        }
    }
}

/// How patient a [`Remote`] is.
#[derive(Clone)]
pub struct Settings {
    /// A server that has not answered a request for so long is left, and called again.
    pub timeout: Duration,
    /// When there was no connection for so long, requests fail. `None`: they wait.
    pub give_up: Option<Duration>,
    /// Bytes of writes that are kept until the server has been told to make them stable.
    pub keep: u64,
    /// Where to tell of lost connections.
    pub log: Log,
}

impl Disk for Remote {
    fn info(&self) -> Info {
        self.link.export().info
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let max = self.link.export().max as usize;
        let mut done = 0;
        while done < buf.len() {
            let len = max.min(buf.len() - done);
            let request = Request::new(command::READ, 0, at + done as u64, len as u32);
            if len == buf.len() {
                return self.link.call(request, None, Some(buf)).await;
            }
            let mut part = buf.part_mut(done..done + len);
            self.link.call(request, None, Some(&mut part)).await?;
            done += len;
        }
        Ok(())
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let (flags, then_flush) = self.fua(fua);
        let max = self.link.export().max as usize;
        let mut done = 0;
        while done < buf.len() {
            let part = buf.part(done..buf.len().min(done + max));
            let len = part.len() as u32;
            let request = Request::new(command::WRITE, flags, at + done as u64, len);
            self.link.call(request, Some(&part), None).await?;
            done += part.len();
        }
        match then_flush {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&self) -> io::Result<()> {
        self.link.flush().await
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        match self.link.export().has(flag::TRIM) {
            true => self.ranges(command::TRIM, at, len, 0).await,
            false => Ok(()),
        }
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        let (flags, then_flush) = self.fua(fua);
        if self.link.export().has(flag::WRITE_ZEROES) {
            self.ranges(command::WRITE_ZEROES, at, len, flags).await?;
        } else {
            let zeroes = Buf::zeroed(len.min(1 << 20) as usize);
            let mut done = 0;
            while done < len {
                let part = zeroes.part(..(len - done).min(1 << 20) as usize);
                self.write(at + done, &part, fua).await?;
                done += part.len() as u64;
            }
        }
        match then_flush {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn resized(&self) {
        self.link.resized().await
    }

    async fn close(&self) -> io::Result<()> {
        self.link.disconnect().await;
        Ok(())
    }
}

impl Extension for Remote {
    const NAME: &str = "remote";
    const HELP: &str = "a disk that an NBD server has, by TCP or a Unix socket\n\n\
        When the connection is lost, requests wait until there is another one, and those that the \
        server has not answered are sent to it again. See Documentation/extensions/remote.md.";
    const OPTIONS: &[Opt] = &[
        Opt::main("server", "HOST:PORT, or the absolute path of a Unix socket"),
        Opt::or("export", "", "its name; empty: the server's default"),
        Opt::or(
            "timeout",
            "30s",
            "a server that does not answer for so long is called again",
        ),
        Opt::may(
            "give-up",
            "without a server for so long requests fail; otherwise they wait",
        ),
        Opt::or(
            "keep",
            "16M",
            "memory for writes that the server may still forget; 0: none",
        ),
    ];

    async fn open(options: &Options) -> io::Result<Self> {
        let server = options.text("server")?.parse();
        let server = server.map_err(|error: String| options.wrong("server", error))?;
        let settings = Settings {
            timeout: options.time("timeout")?.max(Duration::from_millis(10)),
            give_up: match options.get("give-up") {
                Some(_) => Some(options.time("give-up")?),
                None => None,
            },
            keep: options.bytes("keep")?,
            log: Log::new(options.chain()),
        };
        Remote::connect(server, options.text("export")?, settings).await
    }
}
