// SPDX-License-Identifier: GPL-2.0
//! `blktap`: the extensions that this project brings, as a program.
//!
//! - `cow.rs`: `map` and `commit`
//! - `progress.rs`: how far a long work is

mod cow;
mod progress;

use std::process::ExitCode;

fn main() -> ExitCode {
    tap::program_with(extensions::registry(), cow::verbs())
}
