/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FAKE_ERL_TERM_H
#define FAKE_ERL_TERM_H

/*
 * fake_erl_term - between the files of the fake of erl_nif: what terms are.
 */

#include "fake_erl_nif.h"

enum fake_kind {
    FAKE_INT, /* beyond a word, or below */
    FAKE_BIG,
    FAKE_FLOAT,
    FAKE_BINARY,
    FAKE_CELL,
    FAKE_TUPLE,
    FAKE_MAP,
    FAKE_REF,
    FAKE_RESOURCE,
    FAKE_SCHEDULED,
};

/* Bytes that terms share. */
struct fake_bytes {
    long references;
    unsigned char *data;
};

struct fake_term {
    struct fake_heap *heap;
    struct fake_term *next;
    enum fake_kind kind;
    size_t count; /* of elements, pairs, digits, bytes */
    union {
        int64_t integer;
        double real;
        uint64_t number;
        struct fake_resource *resource;
        ERL_NIF_TERM cell[2];
        struct {
            struct fake_bytes *bytes;
            const unsigned char *data;
        } binary;
        struct {
            unsigned char *digits; /* little-endian, without leading zeroes */
            bool negative;
        } big;
        ERL_NIF_TERM *elements; /* of a map: keys in order, then their values */
        struct fake_scheduled {
            ERL_NIF_TERM (*function)(ErlNifEnv *, int, const ERL_NIF_TERM[]);
            const char *name;
            ERL_NIF_TERM *argv;
            int flags;
        } scheduled;
    } u;
};

struct fake_heap {
    struct fake_term *first;
};

struct enif_environment_t {
    struct fake_heap *heap;
    ERL_NIF_TERM pid; /* 0: of no process */
};

/* Words that are terms themselves, with the tags of the VM. */
#define FAKE_TAG_SMALL 0xFu
#define FAKE_TAG_ATOM 0xBu
#define FAKE_TAG_PID 0x3u
#define FAKE_NIL 0x3Bu
#define FAKE_BADARG 0x7Bu
#define FAKE_SMALL_MAX ((INT64_C(1) << 59) - 1)

static inline bool fake_is_boxed(ERL_NIF_TERM term)
{
    return (term & 7) == 0 && term != 0;
}

static inline bool fake_is_small(ERL_NIF_TERM term)
{
    return (term & 0xF) == FAKE_TAG_SMALL;
}

static inline bool fake_is_atom(ERL_NIF_TERM term)
{
    return (term & 0x3F) == FAKE_TAG_ATOM;
}

static inline bool fake_is_pid(ERL_NIF_TERM term)
{
    return (term & 0xF) == FAKE_TAG_PID;
}

/* NULL: it is no term of that kind. */
static inline struct fake_term *fake_at(ERL_NIF_TERM term, enum fake_kind kind)
{
    struct fake_term *t = (struct fake_term *)term;
    return fake_is_boxed(term) && t->kind == kind ? t : NULL;
}

/* Ends the program if it is not so. */
void fake_must(bool good, const char *what);

/* malloc() that does not fail, for what is the fake's own. */
void *fake_alloc(size_t size);

/* Whether this allocation of the library fails. */
bool fake_memory_fails(size_t size);

extern struct fake_counts fake_live;
void fake_count(long *count, long n);

/* fake_erl_term.c */
struct fake_term *fake_make(ErlNifEnv *env, enum fake_kind kind);
ERL_NIF_TERM fake_make_digits(ErlNifEnv *env, bool negative, const unsigned char *digits,
                              size_t count);
ERL_NIF_TERM fake_make_view(ErlNifEnv *env, struct fake_bytes *bytes, const unsigned char *data,
                            size_t size);
ERL_NIF_TERM fake_make_resource(ErlNifEnv *env, struct fake_resource *resource);
ERL_NIF_TERM *fake_copy_array(const ERL_NIF_TERM *terms, size_t n);
void fake_check_home(const ErlNifEnv *env, ERL_NIF_TERM term);
ErlNifEnv *fake_env_alloc(ERL_NIF_TERM pid);

/* Takes the terms of env, one of which is term, out of it: a message. */
struct fake_heap *fake_env_give_heap(ErlNifEnv *env, ERL_NIF_TERM term);
ErlNifEnv *fake_env_of_heap(struct fake_heap *heap);
void fake_heap_free(struct fake_heap *heap);

/* In UTF-8. */
const char *fake_atom_name(ERL_NIF_TERM atom, size_t *ret_size);

/* 0: no name of an atom, or there is none and may_make is false. */
ERL_NIF_TERM fake_atom_of_utf8(const char *name, size_t len, bool may_make);

/* fake_erl_nif.c */
struct fake_resource *fake_resource_of(const void *object);
void *fake_resource_object(struct fake_resource *resource);
ErlNifResourceType *fake_resource_type(const struct fake_resource *resource);
uint64_t fake_resource_id(const struct fake_resource *resource);
void fake_resource_keep(struct fake_resource *resource);
void fake_resource_release(struct fake_resource *resource);

/* Keeps the resource with that id, or returns NULL. */
struct fake_resource *fake_resource_find(uint64_t id);

/* With their messages. */
void fake_free_processes(void);

#endif
