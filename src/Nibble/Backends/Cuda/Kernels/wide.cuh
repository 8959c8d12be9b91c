// Products of many rows with a packed weight, decoded on its way to the tensor cores: BF16 numbers, sums in F32 (wgmma, cards of 9.0).
//
// y is computed as its transpose. A warpgroup owns 64 features; each warp decodes its 16 (a unit of packed.cuh is a warp's share of A, eight
// steps of k) and multiplies them with scale and offset, rounded to BF16 once, as a weight that becomes a matrix is. x comes through a ring of stages
// (wgmma.cuh): a matrix of BF16 as it stands, where codes of 4 bits are turned into its order of columns, or written as stages before, its columns in
// the order in which lanes hold codes. A warpgroup of its own fetches x, codes and scales, far ahead; while tensor cores work on one half of a unit,
// the next is decoded. Blocks take items (64·GROUPS features × N rows × a part of the columns) in turns, where columns are in parts the last block
// to end adds the parts up, in order.
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
    int plain;                   // x is a matrix of BF16 as it stands; `x` is not used
    int unused;
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

// The pairs of levels that bytes of a codebook's codes stand for, as a lane sees them. An entry has 256 bytes, with a copy of the pair for each lane, so
// that no two lanes meet in a bank; the table begins at a multiple of its size: then bytes make an address in one step. What comes before that place
// has LEVELS_BEFORE bytes at least: the card itself takes 1 KiB, a kernel's own variables a little more.
#define LEVEL_TABLE (1 << 16)
#define LEVELS_BEFORE (60 << 10)

#ifdef NIBBLE_HOST
inline int levels_offset(const void*) { return LEVELS_BEFORE; }
struct LevelTable
{
    const u8* own;
    LevelTable(const u8* table) : own(table + 4 * (threadIdx.x & 31)) {}
    u32 pair(u32 codes, int pair) const { return *(const u32*)(own + 256 * (codes >> (8 * pair) & 255)); }
};
#else
__device__ inline int levels_offset(const void* shared) { return (int)((0 - shared_address(shared)) & (LEVEL_TABLE - 1)); }
struct LevelTable
{
    u32 own;
    __device__ LevelTable(const u8* table) : own(shared_address(table) + 4 * (threadIdx.x & 31)) {}
    __device__ u32 pair(u32 codes, int pair) const
    {
        u32 levels;
        asm("ld.shared.u32 %0, [%1];" : "=r"(levels) : "r"(pick_bytes(codes, own, 0x7604 | pair << 4)));
        return levels;
    }
};
#endif

__device__ inline void fill_levels(const float* levels, u8* table)
{
    int entry = threadIdx.x;
    if (entry >= 256) return;
    u32 pair = pack_bf16(levels[entry & 15], levels[entry >> 4]);
    Quad copies = {{pair, pair, pair, pair}};
#pragma unroll
    for (int n = 0; n < 8; n++) *(Quad*)(table + entry * 256 + ((n + entry) & 7) * 16) = copies;
}

// What a warpgroup's sums pass through on their way to y: TURNED_ROWS rows of x by 64 features, twice. The stride keeps lanes out of each other's banks.
#define TURNED_ROWS 16
#define TURNED_STRIDE 68
#define TURNED_FLOATS (TURNED_ROWS * TURNED_STRIDE)
#define TURNED_BYTES (2 * TURNED_FLOATS * 4)

// A packed format for wide_product: half a unit becomes A of four steps. What has to wait for memory (`load`, `begin`) is apart from what makes numbers
// of it (`finish`), so that a multiplication can be queued between them. While tensor cores work, other instructions are slow: their number is what
// decoding takes.
template <class T>
struct WideFloats
{
    typedef float Sum;
    typedef typename T::Cursor Cursor;
    // Levels of a codebook are BF16: for their product with a scale, two numbers of BF16 stand for it.
    static const bool LEVELS = !T::OFFSETS, LOOKS_UP = LEVELS || T::CODE_BITS == 3;
    static const int HALVES = 2, PARTS = T::PARTS, PLANES = T::PLANES, UNIT_BYTES = T::UNIT_BYTES, TABLE_BYTES = LEVELS ? LEVEL_TABLE : LOOKS_UP ? T::TABLE_BYTES : 0, END_BYTES = TURNED_BYTES;
    T tile;
    // Of each group of a half (PARTS) and each of a lane's two rows.
    u32 words[PLANES], own[PARTS], high[PARTS][2], low[PARTS][2], found[2][2][4];
    float scale[PARTS][2], shift[PARTS][2];

    __device__ static void fill_table(const Packed& p, u8* table)
    {
        if (LEVELS) fill_levels(p.levels, table);
        else if (LOOKS_UP) T::fill_table(p, table);
    }

    template <class BRING>
    __device__ static void places(const Packed& p, const Cursor& at, int unit, BRING bring) { T::places(p, at, unit, bring); }

    template <class READ>
    __device__ void load(const Packed& p, int lane, const u32* codes, READ read)
    {
        tile.codes.template load<true>(codes, lane);
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            words[part] = read(part);
            if (p.nested_map) words[PARTS + part] = read(PARTS + part);
            if (T::OFFSETS && p.offsets) words[2 * PARTS + part] = read(2 * PARTS + part);
        }
    }

    // Scales of a half, and what its codes have in the table. With the first half a unit's scales become numbers.
    __device__ void begin(const Packed& p, const Cursor& at, int unit, const PairTable& table, const LevelTable& levels, const LaneTurn& turn, bool plain, int half, int lane, const float* map)
    {
        if (half == 0) tile.arrive_words(p, at, unit, words, map);
        if (half == 0 && plain) tile.codes.turn(turn);
#pragma unroll
        for (int part = 0; part < PARTS && half == 0 && LEVELS; part++) own[part] = split_bf16(tile.scale[part]);
#pragma unroll
        for (int n = 0; n < 2 && LOOKS_UP; n++)
        {
#pragma unroll
            for (int j = 0; j < 2; j++)
            {
#pragma unroll
                for (int w = 0; w < 4; w++)
                {
                    int h = w & 1, i = 2 * half + n, pair = 2 * j + (w >> 1);
                    found[n][j][w] = LEVELS ? levels.pair(tile.codes.eight(h, i), pair) : tile.codes.pair(h, i, pair, table);
                }
            }
        }

#pragma unroll
        for (int own_part = 0; own_part < 2 * PARTS; own_part++)
        {
            int h = own_part & 1, part = own_part >> 1;
            if (LEVELS)
            {
                u32 both = __shfl_sync(FULL_WARP, own[part], (lane & ~3) + h + 2 * half);
                high[part][h] = pick_bytes(both, 0, 0x1010);
                low[part][h] = pick_bytes(both, 0, 0x3232);
                continue;
            }

            scale[part][h] = tile.scale_at(2 * half + part, h, lane);
            shift[part][h] = fmaf(-(float)T::Codes::BIAS, scale[part][h], tile.shift_at(2 * half + part, h, lane));
        }
    }

    __device__ void finish(const PairTable& table, int half, u32 (*a)[4]) const
    {
#pragma unroll
        for (int n = 0; n < 2; n++)
        {
#pragma unroll
            for (int j = 0; j < 2; j++)
            {
#pragma unroll
                for (int w = 0; w < 4; w++)
                {
                    int h = w & 1, part = PARTS == 2 ? n : 0;
                    u32 pair = found[n][j][w];
                    if (LEVELS)
                    {
                        a[2 * n + j][w] = multiply_add_bf16(pair, high[part][h], multiply_bf16(pair, low[part][h]));
                        continue;
                    }

                    float first = __uint_as_float(pair << 16), second = __uint_as_float(pair & 0xffff0000u);
                    if (!LOOKS_UP) tile.codes.numbers(h, 2 * half + n, 2 * j + (w >> 1), table, &first, &second);
                    a[2 * n + j][w] = pack_bf16(fmaf(first, scale[part][h], shift[part][h]), fmaf(second, scale[part][h], shift[part][h]));
                }
            }
        }
    }
};

// Where a thread stands at a tile's end: it takes four features of every eighth row.
struct WideEnd
{
    float* column;               // of its sums in the memory that turns them
    const float* own;            // what it takes from there
    u8* place;                   // its first four numbers of y
    i64 line;                    // bytes from one row of y to the next
    i64 feature;                 // within y
    int left;                    // rows from its first one on
    float bias[4];
};

// Four numbers of y.
template <class NUMBER> struct FourNumbers;
template <>
struct FourNumbers<float>
{
    float4 four;
    __device__ void load(const void* place) { four = *(const float4*)place; }
    __device__ void store(void* place) const { *(float4*)place = four; }
    __device__ void widen(float* values) const { values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w; }
    __device__ void round(const float* values) { four.x = values[0], four.y = values[1], four.z = values[2], four.w = values[3]; }
};
template <>
struct FourNumbers<u16>
{
    Couple pairs;
    __device__ void load(const void* place) { pairs = *(const Couple*)place; }
    __device__ void store(void* place) const { *(Couple*)place = pairs; }
    __device__ void widen(float* values) const
    {
#pragma unroll
        for (int e = 0; e < 4; e++) values[e] = __uint_as_float(e & 1 ? pairs.w[e >> 1] & 0xffff0000u : pairs.w[e >> 1] << 16);
    }
    __device__ void round(const float* values)
    {
        pairs.w[0] = pack_bf16(values[0], values[1]);
        pairs.w[1] = pack_bf16(values[2], values[3]);
    }
};

// TURNED_ROWS rows of a warpgroup's sums to the memory that turns them.
__device__ inline void turn_sums(float* column, const float* sums)
{
#pragma unroll
    for (int n = 0; n < TURNED_ROWS / 8; n++)
    {
#pragma unroll
        for (int c = 0; c < 4; c++) column[(8 * n + (c & 1)) * TURNED_STRIDE + 8 * (c >> 1)] = sums[4 * n + c];
    }
}

// A tile whose features are all asked for and stand in whole pieces of y. No branch stands between its loads.
template <int N, class NUMBER, bool ADD>
__device__ inline void wide_write_whole(WideEnd end, const float* sums)
{
#pragma unroll
    for (int part = 0; part < N / TURNED_ROWS; part++)
    {
        int buffer = (part & 1) * TURNED_FLOATS;
        FourNumbers<NUMBER> before[TURNED_ROWS / 8];
        if (ADD)
        {
#pragma unroll
            for (int k = 0; k < TURNED_ROWS / 8; k++) before[k].load(end.place + (end.left > 8 * k ? 8 * k * end.line : 0));
        }

        turn_sums(end.column + buffer, sums + part * (TURNED_ROWS / 2));
        // Who has come here has read what stood in the other buffer.
        group_barrier(threadIdx.x >> 7);
        FourNumbers<float> values[TURNED_ROWS / 8];
#pragma unroll
        for (int k = 0; k < TURNED_ROWS / 8; k++) values[k].load(end.own + buffer + 8 * k * TURNED_STRIDE);
#pragma unroll
        for (int k = 0; k < TURNED_ROWS / 8; k++)
        {
            float four[4], others[4] = {0, 0, 0, 0};
            values[k].widen(four);
            if (ADD) before[k].widen(others);
#pragma unroll
            for (int e = 0; e < 4; e++) four[e] = others[e] + (four[e] + end.bias[e]);
            FourNumbers<NUMBER> result;
            result.round(four);
            if (end.left > 8 * k) result.store(end.place + 8 * k * end.line);
        }

        end.left -= TURNED_ROWS;
        if (end.left > 0) end.place += TURNED_ROWS * end.line;
    }
}

// Any other tile, number by number.
template <int N>
__device__ inline void wide_write_any(const WideCall& call, WideEnd end, const float* sums)
{
#pragma unroll 1
    for (int part = 0; part < N / TURNED_ROWS; part++)
    {
        int buffer = (part & 1) * TURNED_FLOATS;
        // One of these is taken: sums stand in registers, which have no address.
#pragma unroll
        for (int which = 0; which < N / TURNED_ROWS; which++)
        {
            if (which == part) turn_sums(end.column + buffer, sums + which * (TURNED_ROWS / 2));
        }

        group_barrier(threadIdx.x >> 7);
#pragma unroll 1
        for (int k = 0; k < TURNED_ROWS / 8 && end.left > 0; k++, end.left -= 8, end.place += 8 * end.line)
        {
#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                if (end.feature + e < 0 || end.feature + e >= call.count) continue;
                float value = end.own[buffer + 8 * k * TURNED_STRIDE + e] + end.bias[e];
                if (call.type == NUMBER_F32) ((float*)end.place)[e] = (call.add ? ((const float*)end.place)[e] : 0) + value;
                else ((u16*)end.place)[e] = round_bf16((call.add ? from_bf16(((const u16*)end.place)[e]) : 0) + value);
            }
        }
    }
}

// A warpgroup's sums, of 64 features from f on and N rows of x from r on, to y. A warp alone has 16 features, 32 bytes of a row of BF16: too short for
// the cache's lines; so all four meet in shared memory (`turned`, TURNED_BYTES).
template <int N>
__device__ inline void wide_write(const WideCall& call, const float* sums, i64 f, int r, float* turned)
{
    int lane = threadIdx.x & 31, thread = threadIdx.x & 127, size = call.type == NUMBER_F32 ? 4 : 2, row = thread >> 4;
    WideEnd end;
    end.column = turned + 2 * (lane & 3) * TURNED_STRIDE + 16 * (thread >> 5) + (lane >> 2);
    end.own = turned + row * TURNED_STRIDE + 4 * (thread & 15);
    end.feature = f + 4 * (thread & 15) - call.first;
    end.line = call.stride * size;
    end.place = (u8*)call.y + (r + row) * end.line + end.feature * size;
    end.left = call.rows - r - row;
#pragma unroll
    for (int e = 0; e < 4; e++) end.bias[e] = call.bias && end.feature + e >= 0 && end.feature + e < call.count ? call.bias[call.first + end.feature + e] : 0;
    i64 group = f - call.first;
    bool whole = group >= 0 && group + 64 <= call.count && (((u64)call.y | (u64)end.line | (u64)(group * size)) & (4 * size - 1)) == 0;
    if (!whole)
    {
        wide_write_any<N>(call, end, sums);
        return;
    }

    if (end.left <= 0) end.place = (u8*)call.y;
    if (call.type == NUMBER_F32 && !call.add) wide_write_whole<N, float, false>(end, sums);
    else if (call.type == NUMBER_F32) wide_write_whole<N, float, true>(end, sums);
    else if (!call.add) wide_write_whole<N, u16, false>(end, sums);
    else wide_write_whole<N, u16, true>(end, sums);
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
    // A table of levels stands between what is small and x.
    static const int SMALL = W_STAGES * W_STAGE + GROUPS * D::END_BYTES, SHARED = D::LEVELS ? 2 * LEVEL_TABLE + X_STAGES * STAGE : 1024 + X_STAGES * STAGE + SMALL + D::TABLE_BYTES;
    static_assert(!D::LEVELS || SMALL <= LEVELS_BEFORE, "room before the table");
};

template <class D, int N, int GROUPS, int BLOCKS, int X_STAGES, int W_STAGES, class END>
__device__ inline void wide_product(const WideCall& call, const StageMap* plain_x, END end)
{
    typedef WideShape<D, N, GROUPS, BLOCKS, X_STAGES, W_STAGES> S;
    NIBBLE_SHARED(u8, raw);
    __shared__ StageBarrier x_full[X_STAGES], x_empty[X_STAGES], w_full[W_STAGES], w_empty[W_STAGES];
    __shared__ u32 arrived[GROUPS];
    __shared__ float map[256];
    u8* table = raw + (D::LEVELS ? levels_offset(raw) : stages_offset(raw) + X_STAGES * S::STAGE);
    u8* x_stages = D::LEVELS ? table + D::TABLE_BYTES : raw + stages_offset(raw);
    u8* w_stages = D::LEVELS ? raw : table + D::TABLE_BYTES;
    u8* turned = w_stages + W_STAGES * S::W_STAGE;
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
                    if (call.plain) fetch_rows(x_stages + at.stage * S::STAGE, plain_x, 64 * half, item.row_tile * N, N, x_full + at.stage);
                    else fetch_bytes(x_stages + at.stage * S::STAGE, x, S::STAGE, x_full + at.stage);
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
        LevelTable levels(table);
        LaneTurn turn(lane);
        for (int n = blockIdx.x; n < plan.items; n += gridDim.x)
        {
            WideItem item = plan.item(call, n);
            typename D::Cursor cursor;
            cursor.open(p, plan.tile(call, item, S::WARPS, warp), lane);
            typename D::Sum sums[N / 2];
#pragma unroll
            for (int i = 0; i < N / 2; i++) sums[i] = 0;
            u32 a[D::HALVES][4][4];
            D part;
            auto load = [&]()
            {
                u8* w_stage = w_stages + w_at.stage * S::W_STAGE;
                const u32* words = (const u32*)(w_stage + S::CODES) + 32 * warp + lane;
                barrier_wait(w_full + w_at.stage, w_at.parity);
                part.load(p, lane, (const u32*)(w_stage + warp * D::UNIT_BYTES), [&](int plane) { return words[plane * 32 * S::WARPS]; });
            };
            // What was loaded has been read.
            auto begin = [&](int unit)
            {
                part.begin(p, cursor, unit, pairs, levels, turn, call.plain, 0, lane, map);
                if (lane == 0) barrier_arrive(w_empty + w_at.stage);
                w_at.next();
            };
            auto multiply = [&](const u32 (*words)[4])
            {
                barrier_wait(x_full + x_at.stage, x_at.parity);
                StageMatrix matrix = stage_matrix(x_stages + x_at.stage * S::STAGE);
                group_fence();
#pragma unroll
                for (int step = 0; step < 4; step++) group_multiply<N>(sums, words[step], matrix, step);
                group_commit();
            };
            // All but the last multiplication has ended: its stage is free, and so are its words of A.
            auto release = [&]()
            {
                group_wait<1>();
                if (before >= 0 && lane == 0) barrier_arrive(x_empty + before);
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
                if (!D::LOOKS_UP && more) load();
                multiply(a[D::HALVES - 1]);
                if (!D::LOOKS_UP && more) begin(unit + 1);
                release();
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
