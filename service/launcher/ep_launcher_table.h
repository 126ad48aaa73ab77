/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_TABLE_H
#define EP_LAUNCHER_TABLE_H

/*
 * ep_launcher_table - the workers that live or have left something behind.
 *
 * Ownership  the table belongs to the caller.
 * Units      until_ns: on ep_clock_ns().
 * Errors     0 or a negative errno.
 * Threads    one.
 */

#include "ep_tail.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_launcher_worker {
    uint64_t id;        /* the VM's */
    pid_t pid;          /* also its process group; 0: a zygote is to fork it */
    int zygote;         /* the socket of a zygote; else -1 */
    uint64_t zygote_id; /* pid 0: which zygote */
    bool is_doomed;     /* pid 0: it is to be killed */
    bool is_dead;
    uint64_t until_ns; /* dead: its resource trackers are killed then */
    bool has_left;     /* dead: something but trackers was there at the last look */
    bool has_tracker;  /* dead: ... or a tracker */
    struct ep_tail tail;
};

/* Zeroed means empty. */
struct ep_launcher_table {
    struct ep_launcher_worker *workers;
    size_t count;
    size_t capacity;
};

/* Makes room for one worker more. */
int ep_launcher_table_make_room(struct ep_launcher_table *table);

/* NULL: there is none. */
struct ep_launcher_worker *ep_launcher_table_find(const struct ep_launcher_table *table, pid_t pid);

/* Kills a worker, if it is still there: its death is reported like any other. */
void ep_launcher_table_kill(const struct ep_launcher_table *table, uint64_t worker_id);

#ifdef __cplusplus
}
#endif

#endif
