/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_INTERNAL_H
#define EP_PY_INTERNAL_H

/*
 * ep_py_internal - what the files ep_py*.c share; nobody else includes it.
 *
 * Ownership  "new" references are the caller's, "borrowed" ones are not.
 * Errors     -1 or NULL: a Python exception is set, unless a comment says errno.
 * Threads    the thread of the context, attached.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "ep_etf.h"
#include "ep_py.h"

#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(op) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* --- module _erlang ------------------------------------------------------------ */

/* An opaque pid or reference of the VM: erlang.Pid, erlang.Ref. */
struct ep_py_handle {
    PyObject_VAR_HEAD /* ob_size: bytes of data */
        Py_hash_t hash;
    uint8_t seal[EP_ETF_SEAL_SIZE];
    uint8_t data[];
};

struct ep_py_types {
    PyTypeObject *pid;
    PyTypeObject *ref;
};

PyMODINIT_FUNC ep_py_module_init(void);

/* Copies the borrowed types of this interpreter's _erlang. */
int ep_py_module_types(PyObject *module, struct ep_py_types *ret_types);
PyObject *ep_py_handle_new(PyTypeObject *type, const struct ep_etf_token *token);

/* --- questions to Erlang ---------------------------------------------------------- */

/* The numbers stand in erl/src/py_callback.erl, too. */
enum ep_py_question {
    EP_PY_CALL = 0,
    EP_PY_IS_REGISTERED = 1,
    EP_PY_STATE_GET = 2,
    EP_PY_STATE_SET = 3,
    EP_PY_STATE_INCR = 4,
    EP_PY_STATE_DECR = 5,
    EP_PY_STATE_DELETE = 6,
    EP_PY_STATE_KEYS = 7,
    EP_PY_STATE_CLEAR = 8,
};

extern PyMethodDef ep_py_callback_methods[];

/* Asks and waits. name: NULL unless the question has one. New. */
PyObject *ep_py_ask(PyObject *module, enum ep_py_question question, PyObject *name,
                    PyObject *const *args, Py_ssize_t n_args);

/* --- namespaces ----------------------------------------------------------------- */

struct ep_py_env_entry {
    uint64_t id; /* 0: free */
    PyObject *dict;
};

/* Open addressing with linear probing. A context's, and its guests'. The GIL guards
 * it, and without one the lock. */
struct ep_py_envs {
    unsigned refs;
    pthread_mutex_t lock;
    struct ep_py_env_entry *entries;
    size_t capacity; /* a power of two, or 0 */
    size_t used;
    struct ep_py_env_entry last; /* the one used last; borrowed */
};

/* Makes what a namespace begins with. */
PyObject *ep_py_env_new_shared(struct ep_py_context *context);

struct ep_py_envs *ep_py_envs_create(void); /* raises */
struct ep_py_envs *ep_py_envs_ref(struct ep_py_envs *envs);
void ep_py_envs_unref(struct ep_py_envs *envs);

/* New; made when first seen. */
PyObject *ep_py_env_get(struct ep_py_context *context, uint64_t env_id);
void ep_py_env_drop(struct ep_py_envs *envs, uint64_t env_id);

/* Forgets all of them. */
void ep_py_env_clear(struct ep_py_envs *envs);

/* --- caches ---------------------------------------------------------------------- */

#define EP_PY_TARGET_MAX 103
#define EP_PY_TARGETS_LOG2 7
#define EP_PY_CODE_MAX 256
#define EP_PY_CODES 64 /* a power of two */

/* What calls name, by the bytes of both names with their headers. */
struct ep_py_target {
    PyObject *module_name, *function_name; /* interned */
    PyObject *module;                      /* that of the name, once it was seen initialised */
    uint8_t size;                          /* 0: nothing is kept here */
    uint8_t bytes[EP_PY_TARGET_MAX];
};

struct ep_py_code {
    uint16_t size;
    uint16_t kind;
    uint8_t bytes[EP_PY_CODE_MAX];
    PyObject *code;
};

/* Reads the names that a call begins with into first and second, and target if they are
 * kept; second is NULL if an exception is set. -EPROTO: these are not two binaries. */
int ep_py_target_decode(struct ep_py_context *context, struct ep_py_request *request,
                        struct ep_etf_cursor *cursor);

/* Whether it still belongs to the names of the request: calls that run on top of one take
 * places, too. target may be NULL. */
bool ep_py_target_is_of(const struct ep_py_target *target, const struct ep_py_request *request);

void ep_py_target_clear(struct ep_py_target *target);

/* New, interned; NULL: an exception is set. */
PyObject *ep_py_decode_name(const struct ep_etf_token *token);

/* 0 or -EPROTO. */
int ep_py_decode_binary_token(struct ep_etf_cursor *cursor, struct ep_etf_token *ret_token);

/* --- where a value did not convert ------------------------------------------------ */

/* Built backwards while an error unwinds: the text is [start, end of buffer). */
struct ep_py_place {
    uint16_t start;
    bool is_closed; /* the path would say nothing: too deep */
    char text[1024];
};

static inline void ep_py_place_clear(struct ep_py_place *place)
{
    place->start = sizeof(place->text);
    place->is_closed = false;
}

void ep_py_place_index(struct ep_py_place *place, size_t index);
void ep_py_place_key(struct ep_py_place *place, PyObject *key);

/* --- conversion --------------------------------------------------------------------- */

/* What a conversion needs to know; one per thread that converts. */
struct ep_py_codec {
    struct ep_py_types types; /* borrowed from the interpreter's _erlang */
    struct ep_py_place place;
};

/* Reads one term. ret_value is new, or NULL with an exception set and the place
 * noted. Returns 0 or -EPROTO; after an exception the cursor is anywhere. */
int ep_py_decode(struct ep_py_codec *codec, struct ep_etf_cursor *cursor, PyObject **ret_value);

/* Text: str if it is UTF-8, else an exception. */
PyObject *ep_py_decode_text(const uint8_t *data, size_t size);

/* Appends one term; the place is noted on failure. */
int ep_py_encode(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *value);

/* --- context ----------------------------------------------------------------------- */

struct ep_py_context {
    PyInterpreterState *interp;
    PyThreadState *tstate;
    PyThreadState *outer; /* owngil: the thread's place in the main interpreter */
    unsigned long thread_id;
    bool is_main_thread;
    bool is_sub;   /* has an interpreter of its own */
    bool is_guest; /* see ep_py_guest_create() */

    PyObject *shared; /* namespace 0 */
    PyObject *erlang;
    PyObject *builtins;
    PyObject *compile;
    PyObject *main_name; /* '__main__' */
    PyObject *breath;    /* a code object that does nothing */
    struct ep_py_codec codec;
    struct ep_py_envs *envs;
    struct ep_py_target targets[1 << EP_PY_TARGETS_LOG2];
    struct ep_py_code codes[EP_PY_CODES];
};

/* --- errors -------------------------------------------------------------------------- */

/* Takes the exception that is set and writes it as an error record. root and
 * place (NULL: none) say where a conversion failed. */
void ep_py_error_encode(struct ep_buf *buf, uint16_t flags, const char *root,
                        const struct ep_py_place *place, struct ep_py_reply *ret_reply);

/* Writes an error record for what is no Python exception. */
void ep_py_put_error(struct ep_buf *error, const char *type, const char *why);

/* Takes the exception that is set (new), with its traceback. */
PyObject *ep_py_error_take(void);

/* Sets an exception that was taken; takes the reference. NULL: does nothing. */
void ep_py_error_restore(PyObject *exc);

#endif
