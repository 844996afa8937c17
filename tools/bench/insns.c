// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU's that counts how often each block of instructions runs, on dom0's CPU and the guest's.
 * At each run of tools/bench/mark.S it writes all counts so far to PREFIX.1, PREFIX.2, ...:
 * lines "ADDRESS INSTRUCTIONS RUNS-ON-CPU-0 RUNS-ON-OTHERS", the address and the first of the
 * instructions being those of the block.
 *
 * What it uses of the interface, version 2 of it on, is declared here: Debian's packages do not
 * have the header.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first, and the others together. */
#define CPUS	2
#define BLOCKS	(1u << 21)
#define MARK	0x4b524d58u

struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
		void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int cpu, void *data), enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
		void (*cb)(unsigned int cpu, void *data), enum qemu_plugin_cb_flags flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t len);

/* Not of the interface, but exported: the CPU that runs, and the CPUs by number. */
extern __thread void *current_cpu;
void *qemu_get_cpu(int number);

__attribute__((visibility("default"))) int qemu_plugin_version = 4;

/* A hash table: a block is the same again after QEMU has forgotten its translation. */
struct block {
	uint64_t address;
	uint64_t runs[CPUS];
	uint32_t insns;
};
static struct block blocks[BLOCKS];
static const char *prefix;
static int marks;

/*
 * All CPUs take turns in one thread. The interface's number of the CPU is that of the one for which
 * the block was translated, and Xen's code is the same for all. And counting without a call, which
 * the interface offers, upsets -icount. (QEMU 10.0.)
 */
static void ran(unsigned int cpu, void *data)
{
	static void *first;
	struct block *block = data;

	(void)cpu;
	if (!first)
		first = qemu_get_cpu(0);
	block->runs[current_cpu != first]++;
}

static void mark(unsigned int cpu, void *data)
{
	char path[256];
	FILE *file;
	uint32_t i;

	(void)cpu, (void)data;
	snprintf(path, sizeof(path), "%s.%d", prefix, ++marks);
	file = fopen(path, "w");
	if (!file)
		return;
	for (i = 0; i < BLOCKS; i++) {
		uint64_t a = blocks[i].runs[0], b = blocks[i].runs[1];

		if (a || b)
			fprintf(file, "%" PRIx64 " %u %" PRIu64 " %" PRIu64 "\n",
				blocks[i].address, blocks[i].insns, a, b);
	}
	fclose(file);
}

static bool is_mark(struct qemu_plugin_insn *insn)
{
	static const unsigned char code[8] = {
		0x0f, 0x1f, 0x84, 0x00, MARK & 255, MARK >> 8 & 255, MARK >> 16 & 255, MARK >> 24 };
	unsigned char have[8];

	return qemu_plugin_insn_data(insn, have, sizeof(have)) == sizeof(have) &&
	       !memcmp(have, code, sizeof(code));
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	uint32_t insns = qemu_plugin_tb_n_insns(tb), slot, i;

	(void)id;
	slot = (address * 0x9e3779b97f4a7c15u + insns * 0x85ebca6bu) >> 40 & (BLOCKS - 1);
	for (i = 0; i < BLOCKS; i++, slot = (slot + 1) & (BLOCKS - 1))
		if (!blocks[slot].insns ||
		    (blocks[slot].address == address && blocks[slot].insns == insns))
			break;
	if (i == BLOCKS)
		return;
	blocks[slot].address = address;
	blocks[slot].insns = insns;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, ran, QEMU_PLUGIN_CB_NO_REGS, &blocks[slot]);
	for (i = 0; i < insns; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (is_mark(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
}

__attribute__((visibility("default")))
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "prefix=", 7))
		return -1;
	prefix = argv[0] + 7;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
