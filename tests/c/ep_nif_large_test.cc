// SPDX-License-Identifier: Apache-2.0

/*
 * How much of a request a normal scheduler copies, and that a dirty one sends the same.
 */
#include "ep_nif_side.h"

extern "C" {
#include "ep_array.h"
}

#include <algorithm>

using namespace nif;

namespace {

constexpr size_t kKiB = 1024;

class LargeTest : public testing::Test {
protected:
    LargeTest()
    {
        must(context_.attach(&worker_, 1) == "ok", "attach");
        worker_.start(1);
        worker_.ring_anyway();
        must(context_.owner().receive().text() == "{py_lane,started}", "started");
    }

    static Term large(size_t size)
    {
        return binary(std::string(size, 'x'));
    }

    /* Whose digits are x. */
    static Term large_integer(bool is_negative, size_t size)
    {
        std::string bytes = "\x83o";
        for (int shift = 24; shift >= 0; shift -= 8)
            bytes += static_cast<char>(size >> shift);
        bytes += static_cast<char>(is_negative);
        bytes.append(size, 'x');
        ErlNifEnv *env = enif_alloc_env();
        ERL_NIF_TERM term = 0;
        must(enif_binary_to_term(env, reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size(),
                                 &term, 0)
                 != 0,
             "an integer");
        return Term(env, term);
    }

    /* Whether a dirty scheduler sends the request, which has so many x. */
    bool is_dirty(ep_kind kind, const char *name, std::vector<Term> arguments, size_t size)
    {
        unsigned long before = fake_dirty_runs();
        arguments.insert(arguments.begin(), {context_.lane(), atom("undefined")});
        arguments.push_back(integer(0));
        Term call = caller_.call(name, arguments);
        unsigned long runs = fake_dirty_runs() - before;
        must(runs <= 1, "once is enough");
        must(call.is("pending"), "the call");
        std::optional<Request> request = worker_.find(1, kind);
        must(request.has_value(), "no request");
        EXPECT_EQ(std::count(request->payload.begin(), request->payload.end(), 'x'),
                  static_cast<long>(size));
        return runs > 0;
    }

    bool is_call_dirty(const std::vector<Term> &arguments, size_t size)
    {
        return is_dirty(EP_KIND_CALL, "call", {atom("m"), atom("f"), list(arguments), empty_map()},
                        size);
    }

    Library library_;
    Launcher launcher_;
    Worker worker_{&launcher_};
    Context context_;
    Process caller_;
};

TEST_F(LargeTest, IsCopiedToMemoryThatHasBeenInUse)
{
    constexpr size_t kSize = 600 * kKiB;
    EXPECT_FALSE(is_call_dirty({large(100 * kKiB)}, 100 * kKiB));
    EXPECT_TRUE(is_call_dirty({large(kSize)}, kSize)) << "new memory";
    EXPECT_FALSE(is_call_dirty({large(kSize)}, kSize));
    EXPECT_TRUE(is_call_dirty({large(1100 * kKiB)}, 1100 * kKiB)) << "too much in any case";
}

TEST_F(LargeTest, GoesOnFromThereToNewMemoryNoFarther)
{
    constexpr size_t kPart = 40 * kKiB, kParts = 20;
    EXPECT_FALSE(is_call_dirty({large(kPart)}, kPart));
    EXPECT_TRUE(is_call_dirty(std::vector<Term>(kParts, large(kPart)), kParts * kPart));
    EXPECT_FALSE(is_call_dirty(std::vector<Term>(kParts, large(kPart)), kParts * kPart));
}

TEST_F(LargeTest, GoesOnFromThereToPrivateMemoryNoFarther)
{
    constexpr size_t kPart = 40 * kKiB, kSmall = 4 * kKiB, kParts = 200;
    EXPECT_FALSE(is_call_dirty({large(kPart)}, kPart));
    std::vector<Term> arguments(kParts, large(kSmall));
    arguments.insert(arguments.begin(), large(kPart));
    EXPECT_TRUE(is_call_dirty(arguments, kPart + kParts * kSmall));
}

TEST_F(LargeTest, TextIsNoException)
{
    constexpr size_t kSize = 300 * kKiB;
    EXPECT_TRUE(is_dirty(EP_KIND_EXEC, "exec", {large(kSize)}, kSize));
    EXPECT_FALSE(is_dirty(EP_KIND_EXEC, "exec", {large(kSize)}, kSize)) << "memory in use";
    EXPECT_TRUE(is_dirty(EP_KIND_EXEC, "exec", {large(4 * kSize)}, 4 * kSize));
    EXPECT_TRUE(is_dirty(EP_KIND_EVAL, "eval", {large(4 * kSize), empty_map()}, 4 * kSize));
    EXPECT_TRUE(is_dirty(EP_KIND_CALL, "call",
                         {large(4 * kSize), atom("f"), list({integer(1)}), empty_map()},
                         4 * kSize));
    EXPECT_TRUE(
        is_dirty(EP_KIND_CALL, "call",
                 {atom("m"), atom("f"), list({integer(1)}), map_of(large(4 * kSize), integer(1))},
                 4 * kSize));
}

TEST_F(LargeTest, IntegerIsNoException)
{
    constexpr size_t kLong = 33 * kKiB, kShort = 31 * kKiB;
    for (bool is_negative : {false, true}) {
        EXPECT_TRUE(is_call_dirty({large_integer(is_negative, kLong)}, kLong));
        EXPECT_FALSE(is_call_dirty({large_integer(is_negative, kShort)}, kShort));
        EXPECT_FALSE(is_call_dirty({large_integer(is_negative, 9)}, 9));
    }
}

TEST_F(LargeTest, BufferIsNewMemory)
{
    Term buffer = caller_.call("object_new", {integer(EP_OBJECT_BUFFER), integer(0)});
    for (size_t size : {100 * kKiB, 1000 * kKiB}) {
        unsigned long before = fake_dirty_runs();
        EXPECT_TRUE(caller_.call("buffer_write", {buffer, large(size)}).is_atom("ok"));
        EXPECT_EQ(fake_dirty_runs() - before, size > 128 * kKiB) << size;
    }
}

} // namespace
