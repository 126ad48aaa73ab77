/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_frame.h"

#include "ep_crashpoint.h"
#include "ep_py_channel.h"
#include "ep_py_interrupt.h"
#include "ep_py_strike.h"

#include <string.h>

static struct ep_worker_frame *find_waiting(struct ep_worker_lane *lane, uint64_t call_id)
{
    struct ep_worker_frame *frame = lane->top;

    while (frame != NULL && (frame->call_id != call_id || !frame->is_waiting))
        frame = frame->below;
    return frame;
}

bool ep_worker_frame_put_outcome(struct ep_worker_lane *lane, const struct ep_cell *cell)
{
    struct ep_worker_frame *frame = find_waiting(lane, cell->call_id);

    /* The call that asked may have been interrupted and gone on. */
    if (frame == NULL || frame->number != cell->subject || frame->has_outcome)
        return false;
    struct ep_py_outcome *outcome = &frame->outcome;
    outcome->aux = cell->aux;
    outcome->length = cell->length;
    outcome->has_arrays = (cell->flags & EP_FLAG_ARRAYS) != 0;
    outcome->has_block = (cell->flags & EP_FLAG_BLOCK) != 0;
    outcome->block = outcome->has_block ? cell->block : 0;
    outcome->payload = ep_lane_worker_payload(&lane->shm, cell);
    if (!outcome->has_block) {
        memcpy(outcome->data, cell->data, cell->length);
        outcome->payload = outcome->data;
    }
    frame->has_outcome = true;
    EP_CRASHPOINT("callback.answered");
    return outcome->has_block;
}

void ep_worker_frame_cancel(struct ep_worker_lane *lane, uint64_t call_id, uint64_t number)
{
    struct ep_worker_frame *frame = find_waiting(lane, call_id);

    EP_CRASHPOINT("callback.cancel");
    if (frame != NULL && ep_py_strike_claim(&lane->interrupt, number))
        frame->is_cancelled = true;
}

void ep_worker_frame_end_stream(struct ep_worker_lane *lane, uint64_t call_id)
{
    struct ep_worker_frame *frame = lane->top;

    EP_CRASHPOINT("stream.finish");
    while (frame != NULL && frame->call_id != call_id)
        frame = frame->below;
    if (frame != NULL)
        frame->is_finishing = true;
}
