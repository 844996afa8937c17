// SPDX-License-Identifier: GPL-2.0

//! Registration of a driver on the front or the back xenbus.
//!
//! The bus calls `probe` and `remove` under the device's lock, and `otherend_changed` in the
//! xenwatch thread; the three never run at the same time for one device. `suspend` and `resume`
//! come from the power management core, with the watches stopped. `is_ready` may be called at any
//! time, but not while the device is probed or removed; so may `reclaim_memory`.
//!
//! A bound device holds a reference on its driver's module, so that the module cannot be unloaded
//! while a device is in use.
//!
//! C header: [`include/xen/xenbus.h`](srctree/include/xen/xenbus.h)

use crate::{
    bindings,
    device::{Core, Device},
};
use core::marker::PhantomData;
use kernel::{
    error::{from_result, to_result},
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow},
    types::{ForeignOwnable, Opaque},
};
use protocol::state::XenbusState;

/// The bus that a driver sits on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `/sys/bus/xen`: devices of this guest.
    Front,
    /// `/sys/bus/xen-backend`: devices that this domain serves.
    Back,
}

/// What the uevent of a device is made of.
pub struct UeventEnv(Opaque<kernel::bindings::kobj_uevent_env>);

impl UeventEnv {
    /// Adds `key=value`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when the environment is full.
    pub fn add(&self, key: &CStr, value: &CStr) -> Result {
        // SAFETY: The environment is valid for the call that lent it; both are C strings.
        to_result(unsafe {
            bindings::xenbus_helper_add_uevent_var(
                self.0.get(),
                key.as_char_ptr(),
                value.as_char_ptr(),
            )
        })
    }
}

/// What becomes of a device after its other end has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum After {
    /// It stays.
    Keep,
    /// Back side: it is taken off the bus, which calls `remove`. If somebody is binding or
    /// unbinding it at this moment it stays, and goes when the toolstack removes its node.
    Unregister,
}

/// A driver of one device type; a value of it is one device.
///
/// The bus keeps one [`Arc`] of the value from `probe` to `remove`.
#[vtable]
pub trait Driver: Sized + Send + Sync + 'static {
    /// The bus.
    const SIDE: Side;

    /// The driver's name, unique on its bus (the C drivers are named by the device type).
    const NAME: &'static CStr;

    /// The device type, such as `vbd` or `vif`; at most 31 bytes.
    const DEVICE_TYPE: &'static CStr;

    /// Whether the device may be bound again after an unbind: the core then leaves the state node
    /// alone on remove, instead of writing `Closed`.
    const ALLOW_REBIND: bool = false;

    /// Front side: whether the boot need not wait for devices of this type.
    const NOT_ESSENTIAL: bool = false;

    /// A device has appeared whose other end exists.
    fn probe(dev: &Device<Core>) -> Result<Arc<Self>>;

    /// The other end has written its state node (or it was so when the watch was made).
    fn otherend_changed(this: &Arc<Self>, dev: &Device<Core>, state: XenbusState) -> After;

    /// The device goes, or the driver is unbound from it.
    fn remove(this: &Arc<Self>, dev: &Device<Core>);

    /// The domain is about to be saved or migrated.
    fn suspend(_this: &Arc<Self>, _dev: &Device<Core>) -> Result {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// The domain has been restored; the other end is a new one, in state `Initialising`.
    fn resume(_this: &Arc<Self>, _dev: &Device<Core>) -> Result {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// Front side: whether the device is up, for whoever waits for it at boot.
    fn is_ready(_this: &Arc<Self>, _dev: &Device<Core>) -> bool {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// Back side: memory is short; what is kept in reserve should go. Called by whoever needs
    /// memory, so it must neither sleep nor allocate.
    fn reclaim_memory(_this: &Arc<Self>, _dev: &Device<Core>) {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// Back side: adds to the uevent of a device, whether or not it is bound yet.
    fn uevent(_dev: &Device, _env: &UeventEnv) -> Result {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }
}

/// A registered driver; dropping it removes every device and takes the driver off the bus.
#[pin_data(PinnedDrop)]
pub struct Registration<T: Driver> {
    #[pin]
    driver: Opaque<bindings::xenbus_driver>,
    _driver: PhantomData<T>,
}

// SAFETY: Registration and its end are synchronized by the driver core, from any thread.
unsafe impl<T: Driver> Send for Registration<T> {}

// SAFETY: Nothing can be done with a shared reference.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers the driver; devices that are there already are probed before this returns.
    pub fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            driver <- Opaque::try_ffi_init(|slot: *mut bindings::xenbus_driver| {
                // SAFETY: `slot` is valid for writes and all zero is a valid `xenbus_driver`.
                unsafe {
                    slot.write_bytes(0, 1);
                    Adapter::<T>::fill(&mut *slot);
                }
                let register = match T::SIDE {
                    Side::Front => bindings::__xenbus_register_frontend,
                    Side::Back => bindings::__xenbus_register_backend,
                };
                // SAFETY: The driver is pinned and lives until it is unregistered by the drop.
                to_result(unsafe { register(slot, module.as_ptr(), T::NAME.as_char_ptr()) })
            }),
            _driver: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: A `Registration` that exists has been registered.
        unsafe { bindings::xenbus_unregister_driver(self.driver.get()) };
    }
}

/// The C callbacks of a driver `T`.
struct Adapter<T>(PhantomData<T>);

impl<T: Driver> Adapter<T> {
    const IDS: &'static [bindings::xenbus_device_id; 2] = &Self::ids();

    const fn ids() -> [bindings::xenbus_device_id; 2] {
        let name = T::DEVICE_TYPE.to_bytes_with_nul();
        let mut first = bindings::xenbus_device_id {
            devicetype: [0; 32],
        };
        assert!(name.len() <= 32);
        let mut i = 0;
        while i < name.len() {
            first.devicetype[i] = name[i] as kernel::ffi::c_char;
            i += 1;
        }
        [
            first,
            bindings::xenbus_device_id {
                devicetype: [0; 32],
            },
        ]
    }

    fn fill(driver: &mut bindings::xenbus_driver) {
        driver.name = T::NAME.as_char_ptr();
        driver.ids = Self::IDS.as_ptr();
        driver.allow_rebind = T::ALLOW_REBIND;
        driver.not_essential = T::NOT_ESSENTIAL;
        driver.probe = Some(Self::probe);
        driver.otherend_changed = Some(Self::otherend_changed);
        driver.remove = Some(Self::remove);
        if T::HAS_SUSPEND {
            driver.suspend = Some(Self::suspend);
        }
        if T::HAS_RESUME {
            driver.resume = Some(Self::resume);
        }
        if T::HAS_IS_READY {
            driver.is_ready = Some(Self::is_ready);
        }
        if T::HAS_RECLAIM_MEMORY {
            driver.reclaim_memory = Some(Self::reclaim_memory);
        }
        if T::HAS_UEVENT {
            driver.uevent = Some(Self::uevent);
        }
    }

    /// Runs `f` with the device and its value, both kept alive throughout. `None` when there is no
    /// value.
    ///
    /// # Safety
    ///
    /// `dev` must be what the bus hands to a callback of `T`.
    unsafe fn with<R>(
        dev: *mut bindings::xenbus_device,
        f: impl FnOnce(&Arc<T>, &Device<Core>) -> R,
    ) -> Option<R> {
        // SAFETY: By the safety requirements.
        let dev = unsafe { Device::<Core>::from_raw(dev) };
        let _kept: ARef<Device> = dev.into();
        // SAFETY: The device is live.
        let data = unsafe { kernel::bindings::dev_get_drvdata(dev.raw_dev()) };
        if data.is_null() {
            return None;
        }
        // SAFETY: What is not NULL was made by `probe` and is taken back only by `remove`, which
        // does not run at the same time as another callback.
        let value: ArcBorrow<'_, T> = unsafe { <Arc<T> as ForeignOwnable>::borrow(data) };
        let value: Arc<T> = value.into();
        Some(f(&value, dev))
    }

    extern "C" fn probe(
        dev: *mut bindings::xenbus_device,
        _id: *const bindings::xenbus_device_id,
    ) -> kernel::ffi::c_int {
        // SAFETY: The bus hands us a live device that it is about to bind.
        let dev = unsafe { Device::<Core>::from_raw(dev) };
        from_result(|| {
            let value = T::probe(dev)?;
            // SAFETY: The device is live; `remove` takes the value back.
            unsafe { kernel::bindings::dev_set_drvdata(dev.raw_dev(), value.into_foreign()) };
            Ok(0)
        })
    }

    extern "C" fn otherend_changed(
        dev: *mut bindings::xenbus_device,
        state: bindings::xenbus_state,
    ) {
        // SAFETY: The bus hands us a live device.
        let kept: ARef<Device> = unsafe { Device::<Core>::from_raw(dev) }.into();
        // SAFETY: Called by the bus.
        let after = unsafe {
            Self::with(dev, |value, dev| {
                T::otherend_changed(value, dev, XenbusState::from(state))
            })
        };
        if after == Some(After::Unregister) {
            // SAFETY: The device is registered, since its watch has called us, and we hold a
            // reference. Nothing of the driver's uses it any more.
            unsafe { bindings::xenbus_helper_device_unregister(kept.raw_dev()) };
        }
    }

    extern "C" fn remove(dev: *mut bindings::xenbus_device) {
        // SAFETY: Called by the bus.
        unsafe { Self::with(dev, |value, dev| T::remove(value, dev)) };

        // SAFETY: The device is live.
        let raw = unsafe { Device::<Core>::from_raw(dev) }.raw_dev();
        // SAFETY: As above.
        let data = unsafe { kernel::bindings::dev_get_drvdata(raw) };
        // SAFETY: As above; from here on no callback finds the value.
        unsafe { kernel::bindings::dev_set_drvdata(raw, core::ptr::null_mut()) };
        if !data.is_null() {
            // SAFETY: Made by `into_foreign` in `probe`, and taken back once.
            drop(unsafe { <Arc<T> as ForeignOwnable>::from_foreign(data) });
        }
    }

    extern "C" fn suspend(dev: *mut bindings::xenbus_device) -> kernel::ffi::c_int {
        // SAFETY: Called by the bus.
        let result = unsafe { Self::with(dev, |value, dev| T::suspend(value, dev)) };
        from_result(|| result.unwrap_or(Ok(())).map(|()| 0))
    }

    extern "C" fn resume(dev: *mut bindings::xenbus_device) -> kernel::ffi::c_int {
        // SAFETY: Called by the bus.
        let result = unsafe { Self::with(dev, |value, dev| T::resume(value, dev)) };
        from_result(|| result.unwrap_or(Ok(())).map(|()| 0))
    }

    extern "C" fn is_ready(dev: *mut bindings::xenbus_device) -> kernel::ffi::c_int {
        // Whoever waits for devices at boot asks without the device's lock. The core holds this
        // semaphore over probe and remove; while it does, the device is not ready.
        // SAFETY: Called by the bus, with a live device.
        let sem = unsafe { &raw mut (*dev).reclaim_sem };
        // SAFETY: As above.
        if unsafe { kernel::bindings::down_trylock(sem) } != 0 {
            return 0;
        }
        // SAFETY: Called by the bus, and neither probe nor remove runs.
        let ready = unsafe { Self::with(dev, |value, dev| T::is_ready(value, dev)) };
        // SAFETY: Taken above.
        unsafe { kernel::bindings::up(sem) };
        ready.unwrap_or(true).into()
    }

    extern "C" fn reclaim_memory(dev: *mut bindings::xenbus_device) {
        // SAFETY: Called by the bus, which keeps probe and remove away by the device's semaphore.
        unsafe { Self::with(dev, |value, dev| T::reclaim_memory(value, dev)) };
    }

    extern "C" fn uevent(
        dev: *const bindings::xenbus_device,
        env: *mut kernel::bindings::kobj_uevent_env,
    ) -> kernel::ffi::c_int {
        // SAFETY: The core hands us a live device and an environment, both for this call.
        let (dev, env) = unsafe { (Device::from_raw(dev.cast_mut()), &*env.cast::<UeventEnv>()) };
        from_result(|| T::uevent(dev, env).map(|()| 0))
    }
}
