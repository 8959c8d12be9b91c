// Products of many rows with a packed weight, decoded on its way to the tensor cores: BF16 numbers, sums in F32 (wgmma, cards of 9.0).
//
// y is computed as its transpose. A warpgroup owns 64 features; each warp decodes its 16 (a unit of packed.cuh is a warp's share of A, eight
// steps of k) and multiplies them with scale and offset, rounded to BF16 once, as a weight that becomes a matrix is. x comes through a ring of stages
// (wgmma.cuh): a matrix of BF16 as it stands, where codes of 4 bits are turned into its order of columns, or written as stages before, its columns in
// the order in which lanes hold codes. A warpgroup of its own fetches x, codes and scales, far ahead (wide_fetch.cuh); while tensor cores work on one half
// of a unit, the next is decoded (wide_decode.cuh). Blocks take items (64·GROUPS features × N rows × a part of the columns) in turns, where columns are in
// parts the last block to end adds the parts up, in order; then sums become y (wide_end.cuh).
#pragma once
#include "wide_fetch.cuh"

// Four sums, as a part of a tile has them.
template <class SUM> struct __align__(16) FourSums { SUM four[4]; };

// Leaves a part of a tile in memory, [tile, group, split, sums/4, thread]. True in the last block to end, whose sums are then those of all parts, in their
// order whoever is last; who finds that all others have ended leaves nothing.
template <int N, class SUM>
__device__ inline bool wide_join(const WideCall& call, const WideItem& item, SUM* sums, int group, int groups, u32* arrived)
{
    // Fours on their way at once: there are registers for no more.
    const int FOURS = N / 8, ONCE = FOURS % 8 == 0 ? 8 : FOURS / 2;
    int place = (item.tile - call.whole) * groups + group, thread = thread_again() & 127;
    FourSums<SUM>* parts = (FourSums<SUM>*)call.parts + (i64)place * call.splits * FOURS * 128 + thread;
    // All have read what stood in `arrived`.
    group_barrier(group);
    if (thread == 0) *arrived = atomicAdd(call.counters + place, 0u);
    group_barrier(group);
    if ((int)*arrived != call.splits - 1)
    {
#pragma unroll
        for (int i = 0; i < FOURS; i++) parts[(item.split * FOURS + i) * 128] = {{sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]}};
        fence();
        group_barrier(group);
        if (thread == 0) *arrived = atomicAdd(call.counters + place, 1u);
        group_barrier(group);
        if ((int)*arrived != call.splits - 1) return false;
    }

    fence();
    if (thread == 0) call.counters[place] = 0;
#pragma unroll
    for (int first = 0; first < FOURS; first += ONCE)
    {
        FourSums<SUM> all[ONCE], part[ONCE];
        for (int split = 0; split < call.splits; split++)
        {
#pragma unroll
            for (int i = 0; i < ONCE; i++)
            {
                if (split != item.split) part[i] = parts[(split * FOURS + first + i) * 128];
            }

#pragma unroll
            for (int i = 0; i < 4 * ONCE; i++)
            {
                SUM one = split == item.split ? sums[4 * first + i] : part[i >> 2].four[i & 3];
                all[i >> 2].four[i & 3] = split == 0 ? one : all[i >> 2].four[i & 3] + one;
            }
        }

#pragma unroll
        for (int i = 0; i < 4 * ONCE; i++) sums[4 * first + i] = all[i >> 2].four[i & 3];
    }

    return true;
}

template <class D, int N, int GROUPS, int BLOCKS, int X_STAGES, int W_STAGES, class END>
__device__ inline void wide_product(const WideCall& call, const StageMap* plain_x, END end)
{
    typedef WideShape<D, N, GROUPS, BLOCKS, X_STAGES, W_STAGES> S;
    NIBBLE_SHARED(u8, raw);
    __shared__ typename S::Shared shared;
    u8* table = raw + (D::LEVELS ? levels_offset(raw) : stages_offset(raw) + X_STAGES * S::STAGE);
    u8* x_stages = D::LEVELS ? table + D::TABLE_BYTES : raw + stages_offset(raw);
    u8* w_stages = D::LEVELS ? raw : table + D::TABLE_BYTES;
    u8* turned = w_stages + W_STAGES * S::W_STAGE;
    const Packed& p = call.weight;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    WidePlan plan(call);
    if (threadIdx.x == 0) S::open(shared);
    allow_next();
    __syncthreads();
    if (warp >= S::WORKERS)
    {
        // These begin at once; those who multiply make their table first.
        group_registers_less<S::FEW_REGISTERS>();
        int own = warp - S::WORKERS;
        if (p.nested_map)
        {
            for (int n = threadIdx.x & 127; n < 256; n += 128) shared.map[n] = p.nested_map[n];
            group_barrier(GROUPS);
        }

        if (own == 0 && lane == 0) S::fetch_x(call, plan, plain_x, x_stages, shared);
        if (own == 1) S::fetch_codes(call, plan, w_stages, shared);
        if (D::PLANES > 0 && own > 1 && D::plain(p)) S::template fetch_scales<true>(call, plan, own - 2, w_stages, shared);
        else if (D::PLANES > 0 && own > 1) S::template fetch_scales<false>(call, plan, own - 2, w_stages, shared);
        return;
    }

    group_registers_more<S::REGISTERS>();
    D::fill_table(p, table);
    groups_barrier<GROUPS>();
    int group = warp >> 2, before = -1;
    RingPlace<X_STAGES> x_at(0);
    RingPlace<W_STAGES> w_at(0);
    PairTable pairs(table);
    LevelTable levels(table);
    LaneTurn turn(lane);
    StageMatrix first_stage = stage_matrix(x_stages);
    for (int n = blockIdx.x; n < plan.items; n += gridDim.x)
    {
        WideItem item = plan.item(call, n);
        typename D::Sum sums[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++) sums[i] = 0;
        u32 a[D::HALVES][4][4];
        D part;
        // Whether the next stages have come is asked before what they are needed for.
        bool x_ready = false, w_ready = false;
        auto ask_x = [&]() { x_ready = barrier_passed(shared.x_full + x_at.stage, x_at.parity); };
        auto ask_w = [&]() { w_ready = barrier_passed(shared.w_full + w_at.stage, w_at.parity); };
        auto load = [&]()
        {
            if (!w_ready) barrier_wait(shared.w_full + w_at.stage, w_at.parity);
            part.load((const u32*)(w_stages + w_at.stage * S::W_STAGE + warp * D::UNIT_BYTES), lane);
        };
        auto begin = [&](int half)
        {
            part.begin(pairs, levels, turn, call.plain, half, lane, (const u32*)(w_stages + w_at.stage * S::W_STAGE + S::CODES + warp * S::SCALES));
            if (half < D::HALVES - 1) return;
            // What was loaded has been read.
            __syncwarp();
            if (lane == 0) barrier_arrive(shared.w_empty + w_at.stage);
            w_at.next();
        };
        auto multiply = [&](const u32 (*words)[4])
        {
            if (!x_ready) barrier_wait(shared.x_full + x_at.stage, x_at.parity);
            StageMatrix matrix = next_stage(first_stage, x_at.stage, S::STAGE);
            group_fence();
#pragma unroll
            for (int step = 0; step < 4; step++) group_multiply<N>(sums, words[step], matrix, step);
            group_commit();
        };
        // All but the last multiplication has ended: its stage is free, and so are its words of A.
        auto release = [&]()
        {
            group_wait<1>();
            if (before >= 0 && lane == 0) barrier_arrive(shared.x_empty + before);
            before = x_at.stage;
            x_at.next();
        };
        load();
        if (D::HALVES == 2) begin(0);
        for (int unit = item.from; unit < item.to; unit++)
        {
            bool more = unit + 1 < item.to;
            if (D::HALVES == 1)
            {
                group_wait<0>();
                begin(0);
                part.finish(pairs, 0, a[0]);
                multiply(a[0]);
                if (more) load();
                release();
                continue;
            }

            ask_x();
            part.finish(pairs, 0, a[0]);
            begin(1);
            if (more) ask_w();
            multiply(a[0]);
            if (D::LOOKS_UP && more) load();
            release();
            ask_x();
            part.finish(pairs, 1, a[D::HALVES - 1]);
            if (D::LOOKS_UP && more) begin(0);
            if (!D::LOOKS_UP && more) load();
            multiply(a[D::HALVES - 1]);
            if (!D::LOOKS_UP && more) begin(0);
            release();
        }

        group_wait<0>();
        if (before >= 0 && lane == 0) barrier_arrive(shared.x_empty + before);
        before = -1;
        await_previous();
        // Computed again: kept, it would take registers from the loop above.
        u32 own = n;
        keep(own);
        item = plan.item(call, (int)own);
        if (item.tile >= call.whole && call.splits > 1 && !wide_join<N>(call, item, sums, group, GROUPS, shared.arrived + group)) continue;
        end(sums, (call.first / UNIT_ROWS + (i64)item.feature_tile * S::WORKERS + 4 * group) * UNIT_ROWS, item.row_tile * N, (float*)(turned + group * D::END_BYTES));
    }
}

#if defined(NIBBLE_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define WIDE_BODY(...) __VA_ARGS__
#else
// Never launched: compilers before 12.0 and other cards have no such instructions.
#define WIDE_BODY(...)
#endif

// The kernel of a format for n rows of x a tile; small: groups of 32 columns.
#define WIDE_PRODUCT(name, format, small, n, x_stages, w_stages) \
    typedef WideFloats<PackedTile<format, small>> wide_floats_##name##_##n; \
    extern "C" __global__ void __launch_bounds__(WideShape<wide_floats_##name##_##n, n, 2, 1, x_stages, w_stages>::BLOCK_THREADS, 1) \
        nibble_wide_##name##_##n(WideCall call, const __grid_constant__ StageMap plain_x) \
    { \
        WIDE_BODY(wide_product<wide_floats_##name##_##n, n, 2, 1, x_stages, w_stages>( \
            call, &plain_x, [&](float* sums, i64 f, int r, float* turned) { wide_write<n>(call, sums, f, r, turned); })); \
    }

// Stages of x for 256 rows, of codes for 64, and for more: what the rest of shared memory leaves room for.
#define WIDE_FORMAT(name, format, small, x_stages, w_stages, w_stages_of_more) \
    WIDE_PRODUCT(name, format, small, 64, 8, w_stages) \
    WIDE_PRODUCT(name, format, small, 128, 5, w_stages_of_more) \
    WIDE_PRODUCT(name, format, small, 176, 4, w_stages_of_more) \
    WIDE_PRODUCT(name, format, small, 256, x_stages, w_stages_of_more)
