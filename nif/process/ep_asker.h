/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ASKER_H
#define EP_ASKER_H

/*
 * ep_asker - Python threads that call Erlang, over the control lane of their process.
 *
 *   Python thread                 VM
 *     question  --------------->  reaper: makes an asker, sends it to py_callback_runner
 *     request   <---------------  the process that runs the callback: ep_asker_submit()
 *     reply     --------------->  (the thread runs requests for its context)
 *     outcome   <---------------  the same process: ep_asker_answer()
 *
 * Ownership  an asker is a resource. The process that runs the callback holds it. If it is
 *            collected without an outcome, Python gets an exception.
 *            is_answered and is_read are under host->lock.
 * Errors     0 or a negative errno.
 * Threads    any; what the reaper does says so.
 */

#include "ep_outbox.h"
#include "ep_vm.h"

struct ep_asker {
    struct ep_host *host; /* kept */
    struct ep_lane *lane; /* kept: of the context that it counts for */
    uint64_t id;
    uint64_t env_id; /* namespace of the request that it counts for */
    bool is_nested;  /* there is such a request */
    _Atomic bool is_answered;
    bool is_read;           /* its block has been handed back */
    bool is_own;            /* about an object, see ep_question.h */
    struct ep_msg question; /* its payload, if it is long, in a block of the host */
    struct ep_cargo *cargo; /* arrays that it names; or NULL */
    struct ep_asker *next_orphan;
};

/* Copies the question's payload, once, and hands its block back. The caller frees the copy
 * with enif_free(). NULL: no memory. May take long: on a dirty scheduler. */
uint8_t *ep_asker_copy(struct ep_asker *asker);

/* Whether the question has not been read, and its worker process lives. */
bool ep_asker_is_open(struct ep_asker *asker);

/* Hands the block of the question back, unless ep_asker_copy() has done so. */
void ep_asker_release(struct ep_asker *asker);

/* Whether it asks about an object, which the VM answers by itself. */
bool ep_asker_is_own(const struct ep_asker *asker);

/* Answers such a question, whose payload was copied; or lets it wait. On a dirty scheduler. */
void ep_asker_serve(struct ep_asker *asker, ErlNifEnv *env, const uint8_t *payload);

/* Once for each instance of the library. */
void ep_asker_open(void);

/* Makes runner the process that gets the questions of Python threads. It gets the questions
 * that found no process, too. */
void ep_asker_adopt(struct ep_vm *vm, ErlNifEnv *caller_env, const ErlNifPid *runner);

void ep_asker_destroy(ErlNifEnv *env, void *object);

/* The reaper, under host->lock: judges a message of the control lane that is not HELLO. *cargo:
 * the arrays that it names; NULL once they are taken. -EPROTO. */
int ep_asker_receive(struct ep_host *host, const struct ep_msg *msg, struct ep_cargo **cargo);

/* Sends a request to the thread that asked. -ESTALE: its process or context is gone.
 * -EAGAIN: no room. The rest as ep_outbox_submit(). */
int ep_asker_submit(struct ep_asker *asker, ErlNifEnv *env, const struct ep_request *request,
                    struct ep_call **ret_call);

/* Sends the outcome of the callback; a second one is dropped. -ESTALE, -EAGAIN as above. */
int ep_asker_answer(struct ep_asker *asker, enum ep_answer how, const struct ep_buf *payload,
                    struct ep_cargo **cargo);

#endif
