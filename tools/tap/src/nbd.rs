// SPDX-License-Identifier: GPL-2.0
//! A disk as an NBD server: fixed newstyle, simple replies.
//!
//! The protocol is `doc/proto.md` of the project nbd. All connections are to the same disk and
//! served by one thread; a flush on one covers writes that came by another, which is what is said
//! by `NBD_FLAG_CAN_MULTI_CONN`. Sizes that change are seen by new connections.
//!
//! - `nbd/proto.rs`: numbers and layouts
//! - `nbd/handshake.rs`: options
//! - `nbd/requests.rs`: the rest

mod handshake;
pub mod proto;
mod requests;

use crate::log::Log;
use crate::net::Listener;
use crate::rt::{self, Either, Notify};
use crate::AnyDisk;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// After the end was asked for, requests that are under way are waited for so long.
const GRACE: Duration = Duration::from_secs(10);

/// Serves `disk` on `listener` until `stop` is ready; then finishes the requests that are under way.
/// The disk is neither flushed nor closed.
///
/// # Errors
/// Those of accept. What goes wrong with a connection ends that one only, and is logged.
pub async fn serve(
    disk: AnyDisk,
    listener: Listener,
    log: Log,
    stop: impl Future,
) -> io::Result<()> {
    let state = Rc::new(Server {
        disk,
        log,
        busy: Cell::new(0),
        changed: Notify::new(),
    });
    let mut stop = std::pin::pin!(stop);
    let mut connections = Vec::new();
    loop {
        let (receiver, sender) = match rt::race(stop.as_mut(), listener.accept()).await {
            Either::First(_) => break,
            Either::Second(new) => new?,
        };
        connections.retain(|task: &rt::Task<()>| !task.is_finished());
        let state = state.clone();
        connections.push(rt::spawn(async move {
            let mut receiver = receiver;
            match handshake::run(&state, &mut receiver, &sender).await {
                Ok(true) => requests::run(&state, receiver, sender).await,
                Ok(false) => (),
                Err(error) => state.log.error("handshake", &error),
            }
        }));
    }
    let idle = || (state.busy.get() == 0).then_some(());
    if rt::timeout(GRACE, state.changed.until(idle))
        .await
        .is_none()
    {
        let late = io::Error::new(io::ErrorKind::TimedOut, "requests are still under way");
        state.log.error("stop", &late);
    }
    Ok(())
}

struct Server {
    disk: AnyDisk,
    log: Log,
    /// Requests that are under way.
    busy: Cell<u32>,
    changed: Notify,
}
