/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_INQUIRY_H
#define EP_INQUIRY_H

/*
 * ep_inquiry - questions about an interpreter, over the control lane of its process: they run
 * beside the requests.
 *
 * Ownership  an inquiry is the host's until it is answered or the process dies.
 * Errors     0 or a negative errno.
 * Threads    any; what the reaper does says so.
 */

#include "ep_buf.h"
#include "ep_vm.h"

/* Asks about the interpreter of a lane. pid gets {py_maintained, Tag, Answer} when the worker
 * process answers or dies. payload: name of a function, list of arguments. is_first: requests
 * that the lane has not begun wait for the end of the function. */
int ep_inquiry_send(struct ep_lane *lane, const ErlNifPid *pid, ERL_NIF_TERM tag, bool is_first,
                    const struct ep_buf *payload);

/* The reaper, under host->lock: the answer of the worker. -EPROTO. */
int ep_inquiry_receive(struct ep_host *host, const struct ep_msg *msg);

/* Whether the newest open inquiry was made less than ns ago. Under host->lock. */
bool ep_inquiry_is_young(const struct ep_host *host, uint64_t ns);

/* The reaper: ends all open inquiries; their worker process has died. */
void ep_inquiry_fail_all(struct ep_host *host);

#endif
