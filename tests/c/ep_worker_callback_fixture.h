/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_CALLBACK_FIXTURE_H
#define EP_WORKER_CALLBACK_FIXTURE_H

/*
 * ep_worker_callback_fixture - a real ep_worker whose Python asks Erlang something, with
 * the test in the place of the VM.
 */

#include "ep_worker_fixture.h"

class WorkerCallbackTest : public WorkerTest {
protected:
    /* Sends a request and returns the id of its call. */
    uint64_t begin(uint16_t kind, const std::string &payload, uint32_t lane = 1)
    {
        vm_->send(lane, kind, payload, ++last_id_);
        return last_id_;
    }

    uint64_t begin_eval(const std::string &code, uint32_t lane = 1)
    {
        return begin(EP_KIND_EVAL, term::binary(code) + term::map({}), lane);
    }

    /* The same as something that a callback needs: it runs on top of what waits. */
    uint64_t nest(uint16_t kind, const std::string &payload, uint32_t lane = 1)
    {
        vm_->send_urgent(lane, kind, payload, ++last_id_);
        return last_id_;
    }

    uint64_t nest_eval(const std::string &code, uint32_t lane = 1)
    {
        return nest(EP_KIND_EVAL, term::binary(code) + term::map({}), lane);
    }

    /* Takes the next message, which has to be a callback of that call. */
    Reply callback(uint64_t id, const std::string &text, uint32_t lane = 1)
    {
        Reply reply = vm_->receive(lane);
        EXPECT_EQ(EP_KIND_CALLBACK, reply.kind) << VmSide::shown(reply);
        EXPECT_EQ(id, reply.call_id);
        EXPECT_EQ(text, reply.text());
        return reply;
    }

    /* Takes the next message, which has to be the end of that call. */
    std::string end(uint64_t id, uint32_t lane = 1)
    {
        Reply reply = vm_->receive(lane);
        EXPECT_EQ(id, reply.call_id);
        return VmSide::shown(reply);
    }

    std::string answered(uint64_t id, const std::string &text, const std::string &payload,
                         ep_answer how = EP_ANSWER_VALUE)
    {
        vm_->answer(1, callback(id, text), payload, how);
        return end(id);
    }

    /* Returns when the control thread has done what was sent to it before. */
    void settle_control()
    {
        /* It takes a message before it does it, and one after the other. */
        vm_->interrupt(1, 0xdead);
        uint64_t sent = vm_->lane(0)->call.tail;
        while (ep_ring_taken(&vm_->lane(0)->call) < sent && vm_->is_alive())
            sched_yield();
    }

    /* Answers what was asked by other ways than that of a call: over the control lane. */
    void answer_elsewhere(const std::string &text)
    {
        Reply reply = vm_->receive(0);
        EXPECT_EQ(EP_KIND_CALLBACK, reply.kind) << VmSide::shown(reply);
        EXPECT_EQ(text, reply.text());
        vm_->send(0, EP_KIND_ANSWER, term::integer(1), reply.call_id);
    }

    uint64_t last_id_ = 1000;
};

#endif
