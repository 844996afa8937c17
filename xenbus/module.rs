// SPDX-License-Identifier: GPL-2.0

//! References on modules, for those who call into one that might go.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)

use core::ptr::NonNull;
use kernel::prelude::*;

/// A reference on a module, which cannot be unloaded meanwhile.
///
/// To be dropped after all that the module has made, by somebody else than the module.
pub struct ModuleRef(NonNull<kernel::bindings::module>);

// SAFETY: The count may be changed from anywhere.
unsafe impl Send for ModuleRef {}

// SAFETY: As above.
unsafe impl Sync for ModuleRef {}

impl ModuleRef {
    /// A reference on `module`.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is being unloaded.
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        let module = NonNull::new(module.as_ptr()).ok_or(ENODEV)?;
        // SAFETY: A module whose code holds its `ThisModule` is there.
        if unsafe { kernel::bindings::try_module_get(module.as_ptr()) } {
            Ok(ModuleRef(module))
        } else {
            Err(ENODEV)
        }
    }
}

impl Clone for ModuleRef {
    fn clone(&self) -> Self {
        // SAFETY: We hold a reference, so that there may be another one.
        unsafe { kernel::bindings::__module_get(self.0.as_ptr()) };
        ModuleRef(self.0)
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: Our reference.
        unsafe { kernel::bindings::module_put(self.0.as_ptr()) };
    }
}
