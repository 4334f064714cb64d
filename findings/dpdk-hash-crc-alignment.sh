#!/usr/bin/env bash
# DPDK 22.11 (Debian's libdpdk-dev 22.11.11-0+deb12u1), rte_hash_crc(), the default of rte_hash on x86-64 with SSE4.2: it takes a key as a
# const void *, says nothing of how it is to lie, and reads words of 8 bytes from it wherever that is. Where it is no multiple of 8 that is
# undefined behaviour in C, and UndefinedBehaviorSanitizer ends the program, or says so: a program whose keys have, say, 20 bytes is not to be had
# under the alignment check, however good its own code. The hash is right: that of the aligned key.
# Seen: the line at the end. Way out: -fno-sanitize=alignment, or keys of a multiple of 8 bytes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -q update >/dev/null
apt-get -q -o APT::Sandbox::User=root download libdpdk-dev=22.11.11-0+deb12u1 >/dev/null
dpkg-deb --extract ./*.deb .

cat >main.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_hash_crc.h>

/* rte_hash_crc.h asks the CPU, and EAL logs what it finds: none of that is looked at here. */
int rte_cpu_get_flag_enabled(enum rte_cpu_flag_t f) { (void)f; return 1; }
int rte_log(uint32_t level, uint32_t type, const char *format, ...) { (void)level; (void)type; (void)format; return 0; }

int
main(int argc, char **argv)
{
	_Alignas(8) unsigned char buffer[32];
	unsigned at = argc > 1 ? atoi(argv[1]) : 0;

	for (unsigned i = 0; i < 16; i++)
		buffer[at + i] = i;
	printf("%08x\n", rte_hash_crc(buffer + at, 16, 0));
	return 0;
}
END
gcc -O1 -march=corei7 -include rte_config.h -Iusr/include/dpdk -I"$(echo usr/include/*/dpdk)" -fsanitize=alignment main.c -o main

aligned=$(./main 0 2>aligned.txt)
misaligned=$(./main 4 2>misaligned.txt)
[ ! -s aligned.txt ] || { cat aligned.txt >&2; echo "aligned keys are complained of, too" >&2; exit 1; }
grep -q 'load of misaligned address' misaligned.txt || { echo "no complaint of a misaligned key: this has changed" >&2; exit 1; }
[ "$aligned" = "$misaligned" ] || { echo "the hashes differ: $aligned, $misaligned" >&2; exit 1; }
echo "aligned: no complaint; misaligned: load of misaligned address; same hash: yes"
