// SPDX-License-Identifier: GPL-2.0
//! A server for tests, and how clients are run.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub const MIB: usize = 1 << 20;

/// A server, with a directory that goes with it.
pub struct Server {
    child: Child,
    dir: PathBuf,
}

impl Server {
    /// Serves `chain`, in which `@` is a file of so many bytes.
    pub fn start(chain: &str, size: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("blktap-nbd-{}-{number}", std::process::id());
        // Not /tmp, which may have no O_DIRECT.
        let dir = Path::new("/var/tmp").join(name);
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("disk");
        fs::File::create(&file).unwrap().set_len(size).unwrap();
        let socket = dir.join("socket");
        let child = Command::new(env!("CARGO_BIN_EXE_blktap"))
            .args(["serve", "--nbd", socket.to_str().unwrap()])
            .arg(chain.replace('@', file.to_str().unwrap()))
            .spawn()
            .unwrap();
        let start = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "no server");
            sleep(Duration::from_millis(10));
        }
        Self { child, dir }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().into()
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.path("socket"))
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path("socket")).unwrap();
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).unwrap();
        stream
    }

    /// Asks it to end; it must, and take its socket along.
    pub fn stop(self) {
        self.keep();
    }

    /// The same; gives the directory.
    pub fn keep(mut self) -> Self {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        assert!(!Path::new(&self.path("socket")).exists());
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a client; what it prints.
pub fn run(words: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(words[0])
        .args(&words[1..])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{words:?}: {text}");
    text
}
