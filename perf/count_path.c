/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs the path of a small call in the VM, ep_nif:call/7 itself, over real rings and a
 * fake of erl_nif, in one thread, so that valgrind counts the same instructions in each
 * run. count_instructions.py starts it. The other side is played here, outside of what
 * is counted: the id of the next call is known, so its reply lies in the ring before
 * the call is made, and the first look finds it.
 *
 *   count_path spun N     N calls whose callers find the reply themselves
 *   count_path parked N   N calls whose callers park, and somebody else delivers
 */
#define _GNU_SOURCE
#include "ep_atoms.h"
#include "ep_attach.h"
#include "ep_calls.h"
#include "ep_etf.h"
#include "ep_inbox.h"
#include "ep_lanes.h"
#include "ep_slots.h"
#include "fake_enif.h"
#include "py_nif_calls.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ep_vm vm;
static struct ep_host host;
static struct ep_lane *lane;
static struct ep_lane_worker worker;
static struct ep_seg worker_a, worker_b;

static void must(bool good)
{
    if (good)
        return;
    (void)fprintf(stderr, "count_path: the call did not go as planned\n");
    exit(1);
}

static int duplicate(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static void set_up(uint32_t spin_ns)
{
    struct ep_layout_header header;
    ErlNifPid owner = {.pid = 1};
    uint32_t lanes = 2;

    vm.cpus = 2;
    ep_slots_init(&vm.slots, 1000);
    host.vm = &vm;
    host.n_lanes = lanes;
    (void)pthread_mutex_init(&host.lock, NULL);
    ep_layout_init(&header, lanes);
    must(ep_seg_create_own(&host.a, header.size_a, ep_layout_ring_bytes_a(lanes)) == 0);
    must(ep_seg_create_peer(&host.b, header.size_b) == 0);
    must(ep_seg_create_slabs(&host.c, ep_layout_size_c(lanes)) == 0);
    memcpy(host.a.mem, &header, sizeof(header));
    ep_lane_vm_attach(&host.control_lane, host.a.mem, host.b.mem, host.c.mem, lanes, 0);
    must(ep_seg_open(&worker_a, duplicate(host.a.fd), false) == 0);
    must(ep_seg_open(&worker_b, duplicate(host.b.fd), true) == 0);
    ep_lane_worker_attach(&worker, worker_a.mem, worker_b.mem, host.c.mem, lanes, 1);

    lane = ep_lane_create(&vm, &owner, spin_ns, spin_ns, UINT64_C(1) << 30, 0);
    must(lane != NULL && ep_attach_lane(lane, &host, 1, EP_MODE_WORKER, NULL) == 0);
}

static void reply(enum ep_kind kind, uint64_t call_id, const struct ep_buf *payload)
{
    struct ep_cell *cell;

    must(ep_ring_reserve(&worker.response, &cell) == 0);
    ep_cell_begin(cell, kind, 0, 0, call_id, 0);
    cell->length = (uint32_t)payload->length;
    memcpy(cell->data, payload->data, payload->length);
    (void)ep_ring_commit(&worker.response);
}

static void take_request(void)
{
    const struct ep_cell *cell;

    must(ep_ring_peek(&worker.call, &cell) == 0);
    ep_ring_advance(&worker.call);
    ep_ring_publish_head(&worker.call);
}

static uint64_t next_id(void)
{
    const struct ep_call *call = lane->table.free;

    if (call == NULL)
        call = atomic_load(&lane->common.freed);
    return call == NULL ? 1 : ep_call_id(call);
}

/* What the reaper does when the doorbell rings. */
static void deliver(void)
{
    must(ep_inbox_try(lane));
    must(ep_inbox_drain(lane, NULL, NULL, NULL) == 0);
    ep_inbox_leave(lane, NULL);
}

/* The counting starts and ends with this function. */
__attribute__((noinline)) static ERL_NIF_TERM counted_spun(const ERL_NIF_TERM argv[7])
{
    return call_nif(NULL, 7, argv);
}

__attribute__((noinline)) static ERL_NIF_TERM counted_parked(const ERL_NIF_TERM argv[7],
                                                             const struct ep_buf *result)
{
    ERL_NIF_TERM tag = argv[2];
    uint64_t id = next_id();

    ERL_NIF_TERM pending = call_nif(NULL, 7, argv);
    ERL_NIF_TERM waits[2] = {fake_element(pending, 1), tag};
    must(await_nif(NULL, 2, waits) == am_waiting);
    reply(EP_KIND_RESULT, id, result);
    deliver();
    return collect_nif(NULL, 1, waits);
}

int main(int argc, char **argv)
{
    uint8_t bytes[64];
    struct ep_buf result;
    bool is_parked = argc == 3 && strcmp(argv[1], "parked") == 0;
    long calls = argc == 3 ? strtol(argv[2], NULL, 10) : 0;

    if (calls < 1 || (!is_parked && strcmp(argv[1], "spun") != 0)) {
        (void)fprintf(stderr, "usage: count_path spun|parked CALLS\n");
        return 2;
    }
    ep_atoms_init(NULL);
    ep_buf_init(&result, bytes, sizeof(bytes), sizeof(bytes));
    set_up(is_parked ? 0 : 20000);
    take_request(); /* START */
    ep_buf_init(&result, bytes, sizeof(bytes), sizeof(bytes));
    reply(EP_KIND_STARTED, 0, &result);
    deliver();
    ep_etf_put_float(&result, 4.0);

    ERL_NIF_TERM list = enif_make_list_cell(NULL, fake_int(16), enif_make_list(NULL, 0));
    ERL_NIF_TERM arguments[7] = {enif_make_resource(NULL, lane),
                                 am_undefined,
                                 enif_make_atom(NULL, "math"),
                                 enif_make_atom(NULL, "sqrt"),
                                 list,
                                 fake_empty_map(),
                                 ep_term_zero};
    fake_keep();
    unsigned messages = fake_messages();
    for (long i = 0; i < calls; i++) {
        ERL_NIF_TERM answer;
        if (is_parked) {
            answer = counted_parked(arguments, &result);
        } else {
            reply(EP_KIND_RESULT, next_id(), &result);
            answer = counted_spun(arguments);
        }
        must(fake_float(fake_element(answer, 1)) == 4.0);
        take_request();
        fake_reset();
    }
    must(fake_messages() - messages == (is_parked ? (unsigned)calls : 0));
    return 0;
}
