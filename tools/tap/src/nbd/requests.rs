// SPDX-License-Identifier: GPL-2.0
//! Requests, each a task.

use super::proto::{self, command, Request};
use super::Server;
use crate::net::{Receiver, Sender};
use crate::rt::{self, Notify};
use crate::{Buf, Info};
use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// Bytes of data in a request.
pub(super) const MAX_DATA: u32 = 32 << 20;

/// What a disk is asked for at once.
const AT_ONCE: usize = 1 << 20;

/// A connection's requests that are under way have together at most so many bytes of data, each
/// counted as at least [`SMALL`].
const MEMORY: usize = 64 << 20;
const SMALL: usize = 64 << 10;

/// Serves the requests of a connection until it ends.
pub(super) async fn run(server: &Rc<Server>, mut receiver: Receiver, sender: Sender) {
    let room = Rc::new(Cell::new(MEMORY));
    let changed = Notify::new();
    loop {
        let Ok(bytes) = receiver.array().await else {
            break;
        };
        let Some(request) = Request::decode(&bytes) else {
            let what = io::Error::other("this is no request");
            return server.log.error("connection", &what);
        };
        if request.command == command::DISCONNECT {
            break;
        }
        let writes = request.command == command::WRITE;
        let data = match request.command {
            command::READ | command::WRITE => request.len as usize,
            _ => 0,
        };
        if writes && request.len > MAX_DATA {
            let what = io::Error::other(format!("a write of {data} bytes"));
            return server.log.error("connection", &what);
        }
        let cost = data.clamp(SMALL, MAX_DATA as usize);
        let enough = || (room.get() >= cost).then(|| room.set(room.get() - cost));
        changed.until(enough).await;
        let _busy = Busy::new(server);
        let mut buf = Buf::default();
        if writes {
            buf = Buf::new(data);
            if receiver.receive(&mut buf).await.is_err() {
                break;
            }
        }
        let (server, sender) = (server.clone(), sender.clone());
        let (room, changed) = (room.clone(), changed.clone());
        rt::spawn(async move {
            let _busy = _busy;
            let error = match check(&request, &server.disk.info()) {
                Err(error) => error,
                Ok(()) => match serve(&server, &request, &mut buf).await {
                    Ok(()) => 0,
                    Err(error) => {
                        server.log.error(name(&request), &error);
                        proto::errno(&error)
                    }
                },
            };
            let body = (error == 0 && request.command == command::READ).then_some(&buf);
            // If the client is gone, so is the connection, which the receiver sees.
            let _ = sender.send(&request.reply(error), body).await;
            room.set(room.get() + cost);
            changed.notify();
        })
        .detach();
    }
    // Whoever disconnects has a right to the replies that are missing.
    let all = || (room.get() == MEMORY).then_some(());
    changed.until(all).await;
}

fn name(request: &Request) -> &'static str {
    match request.command {
        command::READ => "read",
        command::WRITE => "write",
        command::FLUSH => "flush",
        command::TRIM => "discard",
        _ => "write zeroes",
    }
}

/// Counts a request that is under way.
struct Busy(Rc<Server>);

impl Busy {
    fn new(server: &Rc<Server>) -> Self {
        server.busy.set(server.busy.get() + 1);
        Self(server.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
        self.0.changed.notify();
    }
}

/// What is promised to a [`Disk`](crate::Disk); or the number of the error.
fn check(request: &Request, disk: &Info) -> Result<(), u32> {
    let known = match request.command {
        command::READ | command::WRITE | command::FLUSH | command::TRIM => proto::COMMAND_FUA,
        command::WRITE_ZEROES => proto::COMMAND_FUA | proto::COMMAND_NO_HOLE,
        _ => return Err(proto::EINVAL),
    };
    if request.flags & !known != 0 {
        return Err(proto::EINVAL);
    }
    if request.command == command::FLUSH {
        return Ok(());
    }
    let writes = request.command != command::READ;
    if writes && disk.read_only {
        return Err(proto::EPERM);
    }
    let (at, len) = (request.at, u64::from(request.len));
    let inside = at.checked_add(len).is_some_and(|end| end <= disk.size);
    if !inside {
        let full = request.command == command::WRITE || request.command == command::WRITE_ZEROES;
        return Err(if full { proto::ENOSPC } else { proto::EINVAL });
    }
    let whole = (at | len) % u64::from(disk.block_size) == 0;
    let large = request.command == command::READ && request.len > MAX_DATA;
    match len > 0 && whole && !large {
        true => Ok(()),
        false => Err(proto::EINVAL),
    }
}

async fn serve(server: &Server, request: &Request, buf: &mut Buf) -> io::Result<()> {
    let disk = &server.disk;
    let fua = request.flags & proto::COMMAND_FUA != 0;
    let (at, len) = (request.at, u64::from(request.len));
    match request.command {
        command::READ => {
            *buf = Buf::new(request.len as usize);
            let mut done = 0;
            while done < buf.len() {
                let end = buf.len().min(done + AT_ONCE);
                disk.read(at + done as u64, &mut buf.part_mut(done..end))
                    .await?;
                done = end;
            }
            Ok(())
        }
        command::WRITE => {
            let mut done = 0;
            while done < buf.len() {
                let end = buf.len().min(done + AT_ONCE);
                let part = buf.part(done..end);
                disk.write(at + done as u64, &part, fua).await?;
                done = end;
            }
            Ok(())
        }
        command::FLUSH => disk.flush().await,
        command::TRIM => {
            disk.discard(at, len).await?;
            match fua {
                true => disk.flush().await,
                false => Ok(()),
            }
        }
        _ => disk.write_zeroes(at, len, fua).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_sees_only_what_it_was_promised() {
        let disk = Info::new(1 << 20);
        let ask = |command, flags, at, len| check(&Request::new(command, flags, at, len), &disk);
        assert_eq!(ask(command::READ, 0, 0, 1 << 20), Ok(()));
        assert_eq!(ask(command::READ, 0, 512, 1 << 20), Err(proto::EINVAL));
        assert_eq!(ask(command::WRITE, 1, 512, 1 << 20), Err(proto::ENOSPC));
        assert_eq!(ask(command::READ, 0, u64::MAX, 512), Err(proto::EINVAL));
        assert_eq!(ask(command::READ, 0, 1, 512), Err(proto::EINVAL));
        assert_eq!(ask(command::READ, 0, 0, 511), Err(proto::EINVAL));
        assert_eq!(ask(command::READ, 0, 0, 0), Err(proto::EINVAL));
        assert_eq!(ask(command::READ, 2, 0, 512), Err(proto::EINVAL));
        assert_eq!(ask(command::WRITE_ZEROES, 3, 0, 512), Ok(()));
        assert_eq!(ask(command::FLUSH, 0, 0, 0), Ok(()));
        assert_eq!(ask(77, 0, 0, 512), Err(proto::EINVAL));
        let huge = Info::new(1 << 40);
        let request = |command| Request::new(command, 0, 0, 1 << 30);
        assert_eq!(check(&request(command::READ), &huge), Err(proto::EINVAL));
        assert_eq!(check(&request(command::TRIM), &huge), Ok(()));
        let read_only = Info {
            read_only: true,
            ..huge
        };
        assert_eq!(
            check(&request(command::TRIM), &read_only),
            Err(proto::EPERM)
        );
    }
}
