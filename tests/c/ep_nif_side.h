/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_SIDE_H
#define EP_NIF_SIDE_H

/*
 * ep_nif_side - everything around the NIF, for tests: Erlang processes that call it, the
 * launcher and the worker process, and here contexts and calls.
 *
 * Replies are taken by the reaper, or by a test that calls check/1, in its own thread.
 */

#include "ep_nif_peek.h"
#include "ep_nif_worker.h"

namespace nif {

/* A context: the owner of a lane. */
class Context {
public:
    /* How long its callers poll, in ns; 0: they park at once. */
    explicit Context(uint32_t spin_ns = 0, int64_t max_result_bytes = 1 << 20)
        : lane_(owner_.call("lane_new", {tuple({integer(spin_ns), integer(spin_ns)}),
                                         integer(max_result_bytes), integer(0)}))
    {
    }

    const Term &lane() const
    {
        return lane_;
    }

    Process &owner()
    {
        return owner_;
    }

    std::string attach(Worker *worker, uint32_t index)
    {
        return owner_
            .call("lane_attach", {lane_, worker->term(), integer(index), atom("worker"), list({})})
            .text();
    }

    void close(const char *reason = "closed")
    {
        must(owner_.call("lane_close", {lane_, atom(reason)}).is_atom("ok"), "lane_close()");
    }

    void set_unavailable(const char *reason)
    {
        must(owner_.call("lane_set_unavailable", {lane_, atom(reason)}).is_atom("ok"),
             "lane_set_unavailable()");
    }

    uint32_t parked() const
    {
        return ep_nif_parked(lane_.object());
    }

    unsigned open_calls() const
    {
        return ep_nif_open_calls(lane_.object());
    }

private:
    Process owner_;
    Term lane_;
};

/* One request of a process. */
class Call {
public:
    static constexpr unsigned kNested = 0x100;

    /* Submits math:sqrt(7), or to an asker. */
    Call(Process *caller, const Term &target, unsigned flags = 0)
        : caller_(caller),
          result_(caller->call("call", {target, atom("undefined"), atom("math"), atom("sqrt"),
                                        list({integer(7)}), empty_map(), integer(flags)}))
    {
        find_reference();
    }

    /* Calls a function that goes on with this call, and stores what it returns. */
    const Term &go_on(const char *name, std::vector<Term> arguments = {})
    {
        arguments.insert(arguments.begin(), reference_);
        result_ = caller_->call(name, arguments);
        find_reference();
        return result_;
    }

    const Term &poll(unsigned polls = 1)
    {
        result_ = caller_->poll(result_, polls);
        find_reference();
        return result_;
    }

    const Term &await(const Term &tag)
    {
        return go_on("await", {tag});
    }

    const Term &answer(uint64_t number, int64_t value)
    {
        return go_on("answer",
                     {integer(static_cast<int64_t>(number)), atom("value"), integer(value)});
    }

    /* What the last function returned. */
    const Term &result() const
    {
        return result_;
    }

    std::string text() const
    {
        return result_.text();
    }

    bool has_reference() const
    {
        return static_cast<bool>(reference_);
    }

    uint64_t id()
    {
        return caller_->call("call_id", {reference_}).number();
    }

    std::string state() const
    {
        return reference_ ? ep_nif_call_state(reference_.object()) : "none";
    }

    const Term &reference() const
    {
        return reference_;
    }

    /* The term of the call is collected. */
    void drop()
    {
        reference_ = result_ = Term();
    }

private:
    /* In {pending, Call} and {callback, Call, ...}, and in what is scheduled. */
    void find_reference()
    {
        if (result_.is("pending") || result_.is("callback"))
            reference_ = result_[1];
        else if (result_.is_scheduled())
            reference_ = result_.argument();
    }

    Process *caller_;
    Term result_, reference_;
};

} // namespace nif

#endif
