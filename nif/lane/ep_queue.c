/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_queue.h"

#include <stdlib.h>
#include <string.h>

struct ep_queued *ep_queue_message(struct ep_call *call, const struct ep_msg *head,
                                   const uint8_t *bytes, size_t length)
{
    struct ep_queued *queued = malloc(sizeof(*queued) + length);

    if (queued == NULL)
        return NULL;
    queued->next = NULL;
    queued->call = call;
    memcpy(&queued->head, head, offsetof(struct ep_msg, data));
    queued->length = length;
    if (length > 0)
        memcpy(queued->bytes, bytes, length);
    return queued;
}

void ep_queue_put(struct ep_queue *queue, struct ep_queued *queued)
{
    *queue->last = queued;
    queue->last = &queued->next;
}
