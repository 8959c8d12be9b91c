// Products of 8-bit weights, one scale a row, with x on the grid of 8-bit integers: exact sums of integers on tensor cores, scales and
// the columns that stay as they are (LLM.int8, arXiv 2208.07339, section 3) at the end.
//
// y[n, o] = sx[n]·sw[o]·(Σ q[n, k]·(c[o, k] − 128) + (128 − z[o])·Σ q[n, k]) + Σ x[n, j]·w[o, j] over outlier columns j + bias[o]. The codes c stand
// in units as tensor_codes.cuh reads them; of 32 columns a lane holds eight, which are the k of mma.m16n8k32 in another order.
#include "int8.cuh"

#define INT8_STRIDE 160
#define OUTLIERS_AT_ONCE 32
#define SCALE_ROWS 32

// Up to three weights that read the same rows of x; Int8Call in C# has the same layout.
struct Int8Call
{
    Packed weights[FEW_WEIGHTS];
    Int8End ends[FEW_WEIGHTS];
    int blocks[FEW_WEIGHTS];     // of 128 features
    int unused;
};

// A block takes 128 features of a weight, a warp 16 of them, and the part blockIdx.y of the columns; x [8·NT, padded] comes by asynchronous
// copies. The last block of a part to end adds the parts up: integers, so in any order.
template <int NT>
__device__ inline void int8_rows(const Int8Call& call, const u8* x, int* parts, u32* counters)
{
    const int padded = 8 * NT;
    NIBBLE_SHARED(u8, shared);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, which = 0, block = blockIdx.x;
    while (which < FEW_WEIGHTS - 1 && block >= call.blocks[which]) block -= call.blocks[which++];
    const Packed& p = call.weights[which];
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tiles = (p.rows + UNIT_ROWS - 1) / UNIT_ROWS;
    i64 first_tile = call.ends[which].first / UNIT_ROWS + (i64)block * TENSOR_WARPS, own = first_tile + warp, tile = min(own, tiles - 1);
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

    const Int8End& end = call.ends[which];
    // Outlier columns: x [outlier, row] and levels [outlier, feature] of some of them at a time come into shared memory.
    float kept[NT][4];
#pragma unroll
    for (int n = 0; n < NT; n++) kept[n][0] = kept[n][1] = kept[n][2] = kept[n][3] = 0;
    int outliers = end.outliers ? end.outliers[0] : 0;
    float *kept_x = (float*)shared, *levels = kept_x + OUTLIERS_AT_ONCE * padded;
    i64 first_feature = first_tile * UNIT_ROWS;
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

    float shift[2], scale[2], bias[2];
#pragma unroll
    for (int h = 0; h < 2; h++)
    {
        i64 feature = min(own * UNIT_ROWS + g + 8 * h, p.rows - 1);
        shift[h] = 128.0f - zero_of(p, feature);
        scale[h] = read_number(p.scales, p.scale_type, feature);
        bias[h] = end.bias ? end.bias[feature] : 0;
    }

    // Copies: what is looked up by a number that only the block knows is slow to read again and again.
    const float* absmax = end.absmax;
    const int* row_sums = end.sums;
    float* y = end.y;
    i64 stride = end.y_stride, first = end.first, count = end.count;
    int rows = end.rows, add = end.add;
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
                i64 feature = own * UNIT_ROWS + g + 8 * (c >> 1) - first;
                int row = 8 * n + 2 * t + (c & 1), h = c >> 1;
                if (row >= rows || feature < 0 || feature >= count) continue;
                float* out = y + row * stride + feature;
                if (pass == 1) *out = kept[n][c];
                else
                {
                    float value = ((float)sums[n][c] + shift[h] * (float)row_sums[row]) * __fdiv_rn(absmax[row], 127.0f) * scale[h] + kept[n][c] * scale[h];
                    kept[n][c] = (add ? *out : 0) + value + bias[h];
                }
            }
        }
    }
}

#define INT8_ROWS(nt) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 2) nibble_int8_rows_##nt(Int8Call call, const u8* x, int* parts, u32* counters) \
    { int8_rows<nt>(call, x, parts, counters); }

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
