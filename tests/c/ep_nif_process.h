/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_PROCESS_H
#define EP_NIF_PROCESS_H

/*
 * ep_nif_process - Erlang processes that call the NIF, and its library, for tests.
 *
 * Threads  a Process belongs to one thread at a time.
 */

#include "ep_nif_term.h"

#include <gtest/gtest.h>

#include <optional>

namespace nif {

/* An Erlang process, whose code is the test. */
class Process {
public:
    static constexpr unsigned kPolls = 1u << 20;

    Process() : pid_(fake_spawn())
    {
    }

    ~Process()
    {
        exit();
    }

    Process(const Process &) = delete;
    Process &operator=(const Process &) = delete;

    ErlNifPid pid() const
    {
        return pid_;
    }

    /* Calls a function of py_nif.erl, and does not poll. */
    Term call(const char *name, const std::vector<Term> &arguments)
    {
        return call_polling(0, name, arguments);
    }

    Term call_polling(unsigned polls, const char *name, const std::vector<Term> &arguments)
    {
        ErlNifEnv *env = fake_env_create(pid_);
        std::vector<ERL_NIF_TERM> argv;
        for (const Term &argument : arguments)
            argv.push_back(argument.in(env));
        return Term(env, fake_call(env, name, static_cast<int>(argv.size()), argv.data(), polls));
    }

    /* Goes on with what is_scheduled(). */
    Term poll(const Term &scheduled, unsigned polls = 1)
    {
        Term result = scheduled;
        result.term_ = fake_run(scheduled.env_.get(), *scheduled, polls);
        return result;
    }

    /* The oldest message, or nothing. */
    Term receive(int timeout_ms = kTimeoutMs)
    {
        ERL_NIF_TERM message;
        ErlNifEnv *env = fake_receive(pid_, timeout_ms, &message);
        return env == nullptr ? Term() : Term(env, message);
    }

    Term receive_now()
    {
        return receive(0);
    }

    void exit()
    {
        if (fake_is_alive(pid_))
            fake_exit(pid_);
    }

private:
    static constexpr int kTimeoutMs = 20000;
    ErlNifPid pid_;
};

/* The library, from load() to unload(), and a check that nothing of it is left. */
class Library {
public:
    explicit Library(fake_threads threads = FAKE_THREADS_RUN) : before_(fake_living())
    {
        fake_set_threads(threads);
        fake_load();
    }

    ~Library()
    {
        any_.reset();
        fake_unload();
        fake_counts left = fake_living();
        EXPECT_EQ(before_.envs, left.envs);
        EXPECT_EQ(before_.terms, left.terms);
        EXPECT_EQ(before_.binaries, left.binaries);
        EXPECT_EQ(before_.resources, left.resources);
        EXPECT_EQ(before_.monitors, left.monitors);
        EXPECT_EQ(before_.iterators, left.iterators);
        EXPECT_EQ(before_.messages, left.messages);
        EXPECT_EQ(before_.threads, left.threads);
        /* The library leaves its struct ep_vm to terms that live longer. */
        EXPECT_LE(left.memory, before_.memory + 1);
        fake_set_threads(FAKE_THREADS_RUN);
    }

    Library(const Library &) = delete;
    Library &operator=(const Library &) = delete;

    uint64_t counter(const char *name)
    {
        Term map = any_->call("counters", {});
        ErlNifMapIterator pairs;
        ERL_NIF_TERM key, value;
        unsigned long found = UINT64_MAX;
        must(enif_map_iterator_create(nullptr, *map, &pairs, ERL_NIF_MAP_ITERATOR_FIRST), "a map");
        for (; enif_map_iterator_get_pair(nullptr, &pairs, &key, &value);
             enif_map_iterator_next(nullptr, &pairs))
            if (key == enif_make_atom(nullptr, name))
                must(enif_get_ulong(nullptr, value, &found), "a number");
        enif_map_iterator_destroy(nullptr, &pairs);
        return found;
    }

    uint64_t slots_in_use()
    {
        return any_->call("slots", {})[0].number();
    }

private:
    fake_counts before_;
    std::optional<Process> any_{std::in_place};
};

} // namespace nif

#endif
