/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_ARRAYS_H
#define PY_NIF_ARRAYS_H

/*
 * py_nif_arrays - NIFs of arrays in shared memory.
 *
 * Threads  any.
 */

#include "py_nif_common.h"

PY_NIF(array_from_binary_nif);
PY_NIF(array_new_nif);
PY_NIF(array_write_nif);
PY_NIF(array_seal_nif);
PY_NIF(array_to_binary_nif);
PY_NIF(array_slice_nif);
PY_NIF(array_info_nif);
PY_NIF(arrays_nif);
PY_NIF(set_max_shared_bytes_nif);

#endif
