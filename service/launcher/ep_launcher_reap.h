/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_REAP_H
#define EP_LAUNCHER_REAP_H

/*
 * ep_launcher_reap - cleans up after workers.
 *
 * Each worker is the leader of a process group and carries its number in the
 * environment variable EP_LAUNCHER_MARK, which its descendants inherit. The
 * launcher is a subreaper, so a descendant whose parent has died becomes its
 * child; it is killed as soon as the worker that its mark names is dead. A
 * process without a mark, because somebody cleared its environment, is killed
 * when no worker is left, or with the launcher.
 *
 * Python's resource trackers, the processes that remove what their worker has left in
 * /dev/shm, end by themselves, once everything else that the worker has started is gone: they
 * act when the last end of their pipe is closed. Until then the dead worker is not reaped, so
 * that its pid names its process group and nothing else.
 *
 * Threads  one.
 */

#include "ep_control.h"
#include "ep_launcher_table.h"
#include "ep_outlet.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether a worker has died since the last look; then fills *ret_event and *ret_words, and
 * stops what is left in its process group, so that it starts nothing more. */
bool ep_launcher_reap_bury(struct ep_launcher_table *table, struct ep_outlet *outlet,
                           struct ep_control_event *ret_event, struct ep_control_words *ret_words);

/* Reaps what is dead and kills the orphans of dead workers; with everybody set, all
 * children but workers. Dead workers whose trackers have ended too, or have not in time,
 * leave the table. Returns whether it has to be repeated soon, for a child could not be
 * judged yet. */
bool ep_launcher_reap_sweep(struct ep_launcher_table *table, struct ep_outlet *outlet,
                            bool everybody);

/* Whether there is a child, dead or alive. */
bool ep_launcher_reap_has_children(void);

#ifdef __cplusplus
}
#endif

#endif
