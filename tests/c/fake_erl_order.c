/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_erl_term.h"

#include <inttypes.h>
#include <string.h>

/* What looks at whole terms: order, maps, copies, the external format. */

/* --- order ---------------------------------------------------------------------------- */
static int order(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_big(const struct fake_term *a, const struct fake_term *b)
{
    if (a->u.big.negative != b->u.big.negative)
        return a->u.big.negative ? -1 : 1;
    int rc = order(a->count, b->count);
    for (size_t i = a->count; rc == 0 && i-- > 0;)
        rc = order(a->u.big.digits[i], b->u.big.digits[i]);
    return a->u.big.negative ? -rc : rc;
}

/* Of terms of one kind; any order does in which only equal terms are equal, but for integers. */
static int compare_boxed(const struct fake_term *a, const struct fake_term *b)
{
    if (a->kind == FAKE_BIG)
        return compare_big(a, b);
    int rc = order(a->count, b->count);
    if (rc != 0)
        return rc;
    switch (a->kind) {
    case FAKE_FLOAT: return memcmp(&a->u.real, &b->u.real, sizeof(double));
    case FAKE_BINARY:
        return a->count == 0 ? 0 : memcmp(a->u.binary.data, b->u.binary.data, a->count);
    case FAKE_RESOURCE:
        return order(fake_resource_id(a->u.resource), fake_resource_id(b->u.resource));
    default: return order(a->u.number, b->u.number); /* also FAKE_INT */
    }
}

/* Exact: 1 and 1.0 are different. */
static int compare(ERL_NIF_TERM a, ERL_NIF_TERM b)
{
    for (;;) {
        if (a == b)
            return 0;
        if (!fake_is_boxed(a) || !fake_is_boxed(b))
            return fake_is_boxed(a) - fake_is_boxed(b) != 0 ? fake_is_boxed(a) - fake_is_boxed(b)
                                                            : order(a, b);
        const struct fake_term *x = (struct fake_term *)a, *y = (struct fake_term *)b;
        if (x->kind != y->kind)
            return order(x->kind, y->kind);
        if (x->kind == FAKE_CELL) {
            int rc = compare(x->u.cell[0], y->u.cell[0]);
            if (rc != 0)
                return rc;
            a = x->u.cell[1];
            b = y->u.cell[1];
            continue;
        }
        if (x->kind != FAKE_TUPLE && x->kind != FAKE_MAP)
            return compare_boxed(x, y);
        if (x->count != y->count)
            return order(x->count, y->count);
        size_t n = x->kind == FAKE_MAP ? 2 * x->count : x->count;
        for (size_t i = 0; i < n; i++) {
            int rc = compare(x->u.elements[i], y->u.elements[i]);
            if (rc != 0)
                return rc;
        }
        return 0;
    }
}

bool fake_equal(ERL_NIF_TERM a, ERL_NIF_TERM b)
{
    return compare(a, b) == 0;
}

int enif_compare(ERL_NIF_TERM lhs, ERL_NIF_TERM rhs)
{
    return compare(lhs, rhs);
}

int enif_is_identical(ERL_NIF_TERM lhs, ERL_NIF_TERM rhs)
{
    return fake_equal(lhs, rhs);
}

/* --- maps ----------------------------------------------------------------------------- */
static int compare_pairs(const void *a, const void *b)
{
    return compare(*(const ERL_NIF_TERM *)a, *(const ERL_NIF_TERM *)b);
}

int enif_make_map_from_arrays(ErlNifEnv *env, ERL_NIF_TERM keys[], ERL_NIF_TERM values[],
                              size_t cnt, ERL_NIF_TERM *map_out)
{
    ERL_NIF_TERM(*pairs)[2] = malloc(cnt * sizeof(*pairs) + 1);
    bool is_unique = true;

    fake_must(pairs != NULL, "no memory");
    for (size_t i = 0; i < cnt; i++) {
        fake_check_home(env, keys[i]);
        fake_check_home(env, values[i]);
        pairs[i][0] = keys[i];
        pairs[i][1] = values[i];
    }
    if (cnt > 0)
        qsort(pairs, cnt, sizeof(*pairs), compare_pairs);
    for (size_t i = 1; i < cnt; i++)
        is_unique = is_unique && compare(pairs[i - 1][0], pairs[i][0]) != 0;
    if (is_unique) {
        struct fake_term *term = fake_make(env, FAKE_MAP);
        term->count = cnt;
        term->u.elements = malloc(2 * cnt * sizeof(ERL_NIF_TERM));
        fake_must(term->u.elements != NULL, "no memory");
        for (size_t i = 0; i < cnt; i++) {
            term->u.elements[i] = pairs[i][0];
            term->u.elements[cnt + i] = pairs[i][1];
        }
        *map_out = (ERL_NIF_TERM)term;
    }
    free(pairs);
    return is_unique;
}

int enif_is_map(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return fake_at(term, FAKE_MAP) != NULL;
}

int enif_get_map_size(ErlNifEnv *env, ERL_NIF_TERM term, size_t *size)
{
    const struct fake_term *map = fake_at(term, FAKE_MAP);

    (void)env;
    if (map == NULL)
        return 0;
    *size = map->count;
    return 1;
}

/* An iterator that is not destroyed is a leak of memory in the VM, too. */
int enif_map_iterator_create(ErlNifEnv *env, ERL_NIF_TERM map, ErlNifMapIterator *iter,
                             ErlNifMapIteratorEntry entry)
{
    const struct fake_term *term = fake_at(map, FAKE_MAP);

    (void)env;
    (void)entry;
    if (term == NULL)
        return 0;
    memset(iter, 0, sizeof(*iter));
    iter->map = map;
    iter->size = term->count;
    iter->u.hash.wstack = malloc(1);
    fake_count(&fake_live.iterators, 1);
    return 1;
}

void enif_map_iterator_destroy(ErlNifEnv *env, ErlNifMapIterator *iter)
{
    (void)env;
    free(iter->u.hash.wstack);
    fake_count(&fake_live.iterators, -1);
}

int enif_map_iterator_get_pair(ErlNifEnv *env, ErlNifMapIterator *iter, ERL_NIF_TERM *key,
                               ERL_NIF_TERM *value)
{
    (void)env;
    if (iter->idx >= iter->size)
        return 0;
    *key = fake_at(iter->map, FAKE_MAP)->u.elements[iter->idx];
    *value = fake_at(iter->map, FAKE_MAP)->u.elements[iter->size + iter->idx];
    return 1;
}

int enif_map_iterator_next(ErlNifEnv *env, ErlNifMapIterator *iter)
{
    (void)env;
    if (iter->idx < iter->size)
        iter->idx++;
    return iter->idx < iter->size;
}

/* --- copies --------------------------------------------------------------------------- */
static ERL_NIF_TERM copy_container(ErlNifEnv *env, const struct fake_term *from)
{
    size_t n = from->kind == FAKE_MAP ? 2 * from->count : from->count;
    struct fake_term *to = fake_make(env, from->kind);

    to->u.elements = fake_copy_array(from->u.elements, n);
    to->count = from->count;
    for (size_t i = 0; i < n; i++)
        to->u.elements[i] = enif_make_copy(env, from->u.elements[i]);
    return (ERL_NIF_TERM)to;
}

static ERL_NIF_TERM copy_list(ErlNifEnv *env, ERL_NIF_TERM list)
{
    ERL_NIF_TERM copy = 0, *end = &copy;

    for (struct fake_term *cell; (cell = fake_at(list, FAKE_CELL)) != NULL;
         list = cell->u.cell[1]) {
        struct fake_term *to = fake_make(env, FAKE_CELL);
        to->u.cell[0] = enif_make_copy(env, cell->u.cell[0]);
        *end = (ERL_NIF_TERM)to;
        end = &to->u.cell[1];
    }
    *end = enif_make_copy(env, list);
    return copy;
}

ERL_NIF_TERM enif_make_copy(ErlNifEnv *dst_env, ERL_NIF_TERM src_term)
{
    const struct fake_term *from = (struct fake_term *)src_term;

    if (!fake_is_boxed(src_term))
        return src_term;
    switch (from->kind) {
    case FAKE_INT: return enif_make_long(dst_env, from->u.integer);
    case FAKE_BIG:
        return fake_make_digits(dst_env, from->u.big.negative, from->u.big.digits, from->count);
    case FAKE_FLOAT: return enif_make_double(dst_env, from->u.real);
    case FAKE_BINARY:
        (void)__atomic_add_fetch(&from->u.binary.bytes->references, 1, __ATOMIC_RELAXED);
        return fake_make_view(dst_env, from->u.binary.bytes, from->u.binary.data, from->count);
    case FAKE_CELL: return copy_list(dst_env, src_term);
    case FAKE_REF: return fake_make_ref(dst_env, from->u.number);
    case FAKE_RESOURCE: return fake_make_resource(dst_env, from->u.resource);
    case FAKE_TUPLE:
    case FAKE_MAP: return copy_container(dst_env, from);
    default: fake_must(false, "a copy of what was scheduled");
    }
    return 0;
}

/* --- the external format ----------------------------------------------------------------- */

/* Of pids and references, bytes that mean something here only. */
#define VERSION 131
#define TAG_ATOM_BYTES 118
#define TAG_PID_BYTES 103
#define TAG_REF_BYTES 90
#define TAG_RESOURCE_BYTES 91
#define TAG_SMALL_BIG_BYTES 110
#define TAG_LARGE_BIG_BYTES 111

/* The VM has no larger integers, in bytes. */
#define BIG_MAX ((size_t)524287 * 8)

static int give_bytes(unsigned tag, const void *head, size_t head_size, const void *bytes,
                      size_t size, ErlNifBinary *bin)
{
    memset(bin, 0, sizeof(*bin));
    bin->size = 2 + head_size + size;
    bin->data = fake_alloc(bin->size);
    bin->data[0] = VERSION;
    bin->data[1] = (unsigned char)tag;
    memcpy(bin->data + 2, head, head_size);
    memcpy(bin->data + 2 + head_size, bytes, size);
    fake_count(&fake_live.binaries, 1);
    return 1;
}

int enif_term_to_binary(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifBinary *bin)
{
    const struct fake_term *t = (struct fake_term *)term;
    unsigned char head[5] = {0};

    (void)env;
    if (fake_memory_fails(0))
        return 0;
    if (fake_is_pid(term))
        return give_bytes(TAG_PID_BYTES, head, 0, &term, sizeof(term), bin);
    if (fake_is_atom(term)) {
        size_t size;
        const char *name = fake_atom_name(term, &size);
        head[0] = (unsigned char)(size >> 8);
        head[1] = (unsigned char)size;
        return give_bytes(TAG_ATOM_BYTES, head, 2, name, size, bin);
    }
    fake_must(fake_is_boxed(term), "enif_term_to_binary() of this kind is not there");
    switch (t->kind) {
    case FAKE_REF:
        return give_bytes(TAG_REF_BYTES, head, 0, &t->u.number, sizeof(t->u.number), bin);
    case FAKE_RESOURCE: {
        uint64_t id = fake_resource_id(t->u.resource);
        return give_bytes(TAG_RESOURCE_BYTES, head, 0, &id, sizeof(id), bin);
    }
    case FAKE_BIG: {
        bool is_small = t->count < 256;
        uint32_t count = is_small ? (uint32_t)t->count : __builtin_bswap32((uint32_t)t->count);
        size_t size = is_small ? 1 : 4;
        memcpy(head, &count, size);
        head[size] = t->u.big.negative;
        return give_bytes(is_small ? TAG_SMALL_BIG_BYTES : TAG_LARGE_BIG_BYTES, head, size + 1,
                          t->u.big.digits, t->count, bin);
    }
    default: fake_must(false, "enif_term_to_binary() of this kind is not there");
    }
    return 0;
}

static size_t read_big(ErlNifEnv *env, const unsigned char *data, size_t size, size_t head,
                       size_t count, ERL_NIF_TERM *term)
{
    uint64_t value = 0;
    size_t n = count;

    if (size < head + count)
        return 0;
    bool negative = data[head - 1] != 0;
    const unsigned char *digits = data + head;
    while (n > 0 && digits[n - 1] == 0)
        n--;
    if (n > BIG_MAX)
        return 0;
    if (n <= sizeof(value))
        memcpy(&value, digits, n);
    if (n > sizeof(value) || value > (uint64_t)INT64_MAX + negative)
        *term = fake_make_digits(env, negative, digits, n);
    else
        *term = enif_make_long(env, (long)(negative ? 0 - value : value));
    return head + count;
}

static size_t read_word(ErlNifEnv *env, const unsigned char *data, size_t size, ERL_NIF_TERM *term)
{
    uint64_t word;

    if (size < 2 + sizeof(word))
        return 0;
    memcpy(&word, data + 2, sizeof(word));
    struct fake_resource *resource =
        data[1] == TAG_RESOURCE_BYTES ? fake_resource_find(word) : NULL;
    if (data[1] == TAG_PID_BYTES)
        *term = word;
    else if (resource == NULL)
        *term = fake_make_ref(env, word);
    else
        *term = fake_make_resource(env, resource);
    if (resource != NULL)
        fake_resource_release(resource);
    return 2 + sizeof(word);
}

/* Returns how many bytes the term takes; 0: it is none. */
size_t enif_binary_to_term(ErlNifEnv *env, const unsigned char *data, size_t sz, ERL_NIF_TERM *term,
                           unsigned opts)
{
    uint32_t count;

    if (sz < 4 || data[0] != VERSION)
        return 0;
    switch (data[1]) {
    case TAG_ATOM_BYTES:
        count = (uint32_t)data[2] << 8 | data[3];
        if (count > sz - 4)
            return 0;
        *term =
            fake_atom_of_utf8((const char *)data + 4, count, (opts & ERL_NIF_BIN2TERM_SAFE) == 0);
        return *term == 0 ? 0 : 4 + count;
    case TAG_SMALL_BIG_BYTES: return read_big(env, data, sz, 4, data[2], term);
    case TAG_LARGE_BIG_BYTES:
        if (sz < 7)
            return 0;
        memcpy(&count, data + 2, sizeof(count));
        return read_big(env, data, sz, 7, __builtin_bswap32(count), term);
    case TAG_PID_BYTES:
    case TAG_REF_BYTES:
    case TAG_RESOURCE_BYTES: return read_word(env, data, sz, term);
    default: fake_must(false, "enif_binary_to_term() of this kind is not there");
    }
    return 0;
}

/* --- what tests look at ---------------------------------------------------------------------- */

uint64_t fake_heap_words(ERL_NIF_TERM term)
{
    uint64_t words = 0;

    for (;;) {
        const struct fake_term *t = (struct fake_term *)term;
        if (!fake_is_boxed(term))
            return words;
        switch (t->kind) {
        case FAKE_CELL:
            words += 2 + fake_heap_words(t->u.cell[0]);
            term = t->u.cell[1];
            continue;
        case FAKE_TUPLE: words += 1; break;
        case FAKE_MAP: words += 4; break; /* of 32 pairs at most; of more it takes no less */
        case FAKE_BIG: return words + 1 + (t->count + 7) / 8;
        case FAKE_BINARY: return words + (t->count <= 64 ? 2 + (t->count + 7) / 8 : 5);
        default: return words + 2;
        }
        size_t n = t->kind == FAKE_MAP ? 2 * t->count : t->count;
        for (size_t i = 0; i < n; i++)
            words += 1 + fake_heap_words(t->u.elements[i]);
        return words;
    }
}

struct text {
    char *at;
    size_t left;
};

static void put(struct text *text, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(text->at, text->left, format, args);
    va_end(args);
    size_t put = n < 0 ? 0 : (size_t)n < text->left ? (size_t)n : text->left - 1;
    text->at += put;
    text->left -= put;
}

static void print(struct text *text, ERL_NIF_TERM term);

static void print_elements(struct text *text, const struct fake_term *term)
{
    bool is_map = term->kind == FAKE_MAP;

    put(text, is_map ? "#{" : "{");
    for (size_t i = 0; i < term->count && text->left > 1; i++) {
        put(text, i > 0 ? "," : "");
        print(text, term->u.elements[i]);
        if (is_map) {
            put(text, "=>");
            print(text, term->u.elements[term->count + i]);
        }
    }
    put(text, "}");
}

static void print_list(struct text *text, ERL_NIF_TERM term)
{
    const struct fake_term *cell;

    put(text, "[");
    for (const char *comma = ""; (cell = fake_at(term, FAKE_CELL)) != NULL && text->left > 1;
         term = cell->u.cell[1], comma = ",") {
        put(text, comma);
        print(text, cell->u.cell[0]);
    }
    if (term != FAKE_NIL && cell == NULL) {
        put(text, "|");
        print(text, term);
    }
    put(text, "]");
}

static void print_boxed(struct text *text, const struct fake_term *term)
{
    switch (term->kind) {
    case FAKE_INT: put(text, "%" PRId64, term->u.integer); break;
    case FAKE_BIG: put(text, "%sbig:%zu", term->u.big.negative ? "-" : "", term->count); break;
    case FAKE_FLOAT: put(text, "%.17g", term->u.real); break;
    case FAKE_BINARY:
        put(text, "<<\"%.*s\">>", (int)term->count, (const char *)term->u.binary.data);
        break;
    case FAKE_TUPLE:
    case FAKE_MAP: print_elements(text, term); break;
    case FAKE_REF: put(text, "#Ref<%" PRIu64 ">", term->u.number); break;
    case FAKE_RESOURCE: put(text, "#Resource"); break;
    default: put(text, "scheduled:%s", term->u.scheduled.name); break;
    }
}

static void print(struct text *text, ERL_NIF_TERM term)
{
    size_t size;

    if (fake_is_small(term))
        put(text, "%ld", (long)term >> 4);
    else if (fake_is_atom(term))
        put(text, "%s", fake_atom_name(term, &size));
    else if (fake_is_pid(term))
        put(text, "<%ld>", (long)term >> 6);
    else if (term == FAKE_BADARG)
        put(text, "badarg");
    else if (fake_at(term, FAKE_CELL) != NULL || term == FAKE_NIL)
        print_list(text, term);
    else
        print_boxed(text, (struct fake_term *)term);
}

void fake_print(ERL_NIF_TERM term, char *text, size_t size)
{
    struct text to = {.at = text, .left = size};

    text[0] = '\0';
    print(&to, term);
}
