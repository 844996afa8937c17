// SPDX-License-Identifier: GPL-2.0

//! Polling in soft interrupt context.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::{
    device::{without_softirqs, NetDev, Rtnl},
    skb::SkBuff,
};
use crate::bindings;
use core::{
    cell::Cell,
    ptr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use kernel::{ffi::c_int, prelude::*, sync::Arc, types::Opaque};

/// Looks for packets.
pub trait Poll: Send + Sync + 'static {
    /// Handles at most `budget` packets and says how many there were. When there are no more for now,
    /// it calls [`PollContext::complete`], and arranges for [`Napi::schedule`] at the next one;
    /// otherwise it says `budget` and is called again. With a `budget` of 0 it receives nothing.
    ///
    /// Fewer than `budget` complete the poll in any case: one that is not completed would never be
    /// called again, and [`Napi::disable`] would wait for its end forever.
    ///
    /// In soft interrupt context; not at the same time as itself.
    fn poll(&self, context: &PollContext<'_>, budget: usize) -> usize;
}

/// A source of packets that is polled while it is busy. Dropping it disables it first, and sleeps.
pub struct Napi<P: Poll>(Pin<KBox<Inner<P>>>);

#[pin_data]
struct Inner<P> {
    #[pin]
    napi: Opaque<bindings::napi_struct>,
    enabled: AtomicBool,
    poll: Arc<P>,
    dev: Arc<NetDev>,
}

// SAFETY: A `napi_struct` may be scheduled from anywhere.
unsafe impl<P: Poll> Send for Napi<P> {}

// SAFETY: As above.
unsafe impl<P: Poll> Sync for Napi<P> {}

/// A poll that is going on.
pub struct PollContext<'a> {
    napi: &'a Opaque<bindings::napi_struct>,
    dev: &'a NetDev,
    budget: usize,
    completed: Cell<bool>,
    /// The queue of which packets have been redirected that may not have been sent yet; or NULL.
    redirected: Cell<*const bindings::xdp_rxq_info>,
}

impl<P: Poll> Napi<P> {
    /// Has `poll` polled for packets of `dev`; disabled to begin with. Takes the device's lock.
    pub fn new(dev: &Arc<NetDev>, poll: &Arc<P>) -> Result<Self> {
        let inner = KBox::pin_init(
            pin_init!(Inner {
                napi <- Opaque::ffi_init(|slot: *mut bindings::napi_struct| {
                    // SAFETY: `slot` is valid for writes; all zero is what the stack expects.
                    unsafe { slot.write_bytes(0, 1) };
                }),
                enabled: AtomicBool::new(false),
                poll: poll.clone(),
                dev: dev.clone(),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: Pinned, and deleted before it is freed.
        unsafe { bindings::net_helper_napi_add(dev.as_raw(), inner.napi.get(), Some(Self::poll)) };
        Ok(Napi(inner))
    }

    unsafe extern "C" fn poll(napi: *mut bindings::napi_struct, budget: c_int) -> c_int {
        // SAFETY: The field of an `Inner`, whose drop waits for us.
        let inner = unsafe { &*kernel::container_of!(Opaque::cast_from(napi), Inner<P>, napi) };
        let budget = budget.max(0) as usize;
        let context = PollContext {
            napi: &inner.napi,
            dev: &inner.dev,
            budget,
            completed: Cell::new(false),
            redirected: Cell::new(ptr::null()),
        };
        let done = inner.poll.poll(&context, budget);
        context.flush();
        if budget == 0 {
            // It is netpoll's, which is done with it now.
            return 0;
        }
        if done < budget {
            context.complete(done);
        }
        // Who has completed it must not say that the budget was used up. More is an error.
        let most = budget.wrapping_sub(context.completed.get().into());
        done.min(most) as c_int
    }

    /// Has it polled at once. In process context; without effect while it is disabled.
    pub fn kick(&self) {
        // Whoever has asked for a soft interrupt runs it when they are on again; otherwise it would
        // wait for the next interrupt.
        without_softirqs(|| self.schedule());
    }

    /// Has it polled soon. In interrupt context, hard or soft; without effect while it is disabled.
    #[inline]
    pub fn schedule(&self) {
        // SAFETY: Initialised in `new`.
        unsafe { bindings::net_helper_napi_schedule(self.0.napi.get()) };
    }

    /// Allows polling. Sleeps.
    pub fn enable(&self, _rtnl: &Rtnl) {
        if !self.0.enabled.swap(true, Relaxed) {
            // SAFETY: Initialised in `new`, and disabled; the lock keeps `disable` away.
            unsafe { bindings::napi_enable(self.0.napi.get()) };
        }
    }

    /// Waits for a poll that is going on, and allows no more of them. Sleeps.
    pub fn disable(&self, _rtnl: &Rtnl) {
        if self.0.enabled.swap(false, Relaxed) {
            // SAFETY: Initialised in `new`, and enabled; the lock keeps `enable` away.
            unsafe { bindings::napi_disable(self.0.napi.get()) };
        }
    }

    /// The bits of its state, and how many packets it is polled for in one go, for whoever looks for
    /// an error.
    pub fn state(&self) -> (u64, i32) {
        let napi = self.0.napi.get();
        // SAFETY: Initialised in `new`.
        unsafe {
            (
                bindings::net_helper_napi_state(napi),
                bindings::net_helper_napi_weight(napi),
            )
        }
    }

    /// What is polled.
    #[inline]
    pub fn target(&self) -> &Arc<P> {
        &self.0.poll
    }

    /// The device.
    pub fn dev(&self) -> &Arc<NetDev> {
        &self.0.dev
    }
}

impl<P: Poll> Drop for Napi<P> {
    fn drop(&mut self) {
        // SAFETY: Added in `new`, and nobody can schedule or enable it any more.
        unsafe {
            if self.0.enabled.load(Relaxed) {
                bindings::napi_disable(self.0.napi.get());
            }
            bindings::net_helper_napi_del(self.0.napi.get());
        }
    }
}

impl PollContext<'_> {
    /// Whether packets may be received: there is a budget.
    #[inline]
    pub(super) fn receives(&self) -> bool {
        self.budget > 0
    }

    /// Whether packets of this queue may be redirected now: none of another one are on their way.
    #[inline]
    pub(super) fn redirects(&self, rxq: *const bindings::xdp_rxq_info) -> bool {
        if self.redirected.get().is_null() {
            self.redirected.set(rxq);
        }
        self.redirected.get() == rxq
    }

    /// Whether packets of this queue have been redirected, which the caller has sent now.
    #[inline]
    pub(super) fn end_redirects(&self, rxq: *const bindings::xdp_rxq_info) -> bool {
        let is_its = self.redirected.get() == rxq;
        if is_its {
            self.redirected.set(ptr::null());
        }
        is_its
    }

    /// Has packets sent that were redirected, if their queue has forgotten to.
    #[inline]
    fn flush(&self) {
        if !self.redirected.replace(ptr::null()).is_null() {
            // SAFETY: In a poll with a budget, in which alone packets are redirected.
            unsafe { bindings::net_helper_xdp_flush_late() };
        }
    }

    /// Says that there are no more packets for now, after `done` of them. False: it is polled again
    /// in any case, or it has been said already.
    #[inline]
    pub fn complete(&self, done: usize) -> bool {
        if self.completed.replace(true) {
            return false;
        }
        self.flush();
        // SAFETY: It is being polled, and has not been completed.
        unsafe { bindings::napi_complete_done(self.napi.get(), done as c_int) }
    }

    /// Has it polled again, after [`Self::complete`].
    #[inline]
    pub fn schedule(&self) {
        // SAFETY: It is initialised.
        unsafe { bindings::net_helper_napi_schedule(self.napi.get()) };
    }

    /// Gives the stack a packet that has been made ready by [`SkBuff::receive_on`] for the device that
    /// is polled, and which may be joined with others of its flow; any other is dropped.
    #[inline]
    pub fn receive(&self, skb: SkBuff) {
        if skb.is_received_on(self.dev) {
            // SAFETY: The packet is the stack's from here on; its device is this one. It is being
            // polled.
            unsafe { bindings::net_helper_gro_receive(self.napi.get(), skb.into_raw()) };
        }
    }
}
