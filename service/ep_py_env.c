/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_internal.h"

/*
 * Namespaces by number. Numbers come from the VM's counter, so multiplying by a
 * large odd constant spreads them.
 */

static size_t home_of(const struct ep_py_envs *envs, uint64_t id)
{
    return (size_t)(id * 0x9E3779B97F4A7C15u >> 32) & (envs->capacity - 1);
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
    struct ep_py_envs larger = {.used = envs->used, .last = envs->last};

    if ((envs->used + 1) * 2 <= envs->capacity)
        return 0;
    larger.capacity = envs->capacity == 0 ? 16 : envs->capacity * 2;
    larger.entries = PyMem_RawCalloc(larger.capacity, sizeof(*larger.entries));
    if (larger.entries == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < envs->capacity; i++) {
        if (envs->entries[i].id != 0)
            place(&larger, envs->entries[i]);
    }
    PyMem_RawFree(envs->entries);
    *envs = larger;
    return 0;
}

static int add_standard_names(struct ep_py_context *context, PyObject *dict)
{
    if (PyDict_SetItemString(dict, "__name__", context->main_name) < 0
        || PyDict_SetItemString(dict, "__builtins__", context->builtins) < 0)
        return -1;
    return PyDict_SetItemString(dict, "erlang", context->erlang);
}

PyObject *ep_py_env_new_shared(struct ep_py_context *context)
{
    PyObject *dict = PyDict_New();

    if (dict != NULL && add_standard_names(context, dict) < 0)
        Py_CLEAR(dict);
    return dict;
}

PyObject *ep_py_env_get(struct ep_py_context *context, uint64_t env_id)
{
    struct ep_py_envs *envs = &context->envs;

    if (env_id == 0)
        return context->shared;
    if (env_id == envs->last.id)
        return envs->last.dict;
    struct ep_py_env_entry *entry = find(envs, env_id);
    if (entry != NULL) {
        envs->last = *entry;
        return entry->dict;
    }

    PyObject *dict = PyDict_Copy(context->shared);
    if (dict == NULL)
        return NULL;
    if (add_standard_names(context, dict) < 0 || make_room(envs) < 0) {
        Py_DECREF(dict);
        return NULL;
    }
    envs->last = (struct ep_py_env_entry){.id = env_id, .dict = dict};
    envs->used++;
    place(envs, envs->last);
    return dict;
}

void ep_py_env_drop(struct ep_py_envs *envs, uint64_t env_id)
{
    struct ep_py_env_entry *entry = env_id == 0 ? NULL : find(envs, env_id);
    size_t mask = envs->capacity - 1;

    if (entry == NULL)
        return;
    PyObject *dict = entry->dict;
    /* Moves later entries of the same run up, so that no probe stops early. */
    size_t hole = (size_t)(entry - envs->entries);
    for (size_t i = (hole + 1) & mask; envs->entries[i].id != 0; i = (i + 1) & mask) {
        size_t home = home_of(envs, envs->entries[i].id);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            envs->entries[hole] = envs->entries[i];
            hole = i;
        }
    }
    envs->entries[hole] = (struct ep_py_env_entry){.id = 0};
    envs->used--;
    if (envs->last.id == env_id)
        envs->last = (struct ep_py_env_entry){.id = 0};
    Py_DECREF(dict);
}

void ep_py_env_finish(struct ep_py_envs *envs)
{
    struct ep_py_envs old = *envs;

    *envs = (struct ep_py_envs){.capacity = 0};
    for (size_t i = 0; i < old.capacity; i++)
        Py_XDECREF(old.entries[i].dict);
    PyMem_RawFree(old.entries);
}
