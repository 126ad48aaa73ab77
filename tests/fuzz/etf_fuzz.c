/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Both sides' reader of the external term format. Whatever the bytes are: tokens lie inside
 * them, each takes at least one, the short way to read a number says what the long one does,
 * skipping ends where reading ends, and what was read and written is read as the same.
 */
#include "ep_etf.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define check(condition) ((condition) ? (void)0 : failed(#condition, __LINE__))

static _Noreturn void failed(const char *condition, int line)
{
    (void)fprintf(stderr, "%s:%d: not %s\n", __FILE__, line, condition);
    abort();
}

static bool has_data(const struct ep_etf_token *token)
{
    switch (token->type) {
    case EP_ETF_BIG:
    case EP_ETF_ATOM:
    case EP_ETF_BINARY:
    case EP_ETF_STRING:
    case EP_ETF_HANDLE: return true;
    default: return false;
    }
}

static void check_inside(const struct ep_etf_token *token, const uint8_t *at,
                         const struct ep_etf_cursor *after)
{
    check(after->at > at && after->at <= after->end);
    if (has_data(token))
        check(token->data > at && token->count <= (size_t)(after->at - token->data));
    if (token->type == EP_ETF_HANDLE)
        check(token->seal > at && token->seal + EP_ETF_SEAL_SIZE <= token->data);
    /* Each element takes a byte, so what follows has that many. */
    if (token->type == EP_ETF_LIST || token->type == EP_ETF_TUPLE || token->type == EP_ETF_MAP)
        check(token->count <= (size_t)(after->end - after->at));
}

static void check_number(const struct ep_etf_cursor *before, const struct ep_etf_cursor *after,
                         const struct ep_etf_token *token)
{
    struct ep_etf_cursor cursor = *before;
    int64_t integer = 0;
    double real = 0;

    switch (ep_etf_next_number(&cursor, &integer, &real)) {
    case 0: check(cursor.at == before->at); break;
    case 1:
        check(token->type == EP_ETF_INT && token->integer == integer && cursor.at == after->at);
        break;
    default:
        check(token->type == EP_ETF_FLOAT && memcmp(&token->real, &real, sizeof(real)) == 0
              && cursor.at == after->at);
        break;
    }
}

static void write_token(struct ep_buf *buf, const struct ep_etf_token *token)
{
    uint8_t *at;

    switch (token->type) {
    case EP_ETF_INT: ep_etf_put_int(buf, token->integer); break;
    case EP_ETF_BIG: ep_etf_put_big(buf, token->negative, token->data, token->count); break;
    case EP_ETF_FLOAT: ep_etf_put_float(buf, token->real); break;
    case EP_ETF_ATOM: ep_etf_put_atom(buf, (const char *)token->data, token->count); break;
    case EP_ETF_BINARY: ep_etf_put_binary(buf, token->data, token->count); break;
    case EP_ETF_LIST: ep_etf_put_list(buf, token->count); break;
    case EP_ETF_NIL: ep_etf_put_nil(buf); break;
    case EP_ETF_STRING:
        at = ep_buf_extend(buf, 3 + (size_t)token->count);
        check(at != NULL);
        at[0] = EP_ETF_TAG_STRING;
        at[1] = (uint8_t)(token->count >> 8);
        at[2] = (uint8_t)token->count;
        memcpy(at + 3, token->data, token->count);
        break;
    case EP_ETF_TUPLE: ep_etf_put_tuple(buf, token->count); break;
    case EP_ETF_MAP: ep_etf_put_map(buf, token->count); break;
    case EP_ETF_HANDLE:
        ep_etf_put_handle(buf, (enum ep_handle_kind)token->kind, token->data, token->count,
                          token->seal);
        break;
    }
    /* Its elements, for the reader counts what is left. */
    for (uint32_t i = 0; token->type >= EP_ETF_LIST && i < 2 * token->count + 1 && i < 64; i++)
        ep_etf_put_nil(buf);
}

static void check_again(const struct ep_etf_token *token)
{
    struct ep_etf_cursor cursor;
    struct ep_etf_token again;
    struct ep_buf buf;

    if ((token->type == EP_ETF_LIST || token->type == EP_ETF_TUPLE || token->type == EP_ETF_MAP)
        && token->count > 20)
        return;
    ep_buf_init(&buf, NULL, 0, SIZE_MAX);
    write_token(&buf, token);
    check(buf.error == 0);
    ep_etf_cursor_init(&cursor, buf.data, buf.length);
    check(ep_etf_next(&cursor, &again) == 0);
    check(again.type == token->type);
    switch (token->type) {
    case EP_ETF_INT: check(again.integer == token->integer); break;
    case EP_ETF_FLOAT: check(memcmp(&again.real, &token->real, sizeof(again.real)) == 0); break;
    case EP_ETF_BIG: check(again.negative == token->negative && again.count == token->count); break;
    default: check(again.count == token->count); break;
    }
    if (has_data(token))
        check(memcmp(again.data, token->data, token->count) == 0);
    ep_buf_finish(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ep_etf_cursor cursor, skipped;
    struct ep_etf_token token;
    bool was_skipped = false, is_met = false;

    ep_etf_cursor_init(&skipped, data, size);
    int rc = ep_etf_skip(&skipped);
    was_skipped = rc == 0;
    check(was_skipped || skipped.at == data);
    if (size >= EP_ETF_BINARY_HEADER && ep_etf_is_binary(data, size))
        check(was_skipped && skipped.at == skipped.end && data[0] == EP_ETF_TAG_BINARY);

    ep_etf_cursor_init(&cursor, data, size);
    for (;;) {
        struct ep_etf_cursor before = cursor;
        if (ep_etf_next(&cursor, &token) < 0) {
            int64_t integer;
            double real;
            check(cursor.at == before.at);
            check(ep_etf_next_number(&before, &integer, &real) == 0);
            break;
        }
        check_inside(&token, before.at, &cursor);
        check_number(&before, &cursor, &token);
        check_again(&token);
        is_met |= cursor.at == skipped.at;
    }
    /* A term that can be skipped ends between two tokens. */
    check(!was_skipped || is_met);
    return 0;
}
