/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_DROPS_H
#define EP_DROPS_H

/*
 * ep_drops - arrays that a worker process holds no more.
 *
 * It says so on the control lane, when the last Python object of an array is gone. Before that it
 * may have named the array in a message on any of its lanes, which lies there unread. So a drop
 * counts when each lane has been found empty, or that many messages of it were taken as its ring
 * holds, since the drop came: what the lane had said before is taken then, and has the array.
 *
 *   worker   publish the message; then publish the drop        (P1)
 *   reaper   take the drop (P2); then look at the lane's ring: the message is there, or was taken
 *
 * Threads  the reaper.
 */

#include "ep_vm.h"

/* Goes on with the drops of a process, tends its arrays, and sends requests that wait for it to
 * read its news. Returns whether to look again soon. */
bool ep_drops_ripen(struct ep_host *host);

#endif
