/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_ENV_H
#define EP_PY_ENV_H

/*
 * ep_py_env - namespaces by number.
 */

#include "ep_python.h"

#include <pthread.h>
#include <stdint.h>

struct ep_py_context;

struct ep_py_env_entry {
    uint64_t id; /* 0: free */
    PyObject *space;
};

/* Open addressing with linear probing. A context's, and its guests'. The GIL guards
 * it, and without one the lock. */
struct ep_py_envs {
    unsigned refs;
    pthread_mutex_t lock;
    struct ep_py_env_entry *entries;
    size_t capacity; /* a power of two, or 0 */
    size_t used;
    struct ep_py_env_entry last; /* the one used last; borrowed */
};

struct ep_py_envs *ep_py_envs_create(void); /* raises */
struct ep_py_envs *ep_py_envs_ref(struct ep_py_envs *envs);
void ep_py_envs_unref(struct ep_py_envs *envs);

/* New; made when first seen. */
PyObject *ep_py_env_get(struct ep_py_context *context, uint64_t env_id);

/* Forgets a namespace and returns it (new), or NULL. */
PyObject *ep_py_env_drop(struct ep_py_envs *envs, uint64_t env_id);

/* Forgets all of them. */
void ep_py_env_clear(struct ep_py_envs *envs);

#endif
