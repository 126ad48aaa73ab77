/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_SLOTS_H
#define PY_NIF_SLOTS_H

/*
 * py_nif_slots - who may run a request.
 */

#include "py_nif_common.h"

PY_NIF(slot_acquire_nif);
PY_NIF(slot_claim_nif);
PY_NIF(slot_release_nif);
PY_NIF(slots_nif);
PY_NIF(set_max_slots_nif);

#endif
