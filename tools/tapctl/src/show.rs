// SPDX-License-Identifier: GPL-2.0
//! `list` and `show`.

use crate::change::{policy_name, tapped};
use crate::disk::{device_name, Disk};
use crate::json::{self, Object};
use crate::program;
use std::io::{self, Write};
use tap::dev::{Device, Info, Mode, QueueInfo, State, BUCKETS};

pub(crate) fn mode_name(mode: u32) -> &'static str {
    match Mode::from_number(mode) {
        Some(Mode::Passthrough) => "passthrough",
        Some(Mode::Interpose) => "interpose",
        Some(Mode::InterceptFe) => "intercept-fe",
        Some(Mode::InterceptBe) => "intercept-be",
        None => "?",
    }
}

fn state_name(state: u32) -> &'static str {
    match State::from_number(state) {
        Some(State::Idle) => "idle",
        Some(State::Connected) => "connected",
        Some(State::Gone) => "gone",
        Some(State::Broken) => "broken",
        None => "?",
    }
}

/// A size in bytes, in words of at most six characters.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes}"),
        _ if value < 10.0 => format!("{value:.1}{}", units[unit]),
        _ => format!("{value:.0}{}", units[unit]),
    }
}

fn object(info: &Info) -> Object {
    let disk = Disk {
        domid: info.domid,
        handle: info.handle,
    };
    let geometry = Object::default()
        .with("sectors", info.geometry.sectors)
        .with("sector_size", info.geometry.sector_size)
        .with("physical_sector_size", info.geometry.physical_sector_size)
        .with("features", info.geometry.features)
        .with("discard_granularity", info.geometry.discard_granularity);
    Object::default()
        .with("domid", info.domid)
        .with("handle", info.handle)
        .text("device", Some(&device_name(info.handle)))
        .text("state", Some(state_name(info.state)))
        .text("mode", Some(mode_name(info.mode)))
        .text("policy", Some(policy_name(info.policy)))
        .with("pid", info.pid)
        .with("queues", info.nr_queues)
        .with("connected", info.nr_connected)
        .with("generation", info.generation)
        .with("geometry", geometry)
        .text("chain", program::chain(disk).as_deref())
}

pub(crate) fn list(as_json: bool) -> io::Result<()> {
    let all = Device::open()?.list()?;
    let mut out = io::stdout().lock();
    if as_json {
        return writeln!(out, "{}", json::list(all.iter().map(object)));
    }
    writeln!(
        out,
        "{:>6} {:<8} {:<12} {:<11} {:<9} {:>7} {:>6} CHAIN",
        "DOMAIN", "DEVICE", "MODE", "POLICY", "STATE", "PID", "SIZE"
    )?;
    for info in &all {
        let disk = Disk {
            domid: info.domid,
            handle: info.handle,
        };
        let pid = match info.pid {
            0 => "-".into(),
            pid => pid.to_string(),
        };
        writeln!(
            out,
            "{:>6} {:<8} {:<12} {:<11} {:<9} {pid:>7} {:>6} {}",
            info.domid,
            device_name(info.handle),
            mode_name(info.mode),
            policy_name(info.policy),
            state_name(info.state),
            size(info.geometry.sectors.saturating_mul(512)),
            program::chain(disk).unwrap_or_else(|| "-".into())
        )?;
    }
    Ok(())
}

fn queue_object(queue: &QueueInfo) -> Object {
    let counts = |all: &[u64]| json::list(all);
    Object::default()
        .with("queue", queue.queue)
        .with("fe_in_flight", queue.fe_in_flight)
        .with("be_in_flight", queue.be_in_flight)
        .with("fe_req_prod", queue.fe_req_prod)
        .with("fe_rsp_prod", queue.fe_rsp_prod)
        .with("be_req_prod", queue.be_req_prod)
        .with("be_rsp_prod", queue.be_rsp_prod)
        .with("refused", queue.refused)
        .with("requests", counts(&queue.requests))
        .with("sectors", counts(&queue.sectors))
        .with("latency_us_log2", counts(&queue.latency))
}

pub(crate) fn show(disk: Disk, as_json: bool) -> io::Result<()> {
    let device = Device::open()?;
    let info = tapped(&device, disk)?;
    let queues = (0..info.nr_queues)
        .map(|queue| device.queue(disk.domid, disk.handle, queue))
        .collect::<io::Result<Vec<_>>>()?;
    let mut out = io::stdout().lock();
    if as_json {
        let queues = json::list(queues.iter().map(queue_object));
        return writeln!(out, "{}", object(&info).with("queue", queues));
    }
    let geometry = &info.geometry;
    writeln!(
        out,
        "disk        {disk}: {} sectors of 512 bytes",
        geometry.sectors
    )?;
    writeln!(
        out,
        "blocks      {} bytes, physical {}; features {:#x}, discard granularity {}",
        geometry.sector_size,
        geometry.physical_sector_size,
        geometry.features,
        geometry.discard_granularity
    )?;
    writeln!(
        out,
        "tap         {}, mode {}, policy {}",
        state_name(info.state),
        mode_name(info.mode),
        policy_name(info.policy)
    )?;
    match info.pid {
        0 => writeln!(out, "program     none; there were {}", info.generation)?,
        pid => writeln!(out, "program     process {pid}, number {}", info.generation)?,
    }
    if let Some(chain) = program::chain(disk) {
        writeln!(out, "chain       {chain}")?;
    }
    writeln!(
        out,
        "queues      {}, connected {}",
        info.nr_queues, info.nr_connected
    )?;
    writeln!(
        out,
        "\n{:>5} {:>6} {:>6} {:>11} {:>11} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "QUEUE",
        "GUEST",
        "DISK",
        "READS",
        "WRITES",
        "FLUSHES",
        "DISCARDS",
        "READ",
        "WRITTEN",
        "REFUSED"
    )?;
    for queue in queues.iter().filter(|queue| is_used(queue)) {
        let [reads, writes, flushes, discards] = queue.requests;
        writeln!(
            out,
            "{:>5} {:>6} {:>6} {reads:>11} {writes:>11} {flushes:>9} {discards:>9} {:>9} {:>9} {:>7}",
            queue.queue,
            queue.fe_in_flight,
            queue.be_in_flight,
            size(queue.sectors[0].saturating_mul(512)),
            size(queue.sectors[1].saturating_mul(512)),
            queue.refused
        )?;
    }
    let mut latency = [0u64; BUCKETS];
    for queue in &queues {
        for (sum, count) in latency.iter_mut().zip(queue.latency) {
            *sum = sum.saturating_add(count);
        }
    }
    histogram(&mut out, &latency)
}

fn is_used(queue: &QueueInfo) -> bool {
    queue.requests.iter().any(|count| *count > 0) || queue.fe_in_flight + queue.be_in_flight > 0
}

/// How long the program took, from its first bucket with something to its last.
fn histogram(out: &mut impl Write, latency: &[u64; BUCKETS]) -> io::Result<()> {
    let most = latency.iter().max().copied().unwrap_or(0);
    let first = latency.iter().position(|count| *count > 0);
    let last = latency.iter().rposition(|count| *count > 0);
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(());
    };
    writeln!(out, "\n{:>11} {:>11}", "LATENCY", "REQUESTS")?;
    for (i, count) in latency.iter().enumerate().take(last + 1).skip(first) {
        let bar = "#".repeat((count.saturating_mul(40)).div_ceil(most) as usize);
        let limit = match i {
            _ if i + 1 == BUCKETS => "more".into(),
            0..10 => format!("< {} us", 1u64 << i),
            _ => format!("< {} ms", (1u64 << i) / 1000),
        };
        writeln!(out, "{limit:>11} {count:>11} {bar}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0");
        assert_eq!(size(999), "999");
        assert_eq!(size(4096), "4.0k");
        assert_eq!(size(64 << 20), "64M");
        assert_eq!(size(u64::MAX), "16E");
    }

    #[test]
    fn the_histogram_shows_what_there_is() {
        let mut latency = [0; BUCKETS];
        let mut text = Vec::new();
        histogram(&mut text, &latency).unwrap();
        assert!(text.is_empty());
        latency[3] = 4;
        latency[4] = 1;
        latency[BUCKETS - 1] = 1;
        histogram(&mut text, &latency).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 2 + BUCKETS - 3);
        assert!(text.contains(&format!("{:>11} {:>11} {}\n", "< 8 us", 4, "#".repeat(40))));
        assert!(text.contains(&format!("{:>11} {:>11} {}\n", "more", 1, "#".repeat(10))));
    }
}
