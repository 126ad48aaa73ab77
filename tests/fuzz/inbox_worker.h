/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INBOX_WORKER_H
#define INBOX_WORKER_H

/* inbox_worker - what the worker of inbox_fuzz does: the input says, true or not. One thread. */

#include "inbox_run.h"

/* Takes a request. */
void worker_receive(struct run *run);

/* Sends a message; any of its fields may be a lie. */
void worker_send(struct run *run);

/* Sends a message to a process, or nearly; how: on which lane, from a block or not. */
void worker_send_letter(struct run *run, unsigned how);

/* Writes bytes anywhere in its segment. */
void worker_write_anything(struct run *run);

/* Moves a head, a tail, a bell or another word that the VM reads. */
void worker_write_word(struct run *run);

/* Gives a block of the slab back, which may be none. */
void worker_hand_back(struct run *run);

#endif
