/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_channel.h"

#include <stdatomic.h>
#include <stddef.h>

static _Thread_local struct ep_py_channel *own_channel;
static struct ep_py_channel *shared_channel;
static const ep_atomic_u64 *names_epoch;

void ep_py_channel_set(struct ep_py_channel *channel)
{
    own_channel = channel;
}

void ep_py_channel_set_shared(struct ep_py_channel *channel, const ep_atomic_u64 *epoch)
{
    shared_channel = channel;
    names_epoch = epoch;
}

struct ep_py_channel *ep_py_channel_here(void)
{
    return own_channel != NULL && own_channel->is_open(own_channel) ? own_channel : shared_channel;
}

struct ep_py_channel *ep_py_channel_shared(void)
{
    return shared_channel;
}

struct ep_py_channel *ep_py_channel_for_letters(void)
{
    return own_channel != NULL && own_channel->is_used(own_channel) ? own_channel : shared_channel;
}

uint64_t ep_py_channel_names_epoch(void)
{
    /* Acquire: names that are asked for after it are at least as new. */
    return names_epoch == NULL ? 0 : atomic_load_explicit(names_epoch, memory_order_acquire);
}
