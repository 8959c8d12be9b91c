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

// Codes of x: [rows, padded columns], or with tile_rows stages (wgmma.cuh) of [row tile, unit, tile_rows, 128], in the order in which lanes hold a
// weight's. Where four columns of a row stand, in words.
__device__ inline i64 word_of_codes(int row, i64 word, i64 padded, int tile_rows)
{
    if (tile_rows == 0) return row * (padded / 4) + word;
    // Of 32 columns lane t has words 2·t and 2·t + 1: word t of two pieces.
    int within = row % tile_rows, piece = (int)(word % 32 / 8 * 2 + (word & 1)), t = (int)(word % 8 >> 1);
    return (((i64)(row / tile_rows) * (padded / UNIT_COLUMNS) + word / 32) * tile_rows + within) * (UNIT_COLUMNS / 4) + (piece ^ (within & 7)) * 4 + t;
}

// A row is rounded before all rows have been searched for outliers: where another row made a column one, its code becomes 0 afterwards, and leaves
// the sum. A warp takes 32 rows of a column, every warps-th time.
__device__ inline void drop_outliers(const int* columns, int count, u8* codes, int* sums, int rows, i64 padded, int tile_rows, int warp, int warps)
{
    int pieces = (rows + 31) / 32;
    for (int n = warp; n < count * pieces; n += warps)
    {
        int row = n % pieces * 32 + (threadIdx.x & 31), column = columns[n / pieces];
        if (row >= rows) continue;
        u8* place = codes + 4 * word_of_codes(row, column / 4, padded, tile_rows) + column % 4;
        int code = (signed char)*place;
        if (code == 0) continue;
        *place = 0;
        atomicAdd((u32*)(sums + row), (u32)-code);
    }
}
