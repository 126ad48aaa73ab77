/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_title.h"

#include "ep_layout.h"
#include "ep_python.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/*
 * What ps shows of the process: what it is, and the names of its contexts, in the place of its
 * arguments.
 */

#define TITLE_NAME_MAX 48

static char *area; /* the arguments' own memory; NULL: it is not to be changed */
static size_t area_size;
static const char *program = "";
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char names[EP_LANES_MAX][TITLE_NAME_MAX]; /* under the mutex */

/* SUBTLE: the last byte stays NUL, or the system would take what lies behind for more of
 * it. */
static void show(void)
{
    size_t used = 0;

    if (area == NULL)
        return;
    memset(area, 0, area_size);
    int n = snprintf(area, area_size, "%s", program);
    for (size_t i = 0; i < EP_LANES_MAX && n >= 0 && (used += (size_t)n) < area_size; i++) {
        n = 0;
        if (names[i][0] != '\0')
            n = snprintf(area + used, area_size - used, "%s%s",
                         used == strlen(program) ? " " : ", ", names[i]);
    }
}

void ep_py_title_init(int argc, char **argv, const char *name)
{
    char *end = argv[0];

    program = name;
    (void)prctl(PR_SET_NAME, name);
    if (area != NULL) {
        show();
        return;
    }
    for (int i = 0; i < argc; i++) {
        if (argv[i] != end)
            return; /* not in one piece */
        end += strlen(end) + 1;
    }
    area = argv[0];
    area_size = (size_t)(end - area);
    show();
}

void ep_py_title_set(size_t lane, const char *name)
{
    (void)pthread_mutex_lock(&mutex);
    if (lane < EP_LANES_MAX) {
        (void)snprintf(names[lane], sizeof(names[lane]), "%s", name);
        show();
    }
    (void)pthread_mutex_unlock(&mutex);
}

PyObject *ep_py_title_show(PyObject *module, PyObject *args)
{
    unsigned lane;
    const char *name;

    (void)module;
    if (!PyArg_ParseTuple(args, "Is", &lane, &name))
        return NULL;
    ep_py_title_set(lane, name);
    Py_RETURN_NONE;
}
