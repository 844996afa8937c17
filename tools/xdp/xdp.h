/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs and their loader agree upon. */

/* Of test frames; for local experiments. */
#define FRAME_TYPE 0x88b5

/* What a test frame begins with; the byte at each offset behind it is PATTERN(offset). */
struct frame {
	unsigned char to[6], from[6];
	unsigned short type;
	unsigned char op, unused;
	unsigned int number;
} __attribute__((packed, aligned(2)));

#define PATTERN_PERIOD 251
#define PATTERN(at) ((at) % PATTERN_PERIOD)

/* The loader puts the number that it is given in place of this one. */
#define NUMBER_HERE 0x7e57da7a
