/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_numpy.h"

#include "ep_cpu.h"

#include <string.h>

/* An import that failed may succeed later: a virtual environment may have come. */
#define AGAIN_NS UINT64_C(1000000000)

struct ep_py_numpy *ep_py_numpy_create(void)
{
    struct ep_py_numpy *numpy = PyMem_Calloc(1, sizeof(*numpy));

    if (numpy == NULL)
        PyErr_NoMemory();
    return numpy;
}

void ep_py_numpy_destroy(struct ep_py_numpy *numpy)
{
    if (numpy == NULL)
        return;
    for (unsigned i = 0; i < EP_DTYPES; i++)
        Py_XDECREF(numpy->dtypes[i]);
    Py_XDECREF(numpy->ndarray);
    Py_XDECREF(numpy->module);
    PyMem_Free(numpy);
}

bool ep_py_numpy_is(PyObject *value, const char *type_name)
{
    PyObject *numpy = PyDict_GetItemString(PyImport_GetModuleDict(), "numpy"); /* borrowed */
    PyObject *type = NULL;
    bool is_it = false;

    if (numpy == NULL || !PyModule_Check(numpy))
        return false;
    Py_INCREF(numpy);
    type = PyObject_GetAttrString(numpy, type_name);
    if (type == NULL)
        PyErr_Clear(); /* half imported */
    else if (PyType_Check(type))
        is_it = PyObject_TypeCheck(value, (PyTypeObject *)type) != 0;
    Py_XDECREF(type);
    Py_DECREF(numpy);
    return is_it;
}

static PyObject *make_dtypes(struct ep_py_numpy *numpy, PyObject *module)
{
    PyObject *make = PyObject_GetAttrString(module, "dtype");

    for (unsigned i = 0; make != NULL && i < EP_DTYPES; i++) {
        PyObject *dtype = PyObject_CallFunction(make, "s", ep_dtype_name(i));
        if (dtype == NULL)
            Py_CLEAR(make);
        Py_XSETREF(numpy->dtypes[i], dtype);
    }
    return make;
}

static bool is_imported(void)
{
    return PyDict_GetItemString(PyImport_GetModuleDict(), "numpy") != NULL;
}

/* numpy supports no sub-interpreters. Some builds refuse them, others abort the process: so
 * there it is used only if the user's code has got it imported. */
static bool may_import(void)
{
    return is_imported() || PyInterpreterState_Get() == PyInterpreterState_Main();
}

bool ep_py_numpy_load(struct ep_py_numpy *numpy)
{
    uint64_t now;

    if (numpy->module != NULL)
        return true;
    if (!may_import())
        return false;
    now = ep_clock_ns();
    if (numpy->tried_ns != 0 && now - numpy->tried_ns < AGAIN_NS && !is_imported())
        return false;
    numpy->tried_ns = now;
    PyObject *module = PyImport_ImportModule("numpy");
    PyObject *ndarray = module == NULL ? NULL : PyObject_GetAttrString(module, "ndarray");
    PyObject *make = ndarray == NULL ? NULL : make_dtypes(numpy, module);
    if (make != NULL && PyType_Check(ndarray) && numpy->module == NULL) {
        numpy->ndarray = Py_NewRef(ndarray);
        numpy->module = Py_NewRef(module);
    }
    /* KeyboardInterrupt is somebody else's; the rest means that there is no numpy. */
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        PyErr_Clear();
    Py_XDECREF(make);
    Py_XDECREF(ndarray);
    Py_XDECREF(module);
    return numpy->module != NULL;
}

bool ep_py_numpy_is_array(struct ep_py_numpy *numpy, PyObject *value)
{
    if (numpy->module == NULL && (!is_imported() || !ep_py_numpy_load(numpy)))
        return false;
    return PyObject_TypeCheck(value, (PyTypeObject *)numpy->ndarray);
}

int ep_py_numpy_dtype_of_name(const char *name)
{
    for (int i = 0; i < EP_DTYPES; i++)
        if (strcmp(name, ep_dtype_name((unsigned)i)) == 0)
            return i;
    return -1;
}

int ep_py_numpy_dtype(PyObject *dtype)
{
    PyObject *name = PyObject_GetAttrString(dtype, "name");
    const char *utf8 = name == NULL ? NULL : PyUnicode_AsUTF8(name);
    int number = utf8 == NULL ? -1 : ep_py_numpy_dtype_of_name(utf8);

    if (utf8 != NULL && number < 0)
        PyErr_Format(PyExc_TypeError,
                     "an array of dtype %S cannot be shared, only numbers and booleans", dtype);
    Py_XDECREF(name);
    return number;
}
