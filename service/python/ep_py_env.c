/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_env.h"

#include "ep_hash.h"
#include "ep_py_context_fields.h"
#include "ep_py_space.h"
#include "ep_python.h"

/* Namespaces by number. Numbers come from the VM's counter. */

static size_t home_of(const struct ep_py_envs *envs, uint64_t id)
{
    return (size_t)(ep_hash_number(id) >> 32) & (envs->capacity - 1);
}

static struct ep_py_env_entry *find(const struct ep_py_envs *envs, uint64_t id)
{
    if (envs->capacity == 0)
        return NULL;
    for (size_t i = home_of(envs, id);; i = (i + 1) & (envs->capacity - 1)) {
        if (envs->entries[i].id == id)
            return &envs->entries[i];
        if (envs->entries[i].id == 0)
            return NULL;
    }
}

static void place(struct ep_py_envs *envs, struct ep_py_env_entry entry)
{
    size_t i = home_of(envs, entry.id);

    while (envs->entries[i].id != 0)
        i = (i + 1) & (envs->capacity - 1);
    envs->entries[i] = entry;
}

static int make_room(struct ep_py_envs *envs)
{
    struct ep_py_env_entry *former = envs->entries;
    size_t capacity = envs->capacity;

    if ((envs->used + 1) * 2 <= capacity)
        return 0;
    size_t larger = capacity == 0 ? 16 : capacity * 2;
    struct ep_py_env_entry *entries = PyMem_RawCalloc(larger, sizeof(*entries));
    if (entries == NULL)
        return -1;
    envs->entries = entries;
    envs->capacity = larger;
    for (size_t i = 0; i < capacity; i++) {
        if (former[i].id != 0)
            place(envs, former[i]);
    }
    PyMem_RawFree(former);
    return 0;
}

static void lock(struct ep_py_envs *envs)
{
#ifdef Py_GIL_DISABLED
    (void)pthread_mutex_lock(&envs->lock);
#else
    (void)envs;
#endif
}

static void unlock(struct ep_py_envs *envs)
{
#ifdef Py_GIL_DISABLED
    (void)pthread_mutex_unlock(&envs->lock);
#else
    (void)envs;
#endif
}

struct ep_py_envs *ep_py_envs_create(void)
{
    struct ep_py_envs *envs = PyMem_RawCalloc(1, sizeof(*envs));

    if (envs == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    envs->refs = 1;
    (void)pthread_mutex_init(&envs->lock, NULL);
    return envs;
}

struct ep_py_envs *ep_py_envs_ref(struct ep_py_envs *envs)
{
    lock(envs);
    envs->refs++;
    unlock(envs);
    return envs;
}

void ep_py_envs_unref(struct ep_py_envs *envs)
{
    if (envs == NULL)
        return;
    lock(envs);
    bool is_last = --envs->refs == 0;
    unlock(envs);
    if (!is_last)
        return;
    ep_py_env_clear(envs);
    (void)pthread_mutex_destroy(&envs->lock);
    PyMem_RawFree(envs);
}

/* Borrowed, or NULL. */
static PyObject *look_up(struct ep_py_envs *envs, uint64_t env_id)
{
    if (env_id != envs->last.id) {
        struct ep_py_env_entry *entry = find(envs, env_id);
        if (entry == NULL)
            return NULL;
        envs->last = *entry;
    }
    return envs->last.space;
}

PyObject *ep_py_env_get(struct ep_py_context *context, uint64_t env_id)
{
    struct ep_py_envs *envs = context->envs;

    if (env_id == 0)
        return Py_NewRef(context->shared);
    lock(envs);
    PyObject *space = Py_XNewRef(look_up(envs, env_id));
    unlock(envs);
    if (space != NULL)
        return space;

    space = ep_py_space_new(context);
    if (space == NULL)
        return NULL;
    /* Making it may have run other code, and another thread may have come first. */
    lock(envs);
    PyObject *found = Py_XNewRef(look_up(envs, env_id));
    bool is_full = found == NULL && make_room(envs) < 0;
    if (found == NULL && !is_full) {
        envs->last = (struct ep_py_env_entry){.id = env_id, .space = Py_NewRef(space)};
        envs->used++;
        place(envs, envs->last);
    }
    unlock(envs);
    if (found == NULL && !is_full)
        return space;
    Py_DECREF(space);
    return is_full ? PyErr_NoMemory() : found;
}

/* Moves later entries of the same run up, so that no probe stops early. */
static void close_hole(struct ep_py_envs *envs, size_t hole)
{
    size_t mask = envs->capacity - 1;

    for (size_t i = (hole + 1) & mask; envs->entries[i].id != 0; i = (i + 1) & mask) {
        size_t home = home_of(envs, envs->entries[i].id);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            envs->entries[hole] = envs->entries[i];
            hole = i;
        }
    }
    envs->entries[hole] = (struct ep_py_env_entry){.id = 0};
}

PyObject *ep_py_env_drop(struct ep_py_envs *envs, uint64_t env_id)
{
    PyObject *space = NULL;

    lock(envs);
    struct ep_py_env_entry *entry = env_id == 0 ? NULL : find(envs, env_id);
    if (entry != NULL) {
        space = entry->space;
        close_hole(envs, (size_t)(entry - envs->entries));
        envs->used--;
        if (envs->last.id == env_id)
            envs->last = (struct ep_py_env_entry){.id = 0};
    }
    unlock(envs);
    return space;
}

void ep_py_env_clear(struct ep_py_envs *envs)
{
    lock(envs);
    struct ep_py_env_entry *entries = envs->entries;
    size_t capacity = envs->capacity;
    envs->entries = NULL;
    envs->capacity = envs->used = 0;
    envs->last = (struct ep_py_env_entry){.id = 0};
    unlock(envs);
    for (size_t i = 0; i < capacity; i++)
        Py_XDECREF(entries[i].space);
    PyMem_RawFree(entries);
}
