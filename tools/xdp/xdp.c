// SPDX-License-Identifier: GPL-2.0
/*
 * Loads XDP programs, and sends and receives test frames, in guests that have nothing for that.
 *
 *	xdp attach IF PROGRAM [NUMBER]		replaces one that is there; PROGRAM: a file of instructions
 *	xdp detach IF
 *	xdp stats IF				the driver's own statistics, as ethtool -S
 *	xdp send IF OP LENGTH [NUMBER [COUNT]]	test frames, of LENGTH bytes
 *	xdp receive IF SECONDS			prints of each test frame the op, the length, the first byte
 *						of the pattern, and how many bytes at the end are not
 *						of it; ends after one of op 'e'
 *
 * A refusal is printed as the kernel words it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "xdp.h"

static void die(const char *what)
{
	fprintf(stderr, "xdp: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int load(const char *path, unsigned int number)
{
	static struct bpf_insn instructions[4096];
	static char log[1 << 16];
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.insns = (unsigned long)instructions,
		.license = (unsigned long)"GPL",
		.prog_name = "lab",
	};
	ssize_t size;
	int fd;

	fd = open(path, O_RDONLY);
	if (fd < 0)
		die(path);
	size = read(fd, instructions, sizeof(instructions));
	if (size <= 0 || size % sizeof(*instructions))
		die("not a program");
	close(fd);
	attr.insn_cnt = size / sizeof(*instructions);
	for (unsigned int i = 0; i < attr.insn_cnt; i++)
		if (instructions[i].imm == NUMBER_HERE)
			instructions[i].imm = number;
	fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	if (fd < 0) {
		/* Once more, for the reason. */
		attr.log_buf = (unsigned long)log;
		attr.log_size = sizeof(log);
		attr.log_level = 1;
		syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
		fputs(log, stderr);
		die("loading");
	}
	return fd;
}

static struct nlattr *put(struct nlmsghdr *message, int type, const void *data, size_t size)
{
	struct nlattr *attr = (void *)message + NLMSG_ALIGN(message->nlmsg_len);

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + size;
	if (size)
		memcpy((void *)attr + NLA_HDRLEN, data, size);
	message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + NLA_ALIGN(attr->nla_len);
	return attr;
}

/* @fd: -1: no program. */
static void set(const char *name, int fd)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg info;
		char attrs[128];
	} request = {
		.head.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
		.head.nlmsg_type = RTM_SETLINK,
		.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		.info.ifi_index = if_nametoindex(name),
	};
	__u32 flags = XDP_FLAGS_DRV_MODE;
	struct nlmsgerr *error;
	struct nlattr *nest, *attr;
	char answer[4096];
	int sock, one = 1;
	ssize_t size;

	if (!request.info.ifi_index)
		die(name);
	nest = put(&request.head, IFLA_XDP | NLA_F_NESTED, NULL, 0);
	put(&request.head, IFLA_XDP_FD, &fd, sizeof(fd));
	put(&request.head, IFLA_XDP_FLAGS, &flags, sizeof(flags));
	nest->nla_len = (char *)&request + request.head.nlmsg_len - (char *)nest;

	sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	if (sock < 0)
		die("netlink");
	setsockopt(sock, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(sock, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	if (send(sock, &request, request.head.nlmsg_len, 0) < 0)
		die("netlink");
	size = recv(sock, answer, sizeof(answer), 0);
	error = NLMSG_DATA((struct nlmsghdr *)answer);
	if (size < (ssize_t)NLMSG_LENGTH(sizeof(*error)))
		die("netlink");
	if (!error->error)
		return;
	for (attr = (void *)(error + 1); (char *)attr + NLA_HDRLEN < answer + size;
	     attr = (void *)attr + NLA_ALIGN(attr->nla_len)) {
		if (attr->nla_len < NLA_HDRLEN)
			break;
		if (attr->nla_type == NLMSGERR_ATTR_MSG)
			printf("%s\n", (char *)attr + NLA_HDRLEN);
	}
	errno = -error->error;
	die("refused");
}

static void stats(const char *name)
{
	struct {
		struct ethtool_sset_info info;
		__u32 count;
	} set = { .info = { .cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ULL << ETH_SS_STATS } };
	struct ethtool_gstrings *names;
	struct ethtool_stats *values;
	struct ifreq ifr = { .ifr_data = (void *)&set };
	int sock = socket(AF_INET, SOCK_DGRAM, 0);

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(sock, SIOCETHTOOL, &ifr))
		die(name);
	names = calloc(1, sizeof(*names) + set.count * ETH_GSTRING_LEN);
	values = calloc(1, sizeof(*values) + set.count * sizeof(__u64));
	if (!names || !values)
		die("memory");
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_STATS;
	names->len = set.count;
	ifr.ifr_data = (void *)names;
	if (ioctl(sock, SIOCETHTOOL, &ifr))
		die(name);
	values->cmd = ETHTOOL_GSTATS;
	values->n_stats = set.count;
	ifr.ifr_data = (void *)values;
	if (ioctl(sock, SIOCETHTOOL, &ifr))
		die(name);
	for (__u32 i = 0; i < set.count; i++)
		printf("%.*s %llu\n", ETH_GSTRING_LEN, (char *)names->data + i * ETH_GSTRING_LEN,
		       values->data[i]);
}

static int frames(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(FRAME_TYPE),
		.sll_ifindex = if_nametoindex(name),
	};
	int sock = socket(AF_PACKET, SOCK_RAW, htons(FRAME_TYPE)), room = 4 << 20;

	/* a page or more goes with each frame, and all of them may come before we run */
	if (sock < 0 || !address.sll_ifindex ||
	    setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(sock, (struct sockaddr *)&address, sizeof(address)))
		die(name);
	return sock;
}

static unsigned char bytes[1 << 16];

static void send_frames(const char *name, char op, size_t length, unsigned int number, int count)
{
	struct frame *frame = (void *)bytes;
	int sock = frames(name);

	if (length < sizeof(*frame) || length > sizeof(bytes))
		die("length");
	for (size_t i = sizeof(*frame); i < length; i++)
		bytes[i] = PATTERN(i);
	memset(frame->to, 0xff, sizeof(frame->to));
	memcpy(frame->from, "\x02\0\0\0\0\x01", sizeof(frame->from));
	frame->type = htons(FRAME_TYPE);
	frame->op = op;
	frame->number = number;
	while (count--)
		while (send(sock, bytes, length, 0) < 0)
			if (errno != ENOBUFS)
				die("send");
}

static void receive(const char *name, int seconds)
{
	struct pollfd ready = { .fd = frames(name), .events = POLLIN };
	struct frame *frame = (void *)bytes;
	time_t end = time(NULL) + seconds;

	for (;;) {
		struct sockaddr_ll from;
		socklen_t size = sizeof(from);
		ssize_t length, good = sizeof(*frame);
		time_t now = time(NULL);

		if (now >= end || poll(&ready, 1, (end - now) * 1000) <= 0)
			die("nothing more comes");
		length = recvfrom(ready.fd, bytes, sizeof(bytes), 0, (void *)&from, &size);
		if (length <= good || from.sll_pkttype == PACKET_OUTGOING)
			continue;
		while (good + 1 < length && bytes[good + 1] == PATTERN(bytes[good] + 1))
			good++;
		printf("%c %zd %d %zd\n", frame->op, length, bytes[sizeof(*frame)], length - 1 - good);
		fflush(stdout);
		if (frame->op == 'e')
			exit(0);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";

	if (!strcmp(what, "attach") && (argc == 4 || argc == 5))
		set(argv[2], load(argv[3], argc > 4 ? strtoul(argv[4], NULL, 0) : 0));
	else if (!strcmp(what, "detach") && argc == 3)
		set(argv[2], -1);
	else if (!strcmp(what, "stats") && argc == 3)
		stats(argv[2]);
	else if (!strcmp(what, "send") && argc >= 5 && argc <= 7)
		send_frames(argv[2], argv[3][0], strtoul(argv[4], NULL, 0),
			    argc > 5 ? strtoul(argv[5], NULL, 0) : 0,
			    argc > 6 ? atoi(argv[6]) : 1);
	else if (!strcmp(what, "receive") && argc == 4)
		receive(argv[2], atoi(argv[3]));
	else {
		fprintf(stderr, "usage: see the head of xdp.c\n");
		return 2;
	}
	return 0;
}
