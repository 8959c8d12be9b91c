// Products of a few rows with a weight, and its values: for dense weights and for packed ones.
//
// A format F says how the columns of a row stand in words: a chunk of F::STEPS·32 columns is F::WORDS words for each lane, and lane l
// holds columns l, l + 32, l + 64 … of the chunk. So a warp reads a chunk's words and its part of x in whole lines, and the scale of a
// group of at least 32 columns is the same for all lanes.
#pragma once
#include "common.cuh"

#define WARPS_PER_BLOCK 4

enum { GROUPS_OF_ROW = 0, GROUPS_FLAT = 1, GROUPS_STRIDED = 2, GROUPS_MAPPED = 3 };

// PackedArgument in C# has the same layout. For dense weights only codes, row_words (elements of a row) and columns count.
struct Packed
{
    const void* codes;
    i64 row_words;
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
    int unused;
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

// BITS of 2, 4 or 8: a word holds 32/BITS codes, the lowest bits first.
template <int BITS>
struct Affine
{
    static const int WORDS = 1, STEPS = 32 / BITS;
    __device__ static u32 code(const u32* words, int step) { return (words[0] >> (BITS * step)) & ((1u << BITS) - 1); }
    __device__ static float value(const Packed& p, const float*, i64 row, i64 column, u32 code) { return affine_value(p, row, column, code); }
};

// Three planes of bits: bit `step` of word b is bit b of the code.
template <>
struct Affine<3>
{
    static const int WORDS = 3, STEPS = 32;
    __device__ static u32 code(const u32* words, int step)
    {
        return ((words[0] >> step) & 1) | (((words[1] >> step) & 1) << 1) | (((words[2] >> step) & 1) << 2);
    }
    __device__ static float value(const Packed& p, const float*, i64 row, i64 column, u32 code) { return affine_value(p, row, column, code); }
};

struct Codebook
{
    static const int WORDS = 1, STEPS = 8;
    __device__ static u32 code(const u32* words, int step) { return (words[0] >> (4 * step)) & 15; }
    __device__ static float value(const Packed& p, const float* levels, i64 row, i64 column, u32 code)
    {
        return __fmul_rn(levels[code], scale_of(p, group_of(p, row, column)));
    }
};

// The words of one row, spread into values: adds v·x[r, column] to each row's sum.
template <class F, int ROWS>
__device__ inline void add_step(
    const Packed& p, const float* levels, const u32* words, i64 row, i64 first, int step, const float* const* x, float* sums)
{
    i64 column = first + 32 * step;
    float value = F::value(p, levels, row, column, F::code(words, step));
#pragma unroll
    for (int r = 0; r < ROWS; r++) sums[r] = fmaf(value, x[r][column], sums[r]);
}

// y[r, row] (+)= Σ x[r, k]·W[row, k] + bias[row]; a warp owns an output feature, and reads the weight once for all rows of x.
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
    const u32* codes = (const u32*)p.codes + row * p.row_words + lane;
    const float* inputs[ROWS];
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        // Rows that do not exist repeat the last one: no test inside the loop.
        inputs[r] = x + (i64)min(r, rows - 1) * p.columns;
        sums[r] = 0;
    }

    const int columns = F::STEPS * 32;
    i64 full = p.columns / columns * columns;
    for (i64 column = 0; column < full; column += columns)
    {
        u32 words[F::WORDS];
#pragma unroll
        for (int w = 0; w < F::WORDS; w++) words[w] = codes[(column / columns * F::WORDS + w) * 32];
        #pragma unroll
        for (int step = 0; step < F::STEPS; step++) add_step<F, ROWS>(p, levels, words, row, column + lane, step, inputs, sums);
    }

    if (full < p.columns)
    {
        u32 words[F::WORDS];
#pragma unroll
        for (int w = 0; w < F::WORDS; w++) words[w] = codes[(full / columns * F::WORDS + w) * 32];
        #pragma unroll 1
        for (int step = 0; full + lane + 32 * step < p.columns; step++) add_step<F, ROWS>(p, levels, words, row, full + lane, step, inputs, sums);
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
    const u32* codes = (const u32*)p.codes + row * p.row_words;
    const int columns = F::STEPS * 32;
    for (i64 column = threadIdx.x; column < p.columns; column += blockDim.x)
    {
        u32 words[F::WORDS];
#pragma unroll
        for (int w = 0; w < F::WORDS; w++) words[w] = codes[(column / columns * F::WORDS + w) * 32 + column % 32];
        float value = F::value(p, p.levels, row, column, F::code(words, (int)(column % columns / 32)));
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
