// SPDX-License-Identifier: GPL-2.0
//! `top`: what the tapped disks do.

use crate::args;
use crate::disk::device_name;
use crate::show::{mode_name, size};
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};
use tap::dev::{Device, Info};

/// The sums of a disk's queues.
#[derive(Clone, Copy, Default)]
struct Sums {
    in_flight: u64,
    reads: u64,
    writes: u64,
    read: u64,
    written: u64,
    answered: u64,
    /// Of the answers, in µs; by the upper ends of the buckets, so rather too long.
    took: u64,
}

fn sums(device: &Device, info: &Info) -> io::Result<Sums> {
    let mut sums = Sums::default();
    for queue in 0..info.nr_queues {
        let queue = device.queue(info.domid, info.handle, queue)?;
        sums.in_flight += u64::from(queue.fe_in_flight);
        sums.reads += queue.requests[0];
        sums.writes += queue.requests[1];
        sums.read += queue.sectors[0].saturating_mul(512);
        sums.written += queue.sectors[1].saturating_mul(512);
        for (i, count) in queue.latency.iter().enumerate() {
            sums.answered += count;
            sums.took = sums.took.saturating_add(count.saturating_mul(1 << i));
        }
    }
    Ok(sums)
}

pub(crate) fn top(args: &args::Top) -> io::Result<()> {
    let device = Device::open()?;
    let mut before: HashMap<(u32, u32), Sums> = HashMap::new();
    let mut since = Instant::now();
    let mut looks = 0;
    loop {
        let all = device.list()?;
        let seconds = since.elapsed().as_secs_f64();
        since = Instant::now();
        let mut now = HashMap::new();
        let mut text = format!(
            "{:>6} {:<8} {:<12} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9}\n",
            "DOMAIN",
            "DEVICE",
            "MODE",
            "IN FLIGHT",
            "READS/s",
            "WRITES/s",
            "READ/s",
            "WRITTEN/s",
            "MEAN us"
        );
        for info in &all {
            // It may have gone since it was listed.
            let Ok(sums) = sums(&device, info) else {
                continue;
            };
            let key = (info.domid, info.handle);
            now.insert(key, sums);
            let Some(old) = before.get(&key) else {
                continue;
            };
            let rate = |new: u64, old: u64| (new.saturating_sub(old) as f64 / seconds) as u64;
            let answered = sums.answered.saturating_sub(old.answered);
            let took = sums.took.saturating_sub(old.took);
            text += &format!(
                "{:>6} {:<8} {:<12} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9}\n",
                info.domid,
                device_name(info.handle),
                mode_name(info.mode),
                sums.in_flight,
                rate(sums.reads, old.reads),
                rate(sums.writes, old.writes),
                size(rate(sums.read, old.read)),
                size(rate(sums.written, old.written)),
                took.checked_div(answered)
                    .map_or("-".into(), |mean| mean.to_string())
            );
        }
        // The first look has nothing to compare with.
        if looks > 0 {
            let mut out = io::stdout().lock();
            if out.is_terminal() {
                out.write_all(b"\x1b[H\x1b[J")?;
            }
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        if args.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
        looks += 1;
        before = now;
        thread::sleep(Duration::from_secs(args.delay));
    }
}
