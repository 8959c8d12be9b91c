// Tiles whose columns are in parts: who has the last part waits for the sums of the others and adds all up in the order of their columns.
//
// The others are items before that one (WidePlan), so that their blocks have begun before or with it, and none of them waits for a later one. Their parts
// are shorter: by the time that the last has been multiplied, they stand in memory.
#pragma once
#include "wide_call.cuh"
#include "wgmma.cuh"

// Four sums of a thread, what one load brings.
template <class SUM>
struct __align__(16) FourSums { SUM v[4]; };

// Until a counter has a value; what was written before it was counted can be read then.
#ifdef NIBBLE_HOST
// Blocks run one after the other: all that come before have ended, or never will.
inline void await_count(const u32* counter, u32 value) { while (*counter != value) nibble_host::wait(counter, *counter); }
#else
__device__ inline void await_count(const u32* counter, u32 value)
{
    u32 found;
    do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(found) : "l"(counter) : "memory");
    while (found != value);
}
#endif

// A warpgroup's sums of a part become the tile's; false if they were left to who has the last part. SUMS: sums of a thread. Parts stand as
// [tile, group, part, four sums, thread].
template <int SUMS, class SUM>
__device__ inline bool join_parts(const WideCall& call, const WideItem& item, int groups, SUM* sums)
{
    const int FOURS = SUMS / 4, TOGETHER = 8;
    int thread = threadIdx.x & 127, group = threadIdx.x >> 7, place = (item.tile - call.whole) * groups + group, others = call.splits - 1;
    u32* counter = call.counters + place;
    FourSums<SUM>* parts = (FourSums<SUM>*)call.parts + (i64)place * others * FOURS * 128 + thread;
    if (item.split < others)
    {
#pragma unroll
        for (int i = 0; i < FOURS; i++)
        {
            FourSums<SUM> four;
#pragma unroll
            for (int e = 0; e < 4; e++) four.v[e] = sums[4 * i + e];
            parts[((i64)item.split * FOURS + i) * 128] = four;
        }

        fence();
        group_barrier(group);
        if (thread == 0) atomicAdd(counter, 1u);
        return false;
    }

    if (thread == 0)
    {
        await_count(counter, (u32)others);
        *counter = 0;
    }

    group_barrier(group);
#pragma unroll
    for (int begin = 0; begin < FOURS; begin += TOGETHER)
    {
        FourSums<SUM> first[TOGETHER], next[TOGETHER];
        // Two parts are on their way at once.
#pragma unroll
        for (int i = 0; i < TOGETHER; i++) first[i] = parts[(begin + i) * 128];
        for (int from = 1; from < others; from++)
        {
#pragma unroll
            for (int i = 0; i < TOGETHER; i++) next[i] = parts[((i64)from * FOURS + begin + i) * 128];
#pragma unroll
            for (int i = 0; i < 4 * TOGETHER; i++) first[i / 4].v[i % 4] += next[i / 4].v[i % 4];
        }

#pragma unroll
        for (int i = 0; i < 4 * TOGETHER; i++) sums[4 * begin + i] = first[i / 4].v[i % 4] + sums[4 * begin + i];
    }

    return true;
}
