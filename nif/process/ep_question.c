/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_question.h"

#include "ep_buffer.h"
#include "ep_cpu.h"
#include "ep_crashpoint.h"
#include "ep_dict.h"
#include "ep_etf.h"
#include "ep_lent.h"
#include "ep_remains.h"

#include <errno.h>
#include <string.h>

/* Keys that a normal scheduler makes a list of. */
#define KEYS_SHORT_MAX 1000u
#define MS_MAX INT64_C(1000000000000)

/* What is left to be read of a question. */
struct asked {
    const struct ep_question_source *source;
    struct ep_etf_cursor cursor;
    uint32_t left; /* arguments */
    struct ep_object *object;
    struct ep_waiter *waiter;
    struct ep_served *served;
};

bool ep_question_is_own(const uint8_t *payload, size_t length)
{
    return length >= 2 && payload[0] == EP_ETF_TAG_SMALL_INTEGER && payload[1] >= EP_QUESTION_OBJECT
           && payload[1] <= EP_QUESTION_MAX;
}

void ep_served_finish(struct ep_served *served)
{
    ep_item_free(served->item);
    ep_waiter_drop(&served->unwaited);
    if (served->receiver.kind != EP_WAITER_NONE)
        ep_waiter_wake(&served->receiver, served->env, EP_STATUS_AGAIN);
    if (served->object != NULL)
        enif_release_resource(served->object);
    ep_buf_finish(&served->buf);
}

/* --- reading -------------------------------------------------------------------------------- */

static bool next(struct asked *asked, struct ep_etf_token *ret_token)
{
    return asked->left > 0 && asked->left-- > 0 && ep_etf_next(&asked->cursor, ret_token) == 0;
}

static bool next_int(struct asked *asked, int64_t least, int64_t most, int64_t *ret_value)
{
    struct ep_etf_token token;

    if (!next(asked, &token) || token.type != EP_ETF_INT || token.integer < least
        || token.integer > most)
        return false;
    *ret_value = token.integer;
    return true;
}

/* Integers of 64 bits without a sign. */
static bool next_number(struct asked *asked, uint64_t *ret_number)
{
    struct ep_etf_token token;
    uint64_t number = 0;

    if (!next(asked, &token))
        return false;
    if (token.type == EP_ETF_INT && token.integer >= 0) {
        *ret_number = (uint64_t)token.integer;
        return true;
    }
    if (token.type != EP_ETF_BIG || token.negative != 0 || token.count > sizeof(number))
        return false;
    memcpy(&number, token.data, token.count);
    *ret_number = number;
    return true;
}

static bool next_binary(struct asked *asked, size_t longest, const uint8_t **ret_data,
                        size_t *ret_size)
{
    struct ep_etf_token token;

    if (!next(asked, &token) || token.type != EP_ETF_BINARY || token.count > longest)
        return false;
    *ret_data = token.data;
    *ret_size = token.count;
    return true;
}

/* Whether that was all. */
static bool is_end(struct asked *asked)
{
    return asked->left == 0 && ep_etf_list_end(&asked->cursor) == 0
           && asked->cursor.at == asked->cursor.end;
}

/* --- outcomes ------------------------------------------------------------------------------- */

static enum ep_served_what say(struct asked *asked, enum ep_status status)
{
    asked->served->status = status;
    return EP_SERVED_STATUS;
}

static void set_deadline(struct ep_waiter *waiter, int64_t ms)
{
    waiter->deadline_ns = ms < 0 ? 0 : ep_clock_ns() + (uint64_t)ms * 1000000;
}

/* Bytes that may be copied where the question is answered. */
static size_t longest_now(const struct asked *asked)
{
    if (asked->source->is_short)
        return EP_QUESTION_SHORT_MAX;
    return asked->source->is_dirty ? SIZE_MAX : (1u << 20) + EP_PAGE;
}

/* A wait that a look has found necessary. True: *ret is the outcome. False: look again. */
static bool wait(struct asked *asked, int64_t ms, uint64_t position, enum ep_served_what *ret)
{
    asked->waiter->position = position;
    set_deadline(asked->waiter, ms);
    enum ep_status status =
        ep_object_wait(asked->object, EP_SIDE_PYTHON, asked->waiter, asked->source->env);
    EP_CRASHPOINT_PEER("vm.waits");
    *ret = status == EP_STATUS_OK ? EP_SERVED_WAITS : say(asked, status);
    return status != EP_STATUS_AGAIN;
}

/* --- channels ------------------------------------------------------------------------------- */

static bool is_channel(const struct ep_object *object)
{
    return object->kind == EP_OBJECT_CHANNEL || object->kind == EP_OBJECT_BYTE_CHANNEL;
}

/* The lease that a thread or coroutine would have items in; -1: none is named. */
static bool next_lease(struct asked *asked, int64_t *ret_number, uint64_t *ret_position)
{
    *ret_number = -1;
    return asked->left == 0
           || (next_int(asked, 0, EP_LEASES_MAX - 1, ret_number)
               && next_number(asked, ret_position));
}

static enum ep_served_what take(struct asked *asked)
{
    const struct ep_question_source *source = asked->source;
    enum ep_served_what what;
    int64_t ms, lease;
    uint64_t position;

    if (!is_channel(asked->object) || !next_int(asked, -1, MS_MAX, &ms)
        || !next_lease(asked, &lease, &position) || !is_end(asked))
        return EP_SERVED_FORGED;
    do {
        if (lease >= 0 && source->is_short
            && ep_lent_offer(asked->object, EP_SIDE_PYTHON, source->host, (uint32_t)lease, position,
                             &asked->served->buf))
            return EP_SERVED_ITEMS;
        enum ep_status status =
            ep_object_take(asked->object, EP_SIDE_PYTHON, longest_now(asked), &asked->served->item);
        EP_CRASHPOINT_PEER("vm.item_looked_for");
        if (status == EP_STATUS_OK)
            return EP_SERVED_ITEM;
        if (status == EP_STATUS_AGAIN)
            return EP_SERVED_LONG;
        if (status == EP_STATUS_CLOSED || ms == 0)
            return say(asked, status);
    } while (!wait(asked, ms, 0, &what));
    return what;
}

static enum ep_served_what put(struct asked *asked)
{
    const uint8_t *bytes;
    size_t n;

    if (asked->object->kind != EP_OBJECT_BYTE_CHANNEL || !next_binary(asked, SIZE_MAX, &bytes, &n)
        || !is_end(asked))
        return EP_SERVED_FORGED;
    if (asked->source->is_short)
        return EP_SERVED_LONG; /* it would wake a process under the lock */
    struct ep_item *item = ep_item_of_bytes(bytes, n);
    if (item == NULL)
        return say(asked, EP_STATUS_BUSY);
    /* The receiver, a process, is woken when Python has its answer: that takes its time. */
    enum ep_status status = ep_object_put_only(asked->object, EP_SIDE_ERLANG, item,
                                               EP_OBJECT_BYTES_MAX, &asked->served->receiver);
    if (status != EP_STATUS_OK)
        ep_item_free(item);
    ep_remains_pay(asked->object->vm, n);
    EP_CRASHPOINT_PEER("vm.item_put");
    return say(asked, status);
}

static enum ep_served_what wait_for(struct asked *asked)
{
    enum ep_served_what what;
    uint64_t position;

    if (asked->object->kind == EP_OBJECT_DICT || !next_number(asked, &position) || !is_end(asked))
        return EP_SERVED_FORGED;
    (void)wait(asked, -1, position, &what);
    return what;
}

static enum ep_served_what unwait(struct asked *asked)
{
    struct ep_waiter like = {.kind = EP_WAITER_THREAD, .number = asked->source->host->id};

    if (!next_number(asked, &like.id) || !is_end(asked))
        return EP_SERVED_FORGED;
    bool was_there =
        ep_object_unwait(asked->object, EP_SIDE_PYTHON, &like, &asked->served->unwaited);
    return say(asked, was_there ? EP_STATUS_OK : EP_STATUS_EMPTY);
}

static enum ep_served_what end(struct asked *asked)
{
    if (asked->object->kind == EP_OBJECT_DICT || !is_end(asked))
        return EP_SERVED_FORGED;
    if (asked->source->is_short)
        return EP_SERVED_LONG;
    ep_object_close(asked->object, asked->source->env);
    return say(asked, EP_STATUS_OK);
}

/* --- buffers -------------------------------------------------------------------------------- */

static void put_bytes_header(struct ep_buf *buf)
{
    ep_etf_put_tuple(buf, 2);
    ep_etf_put_atom(buf, "bytes", 5);
}

/* What there is from a position on. */
static enum ep_status read_part(struct asked *asked, uint64_t position, uint64_t wanted)
{
    struct ep_object *object = asked->object;
    struct ep_buf *buf = &asked->served->buf;
    enum ep_status status = EP_STATUS_OK;

    pthread_mutex_lock(&object->lock);
    uint64_t size = ep_buffer_size(object->buffer);
    if (position >= size) {
        status = object->is_closed ? EP_STATUS_CLOSED : EP_STATUS_EMPTY;
    } else {
        uint64_t most = asked->source->is_short ? EP_QUESTION_SHORT_MAX : EP_QUESTION_READ_MAX;
        uint64_t n = size - position < wanted ? size - position : wanted;
        n = n < most ? n : most;
        put_bytes_header(buf);
        uint8_t *bytes = ep_etf_put_binary_header(buf, (size_t)n);
        if (bytes != NULL)
            ep_buffer_read(object->buffer, position, bytes, (size_t)n);
    }
    pthread_mutex_unlock(&object->lock);
    return status;
}

static enum ep_served_what read(struct asked *asked)
{
    enum ep_served_what what;
    uint64_t position, wanted;
    int64_t ms;

    if (asked->object->kind != EP_OBJECT_BUFFER || !next_number(asked, &position)
        || !next_number(asked, &wanted) || !next_int(asked, -1, MS_MAX, &ms) || !is_end(asked))
        return EP_SERVED_FORGED;
    if (asked->source->is_short && wanted > EP_QUESTION_SHORT_MAX)
        return EP_SERVED_LONG;
    do {
        enum ep_status status = read_part(asked, position, wanted);
        if (status == EP_STATUS_OK)
            return EP_SERVED_VALUE;
        if (status == EP_STATUS_CLOSED || ms == 0)
            return say(asked, status);
    } while (!wait(asked, ms, position, &what));
    return what;
}

/* {Size, IsAll} */
static enum ep_served_what size(struct asked *asked)
{
    struct ep_object *object = asked->object;

    if (object->kind != EP_OBJECT_BUFFER || !is_end(asked))
        return EP_SERVED_FORGED;
    pthread_mutex_lock(&object->lock);
    ep_etf_put_tuple(&asked->served->buf, 2);
    ep_etf_put_uint(&asked->served->buf, ep_buffer_size(object->buffer));
    ep_etf_put_int(&asked->served->buf, object->is_closed);
    pthread_mutex_unlock(&object->lock);
    return EP_SERVED_VALUE;
}

/* --- dicts ---------------------------------------------------------------------------------- */

/* {IsPickle, Value}. Under the object's lock, as what follows. */
static enum ep_served_what put_value(struct asked *asked, const struct ep_dict_value *value)
{
    struct ep_buf *buf = &asked->served->buf;

    if (value == NULL)
        return say(asked, EP_STATUS_EMPTY);
    ep_etf_put_tuple(buf, 2);
    ep_etf_put_int(buf, value->is_pickle);
    if (value->is_pickle) {
        put_bytes_header(buf);
        ep_etf_put_binary(buf, value->data + value->n_key, value->n_python);
    } else {
        ep_buf_put(buf, value->data + value->n_key, value->n_python);
    }
    return EP_SERVED_VALUE;
}

static enum ep_served_what put_keys(struct asked *asked)
{
    const struct ep_dict *dict = asked->object->dict;
    struct ep_buf *buf = &asked->served->buf;
    size_t n = ep_dict_count(dict);

    if (!asked->source->is_dirty && n > KEYS_SHORT_MAX)
        return EP_SERVED_LONG;
    if (n > 0)
        ep_etf_put_list(buf, (uint32_t)n);
    for (const struct ep_dict_value *value = ep_dict_next(dict, NULL); value != NULL;
         value = ep_dict_next(dict, value))
        ep_etf_put_binary(buf, value->data, value->n_key);
    ep_etf_put_nil(buf);
    return EP_SERVED_VALUE;
}

/* A term, then a pickle or nothing. Without the lock; ret_value NULL: no memory. */
static bool read_value(struct asked *asked, const uint8_t *key, size_t n_key,
                       struct ep_dict_value **ret_value)
{
    const uint8_t *term = asked->cursor.at, *pickle = NULL;
    size_t n_pickle = 0;

    if (asked->left == 0 || ep_etf_skip(&asked->cursor) < 0)
        return false;
    asked->left--;
    size_t n_term = (size_t)(asked->cursor.at - term);
    bool has_pickle = asked->left > 0;
    if ((has_pickle && !next_binary(asked, SIZE_MAX, &pickle, &n_pickle)) || !is_end(asked))
        return false;
    *ret_value = has_pickle ? ep_dict_value_create(key, n_key, pickle, n_pickle, term, n_term)
                            : ep_dict_value_create(key, n_key, term, n_term, NULL, 0);
    if (*ret_value != NULL)
        (*ret_value)->is_pickle = has_pickle;
    return true;
}

static enum ep_served_what set_value(struct asked *asked, const uint8_t *key, size_t n_key)
{
    struct ep_object *object = asked->object;
    struct ep_dict_value *value = NULL, *old = NULL;
    enum ep_status status = EP_STATUS_OK;

    if (asked->source->is_short)
        return EP_SERVED_LONG;
    if (!read_value(asked, key, n_key, &value))
        return EP_SERVED_FORGED;
    uint64_t size = value == NULL ? 0 : ep_dict_value_size(value);
    pthread_mutex_lock(&object->lock);
    bool is_long = !object->is_closed && !asked->source->is_dirty && ep_dict_grows(object->dict);
    if (object->is_closed)
        status = EP_STATUS_GONE;
    else if (is_long || value == NULL || ep_dict_size(object->dict) + size > EP_OBJECT_BYTES_MAX
             || ep_dict_set(object->dict, value, &old) < 0)
        status = EP_STATUS_BUSY;
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_dict_value_free(status == EP_STATUS_OK ? old : value);
    if (is_long)
        return EP_SERVED_LONG;
    ep_remains_pay(object->vm, size);
    return say(asked, status);
}

static enum ep_served_what destroy(struct asked *asked)
{
    struct ep_object *object = asked->object;

    if (asked->source->is_short || !asked->source->is_dirty)
        return EP_SERVED_LONG;
    pthread_mutex_lock(&object->lock);
    object->is_closed = true;
    struct ep_dict *dict = object->dict;
    object->dict = NULL;
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_dict_destroy(dict);
    return say(asked, EP_STATUS_OK);
}

static enum ep_served_what look_up(struct asked *asked, int64_t op, const uint8_t *key,
                                   size_t n_key)
{
    struct ep_object *object = asked->object;
    enum ep_served_what what = EP_SERVED_STATUS;
    struct ep_dict_value *old = NULL;

    pthread_mutex_lock(&object->lock);
    if (object->is_closed) {
        asked->served->status = EP_STATUS_GONE;
    } else if (op == EP_DICT_KEYS) {
        what = put_keys(asked);
    } else if (op == EP_DICT_DELETE) {
        old = ep_dict_remove(object->dict, key, n_key);
        asked->served->status = old != NULL ? EP_STATUS_OK : EP_STATUS_EMPTY;
    } else {
        const struct ep_dict_value *value = ep_dict_get(object->dict, key, n_key);
        if (op == EP_DICT_HAS)
            asked->served->status = value != NULL ? EP_STATUS_OK : EP_STATUS_EMPTY;
        else if (value != NULL && value->n_python > longest_now(asked))
            what = EP_SERVED_LONG;
        else
            what = put_value(asked, value);
    }
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_dict_value_free(old);
    return what;
}

static enum ep_served_what ask_dict(struct asked *asked)
{
    const uint8_t *key = NULL;
    size_t n_key = 0;
    int64_t op;

    if (asked->object->kind != EP_OBJECT_DICT
        || !next_int(asked, EP_DICT_GET, EP_DICT_DESTROY, &op))
        return EP_SERVED_FORGED;
    bool has_key = op != EP_DICT_KEYS && op != EP_DICT_DESTROY;
    if (has_key && !next_binary(asked, EP_DICT_KEY_MAX, &key, &n_key))
        return EP_SERVED_FORGED;
    if (op == EP_DICT_SET)
        return set_value(asked, key, n_key);
    if (!is_end(asked))
        return EP_SERVED_FORGED;
    return op == EP_DICT_DESTROY ? destroy(asked) : look_up(asked, op, key, n_key);
}

/* --- all of them ---------------------------------------------------------------------------- */

static enum ep_served_what serve(struct asked *asked)
{
    const struct ep_question_source *source = asked->source;
    struct ep_etf_token question, list;
    uint64_t id;

    ep_etf_cursor_init(&asked->cursor, source->payload, source->length);
    if (ep_etf_next(&asked->cursor, &question) < 0 || question.type != EP_ETF_INT
        || (source->is_block && question.integer != EP_QUESTION_PUT)
        || ep_etf_next(&asked->cursor, &list) < 0 || list.type != EP_ETF_LIST || list.count == 0)
        return EP_SERVED_FORGED;
    asked->left = list.count;
    if (!next_number(asked, &id))
        return EP_SERVED_FORGED;
    asked->object = asked->served->object = ep_object_held(source->host, id);
    if (asked->object == NULL)
        return ep_object_host_is_gone(source->host) ? say(asked, EP_STATUS_GONE) : EP_SERVED_FORGED;
    switch (question.integer) {
    case EP_QUESTION_TAKE: return take(asked);
    case EP_QUESTION_PUT: return put(asked);
    case EP_QUESTION_WAIT: return wait_for(asked);
    case EP_QUESTION_UNWAIT: return unwait(asked);
    case EP_QUESTION_CLOSE: return end(asked);
    case EP_QUESTION_READ: return read(asked);
    case EP_QUESTION_DICT: return ask_dict(asked);
    case EP_QUESTION_SIZE: return size(asked);
    default: return EP_SERVED_FORGED;
    }
}

void ep_question_serve(const struct ep_question_source *source, struct ep_waiter *waiter,
                       struct ep_served *ret_served)
{
    struct asked asked = {.source = source, .waiter = waiter, .served = ret_served};

    ret_served->status = EP_STATUS_OK;
    ret_served->object = NULL;
    ret_served->item = NULL;
    ret_served->unwaited.kind = ret_served->receiver.kind = EP_WAITER_NONE;
    ret_served->env = source->env;
    ep_buf_init(&ret_served->buf, ret_served->lent, sizeof(ret_served->lent), EP_MESSAGE_MAX);
    ret_served->what = serve(&asked);
    if (ret_served->what == EP_SERVED_VALUE && ret_served->buf.error != 0) {
        ret_served->what = EP_SERVED_STATUS;
        ret_served->status = EP_STATUS_BUSY;
    }
    EP_CRASHPOINT_PEER("vm.question_served");
}
