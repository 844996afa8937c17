// SPDX-License-Identifier: GPL-2.0
/* C helpers for what the block layer offers only as an inline or a macro. */

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/cdrom.h>

u64 blkback_helper_capacity(struct block_device *bdev);
unsigned int blkback_helper_logical_block_size(struct block_device *bdev);
unsigned int blkback_helper_physical_block_size(struct block_device *bdev);
bool blkback_helper_write_cache(struct block_device *bdev);
bool blkback_helper_is_cdrom(struct block_device *bdev);
bool blkback_helper_is_removable(struct block_device *bdev);
struct bio *blkback_helper_bio_alloc(struct block_device *bdev, unsigned short nr_vecs,
				     blk_opf_t opf, struct bio_set *set);

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

struct bio *blkback_helper_bio_alloc(struct block_device *bdev, unsigned short nr_vecs,
				     blk_opf_t opf, struct bio_set *set)
{
	return bio_alloc_bioset(bdev, nr_vecs, opf, GFP_NOIO, set);
}
