// SPDX-License-Identifier: GPL-2.0
//! What README.md says on writing a tap, done to the letter as far as it needs no Xen; the lab's
//! test `readme` does the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where cargo puts the examples of the build that this test is of.
fn examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples")
}

/// A block of the text.
fn block(number: u32) -> String {
    let output = Command::new(Path::new(TOOLS).join("tap/readme"))
        .arg(number.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "there is no block {number}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a script of bash; what it prints.
fn bash(script: &str) -> String {
    let output = Command::new("bash")
        .args(["-euc", script])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{script}: {text}");
    text
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_example_is_what_the_readme_shows() {
    let example = fs::read_to_string(Path::new(TOOLS).join("tap/examples/watch.rs")).unwrap();
    let (head, text) = example.split_once("\n\n").unwrap();
    assert!(head.lines().all(|line| line.starts_with("//")));
    assert_eq!(text, block(1));
    let lines = text.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(lines, 15, "it is said to be of fifteen lines");
    // The change has a place.
    assert!(text.contains("\n        self.0.write("));
    assert!(block(6).starts_with("        tap::rt::sleep("));
    assert!(block(2).ends_with("cargo build --release --example watch\n"));
}

#[test]
fn it_is_a_disk_on_a_socket() {
    // Not /tmp, which may have no O_DIRECT.
    let dir = Dir(format!("/var/tmp/readme-{}", std::process::id()).into());
    fs::create_dir_all(&dir.0).unwrap();
    let place = format!("{}/", dir.0.display());
    let script = block(3)
        .replace("/var/tmp/", &place)
        .replace("target/release/examples", examples().to_str().unwrap());
    // A reader is slower than this.
    let wait = format!(" &\nuntil [ -S {place}watch ]; do sleep 0.02; done\n");
    let more = format!(
        "nbdcopy --requests=16 {place}disk.raw 'nbd+unix:///?socket={place}watch'\n\
         nbdinfo --size 'nbd+unix:///?socket={place}watch'\nkill %1\nwait %1\n"
    );
    assert!(script.contains(" &\n") && script.contains("\nkill %1\n"));
    let said = bash(&script.replace(" &\n", &wait).replace("kill %1\n", &more));
    assert!(said.contains("1048576 bytes are written to 0"), "{said}");
    assert!(said.contains("read 1048576/1048576 bytes"), "{said}");
    assert!(said.contains("\n67108864\n"), "{said}");
    let disk = fs::read(format!("{place}disk.raw")).unwrap();
    assert!(disk[..1 << 20].iter().all(|byte| *byte == 5));
}
