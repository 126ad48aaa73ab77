/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_status.h"

#include "ep_layout.h"

/* Why there is nothing: one object for each status, known by what it is. */
static PyObject *make_statuses(void)
{
    PyObject *statuses = PyTuple_New(EP_STATUS_MAX + 1);

    for (Py_ssize_t i = 0; statuses != NULL && i <= EP_STATUS_MAX; i++) {
        PyObject *status = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
        if (status == NULL)
            Py_CLEAR(statuses);
        else
            PyTuple_SET_ITEM(statuses, i, status);
    }
    return statuses;
}

int ep_py_status_add(PyObject *module, struct ep_py_types *ret_types)
{
    ret_types->statuses = make_statuses();
    return ret_types->statuses == NULL
               ? -1
               : PyModule_AddObjectRef(module, "STATUSES", ret_types->statuses);
}

PyObject *ep_py_status(const struct ep_py_types *types, const uint8_t *payload, size_t n)
{
    if (n == 1 && payload[0] <= EP_STATUS_MAX)
        return Py_NewRef(PyTuple_GET_ITEM(types->statuses, payload[0]));
    PyErr_SetString(PyExc_SystemError, "a status from Erlang makes no sense");
    return NULL;
}
