/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_TERM_H
#define EP_NIF_TERM_H

/* ep_nif_term - terms of the faked VM, for tests. Each keeps its environment. */

#include "fake_erl_nif.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace nif {

inline void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "nif test: %s\n", what);
    abort();
}

/* A term and what keeps it. */
class Term {
public:
    Term() = default;
    Term(ErlNifEnv *env, ERL_NIF_TERM term) : env_(env, enif_free_env), term_(term)
    {
    }

    ERL_NIF_TERM operator*() const
    {
        return term_;
    }

    ERL_NIF_TERM in(ErlNifEnv *env) const
    {
        return enif_make_copy(env, term_);
    }

    std::string text() const
    {
        char text[512];
        fake_print(term_, text, sizeof(text));
        return text;
    }

    /* The i-th element of a tuple, from 0. */
    Term operator[](int i) const
    {
        const ERL_NIF_TERM *elements;
        int arity;
        must(enif_get_tuple(env_.get(), term_, &arity, &elements) && i < arity, "no such element");
        Term element = *this;
        element.term_ = elements[i];
        return element;
    }

    /* Whether it is a tuple with that atom in front. */
    bool is(const char *tag) const
    {
        const ERL_NIF_TERM *elements;
        int arity;
        return enif_get_tuple(nullptr, term_, &arity, &elements) && arity > 0
               && elements[0] == enif_make_atom(nullptr, tag);
    }

    bool is_atom(const char *name) const
    {
        return term_ == enif_make_atom(nullptr, name);
    }

    /* Something is to be run still: the caller polls. */
    bool is_scheduled() const
    {
        return fake_is_scheduled(term_);
    }

    /* The first argument of what is_scheduled(). */
    Term argument() const
    {
        Term argument = *this;
        argument.term_ = fake_scheduled_argument(term_);
        return argument;
    }

    uint64_t number() const
    {
        unsigned long value;
        must(enif_get_ulong(nullptr, term_, &value), "not a number");
        return value;
    }

    std::string bytes() const
    {
        ErlNifBinary bin;
        must(enif_inspect_binary(nullptr, term_, &bin), "not a binary");
        return std::string(reinterpret_cast<char *>(bin.data), bin.size);
    }

    /* The object of a resource. */
    void *object() const
    {
        return fake_resource(term_);
    }

    explicit operator bool() const
    {
        return term_ != 0;
    }

private:
    friend class Process;
    std::shared_ptr<ErlNifEnv> env_;
    ERL_NIF_TERM term_ = 0;
};

inline Term atom(const char *name)
{
    return Term(enif_alloc_env(), enif_make_atom(nullptr, name));
}

inline Term integer(int64_t value)
{
    ErlNifEnv *env = enif_alloc_env();
    return Term(env, enif_make_int64(env, value));
}

inline Term binary(const std::string &bytes)
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM term;
    memcpy(enif_make_new_binary(env, bytes.size(), &term), bytes.data(), bytes.size());
    return Term(env, term);
}

template <typename Make> Term compound(const std::vector<Term> &items, Make make)
{
    ErlNifEnv *env = enif_alloc_env();
    std::vector<ERL_NIF_TERM> terms;
    for (const Term &item : items)
        terms.push_back(item.in(env));
    return Term(env, make(env, terms.data(), static_cast<unsigned>(terms.size())));
}

inline Term list(const std::vector<Term> &items)
{
    return compound(items, enif_make_list_from_array);
}

inline Term tuple(const std::vector<Term> &items)
{
    return compound(items, enif_make_tuple_from_array);
}

/* A map of one pair. */
inline Term map_of(const Term &key, const Term &value)
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM keys[] = {key.in(env)}, values[] = {value.in(env)}, map = 0;
    enif_make_map_from_arrays(env, keys, values, 1, &map);
    return Term(env, map);
}

inline Term empty_map()
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM map = 0;
    enif_make_map_from_arrays(env, nullptr, nullptr, 0, &map);
    return Term(env, map);
}

} // namespace nif

#endif
