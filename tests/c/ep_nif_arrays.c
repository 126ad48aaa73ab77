/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_nif_arrays.h"

#include "ep_arrays.h"
#include "fake_erl_nif.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHARED 16u
#define STEPS 200u

static struct ep_vm *vm;
static struct ep_array *shared[SHARED];
static _Atomic(const char *) wrong;

static void check(bool good, const char *what)
{
    if (!good)
        atomic_store(&wrong, what);
}

static struct ep_host *new_host(uint64_t id, int *ret_peer)
{
    struct ep_host *host = enif_alloc_resource(ep_host_type, sizeof(*host));
    int ends[2];

    memset(host, 0, sizeof(*host));
    host->vm = vm;
    host->id = id;
    host->doorbell = host->pidfd = -1;
    atomic_init(&host->kill_pidfd, -1);
    (void)pthread_mutex_init(&host->lock, NULL);
    (void)pthread_mutex_init(&host->reclaim, NULL);
    ep_queue_init(&host->notes);
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "no sockets");
    check(ep_arrays_add_host(host, ends[0]) == 0, "no memory");
    *ret_peer = ends[1];
    return host;
}

static struct ep_array *new_array(uint64_t nbytes)
{
    struct ep_array_info info = {.dtype = EP_DTYPE_UINT8, .ndim = 1, .nbytes = nbytes};
    struct ep_array *array = NULL;

    info.dims[0] = nbytes;
    if (ep_arrays_make(vm, &info, &array) < 0)
        return NULL;
    memset(array->mem, (int)(nbytes & 0xFF), nbytes);
    atomic_store(&array->state, EP_ARRAY_SEALED);
    return array;
}

static uint64_t own_segment(struct ep_host *host, int peer)
{
    struct ep_msg msg = {.aux = EP_ARRAYS_NEED, .subject = 4096};
    struct ep_array_message message;
    uint64_t segment = 0;

    check(ep_arrays_receive(host, &msg, NULL) == 0, "a segment is refused");
    while (recv(peer, &message, sizeof(message), MSG_DONTWAIT) > 0)
        if (message.what == EP_NEWS_OWN)
            segment = message.segment;
    return segment;
}

/* A message that names an array, and claims it. */
static int take(struct ep_host *host, const struct ep_array_info *info, struct ep_cargo **cargo)
{
    struct ep_buf buf;
    uint8_t lent[128];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_array_put(&buf, info);
    ep_array_put_tail(&buf, 0, 1, false);
    struct ep_msg msg = {.length = (uint32_t)buf.length, .flags = EP_FLAG_ARRAYS};
    return ep_arrays_take(host, buf.data, &msg, cargo);
}

static int drop(struct ep_host *host, uint64_t id)
{
    struct ep_array_drop item = {.id = id, .claims = 1};
    struct ep_drops drops = {.items = &item, .n = 1, .max = 1};

    return ep_arrays_drop(host, &drops);
}

/* One array is lent, claimed, unlent, dropped. */
static void pass(struct ep_host *host, struct ep_array *array)
{
    struct ep_cargo *cargo = NULL, *named = NULL;
    struct ep_array_info info = array->info;

    check(ep_cargo_put(&cargo, array) == 0, "no memory");
    int rc = ep_arrays_lend(host, cargo);
    if (rc == 0) {
        info.what = EP_ARRAY_NAMED | EP_ARRAY_CLAIMED;
        check(take(host, &info, &named) == 0 && named->arrays[0] == array, "it is not the same");
        ep_cargo_free(named);
    } else {
        check(rc == -EAGAIN, "it cannot be lent");
    }
    ep_cargo_free(cargo);
    if (rc == 0)
        check(drop(host, info.id) == 0, "it is not held any more");
}

static void make_there(struct ep_host *host, uint64_t segment, uint64_t number)
{
    struct ep_array_info info = {.id = ep_array_prefix(host->id) | number,
                                 .segment = segment,
                                 .nbytes = 100,
                                 .dtype = EP_DTYPE_UINT8,
                                 .ndim = 1,
                                 .what = EP_ARRAY_NAMED | EP_ARRAY_CLAIMED | EP_ARRAY_MADE};
    struct ep_cargo *cargo;

    info.dims[0] = 100;
    check(take(host, &info, &cargo) == 0, "what was made is refused");
    if (number % 2 == 0)
        check(drop(host, info.id) == 0, "what was made is not held");
    ep_cargo_free(cargo);
}

struct job {
    unsigned number, rounds;
};

static void *run(void *user)
{
    const struct job *job = user;

    for (unsigned round = 0; round < job->rounds; round++) {
        struct ep_array_message message;
        int peer;
        struct ep_host *host = new_host(1 + job->number + 100u * round, &peer);
        uint64_t segment = own_segment(host, peer);
        for (unsigned i = 1; i <= STEPS; i++) {
            pass(host, shared[(i + job->number) % SHARED]);
            make_there(host, segment, i);
            struct ep_array *own = new_array(i * 37 % 9000);
            pass(host, own);
            enif_release_resource(own);
            while (recv(peer, &message, sizeof(message), MSG_DONTWAIT) > 0)
                continue;
        }
        ep_arrays_end_host(host);
        (void)close(peer);
        enif_release_resource(host);
    }
    return NULL;
}

const char *arrays_stress(unsigned threads, unsigned rounds)
{
    pthread_t ids[16];
    struct job jobs[16];

    vm = fake_priv_data();
    ep_arrays_set_max(vm, UINT64_C(4) << 30);
    for (unsigned i = 0; i < SHARED; i++)
        shared[i] = new_array(1000 + i);
    for (unsigned i = 0; i < threads; i++) {
        jobs[i] = (struct job){.number = i, .rounds = rounds};
        check(pthread_create(&ids[i], NULL, run, &jobs[i]) == 0, "no thread");
    }
    for (unsigned i = 0; i < threads; i++)
        (void)pthread_join(ids[i], NULL);
    for (unsigned i = 0; i < SHARED; i++) {
        check(ep_arrays_holders(shared[i]) == 0, "a dead process holds an array");
        for (size_t k = 0; k < shared[i]->info.nbytes; k++)
            check(shared[i]->mem[k] == (uint8_t)(1000 + i), "its contents have changed");
        enif_release_resource(shared[i]);
    }
    return atomic_load(&wrong);
}

uint64_t arrays_left(void)
{
    return ep_arrays_totals(vm).count;
}

const char *arrays_limit(void)
{
    struct ep_array *arrays[64];
    unsigned n = 0;

    vm = fake_priv_data();
    ep_arrays_set_max(vm, UINT64_C(32) << 20);
    while (n < 64 && (arrays[n] = new_array(1u << 20)) != NULL)
        n++;
    check(n >= 16 && n <= 32, "the limit is not kept");
    check(ep_arrays_totals(vm).bytes <= UINT64_C(32) << 20, "more is set aside than the limit");
    while (n > 0)
        enif_release_resource(arrays[--n]);
    arrays[0] = new_array(UINT64_C(30) << 20);
    check(arrays[0] != NULL, "what is free is not used");
    if (arrays[0] != NULL)
        enif_release_resource(arrays[0]);
    return atomic_load(&wrong);
}
