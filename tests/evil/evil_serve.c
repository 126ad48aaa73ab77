/* SPDX-License-Identifier: Apache-2.0 */
#include "evil_serve.h"

#include "ep_etf.h"
#include "evil_attack.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 4

/* A request, as far as anybody here wants to know. */
struct request {
    uint64_t call_id;
    char module[16], function[48];
    uint64_t args[ARGS_MAX];
    struct evil_handle handles[EVIL_HANDLES];
};

static void copy_name(char *to, size_t size, const struct ep_etf_token *token)
{
    size_t n = token->count < size ? token->count : size - 1;

    memcpy(to, token->data, n);
    to[n] = '\0';
}

/* Numbers, and behind them handles. */
static void read_args(struct ep_etf_cursor *cursor, struct request *request)
{
    struct ep_etf_token list, item;
    uint32_t n = 0;

    if (ep_etf_next(cursor, &list) < 0)
        return;
    for (uint32_t i = 0; i < list.count && i < ARGS_MAX + EVIL_HANDLES; i++) {
        const uint8_t *start = cursor->at;
        if (list.type == EP_ETF_STRING && i < ARGS_MAX) {
            request->args[i] = list.data[i];
        } else if (list.type == EP_ETF_LIST && ep_etf_next(cursor, &item) == 0) {
            struct evil_handle *handle = &request->handles[n];
            size_t size = (size_t)(cursor->at - start);
            if (item.type == EP_ETF_INT && i < ARGS_MAX)
                request->args[i] = (uint64_t)item.integer;
            if (item.type != EP_ETF_HANDLE || n == EVIL_HANDLES || size > sizeof(handle->bytes))
                continue;
            memcpy(handle->bytes, start, size);
            handle->size = size;
            n++;
        }
    }
}

static struct request read_request(struct evil_lane *lane, const struct ep_cell *cell)
{
    struct request request = {.call_id = cell->call_id};
    struct ep_etf_cursor cursor;
    struct ep_etf_token module, function;

    ep_etf_cursor_init(&cursor, ep_lane_worker_payload(&lane->shm, cell), cell->length);
    if (cell->kind != EP_KIND_CALL || ep_etf_next(&cursor, &module) < 0
        || module.type != EP_ETF_BINARY || ep_etf_next(&cursor, &function) < 0
        || function.type != EP_ETF_BINARY)
        return request;
    copy_name(request.module, sizeof(request.module), &module);
    copy_name(request.function, sizeof(request.function), &function);
    read_args(&cursor, &request);
    return request;
}

static void take(struct evil_lane *lane, struct ep_ring_rx *ring, const struct ep_cell *cell)
{
    if ((cell->flags & EP_FLAG_BLOCK) != 0)
        ep_reclaim_push(&lane->shm.reclaim_tx, cell->block);
    ep_ring_advance(ring);
    ep_ring_publish_head(ring);
}

static void run(struct evil_lane *lane, uint64_t call_id)
{
    atomic_store_explicit(lane->shm.running, call_id, memory_order_seq_cst);
}

static void reply(struct evil_worker *worker, struct evil_lane *lane, uint64_t call_id)
{
    static const uint8_t nothing[] = {EP_ETF_TAG_SMALL_ATOM_UTF8, 4, 'n', 'o', 'n', 'e'};

    lane->ids[EVIL_ENDED] = call_id;
    (void)evil_send(worker, lane, EP_KIND_RESULT, 0, call_id, 0, nothing, sizeof(nothing));
}

static void ask(struct evil_worker *worker, struct evil_lane *lane, uint64_t call_id,
                enum evil_target role)
{
    struct ep_buf buf;
    uint8_t lent[64];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_etf_put_int(&buf, 0);
    ep_etf_put_binary(&buf, "evil_wait", 9);
    ep_etf_put_nil(&buf);
    lane->ids[role] = call_id;
    lane->numbers[role] = ++lane->number;
    run(lane, call_id | EP_RUNNING_WAITS);
    (void)evil_send(worker, lane, EP_KIND_CALLBACK, 0, call_id, lane->number, buf.data, buf.length);
}

static bool is(const struct request *request, const char *function)
{
    return strcmp(request->function, function) == 0;
}

static void release(struct evil_worker *worker)
{
    for (uint32_t i = 1; i < worker->n_lanes; i++) {
        struct evil_lane *lane = &worker->lanes[i];
        if (lane->ids[EVIL_LATER] != 0)
            ask(worker, lane, lane->ids[EVIL_LATER], EVIL_LATER);
    }
}

static void obey(struct evil_worker *worker, const struct request *request,
                 const struct evil_attack *attack)
{
    uint64_t target = request->args[1];
    struct evil_order order = {
        .worker = worker,
        .lane = &worker->lanes[1],
        .via = &worker->lanes[request->args[2] != 0],
        .seed = request->args[0],
        .ms = (unsigned)request->args[3],
        .random = {.state = request->args[0]},
    };

    memcpy(worker->handles, request->handles, sizeof(worker->handles));
    /* Ordered on another lane, it is a call that lane 1 does not know. */
    order.lane->ids[EVIL_OWN] = request->call_id;
    if (target >= EVIL_TARGETS)
        evil_die("an attack on a call that no state describes");
    order.id = evil_target_id(order.lane, (enum evil_target)target, &order.random);
    order.number = order.lane->numbers[target];
    attack->run(&order);
}

/* Returns whether the call is answered. */
static bool serve_evil(struct evil_worker *worker, struct evil_lane *lane,
                       const struct request *request)
{
    const struct evil_attack *attack =
        evil_attack_find(request->function, strlen(request->function));

    if (is(request, "hold") || is(request, "later")) {
        lane->ids[is(request, "hold") ? EVIL_HELD : EVIL_LATER] = request->call_id;
        run(lane, request->call_id);
        return true;
    }
    if (is(request, "ask")) {
        ask(worker, lane, request->call_id, EVIL_ASKED);
        return true;
    }
    if (is(request, "release"))
        release(worker);
    else if (is(request, "stall_victim"))
        worker->lanes[1].is_stalled = true;
    else if (is(request, "sleep"))
        evil_pause_us((unsigned)request->args[0] * 1000);
    else if (attack != NULL)
        obey(worker, request, attack);
    return false;
}

static void serve_request(struct evil_worker *worker, struct evil_lane *lane,
                          struct ep_ring_rx *ring, const struct ep_cell *cell)
{
    struct request request = read_request(lane, cell);

    if ((uint32_t)request.call_id > lane->highest)
        lane->highest = (uint32_t)request.call_id;
    take(lane, ring, cell);
    if (strcmp(request.module, "evil") != 0 || !serve_evil(worker, lane, &request))
        reply(worker, lane, request.call_id);
}

static void serve_call(struct evil_worker *worker, struct evil_lane *lane,
                       const struct ep_cell *cell)
{
    uint8_t kind = cell->kind;

    switch (kind) {
    case EP_KIND_START:
    case EP_KIND_STOP:
        take(lane, &lane->shm.call, cell);
        if (kind == EP_KIND_STOP)
            run(lane, 0);
        if (kind == EP_KIND_START || !worker->is_silent)
            (void)evil_send(worker, lane, kind == EP_KIND_START ? EP_KIND_STARTED : EP_KIND_STOPPED,
                            0, 0, 0, NULL, 0);
        break;
    default: serve_request(worker, lane, &lane->shm.call, cell); break;
    }
}

static void serve_urgent(struct evil_worker *worker, struct evil_lane *lane,
                         const struct ep_cell *cell)
{
    uint64_t call_id = cell->call_id;

    switch (cell->kind) {
    case EP_KIND_ANSWER:
        take(lane, &lane->shm.urgent, cell);
        run(lane, 0);
        reply(worker, lane, call_id);
        break;
    case EP_KIND_CALL:
    case EP_KIND_EVAL:
    case EP_KIND_EXEC: serve_request(worker, lane, &lane->shm.urgent, cell); break;
    default: take(lane, &lane->shm.urgent, cell); break;
    }
}

/* MAINTAIN: {Process, Interpreter, Value}. */
static void maintain(struct evil_worker *worker, uint64_t call_id)
{
    static const uint8_t answer[] = {EP_ETF_TAG_SMALL_TUPLE,
                                     3,
                                     EP_ETF_TAG_SMALL_INTEGER,
                                     1,
                                     EP_ETF_TAG_SMALL_INTEGER,
                                     1,
                                     EP_ETF_TAG_MAP,
                                     0,
                                     0,
                                     0,
                                     0};

    (void)evil_send(worker, &worker->lanes[0], EP_KIND_MAINTAINED, 0, call_id, 0, answer,
                    sizeof(answer));
}

/* {What, Limit}, if it is about SENDs. */
static void read_answer(struct evil_worker *worker, const struct ep_cell *cell)
{
    struct ep_etf_cursor cursor;
    struct ep_etf_token tuple, what, limit;

    ep_etf_cursor_init(&cursor, ep_lane_worker_payload(&worker->lanes[0].shm, cell), cell->length);
    worker->answers++;
    if (ep_etf_next(&cursor, &tuple) == 0 && tuple.type == EP_ETF_TUPLE && tuple.count == 2
        && ep_etf_next(&cursor, &what) == 0 && ep_etf_next(&cursor, &limit) == 0
        && limit.type == EP_ETF_INT && (uint64_t)limit.integer > worker->limit)
        worker->limit = (uint64_t)limit.integer;
}

/* The last one that is to be held is the one that attacks are about; others are answered. */
static void serve_task(struct evil_worker *worker, const struct ep_cell *cell)
{
    static const uint8_t nothing[] = {EP_ETF_TAG_SMALL_ATOM_UTF8, 4, 'n', 'o', 'n', 'e'};
    struct evil_lane *control = &worker->lanes[0];
    struct ep_cell call = *cell;
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    call.kind = EP_KIND_CALL;
    struct request request = read_request(control, &call);
    if (is(&request, "hold")) {
        worker->lanes[cell->aux].ids[EVIL_TASK] = cell->call_id;
        return;
    }
    if (!evil_has_room(control)
        || !evil_fill(control, &message, data, EP_KIND_RESULT, cell->call_id, nothing,
                      sizeof(nothing)))
        return;
    message.flags |= EP_FLAG_TIMED;
    message.stamp = cell->aux;
    evil_publish(worker, control, &message);
}

static void serve_control(struct evil_worker *worker, const struct ep_cell *cell)
{
    uint64_t call_id = cell->call_id;
    uint8_t kind = cell->kind;

    if (kind == EP_KIND_ANSWER)
        read_answer(worker, cell);
    if (kind == EP_KIND_TASK)
        serve_task(worker, cell);
    take(&worker->lanes[0], &worker->lanes[0].shm.call, cell);
    if (kind == EP_KIND_MAINTAIN)
        maintain(worker, call_id);
    else if (kind == EP_KIND_SHUTDOWN && !worker->is_silent)
        _exit(EP_EXIT_ASKED);
}

bool evil_serve(struct evil_worker *worker)
{
    const struct ep_cell *cell;
    bool any = false;

    if (ep_ring_peek(&worker->lanes[0].shm.call, &cell) == 0) {
        serve_control(worker, cell);
        any = true;
    }
    for (uint32_t i = 1; i < worker->n_lanes; i++) {
        struct evil_lane *lane = &worker->lanes[i];
        if (ep_ring_peek(&lane->shm.urgent, &cell) == 0) {
            serve_urgent(worker, lane, cell);
            any = true;
        }
        if (!lane->is_stalled && ep_ring_peek(&lane->shm.call, &cell) == 0) {
            serve_call(worker, lane, cell);
            any = true;
        }
    }
    return any;
}
