/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ARRAYS_H
#define EP_ARRAYS_H

/*
 * ep_arrays - arrays in shared memory: who has made them, who holds them.
 *
 * Terms and binaries of the VM hold an array as a resource. A worker process holds it while a
 * message that brought it counts, which is until the call has ended, or until its thread says that
 * it has read the outcome of its callback; and beyond that while it has claimed it: the message
 * that ends the first also says what is still in use. So a message that is dropped, or sent to
 * another process, needs no account.
 *
 * A worker drops what it has claimed, on the control lane. That must not overtake what it has
 * said on other lanes before, see ep_drops.h.
 *
 * Errors     0 or a negative errno.
 * Threads    any, whatever they have locked but what comes after arrays->lock.
 * Trust      records of a worker are hostile. It names only what it holds, makes arrays only in
 *            segments of its own, and drops what it has claimed; else -EPROTO.
 */

#include "ep_array_pool.h"
#include "ep_calls.h"
#include "ep_cargo.h"
#include "ep_vm.h"

/* Once for each instance of the library, and once for the VM. */
void ep_arrays_open(void);
int ep_arrays_init(struct ep_vm *vm);

/* Undoes it, before there is an array. */
void ep_arrays_forget(struct ep_vm *vm);

/* A new array of ours, OPEN, not zeroed; its mem may be written until it is SEALED. info: dtype,
 * ndim, dims and nbytes. -ENOMEM. */
int ep_arrays_make(struct ep_vm *vm, const struct ep_array_info *info, struct ep_array **ret_array);

/* A part of a sealed array. -ENOMEM. */
int ep_arrays_slice(struct ep_array *array, const struct ep_array_info *info,
                    struct ep_array **ret_array);

/* Whether a binary may refer to its memory. */
bool ep_arrays_is_own(const struct ep_array *array);

void ep_array_destroy(ErlNifEnv *env, void *object);
void ep_array_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor);

/* How many processes hold it. */
unsigned ep_arrays_holders(struct ep_array *array);

/* Before the host is known to anyone. socket: its end of the control socket. */
int ep_arrays_add_host(struct ep_host *host, int socket);
void ep_arrays_hang_up(struct ep_host *host);
/* The process holds nothing any more. */
void ep_arrays_end_host(struct ep_host *host);
void ep_arrays_finish_host(struct ep_host *host);

/* Lends the arrays to the process that the message goes to. Once per cargo and process.
 * -EAGAIN: not now. */
int ep_arrays_lend(struct ep_host *host, struct ep_cargo *cargo);

/* The list at the end of a message: cuts it off and gives what it names. -EPROTO, -ENOMEM. */
int ep_arrays_take(struct ep_host *host, const uint8_t *payload, struct ep_msg *msg,
                   struct ep_cargo **ret_cargo);

/* What the process says on the control lane, without a list. */
int ep_arrays_receive(struct ep_host *host, const struct ep_msg *msg, const uint8_t *payload);

/* Keeps what the outcome of a thread's callback brought until the thread has read it. */
int ep_arrays_keep_answer(struct ep_host *host, uint64_t question, struct ep_cargo *cargo);
void ep_arrays_end_answer(struct ep_host *host, uint64_t question);

/* Ends holds that the process has dropped. -EPROTO. */
int ep_arrays_drop(struct ep_host *host, const struct ep_drops *drops);

struct ep_arrays_totals {
    uint64_t count, bytes, high, most;
};
struct ep_arrays_totals ep_arrays_totals(struct ep_vm *vm);
void ep_arrays_set_max(struct ep_vm *vm, uint64_t most);

/* For the reaper: gives memory back. Returns when to look again, in ms, or -1. */
int ep_arrays_look(struct ep_vm *vm);
/* Whether the process is to be sent a TEND; once. */
bool ep_arrays_wants_tend(struct ep_host *host);

#endif
