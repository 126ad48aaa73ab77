/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs a fuzz target once on each file given, and on each file of each directory given,
 * without libFuzzer: any compiler builds it. What a run finds wrong ends the program.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned n_files;

static void fail(const char *path)
{
    (void)fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
    exit(1);
}

/* The target gets just as many bytes, so that AddressSanitizer sees it read one more. */
static void run_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size > 0 ? size : 1);

    if (file == NULL || data == NULL || fread(data, 1, size, file) != size)
        fail(path);
    (void)fclose(file);
    (void)fprintf(stderr, "%s\n", path);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    n_files++;
}

static void run(const char *path);

static void run_directory(const char *path)
{
    struct dirent **entries;
    char inside[PATH_MAX];

    int n = scandir(path, &entries, NULL, alphasort);
    if (n < 0)
        fail(path);
    for (int i = 0; i < n; i++) {
        if (entries[i]->d_name[0] != '.') {
            (void)snprintf(inside, sizeof(inside), "%s/%s", path, entries[i]->d_name);
            run(inside);
        }
        free(entries[i]);
    }
    free(entries);
}

static void run(const char *path)
{
    struct stat status;

    if (stat(path, &status) < 0)
        fail(path);
    if (S_ISDIR(status.st_mode))
        run_directory(path);
    else
        run_file(path, (size_t)status.st_size);
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    (void)printf("%u inputs replayed\n", n_files);
    return n_files > 0 ? 0 : 1;
}
