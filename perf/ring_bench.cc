// SPDX-License-Identifier: Apache-2.0

// Rings between two threads and within one; the wake-ups of the two directions.
#include "ep_bell.h"
#include "ep_cpu.h"
#include "ep_ring.h"

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

namespace {

constexpr uint32_t kCells = 256;

struct alignas(64) Word {
    ep_atomic_u64 value;
};

// One ring with both handles, over one mapping: what the shared memory adds is nothing.
struct Ring {
    std::unique_ptr<ep_cell[]> cells{new ep_cell[kCells]()};
    Word head{};
    ep_ring_tx tx{};
    ep_ring_rx rx{};

    Ring()
    {
        ep_ring_tx_attach(&tx, cells.get(), &head.value, kCells);
        ep_ring_rx_attach(&rx, cells.get(), &head.value, kCells);
    }
};

bool Send(Ring *ring, const uint8_t *bytes, size_t size)
{
    ep_cell *cell;
    if (ep_ring_reserve(&ring->tx, &cell) < 0)
        return false;
    ep_cell_begin(cell, EP_KIND_CALL, 0, 0, 1, 0);
    cell->length = static_cast<uint32_t>(size);
    memcpy(cell->data, bytes, size);
    ep_ring_commit(&ring->tx);
    return true;
}

bool Receive(Ring *ring, ep_msg *msg)
{
    if (ep_ring_copy(&ring->rx, msg) < 0)
        return false;
    ep_ring_advance(&ring->rx);
    ep_ring_publish_head(&ring->rx);
    return true;
}

// Reserve, fill, commit, copy, advance: instructions, for no line moves.
void BM_RingOneThread(benchmark::State &state)
{
    Ring ring;
    ep_msg msg;
    uint8_t bytes[EP_INLINE_MAX] = {};
    auto size = static_cast<size_t>(state.range(0));

    for (auto _ : state) {
        Send(&ring, bytes, size);
        Receive(&ring, &msg);
        benchmark::DoNotOptimize(msg);
    }
}
BENCHMARK(BM_RingOneThread)->Arg(16)->Arg(32)->Arg(192);

// A message to another thread and one back, both spinning.
void BM_RingRoundTrip(benchmark::State &state)
{
    Ring there, back;
    std::atomic<bool> stop{false};
    uint8_t bytes[EP_INLINE_MAX] = {};
    auto size = static_cast<size_t>(state.range(0));
    std::thread echo([&] {
        ep_msg msg;
        while (!stop.load(std::memory_order_relaxed)) {
            if (Receive(&there, &msg))
                Send(&back, msg.data, msg.length);
            else
                ep_cpu_relax();
        }
    });

    ep_msg msg;
    for (auto _ : state) {
        Send(&there, bytes, size);
        while (!Receive(&back, &msg))
            ep_cpu_relax();
    }
    stop = true;
    echo.join();
}
BENCHMARK(BM_RingRoundTrip)->Arg(16)->Arg(32)->Arg(192)->UseRealTime();

// What each message pays for the chance that the other side sleeps, while it does not.
void BM_BellNotArmed(benchmark::State &state)
{
    Word word{};
    ep_bell_tx tx;
    ep_bell_tx_attach(&tx, &word.value);
    for (auto _ : state)
        benchmark::DoNotOptimize(ep_bell_must_ring(&tx));
}
BENCHMARK(BM_BellNotArmed);

// Arming and answering within one thread: two sequentially consistent stores.
void BM_BellArmAndRing(benchmark::State &state)
{
    Word word{};
    ep_bell_rx rx;
    ep_bell_tx tx;
    ep_bell_rx_attach(&rx, &word.value);
    ep_bell_tx_attach(&tx, &word.value);
    for (auto _ : state) {
        ep_bell_arm(&rx);
        benchmark::DoNotOptimize(ep_bell_must_ring(&tx));
        ep_bell_disarm(&rx);
    }
}
BENCHMARK(BM_BellArmAndRing);

// A futex that nobody sleeps on: the system call alone.
void BM_FutexWakeNobody(benchmark::State &state)
{
    ep_atomic_u32 word = 0;
    for (auto _ : state)
        ep_futex_wake(&word);
}
BENCHMARK(BM_FutexWakeNobody);

// The sleeper is woken and wakes the other, by futex.
void BM_FutexRoundTrip(benchmark::State &state)
{
    alignas(64) ep_atomic_u32 ask = 0;
    alignas(64) ep_atomic_u32 answer = 0;
    std::atomic<bool> stop{false};
    auto wait = [](const ep_atomic_u32 *word, uint32_t seen) {
        while (ep_futex_value(word) == seen)
            ep_futex_wait(word, seen, -1);
    };
    std::thread echo([&] {
        for (uint32_t seen = 0; !stop.load(); seen++) {
            wait(&ask, seen);
            ep_futex_wake(&answer);
        }
    });

    uint32_t seen = 0;
    for (auto _ : state) {
        ep_futex_wake(&ask);
        wait(&answer, seen++);
    }
    stop = true;
    ep_futex_wake(&ask);
    echo.join();
}
BENCHMARK(BM_FutexRoundTrip)->UseRealTime();

// The same by eventfds, whose sleepers poll them.
void BM_EventfdRoundTrip(benchmark::State &state)
{
    int fds[2], polls[2];
    std::atomic<bool> stop{false};
    for (int i = 0; i < 2; i++) {
        epoll_event event = {};
        event.events = EPOLLIN;
        fds[i] = eventfd(0, EFD_CLOEXEC);
        polls[i] = epoll_create1(EPOLL_CLOEXEC);
        epoll_ctl(polls[i], EPOLL_CTL_ADD, fds[i], &event);
    }
    auto ring = [&](int i) {
        uint64_t one = 1;
        return write(fds[i], &one, sizeof(one)) == sizeof(one);
    };
    auto wait = [&](int i) {
        epoll_event event;
        uint64_t value;
        while (epoll_wait(polls[i], &event, 1, -1) != 1) {
        }
        return read(fds[i], &value, sizeof(value)) == sizeof(value);
    };
    std::thread echo([&] {
        while (wait(0) && ring(1) && !stop.load()) {
        }
    });

    for (auto _ : state)
        benchmark::DoNotOptimize(ring(0) && wait(1));
    stop = true;
    benchmark::DoNotOptimize(ring(0));
    echo.join();
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        close(polls[i]);
    }
}
BENCHMARK(BM_EventfdRoundTrip)->UseRealTime();

} // namespace
