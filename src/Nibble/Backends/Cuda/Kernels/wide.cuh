// Products of many rows with a packed weight, decoded on its way to the tensor cores: BF16 numbers, sums in F32 (wgmma, cards of 9.0).
//
// y is computed as its transpose. A warpgroup owns 64 features; each warp decodes its 16 (a unit of packed.cuh is a warp's share of A, eight
// steps of k) and multiplies them with scale and offset in F32, rounded to BF16 once, as a weight that becomes a matrix is. x has been written
// as stages of a ring (wgmma.cuh), its columns in the order in which lanes hold codes. A warpgroup of its own fetches x, codes and scales, far
// ahead; while tensor cores work on one half of a unit, the next is decoded. Blocks take items (64·GROUPS features × N rows × a part of the columns) in turns, where
// columns are in parts the last block to end adds the parts up, in order.
#pragma once
#include "tensor.cuh"
#include "wgmma.cuh"

// WideCall in C# has the same layout.
struct WideCall
{
    Packed weight;
    const u8* x;                 // stages [row tile, half unit]
    const float* bias;
    void* y;
    i64 stride;                  // from one row of y to the next
    i64 first, count;            // features
    float* parts;
    u32* counters;
    int rows, row_tiles;
    int tiles;
    int whole, splits;           // tiles whose columns stay together come first; those of the others are split
    int type;                    // of y
    int add;
};

// Rows of x as stages of BF16: [row tile, half unit, n, 64], zeros beyond the rows and columns. Four lanes share 32 columns; lane t reads the
// eight from 8·t on, whose pairs go to four pieces.
__device__ inline void wide_rows_of(const void* x, int type, i64 columns, int rows, int n, u8* stages)
{
    i64 halves = (columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS * 2, count = (i64)((rows + n - 1) / n) * halves * n * 8;
    allow_next();
    await_previous();
    GRID_STRIDE(at, count)
    {
        // A warp has four rows of a stage (n is a multiple of 8), so that no lane of it is missing.
        int eight = (int)at & 7, stage_row = (int)(at >> 3), within = stage_row % n, tile_half = stage_row / n;
        int t = eight & 3, row = tile_half / (int)halves * n + within;
        i64 column = (i64)(tile_half % (int)halves) * 64 + 8 * eight;
        Quad pairs = {{0, 0, 0, 0}};
        if (row < rows && type == NUMBER_BF16)
        {
            const u16* from = (const u16*)x + row * columns + column;
            if (((u64)from & 15) == 0 && column + 8 <= columns) pairs = *(const Quad*)from;
            else
            {
#pragma unroll
                for (int e = 0; e < 8; e++) pairs.w[e >> 1] |= column + e < columns ? (u32)from[e] << (16 * (e & 1)) : 0;
            }
        }
        else if (row < rows)
        {
            EightColumns read;
            read.load((const float*)x + row * columns, column, columns);
            float sum;
            pairs = read.round(&sum);
        }

        // Pair p stands in piece p of the 32 columns, at word t: the four lanes turn their words as a matrix.
        auto turn = [&](u32& first, u32& second, bool later, int mask)
        {
            u32 other = __shfl_xor_sync(FULL_WARP, later ? first : second, mask);
            first = later ? other : first;
            second = later ? second : other;
        };
        turn(pairs.w[0], pairs.w[1], t & 1, 1);
        turn(pairs.w[2], pairs.w[3], t & 1, 1);
        turn(pairs.w[0], pairs.w[2], t & 2, 2);
        turn(pairs.w[1], pairs.w[3], t & 2, 2);
        *(Quad*)(stages + (at - eight) * 16 + (eight ^ (within & 7)) * 16) = pairs;
    }
}

// A packed format for wide_product: half a unit becomes A of four steps.
template <class T>
struct WideFloats
{
    typedef float Sum;
    typedef typename T::Cursor Cursor;
    static const int HALVES = 2, PLANES = T::PLANES, UNIT_BYTES = T::UNIT_BYTES, TABLE_BYTES = T::OFFSETS && T::CODE_BITS != 3 ? 0 : T::TABLE_BYTES;
    T tile;

    __device__ static void fill_table(const Packed& p, u8* table)
    {
        if (TABLE_BYTES > 0) T::fill_table(p, table);
    }

    template <class BRING>
    __device__ static void places(const Packed& p, const Cursor& at, int unit, BRING bring) { T::places(p, at, unit, bring); }

    template <class READ>
    __device__ void load(const Packed& p, const Cursor& at, int unit, int lane, const u32* codes, const float* map, READ read)
    {
        tile.load_shared(p, at, unit, lane, codes, read);
        tile.arrive(p, map);
    }

    __device__ void decode(const PairTable& table, int half, int lane, u32 (*a)[4]) const
    {
#pragma unroll
        for (int n = 0; n < 2; n++)
        {
            int i = 2 * half + n;
            float scale[2], shift[2];
#pragma unroll
            for (int h = 0; h < 2; h++)
            {
                scale[h] = tile.scale_at(i, h, lane);
                shift[h] = T::OFFSETS ? fmaf(-(float)T::Codes::BIAS, scale[h], tile.shift_at(i, h, lane)) : 0;
            }

#pragma unroll
            for (int j = 0; j < 2; j++)
            {
#pragma unroll
                for (int w = 0; w < 4; w++)
                {
                    float low, high;
                    if (T::OFFSETS) tile.codes.numbers(w & 1, i, 2 * j + (w >> 1), table, &low, &high);
                    else
                    {
                        u32 pair = tile.codes.pair(w & 1, i, 2 * j + (w >> 1), table);
                        low = __uint_as_float(pair << 16);
                        high = __uint_as_float(pair & 0xffff0000u);
                    }

                    float s = scale[w & 1], z = shift[w & 1];
                    a[2 * n + j][w] = T::OFFSETS ? pack_bf16(fmaf(low, s, z), fmaf(high, s, z)) : pack_bf16(low * s, high * s);
                }
            }
        }
    }
};

// Sums of features f and f + 8 and rows 8·n + r, +1 of x, to y; all are read before one is written, where they add to it. The code of a tile's
// end runs once or twice a block: it must be short, as it is read from memory.
template <int N, class NUMBER, class TO, class FROM>
__device__ inline void wide_write(const WideCall& call, float* sums, i64 f, int r, TO to, FROM from)
{
    i64 feature = f - call.first;
    int t2 = 2 * (int)(threadIdx.x & 3);
    u8* tile = (u8*)call.y + (r - t2) * call.stride * (i64)sizeof(NUMBER);
    u32 line = (u32)call.stride * sizeof(NUMBER), first = t2 * line + (u32)feature * sizeof(NUMBER);
    // How many rows a feature still has; none if it is not asked for.
    int left[2];
#pragma unroll
    for (int h = 0; h < 2; h++) left[h] = feature + 8 * h >= 0 && feature + 8 * h < call.count ? call.rows - r : 0;
    u32 place = first;
    if (call.add)
    {
#pragma unroll
        for (int n = 0; n < N / 8; n++, place += 8 * line)
        {
#pragma unroll
            for (int c = 0; c < 4; c++)
            {
                if (8 * n + (c & 1) < left[c >> 1]) sums[4 * n + c] += from(*(const NUMBER*)(tile + (u32)(place + (c & 1) * line + 8 * (c >> 1) * sizeof(NUMBER))));
            }
        }
    }

    place = first;
#pragma unroll
    for (int n = 0; n < N / 8; n++, place += 8 * line)
    {
#pragma unroll
        for (int c = 0; c < 4; c++)
        {
            if (8 * n + (c & 1) < left[c >> 1]) *(NUMBER*)(tile + (u32)(place + (c & 1) * line + 8 * (c >> 1) * sizeof(NUMBER))) = to(sums[4 * n + c]);
        }
    }
}

// Rows of x whose sums a warp turns in shared memory at once, and bytes that such a row stands apart, so that lanes meet in no bank.
#define TURNED_ROWS 64
#define TURNED_STRIDE 48
#define TURNED_BYTES (TURNED_ROWS * TURNED_STRIDE)

// BF16 that nothing is added to, of 16 features that stand in y in whole lines of 16 bytes: they come there by way of shared memory, as 32 bytes
// a row.
template <int N>
__device__ inline void wide_write_lines(const WideCall& call, const float* sums, i64 f, int r, u8* turned)
{
    int lane = threadIdx.x & 31, first = r - 2 * (lane & 3), left = call.rows - first;
    u8* tile = (u8*)call.y + (first * call.stride + f - (lane >> 2) - call.first) * 2;
    u32 line = (u32)call.stride * 2;
    u8* column = turned + (8 * (lane >> 4) + (lane & 7)) * TURNED_STRIDE + (lane >> 3 & 1) * 16;
#pragma unroll
    for (int part = 0; part < N / TURNED_ROWS; part++)
    {
        __syncwarp();
#pragma unroll
        for (int n = 0; n < TURNED_ROWS / 8; n += 2)
        {
            const float* four = sums + part * (TURNED_ROWS / 2) + 4 * n;
            u32 a[4] = {pack_bf16(four[0], four[1]), pack_bf16(four[2], four[3]), pack_bf16(four[4], four[5]), pack_bf16(four[6], four[7])};
            store_matrices_turned(column + 8 * n * TURNED_STRIDE, a);
        }

        __syncwarp();
#pragma unroll
        for (int k = 0; k < TURNED_ROWS / 16; k++)
        {
            int row = 16 * k + (lane >> 1);
            Quad piece = *(const Quad*)(turned + row * TURNED_STRIDE + (lane & 1) * 16);
            row += part * TURNED_ROWS;
            if (row < left) *(Quad*)(tile + (u32)(row * line + (lane & 1) * 16)) = piece;
        }
    }
}

// `turned`: TURNED_BYTES of shared memory for each warp.
template <int N>
__device__ inline void wide_write(const WideCall& call, float* sums, i64 f, int r, u8* turned)
{
    if (call.bias)
    {
        float bias[2];
#pragma unroll
        for (int h = 0; h < 2; h++) bias[h] = f + 8 * h < call.weight.rows ? call.bias[f + 8 * h] : 0;
#pragma unroll
        for (int i = 0; i < N / 2; i++) sums[i] += bias[(i >> 1) & 1];
    }

    if (call.type == NUMBER_F32) wide_write<N, float>(call, sums, f, r, [](float value) { return value; }, [](float value) { return value; });
    else
    {
        // Where the warp's features begin in y, in the card's memory.
        i64 feature = f - (threadIdx.x >> 2 & 7) - call.first;
        bool lines = !call.add && feature >= 0 && feature + UNIT_ROWS <= call.count && (call.stride & 7) == 0 && (((u64)call.y + 2 * feature) & 15) == 0;
        if (lines) wide_write_lines<N>(call, sums, f, r, turned);
        else wide_write<N, u16>(call, sums, f, r, [](float value) { return round_bf16(value); }, [](u16 bits) { return from_bf16(bits); });
    }
}

struct WideItem { int tile, row_tile, feature_tile, split, from, to; };

// What a block does in its turns, and where its warps find it.
struct WidePlan
{
    int units, items;
    i64 tiles;

    __device__ WidePlan(const WideCall& call)
    {
        units = (int)((call.weight.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS);
        items = call.whole + (call.tiles - call.whole) * call.splits;
        tiles = (call.weight.rows + UNIT_ROWS - 1) / UNIT_ROWS;
    }

    __device__ WideItem item(const WideCall& call, int n) const
    {
        int rest = n - call.whole, tile = rest < 0 ? n : call.whole + rest / call.splits, splits = rest < 0 ? 1 : call.splits, split = rest < 0 ? 0 : rest % call.splits;
        return {tile, tile % call.row_tiles, tile / call.row_tiles, split, units * split / splits, units * (split + 1) / splits};
    }

    __device__ i64 tile(const WideCall& call, const WideItem& item, int warps, int warp) const
    {
        return min(call.first / UNIT_ROWS + (i64)item.feature_tile * warps + warp, tiles - 1);
    }
};

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
    static const int SHARED = 1024 + X_STAGES * STAGE + W_STAGES * W_STAGE + WARPS * TURNED_BYTES + D::TABLE_BYTES;
};

template <class D, int N, int GROUPS, int BLOCKS, int X_STAGES, int W_STAGES, class END>
__device__ inline void wide_product(const WideCall& call, END end)
{
    typedef WideShape<D, N, GROUPS, BLOCKS, X_STAGES, W_STAGES> S;
    NIBBLE_SHARED(u8, raw);
    __shared__ StageBarrier x_full[X_STAGES], x_empty[X_STAGES], w_full[W_STAGES], w_empty[W_STAGES];
    __shared__ u32 arrived[GROUPS];
    __shared__ float map[256];
    u8* x_stages = raw + stages_offset(raw);
    u8* w_stages = x_stages + X_STAGES * S::STAGE;
    u8* turned = w_stages + W_STAGES * S::W_STAGE;
    u8* table = turned + S::WARPS * TURNED_BYTES;
    const Packed& p = call.weight;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    WidePlan plan(call);
    if (threadIdx.x == 0)
    {
        for (int s = 0; s < X_STAGES; s++)
        {
            barrier_init(x_full + s, 1);
            barrier_init(x_empty + s, S::WARPS);
        }

        for (int s = 0; s < W_STAGES; s++)
        {
            barrier_init(w_full + s, S::WARPS + (D::PLANES > 0 ? 64 : 0));
            barrier_init(w_empty + s, S::WARPS);
        }

        barriers_are_ready();
    }

    allow_next();
    D::fill_table(p, table);
    if (p.nested_map && threadIdx.x < 256) map[threadIdx.x] = p.nested_map[threadIdx.x];
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
                    barrier_wait(x_empty + at.stage, at.parity);
                    barrier_expect(x_full + at.stage, S::STAGE);
                    fetch_bytes(x_stages + at.stage * S::STAGE, x, S::STAGE, x_full + at.stage);
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
                    barrier_wait(w_empty + at.stage, at.parity);
                    barrier_expect(w_full + at.stage, D::UNIT_BYTES);
                    fetch_bytes(w_stages + at.stage * S::W_STAGE + lane * D::UNIT_BYTES, codes, D::UNIT_BYTES, w_full + at.stage);
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
                    barrier_wait(w_empty + at.stage, at.parity);
#pragma unroll
                    for (int w = 0; w < S::WARPS / 2; w++)
                    {
                        D::places(p, cursors[w], unit, [&](int plane, const u32* place) { fetch_word(words + plane * 32 * S::WARPS + 64 * w, place); });
                    }

                    barrier_arrive_copied(w_full + at.stage);
                    at.next();
                }
            }
        }
    }
    else
    {
        group_registers_more<S::REGISTERS>();
        int group = warp >> 2, before = -1;
        RingPlace<X_STAGES> x_at(0);
        RingPlace<W_STAGES> w_at(0);
        PairTable pairs(table);
        for (int n = blockIdx.x; n < plan.items; n += gridDim.x)
        {
            WideItem item = plan.item(call, n);
            typename D::Cursor cursor;
            cursor.open(p, plan.tile(call, item, S::WARPS, warp), lane);
            typename D::Sum sums[N / 2];
#pragma unroll
            for (int i = 0; i < N / 2; i++) sums[i] = 0;
            u32 a[2][4][4];
            for (int unit = item.from; unit < item.to; unit++)
            {
                u8* w_stage = w_stages + w_at.stage * S::W_STAGE;
                const u32* words = (const u32*)(w_stage + S::CODES) + 32 * warp + lane;
                D part;
                barrier_wait(w_full + w_at.stage, w_at.parity);
                part.load(p, cursor, unit, lane, (const u32*)(w_stage + warp * D::UNIT_BYTES), map, [&](int plane) { return words[plane * 32 * S::WARPS]; });
#pragma unroll
                for (int half = 0; half < D::HALVES; half++)
                {
                    if (D::HALVES == 1) group_wait<0>();
                    part.decode(pairs, half, lane, a[half]);
                    if (half == D::HALVES - 1 && lane == 0) barrier_arrive(w_empty + w_at.stage);
                    barrier_wait(x_full + x_at.stage, x_at.parity);
                    group_fence();
#pragma unroll
                    for (int step = 0; step < 4; step++) group_multiply<N>(sums, a[half][step], x_stages + x_at.stage * S::STAGE, step);
                    group_commit();
                    // What was multiplied before this has ended: its stage is free, and so are its words of A.
                    group_wait<1>();
                    if (before >= 0 && lane == 0) barrier_arrive(x_empty + before);
                    before = x_at.stage;
                    x_at.next();
                }

                w_at.next();
            }

            group_wait<0>();
            if (before >= 0 && lane == 0) barrier_arrive(x_empty + before);
            before = -1;
            await_previous();
            if (item.tile >= call.whole && call.splits > 1)
            {
                // Parts stand as [tile, group, split, sum, thread].
                int place = (item.tile - call.whole) * GROUPS + group, thread = threadIdx.x & 127;
                typename D::Sum* parts = (typename D::Sum*)call.parts + (i64)place * call.splits * (N / 2) * 128 + thread;
#pragma unroll
                for (int i = 0; i < N / 2; i++) parts[((i64)item.split * (N / 2) + i) * 128] = sums[i];
                fence();
                group_barrier(group);
                if (thread == 0) arrived[group] = atomicAdd(call.counters + place, 1u);
                group_barrier(group);
                if ((int)arrived[group] != call.splits - 1) continue;
                fence();
                if (thread == 0) call.counters[place] = 0;
#pragma unroll
                for (int i = 0; i < N / 2; i++) sums[i] = parts[i * 128];
                for (int split = 1; split < call.splits; split++)
                {
#pragma unroll
                    for (int i = 0; i < N / 2; i++) sums[i] += parts[((i64)split * (N / 2) + i) * 128];
                }
            }

            end(sums, (call.first / UNIT_ROWS + (i64)item.feature_tile * S::WARPS + warp) * UNIT_ROWS + (lane >> 2), item.row_tile * N + 2 * (lane & 3), turned + warp * TURNED_BYTES);
        }
    }
}

#if defined(NIBBLE_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define WIDE_BODY(...) __VA_ARGS__
#else
// Never launched: compilers before 12.0 and other cards have no such instructions.
#define WIDE_BODY(...)
#endif

// The kernel of a format for n rows of x a tile.
#define WIDE_PRODUCT(name, format, n, x_stages, w_stages) \
    typedef WideFloats<PackedTile<format, false>> wide_floats_##name##_##n; \
    extern "C" __global__ void __launch_bounds__(WideShape<wide_floats_##name##_##n, n, 2, 1, x_stages, w_stages>::THREADS, 1) nibble_wide_##name##_##n(WideCall call) \
    { \
        WIDE_BODY(wide_product<wide_floats_##name##_##n, n, 2, 1, x_stages, w_stages>( \
            call, [&](float* sums, i64 f, int r, u8* turned) { wide_write<n>(call, sums, f, r, turned); })); \
    }

#define WIDE_FORMAT(name, format) \
    WIDE_PRODUCT(name, format, 64, 8, 5) \
    WIDE_PRODUCT(name, format, 128, 5, 4) \
    WIDE_PRODUCT(name, format, 256, 3, 4)
