// SPDX-License-Identifier: GPL-2.0
/*
 * diskctl DISK: what a disk answers to the ioctls that partitioning tools and CD players use.
 * An error is shown as its number.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/cdrom.h>
#include <linux/hdreg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	struct cdrom_multisession session;
	struct hd_geometry geometry;
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_NONBLOCK) : -1;

	if (fd < 0) {
		perror("diskctl");
		return 2;
	}
	memset(&geometry, 0xff, sizeof(geometry));
	if (ioctl(fd, HDIO_GETGEO, &geometry))
		printf("geometry error %d\n", errno);
	else
		printf("geometry %u %u %u\n", geometry.heads, geometry.sectors, geometry.cylinders);
	memset(&session, 0xff, sizeof(session));
	session.addr_format = CDROM_LBA;
	if (ioctl(fd, CDROMMULTISESSION, &session))
		printf("multisession error %d\n", errno);
	else
		printf("multisession %d %u\n", session.addr.lba, session.xa_flag);
	if (ioctl(fd, CDROM_GET_CAPABILITY, NULL) < 0)
		printf("capability error %d\n", errno);
	else
		printf("capability\n");
	if (ioctl(fd, CDROMEJECT, NULL))
		printf("eject error %d\n", errno);
	return 0;
}
