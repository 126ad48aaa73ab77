/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_H
#define EP_PY_H

/*
 * ep_py - Python as the lanes see it: an interpreter, contexts, requests.
 *
 * A context is one thread's place in one interpreter, with its namespaces and
 * caches. A request goes decode, run, encode, finish: decode copies everything
 * out of shared memory, so the lane can give the slot back before any Python
 * code runs.
 *
 * Ownership  create/destroy by the lane that uses them.
 * Errors     0 or a negative errno for what ends the process; Python exceptions
 *            become error records in the reply.
 * Threads    a context and its requests: its own thread, attached (it holds the
 *            GIL). An interrupt: see below.
 */

#include "ep_buf.h"
#include "ep_layout.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct _object; /* PyObject */
struct ep_py_context;
struct ep_py_target;

/* --- process ------------------------------------------------------------------ */

/* Initialises Python in the calling thread, which becomes Python's main thread,
 * and leaves it detached. python_path "": the Python built against. On failure a
 * sentence is in ret_why. */
int ep_py_start(const char *python_path, const char *module_path, char *ret_why, size_t why_size);

/* Appends what HELLO says about this Python. */
void ep_py_describe(struct ep_buf *buf);

/* Whether this process is a child that Python code forked. */
bool ep_py_is_forked(void);

/* --- context ------------------------------------------------------------------ */

/* Makes a context and attaches. On failure returns NULL, detached, with an error
 * record in error. mode: enum ep_mode. */
struct ep_py_context *ep_py_context_create(uint32_t mode, bool is_main_thread,
                                           struct ep_buf *error);

/* Ends the context (attached before, detached after). */
void ep_py_context_destroy(struct ep_py_context *context);

void ep_py_context_attach(struct ep_py_context *context);
void ep_py_context_detach(struct ep_py_context *context);

/* Whether no other thread has a place in the interpreter, so that keeping the
 * GIL for a moment keeps nobody waiting. */
bool ep_py_context_is_alone(const struct ep_py_context *context);

/* Runs one bytecode or two: lets waiting threads, the garbage collector and
 * pending signals have their turn, which pure C functions never do. */
void ep_py_context_breathe(struct ep_py_context *context);

/* The context as a Python thread that is none of its lane's sees it: the same
 * namespaces, caches of its own. Attached, in the context's interpreter. NULL: no
 * memory. */
struct ep_py_context *ep_py_guest_create(const struct ep_py_context *host);
void ep_py_guest_destroy(struct ep_py_context *guest);

/* For threads of Python code, which are attached when they come to us. */
void *ep_py_thread_detach(void);
void ep_py_thread_attach(void *thread);

/* Whether the calling thread, attached, is in the context's interpreter. */
bool ep_py_context_is_here(const struct ep_py_context *context);

/* Runs a function of the module erlang._maintenance beside the requests, in a thread
 * without a place in the interpreter. payload: its name, its arguments. Writes the
 * result, or an error record: true then. */
bool ep_py_maintain(const struct ep_py_context *context, const uint8_t *payload, size_t size,
                    struct ep_buf *ret_buf);

/* Runs functions of erlang._maintenance in the context itself: names and lists of
 * arguments. What fails is reported on stderr. Attached. */
void ep_py_prologue(struct ep_py_context *context, const uint8_t *payload, size_t size);

/* Forgets a namespace. */
void ep_py_context_drop_env(struct ep_py_context *context, uint64_t env_id);

/* Runs the interpreter's atexit functions and flushes its streams. context NULL:
 * the main interpreter's, from the main thread, detached before and after. */
void ep_py_run_atexit(struct ep_py_context *context);

/* --- callbacks ----------------------------------------------------------------- */

/* What Erlang said. The payload is lent until release(). */
struct ep_py_answer {
    uint32_t aux; /* enum ep_answer */
    size_t length;
    const uint8_t *payload;
    uint64_t block; /* the channel's */
    bool has_block;
    uint8_t data[EP_INLINE_MAX];
};

/* The way from Python code to Erlang and back. A lane thread that runs a request
 * has one of its own; all other threads share one. */
struct ep_py_channel {
    /* Whether a request runs in this thread that can ask. */
    bool (*is_open)(const struct ep_py_channel *channel);
    /* Asks and waits; attached before and after. Other requests may run meanwhile,
     * in this thread. -EINTR: the call is to be interrupted.  -ECANCELED: the
     * process ends.  -ENOMEM, -EMSGSIZE: no room for the question. */
    int (*ask)(struct ep_py_channel *channel, const struct ep_buf *question,
               struct ep_py_answer *ret_answer);
    void (*release)(struct ep_py_channel *channel, struct ep_py_answer *answer);
};

/* Sets the channel of the calling thread; NULL: the shared one again. */
void ep_py_channel_set(struct ep_py_channel *channel);

/* Sets the channel of all other threads, once, before any of them runs, and the
 * word that changes with the names of callbacks. */
void ep_py_channel_set_shared(struct ep_py_channel *channel, const ep_atomic_u64 *names_epoch);

/* --- interrupt ---------------------------------------------------------------- */

#define EP_PY_CALL_NONE UINT64_MAX
#define EP_PY_CALL_ANY (UINT64_MAX - 1)

/*
 * Raises KeyboardInterrupt in one call and never in another.
 *
 * The lane exchanges running (call id, then none), and looks at state after the
 * second exchange. The control thread adds itself to state, and only then looks
 * at running. All are sequentially consistent: either the control thread sees
 * that the call is over, or the lane sees that somebody is interrupting it,
 * waits for him, and takes back what he left behind.
 */
#define EP_PY_INTERRUPTS 64 /* under way at a time */

struct ep_py_interrupt {
    ep_atomic_u64 running; /* lane: call id, or EP_PY_CALL_NONE */
    ep_atomic_u32 state;   /* interrupters at work; top bit: one has struck */
    pthread_mutex_t mutex;
    pthread_cond_t idle;           /* an interrupter, or the call, has ended */
    struct ep_py_context *context; /* of the running call; written by the lane before running */
    ep_atomic_u64 claimed[EP_PY_INTERRUPTS];
    /* Under the mutex: calls, or EP_PY_CALL_NONE. One who waits is enough: others would
     * only stand in the way of the call, which wants the GIL, too. */
    uint64_t waiting_for; /* somebody waits for the GIL, to interrupt it */
    uint64_t kicking;     /* somebody kicks its thread ... */
    bool kicks_again;     /* ... and begins anew, for another has struck */
};

void ep_py_interrupt_init(struct ep_py_interrupt *interrupt);

/* Lane, attached: from here on the call can be interrupted. A full barrier. */
void ep_py_interrupt_begin(struct ep_py_interrupt *interrupt, struct ep_py_context *context,
                           uint64_t call_id);

/* Lane, attached: from here on it cannot; nothing is left behind. Returns whether
 * an interrupt was on its way: a call that goes on later owes it an exception. */
bool ep_py_interrupt_end(struct ep_py_interrupt *interrupt);

/* The VM sends each interrupt on two ways; whoever gets true for its number acts. */
bool ep_py_interrupt_claim(struct ep_py_interrupt *interrupt, uint64_t number);

/* Control thread: interrupts the call if it runs at this moment. number 0: not
 * sent on another way. Never blocks. */
void ep_py_interrupt_strike(struct ep_py_interrupt *interrupt, uint64_t call_id, uint64_t number);

/* --- request ------------------------------------------------------------------ */

#define EP_PY_ARGS_INLINE 8

/* Treat the fields as private. */
struct ep_py_request {
    uint16_t kind;
    uint16_t flags;
    bool has_failed;             /* a Python exception is set */
    const char *root;            /* where an error happened: "args", "result", ... or NULL */
    struct _object *env;         /* new */
    struct _object *first;       /* new: module name, or code object, or source */
    struct ep_py_target *target; /* where the names are kept, or NULL */
    struct _object *second;      /* new: function name, or dict of locals */
    struct _object *kwnames;     /* new: tuple, or NULL */
    struct _object **args;       /* own_args + 1, or from the heap (+ 1) */
    size_t n_args;               /* positional */
    size_t n_all;                /* with keyword arguments */
    struct _object *result;      /* new */
    struct _object *own_args[1 + EP_PY_ARGS_INLINE]; /* [0]: scratch for vectorcall */
};

struct ep_py_reply {
    uint16_t kind; /* EP_KIND_RESULT or EP_KIND_ERROR */
    uint32_t aux;
};

/* Reads a CALL, EVAL or EXEC. What Python does not like is noted in the request.
 * -EPROTO: not what docs/wire.md says. */
int ep_py_request_decode(struct ep_py_context *context, struct ep_py_request *request,
                         const struct ep_slot *slot, const uint8_t *payload);

void ep_py_request_run(struct ep_py_context *context, struct ep_py_request *request);

/* Bytes that the reply takes at least, if that is known without encoding it. */
size_t ep_py_request_size_hint(const struct ep_py_request *request);

/* Writes the result, or the error record, to the empty buf. */
void ep_py_request_encode(struct ep_py_context *context, struct ep_py_request *request,
                          struct ep_buf *buf, struct ep_py_reply *ret_reply);

void ep_py_request_finish(struct ep_py_request *request);

#ifdef __cplusplus
}
#endif

#endif
