/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_ASKERS_H
#define PY_NIF_ASKERS_H

/*
 * py_nif_askers - callbacks of Python threads, and inquiries.
 */

#include "py_nif_common.h"

PY_NIF(run_callbacks_nif);
PY_NIF(asker_nif);
PY_NIF(question_nif);
PY_NIF(inquire_nif);
PY_NIF(inquire_first_nif);

#endif
