// SPDX-License-Identifier: Apache-2.0
#include "ep_etf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace {

using Bytes = std::vector<uint8_t>;

// Heap memory of exactly the size of the input: AddressSanitizer sees a read of
// the byte behind it.
class Exact {
public:
    Exact() = default;

    // Out of line: g++ 12 takes the copy of no bytes into no bytes for an overflow.
    [[gnu::noinline]] explicit Exact(const Bytes &bytes)
        : data_(new uint8_t[bytes.size()]), size_(bytes.size())
    {
        std::copy(bytes.begin(), bytes.end(), data_.get());
    }

    ep_etf_cursor Cursor() const
    {
        ep_etf_cursor cursor;
        ep_etf_cursor_init(&cursor, data_.get(), size_);
        return cursor;
    }

private:
    std::unique_ptr<uint8_t[]> data_;
    size_t size_ = 0;
};

class Writer {
public:
    Writer()
    {
        ep_buf_init(&buf, nullptr, 0, 1 << 24);
    }

    ~Writer()
    {
        ep_buf_finish(&buf);
    }

    Bytes Take() const
    {
        EXPECT_EQ(buf.error, 0);
        return Bytes(buf.data, buf.data + buf.length);
    }

    ep_buf buf;
};

// Reads one token that is the whole input.
ep_etf_token Only(const Bytes &bytes, Exact &memory)
{
    memory = Exact(bytes);
    ep_etf_cursor cursor = memory.Cursor();
    ep_etf_token token = {};
    EXPECT_EQ(ep_etf_next(&cursor, &token), 0);
    EXPECT_EQ(cursor.at, cursor.end);
    return token;
}

int Next(const Bytes &bytes)
{
    Exact memory(bytes);
    ep_etf_cursor cursor = memory.Cursor();
    const uint8_t *start = cursor.at;
    ep_etf_token token = {};
    token.integer = 42;
    int rc = ep_etf_next(&cursor, &token);
    if (rc < 0) {
        EXPECT_EQ(cursor.at, start) << "the cursor stays on failure";
        EXPECT_EQ(token.integer, 42) << "and so does the result";
    }
    return rc;
}

int Skip(const Bytes &bytes)
{
    Exact memory(bytes);
    ep_etf_cursor cursor = memory.Cursor();
    const uint8_t *start = cursor.at;
    int rc = ep_etf_skip(&cursor);
    if (rc < 0) {
        EXPECT_EQ(cursor.at, start);
    }
    return rc < 0 ? rc : static_cast<int>(cursor.end - cursor.at);
}

TEST(EtfTest, WritesWhatErlangWrites)
{
    // term_to_binary/1 of Erlang, without its first byte.
    Writer w;
    const uint8_t seal[EP_ETF_SEAL_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8};
    ep_etf_put_tuple(&w.buf, 7);
    ep_etf_put_int(&w.buf, 255);
    ep_etf_put_int(&w.buf, -1);
    ep_etf_put_int(&w.buf, 1ll << 31);
    ep_etf_put_float(&w.buf, 1.5);
    ep_etf_put_atom(&w.buf, "ok", 2);
    ep_etf_put_list(&w.buf, 1);
    ep_etf_put_binary(&w.buf, "b", 1);
    ep_etf_put_nil(&w.buf);
    ep_etf_put_map(&w.buf, 0);
    ep_etf_put_handle(&w.buf, EP_HANDLE_REF, "h", 1, seal);
    const Bytes want = {104, 7,                                  // {
                        97,  255,                                // 255
                        98,  255, 255, 255, 255,                 // -1
                        110, 4,   0,   0,   0,   0,   128,       // 2147483648
                        70,  63,  248, 0,   0,   0,   0,   0, 0, // 1.5
                        119, 2,   'o', 'k',                      // ok
                        108, 0,   0,   0,   1,                   // [
                        109, 0,   0,   0,   1,   'b',            // <<"b">>
                        106,                                     // ]
                        116, 0,   0,   0,   0,                   // #{}
                        1,   2,   0,   1,   1,   2,   3,   4, 5, 6, 7, 8, 'h'};
    EXPECT_EQ(w.Take(), want);
}

TEST(EtfTest, KeepsEveryIntegerOf64Bits)
{
    std::mt19937_64 random(1);
    std::vector<int64_t> values = {0,         1,         -1,        255,          256,
                                   INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN + 1};
    for (int bits = 1; bits < 63; bits++) {
        for (int64_t around : {-1, 0, 1}) {
            values.push_back((1ll << bits) + around);
            values.push_back(-(1ll << bits) + around);
        }
    }
    for (int i = 0; i < 1000; i++)
        values.push_back(static_cast<int64_t>(random() >> random() % 64));
    for (int64_t value : values) {
        Writer w;
        Exact memory;
        ep_etf_put_int(&w.buf, value);
        ep_etf_token token = Only(w.Take(), memory);
        ASSERT_EQ(token.type, EP_ETF_INT) << value;
        ASSERT_EQ(token.integer, value);
    }
}

TEST(EtfTest, YieldsWhatDoesNotFitAsMagnitudeAndSign)
{
    Exact memory;
    Writer least, most, huge;
    ep_etf_put_int(&least.buf, INT64_MIN);
    ep_etf_token token = Only(least.Take(), memory);
    EXPECT_EQ(token.type, EP_ETF_BIG);
    EXPECT_EQ(token.negative, 1);
    ASSERT_EQ(token.count, 8u);
    EXPECT_EQ(token.data[7], 0x80);

    ep_etf_put_uint(&most.buf, UINT64_MAX);
    token = Only(most.Take(), memory);
    EXPECT_EQ(token.type, EP_ETF_BIG);
    EXPECT_EQ(token.negative, 0);
    EXPECT_EQ(Bytes(token.data, token.data + token.count), Bytes(8, 0xff));

    Bytes magnitude(300, 0xab);
    ep_etf_put_big(&huge.buf, 1, magnitude.data(), 300);
    token = Only(huge.Take(), memory);
    EXPECT_EQ(token.type, EP_ETF_BIG);
    EXPECT_EQ(token.negative, 1);
    EXPECT_EQ(Bytes(token.data, token.data + token.count), magnitude);
}

TEST(EtfTest, ReadsSmallIntegersThatWereWrittenAsBigOnes)
{
    Exact memory;
    EXPECT_EQ(Only({110, 0, 0}, memory).integer, 0) << "no digits";
    EXPECT_EQ(Only({110, 1, 1, 5}, memory).integer, -5);
    EXPECT_EQ(Only({111, 0, 0, 0, 2, 0, 0, 1}, memory).integer, 256);
}

TEST(EtfTest, KeepsEveryFloatBitByBit)
{
    for (double value : {0.0, -0.0, 1.5, -1e308, 5e-324, std::numeric_limits<double>::infinity()}) {
        Writer w;
        Exact memory;
        ep_etf_put_float(&w.buf, value);
        ep_etf_token token = Only(w.Take(), memory);
        ASSERT_EQ(token.type, EP_ETF_FLOAT);
        EXPECT_EQ(std::memcmp(&token.real, &value, sizeof(value)), 0);
    }
}

TEST(EtfTest, KeepsAtomsAndBinariesOfEverySize)
{
    for (size_t size : {0u, 1u, 255u, 256u, 1020u}) {
        std::string text(size, 'x');
        Writer atom, binary;
        Exact memory;
        ep_etf_put_atom(&atom.buf, text.data(), size);
        ep_etf_token token = Only(atom.Take(), memory);
        EXPECT_EQ(token.type, EP_ETF_ATOM);
        ASSERT_EQ(token.count, size);
        EXPECT_EQ(std::memcmp(token.data, text.data(), size), 0);

        ep_etf_put_binary(&binary.buf, text.data(), size);
        token = Only(binary.Take(), memory);
        EXPECT_EQ(token.type, EP_ETF_BINARY);
        ASSERT_EQ(token.count, size);
        EXPECT_EQ(std::memcmp(token.data, text.data(), size), 0);
    }
}

TEST(EtfTest, ReadsAListOfBytesThatErlangWroteAsAString)
{
    Exact memory;
    ep_etf_token token = Only({107, 0, 2, 7, 8}, memory);
    EXPECT_EQ(token.type, EP_ETF_STRING);
    EXPECT_EQ(Bytes(token.data, token.data + token.count), (Bytes{7, 8}));
}

TEST(EtfTest, RefusesTagsThatAreNotAccepted)
{
    const Bytes accepted = {1, 70, 97, 98, 104, 105, 106, 107, 108, 109, 110, 111, 116, 118, 119};
    for (int tag = 0; tag < 256; tag++) {
        Bytes bytes(64, 0);
        bytes[0] = static_cast<uint8_t>(tag);
        bool known = std::find(accepted.begin(), accepted.end(), tag) != accepted.end();
        EXPECT_EQ(Next(bytes), known ? 0 : -EPROTO) << "tag " << tag;
    }
    EXPECT_EQ(Next({}), -EPROTO);
}

TEST(EtfTest, RefusesCountsThatTheRestCannotHold)
{
    const std::vector<Bytes> lies = {
        {104, 1},                                // a tuple of one, and nothing
        {105, 0xff, 0xff, 0xff, 0xff, 106},      // a tuple of 2^32-1
        {108, 0, 0, 0, 1, 106},                  // a list of one without its end
        {108, 0xff, 0xff, 0xff, 0xff, 106},      // 2^32-1 elements and the end
        {116, 0, 0, 0, 1, 106},                  // a key without a value
        {116, 0x80, 0, 0, 0, 106},               // 2^31 pairs
        {116, 0xff, 0xff, 0xff, 0xff, 106},      // 2^32-1 pairs
        {109, 0xff, 0xff, 0xff, 0xff, 1},        // a binary of 4 GiB
        {107, 0xff, 0xff, 1},                    // a string
        {111, 0xff, 0xff, 0xff, 0xff, 0, 1},     // a number
        {118, 0xff, 0xff, 'x'},                  // an atom
        {1, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1}, // a handle
    };
    for (const Bytes &lie : lies)
        EXPECT_EQ(Next(lie), -EPROTO) << "tag " << int(lie[0]);

    Bytes handle(12 + EP_ETF_HANDLE_MAX + 1);
    handle[0] = 1;
    handle[2] = (EP_ETF_HANDLE_MAX + 1) >> 8;
    handle[3] = (EP_ETF_HANDLE_MAX + 1) & 0xff;
    EXPECT_EQ(Next(handle), -EPROTO) << "a handle that is there but too long";
}

TEST(EtfTest, ReadsTheEndOfAListOnly)
{
    Exact end({106}), other({97, 1}), nothing(Bytes{});
    ep_etf_cursor cursor = end.Cursor();
    EXPECT_EQ(ep_etf_list_end(&cursor), 0);
    EXPECT_EQ(ep_etf_list_end(&cursor), -EPROTO);
    cursor = other.Cursor();
    EXPECT_EQ(ep_etf_list_end(&cursor), -EPROTO);
    cursor = nothing.Cursor();
    EXPECT_EQ(ep_etf_list_end(&cursor), -EPROTO);
}

Bytes Nested(uint8_t tag, size_t depth)
{
    Bytes bytes;
    for (size_t i = 0; i < depth; i++) {
        if (tag == 108)
            bytes.insert(bytes.end(), {108, 0, 0, 0, 1});
        else
            bytes.insert(bytes.end(), {104, 1});
    }
    bytes.push_back(106);
    for (size_t i = 0; tag == 108 && i < depth; i++)
        bytes.push_back(106);
    return bytes;
}

TEST(EtfTest, SkipsTermsUpToTheLimitOfDepth)
{
    for (uint8_t tag : {104, 108}) {
        EXPECT_EQ(Skip(Nested(tag, EP_ETF_DEPTH_MAX)), 0);
        EXPECT_EQ(Skip(Nested(tag, EP_ETF_DEPTH_MAX + 1)), -EPROTO);
        EXPECT_EQ(Skip(Nested(tag, 100 * EP_ETF_DEPTH_MAX)), -EPROTO);
    }
}

TEST(EtfTest, SkipsExactlyOneTerm)
{
    EXPECT_EQ(Skip({97, 1, 97, 2}), 2);
    EXPECT_EQ(Skip({104, 2, 97, 1, 104, 0, 106}), 1);
    EXPECT_EQ(Skip({108, 0, 0, 0, 0, 106, 97, 1}), 2) << "a list of no elements has an end too";
    EXPECT_EQ(Skip({116, 0, 0, 0, 1, 97, 1, 97, 2, 106}), 1);
}

TEST(EtfTest, RefusesToSkipAnImproperList)
{
    EXPECT_EQ(Skip({108, 0, 0, 0, 1, 97, 1, 97, 2}), -EPROTO);
    EXPECT_EQ(Skip({108, 0, 0, 0, 1, 97, 1, 104, 1, 106}), -EPROTO);
    EXPECT_EQ(Skip({108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 97, 1, 106}), -EPROTO);
    EXPECT_EQ(Skip({108, 0, 0, 0, 2, 106, 104, 1, 106, 106}), 0) << "nil as an element is fine";
}

TEST(EtfTest, RemembersThatAWriterFailed)
{
    const uint8_t seal[EP_ETF_SEAL_SIZE] = {};
    std::vector<char> big(EP_ETF_HANDLE_MAX + 1);
    Writer handle, limited;
    ep_etf_put_handle(&handle.buf, EP_HANDLE_PID, big.data(), big.size(), seal);
    ep_etf_put_nil(&handle.buf);
    EXPECT_EQ(handle.buf.error, -EMSGSIZE);
    EXPECT_EQ(handle.buf.length, 0u) << "nothing is written after a failure";

    EXPECT_EQ(ep_etf_put_binary_header(&limited.buf, 1ull << 32), nullptr);
    ep_etf_put_nil(&limited.buf);
    EXPECT_EQ(limited.buf.error, -EMSGSIZE);
    EXPECT_EQ(limited.buf.length, 0u);
}

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

// The short ways for numbers in lists are the long ones.
TEST(EtfNumberTest, IsWrittenAndReadAsByTheGeneralFunctions)
{
    std::mt19937_64 random(7);
    for (int i = 0; i < 100000; i++) {
        Writer writer;
        bool is_real = i % 3 == 0;
        int64_t integer = static_cast<int64_t>(random() >> random() % 64) * (i % 2 == 0 ? 1 : -1);
        double real = static_cast<double>(integer) / 3;
        if (is_real)
            ep_etf_put_float(&writer.buf, real);
        else
            ep_etf_put_int(&writer.buf, integer);
        Bytes written = writer.Take();
        uint8_t number[EP_ETF_NUMBER_MAX];
        uint8_t *end =
            is_real ? ep_etf_write_float(number, real) : ep_etf_write_int(number, integer);
        ASSERT_EQ(written, Bytes(number, end));

        Exact exact(written);
        ep_etf_cursor general = exact.Cursor(), quick = exact.Cursor();
        ep_etf_token token;
        int64_t got = 0;
        double got_real = 0;
        ASSERT_EQ(ep_etf_next(&general, &token), 0);
        int what = ep_etf_next_number(&quick, &got, &got_real);
        if (is_real) {
            ASSERT_EQ(what, 2);
            ASSERT_EQ(got_real, token.real);
        } else if (integer >= INT32_MIN && integer <= INT32_MAX) {
            ASSERT_EQ(what, 1);
            ASSERT_EQ(got, token.integer);
        } else {
            ASSERT_EQ(what, 0);
            ASSERT_EQ(quick.at, exact.Cursor().at);
            ASSERT_EQ(token.integer, integer);
            continue;
        }
        ASSERT_EQ(quick.at, general.at);
    }
}

TEST(EtfNumberTest, IsLeftAloneIfItIsCutShortOrSomethingElse)
{
    for (const Bytes &bytes :
         {Bytes{}, Bytes{97}, Bytes{98, 0, 0, 0}, Bytes{70, 0, 0, 0, 0, 0, 0, 0}, Bytes{106},
          Bytes{109, 0, 0, 0, 0}}) {
        Exact exact(bytes);
        ep_etf_cursor cursor = exact.Cursor();
        int64_t integer;
        double real;
        EXPECT_EQ(ep_etf_next_number(&cursor, &integer, &real), 0);
        EXPECT_EQ(cursor.at, exact.Cursor().at);
    }
}

TEST(EtfBinaryTest, IsToldFromItsHeadAndTheSizeOfTheTerm)
{
    const uint8_t head[] = {109, 0, 1, 0, 2}, list[] = {108, 0, 1, 0, 2};
    EXPECT_TRUE(ep_etf_is_binary(head, 0x10002 + 5));
    EXPECT_FALSE(ep_etf_is_binary(head, 0x10002 + 6)) << "something follows";
    EXPECT_FALSE(ep_etf_is_binary(list, 0x10002 + 5));
}

} // namespace
