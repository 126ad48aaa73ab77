/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_LANES_H
#define PY_NIF_LANES_H

/*
 * py_nif_lanes - the lanes of contexts: their life, what they run, how to stop it.
 */

#include "py_nif_common.h"

PY_NIF(lane_new_nif);
PY_NIF(lane_attach_nif);
PY_NIF(lane_close_nif);
PY_NIF(lane_set_unavailable_nif);
PY_NIF(lane_progress_nif);
PY_NIF(lane_interrupt_nif);
PY_NIF(lane_interrupt_import_nif);
PY_NIF(lane_expire_nif);
PY_NIF(lane_is_idle_nif);
PY_NIF(lane_move_nif);
PY_NIF(lane_stay_nif);
PY_NIF(lane_requests_nif);
PY_NIF(lane_is_importing_nif);
PY_NIF(lane_kill_nif);
PY_NIF(lane_stats_nif);

#endif
