/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_message.h"

#include <stdlib.h>
#include <string.h>

struct ep_worker_message *ep_worker_message_copy(const struct ep_cell *cell, const uint8_t *payload)
{
    struct ep_worker_message *message = malloc(sizeof(*message) + cell->length);

    if (message != NULL) {
        message->next = NULL;
        memcpy(&message->cell, cell, sizeof(message->cell));
        memcpy(message->payload, payload, cell->length);
    }
    return message;
}
