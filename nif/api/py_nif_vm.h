/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_VM_H
#define PY_NIF_VM_H

/*
 * py_nif_vm - what all worker processes share: counters, limits, names.
 */

#include "py_nif_common.h"

PY_NIF(names_changed_nif);
PY_NIF(set_max_atoms_nif);
PY_NIF(empty_nif);
PY_NIF(counters_nif);

#endif
