// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Replays the corpus: what the fuzzer has found interesting stays in order.

use std::fs;
use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut inputs = 0;
    for file in fs::read_dir(&folder).expect("there is a corpus") {
        target(&fs::read(file.expect("readable").path()).expect("readable"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

#[test]
fn ring() {
    replay("ring", crate::ring);
}

#[test]
fn blkif() {
    replay("blkif", crate::blkif);
}

#[test]
fn netif() {
    replay("netif", crate::netif);
}

#[test]
fn negotiate() {
    replay("negotiate", crate::negotiate);
}

#[test]
fn tapped() {
    replay("tapped", crate::tapped);
}
