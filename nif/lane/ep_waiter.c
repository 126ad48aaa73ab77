/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_waiter.h"

#include "ep_atoms.h"
#include "ep_outbox_question.h"

struct ep_waiter_threads ep_waiter_threads;

bool ep_waiter_is_there(const struct ep_waiter *waiter, ErlNifEnv *env)
{
    ErlNifPid pid = waiter->pid;

    switch (waiter->kind) {
    case EP_WAITER_CALL: return ep_outbox_is_asking(waiter->who, waiter->id, waiter->number);
    case EP_WAITER_THREAD: return ep_waiter_threads.is_there(waiter->who);
    case EP_WAITER_PROCESS: return enif_is_process_alive(env, &pid) != 0;
    default: return false;
    }
}

void ep_waiter_drop(struct ep_waiter *waiter)
{
    switch (waiter->kind) {
    case EP_WAITER_CALL: enif_release_resource(waiter->who); break;
    case EP_WAITER_THREAD: ep_waiter_threads.drop(waiter->who); break;
    case EP_WAITER_PROCESS: enif_free_env(waiter->env); break;
    default: break;
    }
    waiter->kind = EP_WAITER_NONE;
}

void ep_waiter_wake(struct ep_waiter *waiter, ErlNifEnv *caller_env, enum ep_status status)
{
    uint8_t byte = (uint8_t)status;
    struct ep_buf buf;

    switch (waiter->kind) {
    case EP_WAITER_CALL:
        ep_buf_init(&buf, &byte, 1, 1);
        buf.length = 1;
        (void)ep_outbox_tell(waiter->who, waiter->id, waiter->number, EP_ANSWER_STATUS, &buf);
        break;
    case EP_WAITER_THREAD:
        ep_waiter_threads.wake(waiter->who, status);
        enif_release_resource(waiter->who);
        waiter->kind = EP_WAITER_NONE;
        break;
    case EP_WAITER_PROCESS:
        (void)enif_send(caller_env, &waiter->pid, waiter->env,
                        enif_make_tuple2(waiter->env, am_py_object, waiter->tag));
        break;
    default: break;
    }
    ep_waiter_drop(waiter);
}
