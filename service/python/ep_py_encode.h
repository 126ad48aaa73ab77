/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_ENCODE_H
#define EP_PY_ENCODE_H

/*
 * ep_py_encode - Python objects to Erlang terms.
 */

#include "ep_buf.h"
#include "ep_py_codec.h"
#include "ep_python.h"

/* Appends one term; the place is noted on failure. */
int ep_py_encode(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *value);

#endif
