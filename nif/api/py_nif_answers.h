/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_ANSWERS_H
#define PY_NIF_ANSWERS_H

/*
 * py_nif_answers - outcomes of callbacks, from whoever has run them.
 */

#include "py_nif_common.h"

PY_NIF(answer_nif);

#endif
