// SPDX-License-Identifier: Apache-2.0

// The allocator of payload blocks: its bookkeeping, without touching the blocks.
#include "ep_slab.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace {

// One block at a time, as one caller has it.
void BM_SlabOneBlock(benchmark::State &state)
{
    ep_slab slab;
    uint64_t offset = 0;
    ep_slab_init(&slab, EP_SLAB_SIZE);
    for (auto _ : state) {
        ep_slab_alloc(&slab, static_cast<uint64_t>(state.range(0)), &offset);
        benchmark::DoNotOptimize(offset);
        ep_slab_free(&slab, offset);
    }
    ep_slab_finish(&slab);
}
BENCHMARK(BM_SlabOneBlock)->Arg(4096)->Arg(65536)->Arg(1 << 20)->Arg(16 << 20);

// Many blocks out, given back in the order in which they came: per block.
void BM_SlabQueue(benchmark::State &state)
{
    ep_slab slab;
    std::vector<uint64_t> out(static_cast<size_t>(state.range(0)));
    size_t at = 0;
    ep_slab_init(&slab, EP_SLAB_SIZE);
    for (auto &offset : out)
        ep_slab_alloc(&slab, 8192, &offset);
    for (auto _ : state) {
        ep_slab_free(&slab, out[at]);
        ep_slab_alloc(&slab, 8192, &out[at]);
        at = (at + 1) % out.size();
    }
    ep_slab_finish(&slab);
}
BENCHMARK(BM_SlabQueue)->Arg(16)->Arg(256)->Arg(1000);

// A block there and back: allocate, hand back through the ring, collect.
void BM_SlabReclaim(benchmark::State &state)
{
    ep_slab slab;
    std::vector<uint64_t> entries(EP_RECLAIM_SLOTS);
    ep_atomic_u64 tail = 0;
    ep_reclaim_tx tx = {entries.data(), &tail, 0};
    ep_reclaim_rx rx = {entries.data(), &tail, 0};
    uint64_t offset;
    ep_slab_init(&slab, EP_SLAB_SIZE);
    for (auto _ : state) {
        ep_slab_alloc(&slab, 65536, &offset);
        ep_reclaim_push(&tx, offset);
        benchmark::DoNotOptimize(ep_reclaim_collect(&rx, &slab));
    }
    ep_slab_finish(&slab);
}
BENCHMARK(BM_SlabReclaim);

} // namespace
