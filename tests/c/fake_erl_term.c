/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_erl_term.h"

#include <string.h>

/* --- environments --------------------------------------------------------------------- */
ErlNifEnv *fake_env_alloc(ERL_NIF_TERM pid)
{
    ErlNifEnv *env = malloc(sizeof(*env));

    fake_must(env != NULL, "no memory");
    env->pid = pid;
    env->heap = NULL;
    fake_count(&fake_live.envs, 1);
    return env;
}

ErlNifEnv *enif_alloc_env(void)
{
    return fake_env_alloc(0);
}

static void drop_bytes(struct fake_bytes *bytes)
{
    if (__atomic_sub_fetch(&bytes->references, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    free(bytes->data);
    free(bytes);
    fake_count(&fake_live.binaries, -1);
}

static void free_term(struct fake_term *term)
{
    switch (term->kind) {
    case FAKE_BIG: free(term->u.big.digits); break;
    case FAKE_BINARY: drop_bytes(term->u.binary.bytes); break;
    case FAKE_TUPLE:
    case FAKE_MAP: free(term->u.elements); break;
    case FAKE_RESOURCE: fake_resource_release(term->u.resource); break;
    case FAKE_SCHEDULED: free(term->u.scheduled.argv); break;
    default: break;
    }
    free(term);
}

void fake_heap_free(struct fake_heap *heap)
{
    long n = 0;

    if (heap == NULL)
        return;
    for (struct fake_term *term = heap->first, *next; term != NULL; term = next, n++) {
        next = term->next;
        free_term(term);
    }
    free(heap);
    fake_count(&fake_live.terms, -n);
}

void enif_clear_env(ErlNifEnv *env)
{
    struct fake_heap *heap = env->heap;

    env->heap = NULL;
    fake_heap_free(heap);
}

void enif_free_env(ErlNifEnv *env)
{
    enif_clear_env(env);
    free(env);
    fake_count(&fake_live.envs, -1);
}

/* Whether a term may stand in one of env. */
void fake_check_home(const ErlNifEnv *env, ERL_NIF_TERM term)
{
    fake_must(term != 0 && term != FAKE_BADARG, "something that is no term in a term");
    fake_must(!fake_is_boxed(term) || ((struct fake_term *)term)->heap == env->heap,
              "a term of another environment in a term");
}

struct fake_heap *fake_env_give_heap(ErlNifEnv *env, ERL_NIF_TERM term)
{
    struct fake_heap *heap = env->heap;

    fake_check_home(env, term);
    env->heap = NULL;
    return heap;
}

ErlNifEnv *fake_env_of_heap(struct fake_heap *heap)
{
    ErlNifEnv *env = enif_alloc_env();

    env->heap = heap;
    return env;
}

struct fake_term *fake_make(ErlNifEnv *env, enum fake_kind kind)
{
    struct fake_term *term = calloc(1, sizeof(*term));

    fake_must(env != NULL && term != NULL, "a term without an environment, or no memory");
    if (env->heap == NULL)
        env->heap = calloc(1, sizeof(*env->heap));
    fake_must(env->heap != NULL, "no memory");
    term->kind = kind;
    term->heap = env->heap;
    term->next = env->heap->first;
    env->heap->first = term;
    fake_count(&fake_live.terms, 1);
    return term;
}

/* --- numbers -------------------------------------------------------------------------- */
ERL_NIF_TERM enif_make_long(ErlNifEnv *env, long value)
{
    if (value >= -FAKE_SMALL_MAX && value <= FAKE_SMALL_MAX)
        return (ERL_NIF_TERM)value << 4 | FAKE_TAG_SMALL;
    struct fake_term *term = fake_make(env, FAKE_INT);
    term->u.integer = value;
    return (ERL_NIF_TERM)term;
}

ERL_NIF_TERM enif_make_int(ErlNifEnv *env, int value)
{
    return enif_make_long(env, value);
}

ERL_NIF_TERM enif_make_uint(ErlNifEnv *env, unsigned value)
{
    return enif_make_long(env, value);
}

ERL_NIF_TERM fake_make_digits(ErlNifEnv *env, bool negative, const unsigned char *digits,
                              size_t count)
{
    struct fake_term *term = fake_make(env, FAKE_BIG);

    term->count = count;
    term->u.big.negative = negative;
    term->u.big.digits = malloc(count);
    fake_must(term->u.big.digits != NULL, "no memory");
    memcpy(term->u.big.digits, digits, count);
    return (ERL_NIF_TERM)term;
}

ERL_NIF_TERM enif_make_ulong(ErlNifEnv *env, unsigned long value)
{
    if (value <= INT64_MAX)
        return enif_make_long(env, (long)value);
    return fake_make_digits(env, false, (const unsigned char *)&value, sizeof(value));
}

int enif_get_long(ErlNifEnv *env, ERL_NIF_TERM term, long *ip)
{
    (void)env;
    if (fake_is_small(term)) {
        *ip = (long)term >> 4;
        return 1;
    }
    const struct fake_term *t = fake_at(term, FAKE_INT);
    if (t == NULL)
        return 0;
    *ip = t->u.integer;
    return 1;
}

int enif_get_ulong(ErlNifEnv *env, ERL_NIF_TERM term, unsigned long *ip)
{
    const struct fake_term *big = fake_at(term, FAKE_BIG);
    long value;

    if (big != NULL && !big->u.big.negative && big->count == sizeof(*ip)) {
        memcpy(ip, big->u.big.digits, sizeof(*ip));
        return 1;
    }
    if (!enif_get_long(env, term, &value) || value < 0)
        return 0;
    *ip = (unsigned long)value;
    return 1;
}

int enif_get_uint(ErlNifEnv *env, ERL_NIF_TERM term, unsigned *ip)
{
    long value;

    if (!enif_get_long(env, term, &value) || value < 0 || value > UINT32_MAX)
        return 0;
    *ip = (unsigned)value;
    return 1;
}

ERL_NIF_TERM enif_make_double(ErlNifEnv *env, double value)
{
    struct fake_term *term = fake_make(env, FAKE_FLOAT);

    fake_must(value - value == 0.0, "a float that is not finite");
    term->u.real = value;
    return (ERL_NIF_TERM)term;
}

int enif_get_double(ErlNifEnv *env, ERL_NIF_TERM term, double *dp)
{
    const struct fake_term *t = fake_at(term, FAKE_FLOAT);

    (void)env;
    if (t == NULL)
        return 0;
    *dp = t->u.real;
    return 1;
}

/* --- binaries ------------------------------------------------------------------------- */
ERL_NIF_TERM fake_make_view(ErlNifEnv *env, struct fake_bytes *bytes, const unsigned char *data,
                            size_t size)
{
    struct fake_term *term = fake_make(env, FAKE_BINARY);

    term->count = size;
    term->u.binary.bytes = bytes;
    term->u.binary.data = data;
    return (ERL_NIF_TERM)term;
}

unsigned char *enif_make_new_binary(ErlNifEnv *env, size_t size, ERL_NIF_TERM *termp)
{
    if (fake_memory_fails(size))
        return NULL;
    struct fake_bytes *bytes = malloc(sizeof(*bytes));
    fake_must(bytes != NULL, "no memory");
    bytes->references = 1;
    /* Just that many, so that a sanitizer sees one more. */
    bytes->data = malloc(size);
    fake_must(bytes->data != NULL, "no memory");
    fake_count(&fake_live.binaries, 1);
    *termp = fake_make_view(env, bytes, bytes->data, size);
    return bytes->data;
}

ERL_NIF_TERM enif_make_sub_binary(ErlNifEnv *env, ERL_NIF_TERM bin_term, size_t pos, size_t size)
{
    struct fake_term *whole = fake_at(bin_term, FAKE_BINARY);

    fake_check_home(env, bin_term);
    fake_must(whole != NULL && pos <= whole->count && size <= whole->count - pos,
              "a part outside of a binary");
    (void)__atomic_add_fetch(&whole->u.binary.bytes->references, 1, __ATOMIC_RELAXED);
    return fake_make_view(env, whole->u.binary.bytes, whole->u.binary.data + pos, size);
}

int enif_inspect_binary(ErlNifEnv *env, ERL_NIF_TERM bin_term, ErlNifBinary *bin)
{
    const struct fake_term *term = fake_at(bin_term, FAKE_BINARY);

    (void)env;
    if (term == NULL)
        return 0;
    memset(bin, 0, sizeof(*bin));
    bin->size = term->count;
    bin->data = (unsigned char *)term->u.binary.data;
    return 1;
}

int enif_is_binary(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return fake_at(term, FAKE_BINARY) != NULL;
}

void enif_release_binary(ErlNifBinary *bin)
{
    free(bin->data);
    fake_count(&fake_live.binaries, -1);
    memset(bin, 0, sizeof(*bin));
}

/* --- lists and tuples ----------------------------------------------------------------- */
ERL_NIF_TERM enif_make_list(ErlNifEnv *env, unsigned cnt, ...)
{
    (void)env;
    fake_must(cnt == 0, "enif_make_list() of elements is not there");
    return FAKE_NIL;
}

ERL_NIF_TERM enif_make_list_cell(ErlNifEnv *env, ERL_NIF_TERM car, ERL_NIF_TERM cdr)
{
    fake_check_home(env, car);
    fake_check_home(env, cdr);
    struct fake_term *term = fake_make(env, FAKE_CELL);
    term->u.cell[0] = car;
    term->u.cell[1] = cdr;
    return (ERL_NIF_TERM)term;
}

ERL_NIF_TERM enif_make_list_from_array(ErlNifEnv *env, const ERL_NIF_TERM arr[], unsigned cnt)
{
    ERL_NIF_TERM list = FAKE_NIL;

    while (cnt-- > 0)
        list = enif_make_list_cell(env, arr[cnt], list);
    return list;
}

ERL_NIF_TERM enif_make_string(ErlNifEnv *env, const char *string, ErlNifCharEncoding encoding)
{
    ERL_NIF_TERM list = FAKE_NIL;

    (void)encoding;
    for (size_t i = strlen(string); i > 0; i--)
        list = enif_make_list_cell(env, enif_make_int(env, (unsigned char)string[i - 1]), list);
    return list;
}

int enif_is_list(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return term == FAKE_NIL || fake_at(term, FAKE_CELL) != NULL;
}

int enif_is_empty_list(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return term == FAKE_NIL;
}

int enif_get_list_cell(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM *head, ERL_NIF_TERM *tail)
{
    const struct fake_term *cell = fake_at(term, FAKE_CELL);

    (void)env;
    if (cell == NULL)
        return 0;
    *head = cell->u.cell[0];
    *tail = cell->u.cell[1];
    return 1;
}

int enif_get_list_length(ErlNifEnv *env, ERL_NIF_TERM term, unsigned *len)
{
    const struct fake_term *cell;

    (void)env;
    for (*len = 0; (cell = fake_at(term, FAKE_CELL)) != NULL; ++*len)
        term = cell->u.cell[1];
    return term == FAKE_NIL;
}

ERL_NIF_TERM *fake_copy_array(const ERL_NIF_TERM *terms, size_t n)
{
    ERL_NIF_TERM *copy = malloc(n * sizeof(*copy));

    fake_must(copy != NULL, "no memory");
    if (n > 0)
        memcpy(copy, terms, n * sizeof(*copy));
    return copy;
}

ERL_NIF_TERM enif_make_tuple_from_array(ErlNifEnv *env, const ERL_NIF_TERM arr[], unsigned cnt)
{
    for (unsigned i = 0; i < cnt; i++)
        fake_check_home(env, arr[i]);
    struct fake_term *term = fake_make(env, FAKE_TUPLE);
    term->count = cnt;
    term->u.elements = fake_copy_array(arr, cnt);
    return (ERL_NIF_TERM)term;
}

ERL_NIF_TERM enif_make_tuple(ErlNifEnv *env, unsigned cnt, ...)
{
    ERL_NIF_TERM elements[16];
    va_list list;

    fake_must(cnt <= 16, "too many elements");
    va_start(list, cnt);
    for (unsigned i = 0; i < cnt; i++)
        elements[i] = va_arg(list, ERL_NIF_TERM);
    va_end(list);
    return enif_make_tuple_from_array(env, elements, cnt);
}

int enif_get_tuple(ErlNifEnv *env, ERL_NIF_TERM tpl, int *arity, const ERL_NIF_TERM **array)
{
    const struct fake_term *term = fake_at(tpl, FAKE_TUPLE);

    (void)env;
    if (term == NULL)
        return 0;
    *arity = (int)term->count;
    *array = term->u.elements;
    return 1;
}

/* --- references and types ---------------------------------------------------------------- */
ERL_NIF_TERM fake_make_ref(ErlNifEnv *env, uint64_t number)
{
    struct fake_term *term = fake_make(env, FAKE_REF);

    term->u.number = number;
    return (ERL_NIF_TERM)term;
}

ERL_NIF_TERM fake_make_resource(ErlNifEnv *env, struct fake_resource *resource)
{
    struct fake_term *term = fake_make(env, FAKE_RESOURCE);

    fake_resource_keep(resource);
    term->u.resource = resource;
    return (ERL_NIF_TERM)term;
}

ERL_NIF_TERM enif_make_resource(ErlNifEnv *env, void *obj)
{
    return fake_make_resource(env, fake_resource_of(obj));
}

/* A binary that refers to the memory of a resource; the faked VM has no such thing, and copies. */
ERL_NIF_TERM enif_make_resource_binary(ErlNifEnv *env, void *obj, const void *data, size_t size)
{
    ERL_NIF_TERM term;
    unsigned char *bytes = enif_make_new_binary(env, size, &term);

    (void)obj;
    if (size > 0)
        memcpy(bytes, data, size);
    return term;
}

int enif_is_ref(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return fake_at(term, FAKE_REF) != NULL || fake_at(term, FAKE_RESOURCE) != NULL;
}

void *fake_resource(ERL_NIF_TERM term)
{
    const struct fake_term *t = fake_at(term, FAKE_RESOURCE);

    return t == NULL ? NULL : fake_resource_object(t->u.resource);
}

int enif_get_resource(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifResourceType *type, void **objp)
{
    const struct fake_term *t = fake_at(term, FAKE_RESOURCE);

    (void)env;
    if (t == NULL || fake_resource_type(t->u.resource) != type)
        return 0;
    *objp = fake_resource_object(t->u.resource);
    return 1;
}

ErlNifTermType enif_term_type(ErlNifEnv *env, ERL_NIF_TERM term)
{
    static const ErlNifTermType types[] = {
        [FAKE_INT] = ERL_NIF_TERM_TYPE_INTEGER,
        [FAKE_BIG] = ERL_NIF_TERM_TYPE_INTEGER,
        [FAKE_FLOAT] = ERL_NIF_TERM_TYPE_FLOAT,
        [FAKE_BINARY] = ERL_NIF_TERM_TYPE_BITSTRING,
        [FAKE_CELL] = ERL_NIF_TERM_TYPE_LIST,
        [FAKE_TUPLE] = ERL_NIF_TERM_TYPE_TUPLE,
        [FAKE_MAP] = ERL_NIF_TERM_TYPE_MAP,
        [FAKE_REF] = ERL_NIF_TERM_TYPE_REFERENCE,
        [FAKE_RESOURCE] = ERL_NIF_TERM_TYPE_REFERENCE,
    };

    (void)env;
    if (fake_is_small(term))
        return ERL_NIF_TERM_TYPE_INTEGER;
    if (fake_is_atom(term))
        return ERL_NIF_TERM_TYPE_ATOM;
    if (fake_is_pid(term))
        return ERL_NIF_TERM_TYPE_PID;
    if (term == FAKE_NIL)
        return ERL_NIF_TERM_TYPE_LIST;
    fake_must(fake_is_boxed(term) && ((struct fake_term *)term)->kind != FAKE_SCHEDULED,
              "not a term");
    return types[((struct fake_term *)term)->kind];
}
