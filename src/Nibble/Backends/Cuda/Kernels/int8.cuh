// What products with x on the grid of 8-bit integers share.
#pragma once
#include "tensor.cuh"

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
