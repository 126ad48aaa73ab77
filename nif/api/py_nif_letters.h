/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_LETTERS_H
#define PY_NIF_LETTERS_H

/*
 * py_nif_letters - messages of Python code: credit, delivery; the atoms that it makes.
 */

#include "py_nif_common.h"

PY_NIF(letter_grant_nif);
PY_NIF(letter_sample_nif);
PY_NIF(letter_waits_nif);
PY_NIF(letter_send_nif);
PY_NIF(carry_letters_nif);
PY_NIF(make_atom_nif);

#endif
