// SPDX-License-Identifier: GPL-2.0
//! A device's entries in the store, and its two states: what disks and interfaces have in common.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{ensure, Result};
use xen::store::{Access, Perm, Store};

/// States of `enum xenbus_state`.
pub(crate) const INITIALISING: u64 = 1;
pub(crate) const INIT_WAIT: u64 = 2;
pub(crate) const INITIALISED: u64 = 3;
pub(crate) const CONNECTED: u64 = 4;
pub(crate) const CLOSING: u64 = 5;
pub(crate) const CLOSED: u64 = 6;

/// The number of the device of `class` that no driver is bound to, where there is only one.
pub(crate) fn only_device(class: &str) -> Result<u64> {
    let free =
        |name: &String| !Path::new(&format!("/sys/bus/xen/devices/{class}-{name}/driver")).exists();
    let all = Store::open()?.list(&format!("device/{class}"))?;
    let all: Vec<_> = all.into_iter().filter(free).collect();
    match all.as_slice() {
        [one] => Ok(one.parse()?),
        _ => Err(format!("which --device? Without a driver: {all:?}").into()),
    }
}

/// A device as the front end sees it, in the front end's domain.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) store: Store,
    /// The front end's directory, relative to the guest's.
    node: String,
    /// The back end's directory.
    backend: String,
    backend_id: u16,
    timeout: Duration,
    /// What the own nodes hold, as far as this process wrote them: each access to the store costs
    /// milliseconds under emulation.
    written: HashMap<String, String>,
}

/// Watches the back end's state.
const TOKEN: &str = "their-state";

impl Front {
    /// Takes hold of `device/CLASS/NUMBER`, waiting until it is there, and removes the nodes `left`
    /// by an earlier run.
    pub(crate) fn open(class: &str, number: u64, timeout: Duration, left: &[&str]) -> Result<Self> {
        let mut store = Store::open()?;
        let node = format!("device/{class}/{number}");
        let backend = store.wait_for(&format!("{node}/backend"), timeout, |v| v.is_some())?;
        let backend_id = store
            .number(&format!("{node}/backend-id"))?
            .ok_or("no backend-id")? as u16;
        let backend = backend.unwrap_or_default();
        store.watch(&format!("{backend}/state"), TOKEN)?;
        for key in left {
            store.remove(&format!("{node}/{key}"))?;
        }
        Ok(Front {
            store,
            node,
            backend,
            backend_id,
            timeout,
            written: HashMap::new(),
        })
    }

    /// The domain that the back end is in.
    pub(crate) fn backend_id(&self) -> u16 {
        self.backend_id
    }

    /// How long to wait for the back end.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What a node of the front end's holds.
    pub(crate) fn own(&mut self, key: &str) -> Result<Option<String>> {
        Ok(self.store.read_opt(&format!("{}/{key}", self.node))?)
    }

    /// Writes a node of the front end's.
    pub(crate) fn put(&mut self, key: &str, value: impl Display) -> Result {
        let value = value.to_string();
        if self.written.get(key) != Some(&value) {
            self.store.write(&format!("{}/{key}", self.node), &value)?;
            self.written.insert(key.into(), value);
        }
        Ok(())
    }

    /// Removes a node of the front end's.
    pub(crate) fn unset(&mut self, key: &str) -> Result {
        self.written.remove(key);
        Ok(self.store.remove(&format!("{}/{key}", self.node))?)
    }

    /// A number of the back end's.
    pub(crate) fn theirs(&mut self, key: &str) -> Result<Option<u64>> {
        Ok(self.store.number(&format!("{}/{key}", self.backend))?)
    }

    /// The back end's state; 0 where it has none.
    pub(crate) fn their_state(&mut self) -> Result<u64> {
        Ok(self.theirs("state")?.unwrap_or(0))
    }

    /// Writes the own state, even if it is the same.
    pub(crate) fn set_state(&mut self, state: impl Display) -> Result {
        self.written.remove("state");
        self.put("state", state)
    }

    /// The own state, as it was written last.
    fn own_state(&mut self) -> Result<u64> {
        if let Some(state) = self.written.get("state") {
            return Ok(state.parse().unwrap_or(0));
        }
        Ok(self
            .store
            .number(&format!("{}/state", self.node))?
            .unwrap_or(0))
    }

    /// Waits until the back end is in one of `states` and returns which.
    pub(crate) fn await_state(&mut self, states: &[u64]) -> Result<u64> {
        let until = Instant::now() + self.timeout;
        loop {
            let state = self.their_state()?;
            if states.contains(&state) {
                return Ok(state);
            }
            let left = until.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "the back end should be in one of the states {states:?}, it is in {state}"
            );
            self.store.event_of(TOKEN, left)?;
        }
    }

    /// Brings both ends to where a front end starts: own state Initialising, theirs InitWait. False
    /// if they were. Otherwise all that was written but `kept` is removed.
    pub(crate) fn restart(&mut self, kept: &[&str]) -> Result<bool> {
        let (own, theirs) = (self.own_state()?, self.their_state()?);
        let new = !(own == INITIALISING && theirs == INIT_WAIT);
        if new {
            if !(own == CLOSED && theirs == CLOSED) {
                self.close()?;
            }
            let others: Vec<_> = self
                .written
                .keys()
                .filter(|k| *k != "state" && !kept.contains(&k.as_str()))
                .cloned()
                .collect();
            others.iter().try_for_each(|key| self.unset(key))?;
            self.set_state(INITIALISING)?;
        }
        self.await_state(&[INIT_WAIT])?;
        Ok(new)
    }

    /// Closes as an honest front end does, from any state, and waits until the back end has let
    /// go of the rings.
    pub(crate) fn close(&mut self) -> Result {
        if self.own_state()? != CLOSED || self.their_state()? != CLOSED {
            self.set_state(CLOSING)?;
            self.await_state(&[CLOSING, CLOSED])?;
            self.set_state(CLOSED)?;
            self.await_state(&[CLOSED])?;
        }
        Ok(())
    }
}

/// A device as the back end sees it, with all that the tool stack writes.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) store: Store,
    pub(crate) guest: u16,
    front: String,
    back: String,
}

impl Back {
    /// Makes the entries of the guest's `device/CLASS/NUMBER`, with what the tool stack writes to
    /// either directory besides; the own state is Initialising. The back end's directory is below
    /// `backend/hostile`, so that no driver of dom0 takes it.
    pub(crate) fn create(
        class: &str,
        guest: u16,
        number: u64,
        ours: &[(&str, &str)],
        theirs: &[(&str, &str)],
    ) -> Result<Self> {
        let mut store = Store::open()?;
        let front = format!("/local/domain/{guest}/device/{class}/{number}");
        let back = format!("/local/domain/0/backend/hostile/{guest}/{number}");
        store.transaction(|tx| {
            tx.remove(&front)?;
            tx.remove(&back)?;
            tx.mkdir(&back)?;
            tx.set_perms(
                &back,
                &[Perm::new(0, Access::None), Perm::new(guest, Access::Read)],
            )?;
            tx.write(&format!("{back}/frontend"), &front)?;
            tx.write(&format!("{back}/frontend-id"), guest)?;
            tx.write(&format!("{back}/online"), 1)?;
            tx.write(&format!("{back}/state"), INITIALISING)?;
            for (key, value) in ours {
                tx.write(&format!("{back}/{key}"), value)?;
            }
            tx.mkdir(&front)?;
            tx.set_perms(
                &front,
                &[Perm::new(guest, Access::None), Perm::new(0, Access::Read)],
            )?;
            tx.write(&format!("{front}/backend"), &back)?;
            tx.write(&format!("{front}/backend-id"), 0)?;
            for (key, value) in theirs {
                tx.write(&format!("{front}/{key}"), value)?;
            }
            // Last, as the guest's driver looks then.
            tx.write(&format!("{front}/state"), INITIALISING)
        })?;
        Ok(Back {
            store,
            guest,
            front,
            back,
        })
    }

    /// Writes a node of the back end's.
    pub(crate) fn put(&mut self, key: &str, value: impl Display) -> Result {
        Ok(self.store.write(&format!("{}/{key}", self.back), value)?)
    }

    /// Writes a node of the front end's that is the toolstack's.
    pub(crate) fn put_theirs(&mut self, key: &str, value: impl Display) -> Result {
        Ok(self.store.write(&format!("{}/{key}", self.front), value)?)
    }

    /// Removes a node of the back end's.
    pub(crate) fn unset(&mut self, key: &str) -> Result {
        Ok(self.store.remove(&format!("{}/{key}", self.back))?)
    }

    /// A node of the front end's.
    pub(crate) fn read_theirs(&mut self, key: &str) -> Result<Option<String>> {
        Ok(self.store.read_opt(&format!("{}/{key}", self.front))?)
    }

    /// A number of the front end's.
    pub(crate) fn theirs(&mut self, key: &str) -> Result<Option<u64>> {
        Ok(self.store.number(&format!("{}/{key}", self.front))?)
    }

    /// The front end's state; 0 where it has none.
    pub(crate) fn their_state(&mut self) -> Result<u64> {
        Ok(self.theirs("state")?.unwrap_or(0))
    }

    /// Writes the own state.
    pub(crate) fn set_state(&mut self, state: impl Display) -> Result {
        self.put("state", state)
    }

    /// Removes the back end's entries.
    pub(crate) fn remove_own(&mut self) -> Result {
        Ok(self.store.remove(&self.back)?)
    }

    /// Removes all entries.
    pub(crate) fn remove(&mut self) -> Result {
        self.store.remove(&self.front)?;
        self.remove_own()
    }
}
