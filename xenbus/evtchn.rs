// SPDX-License-Identifier: GPL-2.0

//! Interdomain event channels with late EOI.
//!
//! Xen delivers the next event of a channel only after the EOI of the last one. An end that gives
//! it late, and flags events that turned out to be spurious, cannot be drowned in events by its
//! peer (XSA-331, XSA-332, XSA-391); an end that never gives it is not disturbed again.
//!
//! C header: [`include/xen/events.h`](srctree/include/xen/events.h)

use crate::{bindings, device::Device};
use kernel::{
    error::to_result,
    prelude::*,
    sync::{aref::ARef, Arc},
};

/// When, and how, the EOI of an event is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Eoi {
    /// On return: there was something to do.
    Useful,
    /// On return: there was nothing to do. The core delays the next event of a peer that does
    /// this over and over.
    Spurious,
    /// Later, by [`EventChannel::eoi`]; or never, for a peer that broke the protocol.
    Later,
}

/// Takes the events of a channel.
pub trait Handler: Send + Sync + 'static {
    /// An event has come. Runs in hard interrupt context; not at the same time as itself.
    fn handle(&self) -> Eoi;
}

/// One end of an interdomain event channel, bound to an interrupt.
///
/// Dropping it closes the channel and waits for a handler that is running; so it must not be
/// dropped in interrupt context, nor with a lock held that the handler takes.
pub struct EventChannel<H: Handler> {
    irq: kernel::ffi::c_uint,
    port: bindings::evtchn_port_t,
    /// Whether `port` is this domain's own.
    own: bool,
    handler: Arc<H>,
    /// The interrupt counts its events in the device.
    _dev: ARef<Device>,
}

impl<H: Handler> EventChannel<H> {
    /// Front end: allocates a channel that the other end may bind to.
    pub fn alloc_unbound(dev: &Device, name: &'static CStr, handler: Arc<H>) -> Result<Self> {
        let mut port = 0;
        // SAFETY: The device is live and the out parameter valid.
        to_result(unsafe { bindings::xenbus_alloc_evtchn(dev.as_raw(), &mut port) })?;
        // SAFETY: The port is ours; name and handler outlive the interrupt, which the drop of the
        // channel (that holds the handler) frees.
        let irq = unsafe {
            bindings::bind_evtchn_to_irqhandler_lateeoi(
                port,
                Some(Self::interrupt),
                0,
                name.as_char_ptr(),
                Arc::as_ptr(&handler).cast_mut().cast(),
            )
        };
        // On failure the core has closed the port, in all cases but that of no free interrupt: not
        // to leak it then could close a port that is somebody else's by now.
        to_result(irq)?;
        Ok(Self::bound(dev, irq, (port, true), handler))
    }

    /// Back end: binds to a channel that the other end has allocated and named by `remote_port`.
    ///
    /// # Errors
    ///
    /// What Xen answers when the port is not one that the other end has allocated for us.
    pub fn bind_interdomain(
        dev: &Device,
        remote_port: u32,
        name: &'static CStr,
        handler: Arc<H>,
    ) -> Result<Self> {
        // SAFETY: The device is live; name and handler as above.
        let irq = unsafe {
            bindings::bind_interdomain_evtchn_to_irqhandler_lateeoi(
                dev.as_raw(),
                remote_port,
                Some(Self::interrupt),
                0,
                name.as_char_ptr(),
                Arc::as_ptr(&handler).cast_mut().cast(),
            )
        };
        to_result(irq)?;
        Ok(Self::bound(dev, irq, (remote_port, false), handler))
    }

    fn bound(
        dev: &Device,
        irq: kernel::ffi::c_int,
        (port, own): (u32, bool),
        handler: Arc<H>,
    ) -> Self {
        EventChannel {
            // CAST: Not negative: `to_result` has said so.
            irq: irq as kernel::ffi::c_uint,
            port,
            own,
            handler,
            _dev: dev.into(),
        }
    }

    extern "C" fn interrupt(
        irq: kernel::ffi::c_int,
        data: *mut kernel::ffi::c_void,
    ) -> kernel::bindings::irqreturn_t {
        // SAFETY: The handler that the channel holds until the interrupt is freed.
        let handler = unsafe { &*data.cast_const().cast::<H>() };
        let flags = match handler.handle() {
            Eoi::Useful => 0,
            Eoi::Spurious => bindings::XEN_EOI_FLAG_SPURIOUS,
            Eoi::Later => return kernel::bindings::irqreturn_IRQ_HANDLED,
        };
        // SAFETY: The interrupt is bound, since its handler runs.
        unsafe { bindings::xen_irq_lateeoi(irq as kernel::ffi::c_uint, flags) };
        kernel::bindings::irqreturn_IRQ_HANDLED
    }

    /// The port: this domain's own for a front end, the other end's for a back end.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The interrupt number.
    pub fn irq(&self) -> u32 {
        self.irq
    }

    /// The handler.
    pub fn handler(&self) -> &Arc<H> {
        &self.handler
    }

    /// Sends an event to the other end. In any context.
    #[inline]
    pub fn notify(&self) {
        if self.own {
            // Spares the search for the port.
            // SAFETY: The port is ours until the interrupt is unbound.
            unsafe { bindings::xenbus_helper_notify_port(self.port) };
        } else {
            // SAFETY: The interrupt is bound.
            unsafe { bindings::notify_remote_via_irq(self.irq as kernel::ffi::c_int) };
        }
    }

    /// Gives the EOI that [`Eoi::Later`] left open; once per event. In any context.
    pub fn eoi(&self, spurious: bool) {
        let flags = if spurious {
            bindings::XEN_EOI_FLAG_SPURIOUS
        } else {
            0
        };
        // SAFETY: The interrupt is bound. An EOI too many is ignored by the core.
        unsafe { bindings::xen_irq_lateeoi(self.irq, flags) };
    }
}

impl<H: Handler> Drop for EventChannel<H> {
    fn drop(&mut self) {
        // SAFETY: Bound with this very handler pointer; waits for a running handler and closes
        // the channel.
        unsafe {
            bindings::unbind_from_irqhandler(self.irq, Arc::as_ptr(&self.handler).cast_mut().cast())
        };
    }
}
