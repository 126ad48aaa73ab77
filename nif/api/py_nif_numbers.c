/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_numbers.h"

#include "ep_control.h"

ERL_NIF_TERM py_nif_shared_numbers(ErlNifEnv *env)
{
    static const struct {
        const char *name;
        unsigned number;
    } shared[] = {
        {"flag_traceback", EP_FLAG_TRACEBACK},
        {"flag_shared", PY_NIF_FLAG_SHARED},
        {"flag_nested", PY_NIF_FLAG_NESTED},
        {"flag_has_slot", PY_NIF_FLAG_HAS_SLOT},
        {"flag_none_nil", EP_FLAG_NIL},
        {"flag_none_undefined", EP_FLAG_UNDEFINED},
        {"flag_none_said", EP_FLAG_NONE_MASK << PY_NIF_FLAG_SAID_SHIFT},
        {"flag_text_binary", EP_STYLE_TEXT},
        {"flag_text_said", EP_STYLE_TEXT << PY_NIF_FLAG_SAID_SHIFT},
        {"flag_task", PY_NIF_FLAG_TASK},
        {"flag_stream", PY_NIF_FLAG_STREAM},
        {"contexts_max", EP_LANES_MAX - 1},
        {"max_slots", PY_NIF_MAX_SLOTS},
        {"max_atoms", PY_NIF_MAX_ATOMS},
        {"exit_fds_lost", EP_EXIT_FDS_LOST},
        {"question_call", EP_QUESTION_CALL},
        {"question_is_registered", EP_QUESTION_IS_REGISTERED},
        {"question_state_get", EP_QUESTION_STATE_GET},
        {"question_state_set", EP_QUESTION_STATE_SET},
        {"question_state_incr", EP_QUESTION_STATE_INCR},
        {"question_state_decr", EP_QUESTION_STATE_DECR},
        {"question_state_delete", EP_QUESTION_STATE_DELETE},
        {"question_state_keys", EP_QUESTION_STATE_KEYS},
        {"question_state_clear", EP_QUESTION_STATE_CLEAR},
        {"question_whereis", EP_QUESTION_WHEREIS},
        {"question_atom", EP_QUESTION_ATOM},
        {"question_receiver", EP_QUESTION_RECEIVER},
        {"question_deliver", EP_QUESTION_DELIVER},
        {"question_blocked", EP_QUESTION_BLOCKED},
        {"question_go_on", EP_QUESTION_GO_ON},
        {"question_task", EP_QUESTION_TASK},
        {"question_object", EP_QUESTION_OBJECT},
    };
    ERL_NIF_TERM pairs[sizeof(shared) / sizeof(shared[0])];

    for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
        ERL_NIF_TERM name = enif_make_atom(env, shared[i].name);
        pairs[i] = enif_make_tuple2(env, name, enif_make_uint(env, shared[i].number));
    }
    return enif_make_list_from_array(env, pairs, sizeof(pairs) / sizeof(pairs[0]));
}
