// Products of many rows with 8-bit weights, one scale a row, and x on the grid of 8-bit integers: the frame of wide.cuh with sums of integers,
// which are exact, and the end of int8tensor.cu in registers.
#include "int8.cuh"
#include "wide.cuh"

// Outlier columns that are gathered for all tiles, and how many of them a tile adds at once.
#define KEPT_OUTLIERS 64
#define OUTLIERS_OF_TILE 8

// Rows of x whose codes are there, and weights that are multiplied with them; KeptCall in C# has the same layout.
struct KeptCall
{
    const float* x;
    const int* outliers;
    float* kept;                 // [outlier, padded rows]
    u8* codes;
    int* sums;
    i64 columns, padded_columns;
    int rows, padded, tile_rows, unused;
    Packed weights[FEW_WEIGHTS];
    float* levels[FEW_WEIGHTS];  // [outlier, features], whole tiles of them
    i64 first[FEW_WEIGHTS], features[FEW_WEIGHTS];
};

// Of outlier columns, x and the weights' numbers; zeros up to whole tiles and a whole number of OUTLIERS_OF_TILE. And their codes become 0.
KERNEL(int8_kept)(KeptCall call)
{
    allow_next();
    await_previous();
    int count = min(call.outliers[0], KEPT_OUTLIERS), lines = (count + OUTLIERS_OF_TILE - 1) / OUTLIERS_OF_TILE * OUTLIERS_OF_TILE;
    GRID_STRIDE(at, (i64)lines * call.padded)
    {
        int row = (int)(at % call.padded), line = (int)(at / call.padded);
        call.kept[at] = row < call.rows && line < count ? call.x[row * call.columns + call.outliers[1 + line]] : 0;
    }

    for (int n = 0; n < FEW_WEIGHTS; n++)
    {
        const Packed& p = call.weights[n];
        GRID_STRIDE(at, lines * call.features[n])
        {
            i64 feature = call.first[n] + at % call.features[n];
            int line = (int)(at / call.features[n]);
            bool there = line < count && feature < p.rows;
            call.levels[n][at] = there ? level_at(p, feature, call.outliers[1 + line], zero_of(p, feature)) * read_number(p.scales, p.scale_type, feature) : 0;
        }
    }

    drop_outliers(
        call.outliers + 1, call.outliers[0], call.codes, call.sums, call.rows, call.padded_columns, call.tile_rows, (blockIdx.x * blockDim.x + threadIdx.x) >> 5,
        (gridDim.x * blockDim.x) >> 5);
}

// Codes of 8 bits are A as they stand: a unit is four steps of 32 columns.
struct WideIntegers
{
    typedef int Sum;
    static const int HALVES = 1, PLANES = 0, UNIT_BYTES = UnitOf<8>::WORDS * 4, TABLE_BYTES = 0;
    static const bool LEVELS = false, LOOKS_UP = false, LOADS_LATE = false;
    struct Cursor
    {
        __device__ void open(const Packed&, i64, int) {}
    };
    // What the end of 256 rows needs.
    static const int END_BYTES = (256 * 2 + OUTLIERS_OF_TILE * (256 + 64)) * 4;
    LaneCodes<8> codes;

    __device__ WideIntegers(const Packed&) {}
    __device__ static void fill_table(const Packed&, u8*) {}
    template <class BRING>
    __device__ static void places(const Packed&, const Cursor&, int, BRING) {}
    template <class READ>
    __device__ void load(const Packed&, int lane, const u32* unit, READ) { codes.load<true>(unit, lane); }
    __device__ void begin(const Packed&, const Cursor&, int, const PairTable&, const LevelTable&, const LaneTurn&, bool, int, int, const float*) {}
    __device__ void finish(const PairTable&, int, u32 (*a)[4]) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
#pragma unroll
            for (int j = 0; j < 4; j++) a[i][j] = codes.word(j & 1, i, j >> 1) ^ 0x80808080u;
        }
    }
};

// Sums of integers become numbers: scales, offsets and outlier columns. A load that each thread waited for in its turn would take longer than the
// product; so a warpgroup loads what it needs at once, to its shared memory: for each row its scale and the sum of its codes, then x [outlier, row],
// then the weight's numbers [outlier, feature].
template <int N>
__device__ inline void wide_end_int8(const WideCall& call, const Int8End& end, const float* kept, const float* kept_levels, int padded, const int* sums, i64 f, int r, float* turned)
{
    const int OF_THREAD = OUTLIERS_OF_TILE * N / 128;
    static_assert(N <= 256 && TURNED_BYTES <= WideIntegers::END_BYTES, "what a tile's end needs");
    const Packed& p = call.weight;
    int lane = threadIdx.x & 31, thread = threadIdx.x & 127, group = threadIdx.x >> 7, own = 16 * (thread >> 5) + (lane >> 2), t2 = 2 * (lane & 3);
    float *of_rows = turned, *inputs = of_rows + 2 * N, *levels = inputs + OUTLIERS_OF_TILE * N;
    // Features of all tiles, as int8_kept has them.
    i64 base = call.first / UNIT_ROWS * UNIT_ROWS, features = (i64)(call.tiles / call.row_tiles) * 128;
    const float *next_x = kept + r, *next_level = kept_levels + f - base;
    int outliers = end.outliers ? end.outliers[0] : 0, together = min(outliers, KEPT_OUTLIERS);
    float x[OF_THREAD], level[OUTLIERS_OF_TILE / 2];
    auto fetch = [&]()
    {
#pragma unroll
        for (int k = 0; k < OF_THREAD; k++) x[k] = next_x[(i64)(128 * k / N) * padded + thread + 128 * k % N];
#pragma unroll
        for (int k = 0; k < OUTLIERS_OF_TILE / 2; k++) level[k] = next_level[((thread >> 6) + 2 * k) * features + (thread & 63)];
        next_x += OUTLIERS_OF_TILE * (i64)padded;
        next_level += OUTLIERS_OF_TILE * features;
    };
    group_barrier(group);
    if (together > 0) fetch();
    // absmax and sums have room for whole tiles.
#pragma unroll
    for (int k = 0; k < N / 128; k++)
    {
        int row = thread + 128 * k;
        of_rows[2 * row] = __fdiv_rn(end.absmax[r + row], 127.0f);
        of_rows[2 * row + 1] = (float)end.sums[r + row];
    }

    float values[N / 2], shift[2], scale[2];
#pragma unroll
    for (int h = 0; h < 2; h++)
    {
        i64 feature = min(f + own + 8 * h, p.rows - 1);
        shift[h] = 128.0f - zero_of(p, feature);
        scale[h] = read_number(p.scales, p.scale_type, feature);
    }

    group_barrier(group);
#pragma unroll
    for (int n = 0; n < N / 8; n++)
    {
        float4 two = *(const float4*)(of_rows + 2 * (8 * n + t2));
#pragma unroll
        for (int c = 0; c < 4; c++) values[4 * n + c] = ((float)sums[4 * n + c] + shift[c >> 1] * (c & 1 ? two.w : two.y)) * (c & 1 ? two.z : two.x) * scale[c >> 1];
    }

    auto add = [&](const float* line, float upper, float lower)
    {
#pragma unroll
        for (int n = 0; n < N / 8; n++)
        {
            Couple two = *(const Couple*)(line + 8 * n + t2);
#pragma unroll
            for (int c = 0; c < 4; c++) values[4 * n + c] = fmaf(__uint_as_float(two.w[c & 1]), c < 2 ? upper : lower, values[4 * n + c]);
        }
    };
#pragma unroll 1
    for (int start = 0; start < together; start += OUTLIERS_OF_TILE)
    {
        if (start > 0) group_barrier(group);
#pragma unroll
        for (int k = 0; k < OF_THREAD; k++) inputs[thread + 128 * k] = x[k];
#pragma unroll
        for (int k = 0; k < OUTLIERS_OF_TILE / 2; k++) levels[thread + 128 * k] = level[k];
        group_barrier(group);
        if (start + OUTLIERS_OF_TILE < together) fetch();
#pragma unroll 1
        for (int j = 0; j < min(OUTLIERS_OF_TILE, together - start); j++) add(inputs + N * j, levels[64 * j + own], levels[64 * j + own + 8]);
    }

    // Those that were not gathered; columns like these are few.
#pragma unroll 1
    for (int j = together; j < outliers; j++)
    {
        int column = end.outliers[1 + j];
        group_barrier(group);
#pragma unroll
        for (int k = 0; k < N / 128; k++)
        {
            int row = thread + 128 * k;
            inputs[row] = r + row < call.rows ? end.x[(r + row) * p.columns + column] : 0;
        }

        float of_feature[2];
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            i64 feature = min(f + own + 8 * h, p.rows - 1);
            of_feature[h] = level_at(p, feature, column, zero_of(p, feature)) * scale[h];
        }

        group_barrier(group);
        add(inputs, of_feature[0], of_feature[1]);
    }

    group_barrier(group);
    wide_write<N>(call, values, f, r, turned);
}

#define INT8_WIDE(n, x_stages, w_stages) \
    extern "C" __global__ void __launch_bounds__(WideShape<WideIntegers, n, 2, 1, x_stages, w_stages>::THREADS, 1) nibble_int8_wide_##n( \
        WideCall call, Int8End end, const float* kept, const float* levels, int padded) \
    { \
        WIDE_BODY(wide_product<WideIntegers, n, 2, 1, x_stages, w_stages>( \
            call, nullptr, [&](int* sums, i64 f, int r, float* turned) { wide_end_int8<n>(call, end, kept, levels, padded, sums, f, r, turned); })); \
    }

INT8_WIDE(128, 7, 4)
INT8_WIDE(256, 4, 3)
