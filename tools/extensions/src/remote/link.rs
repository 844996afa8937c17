// SPDX-License-Identifier: GPL-2.0
//! The connection to the server, and how it is made again.
//!
//! A request belongs to the task that waits for its reply. When the connection is lost, each such
//! task finds out, waits for the next connection and sends its request again: what was answered is
//! not repeated, what was not is not lost. [`Link::run`] is one task that receives, looks at the
//! time, and connects again.

use super::kept::Kept;
use super::proto::{self, broken, flag, Export, Request};
use super::Settings;
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::io;
use std::mem;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tap::net::{Address, Receiver, Sender};
use tap::op::{self, Fd};
use tap::rt::{self, Either, Lock, Notify};
use tap::Buf;

/// The wait before a try to connect; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// To connect and choose the export takes no longer than this.
const CONNECT: Duration = Duration::from_secs(10);

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

/// The sending half of a connection.
pub struct Socket {
    sender: Sender,
    fd: Fd,
}

impl Socket {
    /// Ends the connection at once, with whatever is on its way: what was sent, but has not left
    /// this machine, must not get to the server after what the next connection brings there.
    fn cut(&self) {
        let socket = SockRef::from(&*self.fd);
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// Sends all of it, or ends the connection: half a request would make the next one a part of it.
    async fn send(&self, head: &[u8], body: Option<&Buf>) -> io::Result<()> {
        let head = Buf::copy_of(head);
        let fd = self.sender.quiet().await;
        let whole = CutUnlessWhole(Some(self));
        for (buf, more) in [(Some(&head), body.is_some()), (body, false)] {
            let Some(buf) = buf else { continue };
            let mut done = 0;
            while done < buf.len() {
                done += op::send(&fd, &buf.part(done..), more).await?;
            }
        }
        whole.done();
        Ok(())
    }
}

struct CutUnlessWhole<'a>(Option<&'a Socket>);

impl CutUnlessWhole<'_> {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for CutUnlessWhole<'_> {
    fn drop(&mut self) {
        if let Some(socket) = self.0 {
            socket.cut();
        }
    }
}

/// A connection whose export is chosen.
pub struct Connection {
    receiver: Receiver,
    socket: Rc<Socket>,
    export: Export,
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
        let flush = Request {
            flags: 0,
            command: proto::FLUSH,
            at: 0,
            len: 0,
        };
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
            let request = Request {
                flags: 0,
                command: proto::DISCONNECT,
                at: 0,
                len: 0,
            };
            let bytes = request.encode(0);
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
        let _ = socket.send(&request.encode(cookie), body).await;
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
                    let error = proto::error(error);
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
        let (error, cookie) = proto::reply(receiver).await?;
        if error == proto::ESHUTDOWN {
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
