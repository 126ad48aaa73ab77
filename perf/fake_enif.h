/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FAKE_ENIF_H
#define FAKE_ENIF_H

/*
 * fake_enif - as much of erl_nif as a small call uses, without a VM, so that a tool
 * which counts instructions can run the functions of nif/ themselves.
 *
 * Terms are pointers to small structures in one arena. Functions that are not here
 * stay unresolved and end the program if they are called.
 *
 * Ownership  fake_reset() takes all terms made after fake_keep() back.
 * Threads    one.
 */

#include <erl_nif.h>

/* The terms made so far stay. */
void fake_keep(void);
void fake_reset(void);

ERL_NIF_TERM fake_int(long value);
ERL_NIF_TERM fake_empty_map(void);

/* The value of a float, or the element of a tuple; ends the program if it is none. */
double fake_float(ERL_NIF_TERM term);
ERL_NIF_TERM fake_element(ERL_NIF_TERM tuple, unsigned i);

/* Messages sent so far. */
unsigned fake_messages(void);

#endif
