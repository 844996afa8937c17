// SPDX-License-Identifier: GPL-2.0
//! `blktap`: the extensions that this project brings, as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tap::program(extensions::registry())
}
