/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fuzz target: what the VM believes of arrays. A worker process names, claims, makes, drops and
 * gives back whatever it likes, in lists that are none and in lists that lie, while the VM lends
 * and forgets. What is taken lies in a segment that there is; after the first lie the process is
 * gone; in the end there is nothing. Input: steps of an opcode and four bytes; a list that is
 * none has as many bytes as the first of them says behind it.
 */
#include "ep_arrays.h"
#include "fake_erl_nif.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const char *__asan_default_options(void);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OWN_MAX 4u
#define CARGOS_MAX 8u

static struct ep_vm *vm;
static struct fake_counts before;

struct run {
    struct ep_host *host;
    int peer;
    struct ep_array *own[OWN_MAX];       /* made by the VM, as terms are */
    struct ep_cargo *cargos[CARGOS_MAX]; /* what was taken, or lent */
    uint64_t segment;                    /* the first of the process's own */
};

const char *__asan_default_options(void)
{
    return "quarantine_size_mb=8:malloc_context_size=8";
}

static void must(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "array_fuzz: %s\n", what);
    abort();
}

static void begin(struct run *run)
{
    int ends[2];

    memset(run, 0, sizeof(*run));
    run->host = enif_alloc_resource(ep_host_type, sizeof(*run->host));
    must(run->host != NULL, "no memory");
    memset(run->host, 0, sizeof(*run->host));
    run->host->vm = vm;
    run->host->id = 5;
    run->host->doorbell = run->host->pidfd = -1;
    atomic_init(&run->host->kill_pidfd, -1);
    (void)pthread_mutex_init(&run->host->lock, NULL);
    (void)pthread_mutex_init(&run->host->reclaim, NULL);
    ep_queue_init(&run->host->notes);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "no sockets");
    must(ep_arrays_add_host(run->host, ends[0]) == 0, "no memory");
    run->peer = ends[1];
}

static void end(struct run *run)
{
    ep_arrays_end_host(run->host);
    for (size_t i = 0; i < OWN_MAX; i++)
        if (run->own[i] != NULL)
            enif_release_resource(run->own[i]);
    for (size_t i = 0; i < CARGOS_MAX; i++)
        ep_cargo_free(run->cargos[i]);
    (void)close(run->peer);
    enif_release_resource(run->host);
    must(ep_arrays_totals(vm).count == 0, "an array is left");
}

/* Keeps a cargo, and ends the one that had its place. */
static void keep(struct run *run, uint8_t at, struct ep_cargo *cargo)
{
    ep_cargo_free(run->cargos[at % CARGOS_MAX]);
    run->cargos[at % CARGOS_MAX] = cargo;
}

/* All of what was taken can be read. */
static void read_all(const struct ep_cargo *cargo)
{
    static volatile uint8_t sink;

    for (uint32_t i = 0; cargo != NULL && i < cargo->n; i++) {
        const struct ep_array *array = cargo->arrays[i];
        if (array->info.nbytes > 0)
            sink = array->mem[0] ^ array->mem[array->info.nbytes - 1];
    }
    (void)sink;
}

static int take(struct run *run, const uint8_t *payload, size_t length, uint8_t at)
{
    struct ep_msg msg = {.length = (uint32_t)length, .flags = EP_FLAG_ARRAYS};
    struct ep_cargo *cargo = NULL;

    int rc = ep_arrays_take(run->host, payload, &msg, &cargo);
    must(rc == 0 || (rc == -EPROTO && cargo == NULL), "an error that is not in the contract");
    must(rc < 0 || msg.length <= length, "a list longer than the message");
    read_all(cargo);
    if (rc == 0)
        keep(run, at, cargo);
    return rc;
}

/* One record, right or nearly so. */
static int take_record(struct run *run, const uint8_t b[4])
{
    static const uint64_t sizes[] = {0, 1, 4096, 1 << 20, EP_SEGMENT_FIRST, UINT64_C(1) << 45};
    struct ep_array_info info = {.ndim = 1, .dtype = b[0] % (EP_DTYPES + 1), .what = 1 + b[1] % 8};
    struct ep_buf buf;
    uint8_t lent[128];

    info.id = (b[2] & 1 ? ep_array_prefix(5) : 0) | (b[2] >> 1) % 16;
    info.segment = run->segment + (b[3] % 8 == 7);
    info.offset = (uint64_t)(b[3] >> 3) * 4096;
    info.dims[0] = sizes[b[1] / 8 % (sizeof(sizes) / sizeof(sizes[0]))];
    info.nbytes = info.dims[0] * (info.dtype < EP_DTYPES ? ep_dtype_size(info.dtype) : 1);
    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_array_put(&buf, &info);
    ep_array_put_tail(&buf, 0, 1, false);
    return take(run, buf.data, buf.length, b[0]);
}

static int drop(struct run *run, const uint8_t b[4])
{
    struct ep_array_drop item = {.id = (b[2] & 1 ? ep_array_prefix(5) : 0) | (b[2] >> 1) % 16,
                                 .claims = b[0] % 4};
    struct ep_drops drops = {.items = &item, .n = 1, .max = 1};

    return ep_arrays_drop(run->host, &drops);
}

static void make(struct run *run, const uint8_t b[4])
{
    struct ep_array_info info = {.dtype = EP_DTYPE_UINT8, .ndim = 1};
    struct ep_array **at = &run->own[b[0] % OWN_MAX];

    if (*at != NULL)
        enif_release_resource(*at);
    *at = NULL;
    info.dims[0] = info.nbytes = b[1];
    if (ep_arrays_make(vm, &info, at) == 0)
        atomic_store(&(*at)->state, EP_ARRAY_SEALED);
}

static void lend(struct run *run, const uint8_t b[4])
{
    struct ep_array *array = run->own[b[0] % OWN_MAX];
    const struct ep_cargo *taken = run->cargos[b[1] % CARGOS_MAX];
    struct ep_cargo *cargo = NULL;

    if (b[2] % 2 == 0 && taken != NULL && taken->n > 0)
        array = taken->arrays[0];
    if (array == NULL || ep_cargo_put(&cargo, array) < 0)
        return;
    (void)ep_arrays_lend(run->host, cargo);
    keep(run, b[3], cargo);
}

static int say(struct run *run, enum ep_arrays_aux aux, uint64_t subject)
{
    struct ep_msg msg = {.aux = aux, .subject = subject};

    return ep_arrays_receive(run->host, &msg, NULL);
}

static int need(struct run *run, const uint8_t b[4])
{
    struct ep_array_message message;

    int rc = say(run, EP_ARRAYS_NEED, (uint64_t)b[0] << (b[1] % 48));
    while (recv(run->peer, &message, sizeof(message), MSG_DONTWAIT) > 0)
        if (message.what == EP_NEWS_OWN && run->segment == 0)
            run->segment = message.segment;
    return rc;
}

static int step(struct run *run, uint8_t op, const uint8_t b[4])
{
    switch (op % 8) {
    case 1: return take_record(run, b);
    case 2: return drop(run, b);
    case 3: make(run, b); return 0;
    case 4: lend(run, b); return 0;
    case 5: keep(run, b[0], NULL); return 0;
    case 6: return need(run, b);
    default: return say(run, EP_ARRAYS_GIVE, run->segment + b[0] % 2);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fake_set_threads(FAKE_THREADS_HELD);
    fake_load();
    vm = fake_priv_data();
    ep_arrays_set_max(vm, UINT64_C(256) << 20);
    before = fake_living();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run;
    int rc = 0;

    begin(&run);
    while (size >= 5 && rc == 0) {
        uint8_t op = data[0];
        const uint8_t *b = data + 1;
        data += 5;
        size -= 5;
        if (op % 8 != 0) {
            rc = step(&run, op, b);
            continue;
        }
        size_t length = b[0] < size ? b[0] : size;
        rc = take(&run, data, length, b[1]);
        data += length;
        size -= length;
    }
    end(&run);
    struct fake_counts after = fake_living();
    must(memcmp(&before, &after, sizeof(after)) == 0, "something is left");
    return 0;
}
