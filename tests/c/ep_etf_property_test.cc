// SPDX-License-Identifier: Apache-2.0

// Random terms there and back; cut, damaged and random bytes stay within their bounds.
#include "ep_etf_bytes.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

namespace {

// A random term, written by the writer and kept as the tokens that must come back.
class Generator {
public:
    explicit Generator(uint64_t seed) : random_(seed)
    {
    }

    void Term(unsigned depth)
    {
        unsigned choice = random_() % (depth == 0 ? 7 : 10);
        switch (choice) {
        case 0: {
            ep_etf_token &token = Expect(EP_ETF_INT);
            token.integer = static_cast<int64_t>(random_() >> random_() % 64 >> 1);
            if (random_() % 2 == 0)
                token.integer = -token.integer;
            ep_etf_put_int(&writer_.buf, token.integer);
            break;
        }
        case 1: {
            ep_etf_token &token = Expect(EP_ETF_FLOAT);
            token.real =
                std::ldexp(static_cast<double>(random_() % 1000), int(random_() % 200) - 99);
            ep_etf_put_float(&writer_.buf, token.real);
            break;
        }
        case 2:
            Data(EP_ETF_ATOM, random_() % 300);
            ep_etf_put_atom(&writer_.buf, reinterpret_cast<const char *>(Last().data()),
                            Last().size());
            break;
        case 3:
            Data(EP_ETF_BINARY, random_() % 500);
            ep_etf_put_binary(&writer_.buf, Last().data(), Last().size());
            break;
        case 4:
            Expect(EP_ETF_NIL);
            ep_etf_put_nil(&writer_.buf);
            break;
        case 5: {
            Data(EP_ETF_BIG, 9 + random_() % 300);
            uint8_t negative = random_() % 2;
            tokens.back().negative = negative;
            ep_etf_put_big(&writer_.buf, negative, Last().data(),
                           static_cast<uint32_t>(Last().size()));
            break;
        }
        case 6: {
            Data(EP_ETF_HANDLE, random_() % (EP_ETF_HANDLE_MAX + 1));
            tokens.back().kind = EP_HANDLE_PID;
            const uint8_t seal[EP_ETF_SEAL_SIZE] = {9, 8, 7, 6, 5, 4, 3, 2};
            ep_etf_put_handle(&writer_.buf, EP_HANDLE_PID, Last().data(), Last().size(), seal);
            break;
        }
        case 7: {
            uint32_t count = 1 + random_() % 5;
            Expect(EP_ETF_LIST).count = count;
            ep_etf_put_list(&writer_.buf, count);
            Terms(count, depth - 1);
            Expect(EP_ETF_NIL);
            ep_etf_put_nil(&writer_.buf);
            break;
        }
        case 8: {
            uint32_t count = random_() % 50 == 0 ? 300 : random_() % 5;
            Expect(EP_ETF_TUPLE).count = count;
            ep_etf_put_tuple(&writer_.buf, count);
            Terms(count, count == 300 ? 0 : depth - 1);
            break;
        }
        default: {
            uint32_t count = random_() % 4;
            Expect(EP_ETF_MAP).count = count;
            ep_etf_put_map(&writer_.buf, count);
            Terms(2 * count, depth - 1);
            break;
        }
        }
    }

    Bytes Encoded() const
    {
        return writer_.Take();
    }

    std::vector<ep_etf_token> tokens;
    std::vector<Bytes> data; // of the token with the same index

private:
    void Terms(uint32_t count, unsigned depth)
    {
        for (uint32_t i = 0; i < count; i++)
            Term(depth);
    }

    ep_etf_token &Expect(ep_etf_type type)
    {
        ep_etf_token token = {};
        token.type = type;
        tokens.push_back(token);
        data.emplace_back();
        return tokens.back();
    }

    void Data(ep_etf_type type, size_t size)
    {
        Expect(type).count = static_cast<uint32_t>(size);
        for (size_t i = 0; i < size; i++)
            data.back().push_back(static_cast<uint8_t>(random_() | 1)); // no zero as last digit
    }

    const Bytes &Last() const
    {
        return data.back();
    }

    std::mt19937_64 random_;
    Writer writer_;
};

TEST(EtfPropertyTest, ReadsBackEveryTermThatWasWritten)
{
    for (uint64_t seed = 0; seed < 1000; seed++) {
        SCOPED_TRACE(seed);
        Generator generator(seed);
        generator.Term(6);
        Exact memory(generator.Encoded());
        ep_etf_cursor cursor = memory.Cursor();
        for (size_t i = 0; i < generator.tokens.size(); i++) {
            const ep_etf_token &want = generator.tokens[i];
            const Bytes &data = generator.data[i];
            ep_etf_token got;
            ASSERT_EQ(ep_etf_next(&cursor, &got), 0);
            ASSERT_EQ(got.type, want.type);
            if (want.type != EP_ETF_INT) {
                ASSERT_EQ(got.count, want.count);
            }
            ASSERT_EQ(got.integer, want.integer);
            ASSERT_EQ(got.real, want.real);
            if (want.type == EP_ETF_BIG) {
                ASSERT_EQ(got.negative, want.negative);
            }
            ASSERT_EQ(got.kind, want.kind);
            if (!data.empty()) {
                ASSERT_EQ(std::memcmp(got.data, data.data(), data.size()), 0);
            }
            if (want.type == EP_ETF_HANDLE) {
                ASSERT_EQ(got.seal[0], 9);
            }
        }
        ASSERT_EQ(cursor.at, cursor.end);
        cursor = memory.Cursor();
        ASSERT_EQ(ep_etf_skip(&cursor), 0);
        ASSERT_EQ(cursor.at, cursor.end);
    }
}

// Reads all tokens; every byte that a token lends must be inside the input.
void Walk(const Exact &memory)
{
    ep_etf_cursor cursor = memory.Cursor();
    const uint8_t *start = cursor.at, *end = cursor.end;
    ep_etf_token token;
    volatile uint8_t sink = 0;
    size_t steps = 0;

    while (cursor.at < end && ep_etf_next(&cursor, &token) == 0) {
        ASSERT_LE(++steps, static_cast<size_t>(end - start)) << "no more tokens than bytes";
        ASSERT_LE(cursor.at, end);
        bool lends = token.type == EP_ETF_BIG || token.type == EP_ETF_ATOM
                     || token.type == EP_ETF_BINARY || token.type == EP_ETF_STRING
                     || token.type == EP_ETF_HANDLE;
        for (uint32_t i = 0; lends && i < token.count; i++)
            sink = sink ^ token.data[i];
        for (size_t i = 0; token.type == EP_ETF_HANDLE && i < EP_ETF_SEAL_SIZE; i++)
            sink = sink ^ token.seal[i];
    }
    cursor = memory.Cursor();
    (void)ep_etf_skip(&cursor);
    ASSERT_LE(cursor.at, end);
}

TEST(EtfPropertyTest, RefusesEveryTruncation)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        Generator generator(seed);
        generator.Term(3);
        Bytes bytes = generator.Encoded();
        size_t step = 1 + bytes.size() / 500;
        for (size_t size = 0; size < bytes.size(); size += step) {
            Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
            ASSERT_EQ(Skip(cut), -EPROTO) << "seed " << seed << " size " << size;
            Walk(Exact(cut));
        }
    }
}

TEST(EtfPropertyTest, ReadsRandomBytesWithinTheirBounds)
{
    const Bytes tags = {1, 70, 97, 98, 104, 105, 106, 107, 108, 109, 110, 111, 116, 118, 119};
    std::mt19937_64 random(99);
    for (int i = 0; i < 50000; i++) {
        Bytes bytes(random() % 64);
        for (uint8_t &byte : bytes) {
            uint64_t r = random();
            // Mostly tags and small counts, or hardly anything would get far.
            byte = r % 4 == 0 ? tags[(r >> 8) % tags.size()]
                              : static_cast<uint8_t>(r % 4 == 1 ? r >> 8 : (r >> 8) % 3);
        }
        Walk(Exact(bytes));
    }
}

TEST(EtfPropertyTest, ReadsDamagedTermsWithinTheirBounds)
{
    std::mt19937_64 random(100);
    for (uint64_t seed = 0; seed < 2000; seed++) {
        Generator generator(seed);
        generator.Term(4);
        Bytes bytes = generator.Encoded();
        for (int i = 0; i < 5; i++)
            bytes[random() % bytes.size()] ^= static_cast<uint8_t>(1u << random() % 8);
        Walk(Exact(bytes));
    }
}

} // namespace
