/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAYOUT_H
#define EP_LAYOUT_H

/*
 * ep_layout - what lies where in the three segments of a worker process.
 *
 * Segments A and C are written by the VM only, segment B by the worker only. A holds
 * a header and one lane block per lane (lane 0 is the control lane), C one slab per
 * lane, B lane blocks and slabs. The geometry stands in the header of A; the VM never
 * reads a size from B. The picture is in docs/wire.md; a change here bumps EP_LAYOUT_VERSION.
 *
 * Units      bytes, unless a name says otherwise; capacities are cells.
 * Ownership  one writer per segment, therefore per word and per cache line.
 * Threads    the edges, each named once, used where the name stands:
 *
 *   P1-P2  the producer stores cell.seq after the cell; the consumer loads it
 *          before it reads the cell. Orders the contents of a message.
 *   C1-C2  the consumer stores its head after it has read a cell; the producer
 *          loads it before it writes that cell again. Orders the reuse.
 *   W1-W2  both sequentially consistent: store cell.seq, then load the bell
 *          word (producer); store the bell word, then load cell.seq (consumer).
 *          One of them sees the other: no wake-up is lost.
 *   S1-S2  the same between a head store and the bell of a producer that waits
 *          for room.
 *   I1-I2  the same between the tail of a belt and the word by which readers of belts say that
 *          they are about to sleep, see ep_belt.h.
 *   L1-L2  the same between the count of items that a worker has read ahead and the word by which
 *          the VM takes the others back, see ep_lease.h.
 *   R1-R2  the receiver stores the reclaim tail after the handle; the owner of
 *          the slab loads it before it reads the handle. Orders block reuse.
 *
 * Trust      the VM takes every value in B as hostile, see ep_ring.h.
 */

#include <stdint.h>

#ifdef __cplusplus
/* Tests in C++ only poke at raw bytes; the sizes are the same. */
typedef uint64_t ep_atomic_u64;
typedef uint32_t ep_atomic_u32;
typedef uint8_t ep_atomic_u8;
#define EP_ALIGNED alignas(64)
#else
#include <assert.h>
#include <stddef.h>
#define EP_ALIGNED _Alignas(64)
typedef _Atomic uint64_t ep_atomic_u64;
typedef _Atomic uint32_t ep_atomic_u32;
typedef _Atomic uint8_t ep_atomic_u8;
#endif

#define EP_LAYOUT_MAGIC 0x3130726570797065u /* "epyper01", little-endian */
#define EP_LAYOUT_VERSION 14u
#define EP_CACHE_LINE 64
#define EP_PAGE 4096u

#define EP_LANES_MAX 65u /* the control lane and 64 contexts */
#define EP_CALL_CELLS 256u
#define EP_URGENT_CELLS 128u
#define EP_RESPONSE_CELLS 256u
/* At most this many blocks of one slab are out at a time, so a reclaim ring of
 * this size is never full. */
#define EP_RECLAIM_SLOTS 1024u
/* Address space; memory is used as it is touched. A block is a power of two, so this is
 * twice of what one message may have: a binary of 2 GiB and what stands around it. */
#ifndef EP_SLAB_SIZE /* the fuzz targets have smaller ones, see CMakeLists.txt */
#define EP_SLAB_SIZE (UINT64_C(4) << 30)
#endif
#define EP_MESSAGE_MAX ((UINT64_C(2) << 30) + (64u << 10))
/* What a slab that is empty keeps of the memory that it has touched. */
#define EP_SLAB_KEEP (UINT64_C(64) << 20)
#define EP_INLINE_MAX 192u

/* Questions that Python threads of one worker and its coroutines may have open together, and
 * those of coroutines alone. The worker lets a thread wait with its question at the first and
 * refuses that of a coroutine at either, so that only one that lies comes to the third. */
#define EP_THREAD_QUESTIONS_MAX 12000u
#define EP_AWAITED_QUESTIONS_MAX 10000u
#define EP_QUESTIONS_MAX 12500u
/* Tasks of event loops that one worker may have open. */
#define EP_TASKS_MAX 32768u
/* Bytes of START: paths, mostly. They fit into the slab of a lane that is new. */
#define EP_PROLOGUE_MAX (64u << 20)
/* Bytes of MAINTAINED: a few numbers, or an error; the VM reads it in the reaper. */
#define EP_MAINTAINED_MAX (64u << 10)

/* Bytes of a SEND: what the VM converts wherever it finds it, under its locks. A longer message
 * is asked for, EP_QUESTION_DELIVER. */
#define EP_SEND_MAX (16u << 10)
/* Keys of one map in what the VM converts in a thread of its own, SEND and MAINTAINED: to sort
 * more than 128 of them, enif_make_map_from_arrays() needs a scheduler, and crashes without one. A
 * message with a larger map is asked for, too. */
#define EP_SEND_KEYS_MAX 128u
/* What a SEND costs of the credit that the VM gives, besides its bytes. */
#define EP_SEND_COST 512u
/* The credit of a grant. */
#define EP_SEND_GRANT (UINT64_C(1) << 20)
/* The worker rings for a SEND that finds so many before it unrung, or the last ring for one so
 * long ago. What it does not ring for, the VM finds: it looks every EP_SEND_LOOK_MS until
 * EP_SEND_WATCH_NS after each such ring, which is longer. */
#define EP_SEND_UNRUNG_MAX 64u
#define EP_SEND_QUIET_NS UINT64_C(2000000)
#define EP_SEND_WATCH_NS UINT64_C(4000000)
#define EP_SEND_LOOK_MS 1
/* What the worker adds to the eventfd when it rings for a SEND; else it adds 1. */
#define EP_DOORBELL_SEND (UINT64_C(1) << 32)

/* Items of a stream that Python may be ahead of what was sent on: what a belt holds. */
#define EP_BELT_ITEMS 64u
/* Bytes of a belt, its first line included. A longer item is asked about, EP_QUESTION_GO_ON. */
#define EP_BELT_SIZE (16u << 10)

/* What a CALLBACK asks: a registered function, whether there is one, the shared state, or what
 * has to do with processes. ep_nif.hrl has the same numbers, and load() of the NIF compares. */
enum ep_question {
    EP_QUESTION_CALL = 0,
    EP_QUESTION_IS_REGISTERED = 1,
    EP_QUESTION_STATE_GET = 2,
    EP_QUESTION_STATE_SET = 3,
    EP_QUESTION_STATE_INCR = 4,
    EP_QUESTION_STATE_DECR = 5,
    EP_QUESTION_STATE_DELETE = 6,
    EP_QUESTION_STATE_KEYS = 7,
    EP_QUESTION_STATE_CLEAR = 8,
    EP_QUESTION_WHEREIS = 9,
    EP_QUESTION_ATOM = 10,
    EP_QUESTION_RECEIVER = 11, /* how a process is, and credit for SENDs */
    EP_QUESTION_DELIVER = 12,  /* a message that is no SEND: a long one, or a doubtful one */
    EP_QUESTION_BLOCKED = 13,  /* an event loop stands still: what to log */
    EP_QUESTION_GO_ON = 14,    /* a stream: whether what is on its belt was sent on; or an item */
    EP_QUESTION_TASK = 15,     /* a stream: a task takes its items, for they are asynchronous */
    /* What the VM answers by itself, about an object: its id, then what is said here. */
    /* milliseconds, -1: for ever; the next item of a channel. Then perhaps a lease and its position:
     * several items. */
    EP_QUESTION_TAKE = 16,
    EP_QUESTION_PUT = 17,    /* a binary for a byte channel */
    EP_QUESTION_WAIT = 18,   /* position; until there is something to take */
    EP_QUESTION_UNWAIT = 19, /* number of the question of a coroutine that waits no more */
    EP_QUESTION_CLOSE = 20,
    EP_QUESTION_READ = 21, /* position, bytes, milliseconds; a part of a buffer */
    EP_QUESTION_DICT = 22, /* enum ep_dict_op; a key, a value */
    EP_QUESTION_SIZE = 23, /* bytes of a buffer so far, and whether that is all */
};
#define EP_QUESTION_OBJECT EP_QUESTION_TAKE /* from here on */

/* A channel or the like that has nothing to give says why: ANSWER of EP_ANSWER_STATUS. */
enum ep_status {
    EP_STATUS_OK = 0,
    EP_STATUS_EMPTY = 1,
    EP_STATUS_CLOSED = 2,
    EP_STATUS_WAITER_EXISTS = 3,
    EP_STATUS_AGAIN = 4, /* there may be something now: ask again */
    EP_STATUS_TIMEOUT = 5,
    EP_STATUS_BUSY = 6,
    EP_STATUS_CANCELLED = 7, /* by EP_QUESTION_UNWAIT */
    EP_STATUS_GONE = 8,      /* destroyed */
    EP_STATUS_MAX = 8,
};

enum ep_dict_op {
    EP_DICT_GET = 0,
    EP_DICT_SET = 1, /* an encoded value, or a pickle */
    EP_DICT_DELETE = 2,
    EP_DICT_KEYS = 3,
    EP_DICT_HAS = 4,
    EP_DICT_DESTROY = 5,
};

/* One message, in either direction. What every message needs and a payload of up
 * to 32 bytes lie in the first cache line; the fields at the end are only touched
 * under their flags. A small call so moves one line each way. */
struct ep_cell {
    ep_atomic_u64 seq; /* position + 1 once published (P1-P2) */
    uint64_t call_id;  /* index and generation in the VM's call table */
    uint64_t subject;  /* a request: its namespace, 0: the shared one; a callback: its number */
    uint32_t length;   /* bytes of payload */
    uint8_t kind;      /* enum ep_kind */
    uint8_t flags;     /* EP_FLAG_ */
    uint8_t aux;       /* depends on the kind, see enum ep_kind */
    ep_atomic_u8 cancelled; /* VM only: set to 1 while the call still waits */
    uint8_t data[EP_INLINE_MAX];
    uint64_t block; /* with EP_FLAG_BLOCK: offset in the writer's slab */
    uint64_t stamp; /* with EP_FLAG_TIMED: see enum ep_kind */
    uint64_t reserved[2];
};

#define EP_FLAG_BLOCK 0x1u     /* the payload lies in a slab block, not in data */
#define EP_FLAG_KWARGS 0x2u    /* EP_CALL: a map of keyword arguments follows the list */
#define EP_FLAG_TRACEBACK 0x4u /* the caller wants the traceback of an exception */
#define EP_FLAG_TIMED 0x8u     /* stamp is set */
#define EP_FLAG_ARRAYS 0x80u   /* the payload ends with a list of arrays, see ep_array.h */
#define EP_FLAG_ALL 0x8Fu      /* those that a worker may set */
#define EP_FLAG_SHARES 0x10u   /* VM only: the request before was made on the worker's CPU */
/* VM only; what they mean depends on the kind. */
#define EP_FLAG_FORCED 0x20u    /* INTERRUPT: one that waits for an import waits no more */
#define EP_FLAG_FIRST 0x40u     /* MAINTAIN: the next request of the lane waits for its end */
#define EP_FLAG_NIL 0x20u       /* START, CALL, EVAL, EXEC: None becomes nil, and not none */
#define EP_FLAG_UNDEFINED 0x40u /* the same: undefined */
#define EP_FLAG_NONE_MASK 0x60u

/* What a message is. Payloads are terms of the external term format without
 * its version byte, one after the other; docs/wire.md lists them. */
enum ep_kind {
    /* VM to worker, call ring; CALL, EVAL and EXEC also on the urgent ring, where a
     * lane that waits for an answer serves them. stamp: CLOCK_MONOTONIC, ns */
    EP_KIND_START = 1, /* become a context; aux: enum ep_mode */
    EP_KIND_CALL = 2,
    EP_KIND_EVAL = 3,
    EP_KIND_EXEC = 4,
    EP_KIND_STOP = 5, /* end the context, keep the thread */
    /* VM to worker, urgent ring */
    EP_KIND_ENV_DROP = 16, /* payload: array of namespaces, 64 bits each */
    EP_KIND_CANCEL = 17,   /* interrupt this call if it waits; subject: number of the interrupt */
    EP_KIND_ANSWER = 18,   /* to a callback; subject: its number; aux: enum ep_answer */
    EP_KIND_FINISH = 19,   /* end this stream after the item that Python makes now */
    /* VM to worker, call ring of the control lane, which knows ANSWER, CALL, EVAL and
     * EXEC too: they concern the Python thread that stamp names */
    EP_KIND_LANE_OPEN = 24, /* aux: lane; start its thread */
    EP_KIND_INTERRUPT = 25, /* aux: lane; call_id: only this call; subject: as CANCEL */
    EP_KIND_SHUTDOWN = 26,
    EP_KIND_MAINTAIN = 27, /* aux: lane; call_id: of the inquiry */
    EP_KIND_TEND = 28,     /* there is news of arrays, or there may be memory to give back */
    /* For the event loop of the lane's interpreter. aux: lane; stamp: CALL, EVAL or EXEC, as
     * which the payload is read */
    EP_KIND_TASK = 29,
    EP_KIND_TASK_CANCEL = 30, /* aux: lane; call_id: of the task */
    /* Worker to VM. RESULT and ERROR: stamp: queue time, run time, us, 32 bits each */
    EP_KIND_RESULT = 32,
    EP_KIND_ERROR = 33,      /* a Python exception; aux: enum ep_error */
    EP_KIND_DROPPED = 34,    /* cancelled before it started */
    EP_KIND_STARTED = 35,    /* answers START; no payload, or an error record */
    EP_KIND_STOPPED = 36,    /* answers STOP */
    EP_KIND_HELLO = 37,      /* control lane: the worker accepts lanes */
    EP_KIND_CALLBACK = 38,   /* Python calls Erlang and waits; subject: its number */
    EP_KIND_MAINTAINED = 39, /* control lane: answers MAINTAIN; aux: 1 if it failed */
    EP_KIND_SEND = 40,       /* a message to an Erlang process, on any lane at any time */
    EP_KIND_ITEMS = 41,      /* a stream: its belt, in the block subject, has items */
    EP_KIND_ARRAYS = 48,     /* aux: enum ep_arrays_aux */
};

/* aux of CALL and EVAL on a lane: what the caller wants of the result. */
enum ep_form {
    EP_FORM_VALUE = 0,
    EP_FORM_STREAM = 1, /* its items, one after the other; the reply then has no value */
};

enum ep_mode { EP_MODE_WORKER = 0, EP_MODE_OWNGIL = 1 };

/* Exceptions that Erlang sees under a name of their own. */
enum ep_error {
    EP_ERROR_EXCEPTION = 0,
    EP_ERROR_STOP_ITERATION = 1,
    EP_ERROR_INTERRUPTED = 2,
    EP_ERROR_CANCELLED = 3, /* of a task */
    EP_ERROR_NOT_FOUND = 4, /* of a task: there is no such module or function */
    EP_ERROR_MAX = 4,
};

/* The numbers of questions, see docs/wire.md. */
#define EP_QUESTION_MAX 23

/* How a callback went. */
enum ep_answer {
    EP_ANSWER_VALUE = 0,  /* one term */
    EP_ANSWER_FAILED = 1, /* class, reason, text, stack trace: erlang.CallbackError */
    EP_ANSWER_RAISE = 2,  /* name of a built-in exception and its message */
    EP_ANSWER_STATUS = 3, /* enum ep_status, one byte; not in the term format */
    EP_ANSWER_ITEMS = 4,  /* the number of a lease, then terms: each an item, in order */
};

/* Header of A, written before the worker exists and constant from then on. */
struct ep_layout_header {
    uint64_t magic;
    uint32_t version;
    uint32_t lanes; /* control lane included */
    uint32_t call_cells;
    uint32_t urgent_cells;
    uint32_t response_cells;
    uint32_t reclaim_slots;
    uint64_t slab_size;
    uint64_t size_a;
    uint64_t size_b;      /* size_c: lanes times slab_size */
    uint32_t spin_min_ns; /* busy wait of a lane thread, see ep_idle_init() */
    uint32_t spin_max_ns;
};

/* Per lane in A: the words of the VM. */
struct ep_lane_a {
    EP_ALIGNED ep_atomic_u64 response_head;  /* C1 */
    EP_ALIGNED ep_atomic_u64 response_bell;  /* odd: ring the eventfd (W2) */
    EP_ALIGNED ep_atomic_u32 futex;          /* the lane thread sleeps here */
    ep_atomic_u64 kicked_ns;                 /* CLOCK_MONOTONIC of the last wake-up by a message */
    EP_ALIGNED ep_atomic_u64 reclaim_b_tail; /* R1: blocks of slab B handed back */
    EP_ALIGNED ep_atomic_u64 belt_bell;      /* changes when a reader of a belt may sleep (I2) */
};

/* Per lane in B: the words of the worker. */
struct ep_lane_b {
    EP_ALIGNED ep_atomic_u64 call_head;   /* C1; below it: started */
    ep_atomic_u64 running;                /* call id on top of the stack, EP_RUNNING_; 0 */
    EP_ALIGNED ep_atomic_u64 urgent_head; /* C1 */
    EP_ALIGNED ep_atomic_u64 park_bell;   /* odd: wake the futex (W2) */
    ep_atomic_u32 cpu;                    /* where the lane thread ran last, from 1; 0: unknown */
    ep_atomic_u32 wake_ns;                /* how long a wake-up takes, a smoothed guess */
    EP_ALIGNED ep_atomic_u64 space_bell;  /* odd: waits for room (S2) */
    EP_ALIGNED ep_atomic_u64 reclaim_c_tail; /* R1: blocks of slab C handed back */
};

/* In running: the call waits for an answer from Erlang; it imports a module, and interrupts
 * wait for the end of that. No call id has these bits. */
#define EP_RUNNING_WAITS 0x80000000u
#define EP_RUNNING_IMPORTS 0x40000000u
#define EP_RUNNING_FLAGS ((uint64_t)(EP_RUNNING_WAITS | EP_RUNNING_IMPORTS))

/* Offset in A of a word that changes whenever the names of callbacks do. */
#define EP_NAMES_EPOCH_OFFSET 128u

/* Channels of which one worker may have items ahead; the words for that, in the first pages of A and
 * B, each in a line of its own; the items, and their bytes. See ep_lease.h. */
#define EP_LEASES_MAX 16u
#define EP_LEASES_OFFSET_A 1024u
#define EP_LEASES_OFFSET_B 1024u
#define EP_LEASE_ITEMS 64u
#define EP_LEASE_BYTES (16u << 10)

#ifndef __cplusplus
static_assert(sizeof(struct ep_cell) == 256, "a cell is four cache lines");
static_assert(offsetof(struct ep_cell, data) == 32, "a small payload shares the first line");
static_assert(sizeof(struct ep_layout_header) == 64, "header of A");
static_assert(sizeof(struct ep_lane_a) == (size_t)5 * EP_CACHE_LINE, "one line per word");
static_assert(sizeof(struct ep_lane_b) == (size_t)5 * EP_CACHE_LINE, "one line per word");
static_assert(EP_LEASES_OFFSET_A + EP_LEASES_MAX * EP_CACHE_LINE <= EP_PAGE, "in the first page");
static_assert(sizeof(ep_atomic_u64) == 8 && sizeof(ep_atomic_u32) == 4, "atomics without a lock");
#endif

#endif
