/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_guest.h"

#include "ep_buf.h"
#include "ep_crashpoint.h"
#include "ep_py_context.h"
#include "ep_py_error.h"
#include "ep_py_fork.h"
#include "ep_py_interrupt.h"
#include "ep_py_request.h"
#include "ep_worker_note.h"

#include <stdatomic.h>

struct ep_worker_lane *ep_worker_guest_choose_lane(struct ep_worker *worker, uint64_t *ret_running)
{
    struct ep_worker_lane *chosen = NULL;

    *ret_running = 0;
    (void)pthread_mutex_lock(&worker->mutex);
    for (uint32_t i = 1; i < worker->n_lanes && *ret_running == 0; i++) {
        struct ep_worker_lane *lane = worker->lanes[i];
        if (lane == NULL || lane->context == NULL || !ep_py_context_is_here(lane->context))
            continue;
        /* Relaxed: a snapshot of what may change at any moment. */
        uint64_t running = atomic_load_explicit(lane->shm.running, memory_order_relaxed);
        /* For one that is about to end the VM answers nothing any more. */
        if (chosen == NULL || chosen->takes_no_tasks || (running != 0 && !lane->takes_no_tasks)) {
            chosen = lane;
            *ret_running = running;
        }
    }
    (void)pthread_mutex_unlock(&worker->mutex);
    return chosen;
}

bool ep_worker_guest_is_request(uint8_t kind)
{
    return kind == EP_KIND_CALL || kind == EP_KIND_EVAL || kind == EP_KIND_EXEC;
}

void ep_worker_guest_drop(struct ep_worker *worker, const struct ep_cell *cell)
{
    struct ep_worker_note note = {
        .kind = EP_KIND_DROPPED, .lane = cell->aux, .call_id = cell->call_id};

    if (ep_worker_guest_is_request(cell->kind))
        (void)ep_worker_note_send(worker, &note);
}

void ep_worker_guest_run(struct ep_worker *worker, struct ep_py_interrupt *interrupt,
                         struct ep_py_context *guest, const struct ep_worker_message *message)
{
    const struct ep_cell *cell = &message->cell;
    struct ep_worker_note note = {.lane = cell->aux, .call_id = cell->call_id};
    struct ep_py_request request;
    struct ep_py_reply reply;
    struct ep_buf buf;

    if (ep_py_request_decode(guest, &request, cell, message->payload) < 0)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request is not in the format of docs/wire.md");
    struct ep_py_interrupt *former = ep_py_interrupt_enter(interrupt);
    /* On top of the thread's own code, and of its event loop if it has one. */
    ep_py_interrupt_begin(interrupt, guest, cell->call_id, true);
    EP_CRASHPOINT("thread.before_python");
    ep_py_request_run(guest, &request);
    ep_py_fork_end_child();
    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    ep_py_request_encode(guest, &request, &buf, &reply);
    ep_py_interrupt_finish(interrupt);
    (void)ep_py_interrupt_enter(former);
    ep_py_fork_end_child();
    note.kind = (uint8_t)reply.kind;
    note.aux = (uint8_t)reply.aux;
    note.has_arrays = reply.has_arrays;
    note.payload = &buf;
    void *thread = ep_py_context_detach_thread();
    (void)ep_worker_note_send(worker, &note);
    ep_py_context_attach_thread(thread);
    ep_buf_finish(&buf);
    ep_py_request_finish(guest, &request);
    ep_py_fork_end_child();
}
