/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The worker's decoder, in a Python. What can be decoded is encoded as something that is decoded
 * and encoded as the same again; nothing else may happen than that, an exception, or -EPROTO; and
 * none of them leaves objects behind. The first byte says whether the rest is one term or a whole request.
 */
#include "ep_py_context.h"
#include "ep_py_context_fields.h"
#include "ep_py_decode.h"
#include "ep_py_encode.h"
#include "ep_py_request.h"
#include "ep_py_start.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Python's own caches grow for a while. */
#define WARM 20000u
#define LOOK_EVERY 4096u
#define BLOCKS_MAX 20000

static struct ep_py_context *context;
static unsigned long runs;
static long blocks_before;

/* CPython frees little at its end; look_for_leaks() looks at what it allocates. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

#define check(condition) ((condition) ? (void)0 : failed(#condition, __LINE__))

static _Noreturn void failed(const char *condition, int line)
{
    (void)fprintf(stderr, "%s:%d: not %s\n", __FILE__, line, condition);
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static uint8_t lent[4096];
    struct ep_buf error;
    char why[256];

    (void)argc;
    (void)argv;
    check(ep_py_start("", EP_MODULES, why, sizeof(why)) == 0);
    ep_buf_init(&error, lent, sizeof(lent), sizeof(lent));
    context = ep_py_context_create(EP_MODE_WORKER, true, &error);
    check(context != NULL);
    return 0;
}

static long blocks(void)
{
    PyObject *function = PySys_GetObject("getallocatedblocks"); /* borrowed */
    PyObject *number = function == NULL ? NULL : PyObject_CallNoArgs(function);
    long n = number == NULL ? -1 : PyLong_AsLong(number);

    Py_XDECREF(number);
    check(n >= 0);
    return n;
}

static void look_for_leaks(void)
{
    runs++;
    if (runs < WARM || runs % LOOK_EVERY != 0)
        return;
    (void)PyGC_Collect();
    long now = blocks();
    if (blocks_before == 0)
        blocks_before = now;
    check(now - blocks_before < BLOCKS_MAX);
}

static PyObject *read_all(const uint8_t *data, size_t size)
{
    struct ep_etf_cursor cursor;
    PyObject *value;

    ep_etf_cursor_init(&cursor, data, size);
    ep_py_place_clear(&context->codec.place);
    int rc = ep_py_decode(&context->codec, &cursor, &value);
    check(rc == 0 || (rc == -EPROTO && value == NULL));
    check(rc != 0 || (value == NULL) == (PyErr_Occurred() != NULL));
    check(rc == 0 || PyErr_Occurred() == NULL);
    PyErr_Clear();
    return value;
}

/* Infinities and NaN, which Erlang does not have, are encoded as something else. */
static bool is_finite(const uint8_t *data, size_t size)
{
    struct ep_etf_cursor cursor;
    struct ep_etf_token token;

    ep_etf_cursor_init(&cursor, data, size);
    while (ep_etf_next(&cursor, &token) == 0)
        if (token.type == EP_ETF_FLOAT && !isfinite(token.real))
            return false;
    return true;
}

/* bytes become str, if they are text; what is written of them stays the same. */
static void check_same(PyObject *value, const struct ep_buf *written)
{
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    ep_py_place_clear(&context->codec.place);
    check(ep_py_encode(&context->codec, &buf, value) == 0);
    check(buf.length == written->length && memcmp(buf.data, written->data, buf.length) == 0);
    ep_buf_finish(&buf);
}

static void term(const uint8_t *data, size_t size)
{
    struct ep_buf buf;
    PyObject *value = read_all(data, size);

    if (value == NULL)
        return;
    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    ep_py_place_clear(&context->codec.place);
    if (ep_py_encode(&context->codec, &buf, value) == 0) {
        PyObject *again = read_all(buf.data, buf.length);
        check(again != NULL);
        if (is_finite(data, size))
            check_same(again, &buf);
        Py_DECREF(again);
    }
    PyErr_Clear();
    ep_buf_finish(&buf);
    Py_DECREF(value);
}

static void request(uint8_t how, const uint8_t *data, size_t size)
{
    static const enum ep_kind kinds[] = {EP_KIND_CALL, EP_KIND_EVAL, EP_KIND_EXEC};
    struct ep_cell cell = {.length = (uint32_t)size};
    struct ep_py_request *request = malloc(sizeof(*request));

    check(request != NULL);
    cell.kind = (uint8_t)kinds[how % 3];
    cell.flags = (how & 4) != 0 ? EP_FLAG_KWARGS : 0;
    int rc = ep_py_request_decode(context, request, &cell, data);
    check(rc == 0 || rc == -EPROTO);
    ep_py_request_finish(context, request);
    PyErr_Clear();
    free(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        term(data + 1, size - 1);
    else
        request(data[0] >> 1, data + 1, size - 1);
    look_for_leaks();
    return 0;
}
