/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_place.h"

#include "ep_py_exception.h"
#include "ep_python.h"

#include <stdio.h>
#include <string.h>

/* The outer part of a path is worth more than the inner one. */
static void drop_innermost(struct ep_py_place *place)
{
    uint16_t size = place->sizes[0];
    size_t kept = sizeof(place->text) - place->start - size;

    memmove(place->text + place->start + size, place->text + place->start, kept);
    memmove(place->sizes, place->sizes + 1, sizeof(place->sizes) - 1);
    place->start = (uint16_t)(place->start + size);
    place->n_steps--;
    place->is_cut = true;
}

/* A step takes no more than its share of the text. */
static void prepend(struct ep_py_place *place, const char *text, size_t size)
{
    if (place->is_closed || size > sizeof(place->text) / EP_PY_PLACE_STEPS)
        return;
    if (place->n_steps == EP_PY_PLACE_STEPS)
        drop_innermost(place);
    place->sizes[place->n_steps++] = (uint8_t)size;
    place->start = (uint16_t)(place->start - size);
    memcpy(place->text + place->start, text, size);
}

PyObject *ep_py_place_path(const struct ep_py_place *place)
{
    if (place->is_closed)
        return PyUnicode_FromString("");
    size_t size = sizeof(place->text) - place->start;
    PyObject *steps = PyUnicode_DecodeUTF8(place->text + place->start, (Py_ssize_t)size, "replace");
    if (steps == NULL || !place->is_cut)
        return steps;
    PyObject *path = PyUnicode_FromFormat("%U...", steps);
    Py_DECREF(steps);
    return path;
}

void ep_py_place_index(struct ep_py_place *place, size_t index)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "[%zu]", index);

    prepend(place, text, (size_t)n);
}

void ep_py_place_key(struct ep_py_place *place, PyObject *key)
{
    char text[80] = "[...]";

    if (place->is_closed)
        return;
    PyObject *exc = ep_py_exception_take();
    /* Only keys whose repr runs no code of the user, and is short. */
    if (PyUnicode_CheckExact(key) || PyLong_CheckExact(key) || PyBytes_CheckExact(key)
        || key == Py_None || PyBool_Check(key) || PyFloat_CheckExact(key)) {
        PyObject *repr = PyObject_Repr(key);
        const char *utf8 = repr == NULL ? NULL : PyUnicode_AsUTF8(repr);
        if (utf8 != NULL && strlen(utf8) < sizeof(text) - 3)
            (void)snprintf(text, sizeof(text), "[%s]", utf8);
        Py_XDECREF(repr);
    }
    PyErr_Clear();
    ep_py_exception_restore(exc);
    prepend(place, text, strlen(text));
}
