/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_arrays.h"

#include "ep_arrays.h"
#include "ep_atoms.h"
#include "ep_cargo.h"
#include "ep_encoding.h"

#include <errno.h>
#include <string.h>

/* Bytes that a normal scheduler copies or clears. */
#define COPY_MAX (64u << 10)
/* A binary of this size refers to the memory of the array. */
#define REFER_MIN (64u << 10)

static bool is_long(uint64_t bytes)
{
    return bytes > COPY_MAX && !ep_encoding_is_dirty();
}

/* --- arguments ------------------------------------------------------------------------ */

static bool get_dtype(ErlNifEnv *env, ERL_NIF_TERM term, uint8_t *ret_dtype)
{
    char name[16];

    if (enif_get_atom(env, term, name, sizeof(name), ERL_NIF_LATIN1) == 0)
        return false;
    for (unsigned i = 0; i < EP_DTYPES; i++) {
        if (strcmp(name, ep_dtype_name(i)) == 0) {
            *ret_dtype = (uint8_t)i;
            return true;
        }
    }
    return false;
}

static bool get_shape(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_array_info *info)
{
    const ERL_NIF_TERM *sizes;
    ErlNifUInt64 size;
    int ndim;

    if (!enif_get_tuple(env, term, &ndim, &sizes) || ndim > (int)EP_ARRAY_DIMS_MAX)
        return false;
    for (int i = 0; i < ndim; i++) {
        if (!enif_get_uint64(env, sizes[i], &size))
            return false;
        info->dims[i] = size;
    }
    info->ndim = (uint8_t)ndim;
    return true;
}

static ERL_NIF_TERM no_memory(ErlNifEnv *env)
{
    static const char message[] = "no shared memory is left below max_shared_bytes";

    return ep_term_python_error(env, am_MemoryError, (const uint8_t *)message, sizeof(message) - 1,
                                false);
}

static ERL_NIF_TERM error(ErlNifEnv *env, ERL_NIF_TERM reason)
{
    return enif_make_tuple2(env, am_error, reason);
}

static ERL_NIF_TERM give(ErlNifEnv *env, struct ep_array *array)
{
    ERL_NIF_TERM term = enif_make_resource(env, array);

    enif_release_resource(array);
    return enif_make_tuple2(env, am_ok, term);
}

/* --- making ------------------------------------------------------------------------------- */

/* array_from_binary(Bin, Dtype, Shape) -> {ok, Array} | {error, Reason} */
PY_NIF(array_from_binary_nif)
{
    struct ep_array_info info = {.id = 0};
    struct ep_array *array;
    ErlNifBinary bin;

    if (!enif_inspect_binary(env, argv[0], &bin) || !get_dtype(env, argv[1], &info.dtype)
        || !get_shape(env, argv[2], &info)
        || !ep_array_size(info.dtype, info.ndim, info.dims, &info.nbytes)
        || info.nbytes != bin.size)
        return enif_make_badarg(env);
    if (is_long(info.nbytes))
        return enif_schedule_nif(env, "array_from_binary", ERL_NIF_DIRTY_JOB_CPU_BOUND,
                                 array_from_binary_nif, argc, argv);
    if (ep_arrays_make(py_nif_vm(env), &info, &array) < 0)
        return no_memory(env);
    if (bin.size > 0)
        memcpy(array->mem, bin.data, bin.size);
    /* Release: whoever finds it sealed finds its contents. */
    atomic_store_explicit(&array->state, EP_ARRAY_SEALED, memory_order_release);
    return give(env, array);
}

/* array_new(Dtype, Shape) -> {ok, Array} | {error, Reason}: zeros, OPEN, the caller's */
PY_NIF(array_new_nif)
{
    struct ep_array_info info = {.id = 0};
    struct ep_array *array;

    if (!get_dtype(env, argv[0], &info.dtype) || !get_shape(env, argv[1], &info))
        return enif_make_badarg(env);
    if (!ep_array_size(info.dtype, info.ndim, info.dims, &info.nbytes))
        return no_memory(env);
    if (is_long(info.nbytes))
        return enif_schedule_nif(env, "array_new", ERL_NIF_DIRTY_JOB_CPU_BOUND, array_new_nif, argc,
                                 argv);
    if (ep_arrays_make(py_nif_vm(env), &info, &array) < 0)
        return no_memory(env);
    memset(array->mem, 0, info.nbytes);
    (void)enif_self(env, &array->owner);
    if (enif_monitor_process(env, array, &array->owner, &array->monitor) != 0)
        atomic_store_explicit(&array->state, EP_ARRAY_LOST, memory_order_release);
    return give(env, array);
}

/* 0: it is the caller's and OPEN; else why not. */
static ERL_NIF_TERM why_not_open(ErlNifEnv *env, const struct ep_array *array)
{
    ErlNifPid self;

    switch (atomic_load_explicit(&array->state, memory_order_acquire)) {
    case EP_ARRAY_SEALED: return enif_make_atom(env, "sealed");
    case EP_ARRAY_LOST: return enif_make_atom(env, "lost");
    default: break;
    }
    (void)enif_self(env, &self);
    return enif_compare_pids(&self, &array->owner) == 0 ? 0 : enif_make_atom(env, "not_owner");
}

/* array_write(Array, Offset, Bin) -> ok | {error, sealed | not_owner | lost} */
PY_NIF(array_write_nif)
{
    struct ep_array *array = ep_array_of(env, argv[0]);
    ErlNifUInt64 offset;
    ErlNifBinary bin;

    if (array == NULL || !enif_get_uint64(env, argv[1], &offset)
        || !enif_inspect_binary(env, argv[2], &bin) || offset > array->info.nbytes
        || bin.size > array->info.nbytes - offset)
        return enif_make_badarg(env);
    ERL_NIF_TERM why = why_not_open(env, array);
    if (why != 0)
        return error(env, why);
    if (is_long(bin.size))
        return enif_schedule_nif(env, "array_write", ERL_NIF_DIRTY_JOB_CPU_BOUND, array_write_nif,
                                 argc, argv);
    if (bin.size > 0)
        memcpy(array->mem + offset, bin.data, bin.size);
    return am_ok;
}

/* array_seal(Array) -> ok | {error, not_owner | lost} */
PY_NIF(array_seal_nif)
{
    struct ep_array *array = ep_array_of(env, argv[0]);
    uint8_t state = EP_ARRAY_OPEN;

    (void)argc;
    if (array == NULL)
        return enif_make_badarg(env);
    if (atomic_load_explicit(&array->state, memory_order_acquire) == EP_ARRAY_SEALED)
        return am_ok;
    ERL_NIF_TERM why = why_not_open(env, array);
    if (why != 0)
        return error(env, why);
    if (!atomic_compare_exchange_strong_explicit(&array->state, &state, EP_ARRAY_SEALED,
                                                 memory_order_acq_rel, memory_order_acquire))
        return error(env, enif_make_atom(env, "lost"));
    (void)enif_demonitor_process(env, array, &array->monitor);
    return am_ok;
}

/* --- reading --------------------------------------------------------------------------------- */

/* Why nobody may read it; 0: all may. */
static ERL_NIF_TERM why_not_sealed(ErlNifEnv *env, const struct ep_array *array)
{
    switch (atomic_load_explicit(&array->state, memory_order_acquire)) {
    case EP_ARRAY_SEALED: return 0;
    case EP_ARRAY_OPEN: return enif_make_atom(env, "not_sealed");
    default: return enif_make_atom(env, "lost");
    }
}

/* array_to_binary(Array) -> {ok, Bin} | {error, not_sealed | lost | Reason} */
PY_NIF(array_to_binary_nif)
{
    struct ep_array *array = ep_array_of(env, argv[0]);
    ERL_NIF_TERM term;

    if (array == NULL)
        return enif_make_badarg(env);
    ERL_NIF_TERM why = why_not_sealed(env, array);
    if (why != 0)
        return error(env, why);
    size_t size = array->info.nbytes;
    /* SUBTLE: only of memory that no worker process can write. A binary never changes. */
    if (size >= REFER_MIN && ep_arrays_is_own(array))
        return enif_make_tuple2(env, am_ok,
                                enif_make_resource_binary(env, array, array->mem, size));
    if (is_long(size))
        return enif_schedule_nif(env, "array_to_binary", ERL_NIF_DIRTY_JOB_CPU_BOUND,
                                 array_to_binary_nif, argc, argv);
    unsigned char *bytes = enif_make_new_binary(env, size, &term);
    if (bytes == NULL)
        return no_memory(env);
    if (size > 0)
        memcpy(bytes, array->mem, size);
    return enif_make_tuple2(env, am_ok, term);
}

/* array_slice(Array, Start, Length) -> {ok, Array} | {error, not_sealed | lost | Reason} */
PY_NIF(array_slice_nif)
{
    struct ep_array *array = ep_array_of(env, argv[0]);
    ErlNifUInt64 start, length;
    struct ep_array *slice;

    (void)argc;
    if (array == NULL || array->info.ndim == 0 || !enif_get_uint64(env, argv[1], &start)
        || !enif_get_uint64(env, argv[2], &length) || start > array->info.dims[0]
        || length > array->info.dims[0] - start)
        return enif_make_badarg(env);
    ERL_NIF_TERM why = why_not_sealed(env, array);
    if (why != 0)
        return error(env, why);
    struct ep_array_info info = array->info;
    uint64_t row = info.dims[0] == 0 ? 0 : info.nbytes / info.dims[0];
    info.dims[0] = length;
    info.nbytes = row * length;
    info.offset += row * start;
    if (ep_arrays_slice(array, &info, &slice) < 0)
        return no_memory(env);
    return give(env, slice);
}

/* array_info(Term) -> {Dtype, Shape, Bytes, State, Owner, Workers} | false */
PY_NIF(array_info_nif)
{
    static const char *const states[] = {"open", "sealed", "lost"};
    struct ep_array *array = enif_is_ref(env, argv[0]) ? ep_array_of(env, argv[0]) : NULL;
    ERL_NIF_TERM sizes[EP_ARRAY_DIMS_MAX];

    (void)argc;
    if (array == NULL)
        return am_false;
    for (unsigned i = 0; i < array->info.ndim; i++)
        sizes[i] = enif_make_uint64(env, array->info.dims[i]);
    unsigned state = atomic_load_explicit(&array->state, memory_order_acquire);
    return enif_make_tuple6(
        env, enif_make_atom(env, ep_dtype_name(array->info.dtype)),
        enif_make_tuple_from_array(env, sizes, array->info.ndim),
        enif_make_uint64(env, array->info.nbytes), enif_make_atom(env, states[state]),
        state == EP_ARRAY_OPEN ? enif_make_pid(env, &array->owner) : am_undefined,
        enif_make_uint(env, ep_arrays_holders(array)));
}

/* arrays() -> {Count, Bytes, HighWater, Max} */
PY_NIF(arrays_nif)
{
    struct ep_arrays_totals totals = ep_arrays_totals(py_nif_vm(env));

    (void)argc;
    (void)argv;
    return enif_make_tuple4(env, enif_make_uint64(env, totals.count),
                            enif_make_uint64(env, totals.bytes), enif_make_uint64(env, totals.high),
                            enif_make_uint64(env, totals.most));
}

/* set_max_shared_bytes(N) -> ok */
PY_NIF(set_max_shared_bytes_nif)
{
    ErlNifUInt64 most;

    (void)argc;
    if (!enif_get_uint64(env, argv[0], &most))
        return enif_make_badarg(env);
    ep_arrays_set_max(py_nif_vm(env), most);
    return am_ok;
}
