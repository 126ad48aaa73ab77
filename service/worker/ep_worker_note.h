/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_NOTE_H
#define EP_WORKER_NOTE_H

/*
 * ep_worker_note - messages to the VM on the control lane.
 *
 * Threads  any, without the GIL.
 */

#include "ep_worker.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ep_worker_note {
    uint8_t kind; /* enum ep_kind */
    uint8_t aux;
    uint8_t lane;    /* that it concerns; 0: none */
    bool has_arrays; /* the payload ends with a list of arrays */
    uint64_t call_id;
    uint64_t subject;
    const struct ep_buf *payload; /* NULL: none */
};

/* Sends it. False: it cannot be sent. */
bool ep_worker_note_send(struct ep_worker *worker, const struct ep_worker_note *note);

/* The same without waiting, so also with the GIL. -EAGAIN: another thread is at it, or there is
 * no room. */
int ep_worker_note_try(struct ep_worker *worker, const struct ep_worker_note *note);

/* Waits until the VM has delivered the SENDs of the control lane so far. */
void ep_worker_note_settle(struct ep_worker *worker);

#ifdef __cplusplus
}
#endif

#endif
