/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVIL_SERVE_H
#define EVIL_SERVE_H

/*
 * evil_serve - what comes from the VM: served as a worker should, except for calls of the module
 * `evil', whose functions put a call into a state or order an attack.
 *
 *   hold     never answered; the lane says that it runs
 *   ask      asks Erlang `evil_wait'; answered when that is
 *   later    held; `release' on any lane lets it ask
 *   stall_victim  lane 1 takes nothing more from its call ring
 *   sleep    answered after that many ms
 *   NAME     an attack: [Seed, Target, Via, Ms | Handles]; via 0: lies on the control lane
 *
 * Everything else is answered at once.
 */

#include "evil_wire.h"

/* Serves what has come. Returns whether anything had. */
bool evil_serve(struct evil_worker *worker);

#endif
