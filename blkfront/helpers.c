// SPDX-License-Identifier: GPL-2.0
/*
 * What mq.rs needs of the kernel and bindgen cannot give it: inline functions, macros, module
 * parameters, and constants that carry a cast. Nothing here decides anything.
 */

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/cdrom.h>
#include <linux/hdreg.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <xen/platform_pci.h>
#include <xen/xen.h>

#include "../xenbus/helpers.h"
#include "helpers.h"

/* The names and defaults are those of xen-blkfront. */
static unsigned int max_indirect_segments = 32;
module_param(max_indirect_segments, uint, 0444);
MODULE_PARM_DESC(max_indirect_segments,
		 "Most segments of an indirect request, at most 256; 11 or fewer: no such requests");

static unsigned int max_queues = 4;
module_param(max_queues, uint, 0444);
MODULE_PARM_DESC(max_queues, "Most hardware queues of a disk; there are no more than CPUs");

static unsigned int max_ring_page_order;
module_param(max_ring_page_order, uint, 0444);
MODULE_PARM_DESC(max_ring_page_order, "Logarithm of the most pages of a ring, at most 4");

static bool trusted = true;
module_param(trusted, bool, 0644);
MODULE_PARM_DESC(trusted, "Whether back ends may see pages of the guest's own");

static bool feature_persistent = true;
module_param(feature_persistent, bool, 0644);
MODULE_PARM_DESC(feature_persistent,
		 "Whether pages are granted once and kept, if the back end can do so, too");

void blkfront_helper_params(struct blkfront_params *params)
{
	params->max_indirect_segments = max_indirect_segments;
	params->max_queues = max_queues;
	params->max_ring_page_order = max_ring_page_order;
	params->online_cpus = num_online_cpus();
	params->trusted = READ_ONCE(trusted);
	params->feature_persistent = READ_ONCE(feature_persistent);
}

/*
 * Each segment lies in one page: bio_iter_iovec(), not mp_bvec_iter_bvec(). The first @skip ones
 * are left out; *@more says whether there are any beyond @max.
 */
unsigned int blkfront_helper_segments(struct request *rq, unsigned int skip,
				      struct blkfront_segment *to, unsigned int max, bool *more)
{
	unsigned int count = 0;
	struct bio *bio;

	*more = false;
	__rq_for_each_bio(bio, rq) {
		struct bvec_iter iter = bio->bi_iter;

		if (!bio_has_data(bio))
			continue;
		while (iter.bi_size) {
			struct bio_vec bv = bio_iter_iovec(bio, iter);

			bio_advance_iter_single(bio, &iter, bv.bv_len);
			if (skip) {
				skip--;
				continue;
			}
			if (count == max) {
				*more = true;
				return count;
			}
			to[count].page = bv.bv_page;
			to[count].data = page_address(bv.bv_page) + bv.bv_offset;
			to[count].offset = bv.bv_offset;
			to[count].len = bv.bv_len;
			count++;
		}
	}
	return count;
}

bool blkfront_helper_add_to_batch(struct request *rq, struct io_comp_batch *batch)
{
	return blk_mq_add_to_batch(rq, batch, false, blk_mq_end_request_batch);
}

static void set_limits(struct queue_limits *lim, const struct blkfront_limits *from)
{
	lim->features &= ~(BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA);
	if (from->write_cache)
		lim->features |= BLK_FEAT_WRITE_CACHE;
	if (from->fua)
		lim->features |= BLK_FEAT_FUA;
	lim->max_segments = from->max_segments;
	lim->max_hw_sectors = from->max_hw_sectors;
	lim->max_hw_discard_sectors = from->discard ? UINT_MAX : 0;
	lim->discard_granularity = from->discard_granularity;
	lim->discard_alignment = from->discard_alignment;
	lim->max_secure_erase_sectors = from->secure_erase ? UINT_MAX : 0;
}

void blkfront_helper_init_limits(struct queue_limits *lim, const struct blkfront_limits *from)
{
	set_limits(lim, from);
}

int blkfront_helper_update_limits(struct request_queue *q, const struct blkfront_limits *from)
{
	struct queue_limits lim = queue_limits_start_update(q);

	set_limits(&lim, from);
	return queue_limits_commit_update_frozen(q, &lim);
}

void blkfront_helper_set_geometry(struct hd_geometry *geo, u8 heads, u8 sectors, u16 cylinders)
{
	geo->heads = heads;
	geo->sectors = sectors;
	geo->cylinders = cylinders;
}

int blkfront_helper_cdrom_ioctl(unsigned int cmd, unsigned long arg, bool cdrom)
{
	switch (cmd) {
	case CDROMMULTISESSION:
		/* No medium of ours has more than one session. */
		if (clear_user((void __user *)arg, sizeof(struct cdrom_multisession)))
			return -EFAULT;
		return 0;
	case CDROM_GET_CAPABILITY:
		return cdrom ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

sector_t blkfront_helper_capacity(struct gendisk *disk)
{
	return get_capacity(disk);
}

/* Whoever calls this is alone with the parents: nobody else adds a disk to them. */
int blkfront_helper_set_parent(struct gendisk *disk, struct device *parent)
{
	return xenbus_helper_set_parent(disk_to_dev(disk), parent);
}

int blkfront_helper_register_blkdev(unsigned int major, const char *name)
{
	return register_blkdev(major, name);
}

bool blkfront_helper_has_pv_disks(void)
{
	return xen_domain() && xen_has_pv_disk_devices();
}

/* Emulated disks are still there: only xvd devices are ours. */
bool blkfront_helper_has_emulated_disks(void)
{
	return xen_hvm_domain() && xen_has_pv_and_legacy_disk_devices();
}

bool blkfront_helper_hvm_domain(void)
{
	return xen_hvm_domain();
}

/* Past this point no process runs that could have a disk open. */
bool blkfront_helper_shutting_down(void)
{
	return system_state > SYSTEM_RUNNING && system_state <= SYSTEM_RESTART;
}
