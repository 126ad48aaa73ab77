/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_HOSTS_H
#define PY_NIF_HOSTS_H

/*
 * py_nif_hosts - launchers and worker processes.
 */

#include "py_nif_common.h"

PY_NIF(launcher_open_nif);
PY_NIF(launcher_join_nif);
PY_NIF(host_start_nif);
PY_NIF(host_kill_nif);
PY_NIF(host_shutdown_nif);

#endif
