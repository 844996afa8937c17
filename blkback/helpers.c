// SPDX-License-Identifier: GPL-2.0
/* C helpers for what the block layer offers only as an inline or a macro; module parameters. */

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/cdrom.h>
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <xen/xenbus.h>

u64 blkback_helper_capacity(struct block_device *bdev);
unsigned int blkback_helper_logical_block_size(struct block_device *bdev);
unsigned int blkback_helper_physical_block_size(struct block_device *bdev);
bool blkback_helper_write_cache(struct block_device *bdev);
bool blkback_helper_is_cdrom(struct block_device *bdev);
bool blkback_helper_is_removable(struct block_device *bdev);
unsigned int blkback_helper_max_discard(struct block_device *bdev);
unsigned int blkback_helper_max_secure_erase(struct block_device *bdev);
unsigned int blkback_helper_discard_granularity(struct block_device *bdev);
void blkback_helper_noio(void);
void blkback_helper_preempt_disable(void);
void blkback_helper_preempt_enable(void);
void blkback_helper_init_params(void);

extern int blkback_max_buffer_pages;
extern int blkback_max_persistent_grants;
extern unsigned int blkback_unused_seconds;
extern unsigned int blkback_max_queues;
extern int blkback_max_ring_page_order;
extern unsigned int blkback_log_stats;
extern bool blkback_feature_persistent;
extern int blkback_squeeze_ms;
extern unsigned int blkback_polling;
extern unsigned int blkback_poll_us;

/* In sectors of 512 bytes. */
u64 blkback_helper_capacity(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev);
}

unsigned int blkback_helper_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

unsigned int blkback_helper_physical_block_size(struct block_device *bdev)
{
	return bdev_physical_block_size(bdev);
}

bool blkback_helper_write_cache(struct block_device *bdev)
{
	return bdev_write_cache(bdev);
}

bool blkback_helper_is_cdrom(struct block_device *bdev)
{
	return disk_to_cdi(bdev->bd_disk);
}

bool blkback_helper_is_removable(struct block_device *bdev)
{
	return bdev->bd_disk->flags & GENHD_FL_REMOVABLE;
}

/* In sectors of 512 bytes; 0 when the device cannot discard. The next likewise. */
unsigned int blkback_helper_max_discard(struct block_device *bdev)
{
	return bdev_max_discard_sectors(bdev);
}

unsigned int blkback_helper_max_secure_erase(struct block_device *bdev)
{
	return bdev_max_secure_erase_sectors(bdev);
}

/* In bytes. */
unsigned int blkback_helper_discard_granularity(struct block_device *bdev)
{
	return bdev_discard_granularity(bdev);
}

/* From here on the calling thread does not wait for disks when memory is short: one may be ours. */
void blkback_helper_noio(void)
{
	memalloc_noio_save();
}

void blkback_helper_preempt_disable(void)
{
	preempt_disable();
}

void blkback_helper_preempt_enable(void)
{
	preempt_enable();
}

/* --- module parameters: the names, permissions and defaults of the C driver ----------------- */

int blkback_max_buffer_pages = 1024;
module_param_named(max_buffer_pages, blkback_max_buffer_pages, int, 0644);
MODULE_PARM_DESC(max_buffer_pages, "Free pages that each ring keeps at most");

int blkback_max_persistent_grants = 1056;
module_param_named(max_persistent_grants, blkback_max_persistent_grants, int, 0644);
MODULE_PARM_DESC(max_persistent_grants, "Pages of a guest that each ring keeps mapped at most");

unsigned int blkback_unused_seconds = 60;
module_param_named(persistent_grant_unused_seconds, blkback_unused_seconds, uint, 0644);
MODULE_PARM_DESC(persistent_grant_unused_seconds,
		 "Seconds after which an unused page is unmapped; 0: never");

unsigned int blkback_max_queues;
module_param_named(max_queues, blkback_max_queues, uint, 0644);
MODULE_PARM_DESC(max_queues, "Queues of a disk at most; by default the number of online CPUs");

int blkback_max_ring_page_order = XENBUS_MAX_RING_GRANT_ORDER;
module_param_named(max_ring_page_order, blkback_max_ring_page_order, int, 0444);
MODULE_PARM_DESC(max_ring_page_order, "Largest order of a ring, as a power of two of pages");

unsigned int blkback_log_stats;
module_param_named(log_stats, blkback_log_stats, uint, 0644);
MODULE_PARM_DESC(log_stats, "Whether each ring logs every 10 s what it has done");

bool blkback_feature_persistent = true;
module_param_named(feature_persistent, blkback_feature_persistent, bool, 0644);
MODULE_PARM_DESC(feature_persistent, "Whether to keep pages of guests mapped");

int blkback_squeeze_ms = 10;
module_param_named(buffer_squeeze_duration_ms, blkback_squeeze_ms, int, 0644);
MODULE_PARM_DESC(buffer_squeeze_duration_ms,
		 "Milliseconds without a reserve of pages after memory was short");

/* --- ... and those that it does not have ---------------------------------------------------- */

unsigned int blkback_polling = 1;
module_param_named(polling, blkback_polling, uint, 0644);
MODULE_PARM_DESC(polling,
		 "Whether rings of new disks are polled: 0 never, 1 as long as it is worth it, 2 always");

unsigned int blkback_poll_us = 50;
module_param_named(poll_us, blkback_poll_us, uint, 0644);
MODULE_PARM_DESC(poll_us, "Microseconds that a ring is polled at most before its thread sleeps");

/* To be called once, before there is a device. */
void blkback_helper_init_params(void)
{
	if (blkback_max_ring_page_order < 0 ||
	    blkback_max_ring_page_order > XENBUS_MAX_RING_GRANT_ORDER)
		blkback_max_ring_page_order = XENBUS_MAX_RING_GRANT_ORDER;
	if (!blkback_max_queues)
		blkback_max_queues = num_online_cpus();
}
