/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ASKER_H
#define EP_ASKER_H

/*
 * ep_asker - Python threads that call Erlang, and inquiries about interpreters: what
 * goes over the control lane of a worker process once it has started.
 *
 * A thread that belongs to no lane asks on the control lane. The process that runs the
 * callback gets the asker, answers it, and may send it requests for its context, which
 * that thread runs. An inquiry goes the other way and runs beside the requests.
 *
 * Ownership  an asker is a resource: whoever runs its callback holds it.
 * Errors     0 or a negative errno.
 * Threads    any; what the reaper does says so.
 */

#include "ep_submit.h"
#include "ep_vm.h"

struct ep_asker {
    struct ep_host *host; /* kept */
    struct ep_lane *lane; /* kept: of the context that it counts for */
    uint64_t id;
    uint64_t env_id; /* namespace of the request that it counts for */
    bool is_nested;  /* there is such a request */
    size_t length;
    uint8_t *payload; /* the question; freed when it was read */
};

void ep_asker_destroy(ErlNifEnv *env, void *object);

/* The reaper, under host->lock: judges a message of the control lane that is not HELLO.
 * -EPROTO. */
int ep_asker_receive(struct ep_host *host, const struct ep_msg *msg);

/* Sends a request to the thread that asked. -ESTALE: its process or context is gone.
 * -EAGAIN: no room. The rest as ep_submit(). */
int ep_asker_submit(struct ep_asker *asker, ErlNifEnv *env, const struct ep_request *request,
                    struct ep_call **ret_call);

/* Answers the callback. -ESTALE, -EAGAIN as above. */
int ep_asker_answer(struct ep_asker *asker, enum ep_answer how, const struct ep_buf *payload);

/* Asks about the interpreter of a lane; {py_maintained, Tag, Answer} comes to pid, if
 * its process lives to answer or dies. payload: name of a function, list of arguments. */
int ep_inquire(struct ep_lane *lane, const ErlNifPid *pid, ErlNifEnv *env, ERL_NIF_TERM tag,
               const struct ep_buf *payload);

/* The reaper: nothing that was asked will be answered. */
void ep_inquiries_fail(struct ep_host *host);

#endif
