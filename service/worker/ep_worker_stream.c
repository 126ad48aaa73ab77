/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_stream.h"

#include "ep_belt.h"
#include "ep_crashpoint.h"
#include "ep_etf.h"
#include "ep_py_store.h"
#include "ep_py_stream.h"
#include "ep_worker_frame.h"

#include <errno.h>
#include <string.h>

/*
 * A stream. Each item goes on the belt at once, so that nothing is held back while Python makes
 * the next one. The VM is told of it only if it may sleep; what has gathered on the belt when it
 * looks, it takes in one go.
 *
 *   an item                              the lane
 *   the belt has room                    puts it there; looks at the urgent ring; goes on
 *   and is full then                     asks EP_QUESTION_GO_ON and waits for the answer
 *   the belt has not enough room         asks first, then puts it there
 *   it is longer, or names arrays        asks EP_QUESTION_GO_ON with the item
 *
 * A question waits as one of Python code does: requests on top are served, interrupts get
 * through. Its answer means that all items before it were sent on, so the belt is empty.
 */

struct sink {
    struct ep_py_sink base;
    struct ep_worker_lane *lane;
    struct ep_belt_tx belt;
    uint64_t block; /* of the belt */
    bool is_told;   /* the VM knows the belt, and hands the block back */
};

static struct sink *sink_of(struct ep_py_sink *base)
{
    return (struct sink *)base; /* its first member */
}

static size_t room(struct ep_py_sink *base, uint8_t **ret_mem)
{
    struct sink *sink = sink_of(base);
    struct ep_worker_lane *lane = sink->lane;

    if (sink->belt.mem == NULL) {
        bool ok = ep_worker_reply_take_block(lane, EP_BELT_SIZE, &sink->block);
        ep_worker_lane_attach(lane);
        if (!ok)
            return 0;
        ep_belt_tx_attach(&sink->belt, lane->shm.slab_mem + sink->block, lane->shm.belt_bell);
    }
    return ep_belt_room(&sink->belt, ret_mem);
}

/* Tells the VM that there are items, if it has to be. False: the process ends. */
static bool tell(struct sink *sink)
{
    struct ep_worker_lane *lane = sink->lane;
    struct ep_worker_reply message = {
        .call_id = lane->top->call_id, .subject = sink->block, .what = {.kind = EP_KIND_ITEMS}};

    if (sink->is_told && !ep_belt_must_tell(&sink->belt))
        return true;
    sink->is_told = true;
    EP_CRASHPOINT("stream.before_items");
    ep_buf_init(&message.buf, NULL, 0, EP_MESSAGE_MAX);
    bool ok = ep_worker_reply_commit(lane, &message);
    EP_CRASHPOINT("stream.told");
    ep_worker_lane_attach(lane);
    return ok;
}

/* Asks whether to go on, and waits. item: NULL or what the belt cannot hold; named: its arrays. */
static int ask(struct sink *sink, const struct ep_buf *item, const struct ep_py_cargo *named)
{
    struct ep_py_channel *channel = &sink->lane->channel;
    struct ep_py_outcome outcome;
    struct ep_buf question;
    uint8_t lent[64];

    ep_buf_init(&question, lent, sizeof(lent), EP_MESSAGE_MAX);
    ep_etf_put_int(&question, EP_QUESTION_GO_ON);
    if (item != NULL) {
        ep_etf_put_list(&question, 1);
        ep_buf_put(&question, item->data, item->length);
    }
    ep_etf_put_nil(&question);
    EP_CRASHPOINT("stream.before_question");
    bool has_arrays = item != NULL && named->n > 0 && ep_py_store_describe(named, NULL, &question);
    int rc = question.error != 0 ? -ENOMEM : channel->ask(channel, &question, has_arrays, &outcome);
    ep_buf_finish(&question);
    if (rc < 0)
        return rc;
    EP_CRASHPOINT("stream.answered");
    bool is_good = outcome.aux == EP_ANSWER_VALUE;
    channel->release(channel, &outcome);
    ep_belt_tx_turn(&sink->belt);
    /* Another answer says that the VM could not take the item. */
    return is_good ? 0 : -ENOMEM;
}

/* What comes of the stream after an item. */
static int go_on(struct sink *sink)
{
    int rc = sink->lane->channel.serve(&sink->lane->channel);

    if (rc == 0 && sink->lane->top->is_finishing)
        rc = 1;
    return rc;
}

static int put(struct ep_py_sink *base, size_t n)
{
    struct sink *sink = sink_of(base);

    EP_CRASHPOINT("stream.item");
    ep_belt_put(&sink->belt, n);
    EP_CRASHPOINT("stream.on_belt");
    if (!tell(sink))
        return -ECANCELED;
    int rc = go_on(sink);
    if (rc == 0 && sink->belt.items == EP_BELT_ITEMS)
        rc = ask(sink, NULL, NULL);
    return rc != 0 ? rc : sink->lane->top->is_finishing;
}

static int send_item(struct ep_py_sink *base, const struct ep_buf *item,
                     const struct ep_py_cargo *named)
{
    struct sink *sink = sink_of(base);
    bool is_long = item->length > EP_BELT_BYTES || named->n > 0;
    uint8_t *mem;

    int rc = ask(sink, is_long ? item : NULL, named);
    if (rc != 0 || is_long)
        return rc != 0 ? rc : go_on(sink);
    (void)ep_belt_room(&sink->belt, &mem);
    memcpy(mem, item->data, item->length);
    return put(base, item->length);
}

void ep_worker_stream_run(struct ep_worker_lane *lane, struct ep_py_request *request,
                          struct ep_worker_reply *reply)
{
    struct sink sink = {.base = {.room = room, .put = put, .send = send_item}, .lane = lane};

    ep_py_stream_run(lane->context, request, &sink.base);
    EP_CRASHPOINT("stream.over");
    if (sink.is_told)
        reply->subject = sink.block + 1;
    else if (sink.belt.mem != NULL)
        ep_worker_reply_give_block(lane, sink.block);
}
