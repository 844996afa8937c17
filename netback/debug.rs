// SPDX-License-Identifier: GPL-2.0

//! What debugfs shows of an interface while it is connected: `xen-netback/vifD.N/io_ring_qN`, which
//! takes the command `kick`, and `ctrl`. Names and text are those of the C driver.

use crate::{
    credit::Account,
    params,
    queue::{Queue, MAX_WAITING},
    tx::Tx,
    vif::{Shared, Vif},
};
use kernel::{seq_file::SeqFile, seq_print};
use xenbus::{
    debugfs::{Dir, File},
    kthread::jiffies,
    net::Napi,
    prelude::*,
    protocol::{netif::hash, ring::Indices},
};

/// Shows an interface of which `queues` queues are connected, and the control ring, if `control`.
/// What cannot be shown is not. Sleeps.
pub(crate) fn show(vif: &Vif, queues: usize, control: bool) -> Option<Dir> {
    let name = |name: &CStr| CString::try_from(name);
    let name = vif.shared().net.with_name(name).ok()?;
    let mut dir = params::with_debug_dir(|top| top.subdir(&name))?;
    for napi in vif.queues().iter().take(queues) {
        let name = CString::try_from_fmt(fmt!("io_ring_q{}", napi.target().index)).ok()?;
        dir.add(&name, IoRing(napi.clone())).ok()?;
    }
    if control {
        dir.add(c"ctrl", Ctrl(vif.shared().clone())).ok()?;
    }
    Some(dir)
}

/// `io_ring_qN`.
struct IoRing(Arc<Napi<Queue>>);

/// The indices of a ring; each is followed by its distance from `rsp_prod`.
fn show_ring(to: &SeqFile, ring: &Indices) {
    let from = |index: u32| index.wrapping_sub(ring.rsp_prod) as i32;
    let &Indices {
        req_prod,
        req_cons,
        req_event,
        rsp_prod,
        rsp_prod_pvt,
        rsp_event,
        ..
    } = ring;
    seq_print!(
        to,
        "req prod {req_prod} ({}) cons {req_cons} ({}) event {req_event} ({})\n",
        from(req_prod),
        from(req_cons),
        from(req_event)
    );
    seq_print!(
        to,
        "rsp prod {rsp_prod} (base) pvt {rsp_prod_pvt} ({}) event {rsp_event} ({})\n",
        from(rsp_prod_pvt),
        from(rsp_event)
    );
}

fn show_tx(to: &SeqFile, tx: &Tx) {
    let (ring, _, _) = tx.state();
    seq_print!(to, "TX: nr_ents {}\n", ring.entries);
    show_ring(to, &ring);
    // What is taken from the ring is answered before anybody else runs; nothing is mapped.
    seq_print!(
        to,
        "pending prod 0 pending cons 0 nr_pending_reqs {}\n",
        ring.req_cons.wrapping_sub(ring.rsp_prod)
    );
    seq_print!(to, "dealloc prod 0 dealloc cons 0 dealloc_queue 0\n\n");
}

fn show_credit(to: &SeqFile, credit: &Account, held: bool) {
    let (rate, left, expires) = credit.state();
    seq_print!(
        to,
        "Credit timer_pending: {}, credit: {}, usec: {}\n",
        u8::from(held),
        rate.bytes,
        rate.usec
    );
    seq_print!(
        to,
        "remaining: {left}, expires: {expires}, now: {}\n",
        jiffies()
    );
}

impl File for IoRing {
    const WRITABLE: bool = true;

    fn show(&self, to: &SeqFile) {
        let queue = self.0.target();
        seq_print!(to, "Queue {}\n", queue.index);
        queue.with_tx(|tx| show_tx(to, tx));
        let rx = queue.with_rx(|rx| rx.indices()).unwrap_or_default();
        seq_print!(to, "RX: nr_ents {}\n", rx.entries);
        show_ring(to, &rx);
        let (state, weight) = self.0.state();
        seq_print!(
            to,
            "\nNAPI state: {state:x} NAPI weight: {weight} TX queue len 0\n"
        );
        queue.with_tx(|tx| {
            let (_, credit, held) = tx.state();
            show_credit(to, credit, held);
        });
        let (packets, bytes) = queue.waiting();
        let stopped = queue.shared.net.is_queue_stopped(queue.index);
        seq_print!(
            to,
            "\nRx internal queue: len {bytes} max {MAX_WAITING} pkts {packets} {}\n",
            if stopped { "stopped" } else { "running" }
        );
    }

    fn command(&self, text: &[u8]) -> Result {
        if !text.starts_with(b"kick") {
            return Err(EINVAL);
        }
        self.0.kick();
        self.0.target().call();
        Ok(())
    }
}

/// `ctrl`.
struct Ctrl(Arc<Shared>);

/// Numbers, eight in a line, after the range of their places.
fn show_table<T: Copy>(to: &SeqFile, table: &[T], width: usize, show: impl Fn(T)) {
    let mut first = 0;
    for line in table.chunks(8) {
        let last = first + line.len() - 1;
        seq_print!(to, "[{first:width$} - {last:width$}]: ");
        for value in line {
            show(*value);
        }
        seq_print!(to, "\n");
        first += line.len();
    }
}

impl File for Ctrl {
    fn show(&self, to: &SeqFile) {
        let hashing = self.0.spread.hashing();
        if !hashing.is_on() {
            seq_print!(to, "Hash Algorithm: NONE\n");
            return;
        }
        seq_print!(to, "Hash Algorithm: TOEPLITZ\n");
        if hashing.kinds() != 0 {
            seq_print!(to, "\nHash Flags:\n");
        }
        for (kind, name) in [
            (hash::IPV4, "IPv4"),
            (hash::IPV4_TCP, "IPv4 + TCP"),
            (hash::IPV6, "IPv6"),
            (hash::IPV6_TCP, "IPv6 + TCP"),
        ] {
            if hashing.kinds() & kind != 0 {
                seq_print!(to, "- {name}\n");
            }
        }
        seq_print!(to, "\nHash Key:\n");
        show_table(to, hashing.key(), 2, |byte| seq_print!(to, "{byte:02x} "));
        if !hashing.mapping().is_empty() {
            seq_print!(to, "\nHash Mapping:\n");
            show_table(to, hashing.mapping(), 4, |queue| {
                seq_print!(to, "{queue:4} ")
            });
        }
    }
}
