/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_TEMP_H
#define EP_LAUNCHER_TEMP_H

/*
 * ep_launcher_temp - private directories of workers for temporary files, and their end.
 *
 * There is one directory for each launcher, made when the first worker needs it, and in it one
 * for each worker. The launcher's is locked as long as the launcher lives: one that is not has
 * been left behind, and the next launcher of that user removes it.
 *
 * A child of the launcher, the remover, removes: that takes as long as a worker has made it take.
 *
 * Errors     0 or a negative errno.
 * Threads    one.
 * Trust      a worker puts into its directory what it likes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starts to remove what launchers have left that were killed. */
void ep_launcher_temp_sweep(void);

/* Where the directories lie. */
const char *ep_launcher_temp_parent(void);

/* Before a worker that needs a directory is forked. A failure is told by temp_make(). */
void ep_launcher_temp_prepare(void);

/* In the child that is to be the worker: makes its directory. */
int ep_launcher_temp_make(uint64_t worker_id, char *ret_path, size_t size);

/* All processes of that worker have ended: if it had a directory, that is removed. */
void ep_launcher_temp_drop(uint64_t worker_id);

/* Buries a remover that has ended, and starts the next one if something is to be removed. Before
 * each look at children that nobody knows. Returns the remover; 0: there is none. */
pid_t ep_launcher_temp_tend(void);

/* The last. */
void ep_launcher_temp_finish(void);

#ifdef __cplusplus
}
#endif

#endif
