// What products of few and of many rows share: eight columns of x as a thread reads them, and the products of a unit.
#pragma once
#include "tensor_tiles.cuh"

#define TENSOR_WARPS 8
#define TENSOR_THREADS 256

// Eight columns of x; those beyond the last are 0.
struct EightColumns
{
    float v[8];

    __device__ void load(const float* row, i64 column, i64 columns)
    {
        if (((u64)(row + column) & 15) == 0 && column + 8 <= columns)
        {
            *(float4*)v = *(const float4*)(row + column);
            *(float4*)(v + 4) = *(const float4*)(row + column + 4);
            return;
        }

#pragma unroll
        for (int e = 0; e < 8; e++) v[e] = column + e < columns ? row[column + e] : 0;
    }

    // As a normalized row has them.
    template <class CALL>
    __device__ void normalize(const CALL& call, i64 column, i64 columns, float mean, float factor)
    {
#pragma unroll
        for (int e = 0; e < 8; e++)
        {
            if (column + e >= columns) continue;
            v[e] = (v[e] - mean) * factor * (call.norm_weight ? call.norm_weight[column + e] : 1.0f);
            if (call.norm_bias) v[e] += call.norm_bias[column + e];
        }
    }

    // As BF16, and their sum after rounding.
    __device__ Quad round(float* sum) const
    {
        Quad q;
        *sum = 0;
#pragma unroll
        for (int e = 0; e < 4; e++)
        {
            q.w[e] = pack_bf16(v[2 * e], v[2 * e + 1]);
            *sum += __uint_as_float(q.w[e] << 16) + __uint_as_float(q.w[e] & 0xffff0000u);
        }

        return q;
    }
};

// Adds a unit's products for 8·NT rows of x: x_at(n, i) gives the lane's part of x, sum_at(n, i, c) the sum of x over 32 columns.
template <class T, int NT, class X, class S>
__device__ inline void add_unit(const T& tile, const PairTable& table, int lane, float (*sums)[4], X x_at, S sum_at)
{
    const int span = T::SMALL ? 1 : 2;
    float part[NT][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        if (i % span == 0)
        {
#pragma unroll
            for (int n = 0; n < NT; n++) part[n][0] = part[n][1] = part[n][2] = part[n][3] = 0;
        }

        u32 a[2][4];
        tile.fragment(i, 0, table, a[0]);
        tile.fragment(i, 1, table, a[1]);
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
            Quad b = x_at(n, i);
            float* c = T::SCALED ? part[n] : sums[n];
            multiply_add(c, a[0], b.w[0], b.w[1]);
            multiply_add(c, a[1], b.w[2], b.w[3]);
        }

        if (!T::SCALED || (i + 1) % span != 0) continue;
        float scale0 = tile.scale_at(i, 0, lane), scale1 = tile.scale_at(i, 1, lane);
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++) sums[n][c] = fmaf(c < 2 ? scale0 : scale1, part[n][c], sums[n][c]);
        }

        if (!T::OFFSETS) continue;
        float shift0 = tile.shift_at(i, 0, lane), shift1 = tile.shift_at(i, 1, lane);
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++)
            {
                float of_x = sum_at(n, i, c & 1) + (span == 2 ? sum_at(n, i - 1, c & 1) : 0);
                sums[n][c] = fmaf(c < 2 ? shift0 : shift1, of_x, sums[n][c]);
            }
        }
    }
}
