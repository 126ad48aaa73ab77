/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_DICTS_H
#define PY_NIF_DICTS_H

/*
 * py_nif_dicts - shared dicts, as Erlang has them.
 */

#include "py_nif_common.h"

PY_NIF(dict_set_nif);
PY_NIF(dict_get_nif);
PY_NIF(dict_remove_nif);
PY_NIF(dict_keys_nif);
PY_NIF(dict_destroy_nif);

#endif
