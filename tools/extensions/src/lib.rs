// SPDX-License-Identifier: GPL-2.0
//! Disks and filters for a block tap, each by itself useful. A page on each is in
//! `Documentation/extensions`.

mod compress;
mod crypt;
mod image;
mod remote;
#[cfg(test)]
mod testing;

pub use compress::Compress;
pub use crypt::Crypt;
pub use image::Image;
pub use remote::Remote;

use tap::Registry;

/// All of them, and what [`tap`] brings itself.
pub fn registry() -> Registry {
    Registry::new()
        .with::<Compress>()
        .with::<Crypt>()
        .with::<Image>()
        .with::<Image<true>>()
        .with::<Remote>()
}
