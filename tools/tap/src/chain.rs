// SPDX-License-Identifier: GPL-2.0
//! Chains: which extensions, with which options, in which order.
//!
//! ```text
//! throttle:iops=100+cow:base=/srv/a.raw,delta=/srv/b
//! ```
//!
//! Extensions are separated by `+`. The first is nearest to the guest; each one but the last is a
//! filter of what is behind it. If the last is a filter as well, it is one of the disk that the
//! guest has anyway. An extension is its name, then `:` and options, separated by `,`, each a name,
//! `=` and a value. An extension's main option may stand first, as the value alone: `raw:/srv/a.raw`;
//! and `/srv/a.raw`, being a path, is short for this.
//!
//! `++` and `,,` in a value are `+` and `,`: `raw:/srv/c++++/a,,b.raw` is the file
//! `/srv/c++/a,b.raw`. Nothing else needs quoting, neither here nor in xl's disk specifications, as
//! long as `target=` comes last there (xl-disk-configuration(5)).
//!
//! Where the value of an option is a disk, it is a chain itself: `cow:base=qcow2:/a.qcow2,delta=/b`.
//! A `,` or `+` inside of that one is doubled.
//!
//! - `chain/parse.rs`: from text to [`Chain`]
//! - `chain/options.rs`: [`Options`], the values that an extension is opened with
//! - `chain/registry.rs`: [`Registry`], the extensions that a program has

mod options;
mod parse;
mod registry;
#[cfg(test)]
mod tests;

pub use options::Options;
pub use parse::{Chain, Error};
pub use registry::{Entry, Extension, Opt, Registry};
