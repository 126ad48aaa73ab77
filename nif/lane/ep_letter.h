/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LETTER_H
#define EP_LETTER_H

/*
 * ep_letter - messages of Python code to Erlang processes: SEND, and the credit for it.
 *
 * Whoever takes a SEND from a ring delivers it there and then, so that messages stay in
 * order, and before the reply that follows them. A message to a process of another node
 * goes to py_letter_carrier, for the NIF cannot send it there.
 *
 * Both sides count what SENDs have cost so far. A grant says how far the count may go: what
 * the VM has seen, and some more. So an answer that gets lost, because an interrupt has ended
 * the question, makes no difference. The VM raises its limit before the worker hears of it, and
 * the worker counts a SEND before the VM sees it; so an honest worker stays within the limit.
 * Its SENDs on several lanes arrive in any order, and the dearest may be the last: for that
 * the VM adds the price of one.
 *
 * py_letter gives credit by the length of the receiver's mailbox; also by that of a receiver
 * that the VM has picked itself, for the worker may ask about another one than it floods. It is
 * that of one of the SENDs since the last whole grant, each with a chance like its price, in
 * whichever order they come. So a mailbox that is filled is seen in proportion to what fills it,
 * and stays in sight until it is found in order.
 *
 * Ownership  the environment that messages are built in is the lane's, or the host's.
 * Errors     0 or a negative errno.
 * Threads    deliver: the consumer of the ring. The rest: any.
 * Trust      a SEND is hostile: it is judged in private memory, and bounded.
 */

#include "ep_cargo.h"
#include "ep_lane.h"
#include "ep_vm.h"

/* Bytes that one go over a ring delivers, about: a scheduler may be at it. */
#define EP_LETTER_BATCH (32u << 10)

/* No credit yet, and the choice of samples. */
void ep_letter_init(struct ep_host *host);

/* Delivers what a SEND says. *env is made when it is NULL, and kept. Does not give the block
 * back. max_words: of VM heap. -EPROTO. */
int ep_letter_deliver(struct ep_host *host, const struct ep_lane_vm *shm, const struct ep_msg *msg,
                      const struct ep_cargo *cargo, size_t max_words, ErlNifEnv **env);

/* Sends a copy of a term to a process, in order with the SENDs. Returns whether the process is
 * alive, as far as is known. */
bool ep_letter_send(struct ep_vm *vm, ERL_NIF_TERM pid, ERL_NIF_TERM term);

/* How often there is a credit that is neither for one SEND nor whole. */
#define EP_LETTER_LITTLE_NS UINT64_C(1000000)

/* Gives credit of so many bytes, EP_SEND_GRANT at most; 1 is for one SEND, 0 for none. Returns the
 * limit. A whole grant forgets the sample. */
uint64_t ep_letter_grant(struct ep_host *host, uint64_t credit);

/* The process of the SEND that was picked, and the price of that; the carrier, if it is of another
 * node. */
bool ep_letter_sample(struct ep_host *host, ErlNifPid *ret_pid, uint64_t *ret_price);

/* Makes pid the process that carries messages to other nodes. */
void ep_letter_adopt(struct ep_vm *vm, const ErlNifPid *pid);

#endif
