/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_letter.h"

#include "ep_atoms.h"
#include "ep_cpu.h"
#include "ep_term_decode.h"

#include <errno.h>
#include <string.h>

/* VM heap that a SEND may need, also where max_result_bytes is smaller: a byte makes two words
 * at most, and a worker cannot be told that its message has not arrived. */
#define LEAST_WORDS ((size_t)4 * EP_SEND_MAX)

void ep_letter_init(struct ep_host *host)
{
    uint64_t seed;

    memcpy(&seed, host->vm->seal_key, sizeof(seed));
    atomic_init(&host->letter_paid, 0);
    atomic_init(&host->letter_limit, 0);
    atomic_init(&host->letter_seed, seed ^ host->id);
    atomic_init(&host->letter_sampled, 0);
    atomic_init(&host->letter_sampled_price, 0);
    atomic_init(&host->letter_weight, 0);
    atomic_init(&host->letter_little_ns, 0);
}

/* --- sending ------------------------------------------------------------------------ */

/* The process that can send to other nodes. */
static bool find_carrier(struct ep_vm *vm, ErlNifPid *ret_carrier)
{
    pthread_mutex_lock(&vm->runner_lock);
    bool has_carrier = vm->has_carrier;
    *ret_carrier = vm->carrier;
    pthread_mutex_unlock(&vm->runner_lock);
    return has_carrier;
}

/* {py_letter, Pid, Term} to it. Without one the message is lost, as with a connection that
 * breaks. */
static void carry(struct ep_vm *vm, ErlNifEnv *env, ERL_NIF_TERM pid, ERL_NIF_TERM term)
{
    ErlNifPid carrier;

    if (find_carrier(vm, &carrier))
        (void)enif_send(NULL, &carrier, env, enif_make_tuple3(env, am_py_letter, pid, term));
}

/* Gives the terms of an environment away.
 * SUBTLE: never with the calling process as the sender, for that is whoever looks at the ring at
 * the moment. The VM keeps the order of messages of one sender, and all these are of nobody. */
static bool post(struct ep_vm *vm, ErlNifEnv *env, ERL_NIF_TERM to, ERL_NIF_TERM term)
{
    ErlNifPid pid;

    if (enif_get_local_pid(env, to, &pid))
        return enif_send(NULL, &pid, env, term) != 0;
    carry(vm, env, to, term);
    return true;
}

bool ep_letter_send(struct ep_vm *vm, ERL_NIF_TERM pid, ERL_NIF_TERM term)
{
    ErlNifEnv *env = enif_alloc_env();

    bool is_alive = post(vm, env, enif_make_copy(env, pid), enif_make_copy(env, term));
    enif_free_env(env);
    return is_alive;
}

/* --- SEND ----------------------------------------------------------------------------- */

/* Takes this SEND for the sample by a chance of its price in the price of all of them, not to be
 * foreseen by the worker. Relaxed: two consumers that take the same step pick alike, once, and one
 * may store the price of the other's SEND. */
static void sample(struct ep_host *host, ErlNifEnv *env, ERL_NIF_TERM to, uint64_t price)
{
    uint64_t weight =
        price + atomic_fetch_add_explicit(&host->letter_weight, price, memory_order_relaxed);
    uint64_t seed = atomic_load_explicit(&host->letter_seed, memory_order_relaxed);
    ErlNifPid pid;

    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    atomic_store_explicit(&host->letter_seed, seed, memory_order_relaxed);
    if ((seed >> 24) % weight >= price
        || !(enif_get_local_pid(env, to, &pid) || find_carrier(host->vm, &pid)))
        return;
    atomic_store_explicit(&host->letter_sampled, pid.pid, memory_order_relaxed);
    atomic_store_explicit(&host->letter_sampled_price, price, memory_order_relaxed);
}

/* Counts a SEND. Whether there was credit. */
static bool pay(struct ep_host *host, size_t length)
{
    uint64_t before =
        atomic_fetch_add_explicit(&host->letter_paid, EP_SEND_COST + length, memory_order_acq_rel);

    return before < atomic_load_explicit(&host->letter_limit, memory_order_acquire) + EP_SEND_COST
                        + EP_SEND_MAX;
}

/* Handle and term of private bytes. */
static int deliver(struct ep_host *host, ErlNifEnv *env, const struct ep_source *source)
{
    struct ep_etf_cursor cursor;
    ERL_NIF_TERM to, term;

    ep_etf_cursor_init(&cursor, source->start, source->size);
    int rc = ep_term_decode(host->vm, env, &cursor, source, &to);
    if (rc < 0 || !enif_is_pid(env, to))
        return -EPROTO;
    rc = ep_term_decode(host->vm, env, &cursor, source, &term);
    if (rc == -ENOMEM)
        return 0; /* lost; the VM has no memory for anything */
    if (rc < 0 || cursor.at != cursor.end)
        return -EPROTO;
    sample(host, env, to, EP_SEND_COST + source->size);
    (void)post(host->vm, env, to, term);
    return 0;
}

/* The same for bytes that the worker may still change. */
__attribute__((noinline)) static int deliver_copy(struct ep_host *host, ErlNifEnv *env,
                                                  const struct ep_source *source)
{
    uint8_t copy[EP_SEND_MAX];
    struct ep_source own = *source;

    memcpy(copy, source->start, source->size);
    own.start = copy;
    return deliver(host, env, &own);
}

int ep_letter_deliver(struct ep_host *host, const struct ep_lane_vm *shm, const struct ep_msg *msg,
                      const struct ep_cargo *cargo, size_t max_words, ErlNifEnv **env)
{
    const uint8_t *payload;

    if (msg->call_id != 0 || msg->length > EP_SEND_MAX || ep_lane_vm_payload(shm, msg, &payload) < 0
        || !pay(host, msg->length))
        return -EPROTO;
    struct ep_source source = {.start = payload,
                               .size = msg->length,
                               .cargo = cargo,
                               .max_words = max_words > LEAST_WORDS ? max_words : LEAST_WORDS};
    if (*env == NULL)
        *env = enif_alloc_env();
    else
        enif_clear_env(*env);
    return (msg->flags & EP_FLAG_BLOCK) != 0 ? deliver_copy(host, *env, &source)
                                             : deliver(host, *env, &source);
}

/* --- credit ----------------------------------------------------------------------------- */

/* Whether a little is due: questions that wait side by side get it once. */
static bool is_due(struct ep_host *host)
{
    uint64_t now = ep_clock_ns();
    uint64_t last = atomic_load_explicit(&host->letter_little_ns, memory_order_relaxed);

    return now - last >= EP_LETTER_LITTLE_NS
           && atomic_compare_exchange_strong_explicit(&host->letter_little_ns, &last, now,
                                                      memory_order_relaxed, memory_order_relaxed);
}

uint64_t ep_letter_grant(struct ep_host *host, uint64_t credit)
{
    if (credit >= EP_SEND_GRANT) {
        credit = EP_SEND_GRANT;
        atomic_store_explicit(&host->letter_sampled, 0, memory_order_relaxed);
        atomic_store_explicit(&host->letter_weight, 0, memory_order_relaxed);
    } else if (credit > 1 && !is_due(host)) {
        credit = 0;
    }
    uint64_t limit = atomic_load_explicit(&host->letter_paid, memory_order_acquire) + credit;
    uint64_t old = atomic_load_explicit(&host->letter_limit, memory_order_relaxed);

    while (old < limit
           && !atomic_compare_exchange_weak_explicit(&host->letter_limit, &old, limit,
                                                     memory_order_acq_rel, memory_order_relaxed)) {
    }
    return old < limit ? limit : old;
}

bool ep_letter_sample(struct ep_host *host, ErlNifPid *ret_pid, uint64_t *ret_price)
{
    ret_pid->pid = (ERL_NIF_TERM)atomic_load_explicit(&host->letter_sampled, memory_order_relaxed);
    *ret_price = atomic_load_explicit(&host->letter_sampled_price, memory_order_relaxed);
    return ret_pid->pid != 0;
}

void ep_letter_adopt(struct ep_vm *vm, const ErlNifPid *pid)
{
    pthread_mutex_lock(&vm->runner_lock);
    vm->carrier = *pid;
    vm->has_carrier = true;
    pthread_mutex_unlock(&vm->runner_lock);
}
