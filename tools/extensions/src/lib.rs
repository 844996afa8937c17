// SPDX-License-Identifier: GPL-2.0
//! Disks and filters for a block tap, each by itself useful. A page on each is in
//! `Documentation/extensions`.

mod crypt;
mod remote;
#[cfg(test)]
mod testing;

pub use crypt::Crypt;
pub use remote::Remote;

use tap::Registry;

/// All of them, and what [`tap`] brings itself.
pub fn registry() -> Registry {
    Registry::new().with::<Crypt>().with::<Remote>()
}
