/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_slots.h"

#include "ep_atoms.h"
#include "ep_slots.h"

#include <errno.h>

/* slot_acquire(Tag, hold | run) -> {held | waiting, Slot}. Waiting: {py_slot, Tag} comes,
 * unless slot_release(Slot) comes first: the slot is held, or, to run a request, it is to
 * be claimed. */
PY_NIF(slot_acquire_nif)
{
    bool waits;

    (void)argc;
    struct ep_slot_ref *ref = ep_slot_ref_create(env, py_nif_vm(env), argv[0],
                                                 !enif_is_identical(argv[1], am_run), &waits);
    if (ref == NULL)
        return py_nif_posix_error(env, -ENOMEM);
    ERL_NIF_TERM term = enif_make_resource(env, ref);
    enif_release_resource(ref);
    return enif_make_tuple2(env, waits ? am_waiting : am_held, term);
}

/* slot_claim(Slot, Tag) -> held | waiting, after {py_slot, Tag}. Waiting: that comes once
 * more, unless slot_release(Slot) comes first, and then the slot is held. */
PY_NIF(slot_claim_nif)
{
    struct ep_slot_ref *ref;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_slot_type, (void **)&ref))
        return enif_make_badarg(env);
    return ep_slot_ref_claim(ref, env, argv[1]) ? am_held : am_waiting;
}

/* slot_release(Slot) -> held | waiting: what it was. After held of a slot that waited,
 * its message is, or will be, there; an offer counts as held. */
PY_NIF(slot_release_nif)
{
    struct ep_slot_ref *ref;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_slot_type, (void **)&ref))
        return enif_make_badarg(env);
    switch (ep_slot_ref_end(ref, env)) {
    case EP_SLOT_OFFERED:
    case EP_SLOT_HELD: return am_held;
    default: return am_waiting;
    }
}

/* slots() -> {Current, Max, Waiting} */
PY_NIF(slots_nif)
{
    const struct ep_slots *slots = &py_nif_vm(env)->slots;

    (void)argc;
    (void)argv;
    return enif_make_tuple3(env, enif_make_uint(env, ep_slots_current(slots)),
                            enif_make_uint(env, atomic_load(&slots->max)),
                            enif_make_uint(env, ep_slots_waiting(slots)));
}

/* set_max_slots(N) -> ok */
PY_NIF(set_max_slots_nif)
{
    unsigned max;

    (void)argc;
    if (!enif_get_uint(env, argv[0], &max) || max == 0)
        return enif_make_badarg(env);
    ep_slots_set_max(&py_nif_vm(env)->slots, env, max);
    return am_ok;
}
