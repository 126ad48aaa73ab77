/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fuzz target: the VM's decoder of terms. Any bytes decode to a term or to an error. A term
 * needs no more heap than its budget, and a number no more than two words; encoded, with handles beside it, and decoded again it
 * is the same. Input: the budget, two bytes of 16 words each; a byte whose low bit says
 * whether large binaries refer to the message; the message.
 */
#include "ep_etf.h"
#include "ep_term_decode.h"
#include "ep_term_encode.h"
#include "fake_erl_nif.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *__asan_default_options(void);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A float, or an integer of 64 bits: the decoder does not count a number that stands alone. */
#define NUMBER_WORDS ((size_t)2)

static struct ep_vm *vm;
static ErlNifPid pid;
static struct fake_counts before;

const char *__asan_default_options(void)
{
    return "quarantine_size_mb=8:malloc_context_size=8";
}

static void must(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "term_fuzz: %s\n", what);
    abort();
}

static int decode(ErlNifEnv *env, const uint8_t *data, size_t size, size_t max_words, bool refers,
                  ERL_NIF_TERM *ret_term)
{
    struct ep_source source = {
        .is_scheduler = true, .start = data, .size = size, .max_words = max_words};
    struct ep_etf_cursor cursor;

    if (refers) {
        unsigned char *bytes = enif_make_new_binary(env, size, &source.source_term);
        memcpy(bytes, data, size);
        source.start = bytes;
    }
    ep_etf_cursor_init(&cursor, source.start, size);
    int rc = ep_term_decode(vm, env, &cursor, &source, ret_term);
    must(cursor.at >= source.start && cursor.at <= cursor.end, "the cursor has left the input");
    return rc;
}

/* As the arguments of a call or the result of a callback would. */
static void encode(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_buf *buf)
{
    struct ep_encoder encoder = {
        .vm = vm, .env = env, .buf = buf, .terms_left = SIZE_MAX, .bytes_max = SIZE_MAX};
    struct ep_fault fault;

    ep_buf_init(buf, NULL, 0, EP_MESSAGE_MAX);
    must(ep_term_encode(&encoder, term, "result", false, &fault) == 0, "it does not encode");
}

static void there_and_back(ErlNifEnv *env, ERL_NIF_TERM term)
{
    ERL_NIF_TERM handles = enif_make_tuple2(env, enif_make_pid(env, &pid), fake_make_ref(env, 7));
    ERL_NIF_TERM list = enif_make_list_cell(env, handles, enif_make_list(env, 0));
    ERL_NIF_TERM all = enif_make_list_cell(env, term, list), again;
    struct ep_buf buf;

    encode(env, all, &buf);
    int rc = decode(env, buf.data, buf.length, SIZE_MAX, false, &again);
    must(rc == 0 && fake_equal(all, again), "it comes back as something else");
    ep_buf_finish(&buf);
}

/* How deep a list or tuple lies; what is too deep with two levels around it is refused. */
static bool is_deep(const uint8_t *data, size_t size)
{
    return size > EP_ETF_DEPTH_MAX - 4 && data != NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fake_set_threads(FAKE_THREADS_HELD);
    fake_load();
    vm = fake_priv_data();
    atomic_store(&vm->max_atoms, 256);
    memset(vm->seal_key, 1, sizeof(vm->seal_key));
    pid = fake_spawn();
    before = fake_living();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int errors[] = {-EPROTO, -EOVERFLOW, -EEXIST, -EFBIG, -ENOMEM};
    ERL_NIF_TERM term;
    bool is_known = false;

    if (size < 3)
        return 0;
    size_t max_words = 16 * ((size_t)data[0] << 8 | data[1]);
    ErlNifEnv *env = enif_alloc_env();
    int rc = decode(env, data + 3, size - 3, max_words, (data[2] & 1) != 0, &term);
    if (rc == 0) {
        ErlNifTermType type = enif_term_type(env, term);
        bool is_number = type == ERL_NIF_TERM_TYPE_INTEGER || type == ERL_NIF_TERM_TYPE_FLOAT;
        size_t bound = is_number && max_words < NUMBER_WORDS ? NUMBER_WORDS : max_words;
        must(fake_heap_words(term) <= bound, "it takes more than its budget");
        if (!is_deep(data, size))
            there_and_back(env, term);
    }
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        is_known = is_known || rc == errors[i];
    must(rc == 0 || is_known, "an error that is not in the contract");
    enif_free_env(env);
    struct fake_counts after = fake_living();
    must(memcmp(&before, &after, sizeof(after)) == 0, "something is left");
    return 0;
}
