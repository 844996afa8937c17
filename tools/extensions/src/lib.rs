// SPDX-License-Identifier: GPL-2.0
//! Disks and filters for a block tap, each by itself useful. A page on each is in
//! `Documentation/extensions`.

mod common;
mod compress;
pub mod cow;
mod crypt;
pub mod fault;
mod image;
#[cfg(test)]
mod interop;
pub mod mirror;
mod random;
mod remote;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod trace;

pub use compress::Compress;
pub use crypt::Crypt;
pub use image::Image;
pub use remote::Remote;

use tap::Registry;

/// All of them, and what [`tap`] brings itself.
pub fn registry() -> Registry {
    Registry::new()
        .with::<Image>()
        .with::<Image<true>>()
        .with::<Remote>()
        .with::<cow::Cow>()
        .with::<Crypt>()
        .with::<Compress>()
        .with::<mirror::Mirror>()
        .with::<throttle::Throttle>()
        .with::<trace::Trace>()
        .with::<fault::Fault>()
}
