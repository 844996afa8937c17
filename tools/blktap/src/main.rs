// SPDX-License-Identifier: GPL-2.0
//! `blktap`: the extensions that this project brings, as a program.

use std::process::ExitCode;
use tap::Registry;

fn main() -> ExitCode {
    tap::program(extensions())
}

/// All extensions, a line for each.
fn extensions() -> Registry {
    Registry::new()
}
