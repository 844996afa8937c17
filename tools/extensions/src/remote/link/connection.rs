// SPDX-License-Identifier: GPL-2.0
//! One connection after the other: [`Link::run`] is one task that receives, looks at the time, and
//! connects again.

use super::super::proto::{self, broken, Export};
use super::{Link, Socket, State};
use std::cell::Cell;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tap::nbd::proto::{error as error_of, ESHUTDOWN};
use tap::net::Receiver;
use tap::rt::{self, Either};

/// The wait before a try to connect; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// To connect and choose the export takes no longer than this.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection whose export is chosen.
pub struct Connection {
    receiver: Receiver,
    socket: Rc<Socket>,
    export: Export,
}

impl Link {
    /// Connects and chooses the export.
    pub async fn connect(self: Rc<Self>) -> io::Result<Connection> {
        let connect = async {
            let (mut receiver, sender) = self.server.connect().await?;
            let export = proto::handshake(&mut receiver, &sender, &self.name).await;
            let export = export.map_err(|error| self.context(error))?;
            let fd = sender.quiet().await.clone();
            let socket = Rc::new(Socket { sender, fd });
            Ok(Connection {
                receiver,
                socket,
                export,
            })
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
        let connection = rt::timeout(CONNECT, connect).await;
        let connection = connection.unwrap_or_else(|| Err(self.context(late())))?;
        let (old, new) = (self.export(), connection.export);
        if new.info.size < old.info.size
            || new.info.read_only && !old.info.read_only && old.flags != 0
        {
            let what = "the export is shorter than it was, or read-only now";
            return Err(self.context(broken(what)));
        }
        if old.flags != 0 && new.info.block_size > old.info.block_size {
            return Err(self.context(broken("the export has larger blocks than it had")));
        }
        // What a guest was told of it stays as it is; but the size.
        let info = match old.flags {
            0 => new.info,
            _ => tap::Info {
                size: new.info.size,
                ..old.info
            },
        };
        self.export.set(Export { info, ..new });
        if old.flags != 0 && old.info.size != new.info.size {
            self.resized.notify();
        }
        Ok(connection)
    }

    /// Serves connection after connection.
    pub async fn run(self: Rc<Self>, first: Connection) {
        let mut connection = first;
        let mut wait = FIRST_WAIT;
        loop {
            let error = self.serve(connection).await;
            // A server that takes connections only to end them is called as seldom as one that is
            // not there.
            if self.useful.replace(false) {
                wait = FIRST_WAIT;
            }
            if self.closing.get() {
                return;
            }
            let waiting = self.pending.borrow().len();
            let what = format!("connection lost with {waiting} requests under way");
            self.settings.log.error(&what, &error);
            self.lose();
            connection = self.again(&mut wait).await;
            let down = self.down.get().elapsed();
            let what = format!("{}: connected again after {down:.1?}", self.server);
            self.settings.log.info(what);
        }
    }

    async fn again(self: &Rc<Self>, wait: &mut Duration) -> Connection {
        let mut told = String::new();
        loop {
            rt::sleep(*wait).await;
            *wait = (*wait * 2).min(LAST_WAIT);
            match self.clone().connect().await {
                Ok(connection) => return connection,
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        self.settings.log.error("connect", &error);
                        told = text;
                    }
                }
            }
        }
    }

    /// Serves one connection until it ends, and says why it did.
    async fn serve(&self, connection: Connection) -> io::Error {
        let Connection {
            mut receiver,
            socket,
            ..
        } = connection;
        // `receive` is never dropped while it works: requests get back their buffers from it.
        let late = Cell::new(false);
        let others = async {
            let open = async {
                self.repeat(&socket).await;
                *self.socket.borrow_mut() = Some(socket.clone());
                self.changed.notify();
                pending::<()>().await
            };
            let watch = async {
                self.watch().await;
                late.set(true);
                socket.cut();
                pending::<()>().await
            };
            rt::join(open, watch).await
        };
        let error = match rt::race(self.receive(&mut receiver), others).await {
            Either::First(error) => error,
            Either::Second(_) => io::ErrorKind::Other.into(),
        };
        socket.cut();
        match late.get() {
            true => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer for {:?}", self.settings.timeout),
            ),
            false => error,
        }
    }

    /// Writes again what the server may have forgotten.
    async fn repeat(&self, socket: &Socket) {
        let mut number = 0;
        loop {
            let next = self.kept.borrow().get(number);
            let Some((this, request, data)) = next else {
                return;
            };
            match self.exchange(socket, request, data.as_ref(), None).await {
                State::Answered(0) => (),
                State::Answered(error) => {
                    let error = error_of(error);
                    self.settings.log.error("writing once more", &error);
                    self.spoilt.set(true);
                }
                State::Lost | State::Asked => pending().await,
            }
            number = this + 1;
        }
    }

    async fn receive(&self, receiver: &mut Receiver) -> io::Error {
        loop {
            if let Err(error) = self.receive_one(receiver).await {
                return error;
            }
        }
    }

    async fn receive_one(&self, receiver: &mut Receiver) -> io::Result<()> {
        let (error, cookie) = proto::next_reply(receiver).await?;
        if error == ESHUTDOWN {
            return Err(io::Error::other("the server is about to end"));
        }
        let mut data = match self.pending.borrow_mut().get_mut(&cookie) {
            Some(entry) if entry.state == State::Asked => entry.data.take(),
            _ => return Err(broken("a reply to no request")),
        };
        let received = match &mut data {
            Some(data) if error == 0 => receiver.receive(data).await,
            _ => Ok(()),
        };
        self.useful.set(true);
        let mut all = self.pending.borrow_mut();
        if let Some(entry) = all.get_mut(&cookie) {
            entry.data = data;
            if received.is_ok() {
                entry.state = State::Answered(error);
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
                if !entry.wanted {
                    all.remove(&cookie);
                }
            }
        }
        received
    }

    /// Returns when a request has waited for too long.
    async fn watch(&self) {
        let limit = self.settings.timeout;
        let often = (limit / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
        loop {
            rt::sleep(often).await;
            let all = self.pending.borrow();
            // The first is the oldest.
            let oldest = all.values().find(|entry| entry.state == State::Asked);
            if oldest.is_some_and(|entry| entry.since.elapsed() > limit) {
                return;
            }
        }
    }

    /// There is no connection any more.
    fn lose(&self) {
        *self.socket.borrow_mut() = None;
        self.down.set(Instant::now());
        let mut all = self.pending.borrow_mut();
        all.retain(|_, entry| entry.wanted);
        for entry in all.values_mut() {
            if entry.state == State::Asked {
                entry.state = State::Lost;
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}
