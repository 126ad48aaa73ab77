/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_BUFFER_H
#define EP_BUFFER_H

/*
 * ep_buffer - the bytes of a py_buffer: written at the end, read anywhere.
 *
 * Threads  under object->lock.
 */

#include "ep_budget.h"
#include "ep_item.h"

struct ep_buffer;

struct ep_buffer *ep_buffer_create(void);
/* Frees chunks within the budget, and then the buffer. True: it is gone. Nothing else may be done
 * with it from the first call on. */
bool ep_buffer_free_some(struct ep_buffer *buffer, struct ep_budget *budget);

uint64_t ep_buffer_size(const struct ep_buffer *buffer);

/* Appends. -ENOMEM. */
int ep_buffer_write(struct ep_buffer *buffer, const uint8_t *bytes, size_t n);

/* Copies n bytes from a position; they are there. */
void ep_buffer_read(const struct ep_buffer *buffer, uint64_t position, uint8_t *to, size_t n);

#endif
