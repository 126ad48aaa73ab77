/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_CODEC_H
#define EP_PY_CODEC_H

/*
 * ep_py_codec - what a conversion needs to know; one per thread that converts.
 */

#include "ep_py_handle.h"
#include "ep_py_place.h"
#include "ep_py_store.h"

struct ep_py_codec {
    struct ep_py_types types; /* borrowed from the interpreter's _erlang */
    struct ep_py_place place;
    /* Out: the VM may refuse what was encoded, or needs a scheduler for it; so it must not be a
     * SEND, which has no answer. Set, never cleared. */
    bool is_doubtful;
    /* Of the conversion that runs: arrays that were met, and those that the message has brought.
     * NULL: there cannot be any. */
    struct ep_py_cargo *named;
    const struct ep_py_cargo *brought;
    bool shares; /* every numpy array is shared */
};

#endif
