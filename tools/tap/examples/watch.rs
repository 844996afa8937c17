// SPDX-License-Identifier: GPL-2.0
//! `watch`: says what a guest writes. From here on it is the text in README.md.

use std::io::Result;
use tap::{AnyDisk, Buf, Disk};

struct Watch(AnyDisk);

impl Disk for Watch {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.0)
    }

    async fn write(&self, at: u64, data: &Buf, fua: bool) -> Result<()> {
        eprintln!("{} bytes are written to {at}", data.len());
        self.0.write(at, data, fua).await
    }
}

fn main() -> std::process::ExitCode {
    tap::filter("watch", Watch)
}
