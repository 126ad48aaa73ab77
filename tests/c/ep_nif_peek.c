/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_nif_peek.h"

#include "ep_lanes.h"
#include "ep_object.h"
#include "py_nif_calls.h"

uint32_t ep_nif_parked(const void *lane)
{
    return atomic_load(&((const struct ep_lane *)lane)->common.parked);
}

unsigned ep_nif_open_calls(void *lane)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < ((struct ep_lane *)lane)->table.n; i++)
        n += atomic_load(&ep_call_at(lane, i)->state) != EP_CALL_FREE;
    return n;
}

const char *ep_nif_call_state(const void *call_ref)
{
    static const char *const names[] = {
        [EP_CALL_FREE] = "FREE",           [EP_CALL_SPINNING] = "SPINNING",
        [EP_CALL_PARKED] = "PARKED",       [EP_CALL_WAITING] = "WAITING",
        [EP_CALL_ABANDONED] = "ABANDONED", [EP_CALL_BUSY] = "BUSY",
        [EP_CALL_TAKEN] = "TAKEN",         [EP_CALL_DONE] = "DONE",
        [EP_CALL_OVERTAKEN] = "OVERTAKEN"};
    const struct ep_call *call = ((const struct ep_call_ref *)call_ref)->call;

    return call == NULL ? "none" : names[atomic_load(&call->state)];
}

bool ep_nif_put_for_erlang(void *object)
{
    const uint8_t byte = 1;
    struct ep_item *item = ep_item_of_bytes(&byte, 1);

    return item != NULL && ep_object_put(object, EP_SIDE_ERLANG, item, 0, NULL) == EP_STATUS_OK;
}

size_t ep_nif_take_for_python(void *object, uint8_t *bytes, size_t n)
{
    struct ep_item *item;
    struct ep_buf buf;

    if (ep_object_take(object, EP_SIDE_PYTHON, n, &item) != EP_STATUS_OK)
        return 0;
    ep_buf_init(&buf, bytes, n, n);
    ep_item_put(item, &buf);
    ep_item_free(item);
    return buf.error == 0 ? buf.length : 0;
}
