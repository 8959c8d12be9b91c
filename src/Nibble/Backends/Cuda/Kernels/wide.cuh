// Products of many rows with a packed weight, decoded on its way to the tensor cores: BF16 numbers, sums in F32 (wgmma, cards of 9.0).
//
// y is computed as its transpose. A warpgroup owns 64 features; each warp decodes its 16 (a unit of packed.cuh is a warp's share of A, eight
// steps of k) and multiplies them with scale and offset, rounded to BF16 once, as a weight that becomes a matrix is. x comes through a ring of stages
// (wgmma.cuh): a matrix of BF16 as it stands, where codes of 4 bits are turned into its order of columns, or written as stages before, its columns in
// the order in which lanes hold codes. A warpgroup of its own fetches x, codes and scales, far ahead; while tensor cores work on one half of a unit,
// the next is decoded. Blocks take items (64·GROUPS features × N rows × a part of the columns) in turns, where columns are in parts the last block
// to end adds the parts up, in order.
#pragma once
#include "wgmma.cuh"
#include "wide_decode.cuh"
#include "wide_end.cuh"
#include "wide_parts.cuh"

// A place in a ring of stages: which one, and the parity of its turn.
template <int STAGES>
struct RingPlace
{
    int stage;
    u32 parity;
    __device__ RingPlace(u32 first) : stage(0), parity(first) {}
    __device__ void next()
    {
        if (++stage < STAGES) return;
        stage = 0;
        parity ^= 1;
    }
};

// D: how a format is decoded. GROUPS warpgroups multiply, one fetches; x comes through X_STAGES, codes and scales through W_STAGES.
template <class D, int N, int GROUPS, int BLOCKS, int X_STAGES, int W_STAGES>
struct WideShape
{
    static const int WARPS = 4 * GROUPS, THREADS = 128 * GROUPS + 128, STAGE = N * STAGE_ROW, CODES = WARPS * D::UNIT_BYTES, W_STAGE = CODES + D::PLANES * WARPS * 128;
    // Registers of a thread at the start, of one that fetches, and of one that multiplies.
    static const int AT_START = 65536 / (THREADS * BLOCKS) / 8 * 8, FEW_REGISTERS = 40, REGISTERS = (AT_START * (GROUPS + 1) - FEW_REGISTERS) / GROUPS / 8 * 8;
    // A table of levels stands between what is small and x.
    static const int SMALL = 1024 + W_STAGES * W_STAGE + GROUPS * D::END_BYTES, SHARED = D::LEVELS ? 2 * LEVEL_TABLE + X_STAGES * STAGE : 1024 + X_STAGES * STAGE + SMALL + D::TABLE_BYTES;
    static_assert(!D::LEVELS || SMALL <= LEVELS_BEFORE, "room before the table");
};

template <class D, int N, int GROUPS, int BLOCKS, int X_STAGES, int W_STAGES, class END>
__device__ inline void wide_product(const WideCall& call, const StageMap* plain_x, END end)
{
    typedef WideShape<D, N, GROUPS, BLOCKS, X_STAGES, W_STAGES> S;
    NIBBLE_SHARED(u8, raw);
    __shared__ StageBarrier barriers[2 * (X_STAGES + W_STAGES)];
    __shared__ float map[256];
    u8* table = raw + (D::LEVELS ? levels_offset(raw) : stages_offset(raw) + X_STAGES * S::STAGE);
    u8* x_stages = D::LEVELS ? table + D::TABLE_BYTES : raw + stages_offset(raw);
    u8* w_stages = D::LEVELS ? raw : table + D::TABLE_BYTES;
    // Lines of the memory that ends use begin where lines of banks do.
    u8* turned = w_stages + W_STAGES * S::W_STAGE;
    turned += stages_offset(turned);
    const Packed& p = call.weight;
    // A warp's number, the same for all its lanes, as the compiler sees too: addresses and branches that come of it are the warp's.
    int lane = threadIdx.x & 31, warp = __shfl_sync(FULL_WARP, threadIdx.x >> 5, 0);
    BarrierRing x_full(barriers), x_empty(barriers + X_STAGES), w_full(barriers + 2 * X_STAGES), w_empty(barriers + 2 * X_STAGES + W_STAGES);
    WidePlan plan(call);
    if (threadIdx.x == 0)
    {
        for (int s = 0; s < X_STAGES; s++)
        {
            x_full.init(s, 1);
            x_empty.init(s, S::WARPS);
        }

        for (int s = 0; s < W_STAGES; s++)
        {
            w_full.init(s, S::WARPS + (D::PLANES > 0 ? 64 : 0));
            w_empty.init(s, S::WARPS);
        }

        barriers_are_ready();
    }

    allow_next();
    __syncthreads();

    if (warp >= S::WARPS)
    {
        group_registers_less<S::FEW_REGISTERS>();
        int own = warp - S::WARPS;
        if (own == 0)
        {
            RingPlace<X_STAGES> at(1);
            if (lane == 0) await_previous();
            for (int n = blockIdx.x; lane == 0 && n < plan.items; n += gridDim.x)
            {
                WideItem item = plan.item(call, n);
                const u8* x = call.x + ((i64)item.row_tile * plan.units + item.from) * D::HALVES * S::STAGE;
                for (int half = D::HALVES * item.from; half < D::HALVES * item.to; half++, x += S::STAGE)
                {
                    x_empty.wait(at.stage, at.parity);
                    x_full.expect(at.stage, S::STAGE);
                    if (call.plain) fetch_rows(x_stages + at.stage * S::STAGE, plain_x, 64 * half, item.row_tile * N, N, x_full, at.stage);
                    else fetch_bytes(x_stages + at.stage * S::STAGE, x, S::STAGE, x_full, at.stage);
                    at.next();
                }
            }
        }
        else if (own == 1)
        {
            // A lane for each warp's codes.
            RingPlace<W_STAGES> at(1);
            for (int n = blockIdx.x; lane < S::WARPS && n < plan.items; n += gridDim.x)
            {
                WideItem item = plan.item(call, n);
                const u8* codes = (const u8*)p.codes + (plan.tile(call, item, S::WARPS, lane) * p.tile_words * 4) + (i64)item.from * D::UNIT_BYTES;
                for (int unit = item.from; unit < item.to; unit++, codes += D::UNIT_BYTES)
                {
                    w_empty.wait(at.stage, at.parity);
                    w_full.expect(at.stage, D::UNIT_BYTES);
                    fetch_bytes(w_stages + at.stage * S::W_STAGE + lane * D::UNIT_BYTES, codes, D::UNIT_BYTES, w_full, at.stage);
                    at.next();
                }
            }
        }
        else
        {
            // Two warps fetch the scales and offsets, each for every other of those that multiply.
            RingPlace<W_STAGES> at(1);
            for (int n = blockIdx.x; D::PLANES > 0 && n < plan.items; n += gridDim.x)
            {
                WideItem item = plan.item(call, n);
                typename D::Cursor cursors[S::WARPS / 2];
#pragma unroll
                for (int w = 0; w < S::WARPS / 2; w++) cursors[w].open(p, plan.tile(call, item, S::WARPS, 2 * w + own - 2), lane);
                for (int unit = item.from; unit < item.to; unit++)
                {
                    u32* words = (u32*)(w_stages + at.stage * S::W_STAGE + S::CODES) + 32 * (own - 2) + lane;
                    w_empty.wait(at.stage, at.parity);
#pragma unroll
                    for (int w = 0; w < S::WARPS / 2; w++)
                    {
                        D::places(p, cursors[w], unit, [&](int plane, const u32* place) { fetch_word(words + plane * 32 * S::WARPS + 64 * w, place); });
                    }

                    w_full.arrive_copied(at.stage);
                    at.next();
                }
            }
        }
    }
    else
    {
        group_registers_more<S::REGISTERS>();
        D::fill_table(p, table);
        if (p.nested_map && threadIdx.x < 256) map[threadIdx.x] = p.nested_map[threadIdx.x];
        groups_barrier<GROUPS>();
        // A multiplication that is queued behind loads from shared memory waits for all of them.
        const bool LATE = D::LOADS_LATE || N < 256;
        int group = warp >> 2, before = -1;
        RingPlace<X_STAGES> x_at(0);
        RingPlace<W_STAGES> w_at(0);
        PairTable pairs(table);
        LevelTable levels(table);
        LaneTurn turn(lane);
        lane = (int)kept((u32)lane);
        StageMatrix x_matrix = stage_matrix(x_stages);
        for (int n = blockIdx.x; n < plan.items; n += gridDim.x)
        {
            WideItem item = plan.item(call, n);
            typename D::Cursor cursor;
            cursor.open(p, plan.tile(call, item, S::WARPS, warp), lane);
            typename D::Sum sums[N / 2];
#pragma unroll
            for (int i = 0; i < N / 2; i++) sums[i] = 0;
            u32 a[D::HALVES][4][4];
            D part(p);
            auto load = [&]()
            {
                u8* w_stage = w_stages + w_at.stage * S::W_STAGE;
                const u32* words = (const u32*)(w_stage + S::CODES) + 32 * warp + lane;
                w_full.wait(w_at.stage, w_at.parity);
                part.load(p, lane, (const u32*)(w_stage + warp * D::UNIT_BYTES), [&](int plane) { return words[plane * 32 * S::WARPS]; });
            };
            // What was loaded has been read.
            auto begin = [&](int unit)
            {
                part.begin(p, cursor, unit, pairs, levels, turn, call.plain, 0, lane, map);
                if (lane == 0) w_empty.arrive(w_at.stage);
                w_at.next();
            };
            auto multiply = [&](const u32 (*words)[4])
            {
                StageMatrix matrix = stage_matrix_at(x_matrix, x_at.stage * S::STAGE);
                x_full.wait(x_at.stage, x_at.parity);
                group_fence();
#pragma unroll
                for (int step = 0; step < 4; step++) group_multiply<N>(sums, words[step], matrix, step);
                group_commit();
            };
            // All but the last multiplication has ended: its stage is free, and so are its words of A.
            auto release = [&]()
            {
                group_wait<1>();
                if (before >= 0 && lane == 0) x_empty.arrive(before);
                before = x_at.stage;
                x_at.next();
            };
            load();
            if (D::HALVES == 2) begin(item.from);
            for (int unit = item.from; unit < item.to; unit++)
            {
                bool more = unit + 1 < item.to;
                if (D::HALVES == 1)
                {
                    group_wait<0>();
                    begin(unit);
                    part.finish(pairs, 0, a[0]);
                    multiply(a[0]);
                    if (more) load();
                    release();
                    continue;
                }

                part.finish(pairs, 0, a[0]);
                part.begin(p, cursor, unit, pairs, levels, turn, false, 1, lane, map);
                multiply(a[0]);
                if (D::LOOKS_UP && more) load();
                release();
                part.finish(pairs, 1, a[D::HALVES - 1]);
                if (D::LOOKS_UP && more) begin(unit + 1);
                if (!D::LOOKS_UP && !LATE && more) load();
                multiply(a[D::HALVES - 1]);
                if (!D::LOOKS_UP && LATE && more) load();
                if (!D::LOOKS_UP && more) begin(unit + 1);
                release();
            }

            group_wait<0>();
            if (before >= 0 && lane == 0) x_empty.arrive(before);
            before = -1;
            await_previous();
            if (item.tile >= call.whole && call.splits > 1 && !join_parts<N / 2>(call, item, GROUPS, sums)) continue;
            end(sums, (call.first / UNIT_ROWS + (i64)item.feature_tile * S::WARPS + 4 * group) * UNIT_ROWS, item.row_tile * N, (float*)(turned + group * D::END_BYTES));
        }
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
    extern "C" __global__ void __launch_bounds__(WideShape<wide_floats_##name##_##n, n, 2, 1, x_stages, w_stages>::THREADS, 1) nibble_wide_##name##_##n(WideCall call, const __grid_constant__ StageMap plain_x) \
    { \
        WIDE_BODY(wide_product<wide_floats_##name##_##n, n, 2, 1, x_stages, w_stages>( \
            call, &plain_x, [&](float* sums, i64 f, int r, float* turned) { wide_write<n>(call, sums, f, r, turned); })); \
    }

// Stages of x for 256 rows, of codes for 64, and for more: what the rest of shared memory leaves room for.
#define WIDE_FORMAT(name, format, small, x_stages, w_stages, w_stages_of_more) \
    WIDE_PRODUCT(name, format, small, 64, 8, w_stages) \
    WIDE_PRODUCT(name, format, small, 128, 5, w_stages_of_more) \
    WIDE_PRODUCT(name, format, small, 256, x_stages, w_stages_of_more)
