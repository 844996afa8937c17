/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for xenbus/bindings.rs: Xen's headers and our own helpers. */

#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/kthread.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <xen/xen.h>
#include <xen/xenbus.h>

#include "helpers.h"
#include "net/helpers.h"
