/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_wake.h"

#include <unistd.h>

void ep_wake_reaper(struct ep_vm *vm)
{
    uint64_t one = 1;

    pthread_mutex_lock(&vm->wake_lock);
    /* Our own eventfd, non-blocking: full means that it is awake anyway. */
    ssize_t n = vm->wake_fd < 0 ? 0 : write(vm->wake_fd, &one, sizeof(one));
    pthread_mutex_unlock(&vm->wake_lock);
    (void)n;
}

void ep_wake_for_round(struct ep_host *host)
{
    if (!atomic_exchange(&host->wants_round, true))
        ep_wake_reaper(host->vm);
}

void ep_wake_for_spike(struct ep_vm *vm, const struct ep_slab *slab)
{
    if (ep_slab_has_spike(slab) && atomic_exchange(&vm->has_spike, 1) == 0)
        ep_wake_reaper(vm);
}
