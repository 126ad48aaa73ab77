/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the Python side of a call cannot beat: math.sqrt(16) through the C API, the
 * attribute looked up each time, the argument made and the result read. Prints
 * nanoseconds per call, the median of 21 rounds.
 */
#include <Python.h>

#include "ep_cpu.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 21
#define CALLS 100000

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    double rounds[ROUNDS], sum = 0;

    Py_InitializeEx(0);
    PyObject *math = PyImport_ImportModule("math");
    PyObject *name = PyUnicode_InternFromString("sqrt");
    if (math == NULL || name == NULL)
        return 1;
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t start = ep_clock_ns();
        for (int i = 0; i < CALLS; i++) {
            PyObject *function = PyObject_GetAttr(math, name);
            PyObject *argument = PyLong_FromLong(16);
            PyObject *result = PyObject_Vectorcall(function, &argument, 1, NULL);
            if (result == NULL)
                return 1;
            sum += PyFloat_AsDouble(result);
            Py_DECREF(result);
            Py_DECREF(argument);
            Py_DECREF(function);
        }
        rounds[r] = (double)(ep_clock_ns() - start) / CALLS;
    }
    qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
    printf("%.1f\n", rounds[ROUNDS / 2]);
    return sum == 4.0 * ROUNDS * CALLS ? 0 : 1;
}
