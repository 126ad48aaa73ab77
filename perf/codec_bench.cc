// SPDX-License-Identifier: Apache-2.0

// The external term format without VM or Python: writing tokens, and reading them.
#include "ep_etf.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace {

constexpr size_t kRoom = 4u << 20;

// A buffer that is written anew for each iteration, in memory that was touched before.
class Buffer {
public:
    Buffer() : room_(kRoom)
    {
        Reset();
    }

    ~Buffer()
    {
        ep_buf_finish(&buf);
    }

    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    void Reset()
    {
        ep_buf_init(&buf, room_.data(), room_.size(), kRoom);
    }

    ep_buf buf;

private:
    std::vector<uint8_t> room_;
};

// The request of py:call(math, sqrt, [16]).
void PutCall(ep_buf *buf)
{
    ep_etf_put_binary(buf, "math", 4);
    ep_etf_put_binary(buf, "sqrt", 4);
    ep_etf_put_list(buf, 1);
    ep_etf_put_int(buf, 16);
    ep_etf_put_nil(buf);
}

void PutInts(ep_buf *buf, uint32_t count)
{
    ep_etf_put_list(buf, count);
    for (uint32_t i = 0; i < count; i++)
        ep_etf_put_int(buf, i);
    ep_etf_put_nil(buf);
}

void PutFloats(ep_buf *buf, uint32_t count)
{
    ep_etf_put_list(buf, count);
    for (uint32_t i = 0; i < count; i++)
        ep_etf_put_float(buf, i * 0.5);
    ep_etf_put_nil(buf);
}

void PutMap(ep_buf *buf, uint32_t count)
{
    ep_etf_put_map(buf, count);
    for (uint32_t i = 0; i < count; i++) {
        ep_etf_put_binary(buf, "key_0123", 8);
        ep_etf_put_int(buf, i);
    }
}

template <typename Put> void Write(benchmark::State &state, Put put)
{
    Buffer buffer;
    for (auto _ : state) {
        buffer.Reset();
        put(&buffer.buf);
        benchmark::DoNotOptimize(buffer.buf.length);
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * buffer.buf.length));
}

template <typename Put> void Read(benchmark::State &state, Put put)
{
    Buffer buffer;
    put(&buffer.buf);
    for (auto _ : state) {
        ep_etf_cursor cursor;
        ep_etf_token token;
        ep_etf_cursor_init(&cursor, buffer.buf.data, buffer.buf.length);
        while (cursor.at != cursor.end && ep_etf_next(&cursor, &token) == 0)
            benchmark::DoNotOptimize(token);
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * buffer.buf.length));
}

void BM_WriteCall(benchmark::State &state)
{
    Write(state, PutCall);
}
BENCHMARK(BM_WriteCall);

void BM_ReadCall(benchmark::State &state)
{
    Read(state, PutCall);
}
BENCHMARK(BM_ReadCall);

#define EP_CODEC_BENCH(name, put, count)                                                           \
    void BM_Write##name(benchmark::State &state)                                                   \
    {                                                                                              \
        Write(state, [](ep_buf *buf) { put(buf, count); });                                        \
    }                                                                                              \
    BENCHMARK(BM_Write##name);                                                                     \
    void BM_Read##name(benchmark::State &state)                                                    \
    {                                                                                              \
        Read(state, [](ep_buf *buf) { put(buf, count); });                                         \
    }                                                                                              \
    BENCHMARK(BM_Read##name)

EP_CODEC_BENCH(Ints, PutInts, 100000);
EP_CODEC_BENCH(Floats, PutFloats, 100000);
EP_CODEC_BENCH(Map, PutMap, 1000);

} // namespace
