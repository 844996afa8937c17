// SPDX-License-Identifier: GPL-2.0

//! The connection with the front end: its state on the bus, and the rings as long as there are any.

use crate::ring::Rings;
use xenbus::connection::{Closed, Closing, Connected, Connection, InitWait};

/// The connection. Each step writes the state node; when that fails, because the node has been
/// removed, the connection is [`Gone`](Link::Gone) and its ring with it.
///
/// There is a ring from `Up` until the front end has closed: one that is `Closing` may still have
/// requests to finish. The steps sleep: see [`Rings::stop`].
pub(crate) enum Link {
    /// Waits for the front end's ring and for the hotplug script.
    Waiting(Connection<InitWait>),
    /// Serves the ring.
    Up(Connection<Connected>, Rings),
    /// Waits for the front end to close.
    Closing(Connection<Closing>, Option<Rings>),
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

    /// From `Closed` back to `Waiting`.
    pub(crate) fn wait(self) -> Link {
        match self {
            Link::Closed(connection) => connection.init_wait().map_or(Link::Gone, Link::Waiting),
            other => other,
        }
    }

    /// From `Waiting` to `Up`; in any other state the ring is stopped.
    pub(crate) fn connected(self, ring: Rings) -> Link {
        match self {
            Link::Waiting(connection) => match connection.connected() {
                Ok(connection) => Link::Up(connection, ring),
                Err(_) => Link::gone(Some(ring)),
            },
            other => other,
        }
    }

    /// To `Closing`, from any state; a ring stays.
    pub(crate) fn closing(self) -> Link {
        let (closing, ring) = match self {
            Link::Waiting(connection) => (connection.closing(), None),
            Link::Up(connection, ring) => (connection.closing(), Some(ring)),
            Link::Closed(connection) => (connection.closing(), None),
            Link::Closing(..) | Link::Gone => return self,
        };
        match closing {
            Ok(connection) => Link::Closing(connection, ring),
            Err(_) => Link::gone(ring),
        }
    }

    /// To `Closing`, from any state, and stops the ring.
    pub(crate) fn broken(self) -> Link {
        match self.closing() {
            Link::Closing(connection, Some(ring)) => {
                drop(ring);
                Link::Closing(connection, None)
            }
            other => other,
        }
    }

    /// To `Closed`, from any state: stops the ring, then runs `release`, then writes the state.
    ///
    /// Stays `Closing` when the disk does not finish what it has been given: whoever sees `Closed`
    /// may give it to somebody else.
    pub(crate) fn closed(self, release: impl FnOnce()) -> Link {
        let link = match self {
            Link::Closed(_) => self,
            _ => self.closing(),
        };
        match link {
            Link::Closing(connection, mut ring) => {
                if !ring.as_mut().is_none_or(Rings::stop) {
                    // Kept, to be asked again.
                    return Link::Closing(connection, ring);
                }
                release();
                connection.closed().map_or(Link::Gone, Link::Closed)
            }
            other => {
                release();
                other
            }
        }
    }

    /// The rings, if they are served.
    pub(crate) fn rings(&self) -> Option<&Rings> {
        match self {
            Link::Up(_, rings) => Some(rings),
            _ => None,
        }
    }

    /// Whether closing would not wait for the disk.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Link::Up(..) => false,
            Link::Closing(_, Some(rings)) => rings.has_ended(),
            _ => true,
        }
    }

    /// Whether nothing is on its way any more.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Link::Closed(_) | Link::Gone)
    }

    /// Away from the bus, with the state node left alone; stops the ring.
    pub(crate) fn removed(self) -> Link {
        match self {
            Link::Up(_, ring) => Link::gone(Some(ring)),
            Link::Closing(_, ring) => Link::gone(ring),
            _ => Link::Gone,
        }
    }

    fn gone(ring: Option<Rings>) -> Link {
        drop(ring);
        Link::Gone
    }
}
