// What products with x on the grid of 8-bit integers share.
#pragma once
#include "tensor.cuh"

#ifdef NIBBLE_HOST
inline void multiply_add_int8(int* d, const u32* a, u32 b0, u32 b1)
{
    Fragments f(a, b0, b1);
    int lane = threadIdx.x & 31;
    for (int k = 0; k < 32; k++)
    {
        int owner = k / 4 % 4, shift = 32 * (k / 16) + 8 * (k % 4);
        int x[2] = {(signed char)(f.upper[lane / 4 * 4 + owner] >> shift), (signed char)(f.lower[lane / 4 * 4 + owner] >> shift)};
        for (int i = 0; i < 4; i++) d[i] += x[i >> 1] * (signed char)(f.columns[(2 * (lane % 4) + (i & 1)) * 4 + owner] >> shift);
    }
}
#else
// d[16 × 8] += a[16 × 32]·b[32 × 8].
__device__ inline void multiply_add_int8(int* d, const u32* a, u32 b0, u32 b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// What the end of a product needs; Int8End in C# has the same layout.
struct Int8End
{
    const float* x;
    const float* absmax;         // of the rows of x
    const int* sums;             // of their codes
    const int* outliers;         // how many columns, and which; or null
    const float* bias;
    float* y;
    i64 y_stride;
    i64 first, count;            // features
    int rows;
    int add;
};

__device__ inline float zero_of(const Packed& p, i64 feature) { return p.offsets ? read_number(p.offsets, p.offset_type, feature) : p.offset; }

// The number of a weight before its scale.
__device__ inline float level_at(const Packed& p, i64 feature, int column, float zero)
{
    const u32* unit = (const u32*)p.codes + feature / UNIT_ROWS * p.tile_words + (i64)(column / UNIT_COLUMNS) * UnitOf<8>::WORDS;
    int row = (int)(feature % UNIT_ROWS), within = column % UNIT_COLUMNS;
    return (float)UnitOf<8>::code(unit, row >> 3, 4 * (row & 7) + (within & 31) / 8, within / 32, within & 7) - zero;
}
