// SPDX-License-Identifier: GPL-2.0
//! Against nbdkit, qemu-nbd and our own server; with connections that break, servers that hang, and
//! servers that forget.

use crate::interop::{open, read, run, sh, stress, Dir, Forgetful, Random, Server};
use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tap::log::Log;
use tap::net::Address;
use tap::rt;
use tap::{AnyDisk, Buf, Disk, Info};

fn nbdkit(socket: &str, rest: &str) -> Server {
    Server::start(&format!("nbdkit -f -U {socket} {rest}"), socket)
}

#[test]
fn nbdkit_by_a_unix_socket() {
    let dir = Dir::new();
    let socket = dir.path("socket");
    let _server = nbdkit(&socket, "memory 6M");
    run(async move {
        let disk = open(&format!("remote:{socket}")).await.unwrap();
        assert_eq!(disk.info().size, 6 << 20);
        assert!(disk.info().discard && !disk.info().read_only);
        let content = stress(&disk, 1, 8, 80).await;
        disk.close().await.unwrap();
        // Another connection sees the same.
        let disk = open(&format!("remote:server={socket},keep=0"))
            .await
            .unwrap();
        let mut again = vec![0; content.len()];
        read(&disk, 0, &mut again).await;
        assert!(again == content);
    });
}

#[test]
fn qemu_nbd_by_tcp_with_a_name() {
    let dir = Dir::new();
    let file = dir.path("disk.qcow2");
    sh(&format!("qemu-img create -q -f qcow2 {file} 6M"));
    let port = 20000 + std::process::id() % 20000;
    let at = format!("127.0.0.1:{port}");
    let line = format!("qemu-nbd -t -e 8 -x some/name -f qcow2 -p {port} -b 127.0.0.1 {file}");
    let server = Server::start(&line, &at);
    let content = run(async move {
        let wrong = open(&format!("remote:{at},export=other")).await;
        let wrong = wrong.err().unwrap().to_string();
        assert!(
            wrong.contains("other") || wrong.contains("export"),
            "{wrong}"
        );
        let disk = open(&format!("remote:{at},export=some/name"))
            .await
            .unwrap();
        let content = stress(&disk, 2, 8, 80).await;
        disk.flush().await.unwrap();
        disk.close().await.unwrap();
        content
    });
    drop(server);
    let raw = dir.path("raw");
    sh(&format!("qemu-img convert -O raw {file} {raw}"));
    assert!(std::fs::read(raw).unwrap() == content);
}

#[test]
fn errors_and_read_only_exports() {
    let dir = Dir::new();
    let (bad, fixed) = (dir.path("bad"), dir.path("fixed"));
    let _bad = nbdkit(
        &bad,
        "--filter=error memory 1M error=ENOSPC error-pwrite-rate=100%",
    );
    let _fixed = nbdkit(&fixed, "-r memory 1M");
    let none = dir.path("none");
    run(async move {
        let disk = open(&format!("remote:{bad}")).await.unwrap();
        let error = disk.write(0, &Buf::zeroed(512), false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let mut buf = Buf::new(512);
        disk.read(0, &mut buf).await.unwrap();
        let disk = open(&format!("remote:{fixed}")).await.unwrap();
        assert!(disk.info().read_only && !disk.info().discard);
        let error = open(&format!("remote:{none}")).await.err().unwrap();
        assert!(error.to_string().contains("none"), "{error}");
    });
}

/// Passes bytes on between clients and a server, and cuts each connection after some of them.
fn cutter(listen: &str, server: &str, seed: u64, cuts: Arc<AtomicU64>) {
    let listener = UnixListener::bind(listen).unwrap();
    let server = server.to_string();
    std::thread::spawn(move || {
        let random = Random::new(seed);
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&server).unwrap());
            // The handshake gets through; then it may be in the midst of a header or of data.
            let last = cuts.load(Ordering::Relaxed) == 0;
            for (from, to, most) in [(&client, &server, 1 << 20), (&server, &client, 1 << 20)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let mut left = if last {
                    u64::MAX
                } else {
                    200 + random.below(most)
                };
                let cuts = cuts.clone();
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while left > 0 {
                        let most = left.min(4096) as usize;
                        match from.read(&mut bytes[..most]) {
                            Ok(count @ 1..) if to.write_all(&bytes[..count]).is_ok() => {
                                left -= count as u64;
                            }
                            _ => break,
                        }
                    }
                    if left == 0 {
                        let less = |cuts: u64| Some(cuts.saturating_sub(1));
                        let _ = cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                    }
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
}

#[test]
fn a_connection_that_breaks_loses_nothing() {
    let dir = Dir::new();
    let (socket, front) = (dir.path("socket"), dir.path("front"));
    let _server = nbdkit(&socket, "memory 8M");
    let cuts = Arc::new(AtomicU64::new(12));
    cutter(&front, &socket, 3, cuts.clone());
    run(async move {
        let disk = open(&format!("remote:{front},keep=256k")).await.unwrap();
        let content = stress(&disk, 3, 8, 200).await;
        assert_eq!(cuts.load(Ordering::Relaxed), 0, "too few cuts");
        let disk = open(&format!("remote:{socket}")).await.unwrap();
        let mut direct = vec![0; content.len()];
        read(&disk, 0, &mut direct).await;
        assert!(direct == content);
    });
}

/// Our own server, which can be ended and started again.
struct Own {
    socket: String,
    disk: AnyDisk,
    task: Option<rt::Task<()>>,
}

impl Own {
    fn start(&mut self) {
        let address: Address = self.socket.parse().unwrap();
        let listener = address.listen().unwrap();
        let disk = self.disk.clone();
        let serve = tap::nbd::serve(
            disk,
            listener,
            Log::new("test"),
            std::future::pending::<()>(),
        );
        self.task = Some(rt::spawn(async move { serve.await.unwrap() }));
    }
}

#[test]
fn a_server_that_forgets_is_told_again() {
    forgets(true);
}

/// The same without what `remote` keeps: the test finds the loss.
#[test]
#[should_panic(expected = "lost")]
fn without_memory_a_server_that_forgets_is_noticed() {
    forgets(false);
}

fn forgets(keep: bool) {
    let dir = Dir::new();
    let socket = dir.path("socket");
    run(async move {
        const SIZE: usize = 1 << 20;
        let stable = Rc::new(RefCell::new(vec![0; SIZE]));
        let cached = Rc::new(RefCell::new(vec![0; SIZE]));
        let disk = Forgetful {
            size: SIZE as u64,
            stable: stable.clone(),
            cached: cached.clone(),
        };
        let mut server = Own {
            socket: socket.clone(),
            disk: AnyDisk::new(disk),
            task: None,
        };
        server.start();
        let keep = if keep { "64k" } else { "0" };
        let disk = open(&format!("remote:{socket},keep={keep}")).await.unwrap();
        let mut model = vec![0; SIZE];
        let random = Random::new(5);
        for turn in 0..60 {
            for _ in 0..random.below(20) {
                let at = random.below(SIZE as u64 / 512 - 8) as usize * 512;
                let mut buf = Buf::new(512 * (1 + random.below(8) as usize));
                random.fill(&mut buf);
                model[at..at + buf.len()].copy_from_slice(&buf);
                disk.write(at as u64, &buf, false).await.unwrap();
            }
            if turn % 3 == 0 {
                // It crashes, and comes back with what was flushed.
                server.task = None;
                rt::sleep(Duration::from_millis(5)).await;
                cached.borrow_mut().copy_from_slice(&stable.borrow());
                server.start();
            }
            if turn % 5 == 4 {
                disk.flush().await.unwrap();
                assert!(*stable.borrow() == model, "lost by turn {turn}");
            }
        }
    });
}

/// A disk whose first requests are never answered.
struct Hangs(Cell<u32>);

impl Disk for Hangs {
    fn info(&self) -> Info {
        Info::new(1 << 20)
    }
    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        self.0.set(self.0.get().saturating_sub(1));
        if self.0.get() > 0 {
            std::future::pending::<()>().await;
        }
        buf.fill((at / 512) as u8);
        Ok(())
    }
}

#[test]
fn a_server_that_hangs_is_called_again() {
    let dir = Dir::new();
    let socket = dir.path("socket");
    run(async move {
        let mut server = Own {
            socket: socket.clone(),
            disk: AnyDisk::new(Hangs(Cell::new(20))),
            task: None,
        };
        server.start();
        let disk = open(&format!("remote:{socket},timeout=100ms"))
            .await
            .unwrap();
        let start = Instant::now();
        let reads = (0..8u64).map(|block| {
            let disk = disk.clone();
            async move {
                let mut buf = Buf::new(512);
                disk.read(block * 512, &mut buf).await.unwrap();
                assert!(buf.iter().all(|byte| *byte == block as u8));
            }
        });
        rt::join_all(reads).await;
        let took = start.elapsed();
        assert!(took > Duration::from_millis(200), "{took:?}");
        // Without a server, requests wait.
        server.task = None;
        let wait = async {
            let mut buf = Buf::new(512);
            disk.read(512, &mut buf).await.unwrap();
            buf[0]
        };
        let later = async {
            rt::sleep(Duration::from_millis(300)).await;
            server.start();
        };
        assert_eq!(rt::join(wait, later).await.0, 1);
    });
}

#[test]
fn it_can_give_up() {
    let dir = Dir::new();
    let socket = dir.path("socket");
    run(async move {
        let mut server = Own {
            socket: socket.clone(),
            disk: AnyDisk::new(Hangs(Cell::new(0))),
            task: None,
        };
        server.start();
        let disk = open(&format!("remote:{socket},give-up=200ms"))
            .await
            .unwrap();
        server.task = None;
        rt::sleep(Duration::from_millis(20)).await;
        let start = Instant::now();
        let error = disk.read(0, &mut Buf::new(512)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let took = start.elapsed().as_millis();
        assert!((100..2000).contains(&took), "{took} ms");
        server.start();
        let mut buf = Buf::new(512);
        while disk.read(0, &mut buf).await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    });
}

#[test]
fn a_dropped_request_does_no_harm() {
    let dir = Dir::new();
    let socket = dir.path("socket");
    let _server = nbdkit(&socket, "--filter=delay memory 8M rdelay=30ms wdelay=1ms");
    run(async move {
        let disk = open(&format!("remote:{socket}")).await.unwrap();
        for number in 0..20u8 {
            let mut buf = Buf::zeroed(1 << 20);
            let short = Duration::from_micros(100 * u64::from(number));
            let _ = rt::timeout(short, disk.read(0, &mut buf)).await;
            // Half sent, or not: what follows is a request of its own.
            let data = Buf::copy_of(&vec![number; 1 << 20]);
            let _ = rt::timeout(short, disk.write(2 << 20, &data, false)).await;
            let data = Buf::copy_of(&[number; 4096]);
            disk.write(4 << 20, &data, false).await.unwrap();
            let mut buf = Buf::new(8192);
            disk.read(4 << 20, &mut buf).await.unwrap();
            assert!(buf[..4096] == [number; 4096] && buf[4096..] == [0; 4096]);
        }
    });
}
