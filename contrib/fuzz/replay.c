/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target once over each file that the arguments name: the corpus as a test, without libFuzzer. */
#include "fuzz.h"

static void
replay(const char *path)
{
	static uint8_t data[1 << 17];
	FILE *file = fopen(path, "rb");
	size_t size;

	if (!file) {
		perror(path);
		exit(1);
	}
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
}

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%s: %d inputs\n", argv[0], argc - 1);
	return argc < 2;
}
