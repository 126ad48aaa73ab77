/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_ERROR_H
#define EP_PY_ERROR_H

/*
 * ep_py_error - error records: what the VM is told of an exception.
 *
 * Threads  attached, in any interpreter.
 */

#include "ep_buf.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_place;

/* What a reply says besides its payload. */
struct ep_py_reply {
    uint16_t kind; /* EP_KIND_RESULT or EP_KIND_ERROR */
    uint32_t aux;
    bool has_arrays; /* its payload ends with a list of arrays */
};

/* Takes the exception that is set and writes it as an error record. root and
 * place (NULL: none) say where a conversion failed. */
void ep_py_error_encode(struct ep_buf *buf, uint16_t flags, const char *root,
                        const struct ep_py_place *place, struct ep_py_reply *ret_reply);

/* Writes an error record for what is no Python exception. */
void ep_py_error_put(struct ep_buf *error, const char *type, const char *why);

#ifdef __cplusplus
}
#endif

#endif
