// SPDX-License-Identifier: Apache-2.0
#include "ep_etf_bytes.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

namespace {

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
