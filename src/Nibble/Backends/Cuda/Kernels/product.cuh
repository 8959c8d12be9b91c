// Products of a few rows with a weight in F32, and its values.
#pragma once
#include "packed.cuh"

#define WARPS_PER_BLOCK 4

// y[r, row] (+)= Σ x[r, k]·W[row, k] + bias[row] in F32; a warp owns an output feature, and reads the weight once for all rows of x.
template <class F, int ROWS>
__device__ inline void packed_gemv(
    const Packed& p, const float* x, int rows, const float* bias, float* y, i64 y_stride, i64 first, i64 count, int add)
{
    __shared__ float levels[16];
    if (p.levels)
    {
        if (threadIdx.x < 16) levels[threadIdx.x] = p.levels[threadIdx.x];
        __syncthreads();
    }

    int lane = threadIdx.x & 31;
    i64 feature = (i64)blockIdx.x * WARPS_PER_BLOCK + (threadIdx.x >> 5);
    if (feature >= count) return;
    i64 row = first + feature;
    int h = (int)(row >> 3) & 1, place = (int)(row & 7) * 4 + (lane & 3);
    const u32* codes = (const u32*)p.codes + row / UNIT_ROWS * p.tile_words;
    const float* inputs[ROWS];
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        // Rows that do not exist repeat the last one: no test inside the loop.
        inputs[r] = x + (i64)min(r, rows - 1) * p.columns;
        sums[r] = 0;
    }

    // Four lanes share a unit, a warp takes eight at once.
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS;
    for (i64 n = lane >> 2; n < units; n += 8)
    {
        const u32* unit = codes + n * F::Unit::WORDS;
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            i64 column = n * UNIT_COLUMNS + 32 * i + 8 * (lane & 3);
#pragma unroll
            for (int e = 0; e < 8; e++)
            {
                if (column + e >= p.columns) break;
                float value = F::value(p, levels, row, column + e, F::Unit::code(unit, h, place, i, e));
#pragma unroll
                for (int r = 0; r < ROWS; r++) sums[r] = fmaf(value, inputs[r][column + e], sums[r]);
            }
        }
    }

#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        float sum = warp_sum(sums[r]);
        if (lane == 0 && r < rows)
        {
            float* out = y + r * y_stride + feature;
            *out = (add ? *out : 0) + sum + (bias ? bias[row] : 0);
        }
    }
}

// Rows ids[…] (none where an id is negative), or first …, as F32 or BF16: a block writes a row.
template <class F>
__device__ inline void packed_rows(const Packed& p, const int* ids, i64 first, void* destination, int type)
{
    i64 row = ids ? ids[blockIdx.x] : first + blockIdx.x;
    if (row < 0) return;
    const u32* codes = (const u32*)p.codes + row / UNIT_ROWS * p.tile_words;
    int h = (int)(row >> 3) & 1;
    for (i64 column = threadIdx.x; column < p.columns; column += blockDim.x)
    {
        int at_unit = (int)(column % UNIT_COLUMNS), place = (int)(row & 7) * 4 + (at_unit >> 3) % 4;
        u32 code = F::Unit::code(codes + column / UNIT_COLUMNS * F::Unit::WORDS, h, place, at_unit >> 5, at_unit & 7);
        float value = F::value(p, p.levels, row, column, code);
        i64 at = (i64)blockIdx.x * p.columns + column;
        if (type == NUMBER_BF16) ((u16*)destination)[at] = to_bf16(value);
        else ((float*)destination)[at] = value;
    }
}

#define PACKED_GEMV(name, format, count) \
    KERNEL(gemv_##name##_##count)( \
        Packed p, const float* x, int rows, const float* bias, float* y, i64 y_stride, i64 first, i64 features, int add) \
    { packed_gemv<format, count>(p, x, rows, bias, y, y_stride, first, features, add); }

#define PACKED(name, format) \
    PACKED_GEMV(name, format, 1) \
    PACKED_GEMV(name, format, 2) \
    PACKED_GEMV(name, format, 4) \
    PACKED_GEMV(name, format, 8) \
    KERNEL(rows_##name)(Packed p, const int* ids, i64 first, void* destination, int type) \
    { packed_rows<format>(p, ids, first, destination, type); }
