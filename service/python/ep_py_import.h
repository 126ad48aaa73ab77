/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_IMPORT_H
#define EP_PY_IMPORT_H

/*
 * ep_py_import - imports, which interrupts wait for.
 */

#ifdef __cplusplus
extern "C" {
#endif

/* Makes the imports of the current interpreter hold up interrupts. */
int ep_py_import_guard(void);

#ifdef __cplusplus
}
#endif

#endif
