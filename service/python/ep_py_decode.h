/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_DECODE_H
#define EP_PY_DECODE_H

/*
 * ep_py_decode - Erlang terms to Python objects.
 */

#include "ep_etf.h"
#include "ep_py_codec.h"
#include "ep_python.h"

#include <errno.h>

/* Reads one term. ret_value is new, or NULL with an exception set and the place
 * noted. Returns 0 or -EPROTO; after an exception the cursor is anywhere. */
int ep_py_decode(struct ep_py_codec *codec, struct ep_etf_cursor *cursor, PyObject **ret_value);

/* Text: str if it is UTF-8, else an exception. */
PyObject *ep_py_decode_text(const uint8_t *data, size_t size);

/* The same, interned. */
PyObject *ep_py_decode_name(const struct ep_etf_token *token);

/* Reads a token that must be a binary. 0 or -EPROTO. */
static inline int ep_py_decode_binary_token(struct ep_etf_cursor *cursor,
                                            struct ep_etf_token *ret_token)
{
    return ep_etf_next(cursor, ret_token) < 0 || ret_token->type != EP_ETF_BINARY ? -EPROTO : 0;
}

#endif
