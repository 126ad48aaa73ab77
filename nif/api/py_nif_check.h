/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_CHECK_H
#define PY_NIF_CHECK_H

/*
 * py_nif_check - the safety net of callers that wait long.
 *
 * Threads  schedulers.
 */

#include "py_nif_common.h"

PY_NIF(check_nif);

#endif
