// How quantized weights stand in a card's memory, and what their codes mean.
//
// Codes stand in units of 16 rows × 128 columns, in the order in which the lanes of a warp feed them to tensor cores (the fragment A of
// mma.m16n8k16): lane 4·g + t holds rows g and g + 8 (h = 0, 1) and of each 32 columns (i = 0 … 3) the eight from 8·t on (e = 0 … 7).
// So a warp reads a unit in whole lines of 16 bytes a lane, and what a lane holds of a row shares few scales. CodeWords in C# is the
// other side. Rows are padded to 16 and columns to 128 with code 0.
#pragma once
#include "common.cuh"

#define UNIT_ROWS 16
#define UNIT_COLUMNS 128

enum { GROUPS_OF_ROW = 0, GROUPS_FLAT = 1, GROUPS_STRIDED = 2, GROUPS_MAPPED = 3 };

// PackedArgument in C# has the same layout. For dense weights only codes, rows and columns count.
struct Packed
{
    const void* codes;
    i64 tile_words;              // words of 16 rows
    i64 rows;
    i64 columns;
    const void* scales;          // one a group; for nested scales the codes of the absmax values
    const void* offsets;         // one a group, or null: `offset` for all
    const float* levels;         // the 16 levels of a codebook
    const int* map;              // group of each column, act-order
    const float* nested_map;     // 256 levels of nested scales, or null
    const float* nested_scales;
    i64 groups_per_row;
    i64 groups;
    int group_size;
    int group_shift;             // log2 of the size, or −1
    int group_mode;
    int scale_type;
    int offset_type;
    float offset;
    float nested_offset;
    int nested_size;
    int bias_form;               // q·scale + offset instead of (q − offset)·scale
    int nested_shift;            // 1 + log2 of nested_size, or 0 if that is no power of two
};

// Any grouping. Not inlined: its 64-bit divisions, unrolled for each code of a word, would be most of a kernel.
__device__ __noinline__ i64 group_of_any(const Packed* p, i64 row, i64 column)
{
    if (p->group_mode == GROUPS_MAPPED) return row * p->groups_per_row + p->map[column];
    if (p->group_mode == GROUPS_OF_ROW) return row * p->groups_per_row + column / p->group_size;
    i64 element = row * p->columns + column;
    if (p->group_mode == GROUPS_STRIDED) return element % p->groups;
    return p->group_shift >= 0 ? element >> p->group_shift : element / p->group_size;
}

__device__ inline i64 group_of(const Packed& p, i64 row, i64 column)
{
    bool simple = p.group_mode == GROUPS_OF_ROW && p.group_shift >= 0;
    return simple ? row * p.groups_per_row + (column >> p.group_shift) : group_of_any(&p, row, column);
}

__device__ __noinline__ float stored_scale(const Packed* p, i64 group)
{
    if (!p->nested_map) return read_number(p->scales, p->scale_type, group);
    // Rounded step by step, as NestedScales.Dequantize does.
    return __fadd_rn(__fmul_rn(p->nested_map[((const u8*)p->scales)[group]], p->nested_scales[group / p->nested_size]), p->nested_offset);
}

__device__ __noinline__ float stored_offset(const Packed* p, i64 group) { return read_number(p->offsets, p->offset_type, group); }

__device__ inline float scale_of(const Packed& p, i64 group)
{
    bool simple = !p.nested_map && p.scale_type == NUMBER_F32;
    return simple ? ((const float*)p.scales)[group] : stored_scale(&p, group);
}

// The definition of AffineWeight, each step rounded: a fused multiply-add would be another number.
__device__ inline float affine_value(const Packed& p, i64 row, i64 column, u32 code)
{
    i64 group = group_of(p, row, column);
    float scale = scale_of(p, group), offset = p.offsets ? stored_offset(&p, group) : p.offset;
    return p.bias_form ? __fadd_rn(__fmul_rn((float)code, scale), offset) : __fmul_rn(__fsub_rn((float)code, offset), scale);
}

// Where the code of (h, lane, i, e) stands in a unit of BITS·64 words.
template <int BITS>
struct UnitOf;

template <>
struct UnitOf<2>
{
    static const int WORDS = 128;
    __device__ static u32 code(const u32* unit, int h, int lane, int i, int e)
    {
        return (unit[4 * lane + 2 * h + (i >> 1)] >> (16 * (i & 1) + 2 * e)) & 3;
    }
};

// Three planes of bits: plane b has bit b of each code.
template <>
struct UnitOf<3>
{
    static const int WORDS = 192;
    __device__ static u32 code(const u32* unit, int h, int lane, int i, int e)
    {
        const u32* words = unit + 2 * lane + h;
        int shift = 8 * i + e;
        return ((words[0] >> shift) & 1) | (((words[64] >> shift) & 1) << 1) | (((words[128] >> shift) & 1) << 2);
    }
};

template <>
struct UnitOf<4>
{
    static const int WORDS = 256;
    __device__ static u32 code(const u32* unit, int h, int lane, int i, int e) { return (unit[(32 * h + lane) * 4 + i] >> (4 * e)) & 15; }
};

template <>
struct UnitOf<8>
{
    static const int WORDS = 512;
    __device__ static u32 code(const u32* unit, int h, int lane, int i, int e)
    {
        return (unit[((2 * h + (i >> 1)) * 32 + lane) * 4 + 2 * (i & 1) + (e >> 2)] >> (8 * (e & 3))) & 255;
    }
};

// A format: its units, and the value of a code.
template <int BITS>
struct Affine
{
    static const int CODE_BITS = BITS;
    static const bool HAS_OFFSETS = true;
    typedef UnitOf<BITS> Unit;
    __device__ static float value(const Packed& p, const float*, i64 row, i64 column, u32 code) { return affine_value(p, row, column, code); }
    // The number that a code stands for, before scale and offset.
    __device__ static float level(const float*, u32 code) { return (float)code; }
};

struct Codebook
{
    static const int CODE_BITS = 4;
    static const bool HAS_OFFSETS = false;
    typedef UnitOf<4> Unit;
    __device__ static float value(const Packed& p, const float* levels, i64 row, i64 column, u32 code)
    {
        return __fmul_rn(levels[code], scale_of(p, group_of(p, row, column)));
    }
    __device__ static float level(const float* levels, u32 code) { return levels[code]; }
};
