// SPDX-License-Identifier: GPL-2.0
//! Disks and filters for a block tap, each by itself useful. A page on each is in
//! `Documentation/extensions`.

mod common;
pub mod cow;
pub mod fault;
pub mod mirror;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod trace;

use tap::Registry;

/// All of them, and what [`tap`] brings itself.
pub fn registry() -> Registry {
    Registry::new()
        .with::<cow::Cow>()
        .with::<throttle::Throttle>()
        .with::<fault::Fault>()
        .with::<mirror::Mirror>()
        .with::<trace::Trace>()
}
