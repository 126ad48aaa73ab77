/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_erl_term.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Atoms. Their names are kept in UTF-8. */

#define BUCKETS 1024u
#define ATOMS_MAX 65536u
#define NAME_MAX_BYTES 1020u
#define NAME_MAX_CHARACTERS 255u

struct atom {
    struct atom *next;
    size_t index, size;
    char name[]; /* a NUL follows */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct atom *buckets[BUCKETS];
static struct atom *atoms[ATOMS_MAX];
static size_t n_atoms;

static struct atom *make(const char *name, size_t size, struct atom *next)
{
    struct atom *atom = fake_alloc(sizeof(*atom) + size + 1);

    fake_must(n_atoms < ATOMS_MAX, "the table of atoms is full");
    *atom = (struct atom){.next = next, .size = size, .index = n_atoms};
    memcpy(atom->name, name, size);
    atom->name[size] = '\0';
    atoms[n_atoms++] = atom;
    return atom;
}

/* 0: there is none, and may_make is false. */
static ERL_NIF_TERM intern(const char *name, size_t size, bool may_make)
{
    unsigned bucket = 5381;

    for (size_t i = 0; i < size; i++)
        bucket = bucket * 33 + (unsigned char)name[i];
    bucket %= BUCKETS;
    pthread_mutex_lock(&lock);
    struct atom *atom = buckets[bucket];
    while (atom != NULL && (atom->size != size || memcmp(atom->name, name, size) != 0))
        atom = atom->next;
    if (atom == NULL && may_make)
        atom = buckets[bucket] = make(name, size, buckets[bucket]);
    pthread_mutex_unlock(&lock);
    return atom == NULL ? 0 : (ERL_NIF_TERM)atom->index << 6 | FAKE_TAG_ATOM;
}

/* How many bytes follow this one in UTF-8; negative: it begins no character. */
static int following(unsigned char c)
{
    return c < 0x80 ? 0 : c < 0xC2 ? -1 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : c < 0xF5 ? 3 : -1;
}

static bool fits_utf8(const char *name, size_t len)
{
    size_t characters = 0;

    for (size_t i = 0; i < len; characters++) {
        int n = following((unsigned char)name[i++]);
        if (n < 0 || (size_t)n > len - i)
            return false;
        for (; n > 0; n--)
            if (((unsigned char)name[i++] & 0xC0) != 0x80)
                return false;
    }
    return len <= NAME_MAX_BYTES && characters <= NAME_MAX_CHARACTERS;
}

static bool fits(const char *name, size_t len, ErlNifCharEncoding encoding)
{
    return encoding == ERL_NIF_LATIN1 ? len <= NAME_MAX_CHARACTERS : fits_utf8(name, len);
}

/* Any name that fits. */
static ERL_NIF_TERM intern_encoded(const char *name, size_t len, ErlNifCharEncoding encoding,
                                   bool may_make)
{
    char utf8[NAME_MAX_BYTES];
    size_t n = 0;

    if (encoding != ERL_NIF_LATIN1)
        return intern(name, len, may_make);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c >= 0x80)
            utf8[n++] = (char)(0xC0 | c >> 6);
        utf8[n++] = (char)(c < 0x80 ? c : 0x80 | (c & 0x3F));
    }
    return intern(utf8, n, may_make);
}

ERL_NIF_TERM enif_make_atom_len(ErlNifEnv *env, const char *name, size_t len)
{
    (void)env;
    return fits(name, len, ERL_NIF_LATIN1) ? intern_encoded(name, len, ERL_NIF_LATIN1, true)
                                           : FAKE_BADARG;
}

ERL_NIF_TERM enif_make_atom(ErlNifEnv *env, const char *name)
{
    return enif_make_atom_len(env, name, strlen(name));
}

int enif_make_existing_atom_len(ErlNifEnv *env, const char *name, size_t len, ERL_NIF_TERM *atom,
                                ErlNifCharEncoding encoding)
{
    (void)env;
    if (!fits(name, len, encoding))
        return 0;
    *atom = intern_encoded(name, len, encoding, false);
    return *atom != 0;
}

/* New in OTP 26 (NIF 2.17). */
#if ERL_NIF_MAJOR_VERSION > 2 || ERL_NIF_MINOR_VERSION >= 17
int enif_make_new_atom_len(ErlNifEnv *env, const char *name, size_t len, ERL_NIF_TERM *atom,
                           ErlNifCharEncoding encoding)
{
    (void)env;
    if (!fits(name, len, encoding))
        return 0;
    *atom = intern_encoded(name, len, encoding, true);
    return 1;
}
#endif

ERL_NIF_TERM fake_atom_of_utf8(const char *name, size_t len, bool may_make)
{
    return fits_utf8(name, len) ? intern(name, len, may_make) : 0;
}

int enif_is_atom(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return fake_is_atom(term);
}

const char *fake_atom_name(ERL_NIF_TERM term, size_t *ret_size)
{
    pthread_mutex_lock(&lock);
    const struct atom *atom = atoms[term >> 6];
    pthread_mutex_unlock(&lock);
    *ret_size = atom->size;
    return atom->name;
}

/* Returns the length in Latin-1, or a negative number: it is not, or there is no room. */
static int to_latin1(const char *utf8, size_t size, char *buf, unsigned len)
{
    unsigned n = 0;

    for (size_t i = 0; i < size; n++) {
        unsigned char c = (unsigned char)utf8[i++];
        if (c >= 0x80) {
            if ((c != 0xC2 && c != 0xC3) || i == size || ((unsigned char)utf8[i] & 0xC0) != 0x80)
                return -1;
            c = (unsigned char)((c & 3) << 6 | ((unsigned char)utf8[i++] & 0x3F));
        }
        if (n == len)
            return -1;
        buf[n] = (char)c;
    }
    return (int)n;
}

int enif_get_atom(ErlNifEnv *env, ERL_NIF_TERM term, char *buf, unsigned len,
                  ErlNifCharEncoding encoding)
{
    size_t size;

    (void)env;
    fake_must(encoding == ERL_NIF_LATIN1, "enif_get_atom() of this encoding is not there");
    if (!fake_is_atom(term) || len == 0)
        return 0;
    const char *name = fake_atom_name(term, &size);
    int n = to_latin1(name, size, buf, len - 1);
    if (n < 0)
        return 0;
    buf[n] = '\0';
    return n + 1;
}
