// SPDX-License-Identifier: GPL-2.0

//! The connection with the front end: its state on the bus, and the rings as long as there are any.

use crate::rings::Rings;
use xenbus::connection::{Closed, Closing, Connected, Connection, InitWait};

/// The connection. Each step writes the state node; when that fails, because the node has been
/// removed, the connection is [`Gone`](Link::Gone) and its rings with it. The steps sleep.
pub(crate) enum Link {
    /// Waits for the front end's rings and for the hotplug script.
    Waiting(Connection<InitWait>),
    /// Serves the rings.
    Up(Connection<Connected>, Rings),
    /// Waits for the front end to close.
    Closing(Connection<Closing>),
    /// Both have closed; the front end may come back.
    Closed(Connection<Closed>),
    /// There is no node to write a state to.
    Gone,
}

impl Link {
    /// Puts what `step` makes of the link in its place.
    pub(crate) fn change(&mut self, step: impl FnOnce(Link) -> Link) {
        *self = step(core::mem::replace(self, Link::Gone));
    }

    /// Whether the rings are served.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Link::Up(..))
    }

    /// From `Closed` back to `Waiting`.
    pub(crate) fn wait(self) -> Link {
        match self {
            Link::Closed(connection) => connection.init_wait().map_or(Link::Gone, Link::Waiting),
            other => other,
        }
    }

    /// From `Waiting` to `Up`; in any other state the rings are stopped.
    pub(crate) fn connected(self, rings: Rings) -> Link {
        match self {
            Link::Waiting(connection) => match connection.connected() {
                Ok(connection) => Link::Up(connection, rings),
                Err(_) => Link::Gone,
            },
            other => other,
        }
    }

    /// To `Closing`, from any state; stops the rings.
    pub(crate) fn broken(self) -> Link {
        let closing = match self {
            Link::Waiting(connection) => connection.closing(),
            Link::Up(connection, rings) => {
                drop(rings);
                connection.closing()
            }
            Link::Closed(connection) => connection.closing(),
            Link::Closing(_) | Link::Gone => return self,
        };
        closing.map_or(Link::Gone, Link::Closing)
    }

    /// To `Closed`, from any state; stops the rings.
    pub(crate) fn closed(self) -> Link {
        let link = match self {
            Link::Closed(_) => self,
            _ => self.broken(),
        };
        match link {
            Link::Closing(connection) => connection.closed().map_or(Link::Gone, Link::Closed),
            other => other,
        }
    }

    /// Away from the bus, with the state node left alone; stops the rings.
    pub(crate) fn removed(self) -> Link {
        Link::Gone
    }
}
