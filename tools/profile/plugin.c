// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU that counts how often each instruction of the machine runs between two
 * functions of its kernel. scripts/bench --profile builds and starts it; the arguments are
 * start and stop (addresses, hexadecimal), skip (pairs not to be counted) and out (a file).
 *
 * Pairs are counted in turn in two columns, for steps that come in turn, such as map and unmap.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"

int qemu_plugin_version = 4;

#define BUCKETS (1u << 18)

/* An instruction. */
struct place {
	struct place *next;
	uint64_t address;
	uint64_t count[2];
};

static struct place *places[BUCKETS];
static uint64_t start, stop;
static const char *out;
static long skip;
static uint64_t pairs[2];
/* The column that is counted in, or -1. */
static int column = -1;

static struct place *place_of(uint64_t address)
{
	struct place **bucket = &places[(address * 0x9e3779b97f4a7c15ull) >> 46];
	struct place *place;

	for (place = *bucket; place; place = place->next)
		if (place->address == address)
			return place;
	place = calloc(1, sizeof(*place));
	if (!place)
		abort();
	place->address = address;
	place->next = *bucket;
	*bucket = place;
	return place;
}

static void runs(unsigned int cpu, void *data)
{
	struct place *place = data;

	if (column >= 0)
		place->count[column]++;
}

static void starts(unsigned int cpu, void *data)
{
	if (skip-- <= 0)
		column = pairs[0] != pairs[1];
}

static void stops(unsigned int cpu, void *data)
{
	if (column >= 0)
		pairs[column]++;
	column = -1;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t at, len = qemu_plugin_tb_n_insns(tb);

	for (at = 0; at < len; at++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, at);
		uint64_t address = qemu_plugin_insn_vaddr(insn);
		void (*then)(unsigned int cpu, void *data) = runs;

		if (address == start)
			then = starts;
		else if (address == stop)
			then = stops;
		qemu_plugin_register_vcpu_insn_exec_cb(insn, then, 0, place_of(address));
	}
}

static void ends(uint64_t id, void *data)
{
	FILE *file = fopen(out, "w");
	struct place *place;
	size_t at;

	if (!file)
		return;
	fprintf(file, "%ju %ju\n", (uintmax_t)pairs[0], (uintmax_t)pairs[1]);
	for (at = 0; at < BUCKETS; at++)
		for (place = places[at]; place; place = place->next)
			if (place->count[0] || place->count[1])
				fprintf(file, "%jx %ju %ju\n", (uintmax_t)place->address,
					(uintmax_t)place->count[0], (uintmax_t)place->count[1]);
	fclose(file);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	int at;

	for (at = 0; at < argc; at++) {
		char *value = strchr(argv[at], '=');

		if (!value)
			return -1;
		*value++ = 0;
		if (!strcmp(argv[at], "start"))
			start = strtoull(value, NULL, 16);
		else if (!strcmp(argv[at], "stop"))
			stop = strtoull(value, NULL, 16);
		else if (!strcmp(argv[at], "skip"))
			skip = strtol(value, NULL, 10);
		else if (!strcmp(argv[at], "out"))
			out = strdup(value);
	}
	if (!start || !stop || !out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ends, NULL);
	return 0;
}
