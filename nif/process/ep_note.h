/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NOTE_H
#define EP_NOTE_H

/*
 * ep_note - messages to the control thread of a worker process.
 *
 * A note goes into the ring of the control lane. What finds no room there waits in private
 * memory, in order, until the reaper finds room: at most EP_NOTES_MAX of them, and beyond
 * EP_NOTE_BYTES_MAX bytes only short ones. The control thread never waits for Python, so only a process
 * that is stopped, or that floods us, leaves so many unread.
 *
 * Errors   0 or a negative errno.
 * Threads  any, under host->lock, or, where it is said, under the producer lock of a lane that
 *          is attached.
 */

#include "ep_vm.h"

/* More than a worker has open questions, all of which may be answered at once, and tasks, all
 * of which may be cancelled. */
#define EP_NOTES_MAX (26000u + 2 * EP_TASKS_MAX)
/* Interrupts, beyond which one more would tell nothing new: it is dropped. Users may send
 * them faster than a worker can act on them. */
#define EP_NOTES_INTERRUPTS_MAX 1024u
#define EP_NOTE_BYTES_MAX (UINT64_C(64) << 20)

/* Sends a note, or lets it wait. head: kind, flags, aux, call_id, subject and stamp.
 * -ESTALE: the process is dead.  -EAGAIN: there is no room at the moment, and it is large, or
 * one more interrupt.  -ENOMEM. A worker that leaves too many unread is killed: 0. */
int ep_note_send(struct ep_host *host, const struct ep_msg *head, const uint8_t *bytes,
                 size_t length);

/* The same under the producer lock of a lane that is attached, so that the process is not dead
 * as far as anyone knows. */
int ep_note_send_attached(struct ep_host *host, const struct ep_msg *head, const uint8_t *bytes,
                          size_t length);

/* The same for what has no payload and may be lost. */
void ep_note_control(struct ep_host *host, enum ep_kind kind, uint32_t aux, uint64_t call_id,
                     uint64_t subject);

/* As ep_note_send() without waiting: -EAGAIN if there is no room. */
int ep_note_try(struct ep_host *host, const struct ep_msg *head, const uint8_t *bytes,
                size_t length);

/* Sends what waits, as far as there is room. Returns whether something still waits. */
bool ep_note_flush(struct ep_host *host);

void ep_note_clear(struct ep_host *host);

/* Whether the control thread has still to take a note. */
bool ep_note_is_unread(struct ep_host *host);

/* Whether it has taken none for a while although there are some: the process stands still.
 * Ask again and again; the while begins with the first question. */
bool ep_note_is_stopped(struct ep_host *host);

#endif
