// SPDX-License-Identifier: GPL-2.0
//! Requests, each on as many connections as it takes.
//!
//! A request belongs to the task that waits for its reply. When the connection is lost, each such
//! task finds out, waits for the next connection and sends its request again: what was answered is
//! not repeated, what was not is not lost.
//!
//! - `link/connection.rs`: [`Link::run`], one task that receives, looks at the time, and connects again
//! - `link/socket.rs`: the sending half of a connection

mod connection;
mod socket;

use super::kept::Kept;
use super::proto::Export;
use super::Settings;
use socket::Socket;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tap::nbd::proto::{self, command, flag, Request};
use tap::net::Address;
use tap::rt::{self, Lock, Notify};
use tap::Buf;

/// A server, and the requests that it has not answered.
pub struct Link {
    server: Address,
    name: String,
    settings: Settings,
    export: Cell<Export>,
    /// While there is a connection that is ready for requests.
    socket: RefCell<Option<Rc<Socket>>>,
    /// Since when there is none.
    down: Cell<Instant>,
    pending: RefCell<BTreeMap<u64, Pending>>,
    cookie: Cell<u64>,
    kept: RefCell<Kept>,
    /// Whose turn it is to have `kept` made stable.
    turn: Lock<()>,
    /// Writes that the server has answered are gone: the next flush has to say so.
    spoilt: Cell<bool>,
    closing: Cell<bool>,
    /// Whether this connection has brought a reply.
    useful: Cell<bool>,
    changed: Notify,
    resized: Notify,
}

/// A request that was sent, or is being sent.
struct Pending {
    since: Instant,
    /// Where a read's data goes.
    data: Option<Buf>,
    state: State,
    /// Whether somebody waits for the reply.
    wanted: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Asked,
    Answered(u32),
    /// The connection was lost before the answer.
    Lost,
}

impl Link {
    /// Not connected yet.
    pub fn new(server: Address, name: &str, settings: Settings) -> Self {
        Self {
            server,
            name: name.into(),
            settings,
            export: Cell::new(Export {
                info: tap::Info::new(0),
                flags: 0,
                max: 1 << 20,
            }),
            socket: RefCell::new(None),
            down: Cell::new(Instant::now()),
            pending: RefCell::default(),
            cookie: Cell::new(1),
            kept: RefCell::default(),
            turn: Lock::default(),
            spoilt: Cell::new(false),
            closing: Cell::new(false),
            useful: Cell::new(false),
            changed: Notify::new(),
            resized: Notify::new(),
        }
    }

    /// The export, as the latest connection has it.
    pub fn export(&self) -> Export {
        self.export.get()
    }

    /// Returns when the export's size has changed.
    pub async fn resized(&self) {
        self.resized.notified().await;
    }

    /// A request, on as many connections as it takes. `body` is the data of a write, `buf` takes
    /// that of a read.
    pub async fn call(
        &self,
        request: Request,
        body: Option<&Buf>,
        mut buf: Option<&mut Buf>,
    ) -> io::Result<()> {
        loop {
            let socket = self.ready().await?;
            match self
                .exchange(&socket, request, body, buf.as_deref_mut())
                .await
            {
                State::Answered(0) => break,
                State::Answered(error) => return Err(self.context(proto::error(error))),
                State::Lost | State::Asked => continue,
            }
        }
        if self.settings.keep > 0 && self.export().has(flag::FLUSH) {
            self.kept
                .borrow_mut()
                .add(&request, body.map(|body| Buf::copy_of(body)));
            if self.kept.borrow().bytes() > self.settings.keep {
                let _turn = self.turn.lock().await;
                if self.kept.borrow().bytes() > self.settings.keep && self.stable().await.is_err() {
                    self.spoilt.set(true);
                }
            }
        }
        Ok(())
    }

    /// All writes that were answered are stable.
    pub async fn flush(&self) -> io::Result<()> {
        if !self.export().has(flag::FLUSH) {
            return Ok(());
        }
        self.stable().await?;
        match self.spoilt.replace(false) {
            true => Err(self.context(io::Error::other("writes before this flush are lost"))),
            false => Ok(()),
        }
    }

    async fn stable(&self) -> io::Result<()> {
        let mark = self.kept.borrow().mark();
        let flush = Request::new(command::FLUSH, 0, 0, 0);
        // Not `call`, which would have this one kept: it has no data, but the loop is the same.
        loop {
            let socket = self.ready().await?;
            match self.exchange(&socket, flush, None, None).await {
                State::Answered(0) => break,
                State::Answered(error) => return Err(self.context(proto::error(error))),
                State::Lost | State::Asked => continue,
            }
        }
        self.kept.borrow_mut().forget(mark);
        Ok(())
    }

    /// Tells the server that this is the end.
    pub async fn disconnect(&self) {
        self.closing.set(true);
        let socket = self.socket.borrow_mut().take();
        if let Some(socket) = socket {
            let request = Request::new(command::DISCONNECT, 0, 0, 0);
            let bytes = request.encode();
            let _ = rt::timeout(Duration::from_secs(1), socket.send(&bytes, None)).await;
        }
    }

    /// A connection that is ready, as soon as there is one.
    async fn ready(&self) -> io::Result<Rc<Socket>> {
        let now = || self.socket.borrow().clone();
        if let Some(socket) = now() {
            return Ok(socket);
        }
        let ready = self.changed.until(now);
        let Some(limit) = self.settings.give_up else {
            return Ok(ready.await);
        };
        let left = limit.saturating_sub(self.down.get().elapsed());
        rt::timeout(left, ready).await.ok_or_else(|| {
            let what = format!("there was no connection for {limit:?}");
            self.context(io::Error::new(io::ErrorKind::TimedOut, what))
        })
    }

    /// A request on this connection.
    async fn exchange(
        &self,
        socket: &Socket,
        request: Request,
        body: Option<&Buf>,
        buf: Option<&mut Buf>,
    ) -> State {
        let cookie = self.cookie.get();
        self.cookie.set(cookie.wrapping_add(1));
        let mut buf = buf;
        let new = Pending {
            since: Instant::now(),
            data: buf.as_deref_mut().map(mem::take),
            state: State::Asked,
            wanted: true,
            waker: None,
        };
        self.pending.borrow_mut().insert(cookie, new);
        let _ticket = Ticket { link: self, cookie };
        // If it fails the connection ends, and the receiver sees that.
        let _ = socket
            .send(&Request { cookie, ..request }.encode(), body)
            .await;
        let state = poll_fn(|context| {
            let mut all = self.pending.borrow_mut();
            match all.get_mut(&cookie) {
                Some(entry) if entry.state == State::Asked => {
                    entry.waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Some(entry) => Poll::Ready(entry.state),
                None => Poll::Ready(State::Lost),
            }
        })
        .await;
        let mut all = self.pending.borrow_mut();
        if let (Some(buf), Some(entry)) = (buf, all.get_mut(&cookie)) {
            *buf = entry.data.take().unwrap_or_default();
        }
        state
    }

    fn context(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.server))
    }
}

/// The entry of a request, which goes with it. The reply of one that nobody waits for any more has to
/// be received nevertheless.
struct Ticket<'a> {
    link: &'a Link,
    cookie: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut all = self.link.pending.borrow_mut();
        let Some(entry) = all.get_mut(&self.cookie) else {
            return;
        };
        // A read's buffer may be with the receiver just now.
        match entry.state {
            State::Asked => entry.wanted = false,
            _ => {
                all.remove(&self.cookie);
            }
        }
    }
}
