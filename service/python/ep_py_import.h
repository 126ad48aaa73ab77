/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_IMPORT_H
#define EP_PY_IMPORT_H

/*
 * ep_py_import - imports, which interrupts wait for.
 */

#include "ep_python.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes the imports of the current interpreter hold up interrupts. */
int ep_py_import_guard(void);

/* The import of a module, which a call names, has failed: completes the exception that is set by
 * the file that failed and the paths that were searched. Attached. */
void ep_py_import_explain(PyObject *name);

#ifdef __cplusplus
}
#endif

#endif
