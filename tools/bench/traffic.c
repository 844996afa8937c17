// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic in a fixed amount, for bench --net: streams, small packets, round trips. (iperf3 with a
 * fixed amount reports whole seconds in place of the time that it took.)
 *
 *	traffic serve			in dom0, for as long as it is let
 *	traffic HOST stream-tx COUNT	sends COUNT times 64 KiB to the server by TCP
 *	traffic HOST stream-rx COUNT	has the server send them
 *	traffic HOST tx COUNT SIZE	sends COUNT UDP packets with SIZE bytes of data each to the server
 *	traffic HOST rx COUNT SIZE	has the server send them
 *	traffic HOST rr COUNT		COUNT times a byte there and back by TCP
 *
 * The client prints "traffic N SECONDS": how many there were, and the time from the first to the last
 * as the receiver sees it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT	5300
#define BATCH	32
#define MAX	1500

struct order {
	char what;
	unsigned int count, size;
	in_port_t port;
};

struct result {
	unsigned int count;
	double seconds;
};

static char buffer[MAX], chunk[64 << 10];
static struct mmsghdr msgs[BATCH];
static struct iovec iov[BATCH];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void all(int fd, void *data, size_t len, int in)
{
	if (in ? recv(fd, data, len, MSG_WAITALL) != (ssize_t)len : write(fd, data, len) != (ssize_t)len)
		die(in ? "recv" : "write");
}

static void set_up(size_t size)
{
	int i;

	for (i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec) { buffer, size };
		msgs[i].msg_hdr = (struct msghdr) { .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
}

/* A socket that packets are sent to, with room for all that may come. */
static int receiver(in_port_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	struct timeval limit = { .tv_sec = 3 };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 64 << 20;

	if (fd < 0 || bind(fd, (void *)&a, sizeof(a)) || getsockname(fd, (void *)&a, &len) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		die("receiver");
	*port = a.sin_port;
	return fd;
}

static struct result receive(int fd, unsigned int count)
{
	struct result r = { 0 };
	double first = 0, last = 0;
	int n;

	set_up(MAX);
	while (r.count < count && (n = recvmmsg(fd, msgs, BATCH, MSG_WAITFORONE, NULL)) > 0) {
		last = now();
		if (!r.count)
			first = last;
		r.count += n;
	}
	r.seconds = last - first;
	close(fd);
	return r;
}

static void send_all(struct sockaddr_in to, struct order o)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	unsigned int left = o.count;
	int n;

	to.sin_port = o.port;
	if (fd < 0 || connect(fd, (void *)&to, sizeof(to)))
		die("connect");
	set_up(o.size);
	while (left) {
		n = sendmmsg(fd, msgs, left < BATCH ? left : BATCH, 0);
		if (n < 0)
			die("sendmmsg");
		left -= n;
	}
	close(fd);
}

static void send_stream(int fd, unsigned int count)
{
	while (count--)
		all(fd, chunk, sizeof(chunk), 0);
}

static struct result receive_stream(int fd, unsigned int count)
{
	size_t left = (size_t)count * sizeof(chunk);
	struct result r = { .count = count };
	ssize_t n;

	while (left && (n = recv(fd, chunk, left < sizeof(chunk) ? left : sizeof(chunk), 0)) > 0) {
		if (!r.seconds)
			r.seconds = -now();
		left -= n;
	}
	if (left)
		r.count = 0;
	r.seconds += now();
	return r;
}

static void serve(int fd, struct sockaddr_in peer)
{
	struct order o;
	struct result r;
	char byte;
	int in, one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (recv(fd, &o, sizeof(o), MSG_WAITALL) != sizeof(o))
		return;
	switch (o.what) {
	case 't':
		in = receiver(&o.port);
		all(fd, &o.port, sizeof(o.port), 0);
		r = receive(in, o.count);
		all(fd, &r, sizeof(r), 0);
		break;
	case 'r':
		send_all(peer, o);
		break;
	case 'T':
		r = receive_stream(fd, o.count);
		all(fd, &r, sizeof(r), 0);
		break;
	case 'R':
		send_stream(fd, o.count);
		break;
	case 'l':
		while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
			;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0), in, one = 1;
	struct order o = { 0 };
	struct result r = { 0 };
	unsigned int i;
	char byte = 0;

	if (argc == 2) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, (void *)&a, sizeof(a)) || listen(fd, 4))
			die("listen");
		signal(SIGPIPE, SIG_IGN);
		for (;;) {
			in = accept(fd, (void *)&a, &len);
			if (in < 0)
				die("accept");
			serve(in, a);
			close(in);
		}
	}
	if (argc < 4 || inet_pton(AF_INET, argv[1], &a.sin_addr) != 1)
		return 2;
	if (connect(fd, (void *)&a, sizeof(a)))
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	o.count = atoi(argv[3]);
	o.size = argc > 4 ? atoi(argv[4]) : 1;
	if (o.size > MAX)
		return 2;
	if (!strcmp(argv[2], "stream-tx")) {
		o.what = 'T';
		all(fd, &o, sizeof(o), 0);
		send_stream(fd, o.count);
		all(fd, &r, sizeof(r), 1);
	} else if (!strcmp(argv[2], "stream-rx")) {
		o.what = 'R';
		all(fd, &o, sizeof(o), 0);
		r = receive_stream(fd, o.count);
	} else if (!strcmp(argv[2], "tx")) {
		o.what = 't';
		all(fd, &o, sizeof(o), 0);
		all(fd, &o.port, sizeof(o.port), 1);
		send_all(a, o);
		all(fd, &r, sizeof(r), 1);
	} else if (!strcmp(argv[2], "rx")) {
		o.what = 'r';
		in = receiver(&o.port);
		all(fd, &o, sizeof(o), 0);
		r = receive(in, o.count);
	} else {
		o.what = 'l';
		all(fd, &o, sizeof(o), 0);
		/* the first, and its connection, are not counted */
		for (i = 0; i <= o.count; i++) {
			if (i == 1)
				r.seconds = -now();
			all(fd, &byte, 1, 0);
			all(fd, &byte, 1, 1);
		}
		r.seconds += now();
		r.count = o.count;
	}
	printf("traffic %u %.9f\n", r.count, r.seconds);
	return 0;
}
