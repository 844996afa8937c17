// SPDX-License-Identifier: GPL-2.0
//! Streams by Unix sockets and TCP, for the NBD server and for extensions that talk to another one.

use crate::op::{self, Fd};
use crate::rt::{self, LockGuard};
use crate::Buf;
use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;

/// Bytes that are received ahead.
const AHEAD: usize = 65536;

/// Where a server is: an absolute path, or `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| {
            text.rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        };
        match text {
            _ if text.starts_with('/') => Ok(Address::Unix(text.into())),
            _ if port(text) => Ok(Address::Tcp(text.into())),
            _ => Err(format!(
                "\"{text}\" is neither the absolute path of a socket nor HOST:PORT"
            )),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => path.display().fmt(f),
            Address::Tcp(text) => text.fmt(f),
        }
    }
}

impl Address {
    fn context(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{self}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// Those of connect, with the address.
    pub async fn connect(&self) -> io::Result<(Receiver, Sender)> {
        let address = self.clone();
        let connect = move || match &address {
            Address::Unix(path) => UnixStream::connect(path).map(OwnedFd::from),
            Address::Tcp(text) => TcpStream::connect(text.as_str()).map(|stream| {
                let _ = stream.set_nodelay(true);
                stream.into()
            }),
        };
        let fd = rt::unblock(connect).await?;
        Ok(split(fd.map_err(|error| self.context(error))?))
    }

    /// Listens. A socket that a server left behind is replaced.
    ///
    /// # Errors
    /// Those of bind, with the address.
    pub fn listen(&self) -> io::Result<Listener> {
        let fd = match self {
            Address::Unix(path) => {
                let socket = path.metadata().is_ok_and(|it| it.file_type().is_socket());
                if socket && UnixStream::connect(path).is_err() {
                    let _ = std::fs::remove_file(path);
                }
                UnixListener::bind(path).map(OwnedFd::from)
            }
            Address::Tcp(text) => TcpListener::bind(text.as_str()).map(OwnedFd::from),
        };
        Ok(Listener {
            fd: Rc::new(fd.map_err(|error| self.context(error))?),
            address: self.clone(),
        })
    }
}

/// Takes connections. A Unix socket's file goes with it.
pub struct Listener {
    fd: Fd,
    address: Address,
}

impl Listener {
    /// The next connection.
    ///
    /// # Errors
    /// Those of accept.
    pub async fn accept(&self) -> io::Result<(Receiver, Sender)> {
        let mut fd = op::accept(&self.fd).await?;
        if let Address::Tcp(_) = self.address {
            let stream = TcpStream::from(fd);
            let _ = stream.set_nodelay(true);
            fd = stream.into();
        }
        Ok(split(fd))
    }

    /// The port that the system has chosen, for an address with port 0.
    pub fn port(&self) -> Option<u16> {
        let listener = TcpListener::from(self.fd.try_clone().ok()?);
        Some(listener.local_addr().ok()?.port())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn split(fd: OwnedFd) -> (Receiver, Sender) {
    let fd = Rc::new(fd);
    let receiver = Receiver {
        fd: fd.clone(),
        ahead: Buf::new(AHEAD),
        have: 0..0,
    };
    (receiver, Sender(Rc::new(rt::Lock::new(fd))))
}

/// The receiving half of a stream.
pub struct Receiver {
    fd: Fd,
    ahead: Buf,
    /// What of it was received, and not taken.
    have: Range<usize>,
}

impl Receiver {
    /// Fills `buf`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the stream ends before.
    pub async fn receive(&mut self, buf: &mut Buf) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let wanted = buf.len() - done;
            if self.have.is_empty() && wanted >= AHEAD / 2 {
                done += some(op::recv(&self.fd, &mut buf.part_mut(done..)).await)?;
                continue;
            }
            if self.have.is_empty() {
                self.have = 0..some(op::recv(&self.fd, &mut self.ahead).await)?;
            }
            let len = wanted.min(self.have.len());
            let from = self.have.start;
            buf[done..done + len].copy_from_slice(&self.ahead[from..from + len]);
            self.have.start += len;
            done += len;
        }
        Ok(())
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub async fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.have.len() >= N {
            let from = self.have.start;
            bytes.copy_from_slice(&self.ahead[from..from + N]);
            self.have.start += N;
        } else {
            let mut buf = Buf::new(N);
            self.receive(&mut buf).await?;
            bytes.copy_from_slice(&buf);
        }
        Ok(bytes)
    }
}

fn some(received: io::Result<usize>) -> io::Result<usize> {
    match received? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}

/// The sending half of a stream. Clones are the same.
#[derive(Clone)]
pub struct Sender(Rc<rt::Lock<Fd>>);

impl Sender {
    /// Sends `head`, then `body`, with nothing of other tasks between.
    ///
    /// # Errors
    /// Those of send. The stream is of no use then.
    pub async fn send(&self, head: &[u8], body: Option<&Buf>) -> io::Result<()> {
        let head = Buf::copy_of(head);
        let fd = self.0.lock().await;
        all(&fd, &head, body.is_some()).await?;
        match body {
            Some(body) => all(&fd, body, false).await,
            None => Ok(()),
        }
    }

    /// Waits until nobody sends, and keeps it so.
    pub async fn quiet(&self) -> LockGuard<'_, Fd> {
        self.0.lock().await
    }

    /// Ends the stream: the other half receives nothing any more.
    pub async fn shutdown(&self) {
        let fd = self.0.lock().await;
        if let Ok(fd) = fd.try_clone() {
            let _ = UnixStream::from(fd).shutdown(std::net::Shutdown::Both);
        }
    }
}

async fn all(fd: &Fd, buf: &Buf, more: bool) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        done += op::send(fd, &buf.part(done..), more).await?;
    }
    Ok(())
}
