// SPDX-License-Identifier: GPL-2.0
/*
 * What mq.rs needs of the kernel and bindgen cannot give it: inline functions, macros, and
 * constants that carry a cast. Nothing here decides anything.
 */

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/hdreg.h>
#include <xen/platform_pci.h>
#include <xen/xen.h>

/* The cursor over a request's data; mq.rs owns the memory it lives in. */
void blkfront_helper_segments_start(struct request *rq, struct req_iterator *iter);
void blkfront_helper_segments_start(struct request *rq, struct req_iterator *iter)
{
	iter->bio = rq->bio;
	if (iter->bio)
		iter->iter = iter->bio->bi_iter;
}

/* Each segment lies in one page: bio_iter_iovec(), not mp_bvec_iter_bvec(). */
bool blkfront_helper_segments_next(struct req_iterator *iter, struct bio_vec *bv);
bool blkfront_helper_segments_next(struct req_iterator *iter, struct bio_vec *bv)
{
	while (iter->bio && (!bio_has_data(iter->bio) || !iter->iter.bi_size)) {
		iter->bio = iter->bio->bi_next;
		if (iter->bio)
			iter->iter = iter->bio->bi_iter;
	}
	if (!iter->bio)
		return false;
	*bv = bio_iter_iovec(iter->bio, iter->iter);
	bio_advance_iter_single(iter->bio, &iter->iter, bv->bv_len);
	return true;
}

sector_t blkfront_helper_rq_pos(const struct request *rq);
sector_t blkfront_helper_rq_pos(const struct request *rq)
{
	return blk_rq_pos(rq);
}

unsigned int blkfront_helper_rq_op(const struct request *rq);
unsigned int blkfront_helper_rq_op(const struct request *rq)
{
	return req_op(rq);
}

bool blkfront_helper_rq_fua(const struct request *rq);
bool blkfront_helper_rq_fua(const struct request *rq)
{
	return !!(rq->cmd_flags & REQ_FUA);
}

blk_features_t blkfront_helper_features(bool write_cache, bool fua);
blk_features_t blkfront_helper_features(bool write_cache, bool fua)
{
	return (write_cache ? BLK_FEAT_WRITE_CACHE : 0) | (fua ? BLK_FEAT_FUA : 0);
}

int blkfront_helper_set_features(struct request_queue *q, bool write_cache, bool fua);
int blkfront_helper_set_features(struct request_queue *q, bool write_cache, bool fua)
{
	struct queue_limits lim = queue_limits_start_update(q);

	lim.features &= ~(BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA);
	lim.features |= blkfront_helper_features(write_cache, fua);
	return queue_limits_commit_update_frozen(q, &lim);
}

void blkfront_helper_set_geometry(struct hd_geometry *geo, u8 heads, u8 sectors, u16 cylinders);
void blkfront_helper_set_geometry(struct hd_geometry *geo, u8 heads, u8 sectors, u16 cylinders)
{
	geo->heads = heads;
	geo->sectors = sectors;
	geo->cylinders = cylinders;
}

sector_t blkfront_helper_capacity(struct gendisk *disk);
sector_t blkfront_helper_capacity(struct gendisk *disk)
{
	return get_capacity(disk);
}

int blkfront_helper_register_blkdev(unsigned int major, const char *name);
int blkfront_helper_register_blkdev(unsigned int major, const char *name)
{
	return register_blkdev(major, name);
}

bool blkfront_helper_has_pv_disks(void);
bool blkfront_helper_has_pv_disks(void)
{
	return xen_domain() && xen_has_pv_disk_devices();
}

/* Emulated disks are still there: only xvd devices are ours. */
bool blkfront_helper_has_emulated_disks(void);
bool blkfront_helper_has_emulated_disks(void)
{
	return xen_hvm_domain() && xen_has_pv_and_legacy_disk_devices();
}

bool blkfront_helper_hvm_domain(void);
bool blkfront_helper_hvm_domain(void)
{
	return xen_hvm_domain();
}

/* Past this point no process runs that could have a disk open. */
bool blkfront_helper_shutting_down(void);
bool blkfront_helper_shutting_down(void)
{
	return system_state > SYSTEM_RUNNING && system_state <= SYSTEM_RESTART;
}
