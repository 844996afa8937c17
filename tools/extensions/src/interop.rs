// SPDX-License-Identifier: GPL-2.0
//! What the tests of several extensions need.

pub use crate::random::Random;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tap::chain::Chain;
use tap::{rt, AnyDisk, Buf};

/// Opens a chain of this crate's extensions.
pub async fn open(chain: &str) -> io::Result<AnyDisk> {
    let registry = Arc::new(crate::registry());
    Chain::parse(&registry, chain)?.open(None).await
}

/// Runs a test's future.
pub fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
    rt::run(future).expect("no io_uring")
}

/// A directory that goes when the test ends.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("extensions-{}-{number}", std::process::id());
        // Not /tmp, which may be a tmpfs, without O_DIRECT.
        let path = Path::new("/var/tmp").join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }

    /// A new file with this content.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A new file of zeroes.
    pub fn sparse(&self, name: &str, size: u64) -> String {
        let path = self.path(name);
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a command line, whose words have no spaces, and gives its output. It has to succeed.
pub fn sh(line: &str) -> String {
    let (status, output) = try_sh(line);
    assert!(status, "{line}: {output}");
    output
}

/// As [`sh`], and whether it succeeded.
pub fn try_sh(line: &str) -> (bool, String) {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap();
    let output = Command::new(name).args(words).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; the build root has it"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// A server that ends with the test.
pub struct Server(Child);

impl Server {
    /// Starts it, and waits until there is `socket`, a path or HOST:PORT.
    pub fn start(line: &str, socket: &str) -> Self {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let child = Command::new(name).args(words).stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}; the build root has it"));
        let server = Self(child);
        let start = Instant::now();
        let there = || match socket.starts_with('/') {
            true => std::os::unix::net::UnixStream::connect(socket).is_ok(),
            false => std::net::TcpStream::connect(socket).is_ok(),
        };
        while !there() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{line}: no {socket}"
            );
            sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 128 tasks write a sector each of the first 64 KiB, at the same time; all is there.
pub async fn fill_at_once(disk: &AnyDisk) {
    let writes = (0..128u64).map(|block| {
        let disk = disk.clone();
        rt::spawn(async move { write(&disk, block * 512, &[block as u8; 512]).await })
    });
    rt::join_all(writes).await;
    let mut have = vec![0; 65536];
    read(disk, 0, &mut have).await;
    assert!(have
        .chunks(512)
        .zip(0..)
        .all(|(it, block)| it == [block; 512]));
}

/// `tasks` tasks at the same time, each with a piece of the disk to itself, write, discard, flush
/// and read `count` times, and compare. Gives what the disk has in the end.
pub async fn stress(disk: &AnyDisk, seed: u64, tasks: u64, count: u64) -> Vec<u8> {
    let info = disk.info();
    let block = u64::from(info.block_size);
    let piece = info.size / tasks / block * block;
    let all: Vec<_> = (0..tasks)
        .map(|task| {
            let disk = disk.clone();
            rt::spawn(async move { one(&disk, seed + task, task * piece, piece, count).await })
        })
        .collect();
    let mut content = rt::join_all(all).await.concat();
    let rest = content.len();
    content.resize(info.size as usize, 0);
    read(disk, rest as u64, &mut content[rest..]).await;
    content
}

async fn one(disk: &AnyDisk, seed: u64, start: u64, len: u64, count: u64) -> Vec<u8> {
    let block = u64::from(disk.info().block_size);
    let random = Random::new(seed + 1);
    let mut model = vec![0; len as usize];
    read(disk, start, &mut model).await;
    for turn in 0..count {
        let at = random.below(len / block) * block;
        let most = [1, 8, 64, 512][random.below(4) as usize];
        let size = ((1 + random.below(most)) * block).min(len - at);
        let range = at as usize..(at + size) as usize;
        match random.below(16) {
            0..=6 => {
                let mut buf = Buf::new(size as usize);
                match random.below(3) {
                    0 => buf.fill(random.below(256) as u8),
                    _ => random.fill(&mut buf),
                }
                model[range].copy_from_slice(&buf);
                let fua = random.below(16) == 0;
                disk.write(start + at, &buf, fua).await.unwrap();
            }
            7 => {
                model[range].fill(0);
                disk.write_zeroes(start + at, size, false).await.unwrap();
            }
            8 => {
                disk.discard(start + at, size).await.unwrap();
                read(disk, start + at, &mut model[range]).await;
            }
            9 => disk.flush().await.unwrap(),
            _ => {
                let mut buf = Buf::new(size as usize);
                disk.read(start + at, &mut buf).await.unwrap();
                let same = buf[..] == model[range];
                assert!(same, "turn {turn}: {size} bytes at {}", start + at);
            }
        }
    }
    let mut now = vec![0; model.len()];
    read(disk, start, &mut now).await;
    assert!(now == model, "the end of the piece at {start}");
    model
}

/// Reads any amount.
pub async fn read(disk: &AnyDisk, at: u64, into: &mut [u8]) {
    let mut at = at;
    for chunk in into.chunks_mut(1 << 20) {
        let mut buf = Buf::new(chunk.len());
        disk.read(at, &mut buf).await.unwrap();
        chunk.copy_from_slice(&buf);
        at += chunk.len() as u64;
    }
}

/// Writes any amount.
pub async fn write(disk: &AnyDisk, at: u64, from: &[u8]) {
    let mut at = at;
    for chunk in from.chunks(1 << 20) {
        disk.write(at, &Buf::copy_of(chunk), false).await.unwrap();
        at += chunk.len() as u64;
    }
}

/// A disk for tests, which forgets what was not flushed when it is told to.
pub struct Forgetful {
    pub size: u64,
    pub stable: Rc<std::cell::RefCell<Vec<u8>>>,
    pub cached: Rc<std::cell::RefCell<Vec<u8>>>,
}

impl tap::Disk for Forgetful {
    fn info(&self) -> tap::Info {
        tap::Info {
            discard: true,
            ..tap::Info::new(self.size)
        }
    }
    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let cached = self.cached.borrow();
        let len = buf.len();
        buf.copy_from_slice(&cached[at as usize..][..len]);
        Ok(())
    }
    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        self.cached.borrow_mut()[at as usize..][..buf.len()].copy_from_slice(buf);
        if fua {
            self.stable.borrow_mut()[at as usize..][..buf.len()].copy_from_slice(buf);
        }
        Ok(())
    }
    async fn flush(&self) -> io::Result<()> {
        self.stable
            .borrow_mut()
            .copy_from_slice(&self.cached.borrow());
        Ok(())
    }
}
