// SPDX-License-Identifier: GPL-2.0

//! The control ring, by which the guest says how packets for it are hashed, and spread over its queues.
//!
//! Served by a thread, since a part of some requests lies in a page of the guest's.

use crate::{
    queue::{give_eoi, Calls, Channel, Port},
    rings::attach,
    vif::Shared,
};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernel::dev_err;
use xenbus::{
    kthread::{Current, Kthread},
    lock::SpinLockIrq,
    map::{Copied, Mapper},
    net::SkBuff,
    new_spinlock_irq,
    prelude::*,
    protocol::{
        netif::{self, ControlRing, ControlStep, FlowHash, Hashing},
        ring::{Back, Overrun},
    },
    ring::BackArea,
};

/// How the packets of a vif are spread over its queues.
#[pin_data]
pub(crate) struct Spread {
    /// As the guest has said; otherwise the stack does it.
    on: AtomicBool,
    #[pin]
    hashing: SpinLockIrq<Hashing>,
}

/// Bytes of a packet in which the headers are looked for that a hash is computed of.
const HEADERS: usize = 128;

impl Spread {
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Spread {
                on: AtomicBool::new(false),
                hashing <- new_spinlock_irq!(Hashing::new(), "netback::Spread::hashing"),
            }),
            GFP_KERNEL,
        )
    }

    /// As for a guest that has said nothing.
    pub(crate) fn reset(&self) {
        *self.hashing.lock() = Hashing::new();
        self.on.store(false, Relaxed);
    }

    /// What the guest has said.
    pub(crate) fn hashing(&self) -> Hashing {
        self.hashing.lock().clone()
    }

    /// Whether the guest has said how packets are spread.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// The hash of a packet that has its Ethernet header, if it is one that has a hash.
    #[inline]
    pub(crate) fn hash(&self, skb: &SkBuff) -> Option<FlowHash> {
        if !self.is_on() {
            return None;
        }
        let mut headers = [0; HEADERS];
        let len = skb.copy_start(&mut headers);
        self.hashing.lock().hash(headers.get(..len)?)
    }

    /// The queue for a packet of that hash.
    #[inline]
    pub(crate) fn queue(&self, hash: Option<FlowHash>, queues: u32) -> u32 {
        let hash = hash.map_or(0, |hash| hash.value);
        self.hashing.lock().queue(hash, queues)
    }
}

/// Starts to serve the ring. Sleeps.
pub(crate) fn start(
    dev: &Device,
    shared: &Arc<Shared>,
    front: &ControlRing,
    queues: u32,
) -> Result<Kthread> {
    let ring = attach(dev, front.ring_ref, netif::Control)?;
    let calls = Calls::new()?;
    let port = Port::new(None, Some(&calls))?;
    let channel = Channel::bind_interdomain(dev, front.port, c"netback-ctrl", port)?;
    let mut control = Control {
        ring,
        channel,
        calls,
        shared: shared.clone(),
        queues,
        mapper: Mapper::new(dev.otherend_id()),
        page: Copied::new()?,
    };
    let name = shared
        .net
        .with_name(|name| CString::try_from_fmt(fmt!("{name}-ctrl")))?;
    Kthread::spawn(fmt!("{}", &*name), move |thread| control.run(thread))
}

/// A control ring.
struct Control {
    ring: Back<BackArea, netif::Control>,
    channel: Channel,
    calls: Arc<Calls>,
    shared: Arc<Shared>,
    queues: u32,
    mapper: Mapper,
    page: Copied,
}

impl Control {
    fn run(&mut self, thread: &Current) {
        self.calls.waker.set_current();
        // Nobody was there to be woken before.
        self.calls.call();
        loop {
            thread.wait(|| self.calls.is_called());
            if thread.should_stop() {
                return;
            }
            self.calls.take();
            match self.serve(thread) {
                Ok(useful) => give_eoi(&self.channel, useful),
                Err(Overrun { claimed, possible }) => {
                    dev_err!(
                        self.shared.dev.dev(),
                        "control ring overrun: front end claims {claimed} requests where {possible} fit; vif disabled\n"
                    );
                    self.shared.set_broken();
                    thread.wait(|| false);
                    return;
                }
            }
        }
    }

    /// Answers all requests; says whether there was any.
    fn serve(&mut self, thread: &Current) -> Result<bool, Overrun> {
        let mut useful = false;
        loop {
            while let Some(request) = self.ring.pop()? {
                useful = true;
                let step = self.shared.spread.hashing.lock().begin(&request);
                let response = match step {
                    ControlStep::Answer(response) => response,
                    ControlStep::Copy { gref, len, pending } => {
                        let copied = self.mapper.copy(gref, &mut self.page, len);
                        let bytes = self.page.bytes().get(..len).filter(|_| copied.is_ok());
                        let mut hashing = self.shared.spread.hashing.lock();
                        hashing.end(&pending, bytes, self.queues)
                    }
                };
                let on = self.shared.spread.hashing.lock().is_on();
                self.shared.spread.on.store(on, Relaxed);
                // There is a request that waits for a response: this one.
                let _ = self.ring.push(&response);
                if self.ring.publish() {
                    self.channel.notify();
                }
                if thread.should_stop() {
                    return Ok(useful);
                }
                thread.cond_resched();
            }
            if !self.ring.final_check()? {
                return Ok(useful);
            }
        }
    }
}
