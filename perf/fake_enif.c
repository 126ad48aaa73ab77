/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_enif.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { INT, FLOAT, ATOM, NIL, CELL, TUPLE, MAP, RESOURCE };

struct term {
    enum kind kind;
    union {
        long integer;
        double real;
        const char *name;
        void *object;
        struct {
            ERL_NIF_TERM head, tail;
        } cell;
        struct {
            unsigned arity;
            ERL_NIF_TERM elements[7];
        } tuple;
    } u;
};

#define TERMS_MAX 4096

static struct term terms[TERMS_MAX];
static unsigned n_terms, n_kept, n_messages;

static struct term *make(enum kind kind)
{
    if (n_terms == TERMS_MAX)
        abort();
    struct term *term = &terms[n_terms++];
    term->kind = kind;
    return term;
}

static struct term *at(ERL_NIF_TERM term)
{
    return (struct term *)term;
}

static ERL_NIF_TERM name_of(struct term *term)
{
    return (ERL_NIF_TERM)term;
}

void fake_keep(void)
{
    n_kept = n_terms;
}

void fake_reset(void)
{
    n_terms = n_kept;
}

ERL_NIF_TERM fake_int(long value)
{
    struct term *term = make(INT);
    term->u.integer = value;
    return name_of(term);
}

ERL_NIF_TERM fake_empty_map(void)
{
    return name_of(make(MAP));
}

double fake_float(ERL_NIF_TERM term)
{
    if (at(term)->kind != FLOAT)
        abort();
    return at(term)->u.real;
}

ERL_NIF_TERM fake_element(ERL_NIF_TERM tuple, unsigned i)
{
    if (at(tuple)->kind != TUPLE || i >= at(tuple)->u.tuple.arity)
        abort();
    return at(tuple)->u.tuple.elements[i];
}

unsigned fake_messages(void)
{
    return n_messages;
}

/* --- what nif/ calls ----------------------------------------------------------------- */

ERL_NIF_TERM enif_make_atom(ErlNifEnv *env, const char *name)
{
    (void)env;
    for (unsigned i = 0; i < n_kept; i++)
        if (terms[i].kind == ATOM && strcmp(terms[i].u.name, name) == 0)
            return name_of(&terms[i]);
    struct term *term = make(ATOM);
    term->u.name = name;
    return name_of(term);
}

int enif_is_atom(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return at(term)->kind == ATOM;
}

int enif_get_atom(ErlNifEnv *env, ERL_NIF_TERM term, char *buf, unsigned size,
                  ErlNifCharEncoding encoding)
{
    (void)env;
    (void)encoding;
    unsigned needed = (unsigned)strlen(at(term)->u.name) + 1;
    if (needed > size)
        return 0;
    memcpy(buf, at(term)->u.name, needed);
    return (int)needed;
}

ErlNifTermType enif_term_type(ErlNifEnv *env, ERL_NIF_TERM term)
{
    static const ErlNifTermType types[] = {
        [INT] = ERL_NIF_TERM_TYPE_INTEGER, [FLOAT] = ERL_NIF_TERM_TYPE_FLOAT,
        [ATOM] = ERL_NIF_TERM_TYPE_ATOM,   [NIL] = ERL_NIF_TERM_TYPE_LIST,
        [CELL] = ERL_NIF_TERM_TYPE_LIST,   [TUPLE] = ERL_NIF_TERM_TYPE_TUPLE,
        [MAP] = ERL_NIF_TERM_TYPE_MAP,     [RESOURCE] = ERL_NIF_TERM_TYPE_REFERENCE};

    (void)env;
    return types[at(term)->kind];
}

int enif_is_identical(ERL_NIF_TERM a, ERL_NIF_TERM b)
{
    return a == b;
}

int enif_inspect_binary(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifBinary *bin)
{
    (void)env;
    (void)term;
    (void)bin;
    return 0;
}

int enif_get_uint(ErlNifEnv *env, ERL_NIF_TERM term, unsigned *ip)
{
    (void)env;
    if (at(term)->kind != INT)
        return 0;
    *ip = (unsigned)at(term)->u.integer;
    return 1;
}

/* ErlNifSInt64 is long on 64-bit systems, where enif_get_int64 is enif_get_long. */
int enif_get_long(ErlNifEnv *env, ERL_NIF_TERM term, long *ip)
{
    (void)env;
    if (at(term)->kind != INT)
        return 0;
    *ip = at(term)->u.integer;
    return 1;
}

ERL_NIF_TERM enif_make_int(ErlNifEnv *env, int value)
{
    (void)env;
    return fake_int(value);
}

ERL_NIF_TERM enif_make_long(ErlNifEnv *env, long value)
{
    (void)env;
    return fake_int(value);
}

ERL_NIF_TERM enif_make_ulong(ErlNifEnv *env, unsigned long value)
{
    (void)env;
    return fake_int((long)value);
}

ERL_NIF_TERM enif_make_double(ErlNifEnv *env, double value)
{
    (void)env;
    struct term *term = make(FLOAT);
    term->u.real = value;
    return name_of(term);
}

int enif_is_list(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return at(term)->kind == CELL || at(term)->kind == NIL;
}

int enif_is_empty_list(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return at(term)->kind == NIL;
}

int enif_get_list_length(ErlNifEnv *env, ERL_NIF_TERM term, unsigned *len)
{
    (void)env;
    for (*len = 0; at(term)->kind == CELL; ++*len)
        term = at(term)->u.cell.tail;
    return at(term)->kind == NIL;
}

int enif_get_list_cell(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM *head, ERL_NIF_TERM *tail)
{
    (void)env;
    if (at(term)->kind != CELL)
        return 0;
    *head = at(term)->u.cell.head;
    *tail = at(term)->u.cell.tail;
    return 1;
}

ERL_NIF_TERM enif_make_list(ErlNifEnv *env, unsigned count, ...)
{
    (void)env;
    if (count != 0)
        abort();
    return name_of(make(NIL));
}

ERL_NIF_TERM enif_make_list_cell(ErlNifEnv *env, ERL_NIF_TERM head, ERL_NIF_TERM tail)
{
    (void)env;
    struct term *term = make(CELL);
    term->u.cell.head = head;
    term->u.cell.tail = tail;
    return name_of(term);
}

ERL_NIF_TERM enif_make_tuple(ErlNifEnv *env, unsigned count, ...)
{
    struct term *term = make(TUPLE);
    va_list elements;

    (void)env;
    va_start(elements, count);
    term->u.tuple.arity = count;
    for (unsigned i = 0; i < count; i++)
        term->u.tuple.elements[i] = va_arg(elements, ERL_NIF_TERM);
    va_end(elements);
    return name_of(term);
}

int enif_get_map_size(ErlNifEnv *env, ERL_NIF_TERM term, size_t *size)
{
    (void)env;
    *size = 0;
    return at(term)->kind == MAP;
}

void *enif_alloc(size_t size)
{
    return malloc(size);
}

void enif_free(void *memory)
{
    free(memory);
}

/* Resources are never freed here: a run has a handful, and calls are reused. */
void *enif_alloc_resource(ErlNifResourceType *type, size_t size)
{
    static _Alignas(64) unsigned char calls[64];

    (void)type;
    return size <= sizeof(calls) ? calls : aligned_alloc(64, (size + 63) / 64 * 64);
}

ERL_NIF_TERM enif_make_resource(ErlNifEnv *env, void *object)
{
    (void)env;
    struct term *term = make(RESOURCE);
    term->u.object = object;
    return name_of(term);
}

int enif_get_resource(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifResourceType *type, void **objp)
{
    (void)env;
    (void)type;
    if (at(term)->kind != RESOURCE)
        return 0;
    *objp = at(term)->u.object;
    return 1;
}

void enif_release_resource(void *object)
{
    (void)object;
}

void enif_keep_resource(void *object)
{
    (void)object;
}

int enif_monitor_process(ErlNifEnv *env, void *object, const ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)env;
    (void)object;
    (void)pid;
    (void)monitor;
    return 0;
}

ErlNifPid *enif_self(ErlNifEnv *env, ErlNifPid *pid)
{
    (void)env;
    pid->pid = 1;
    return pid;
}

int enif_is_process_alive(ErlNifEnv *env, ErlNifPid *pid)
{
    (void)env;
    (void)pid;
    return 1;
}

/* Of pids, by the macro enif_compare_pids. */
int enif_compare(ERL_NIF_TERM a, ERL_NIF_TERM b)
{
    return (a > b) - (a < b);
}

int enif_thread_type(void)
{
    return ERL_NIF_THR_NORMAL_SCHEDULER;
}

int enif_consume_timeslice(ErlNifEnv *env, int percent)
{
    (void)env;
    (void)percent;
    return 0;
}

ErlNifEnv *enif_alloc_env(void)
{
    static char env;
    return (ErlNifEnv *)&env;
}

void enif_free_env(ErlNifEnv *env)
{
    (void)env;
}

ERL_NIF_TERM enif_make_copy(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return term;
}

int enif_send(ErlNifEnv *env, const ErlNifPid *to, ErlNifEnv *msg_env, ERL_NIF_TERM msg)
{
    (void)env;
    (void)to;
    (void)msg_env;
    (void)msg;
    n_messages++;
    return 1;
}
