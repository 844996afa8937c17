// SPDX-License-Identifier: GPL-2.0
//! `blktap map`, `commit` and `check`.

use crate::server::{run, Server, MIB};
use std::fs;
use std::path::Path;
use std::process::Command;

const BLKTAP: &str = env!("CARGO_BIN_EXE_blktap");

/// Runs blktap, which fails; what it says.
fn refused(words: &[&str]) -> String {
    let output = Command::new(BLKTAP).args(words).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// A delta of `base`, in which two pieces are written by a client. The server, which has it still.
fn written(base: &str) -> Server {
    // Its file is the delta, and empty.
    let server = Server::start(&format!("cow:base={base},delta=@"), 0);
    let uri = server.uri();
    let (five, six) = ("write -P 5 1M 64k", "write -P 6 3M 4k");
    run(&[
        "qemu-io", "-f", "raw", "-c", five, "-c", six, "-c", "flush", &uri,
    ]);
    server
}

fn base(name: &str) -> String {
    let path = format!("/var/tmp/blktap-cow-{}-{name}", std::process::id());
    fs::write(&path, vec![1; 4 * MIB]).unwrap();
    path
}

#[test]
fn what_has_changed_is_shown_and_committed() {
    let base = base("raw");
    let server = written(&base);
    let delta = server.path("disk");
    let text = "         1048576            65536\n         3145728             4096\n\
                69632 of 4194304 bytes changed\n";
    assert_eq!(run(&[BLKTAP, "map", &delta]), text);
    let json = run(&[BLKTAP, "map", "--json", &delta]);
    let check = "import json, sys; all = json.loads(sys.argv[1]); \
                 print([(i['start'], i['length']) for i in all if i['depth'] == 0], \
                 sum(i['length'] for i in all))";
    assert_eq!(
        run(&["python3", "-c", check, &json]),
        "[(1048576, 65536), (3145728, 4096)] 4194304\n"
    );
    // Somebody has it.
    let error = refused(&["commit", &delta, &base]);
    assert!(error.contains("disk: it is in use"), "{error}");
    let kept = server.keep();
    let done = run(&[BLKTAP, "commit", "--json", &kept.path("disk"), &base]);
    assert_eq!(done, "{ \"committed\": 69632, \"size\": 4194304 }\n");
    let mut want = vec![1; 4 * MIB];
    want[MIB..][..65536].fill(5);
    want[3 * MIB..][..4096].fill(6);
    assert!(fs::read(&base).unwrap() == want);
    let done = run(&[BLKTAP, "commit", &kept.path("disk"), &base]);
    assert_eq!(done, "0 of 4194304 bytes committed\n");
    fs::remove_file(base).unwrap();
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    let raw = base("tty");
    let qcow2 = format!("{raw}.qcow2");
    run(&["qemu-img", "convert", "-O", "qcow2", &raw, &qcow2]);
    let chain = format!("qcow2:{qcow2}");
    // A base that is an option has its commas doubled; this one has none.
    let kept = written(&chain).keep();
    let spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))";
    let screen = run(&[
        "python3",
        "-c",
        spawn,
        BLKTAP,
        "commit",
        &kept.path("disk"),
        &chain,
    ]);
    assert!(screen.contains("] 100%  0 of 0 MiB"), "{screen}");
    assert!(
        screen.ends_with("69632 of 4194304 bytes committed\r\n"),
        "{screen}"
    );
    run(&["qemu-img", "check", &qcow2]);
    let read = [
        "-c",
        "read -P 5 1M 64k",
        "-c",
        "read -P 6 3M 4k",
        "-c",
        "read -P 1 0 1M",
    ];
    let output = run(&[&["qemu-io", "-f", "qcow2"], &read[..], &[&qcow2]].concat());
    assert!(!output.contains("failed"), "{output}");
    let check = [
        "python3",
        "-c",
        spawn,
        BLKTAP,
        "check",
        "noop+raw:/a,readonli=yes",
    ];
    let output = Command::new(check[0]).args(&check[1..]).output().unwrap();
    let screen = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines[0], "error: noop+raw:/a,readonli=yes");
    assert_eq!(lines[1], "                   ^^^^^^^^^^^^");
    assert!(lines[2]
        .trim()
        .starts_with("raw has no option readonli; did you mean readonly?"));
    fs::remove_file(raw).unwrap();
    fs::remove_file(qcow2).unwrap();
}

#[test]
fn what_is_wrong_is_said() {
    for (words, what) in [
        (
            &["map", "/nowhere/d"][..],
            "error: /nowhere/d: No such file",
        ),
        (
            &["map", "/etc/passwd"],
            "error: /etc/passwd: it is no delta",
        ),
        (
            &["commit", "/etc/passwd", "/etc/passwd"],
            "/etc/passwd: it is no delta",
        ),
        (
            &["commit", "/a", "noop"],
            "base \"noop\": it is a filter, and no disk",
        ),
        (
            &["commit", "/a", "rav:/b"],
            "error: chain \"rav:/b\": there is no extension rav",
        ),
        (
            &["check", "raw"],
            "error: chain \"raw\": raw needs file=… (its path)",
        ),
    ] {
        let error = refused(words);
        assert!(error.contains(what), "{words:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    if !Path::new("/dev/ublk-control").exists() {
        let error = refused(&["serve", "--ublk", "/etc/passwd"]);
        assert!(error.contains("`modprobe ublk_drv`"), "{error}");
    }
    let read = run(&[BLKTAP, "check", "throttle:iops=5+raw:/a"]);
    let want = "throttle     iops=5\nraw          file=/a\nin the place of the guest's disk\n";
    assert_eq!(read, want);
}
