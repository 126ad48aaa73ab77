/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_peer.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

bool ep_peer_kill(struct ep_host *host, enum ep_kill_reason reason)
{
    int none = EP_KILL_NONE;

    bool is_first = atomic_compare_exchange_strong(&host->kill_reason, &none, (int)reason);
    if (is_first && reason == EP_KILL_VIOLATION)
        atomic_fetch_add_explicit(&host->vm->violations, 1, memory_order_relaxed);
    int fd = atomic_load(&host->kill_pidfd);
    /* Not spawned yet: the reaper looks at kill_reason when it is. */
    if (fd >= 0)
        (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    return is_first;
}

void ep_peer_release_block(struct ep_host *host, uint64_t block)
{
    pthread_mutex_lock(&host->reclaim);
    ep_reclaim_push(&host->control_lane.reclaim_tx, block);
    pthread_mutex_unlock(&host->reclaim);
}

void ep_peer_release_payload(struct ep_host *host, const struct ep_msg *msg)
{
    if ((msg->flags & EP_FLAG_BLOCK) != 0)
        ep_peer_release_block(host, msg->block);
}
