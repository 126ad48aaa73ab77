/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_request.h"

#include "ep_buf.h"
#include "ep_etf.h"
#include "ep_layout.h"
#include "ep_py_builtin.h"
#include "ep_py_code.h"
#include "ep_py_context_fields.h"
#include "ep_py_decode.h"
#include "ep_py_encode.h"
#include "ep_py_env.h"
#include "ep_py_error.h"
#include "ep_py_import.h"
#include "ep_py_none.h"
#include "ep_py_place.h"
#include "ep_py_space.h"
#include "ep_py_target.h"
#include "ep_python.h"

#include <errno.h>

/*
 * One request: CALL, EVAL or EXEC.
 *
 * What Python does not like about a request is an exception that stays set from
 * decode to encode; nothing runs in between.
 */

/* --- decode ------------------------------------------------------------------------ */

/* What a step of decoding returns: 0, -EPROTO, or this if an exception is set. */
#define RAISED 1

static int make_args(struct ep_py_request *request, size_t count)
{
    request->args = request->own_args + 1;
    if (count <= EP_PY_ARGS_INLINE)
        return 0;
    PyObject **args = PyMem_Malloc((count + 1) * sizeof(*args));
    if (args == NULL) {
        PyErr_NoMemory();
        return RAISED;
    }
    request->args = args + 1;
    return 0;
}

static int decode_args(struct ep_py_context *context, struct ep_py_request *request,
                       struct ep_etf_cursor *cursor, size_t n_args, size_t n_kwargs, bool is_string,
                       const uint8_t *string)
{
    request->root = "args";
    int rc = make_args(request, n_args + n_kwargs);
    for (size_t i = 0; i < n_args && rc == 0; i++) {
        PyObject *value = NULL;
        if (is_string)
            value = PyLong_FromLong(string[i]);
        else
            rc = ep_py_decode(&context->codec, cursor, &value);
        if (rc == 0 && value == NULL) {
            context->codec.place.is_closed = false; /* which argument is worth saying */
            ep_py_place_index(&context->codec.place, i);
            rc = RAISED;
        }
        if (rc == 0) {
            request->args[i] = value;
            request->n_args = request->n_all = i + 1;
        }
    }
    if (rc == 0 && n_args > 0 && !is_string)
        rc = ep_etf_list_end(cursor);
    return rc;
}

static PyObject *decode_key(struct ep_etf_cursor *cursor, int *ret_rc)
{
    struct ep_etf_token token;

    *ret_rc = ep_etf_next(cursor, &token);
    if (*ret_rc < 0)
        return NULL;
    if (token.type != EP_ETF_BINARY && token.type != EP_ETF_ATOM) {
        PyErr_SetString(PyExc_TypeError, "a key is neither an atom nor a binary");
        return NULL;
    }
    return ep_py_decode_name(&token);
}

static int decode_kwargs(struct ep_py_context *context, struct ep_py_request *request,
                         struct ep_etf_cursor *cursor, uint32_t count)
{
    int rc = 0;

    request->root = "kwargs";
    if (count == 0)
        return 0;
    request->kwnames = PyTuple_New(count);
    if (request->kwnames == NULL)
        return RAISED;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *value = NULL;
        PyObject *key = decode_key(cursor, &rc);
        if (key == NULL)
            return rc < 0 ? rc : RAISED;
        PyTuple_SET_ITEM(request->kwnames, i, key);
        rc = ep_py_decode(&context->codec, cursor, &value);
        if (rc < 0)
            return rc;
        if (value == NULL) {
            context->codec.place.is_closed = false;
            ep_py_place_key(&context->codec.place, key);
            return RAISED;
        }
        request->args[request->n_all++] = value;
    }
    return 0;
}

/* Python checks keyword names of Python functions only; C functions may take the
 * same one twice. Names are interned, so equal means identical. */
static int check_kwnames(struct ep_py_request *request)
{
    Py_ssize_t n = request->kwnames == NULL ? 0 : PyTuple_GET_SIZE(request->kwnames);

    for (Py_ssize_t i = 1; i < n; i++) {
        for (Py_ssize_t j = 0; j < i; j++) {
            if (PyTuple_GET_ITEM(request->kwnames, i) == PyTuple_GET_ITEM(request->kwnames, j)) {
                PyErr_Format(PyExc_ValueError, "two keys of the map become the same key: %R",
                             PyTuple_GET_ITEM(request->kwnames, i));
                return RAISED;
            }
        }
    }
    return 0;
}

static int decode_call(struct ep_py_context *context, struct ep_py_request *request,
                       struct ep_etf_cursor *cursor)
{
    struct ep_etf_token list, map = {.count = 0};

    if (ep_py_target_decode(context, request, cursor) < 0 || ep_etf_next(cursor, &list) < 0)
        return -EPROTO;
    if (list.type != EP_ETF_LIST && list.type != EP_ETF_NIL && list.type != EP_ETF_STRING)
        return -EPROTO;
    if ((request->flags & EP_FLAG_KWARGS) != 0) {
        /* The array must have room for both, so their number comes first. */
        struct ep_etf_cursor ahead = *cursor;
        for (uint32_t i = 0; list.type == EP_ETF_LIST && i < list.count; i++) {
            if (ep_etf_skip(&ahead) < 0)
                break; /* too deep: decode_args() says so */
        }
        if (list.type == EP_ETF_LIST && list.count > 0)
            (void)ep_etf_list_end(&ahead);
        if (ep_etf_next(&ahead, &map) < 0 || map.type != EP_ETF_MAP)
            map.count = 0;
    }

    if (request->second == NULL)
        return RAISED;
    int rc = decode_args(context, request, cursor, list.count, map.count,
                         list.type == EP_ETF_STRING, list.data);
    if (rc != 0 || (request->flags & EP_FLAG_KWARGS) == 0)
        return rc;
    if (ep_etf_next(cursor, &map) < 0 || map.type != EP_ETF_MAP)
        return -EPROTO;
    rc = decode_kwargs(context, request, cursor, map.count);
    return rc != 0 ? rc : check_kwnames(request);
}

static int decode_locals(struct ep_py_context *context, struct ep_py_request *request,
                         struct ep_etf_cursor *cursor)
{
    struct ep_etf_token map;
    int rc = 0;

    request->root = "locals";
    if (ep_etf_next(cursor, &map) < 0 || map.type != EP_ETF_MAP)
        return -EPROTO;
    if (map.count == 0)
        return 0;
    request->second = PyDict_New();
    if (request->second == NULL)
        return RAISED;
    for (uint32_t i = 0; i < map.count && rc == 0; i++) {
        PyObject *value = NULL;
        PyObject *key = decode_key(cursor, &rc);
        if (key == NULL)
            return rc < 0 ? rc : RAISED;
        rc = ep_py_decode(&context->codec, cursor, &value);
        if (rc == 0 && value == NULL) {
            context->codec.place.is_closed = false;
            ep_py_place_key(&context->codec.place, key);
            rc = RAISED;
        }
        if (rc == 0 && PyDict_SetItem(request->second, key, value) < 0)
            rc = RAISED;
        if (rc == 0 && PyDict_GET_SIZE(request->second) != (Py_ssize_t)i + 1) {
            PyErr_Format(PyExc_ValueError, "two keys of the map become the same key: %R", key);
            rc = RAISED;
        }
        Py_XDECREF(value);
        Py_DECREF(key);
    }
    return rc;
}

static int decode_code_request(struct ep_py_context *context, struct ep_py_request *request,
                               struct ep_etf_cursor *cursor)
{
    struct ep_etf_token code;

    if (ep_py_decode_binary_token(cursor, &code) < 0)
        return -EPROTO;
    if (request->kind == EP_KIND_EVAL) {
        int rc = decode_locals(context, request, cursor);
        if (rc != 0)
            return rc;
        request->root = NULL;
    }
    return ep_py_code_decode(context, request, &code) < 0 ? RAISED : 0;
}

int ep_py_request_decode(struct ep_py_context *context, struct ep_py_request *request,
                         const struct ep_cell *cell, const uint8_t *payload)
{
    struct ep_etf_cursor cursor;

    /* Not zeroed as a whole: own_args would cost more than the rest. */
    request->kind = cell->kind;
    request->flags = cell->flags;
    request->outer_none = (uint8_t)ep_py_none_enter(cell->flags);
    request->is_stream = cell->aux == EP_FORM_STREAM;
    request->has_failed = true;
    request->is_missing = false;
    request->root = NULL;
    request->target = NULL;
    request->scopes = EP_PY_SCOPES_NONE;
    request->has_entered = false;
    request->first = request->second = request->kwnames = request->result = NULL;
    request->vars = request->outer = NULL;
    request->args = request->own_args + 1;
    request->n_args = request->n_all = 0;
    request->brought = request->named = (struct ep_py_cargo){.n = 0};
    request->shares = false;
    ep_py_place_clear(&context->codec.place);
    size_t length = cell->length;
    if ((request->flags & EP_FLAG_ARRAYS) != 0
        && ep_py_store_arrive(payload, cell->length, &request->brought, &length, &request->shares)
               < 0)
        return -EPROTO;
    ep_etf_cursor_init(&cursor, payload, length);

    request->space = ep_py_env_get(context, cell->subject);
    if (request->space == NULL)
        return 0;
    request->env = ep_py_space_dict(request->space);
    const struct ep_py_cargo *outer = context->codec.brought;
    context->codec.brought = &request->brought;
    int rc = request->kind == EP_KIND_CALL ? decode_call(context, request, &cursor)
                                           : decode_code_request(context, request, &cursor);
    context->codec.brought = outer;
    if (rc < 0)
        return rc;
    request->has_failed = rc == RAISED;
    if (!request->has_failed)
        request->root = NULL;
    return 0;
}

/* --- run ---------------------------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030D0000
static int PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **ret_value)
{
    *ret_value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *ret_value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}
#endif

/* New. A target remembers that the module it saw was initialised, since another
 * thread may be in the middle of importing what sys.modules shows. */
static PyObject *find_module(struct ep_py_request *request)
{
    PyObject *name = request->first;
    PyObject *module = NULL;

    if (ep_py_target_is_of(request->target, request) && request->target->module != NULL) {
        if (PyDict_GetItemRef(PyImport_GetModuleDict(), name, &module) < 0)
            return NULL;
        if (module == request->target->module)
            return module;
        Py_CLEAR(module);
    }
    if (PyUnicode_AsUTF8(name) == NULL)
        return NULL;
    module = PyImport_Import(name);
    if (module == NULL)
        ep_py_import_explain(name);
    /* The import may have run other calls of this context. */
    if (module != NULL && ep_py_target_is_of(request->target, request))
        Py_XSETREF(request->target->module, Py_NewRef(module));
    return module;
}

/* New. What lies in a plain module is found there at once: only names of Python's own,
 * which begin with an underscore, come before it. Anything else is Python's affair. */
static PyObject *get_function(PyObject *module, PyObject *name)
{
    PyObject *function;

    if (PyModule_CheckExact(module) && PyUnicode_GET_LENGTH(name) > 0
        && PyUnicode_READ_CHAR(name, 0) != '_') {
        int rc = PyDict_GetItemRef(PyModule_GetDict(module), name, &function);
        if (rc != 0)
            return function;
    }
    return PyObject_GetAttr(module, name);
}

static PyObject *find_function(struct ep_py_context *context, struct ep_py_request *request)
{
    PyObject *module, *function;

    if (request->first != context->main_name) {
        module = find_module(request);
    } else {
        if (PyDict_GetItemRef(request->env, request->second, &function) != 0)
            return function;
        module = Py_NewRef(context->own_main);
    }
    if (module == NULL)
        return NULL;
    function = get_function(module, request->second);
    Py_DECREF(module);
    return function;
}

static PyObject *call(struct ep_py_context *context, struct ep_py_request *request)
{
    PyObject *function = find_function(context, request), *result;

    if (function == NULL) {
        request->is_missing = true;
        return NULL;
    }
    if (ep_py_builtin_is(context, function))
        result = ep_py_builtin_call(request, function);
    else
        result =
            PyObject_Vectorcall(function, request->args,
                                request->n_args | PY_VECTORCALL_ARGUMENTS_OFFSET, request->kwnames);
    Py_DECREF(function);
    return result;
}

static PyObject *evaluate_closed(struct ep_py_request *request)
{
    PyObject *function = PyFunction_New(request->first, request->env);
    PyObject *result =
        function == NULL ? NULL : PyObject_VectorcallDict(function, NULL, 0, request->second);

    Py_XDECREF(function);
    return result;
}

static PyObject *evaluate_merged(struct ep_py_request *request)
{
    PyObject *globals = PyDict_Copy(request->env);
    PyObject *result = NULL;

    if (globals != NULL && PyDict_Update(globals, request->second) == 0)
        result = PyEval_EvalCode(request->first, globals, request->second);
    Py_XDECREF(globals);
    return result;
}

static PyObject *evaluate(struct ep_py_request *request)
{
    switch (request->scopes) {
    case EP_PY_SCOPES_CLOSED: return evaluate_closed(request);
    case EP_PY_SCOPES_MERGED: return evaluate_merged(request);
    default:
        return PyEval_EvalCode(request->first, request->env,
                               request->second == NULL ? request->env : request->second);
    }
}

void ep_py_request_run(struct ep_py_context *context, struct ep_py_request *request)
{
    if (request->has_failed)
        return;
    if (ep_py_space_enter(context, request) == 0)
        request->result =
            request->kind == EP_KIND_CALL ? call(context, request) : evaluate(request);
    request->has_failed = request->result == NULL;
}

/* --- encode -------------------------------------------------------------------------- */

size_t ep_py_request_size_hint(const struct ep_py_request *request)
{
    PyObject *result = request->result;

    if (result == NULL || request->kind == EP_KIND_EXEC)
        return 0;
    if (PyBytes_Check(result))
        return (size_t)PyBytes_GET_SIZE(result) + 16;
    if (PyUnicode_Check(result) && PyUnicode_IS_COMPACT_ASCII(result))
        return (size_t)PyUnicode_GET_LENGTH(result) + 16;
    if (PyByteArray_Check(result))
        return (size_t)PyByteArray_GET_SIZE(result) + 16;
    if (PyMemoryView_Check(result))
        return (size_t)PyMemoryView_GET_BUFFER(result)->len + 16;
    return 0;
}

void ep_py_request_release(struct ep_py_request *request)
{
    for (size_t i = 0; i < request->n_all; i++)
        Py_DECREF(request->args[i]);
    request->n_args = request->n_all = 0;
    if (request->kind == EP_KIND_EVAL)
        Py_CLEAR(request->second);
    Py_CLEAR(request->result);
}

static int encode_result(struct ep_py_context *context, struct ep_py_request *request,
                         struct ep_buf *buf)
{
    struct ep_py_codec *codec = &context->codec;
    struct ep_py_cargo *named = codec->named;
    bool shares = codec->shares;

    ep_py_place_clear(&codec->place);
    codec->named = &request->named;
    codec->shares = request->shares;
    int rc = ep_py_encode(codec, buf, request->result);
    codec->named = named;
    codec->shares = shares;
    return rc;
}

static void encode(struct ep_py_context *context, struct ep_py_request *request, struct ep_buf *buf,
                   struct ep_py_reply *ret_reply)
{
    *ret_reply = (struct ep_py_reply){.kind = EP_KIND_RESULT};
    if (!request->has_failed) {
        if (request->kind == EP_KIND_EXEC)
            return;
        if (encode_result(context, request, buf) == 0)
            return;
        ep_py_cargo_finish(&request->named);
        request->root = "result";
        /* What was written so far goes; a failed buffer becomes usable again. */
        size_t limit = buf->limit;
        void *lent = buf->lent;
        size_t capacity = buf->data == buf->lent ? buf->capacity : 0;
        ep_buf_finish(buf);
        ep_buf_init(buf, lent, capacity, limit);
    }
    ep_py_error_encode(buf, request->flags, request->root, &context->codec.place, ret_reply);
}

void ep_py_request_encode(struct ep_py_context *context, struct ep_py_request *request,
                          struct ep_buf *buf, struct ep_py_reply *ret_reply)
{
    encode(context, request, buf, ret_reply);
    if (request->brought.n + request->named.n == 0)
        return;
    ep_py_request_release(request);
    if (buf->error == 0)
        ret_reply->has_arrays = ep_py_store_describe(&request->named, &request->brought, buf);
    if (ret_reply->has_arrays && buf->error != 0)
        Py_FatalError("no memory for the arrays of a reply");
}

void ep_py_request_finish(struct ep_py_context *context, struct ep_py_request *request)
{
    for (size_t i = 0; i < request->n_all; i++)
        Py_DECREF(request->args[i]);
    if (request->args != request->own_args + 1)
        PyMem_Free(request->args - 1);
    Py_XDECREF(request->result);
    Py_XDECREF(request->kwnames);
    Py_XDECREF(request->second);
    Py_XDECREF(request->first);
    ep_py_space_leave(context, request);
    Py_XDECREF(request->space);
    ep_py_none_leave(request->outer_none);
    if (request->brought.max + request->named.max == 0)
        return;
    ep_py_cargo_finish(&request->brought);
    ep_py_cargo_finish(&request->named);
}
