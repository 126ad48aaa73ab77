/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_STREAMS_H
#define PY_NIF_STREAMS_H

/*
 * py_nif_streams - the items of a request that was made with PY_NIF_FLAG_STREAM.
 */

#include "py_nif_common.h"

PY_NIF(stream_next_nif);
PY_NIF(stream_go_on_nif);
PY_NIF(stream_finish_nif);
PY_NIF(stream_cancel_nif);

#endif
