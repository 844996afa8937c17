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
use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::{Instant, SystemTime};
use tap::log::Log;
use tap::{rt, AnyDisk, Buf, Disk, Extension, Opt, Options};
use writes::Writes;

/// A disk whose requests are written down.
pub struct Trace {
    below: AnyDisk,
    start: Instant,
    to: To,
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

impl Trace {
    async fn traced(
        &self,
        op: Op,
        at: u64,
        len: u64,
        doing: impl Future<Output = io::Result<()>>,
    ) -> io::Result<()> {
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
        let result = doing.await;
        let now = self.start.elapsed();
        match &self.to {
            To::Text(records) => {
                let line = format::text(&request, now.saturating_sub(time), &result);
                records.out.add(line.as_bytes());
            }
            To::Blktrace(records, format) => {
                let event = format.borrow_mut();
                let event = { event }.event(Event::Complete, &request, now, &result);
                records.out.add(&event);
            }
            To::Writes(_) => (),
        }
        result
    }
}

impl Disk for Trace {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.below)
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let len = buf.len() as u64;
        self.traced(Op::Read, at, len, self.below.read(at, buf))
            .await
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let len = buf.len() as u64;
        let (op, flags) = match fua {
            true => (Op::WriteFua, log_writes::FUA),
            false => (Op::Write, 0),
        };
        self.traced(op, at, len, self.below.write(at, buf, fua))
            .await?;
        if let To::Writes(log) = &self.to {
            log.put(log.place(len), flags, at, len, buf).await;
        }
        Ok(())
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        let zeroes = self.below.write_zeroes(at, len, fua);
        self.traced(Op::Zeroes, at, len, zeroes).await?;
        let To::Writes(log) = &self.to else {
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
        let place = match &self.to {
            To::Writes(log) => Some((log, log.place(0))),
            _ => None,
        };
        let result = self.traced(Op::Flush, 0, 0, self.below.flush()).await;
        if let Some((log, place)) = place {
            log.flushed(place, &result).await;
        }
        result
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.traced(Op::Discard, at, len, self.below.discard(at, len))
            .await?;
        if let To::Writes(log) = &self.to {
            log.put(log.place(0), log_writes::DISCARD, at, len, &[])
                .await;
        }
        Ok(())
    }

    async fn close(&self) -> io::Result<()> {
        match &self.to {
            To::Text(records) | To::Blktrace(records, _) => records.out.drain().await,
            To::Writes(log) => log.count().await,
        }
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

    async fn open(options: &Options) -> io::Result<Self> {
        let (below, format) = (options.below()?, options.text("format")?);
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
            below,
            start: Instant::now(),
            to,
        })
    }
}
