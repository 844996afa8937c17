// SPDX-License-Identifier: GPL-2.0
//! xenstore through `/dev/xen/xenbus`.
//!
//! Paths are absolute (`/local/domain/3/...`) or relative to the own domain's directory. A
//! [`Store`] is one connection; the transactions and watches made through it end with it.

mod wire;

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Error, ErrorKind, Write};
use std::time::{Duration, Instant};

use crate::{sys, DomId};
use wire::Kind;

/// A watch that fired: `path` is what changed, `token` what the watch was set with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The node that changed.
    pub path: String,
    /// The token given to [`Store::watch`].
    pub token: String,
}

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Write.
    Write,
    /// Both.
    Both,
}

/// One entry of a node's permissions. The first entry names the owner, who may do everything; its
/// access is everyone else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Perm {
    /// The domain.
    pub domid: DomId,
    /// What it may do.
    pub access: Access,
}

impl Perm {
    /// An entry.
    pub fn new(domid: DomId, access: Access) -> Self {
        Perm { domid, access }
    }

    /// The text on the wire, such as `r3`.
    fn text(&self) -> String {
        let letter = match self.access {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        };
        format!("{letter}{}\0", self.domid)
    }

    fn parse(text: &str) -> io::Result<Self> {
        let bad = || Error::new(ErrorKind::InvalidData, format!("permission {text:?}"));
        let access = match text.as_bytes().first() {
            Some(b'n') => Access::None,
            Some(b'r') => Access::Read,
            Some(b'w') => Access::Write,
            Some(b'b') => Access::Both,
            _ => return Err(bad()),
        };
        Ok(Perm {
            domid: text[1..].parse().map_err(|_| bad())?,
            access,
        })
    }
}

/// A connection to the store, outside any transaction.
#[derive(Debug)]
pub struct Store {
    file: File,
    next: u32,
    events: VecDeque<Event>,
}

impl Store {
    /// Connects.
    pub fn open() -> io::Result<Self> {
        Ok(Store {
            file: sys::open("/dev/xen/xenbus")?,
            next: 1,
            events: VecDeque::new(),
        })
    }

    /// Sends a request and returns its reply's payload. Watch events that come first are kept.
    fn ask(&mut self, kind: Kind, tx: u32, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.file.write_all(&wire::encode(kind, id, tx, parts)?)?;
        loop {
            let m = wire::decode(&mut self.file)?;
            if m.kind == Kind::WatchEvent as u32 {
                self.keep(&m.payload);
            } else if m.kind == Kind::Error as u32 {
                return Err(wire::errno(&m.payload));
            } else if m.id == id {
                return Ok(m.payload);
            }
        }
    }

    fn keep(&mut self, payload: &[u8]) {
        let mut s = wire::strings(payload).into_iter();
        if let (Some(path), Some(token)) = (s.next(), s.next()) {
            self.events.push_back(Event { path, token });
        }
    }

    /// A view of the store outside any transaction; `Store`'s own methods of the same name use it.
    fn nil(&mut self) -> View<'_> {
        View { store: self, tx: 0 }
    }

    /// The value of a node.
    pub fn read(&mut self, path: &str) -> io::Result<String> {
        self.nil().read(path)
    }

    /// The value of a node, `None` where there is no such node.
    pub fn read_opt(&mut self, path: &str) -> io::Result<Option<String>> {
        self.nil().read_opt(path)
    }

    /// The number in a node, `None` where there is none that parses.
    pub fn number(&mut self, path: &str) -> io::Result<Option<u64>> {
        Ok(self.read_opt(path)?.and_then(|v| v.trim().parse().ok()))
    }

    /// Writes a node, making it where it does not exist.
    pub fn write(&mut self, path: &str, value: impl Display) -> io::Result<()> {
        self.nil().write(path, value)
    }

    /// Makes an empty node, with its parents.
    pub fn mkdir(&mut self, path: &str) -> io::Result<()> {
        self.nil().mkdir(path)
    }

    /// Removes a node and all below it. A node that is not there is no error.
    pub fn remove(&mut self, path: &str) -> io::Result<()> {
        self.nil().remove(path)
    }

    /// The names below a node.
    pub fn list(&mut self, path: &str) -> io::Result<Vec<String>> {
        self.nil().list(path)
    }

    /// A node's permissions, the owner's first.
    pub fn perms(&mut self, path: &str) -> io::Result<Vec<Perm>> {
        self.nil().perms(path)
    }

    /// Sets a node's permissions, the owner's first.
    pub fn set_perms(&mut self, path: &str, perms: &[Perm]) -> io::Result<()> {
        self.nil().set_perms(path, perms)
    }

    /// Runs `f` in a transaction, again where another's writes came between.
    ///
    /// `f` may run several times; an error of its own ends the transaction without effect.
    pub fn transaction<R>(
        &mut self,
        mut f: impl FnMut(&mut View<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            let id = self.ask(Kind::TransactionStart, 0, &[b"\0"])?;
            let id = wire::strings(&id).first().and_then(|s| s.parse().ok());
            let tx = id.ok_or_else(|| Error::new(ErrorKind::InvalidData, "transaction id"))?;
            match f(&mut View { store: self, tx }) {
                Err(e) => {
                    let _ = self.ask(Kind::TransactionEnd, tx, &[b"F\0"]);
                    return Err(e);
                }
                Ok(r) => match self.ask(Kind::TransactionEnd, tx, &[b"T\0"]) {
                    Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => continue,
                    Err(e) => return Err(e),
                    Ok(_) => return Ok(r),
                },
            }
        }
    }

    /// Asks to be told of changes at and below `path`. The first event comes at once.
    pub fn watch(&mut self, path: &str, token: &str) -> io::Result<()> {
        self.ask(
            Kind::Watch,
            0,
            &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"],
        )
        .map(drop)
    }

    /// Ends a watch. Events of it that have come already are forgotten.
    pub fn unwatch(&mut self, path: &str, token: &str) -> io::Result<()> {
        self.ask(
            Kind::Unwatch,
            0,
            &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"],
        )?;
        self.events.retain(|e| e.token != token);
        Ok(())
    }

    /// The next event of any watch, `None` when `timeout` has passed.
    pub fn event(&mut self, timeout: Duration) -> io::Result<Option<Event>> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(e) = self.events.pop_front() {
                return Ok(Some(e));
            }
            let left = until.saturating_duration_since(Instant::now());
            if !sys::poll_in(&[&self.file], Some(left))?[0] {
                return Ok(None);
            }
            let m = wire::decode(&mut self.file)?;
            if m.kind == Kind::WatchEvent as u32 {
                self.keep(&m.payload);
            }
        }
    }

    /// Waits until `done` says so of the value at `path` (`None`: no such node), and returns that
    /// value. ETIMEDOUT, naming the path and the last value, when `timeout` has passed.
    pub fn wait_for(
        &mut self,
        path: &str,
        timeout: Duration,
        mut done: impl FnMut(Option<&str>) -> bool,
    ) -> io::Result<Option<String>> {
        let until = Instant::now() + timeout;
        let token = format!("wait-{}", self.next);
        self.watch(path, &token)?;
        let result = loop {
            let value = match self.read_opt(path) {
                Ok(v) => v,
                Err(e) => break Err(e),
            };
            if done(value.as_deref()) {
                break Ok(value);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("{path} is {value:?} after {timeout:?}");
                break Err(Error::new(ErrorKind::TimedOut, why));
            }
            if let Err(e) = self.event_of(&token, left) {
                break Err(e);
            }
        };
        self.unwatch(path, &token)?;
        result
    }

    /// Waits for events of the watch `token` and takes them; others' are kept in order. False
    /// when `timeout` has passed without one.
    pub fn event_of(&mut self, token: &str, timeout: Duration) -> io::Result<bool> {
        let others = std::mem::take(&mut self.events);
        let (own, mut others): (VecDeque<_>, VecDeque<_>) =
            others.into_iter().partition(|e| e.token == token);
        let until = Instant::now() + timeout;
        let mut seen = !own.is_empty();
        while !seen {
            match self.event(until.saturating_duration_since(Instant::now()))? {
                Some(e) if e.token == token => seen = true,
                Some(e) => others.push_back(e),
                None => break,
            }
        }
        others.append(&mut self.events);
        self.events = others;
        Ok(seen)
    }

    /// The device handle, readable when something has come.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// The store as one transaction sees it.
#[derive(Debug)]
pub struct View<'a> {
    store: &'a mut Store,
    tx: u32,
}

impl View<'_> {
    fn ask(&mut self, kind: Kind, path: &str, rest: &[u8]) -> io::Result<Vec<u8>> {
        if path.contains('\0') {
            return Err(Error::from_raw_os_error(libc::EINVAL));
        }
        self.store
            .ask(kind, self.tx, &[path.as_bytes(), b"\0", rest])
    }

    /// The value of a node.
    pub fn read(&mut self, path: &str) -> io::Result<String> {
        let v = self.ask(Kind::Read, path, b"")?;
        Ok(String::from_utf8_lossy(&v).into_owned())
    }

    /// The value of a node, `None` where there is no such node.
    pub fn read_opt(&mut self, path: &str) -> io::Result<Option<String>> {
        match self.read(path) {
            Ok(v) => Ok(Some(v)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes a node, making it where it does not exist.
    pub fn write(&mut self, path: &str, value: impl Display) -> io::Result<()> {
        self.ask(Kind::Write, path, value.to_string().as_bytes())
            .map(drop)
    }

    /// Makes an empty node, with its parents.
    pub fn mkdir(&mut self, path: &str) -> io::Result<()> {
        self.ask(Kind::Mkdir, path, b"").map(drop)
    }

    /// Removes a node and all below it. A node that is not there is no error.
    pub fn remove(&mut self, path: &str) -> io::Result<()> {
        match self.ask(Kind::Rm, path, b"") {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The names below a node.
    pub fn list(&mut self, path: &str) -> io::Result<Vec<String>> {
        Ok(wire::strings(&self.ask(Kind::Directory, path, b"")?))
    }

    /// A node's permissions, the owner's first.
    pub fn perms(&mut self, path: &str) -> io::Result<Vec<Perm>> {
        wire::strings(&self.ask(Kind::GetPerms, path, b"")?)
            .iter()
            .map(|s| Perm::parse(s))
            .collect()
    }

    /// Sets a node's permissions, the owner's first.
    pub fn set_perms(&mut self, path: &str, perms: &[Perm]) -> io::Result<()> {
        let text: String = perms.iter().map(Perm::text).collect();
        self.ask(Kind::SetPerms, path, text.as_bytes()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_have_their_letters() {
        for (access, text) in [
            (Access::None, "n0"),
            (Access::Read, "r7"),
            (Access::Write, "w7"),
            (Access::Both, "b9"),
        ] {
            let perm = Perm::parse(text).unwrap();
            assert_eq!(perm.access, access);
            assert_eq!(perm.text(), format!("{text}\0"));
        }
        assert!(
            Perm::parse("").is_err()
                && Perm::parse("x1").is_err()
                && Perm::parse("r70000").is_err()
        );
    }
}
