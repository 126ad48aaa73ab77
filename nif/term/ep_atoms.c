/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_atoms.h"

#include <errno.h>
#include <string.h>

#define EP_ATOM_DEFINE(name) ERL_NIF_TERM am_##name;
EP_ATOMS(EP_ATOM_DEFINE)

ERL_NIF_TERM ep_term_zero;

/* The encoding argument ERL_NIF_UTF8 came with OTP 26 (NIF 2.17). */
#if ERL_NIF_MAJOR_VERSION > 2 || ERL_NIF_MINOR_VERSION >= 17
#define EP_HAVE_UTF8_ATOMS 1
#endif

void ep_atoms_init(ErlNifEnv *env)
{
#define EP_ATOM_INIT(name) am_##name = enif_make_atom(env, #name);
    EP_ATOMS(EP_ATOM_INIT)
    ep_term_zero = enif_make_int(env, 0);
}

ERL_NIF_TERM ep_atom_of_errno(ErlNifEnv *env, int error)
{
    static const struct {
        int error;
        const char *name;
    } names[] = {{EAGAIN, "eagain"}, {EBUSY, "ebusy"},         {EINVAL, "einval"},
                 {ENOMEM, "enomem"}, {EPROTO, "eproto"},       {ESRCH, "esrch"},
                 {ESTALE, "estale"}, {EPIPE, "epipe"},         {EMFILE, "emfile"},
                 {ENFILE, "enfile"}, {ETIMEDOUT, "etimedout"}, {EACCES, "eacces"},
                 {EPERM, "eperm"},   {ENOSYS, "enosys"},       {ENOSPC, "enospc"}};
    const char *name = "eio"; /* not in the contract of what we call */

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].error == error)
            name = names[i].name;
    return enif_make_atom(env, name);
}

#ifndef EP_HAVE_UTF8_ATOMS
/* Returns the length in Latin-1, or -1 if a character is beyond it. */
static int to_latin1(const uint8_t *utf8, size_t size, char latin1[256])
{
    int n = 0;

    for (size_t i = 0; i < size && n < 256; n++) {
        if (utf8[i] < 0x80) {
            latin1[n] = (char)utf8[i++];
        } else if ((utf8[i] == 0xC2 || utf8[i] == 0xC3) && i + 1 < size) {
            latin1[n] = (char)((utf8[i] & 3) << 6 | (utf8[i + 1] & 0x3F));
            i += 2;
        } else {
            return -1;
        }
    }
    return n;
}
#endif

#ifdef EP_HAVE_UTF8_ATOMS
static bool find_atom(ErlNifEnv *env, const uint8_t *utf8, size_t size, ERL_NIF_TERM *ret_atom)
{
    return size <= 1020
           && enif_make_existing_atom_len(env, (const char *)utf8, size, ret_atom, ERL_NIF_UTF8);
}

static bool make_atom(ErlNifEnv *env, const uint8_t *utf8, size_t size, ERL_NIF_TERM *ret_atom)
{
    return size <= 1020
           && enif_make_new_atom_len(env, (const char *)utf8, size, ret_atom, ERL_NIF_UTF8);
}
#else
/* In the external format, for names beyond Latin-1: ATOM_UTF8, built by us. */
static bool read_atom(ErlNifEnv *env, const uint8_t *utf8, size_t size, ErlNifBinaryToTerm options,
                      ERL_NIF_TERM *ret_atom)
{
    uint8_t bytes[1024] = {131, 118, (uint8_t)(size >> 8), (uint8_t)size};

    if (size > 1020)
        return false;
    memcpy(bytes + 4, utf8, size);
    return enif_binary_to_term(env, bytes, size + 4, ret_atom, options) != 0
           && enif_is_atom(env, *ret_atom);
}

static bool find_atom(ErlNifEnv *env, const uint8_t *utf8, size_t size, ERL_NIF_TERM *ret_atom)
{
    char name[256];
    int n = size > 510 ? -1 : to_latin1(utf8, size, name);

    if (n > 255)
        return false;
    return n >= 0 ? enif_make_existing_atom_len(env, name, (size_t)n, ret_atom, ERL_NIF_LATIN1) != 0
                  : read_atom(env, utf8, size, ERL_NIF_BIN2TERM_SAFE, ret_atom);
}

static bool make_atom(ErlNifEnv *env, const uint8_t *utf8, size_t size, ERL_NIF_TERM *ret_atom)
{
    char name[256];
    int n = size > 510 ? -1 : to_latin1(utf8, size, name);

    if (n < 0)
        return read_atom(env, utf8, size, 0, ret_atom);
    if (n > 255)
        return false;
    *ret_atom = enif_make_atom_len(env, name, (size_t)n);
    return enif_is_atom(env, *ret_atom);
}
#endif

bool ep_atom_from_worker(struct ep_vm *vm, ErlNifEnv *env, const uint8_t *utf8, size_t size,
                         ERL_NIF_TERM *ret_atom)
{
    if (find_atom(env, utf8, size, ret_atom))
        return true;
    /* Relaxed: a budget, not an order. */
    if (atomic_fetch_add_explicit(&vm->atoms_made, 1, memory_order_relaxed)
            < atomic_load_explicit(&vm->max_atoms, memory_order_relaxed)
        && make_atom(env, utf8, size, ret_atom))
        return true;
    atomic_fetch_sub_explicit(&vm->atoms_made, 1, memory_order_relaxed);
    return false;
}

static int read_name(ErlNifEnv *env, ERL_NIF_TERM atom, uint8_t name[1024], size_t *ret_size)
{
    char latin1[256];

    /* Latin-1 works on every release and for nearly every atom. */
    int n = enif_get_atom(env, atom, latin1, sizeof(latin1), ERL_NIF_LATIN1);
    if (n > 0) {
        size_t size = 0;
        for (int i = 0; i < n - 1; i++) {
            uint8_t c = (uint8_t)latin1[i];
            if (c < 0x80) {
                name[size++] = c;
            } else {
                name[size++] = (uint8_t)(0xC0 | c >> 6);
                name[size++] = (uint8_t)(0x80 | (c & 0x3F));
            }
        }
        *ret_size = size;
        return 0;
    }

    /* SMALL_ATOM_UTF8 or ATOM_UTF8 behind the version byte. */
    ErlNifBinary bin;
    if (!enif_term_to_binary(env, atom, &bin))
        return -ENOMEM;
    int rc = -EINVAL;
    size_t head = bin.size > 2 && bin.data[1] == 119 ? 3 : 4;
    if (bin.size >= head && (bin.data[1] == 119 || bin.data[1] == 118) && bin.size - head <= 1020) {
        memcpy(name, bin.data + head, bin.size - head);
        *ret_size = bin.size - head;
        rc = 0;
    }
    enif_release_binary(&bin);
    return rc;
}

/* Names of the atoms that a scheduler thread has met last: an atom keeps its name for
 * the life of the VM, and reading it takes ten times as long as this. */
#define CACHED_NAMES 64u /* a power of two */
#define CACHED_SIZE 23u

struct cached_name {
    ERL_NIF_TERM atom; /* 0: none */
    uint8_t size;
    uint8_t bytes[CACHED_SIZE];
};

static _Thread_local struct cached_name cached_names[CACHED_NAMES];

const uint8_t *ep_atom_name(ErlNifEnv *env, ERL_NIF_TERM atom, uint8_t scratch[1024],
                            size_t *ret_size)
{
    /* The low bits of an atom are the tag. */
    struct cached_name *entry = &cached_names[(atom >> 6 ^ atom >> 12) % CACHED_NAMES];

    if (entry->atom == atom) {
        *ret_size = entry->size;
        return entry->bytes;
    }
    if (!enif_is_atom(env, atom) || read_name(env, atom, scratch, ret_size) < 0)
        return NULL;
    if (*ret_size <= CACHED_SIZE) {
        entry->atom = atom;
        entry->size = (uint8_t)*ret_size;
        memcpy(entry->bytes, scratch, *ret_size);
    }
    return scratch;
}
