// Products of 8-bit weights, one scale a row, with x on the grid of 8-bit integers: exact sums of integers on tensor cores, scales and
// the columns that stay as they are (LLM.int8, arXiv 2208.07339, section 3) at the end.
//
// y[n, o] = sx[n]·sw[o]·(Σ q[n, k]·(c[o, k] − 128) + (128 − z[o])·Σ q[n, k]) + Σ x[n, j]·w[o, j] over outlier columns j + bias[o]. The codes c stand
// in units as tensor.cuh reads them; of 32 columns a lane holds eight, which are the k of mma.m16n8k32 in another order.
#include "int8.cuh"

#define INT8_STRIDE 160
#define OUTLIERS_AT_ONCE 32
#define SCALE_ROWS 32

// Four columns of a row; those beyond the last are 0.
__device__ inline float4 four_columns(const float* row, i64 column, i64 columns)
{
    if (((u64)(row + column) & 15) == 0 && column + 4 <= columns) return *(const float4*)(row + column);
    float4 v;
    v.x = column < columns ? row[column] : 0;
    v.y = column + 1 < columns ? row[column + 1] : 0;
    v.z = column + 2 < columns ? row[column + 2] : 0;
    v.w = column + 3 < columns ? row[column + 3] : 0;
    return v;
}

// absmax of each row, without outliers; NaN for a row with NaN or infinity: so does everything computed from it become. Marks the columns
// of outliers.
KERNEL(int8_absmax)(const float* x, i64 columns, float threshold, float* absmax, u8* marks)
{
    __shared__ float scratch[32];
    allow_next();
    await_previous();
    const float* row = x + (i64)blockIdx.x * columns;
    float largest = 0, spoiled = 0;
    auto look = [&](float value, i64 column)
    {
        float magnitude = fabsf(value);
        if (threshold > 0 && magnitude >= threshold) marks[column] = 1;
        // fmaxf ignores NaN.
        else if (!(magnitude < infinity())) spoiled = 1;
        else largest = fmaxf(largest, magnitude);
    };
#pragma unroll 4
    for (i64 i = 4 * threadIdx.x; i < columns; i += 4 * blockDim.x)
    {
        float4 v = four_columns(row, i, columns);
        look(v.x, i);
        look(v.y, i + 1);
        look(v.z, i + 2);
        look(v.w, i + 3);
    }

    largest = block_max(largest, scratch);
    spoiled = block_max(spoiled, scratch);
    if (threadIdx.x == 0) absmax[blockIdx.x] = spoiled > 0 ? __uint_as_float(0x7fc00000u) : largest;
}

// How many of the block's counts stand before this thread's own, and all of them together.
__device__ inline int count_before(int own, int* found, int* scratch, int* all)
{
    found[threadIdx.x] = own;
    int of_warp = warp_sum(own), lane = threadIdx.x & 31, warp = threadIdx.x >> 5, before = 0;
    __syncthreads();
    if (lane == 0) scratch[warp] = of_warp;
    __syncthreads();
    for (int n = threadIdx.x - lane; n < (int)threadIdx.x; n++) before += found[n];
    *all = 0;
    for (int w = 0; w < (int)(blockDim.x >> 5); w++)
    {
        if (w < warp) before += scratch[w];
        *all += scratch[w];
    }

    return before;
}

__device__ inline void count_outliers(u64* counter, int outliers, i64 columns)
{
    if (!counter) return;
    atomicAdd(counter, (u64)outliers);
    atomicAdd(counter + 1, (u64)columns);
}

// The codes of x, [padded rows, padded columns] with zeros around them and in marked columns; their sums; and the marked columns in
// order: outliers[0] of them. Marks are read in fours, up to the padded columns. With tile_rows the codes stand as stages (wgmma.cuh) of
// [row tile, unit, tile_rows, 128], in the order in which lanes hold a weight's.
KERNEL(int8_codes)(
    const float* x, i64 columns, int rows, i64 padded, const float* absmax, const u8* marks, u32* codes, int* sums, int* outliers, u64* counter,
    int tile_rows)
{
    __shared__ int scratch[32], found[TENSOR_THREADS];
    allow_next();
    await_previous();
    int row = blockIdx.x;
    // Below it 127/absmax overflows; such a row is zero next to anything.
    bool usable = row < rows && absmax[row] >= 1e-35f;
    float inverse = usable ? __fdiv_rn(127.0f, absmax[row]) : 0;
    int sum = 0;
#pragma unroll 4
    for (i64 word = threadIdx.x; word < padded / 4; word += blockDim.x)
    {
        u32 four = 0, marked = 0;
        i64 column = 4 * word;
        if (usable && column < columns)
        {
            if (marks) marked = *(const u32*)(marks + column);
            float4 v = four_columns(x + row * columns, column, columns);
            float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                int code = (marked >> (8 * e)) & 255 ? 0 : (int)rintf(__fmul_rn(values[e], inverse));
                sum += code;
                four |= (u32)(code & 255) << (8 * e);
            }
        }

        i64 place = row * (padded / 4) + word;
        if (tile_rows > 0)
        {
            // Of 32 columns lane t has words 2·t and 2·t + 1: word t of two pieces.
            int within = row % tile_rows, piece = (int)(word % 32 / 8 * 2 + (word & 1)), t = (int)(word % 8 >> 1);
            place = (((i64)(row / tile_rows) * (padded / UNIT_COLUMNS) + word / 32) * tile_rows + within) * (UNIT_COLUMNS / 4) + (piece ^ (within & 7)) * 4 + t;
        }

        codes[place] = four;
    }

    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[row] = sum;
    if (row > 0 || !marks) return;
    // A thread owns neighbours; before its own come those of the warps and lanes before it.
    int each = (int)(padded / 4 + TENSOR_THREADS - 1) / TENSOR_THREADS, from = threadIdx.x * each, to = min(from + each, (int)(padded / 4)), own = 0;
    for (int word = from; word < to; word++) own += __popc(((const u32*)marks)[word] & 0x01010101u);
    int all, before = count_before(own, found, scratch, &all);
    for (int word = from; own > 0 && word < to; word++)
    {
        u32 four = ((const u32*)marks)[word];
        for (int e = 0; e < 4; e++)
        {
            if ((four >> (8 * e)) & 1) outliers[1 + before++] = 4 * word + e;
        }
    }

    if (threadIdx.x == 0)
    {
        outliers[0] = all;
        count_outliers(counter, all, columns);
    }
}

__device__ inline float end_int8(const Packed& p, const Int8End& end, int row, i64 feature, int sum, float kept)
{
    float zero = zero_of(p, feature), scale = read_number(p.scales, p.scale_type, feature);
    float value = ((float)sum + (128.0f - zero) * (float)end.sums[row]) * __fdiv_rn(end.absmax[row], 127.0f) * scale + kept * scale;
    return (end.add ? end.y[row * end.y_stride + feature - end.first] : 0) + value + (end.bias ? end.bias[feature] : 0);
}

// A block takes 128 features, a warp 16 of them, and the part blockIdx.y of the columns; x [8·NT, padded] comes by asynchronous copies. The last
// block of a part to end adds the parts up: integers, so in any order.
template <int NT>
__device__ inline void int8_rows(const Packed& p, const u8* x, const Int8End& end, int* parts, u32* counters)
{
    const int padded = 8 * NT;
    NIBBLE_SHARED(u8, shared);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tiles = (p.rows + UNIT_ROWS - 1) / UNIT_ROWS;
    i64 own = end.first / UNIT_ROWS + (i64)blockIdx.x * TENSOR_WARPS + warp, tile = min(own, tiles - 1);
    int from = (int)(units * blockIdx.y / gridDim.y), to = (int)(units * (blockIdx.y + 1) / gridDim.y);
    auto fetch = [&](int unit)
    {
        u8* stage = shared + (unit - from) % MANY_STAGES * (padded * INT8_STRIDE);
        for (int n = threadIdx.x; unit < to && n < padded * 8; n += TENSOR_THREADS)
        {
            copy_async(stage + (n >> 3) * INT8_STRIDE + (n & 7) * 16, x + ((n >> 3) * units + unit) * UNIT_COLUMNS + (n & 7) * 16);
        }

        copies_commit();
    };
    allow_next();
    const u32* codes = (const u32*)p.codes + tile * p.tile_words;
    LaneCodes<8> ahead[2];
    if (from < to) ahead[0].load(codes + from * UnitOf<8>::WORDS, lane);
    if (from + 1 < to) ahead[1].load(codes + (from + 1) * UnitOf<8>::WORDS, lane);
    await_previous();
    fetch(from);
    fetch(from + 1);
    int sums[NT][4];
#pragma unroll
    for (int n = 0; n < NT; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;

    for (int base = from; base < to; base += 2)
    {
#pragma unroll
        for (int d = 0; d < 2; d++)
        {
            int unit = base + d;
            if (unit >= to) continue;
            copies_wait<MANY_STAGES - 2>();
            __syncthreads();
            fetch(unit + 2);
            const u8* stage = shared + (unit - from) % MANY_STAGES * (padded * INT8_STRIDE) + g * INT8_STRIDE + 8 * t;
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                u32 a[4];
#pragma unroll
                for (int j = 0; j < 4; j++) a[j] = ahead[d].word(j & 1, i, j >> 1) ^ 0x80808080u;
#pragma unroll
                for (int n = 0; n < NT; n++)
                {
                    Couple b = *(const Couple*)(stage + 8 * n * INT8_STRIDE + 32 * i);
                    multiply_add_int8(sums[n], a, b.w[0], b.w[1]);
                }
            }

            if (unit + 2 < to) ahead[d].load(codes + (unit + 2) * UnitOf<8>::WORDS, lane);
        }
    }

    copies_wait<0>();
    if (gridDim.y > 1 && !last_part<NT>(sums, parts, counters)) return;

    // Outlier columns: x [outlier, row] and levels [outlier, feature] of some of them at a time come into shared memory.
    float kept[NT][4];
#pragma unroll
    for (int n = 0; n < NT; n++) kept[n][0] = kept[n][1] = kept[n][2] = kept[n][3] = 0;
    int outliers = end.outliers ? end.outliers[0] : 0;
    float *kept_x = (float*)shared, *levels = kept_x + OUTLIERS_AT_ONCE * padded;
    i64 first_feature = end.first / UNIT_ROWS * UNIT_ROWS + (i64)blockIdx.x * TENSOR_WARPS * UNIT_ROWS;
    for (int start = 0; start < outliers; start += OUTLIERS_AT_ONCE)
    {
        int some = min(OUTLIERS_AT_ONCE, outliers - start);
        __syncthreads();
        for (int n = threadIdx.x; n < some * padded; n += TENSOR_THREADS)
        {
            int row = n % padded;
            kept_x[n] = row < end.rows ? end.x[row * p.columns + end.outliers[1 + start + n / padded]] : 0;
        }

        for (int n = threadIdx.x; n < some * 128; n += TENSOR_THREADS)
        {
            i64 feature = min(first_feature + n % 128, p.rows - 1);
            levels[n] = level_at(p, feature, end.outliers[1 + start + n / 128], zero_of(p, feature));
        }

        __syncthreads();
        for (int j = 0; j < some; j++)
        {
            float level[2] = {levels[j * 128 + warp * UNIT_ROWS + g], levels[j * 128 + warp * UNIT_ROWS + g + 8]};
#pragma unroll
            for (int n = 0; n < NT; n++)
            {
#pragma unroll
                for (int c = 0; c < 4; c++) kept[n][c] = fmaf(kept_x[j * padded + 8 * n + 2 * t + (c & 1)], level[c >> 1], kept[n][c]);
            }
        }
    }

    // All are read before one is written: a store would make the next load wait.
#pragma unroll
    for (int pass = 0; pass < 2; pass++)
    {
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++)
            {
                i64 feature = own * UNIT_ROWS + g + 8 * (c >> 1);
                int row = 8 * n + 2 * t + (c & 1);
                if (row >= end.rows || feature < end.first || feature >= end.first + end.count) continue;
                if (pass == 1) end.y[row * end.y_stride + feature - end.first] = kept[n][c];
                else kept[n][c] = end_int8(p, end, row, feature, sums[n][c], kept[n][c]);
            }
        }
    }
}

#define INT8_ROWS(nt) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 2) nibble_int8_rows_##nt(Packed p, const u8* x, Int8End end, int* parts, u32* counters) \
    { int8_rows<nt>(p, x, end, parts, counters); }

INT8_ROWS(1)
INT8_ROWS(2)
INT8_ROWS(4)
INT8_ROWS(8)

// Rows of a weight as a row-major matrix of signed codes, [features, padded]: a warp writes a unit.
KERNEL(int8_matrix)(Packed p, i64 first, i64 count, u8* matrix)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tile = first / UNIT_ROWS + blockIdx.x;
    for (i64 unit = (i64)blockIdx.y * TENSOR_WARPS + warp; unit < units; unit += (i64)gridDim.y * TENSOR_WARPS)
    {
        LaneCodes<8> codes;
        codes.load((const u32*)p.codes + tile * p.tile_words + unit * UnitOf<8>::WORDS, lane);
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            i64 row = tile * UNIT_ROWS + (lane >> 2) + 8 * h - first;
            if (row < 0 || row >= count) continue;
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                Couple pair = {{codes.word(h, i, 0) ^ 0x80808080u, codes.word(h, i, 1) ^ 0x80808080u}};
                *(Couple*)(matrix + (row * units + unit) * UNIT_COLUMNS + 32 * i + 8 * (lane & 3)) = pair;
            }
        }
    }
}

// The end of a product whose sums [rows, count] another kernel has made: a block takes 256 features and SCALE_ROWS rows.
KERNEL(int8_end)(Packed p, Int8End end, const int* sums)
{
    const int AT_ONCE = 8;
    __shared__ float kept_x[AT_ONCE][SCALE_ROWS], scales[SCALE_ROWS], row_sums[SCALE_ROWS];
    i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x, feature = end.first + min(at, end.count - 1);
    int from = blockIdx.y * SCALE_ROWS, rows = min(SCALE_ROWS, end.rows - from), outliers = end.outliers ? end.outliers[0] : 0;
    bool inside = at < end.count;
    float kept[SCALE_ROWS], zero = zero_of(p, feature), scale = read_number(p.scales, p.scale_type, feature), bias = end.bias ? end.bias[feature] : 0;
    if ((int)threadIdx.x < rows)
    {
        scales[threadIdx.x] = __fdiv_rn(end.absmax[from + threadIdx.x], 127.0f);
        row_sums[threadIdx.x] = (float)end.sums[from + threadIdx.x];
    }

#pragma unroll
    for (int r = 0; r < SCALE_ROWS; r++) kept[r] = 0;
    for (int start = 0; start < outliers; start += AT_ONCE)
    {
        // All levels are on their way at once.
        float levels[AT_ONCE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) levels[j] = start + j < outliers ? level_at(p, feature, end.outliers[1 + start + j], zero) : 0;
        __syncthreads();
        int r = threadIdx.x % SCALE_ROWS, own = threadIdx.x / SCALE_ROWS;
        kept_x[own][r] = r < rows && start + own < outliers ? end.x[(i64)(from + r) * p.columns + end.outliers[1 + start + own]] : 0;
        __syncthreads();
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++)
        {
#pragma unroll
            for (int n = 0; n < SCALE_ROWS; n++) kept[n] = fmaf(kept_x[j][n], levels[j], kept[n]);
        }
    }

    __syncthreads();
    if (!inside) return;
#pragma unroll
    for (int r = 0; r < SCALE_ROWS; r++)
    {
        if (r >= rows) continue;
        float value = ((float)sums[(i64)(from + r) * end.count + at] + (128.0f - zero) * row_sums[r]) * scales[r] * scale + kept[r] * scale;
        kept[r] = (end.add ? end.y[(i64)(from + r) * end.y_stride + at] : 0) + value + bias;
    }

#pragma unroll
    for (int r = 0; r < SCALE_ROWS; r++)
    {
        if (r < rows) end.y[(i64)(from + r) * end.y_stride + at] = kept[r];
    }
}
