/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_await.h"

#include "ep_array.h"
#include "ep_buf.h"
#include "ep_crashpoint.h"
#include "ep_py_await.h"
#include "ep_py_context.h"
#include "ep_py_interrupt.h"
#include "ep_py_strike.h"
#include "ep_worker_guest.h"
#include "ep_worker_lane.h"
#include "ep_worker_message.h"
#include "ep_worker_note.h"
#include "ep_worker_thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * A question has an entry from the moment when it is sent until its outcome has come: so the
 * number of entries bounds what the VM may hold for us. The number of a question is that of its
 * entry, and how often that was used; the highest bit tells it from that of a thread.
 */

#define IS_AWAITED (UINT64_C(1) << 63)
#define INDEX_BITS 16

struct ep_py_port {
    struct ep_py_port *next;
    int fd;
    bool is_awake;  /* looks at the queue before it sleeps */
    bool is_closed; /* its loop is gone */
    unsigned open;  /* questions */
    struct ep_worker_message *first, **last;
    struct ep_py_interrupt interrupt; /* of the request that the loop runs, not under the mutex */
};

struct entry {
    struct ep_py_port *port; /* NULL: free */
    uint32_t uses;
    uint32_t next_free; /* index + 1 */
    uint32_t lane;      /* that it counts for */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* for all of this and the ports */
static struct entry *entries;                             /* EP_AWAITED_QUESTIONS_MAX */
static uint32_t n_entries;                                /* used at least once */
static uint32_t free_entry;                               /* index + 1; 0: none */
static struct ep_py_port *ports;
static struct ep_worker *the_worker;

/* --- ports ---------------------------------------------------------------------------- */

static struct ep_py_port *open_port(int *ret_fd)
{
    struct ep_py_port *port = calloc(1, sizeof(*port));

    if (port == NULL)
        return NULL;
    port->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (port->fd < 0) {
        free(port);
        return NULL;
    }
    port->last = &port->first;
    ep_py_interrupt_init(&port->interrupt, NULL);
    (void)pthread_mutex_lock(&mutex);
    port->next = ports;
    ports = port;
    (void)pthread_mutex_unlock(&mutex);
    *ret_fd = port->fd;
    return port;
}

/* Frees a closed port for which nothing more can come. Under the mutex. */
static void free_if_idle(struct ep_py_port *port)
{
    if (!port->is_closed || port->open > 0)
        return;
    for (struct ep_py_port **at = &ports; *at != NULL; at = &(*at)->next) {
        if (*at == port) {
            *at = port->next;
            break;
        }
    }
    free(port);
}

/* A message that nobody reads. Of an answer, the VM need not hold the arrays any longer. */
static void drop(struct ep_worker *worker, const struct ep_cell *cell)
{
    struct ep_worker_note note = {
        .kind = EP_KIND_ARRAYS, .aux = EP_ARRAYS_CLAIM, .call_id = cell->call_id};

    ep_worker_guest_drop(worker, cell);
    if (cell->kind == EP_KIND_ANSWER && (cell->flags & EP_FLAG_ARRAYS) != 0)
        (void)ep_worker_note_send(worker, &note);
}

static void close_port(struct ep_py_port *port)
{
    (void)pthread_mutex_lock(&mutex);
    struct ep_worker_message *message = port->first;
    port->first = NULL;
    port->last = &port->first;
    port->is_closed = true;
    (void)close(port->fd);
    free_if_idle(port);
    (void)pthread_mutex_unlock(&mutex);
    while (message != NULL) {
        struct ep_worker_message *next = message->next;
        /* SUBTLE: may wait for room while attached, as nothing else here does: requests for a
         * loop that was closed while its callbacks ran. */
        drop(the_worker, &message->cell);
        free(message);
        message = next;
    }
}

/* Under the mutex, so that nobody closes the fd meanwhile. */
static void wake(struct ep_py_port *port)
{
    const uint64_t one = 1;

    if (port->is_awake)
        return;
    port->is_awake = true;
    while (write(port->fd, &one, sizeof(one)) < 0) {
        if (errno == EAGAIN)
            return;
        if (errno != EINTR)
            ep_worker_die(EP_EXIT_FDS_LOST, "Python code closed the bell of an event loop");
    }
}

/* --- questions ------------------------------------------------------------------------- */

/* Under the mutex. Returns the number, or 0. */
static uint64_t take_entry(struct ep_py_port *port, uint32_t lane)
{
    uint32_t index;

    if (entries == NULL)
        entries = calloc(EP_AWAITED_QUESTIONS_MAX, sizeof(*entries));
    if (entries == NULL)
        return 0;
    if (free_entry != 0) {
        index = free_entry - 1;
        free_entry = entries[index].next_free;
    } else if (n_entries < EP_AWAITED_QUESTIONS_MAX) {
        index = n_entries++;
    } else {
        return 0;
    }
    struct entry *entry = &entries[index];
    entry->port = port;
    entry->lane = lane;
    entry->uses = (entry->uses + 1) & 0x7FFFFFFFu;
    port->open++;
    return IS_AWAITED | (uint64_t)entry->uses << INDEX_BITS | index;
}

/* Under the mutex. */
static struct entry *find_entry(uint64_t id)
{
    uint64_t index = id & ((1u << INDEX_BITS) - 1);

    if (index >= n_entries || entries[index].port == NULL
        || entries[index].uses != (uint32_t)(id >> INDEX_BITS & 0x7FFFFFFFu))
        return NULL;
    return &entries[index];
}

/* Under the mutex. */
static void give_back(struct entry *entry)
{
    struct ep_py_port *port = entry->port;

    entry->port = NULL;
    entry->next_free = free_entry;
    free_entry = (uint32_t)(entry - entries) + 1;
    port->open--;
    free_if_idle(port);
    ep_worker_thread_give_question_back();
}

static int send_question(const struct ep_worker_note *note)
{
    int rc = ep_worker_note_try(the_worker, note);
    if (rc == 0)
        return 0;
    void *thread = ep_py_context_detach_thread();
    bool ok = ep_worker_note_send(the_worker, note);
    ep_py_context_attach_thread(thread);
    return ok ? 0 : -ECANCELED;
}

static int ask(struct ep_py_port *port, const struct ep_buf *question, bool has_arrays,
               uint64_t *ret_id)
{
    uint64_t running;

    struct ep_worker_lane *lane = ep_worker_guest_choose_lane(the_worker, &running);
    if (lane == NULL)
        return -ECANCELED;
    uint64_t env_id = atomic_load_explicit(&lane->running_env, memory_order_relaxed);
    if (!ep_worker_thread_take_question())
        return -EDQUOT;
    (void)pthread_mutex_lock(&mutex);
    uint64_t id = take_entry(port, lane->index);
    (void)pthread_mutex_unlock(&mutex);
    if (id == 0) {
        ep_worker_thread_give_question_back();
        return -EDQUOT;
    }
    struct ep_worker_note note = {
        .kind = EP_KIND_CALLBACK,
        .aux = running != 0,
        .lane = (uint8_t)lane->index,
        .call_id = id,
        .subject = running != 0 ? env_id : 0,
        .has_arrays = has_arrays,
        .payload = question,
    };
    EP_CRASHPOINT("await.before_question");
    int rc = send_question(&note);
    if (rc == 0) {
        *ret_id = id;
        return 0;
    }
    (void)pthread_mutex_lock(&mutex);
    give_back(find_entry(id));
    (void)pthread_mutex_unlock(&mutex);
    return rc;
}

/* --- what comes -------------------------------------------------------------------------- */

bool ep_worker_await_is(const struct ep_cell *cell)
{
    uint64_t id = ep_worker_guest_is_request(cell->kind) ? cell->stamp : cell->call_id;

    return (id & IS_AWAITED) != 0;
}

void ep_worker_await_deliver(struct ep_worker *worker, const struct ep_cell *cell,
                             const uint8_t *payload)
{
    bool is_request = ep_worker_guest_is_request(cell->kind);
    struct ep_worker_message *message = ep_worker_message_copy(cell, payload);

    if (message == NULL)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory for a message to an event loop");
    (void)pthread_mutex_lock(&mutex);
    struct entry *entry = find_entry(is_request ? cell->stamp : cell->call_id);
    struct ep_py_port *port = entry == NULL ? NULL : entry->port;
    bool is_taken = port != NULL && !port->is_closed;
    if (is_taken) {
        *port->last = message;
        port->last = &message->next;
        wake(port);
    }
    if (entry != NULL && !is_request)
        give_back(entry);
    (void)pthread_mutex_unlock(&mutex);
    EP_CRASHPOINT("await.delivered");
    if (!is_taken) {
        drop(worker, cell);
        free(message);
    }
}

void ep_worker_await_strike(uint64_t call_id, uint64_t number, bool is_forced)
{
    (void)pthread_mutex_lock(&mutex);
    for (struct ep_py_port *port = ports; port != NULL; port = port->next)
        ep_py_strike(&port->interrupt, call_id, number, is_forced);
    (void)pthread_mutex_unlock(&mutex);
}

static struct ep_worker_message *take(struct ep_py_port *port)
{
    (void)pthread_mutex_lock(&mutex);
    struct ep_worker_message *message = port->first;
    if (message == NULL) {
        port->is_awake = false;
    } else {
        port->first = message->next;
        if (port->first == NULL)
            port->last = &port->first;
    }
    (void)pthread_mutex_unlock(&mutex);
    return message;
}

/* A request that a callback has made on the context that it counts for. */
static void run_request(struct ep_py_port *port, const struct ep_worker_message *message)
{
    uint32_t index = message->cell.aux;
    struct ep_worker_lane *lane = index < the_worker->n_lanes ? the_worker->lanes[index] : NULL;
    struct ep_py_context *guest = NULL;

    /* The context may have ended since the question. */
    if (lane != NULL && lane->context != NULL)
        guest = ep_py_context_create_guest(lane->context);
    if (guest != NULL) {
        ep_worker_guest_run(the_worker, &port->interrupt, guest, message);
        ep_py_context_destroy_guest(guest);
        return;
    }
    void *thread = ep_py_context_detach_thread();
    ep_worker_guest_drop(the_worker, &message->cell);
    ep_py_context_attach_thread(thread);
}

static bool next(struct ep_py_port *port, bool is_woken, uint64_t *ret_id,
                 struct ep_py_outcome *ret_outcome)
{
    struct ep_worker_message *message;
    uint64_t unused;

    /* Before the queue is looked at; is_awake says that nobody writes it meanwhile. */
    if (is_woken)
        (void)!read(port->fd, &unused, sizeof(unused));
    while ((message = take(port)) != NULL) {
        if (!ep_worker_guest_is_request(message->cell.kind))
            break;
        run_request(port, message);
        free(message);
    }
    if (message == NULL)
        return false;
    *ret_id = message->cell.call_id;
    ret_outcome->aux = message->cell.aux;
    ret_outcome->length = message->cell.length;
    ret_outcome->payload = message->payload;
    ret_outcome->block = (uint64_t)(uintptr_t)message; /* for release() */
    ret_outcome->has_block = true;
    ret_outcome->has_arrays = (message->cell.flags & EP_FLAG_ARRAYS) != 0;
    ret_outcome->asker = message->cell.call_id;
    return true;
}

static void release(struct ep_py_outcome *outcome)
{
    free((void *)(uintptr_t)outcome->block);
}

void ep_worker_await_init(struct ep_worker *worker)
{
    static const struct ep_py_await_room room = {
        .open = open_port, .close = close_port, .ask = ask, .next = next, .release = release};

    the_worker = worker;
    ep_py_await_set_room(&room);
}
