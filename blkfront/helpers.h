/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of mq.rs, which has its own declarations of all this. */

#ifndef _BLKFRONT_HELPERS_H
#define _BLKFRONT_HELPERS_H

#include <linux/types.h>

struct device;
struct gendisk;
struct hd_geometry;
struct io_comp_batch;
struct page;
struct queue_limits;
struct request;
struct request_queue;

struct blkfront_params {
	unsigned int max_indirect_segments;
	unsigned int max_queues;
	unsigned int max_ring_page_order;
	unsigned int online_cpus;
	bool trusted;
	bool feature_persistent;
};

struct blkfront_segment {
	struct page *page;
	void *data;
	unsigned int offset;
	unsigned int len;
};

struct blkfront_limits {
	unsigned int max_hw_sectors;
	unsigned int discard_granularity;
	unsigned int discard_alignment;
	unsigned short max_segments;
	bool write_cache;
	bool fua;
	bool discard;
	bool secure_erase;
};

void blkfront_helper_params(struct blkfront_params *params);
unsigned int blkfront_helper_segments(struct request *rq, unsigned int skip,
				      struct blkfront_segment *to, unsigned int max, bool *more);
bool blkfront_helper_add_to_batch(struct request *rq, struct io_comp_batch *batch);
void blkfront_helper_init_limits(struct queue_limits *lim, const struct blkfront_limits *from);
int blkfront_helper_update_limits(struct request_queue *q, const struct blkfront_limits *from);
void blkfront_helper_set_geometry(struct hd_geometry *geo, u8 heads, u8 sectors, u16 cylinders);
int blkfront_helper_cdrom_ioctl(unsigned int cmd, unsigned long arg, bool cdrom);
int blkfront_helper_set_parent(struct gendisk *disk, struct device *parent);
sector_t blkfront_helper_capacity(struct gendisk *disk);
int blkfront_helper_register_blkdev(unsigned int major, const char *name);
bool blkfront_helper_has_pv_disks(void);
bool blkfront_helper_has_emulated_disks(void);
bool blkfront_helper_hvm_domain(void);
bool blkfront_helper_shutting_down(void);

#endif
