// SPDX-License-Identifier: GPL-2.0
/*
 * Exports the Rust symbols of the crates `protocol` and `xenbus` to the drivers that link them,
 * GPL-only. The list is generated from the objects; see Kbuild.
 */

#include <linux/export.h>
#include <linux/module.h>

#define EXPORT_SYMBOL_RUST_GPL(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)

#include "exports_generated.h"
