/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the Python side cannot beat.
 *
 *   call     math.sqrt(16) through the C API, the attribute looked up each time, the
 *            argument made and the result read
 *   convert  making and freeing a list of 100,000 ints, and a dict of 1,000 strings
 */
#include <Python.h>

#include "floor.h"

#include <string.h>

#define CALLS 100000
#define INTS 100000
#define KEYS 1000

static double sqrt_calls(PyObject *math, PyObject *name)
{
    double sum = 0;

    for (int i = 0; i < CALLS; i++) {
        PyObject *function = PyObject_GetAttr(math, name);
        PyObject *argument = PyLong_FromLong(16);
        PyObject *result = PyObject_Vectorcall(function, &argument, 1, NULL);
        if (result == NULL)
            exit(1);
        sum += PyFloat_AsDouble(result);
        Py_DECREF(result);
        Py_DECREF(argument);
        Py_DECREF(function);
    }
    return sum;
}

static void measure_call(void)
{
    double rounds[FLOOR_ROUNDS];
    PyObject *math = PyImport_ImportModule("math");
    PyObject *name = PyUnicode_InternFromString("sqrt");

    if (math == NULL || name == NULL)
        exit(1);
    for (int r = 0; r < FLOOR_ROUNDS; r++) {
        uint64_t start = ep_clock_ns();
        if (sqrt_calls(math, name) != 4.0 * CALLS)
            exit(1);
        rounds[r] = (double)(ep_clock_ns() - start) / CALLS;
    }
    floor_print("call", rounds);
}

static void make_ints(void)
{
    PyObject *list = PyList_New(INTS);

    if (list == NULL)
        exit(1);
    for (long i = 0; i < INTS; i++)
        PyList_SET_ITEM(list, i, PyLong_FromLong(i + 1));
    Py_DECREF(list);
}

static char keys[KEYS][16];

static void make_map(void)
{
    PyObject *dict = PyDict_New();

    if (dict == NULL)
        exit(1);
    for (long i = 0; i < KEYS; i++) {
        PyObject *key = PyUnicode_FromStringAndSize(keys[i], 8);
        PyObject *value = PyLong_FromLong(i);
        if (key == NULL || value == NULL || PyDict_SetItem(dict, key, value) < 0)
            exit(1);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    Py_DECREF(dict);
}

static void measure(const char *name, void (*make)(void))
{
    double rounds[FLOOR_ROUNDS];

    make();
    for (int r = 0; r < FLOOR_ROUNDS; r++) {
        uint64_t start = ep_clock_ns();
        make();
        rounds[r] = (double)(ep_clock_ns() - start);
    }
    floor_print(name, rounds);
}

int main(int argc, char **argv)
{
    Py_InitializeEx(0);
    if (argc == 2 && strcmp(argv[1], "call") == 0) {
        measure_call();
    } else if (argc == 2 && strcmp(argv[1], "convert") == 0) {
        for (int i = 0; i < KEYS; i++)
            (void)snprintf(keys[i], sizeof(keys[i]), "key_%04d", i);
        measure("ints", make_ints);
        measure("map", make_map);
    } else {
        (void)fprintf(stderr, "usage: floor_py call|convert\n");
        return 2;
    }
    return 0;
}
