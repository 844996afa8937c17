// SPDX-License-Identifier: GPL-2.0
//! `trace`: what was asked of a disk, when, and how long it took, in a file.
//!
//! - `trace/format.rs`: the formats
//! - `trace/out.rs`: the file of records
//! - `trace/writes.rs`: the log of writes

mod format;
mod out;
#[cfg(test)]
mod tests;
mod writes;

use format::{log_writes, Blktrace, Event, Op, Request};
use out::Out;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::{Instant, SystemTime};
use tap::dev::{flag, op, status, Closing, Hook, Passing, Verdict};
use tap::log::Log;
use tap::{rt, AnyDisk, Buf, Disk, Extension, Opt, Options};
use writes::Writes;

/// A disk whose requests are written down.
pub struct Trace {
    below: AnyDisk,
    tracer: Tracer,
}

/// Where it is written down.
struct Tracer {
    start: Instant,
    to: To,
    /// Requests that are at a hook.
    open: RefCell<HashMap<u64, Request>>,
}

enum To {
    Text(Records),
    Blktrace(Records, RefCell<Blktrace>),
    Writes(Writes),
}

struct Records {
    out: Rc<Out>,
    _writer: rt::Task<()>,
}

impl Records {
    fn new(out: Rc<Out>) -> Self {
        let writer = rt::spawn(out.clone().run());
        Self {
            out,
            _writer: writer,
        }
    }
}

impl Tracer {
    /// A request has come.
    fn came(&self, op: Op, at: u64, len: u64) -> Request {
        let time = self.start.elapsed();
        let request = Request { op, at, len, time };
        if let To::Blktrace(records, format) = &self.to {
            let mut format = format.borrow_mut();
            for event in [Event::Queue, Event::Issue] {
                records
                    .out
                    .add(&format.event(event, &request, time, &Ok(())));
            }
        }
        request
    }

    /// It is done.
    fn done(&self, request: &Request, result: &io::Result<()>) {
        let now = self.start.elapsed();
        match &self.to {
            To::Text(records) => {
                let line = format::text(request, now.saturating_sub(request.time), result);
                records.out.add(line.as_bytes());
            }
            To::Blktrace(records, format) => {
                let event = format.borrow_mut();
                let event = { event }.event(Event::Complete, request, now, result);
                records.out.add(&event);
            }
            To::Writes(_) => (),
        }
    }

    async fn traced(
        &self,
        op: Op,
        at: u64,
        len: u64,
        doing: impl Future<Output = io::Result<()>>,
    ) -> io::Result<()> {
        let request = self.came(op, at, len);
        let result = doing.await;
        self.done(&request, &result);
        result
    }

    async fn close(&self) {
        match &self.to {
            To::Text(records) | To::Blktrace(records, _) => records.out.drain().await,
            To::Writes(log) => log.count().await,
        }
    }
}

impl Hook for Tracer {
    fn request(&self, passing: Passing) -> Verdict {
        let op = match passing.op() {
            op::READ => Op::Read,
            op::WRITE if passing.flags() & flag::BARRIER != 0 => Op::WriteFua,
            op::WRITE => Op::Write,
            op::FLUSH => Op::Flush,
            _ => Op::Discard,
        };
        let at = passing.sector().saturating_mul(512);
        let len = passing.nr_sectors().saturating_mul(512);
        let request = self.came(op, at, len);
        self.open.borrow_mut().insert(passing.key(), request);
        Verdict::Pass(passing)
    }

    fn reply(&self, passing: Passing) -> Verdict {
        let request = self.open.borrow_mut().remove(&passing.key());
        let result = match passing.status() {
            status::OKAY => Ok(()),
            status::EOPNOTSUPP => Err(io::ErrorKind::Unsupported.into()),
            _ => Err(io::Error::from_raw_os_error(5)),
        };
        if let Some(request) = request {
            self.done(&request, &result);
        }
        Verdict::Pass(passing)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(async {
            Tracer::close(self).await;
            Ok(())
        })
    }
}

impl Disk for Trace {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.below)
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let len = buf.len() as u64;
        self.tracer
            .traced(Op::Read, at, len, self.below.read(at, buf))
            .await
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let len = buf.len() as u64;
        let (op, flags) = match fua {
            true => (Op::WriteFua, log_writes::FUA),
            false => (Op::Write, 0),
        };
        self.tracer
            .traced(op, at, len, self.below.write(at, buf, fua))
            .await?;
        if let To::Writes(log) = &self.tracer.to {
            log.put(log.place(len), flags, at, len, buf).await;
        }
        Ok(())
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        let zeroes = self.below.write_zeroes(at, len, fua);
        self.tracer.traced(Op::Zeroes, at, len, zeroes).await?;
        let To::Writes(log) = &self.tracer.to else {
            return Ok(());
        };
        let flags = if fua { log_writes::FUA } else { 0 };
        let data = vec![0; len.min(1 << 20) as usize];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(1 << 20);
            let place = log.place(step);
            log.put(place, flags, at + done, step, &data[..step as usize])
                .await;
            done += step;
        }
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        let place = match &self.tracer.to {
            To::Writes(log) => Some((log, log.place(0))),
            _ => None,
        };
        let result = self
            .tracer
            .traced(Op::Flush, 0, 0, self.below.flush())
            .await;
        if let Some((log, place)) = place {
            log.flushed(place, &result).await;
        }
        result
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.tracer
            .traced(Op::Discard, at, len, self.below.discard(at, len))
            .await?;
        if let To::Writes(log) = &self.tracer.to {
            log.put(log.place(0), log_writes::DISCARD, at, len, &[])
                .await;
        }
        Ok(())
    }

    async fn close(&self) -> io::Result<()> {
        self.tracer.close().await;
        Ok(())
    }
}

impl Extension for Trace {
    const NAME: &str = "trace";
    const HELP: &str = "writes down every request: time, kind, sector, length, latency, result

Formats: text, a line for each request, to be watched with tail -f; blktrace, for blkparse and btt;
log-writes, that of dm-log-writes, which has the data of all writes, for replay-log.";
    const OPTIONS: &[Opt] = &[
        Opt::main("file", "the file, which is made anew"),
        Opt::or("format", "text", "text, blktrace or log-writes"),
    ];
    const FILTER: bool = true;

    fn is_hook(options: &Options) -> bool {
        options.get("format") != Some("log-writes")
    }

    async fn hook(options: &Options) -> io::Result<Rc<dyn Hook>> {
        Ok(Rc::new(Tracer::new(options).await?))
    }

    async fn open(options: &Options) -> io::Result<Self> {
        let below = options.below()?;
        let tracer = Tracer::new(options).await?;
        Ok(Self { below, tracer })
    }
}

impl Tracer {
    async fn new(options: &Options) -> io::Result<Self> {
        let format = options.text("format")?;
        if !["text", "blktrace", "log-writes"].contains(&format) {
            return Err(options.wrong("format", "format is text, blktrace or log-writes"));
        }
        let path = options.path("file")?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let file = file.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let log = Log::new(options.chain());
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let epoch = epoch.unwrap_or_default();
        let to = match format {
            "text" => {
                let out = Out::new(file, log);
                out.add(format::text_header(options.chain(), epoch).as_bytes());
                To::Text(Records::new(out))
            }
            "blktrace" => {
                let (out, mut format) = (Out::new(file, log), Blktrace::default());
                out.add(&format.start(epoch));
                To::Blktrace(Records::new(out), RefCell::new(format))
            }
            _ => {
                let writes = Writes::new(file, log);
                writes.count().await;
                To::Writes(writes)
            }
        };
        Ok(Self {
            start: Instant::now(),
            to,
            open: RefCell::default(),
        })
    }
}
