/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_encoding.h"

#include "ep_atoms.h"
#include "ep_call_names.h"
#include "ep_cargo.h"
#include "ep_term_decode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/*
 * What a normal scheduler encodes before a dirty one takes over: a quarter of a millisecond
 * for the terms, and a tenth or two to copy the bytes. A page that nobody has used before
 * costs ten times its copy: 0.8 to 1.2 ms for 1 MiB of them.
 */
#define TERMS_MAX 5000u
#define WARM_MAX ((1u << 20) + EP_PAGE)
#define FRESH_MAX ((1u << 17) + EP_PAGE)

bool ep_encoding_is_dirty(void)
{
    return enif_thread_type() != ERL_NIF_THR_NORMAL_SCHEDULER;
}

void ep_encoding_init(struct ep_encoding *encoding, ErlNifEnv *env, struct ep_vm *vm, bool is_dirty)
{
    ep_buf_init(&encoding->buf, encoding->lent, sizeof(encoding->lent), EP_MESSAGE_MAX);
    encoding->encoder = (struct ep_encoder){
        .vm = vm,
        .env = env,
        .buf = &encoding->buf,
        .terms_left = is_dirty ? SIZE_MAX : TERMS_MAX,
        .bytes_max = is_dirty ? SIZE_MAX : FRESH_MAX,
        .bytes_warm = is_dirty ? SIZE_MAX : WARM_MAX,
    };
}

bool ep_encoding_put_cargo(struct ep_encoding *encoding, bool shares)
{
    if (encoding->encoder.cargo == NULL && !shares)
        return false;
    ep_cargo_describe(encoding->encoder.cargo, shares, &encoding->buf);
    return true;
}

void ep_encoding_finish(struct ep_encoding *encoding)
{
    if (encoding->encoder.cargo != NULL)
        ep_cargo_free(encoding->encoder.cargo);
    ep_buf_finish(&encoding->buf);
}

ERL_NIF_TERM ep_encoding_failed(ErlNifEnv *env, struct ep_encoding *encoding, enum ep_op op, int rc)
{
    ep_encoding_finish(encoding);
    if (rc == -EBADMSG)
        return enif_make_badarg(env);
    return ep_result_exception(env, op, encoding->fault.type, encoding->fault.message);
}

int ep_encoding_put_text(struct ep_encoding *encoding, ERL_NIF_TERM term, const char *place)
{
    int rc = ep_term_encode_text(&encoding->encoder, term);

    if (rc < 0)
        return rc == -E2BIG ? rc : -EBADMSG;
    if (encoding->buf.error == 0)
        return 0;
    encoding->fault.type = am_MemoryError;
    (void)snprintf(encoding->fault.message, sizeof(encoding->fault.message),
                   "%s: does not fit in one message, which holds %" PRIu64 " bytes", place,
                   EP_MESSAGE_MAX);
    return encoding->buf.error;
}

static int put_names(struct ep_encoding *encoding, ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    size_t start = encoding->buf.length;

    if (ep_call_names_put(&encoding->buf, module, function))
        return 0;
    int rc = ep_encoding_put_text(encoding, module, "module");
    if (rc == 0)
        rc = ep_encoding_put_text(encoding, function, "function");
    if (rc == 0)
        ep_call_names_keep(&encoding->buf, start, encoding->encoder.env, module, function);
    return rc;
}

int ep_encoding_put_arguments(struct ep_encoding *encoding, const ERL_NIF_TERM argv[],
                              uint16_t *ret_flags)
{
    ErlNifEnv *env = encoding->encoder.env;
    size_t size;

    int rc = put_names(encoding, argv[2], argv[3]);
    if (rc < 0)
        return rc;
    if (!enif_get_map_size(env, argv[5], &size))
        return -EBADMSG;
    if (!ep_term_encode_plain(&encoding->encoder, argv[4])) {
        if (!enif_is_list(env, argv[4]))
            return -EBADMSG;
        rc = ep_term_encode(&encoding->encoder, argv[4], "args", false, &encoding->fault);
    }
    if (rc == 0 && size > 0) {
        *ret_flags |= EP_FLAG_KWARGS;
        rc = ep_term_encode(&encoding->encoder, argv[5], "kwargs", true, &encoding->fault);
    }
    return rc;
}

int ep_encoding_put_code(struct ep_encoding *encoding, const ERL_NIF_TERM argv[])
{
    int rc = ep_encoding_put_text(encoding, argv[2], "code");
    if (rc < 0)
        return rc;
    if (!enif_is_map(encoding->encoder.env, argv[3]))
        return -EBADMSG;
    return ep_term_encode(&encoding->encoder, argv[3], "locals", true, &encoding->fault);
}

static int put_failure(struct ep_encoding *encoding, ERL_NIF_TERM term)
{
    struct ep_encoder *encoder = &encoding->encoder;
    const ERL_NIF_TERM *parts;
    int arity;

    if (!enif_get_tuple(encoder->env, term, &arity, &parts) || arity != 5)
        return -EBADMSG;
    int rc = ep_term_encode(encoder, parts[0], "class", false, &encoding->fault);
    if (rc < 0)
        return rc;
    size_t start = encoding->buf.length;
    rc = ep_term_encode(encoder, parts[1], "reason", false, &encoding->fault);
    if (rc < 0 && rc != -E2BIG && encoding->buf.error == 0) {
        /* A reason that Python cannot have arrives in print. */
        encoding->buf.length = start;
        rc = ep_term_encode(encoder, parts[2], "reason", false, &encoding->fault);
    }
    if (rc == 0)
        rc = ep_term_encode(encoder, parts[3], "text", false, &encoding->fault);
    return rc < 0 ? rc : ep_term_encode(encoder, parts[4], "stacktrace", false, &encoding->fault);
}

/* Name and message of {Type, Text}. */
static int put_exception(struct ep_encoding *encoding, ERL_NIF_TERM term)
{
    const ERL_NIF_TERM *parts;
    int arity;

    if (!enif_get_tuple(encoding->encoder.env, term, &arity, &parts) || arity != 2)
        return -EBADMSG;
    int rc = ep_encoding_put_text(encoding, parts[0], "type");
    if (rc == -E2BIG)
        return rc;
    return rc < 0 ? -EBADMSG : ep_encoding_put_text(encoding, parts[1], "message");
}

/* What could not be encoded is raised in Python. */
static void put_fault(struct ep_encoding *encoding)
{
    const char *message = encoding->fault.message;

    ep_buf_finish(&encoding->buf);
    ep_cargo_free(encoding->encoder.cargo);
    encoding->encoder.cargo = NULL;
    ep_buf_init(&encoding->buf, encoding->lent, sizeof(encoding->lent), EP_MESSAGE_MAX);
    (void)ep_term_encode_text(&encoding->encoder, encoding->fault.type);
    ep_etf_put_binary(&encoding->buf, message, strlen(message));
}

int ep_encoding_put_answer(struct ep_encoding *encoding, ERL_NIF_TERM how, ERL_NIF_TERM term,
                           enum ep_answer *ret_how)
{
    int rc;

    if (enif_is_identical(how, am_value)) {
        *ret_how = EP_ANSWER_VALUE;
        rc = ep_term_encode(&encoding->encoder, term, "result", false, &encoding->fault);
    } else if (enif_is_identical(how, am_failed)) {
        *ret_how = EP_ANSWER_FAILED;
        rc = put_failure(encoding, term);
    } else {
        *ret_how = EP_ANSWER_RAISE;
        rc = put_exception(encoding, term);
    }
    if (rc == 0 || rc == -E2BIG || rc == -EBADMSG)
        return rc;
    put_fault(encoding);
    *ret_how = EP_ANSWER_RAISE;
    return 0;
}
