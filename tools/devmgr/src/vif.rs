// SPDX-License-Identifier: GPL-2.0
//! Attaches an interface again, by what libxl has written down of it.
//!
//! `xl network-attach` takes no number: it gives an interface the one after the last that the guest has,
//! and the front end takes it for another one. So this writes what libxl would write.

use crate::device::Device;
use std::io::{self, Error};
use xen::store::{Access, Perm, Store, View};
use xen::DomId;

/// Nodes of the record that are not the back end's.
const OF_RECORD: [&str; 3] = ["frontend", "backend", "state"];

/// The node in the front end's directory that is the back end's domain's, whose hotplug script writes it.
const MTU: &str = "mtu";

/// Gives the interface the back end `new`, in the domain `domid`, in one step.
pub(crate) fn attach(
    store: &mut Store,
    domid: DomId,
    old: &Device,
    new: &Device,
) -> io::Result<()> {
    let (front, record, back) = (old.front(), old.record(), &new.back);
    let of_front = [
        Perm::new(old.guest, Access::None),
        Perm::new(domid, Access::Read),
    ];
    let of_back = [
        Perm::new(domid, Access::None),
        Perm::new(old.guest, Access::Read),
    ];
    store.transaction(|store| {
        if store.read_opt(&format!("{record}/backend"))?.as_deref() != Some(&old.back) {
            return Err(Error::other("it is attached to another domain, or to none"));
        }
        let described: Vec<_> = leaves(store, &record)?
            .into_iter()
            .filter(|(key, _)| !OF_RECORD.contains(&key.as_str()))
            .collect();
        // What the guest cannot have written.
        let mut kept = Vec::new();
        for (key, value) in leaves(store, &front)? {
            let perms = store.perms(&format!("{front}/{key}"))?;
            if key != MTU && perms.first().is_some_and(|owner| owner.domid == 0) {
                kept.push((key, value));
            }
        }

        store.remove(back)?;
        store.mkdir(back)?;
        store.set_perms(back, &of_back)?;
        let own = [("frontend", front.as_str()), ("state", "1")];
        let described_too = described.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        for (key, value) in own.into_iter().chain(described_too) {
            put(store, &format!("{back}/{key}"), value, &of_back)?;
        }

        store.remove(&front)?;
        store.mkdir(&front)?;
        store.set_perms(&front, &of_front)?;
        let id = domid.to_string();
        let own = [
            ("backend", back.as_str()),
            ("backend-id", &id),
            ("state", "1"),
            ("trusted", if old.untrusted { "0" } else { "1" }),
        ];
        let named = described
            .iter()
            .filter(|(key, _)| key == "handle" || key == "mac");
        let named = named.map(|(k, v)| (k.as_str(), v.as_str()));
        for (key, value) in own.into_iter().chain(named) {
            put(store, &format!("{front}/{key}"), value, &of_front)?;
        }
        let read_only = [
            Perm::new(0, Access::None),
            Perm::new(old.guest, Access::Read),
            Perm::new(domid, Access::Read),
        ];
        for (key, value) in &kept {
            put(store, &format!("{front}/{key}"), value, &read_only)?;
        }
        let mtu = described.iter().find(|(key, _)| key == MTU);
        let mtu = mtu.map_or("", |(_, value)| value);
        put(store, &format!("{front}/{MTU}"), mtu, &of_back)?;
        store.write(&format!("{record}/backend"), back)
    })
}

fn put(store: &mut View<'_>, path: &str, value: &str, perms: &[Perm]) -> io::Result<()> {
    store.write(path, value)?;
    store.set_perms(path, perms)
}

/// The nodes in a directory, with their values.
fn leaves(store: &mut View<'_>, dir: &str) -> io::Result<Vec<(String, String)>> {
    let mut leaves = Vec::new();
    for key in store.list(dir)? {
        if let Some(value) = store.read_opt(&format!("{dir}/{key}"))? {
            leaves.push((key, value));
        }
    }
    Ok(leaves)
}
