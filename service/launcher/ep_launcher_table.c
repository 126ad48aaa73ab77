/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_launcher_table.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

int ep_launcher_table_make_room(struct ep_launcher_table *table)
{
    if (table->count < table->capacity)
        return 0;
    size_t capacity = table->capacity == 0 ? 16 : table->capacity * 2;
    void *workers = realloc(table->workers, capacity * sizeof(*table->workers));
    if (workers == NULL)
        return -ENOMEM;
    table->workers = workers;
    table->capacity = capacity;
    return 0;
}

struct ep_launcher_worker *ep_launcher_table_find(const struct ep_launcher_table *table, pid_t pid)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->workers[i].pid == pid)
            return &table->workers[i];
    }
    return NULL;
}

void ep_launcher_table_kill(const struct ep_launcher_table *table, uint64_t worker_id)
{
    /* Not reaped as long as it is in the table, so the pid is its own. */
    for (size_t i = 0; i < table->count; i++) {
        struct ep_launcher_worker *worker = &table->workers[i];
        if (worker->id != worker_id || worker->is_dead)
            continue;
        if (worker->pid > 0)
            (void)kill(worker->pid, SIGKILL);
        else
            worker->is_doomed = true;
    }
}
