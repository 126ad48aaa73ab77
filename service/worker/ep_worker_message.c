/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_message.h"

#include <stdlib.h>
#include <string.h>

struct ep_worker_message *ep_worker_message_copy(const struct ep_slot *slot, const uint8_t *payload)
{
    struct ep_worker_message *message = malloc(sizeof(*message) + slot->length);

    if (message != NULL) {
        message->next = NULL;
        memcpy(&message->slot, slot, sizeof(message->slot));
        memcpy(message->payload, payload, slot->length);
    }
    return message;
}
