/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_none.h"

#include "ep_etf.h"
#include "ep_layout.h"

#include <stdatomic.h>
#include <string.h>

/* No request runs. */
#define OUTSIDE 0xFFu

static ep_atomic_u8 by_default;
static _Thread_local uint8_t of_thread = OUTSIDE;

void ep_py_none_set_default(unsigned flags)
{
    /* Relaxed: the contexts of one process agree. */
    atomic_store_explicit(&by_default, (uint8_t)(flags & EP_FLAG_NONE_MASK), memory_order_relaxed);
}

unsigned ep_py_none_enter(unsigned flags)
{
    unsigned outer = of_thread;

    of_thread = (uint8_t)(flags & EP_FLAG_NONE_MASK);
    return outer;
}

void ep_py_none_leave(unsigned outer)
{
    of_thread = (uint8_t)outer;
}

void ep_py_none_put(struct ep_buf *buf)
{
    unsigned which = of_thread;

    if (which == OUTSIDE)
        which = atomic_load_explicit(&by_default, memory_order_relaxed);
    const char *name = which == EP_FLAG_NIL         ? "nil"
                       : which == EP_FLAG_UNDEFINED ? "undefined"
                                                    : "none";
    ep_etf_put_atom(buf, name, strlen(name));
}
