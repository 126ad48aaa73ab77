/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_STRIKE_H
#define EP_PY_STRIKE_H

/*
 * ep_py_strike - interrupts a call, from the outside: chooses a way to raise KeyboardInterrupt
 * in the thread that runs it. ep_py_interrupt.h has the other side.
 *
 * Threads    each function says.
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct _object; /* PyObject */
struct ep_py_interrupt;

/* The VM sends each interrupt on two ways; whoever gets true for its number acts. */
bool ep_py_strike_claim(struct ep_py_interrupt *interrupt, uint64_t number);

/* Control thread: interrupts the call if it runs at this moment. number 0: not
 * sent on another way. Never blocks. */
void ep_py_strike(struct ep_py_interrupt *interrupt, uint64_t call_id, uint64_t number,
                  bool is_forced);

/* _erlang.take_interrupt(call_id): whether the caller has to raise KeyboardInterrupt, for the
 * call runs in this thread, and its event loop was asked to. */
struct _object *ep_py_strike_take(struct _object *module, struct _object *call_id);

/* _erlang.lost_interrupt(): KeyboardInterrupt was raised where exceptions go no farther, as in
 * a finalizer. If it was that of an interrupt, the call that runs here gets another one. */
struct _object *ep_py_strike_lost(struct _object *module, struct _object *unused);

#ifdef __cplusplus
}
#endif

#endif
