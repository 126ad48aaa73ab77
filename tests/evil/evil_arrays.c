/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_array.h"
#include "ep_etf.h"
#include "ep_fdpass.h"
#include "evil_message.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Arrays that the worker does not hold, has not made, or goes on to write. */

/* A segment of the worker's own. */
struct own {
    uint64_t id, size, prefix;
    uint8_t *mem;
    int fd;
};

static struct own own; /* the first that it gets, kept */

static void say(struct evil_order *order, enum ep_arrays_aux aux, uint64_t subject,
                const void *payload, size_t length)
{
    (void)evil_send(order->worker, &order->worker->lanes[0], EP_KIND_ARRAYS, (uint8_t)aux, 0,
                    subject, payload, length);
}

/* Asks for a segment; waits two seconds at most. */
static bool get_segment(struct evil_order *order, uint64_t bytes)
{
    struct ep_array_message message;
    int fds[EP_FDPASS_MAX];

    if (own.mem != NULL)
        return true;
    say(order, EP_ARRAYS_NEED, bytes, NULL, 0);
    for (unsigned n = 0; n < 2000; n++) {
        ssize_t size = ep_fdpass_receive(order->worker->control, &message, sizeof(message), fds);
        if (size > 0 && message.what == EP_NEWS_OWN) {
            own = (struct own){.id = message.segment,
                               .size = message.size,
                               .prefix = message.prefix,
                               .fd = fds[0]};
            own.mem = mmap(NULL, own.size, PROT_READ | PROT_WRITE, MAP_SHARED, own.fd, 0);
            if (own.mem == MAP_FAILED)
                evil_die("no memory");
            return true;
        }
        evil_pause_us(1000);
    }
    return false;
}

/* A result that is the first array of a list, and the list. */
static void send_list(struct evil_order *order, const struct ep_array_info *infos, uint32_t n)
{
    static const uint8_t seal[EP_ETF_SEAL_SIZE];
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    uint32_t index = 0;
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    ep_etf_put_handle(&buf, (enum ep_handle_kind)EP_HANDLE_ARRAY, &index, sizeof(index), seal);
    size_t start = buf.length;
    for (uint32_t i = 0; i < n; i++)
        ep_array_put(&buf, &infos[i]);
    ep_array_put_tail(&buf, start, n, false);
    if (buf.error == 0
        && evil_fill(order->via, &message, data, EP_KIND_RESULT, order->id, buf.data, buf.length)) {
        message.flags |= EP_FLAG_ARRAYS;
        if (order->via->index == 0) {
            message.flags |= EP_FLAG_TIMED;
            message.stamp = 1;
        }
        evil_publish(order->worker, order->via, &message);
    }
    ep_buf_finish(&buf);
}

static struct ep_array_info made(uint64_t number, uint64_t offset, uint64_t nbytes)
{
    struct ep_array_info info = {.id = own.prefix | number,
                                 .segment = own.id,
                                 .offset = offset,
                                 .nbytes = nbytes,
                                 .dtype = EP_DTYPE_UINT8,
                                 .ndim = 1,
                                 .what = EP_ARRAY_NAMED | EP_ARRAY_CLAIMED | EP_ARRAY_MADE};
    info.dims[0] = nbytes;
    return info;
}

/* One that it does not hold. */
static void array_unknown(struct evil_order *order)
{
    struct ep_array_info info = made(0, 0, 1);

    info.id = 1 + evil_below(&order->random, 1000);
    info.segment = 1;
    info.what = EP_ARRAY_NAMED | (evil_coin(&order->random) ? EP_ARRAY_CLAIMED : 0);
    send_list(order, &info, 1);
}

/* One that it has made in a segment of somebody else, or in one that there is not. */
static void array_foreign(struct evil_order *order)
{
    if (!get_segment(order, 4096))
        return;
    struct ep_array_info info = made(1, 0, 4096);
    info.segment = evil_coin(&order->random) ? evil_odd_number(&order->random) | UINT64_C(1) << 40
                                             : own.id - 1;
    send_list(order, &info, 1);
}

/* Other sizes than there are, other types, another maker. */
static void array_wrong(struct evil_order *order)
{
    if (!get_segment(order, 4096))
        return;
    struct ep_array_info info = made(1, 0, 4096);
    switch (order->seed % 7) {
    case 0: info.offset = own.size - 1; break;
    case 1: info.offset = UINT64_MAX - 8; break;
    case 2: info.nbytes = info.dims[0] = own.size + 1; break;
    case 3: info.dtype = EP_DTYPES; break;
    case 4: info.nbytes = 1; break;
    case 5: info.id = 7; break;
    default: info.dims[0] = UINT64_C(1) << 60; break;
    }
    send_list(order, &info, 1);
}

/* Frees what it does not hold, or what it holds twice. */
static void array_free_twice(struct evil_order *order)
{
    struct ep_array_drop drops[2] = {{.id = 5, .claims = 1}, {.id = 5, .claims = 1}};

    if (evil_coin(&order->random) && get_segment(order, 4096)) {
        struct ep_array_info info = made(1, 0, 4096);
        send_list(order, &info, 1);
        drops[0].id = drops[1].id = info.id;
    }
    say(order, EP_ARRAYS_DROP, 0, drops, sizeof(drops));
}

/* Gives a segment back that is not its own, or in use. */
static void array_give(struct evil_order *order)
{
    uint64_t id = evil_odd_number(&order->random);

    if (evil_coin(&order->random) && get_segment(order, 4096)) {
        struct ep_array_info info = made(1, 0, 4096);
        info.what = EP_ARRAY_CLAIMED | EP_ARRAY_MADE;
        send_list(order, &info, 1);
        evil_pause_us(20000);
        id = own.id;
    }
    say(order, EP_ARRAYS_GIVE, id, NULL, 0);
}

/* Lists that are none. */
static void array_list(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX], bytes[180];
    size_t size = evil_below(&order->random, sizeof(bytes));

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(evil_coin(&order->random) ? evil_next(&order->random) : 0);
    if (!evil_fill(order->via, &message, data, EP_KIND_RESULT, order->id, bytes, size))
        return;
    message.flags |= EP_FLAG_ARRAYS;
    evil_publish(order->worker, order->via, &message);
}

/* Writes an array after it has been shared. */
static void array_write(struct evil_order *order)
{
    uint64_t until = evil_now_ms() + order->ms;

    if (!get_segment(order, 1u << 20))
        return;
    struct ep_array_info info = made(1, 0, 1u << 20);
    send_list(order, &info, 1);
    while (evil_now_ms() < until)
        for (size_t i = 0; i < info.nbytes; i++)
            own.mem[i] = (uint8_t)evil_next(&order->random);
}

/* Many arrays over the same bytes, which it never frees. */
static void array_many(struct evil_order *order)
{
    uint32_t n = 1u << evil_below(&order->random, 17);
    struct ep_array_info *infos = calloc(n, sizeof(*infos));

    if (infos == NULL || !get_segment(order, 4096)) {
        free(infos);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        infos[i] = made(i + 1, 0, 4096);
    send_list(order, infos, n);
    free(infos);
}

/* Asks for segments, and reads none of the answers. */
static void array_need(struct evil_order *order)
{
    uint64_t until = evil_now_ms() + order->ms;

    while (evil_now_ms() < until) {
        uint64_t bytes = evil_coin(&order->random) ? evil_odd_number(&order->random)
                                                   : 1 + evil_below(&order->random, 1u << 20);
        say(order, EP_ARRAYS_NEED, bytes, NULL, 0);
    }
}

/* Says that it has read outcomes that nobody has sent. */
static void array_claims(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, 4096);
    ep_array_put_tail(&buf, 0, 0, false);
    for (unsigned n = 0; n < 100 && evil_has_room(order->via); n++) {
        if (!evil_fill(order->via, &message, data, EP_KIND_ARRAYS, order->id, buf.data, buf.length))
            break;
        message.aux = EP_ARRAYS_CLAIM;
        message.flags |= EP_FLAG_ARRAYS;
        evil_publish(order->worker, order->via, &message);
    }
    ep_buf_finish(&buf);
}

const struct evil_attack evil_array_attacks[] = {
    {"array_unknown", array_unknown},
    {"array_foreign", array_foreign},
    {"array_wrong", array_wrong},
    {"array_free_twice", array_free_twice},
    {"array_give", array_give},
    {"array_list", array_list},
    {"array_write", array_write},
    {"array_many", array_many},
    {"array_need", array_need},
    {"array_claims", array_claims},
    {NULL, NULL},
};
