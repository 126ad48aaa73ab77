/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_etf.h"
#include "evil_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Payloads that cost the reader more than they cost the writer, and those that are none. */

#define MEGA ((size_t)1 << 20)

/* Sends bytes as a result, an exception's text, a question's argument or an answer to an
 * inquiry, as the seed says. */
static void send_term(struct evil_order *order, const uint8_t *term, size_t length)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    enum ep_kind kind = EP_KIND_RESULT;
    struct ep_buf buf;
    uint64_t as = order->via->index == 0 ? 1 + order->seed % 2 : order->seed % 2;

    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    if (as == 1) {
        kind = EP_KIND_CALLBACK;
        ep_etf_put_int(&buf, 0);
        ep_etf_put_binary(&buf, "evil_now", 8);
    } else if (as == 2) {
        kind = EP_KIND_MAINTAINED;
    }
    ep_buf_put(&buf, term, length);
    if (buf.error == 0
        && evil_fill(order->via, &message, data, kind, order->id, buf.data, buf.length)) {
        if (kind == EP_KIND_CALLBACK)
            message.subject = order->via->index == 0 ? 0 : ++order->lane->number;
        if (order->via->index == 0) {
            message.flags |= EP_FLAG_TIMED;
            message.stamp = 1;
        }
        evil_publish(order->worker, order->via, &message);
    }
    ep_buf_finish(&buf);
}

static void send_buf(struct evil_order *order, struct ep_buf *buf)
{
    if (buf->error == 0)
        send_term(order, buf->data, buf->length);
    ep_buf_finish(buf);
}

/* A list of n times the same term, which is short. */
static void send_many(struct evil_order *order, const uint8_t *term, size_t size, size_t n)
{
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    ep_etf_put_list(&buf, (uint32_t)n);
    uint8_t *at = ep_buf_extend(&buf, n * size);
    if (at == NULL)
        evil_die("no memory");
    for (size_t i = 0; i < n; i++)
        memcpy(at + i * size, term, size);
    ep_etf_put_nil(&buf);
    send_buf(order, &buf);
}

/* [[]] * n, whose list takes sixteen times the bytes of the message. */
static void term_nils(struct evil_order *order)
{
    static const uint8_t nil[] = {EP_ETF_TAG_NIL};

    send_many(order, nil, sizeof(nil), MEGA << evil_below(&order->random, 3));
}

/* The one of the table of attacks: 100 MB that need 2 GB. */
static void term_nils_huge(struct evil_order *order)
{
    static const uint8_t nil[] = {EP_ETF_TAG_NIL};

    send_many(order, nil, sizeof(nil), 100000000);
}

static void term_maps(struct evil_order *order)
{
    static const uint8_t map[] = {EP_ETF_TAG_MAP, 0, 0, 0, 0};

    send_many(order, map, sizeof(map), MEGA);
}

static void term_tuples(struct evil_order *order)
{
    static const uint8_t tuple[] = {EP_ETF_TAG_SMALL_TUPLE, 0};

    send_many(order, tuple, sizeof(tuple), 2 * MEGA);
}

static void term_floats(struct evil_order *order)
{
    static const uint8_t real[] = {EP_ETF_TAG_NEW_FLOAT, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0};

    send_many(order, real, sizeof(real), MEGA);
}

static void term_infinities(struct evil_order *order)
{
    static const uint8_t real[] = {EP_ETF_TAG_NEW_FLOAT, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0};

    send_many(order, real, sizeof(real), 100);
}

/* Sixteen bytes of list for each byte. */
static void term_strings(struct evil_order *order)
{
    uint8_t string[3 + 60000] = {EP_ETF_TAG_STRING, 60000 >> 8, 60000 & 255};

    send_many(order, string, sizeof(string), 100);
}

/* Counts that the bytes cannot hold. */
static void term_counts(struct evil_order *order)
{
    static const uint8_t tags[] = {EP_ETF_TAG_LIST,   EP_ETF_TAG_LARGE_TUPLE, EP_ETF_TAG_MAP,
                                   EP_ETF_TAG_BINARY, EP_ETF_TAG_LARGE_BIG,   EP_ETF_TAG_STRING};
    uint8_t term[64] = {tags[evil_below(&order->random, sizeof(tags))]};
    uint32_t count = (uint32_t)evil_odd_number(&order->random);

    for (unsigned i = 0; i < 4; i++)
        term[1 + i] = (uint8_t)(count >> (8 * (3 - i)));
    send_term(order, term, 5 + evil_below(&order->random, sizeof(term) - 5));
}

/* A count that the bytes can just about hold, in every one of the elements. */
static void term_nested_counts(struct evil_order *order)
{
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, 64 * MEGA);
    for (unsigned i = 0; i < 1000; i++)
        ep_etf_put_tuple(&buf, (uint32_t)(4 * MEGA));
    uint8_t *at = ep_buf_extend(&buf, 4 * MEGA);
    if (at == NULL)
        evil_die("no memory");
    memset(at, EP_ETF_TAG_NIL, 4 * MEGA);
    send_buf(order, &buf);
}

static void term_deep(struct evil_order *order)
{
    struct ep_buf buf;
    uint64_t depth = 900 + evil_below(&order->random, 2) * MEGA + evil_below(&order->random, 200);
    bool is_list = evil_coin(&order->random);

    ep_buf_init(&buf, NULL, 0, 64 * MEGA);
    for (uint64_t i = 0; i < depth; i++) {
        if (is_list)
            ep_etf_put_list(&buf, 1);
        else
            ep_etf_put_tuple(&buf, 1);
    }
    for (uint64_t i = 0; i <= depth; i++)
        ep_etf_put_nil(&buf);
    send_buf(order, &buf);
}

static void term_big(struct evil_order *order)
{
    struct ep_buf buf;
    uint32_t size = (uint32_t)(256u << evil_below(&order->random, 15));
    uint8_t *digits = malloc(size);

    if (digits == NULL)
        evil_die("no memory");
    memset(digits, 0xfe, size);
    ep_buf_init(&buf, NULL, 0, 64 * MEGA);
    ep_etf_put_big(&buf, evil_coin(&order->random), digits, size);
    free(digits);
    send_buf(order, &buf);
}

static void term_bigs(struct evil_order *order)
{
    uint8_t big[3 + 255] = {EP_ETF_TAG_SMALL_BIG, 255, 1};

    memset(big + 3, 0xfe, 255);
    send_many(order, big, sizeof(big), 4096 << evil_below(&order->random, 4));
}

static void term_atoms(struct evil_order *order)
{
    struct ep_buf buf;
    char name[32];
    uint32_t n = 20000;

    ep_buf_init(&buf, NULL, 0, 64 * MEGA);
    ep_etf_put_list(&buf, n);
    for (uint32_t i = 0; i < n; i++) {
        int size = snprintf(name, sizeof(name), "evil_%x_%x", (unsigned)order->seed, i);
        ep_etf_put_atom(&buf, name, (size_t)size);
    }
    ep_etf_put_nil(&buf);
    send_buf(order, &buf);
}

static void term_bad_atom(struct evil_order *order)
{
    uint8_t term[3 + 2000] = {EP_ETF_TAG_ATOM_UTF8, 2000 >> 8, 2000 & 255};

    memset(term + 3, 0xff, 2000);
    send_term(order, term, sizeof(term));
}

/* One key twice, among many or few. */
static void term_duplicate_keys(struct evil_order *order)
{
    struct ep_buf buf;
    uint32_t n = 2u << evil_below(&order->random, 17);

    ep_buf_init(&buf, NULL, 0, 64 * MEGA);
    ep_etf_put_map(&buf, n);
    for (uint32_t i = 0; i < n; i++) {
        ep_etf_put_int(&buf, i == n - 1 ? 0 : i);
        ep_etf_put_nil(&buf);
    }
    send_buf(order, &buf);
}

static void term_handle(struct evil_order *order)
{
    uint8_t bytes[64], seal[EP_ETF_SEAL_SIZE];
    struct ep_buf buf;

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)evil_next(&order->random);
    for (unsigned i = 0; i < sizeof(seal); i++)
        seal[i] = (uint8_t)evil_next(&order->random);
    ep_buf_init(&buf, NULL, 0, 4096);
    ep_etf_put_handle(&buf, EP_HANDLE_PID, bytes, sizeof(bytes), seal);
    send_buf(order, &buf);
}

static void term_trailing(struct evil_order *order)
{
    uint8_t term[100] = {EP_ETF_TAG_NIL, EP_ETF_TAG_NIL};

    send_term(order, term, 2 + evil_below(&order->random, 90));
}

static void term_empty(struct evil_order *order)
{
    send_term(order, NULL, 0);
}

static void term_random(struct evil_order *order)
{
    static const uint8_t tags[] = {1,   70,  97,  98,  104, 105, 106, 107, 108,
                                   109, 110, 111, 116, 118, 119, 131, 80,  0};
    uint8_t term[4096];
    size_t size = 1 + evil_below(&order->random, sizeof(term));

    for (size_t i = 0; i < size; i++)
        term[i] = evil_coin(&order->random) ? tags[evil_below(&order->random, sizeof(tags))]
                                            : (uint8_t)evil_below(&order->random, 5);
    send_term(order, term, size);
}

/* Texts of 100 MB in all fields of an error record. */
static void term_error(struct evil_order *order)
{
    struct evil_message message;
    struct ep_buf buf;
    size_t size = evil_coin(&order->random) ? 100 * MEGA : MEGA;

    ep_buf_init(&buf, NULL, 0, 512 * MEGA);
    for (unsigned i = 0; i < 3; i++) {
        size_t n = i == order->seed % 3 ? size : 100;
        uint8_t *at = ep_etf_put_binary_header(&buf, n);
        if (at != NULL)
            memset(at, 'e', n);
    }
    if (buf.error == 0
        && evil_fill(order->via, &message, NULL, EP_KIND_ERROR, order->id, buf.data, buf.length))
        evil_publish(order->worker, order->via, &message);
    ep_buf_finish(&buf);
}

/* Names of exceptions that are no atoms yet. */
static void term_error_names(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    struct ep_buf buf;
    char name[40];

    ep_buf_init(&buf, NULL, 0, 4096);
    int size =
        snprintf(name, sizeof(name), "Evil%llx", (unsigned long long)evil_next(&order->random));
    ep_etf_put_binary(&buf, name, (size_t)size);
    ep_etf_put_binary(&buf, "\xff\xfe", 2);
    ep_etf_put_int(&buf, 1);
    if (evil_fill(order->via, &message, data, EP_KIND_ERROR, order->id, buf.data, buf.length))
        evil_publish(order->worker, order->via, &message);
    ep_buf_finish(&buf);
}

const struct evil_attack evil_term_attacks[] = {
    {"term_nils", term_nils},
    {"term_nils_huge", term_nils_huge},
    {"term_maps", term_maps},
    {"term_tuples", term_tuples},
    {"term_floats", term_floats},
    {"term_infinities", term_infinities},
    {"term_strings", term_strings},
    {"term_counts", term_counts},
    {"term_nested_counts", term_nested_counts},
    {"term_deep", term_deep},
    {"term_big", term_big},
    {"term_bigs", term_bigs},
    {"term_atoms", term_atoms},
    {"term_bad_atom", term_bad_atom},
    {"term_duplicate_keys", term_duplicate_keys},
    {"term_handle", term_handle},
    {"term_trailing", term_trailing},
    {"term_empty", term_empty},
    {"term_random", term_random},
    {"term_error", term_error},
    {"term_error_names", term_error_names},
    {NULL, NULL},
};
