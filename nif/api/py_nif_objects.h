/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_OBJECTS_H
#define PY_NIF_OBJECTS_H

/*
 * py_nif_objects - channels, byte channels and buffers, as Erlang has them.
 */

#include "py_nif_common.h"

PY_NIF(object_new_nif);
PY_NIF(object_close_nif);
PY_NIF(object_info_nif);
PY_NIF(objects_nif);
PY_NIF(channel_send_nif);
PY_NIF(channel_put_nif);
PY_NIF(channel_take_nif);
PY_NIF(channel_take_back_nif);
PY_NIF(channel_wait_nif);
PY_NIF(channel_unwait_nif);
PY_NIF(buffer_write_nif);

#endif
