// Grids of groups of weights: CodeGrid of Nibble.Quantization.Methods.
#pragma once
#include "common.cuh"

// How the grid of a group comes about; the values are those of CudaGridKind in C#. From GRID_GIVEN on scale and offset are there already.
enum { GRID_ASYMMETRIC = 0, GRID_SYMMETRIC = 1, GRID_BYTE = 2, GRID_SHIFTED = 3, GRID_INT8 = 4, GRID_GIVEN = 5, GRID_TERNARY = 6, GRID_REAL_ZERO = 7 };

// A warp's group, of those that stand side by side in the rows of a matrix: its number, its first column, where it starts, how many columns it has.
struct WarpGroup
{
    i64 index, first, start;
    int length;
    __device__ WarpGroup(i64 columns, int group, i64 per_row)
    {
        index = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
        first = index % per_row * group;
        start = index / per_row * columns + first;
        length = (int)min((i64)group, columns - first);
    }
};

// code = clamp(round((w − origin) / scale) + zero, lowest, highest).
struct Grid { float origin, scale, zero, lowest, highest; };

__device__ inline bool not_finite(float value) { return (__float_as_uint(value) & 0x7f800000u) == 0x7f800000u; }

// A scale as it will be stored.
__device__ inline float stored_scale(float scale, int type, u32* flags)
{
    float rounded = type == NUMBER_F16 ? from_f16(to_f16(scale)) : type == NUMBER_BF16 ? from_bf16(to_bf16(scale)) : scale;
    if (not_finite(rounded)) flags[1] = 1;
    return rounded;
}

// RtnMethod.GridOf and QuantoMethod's, from the range of the group.
__device__ inline Grid range_grid(float low, float high, int kind, int bits, int type, u32* flags)
{
    float levels = (float)((1 << bits) - 1), middle = (float)(1 << (bits - 1));
    Grid grid = {0, 1, 0, 0, levels};
    if (kind == GRID_INT8)
    {
        grid.zero = 128;
        grid.lowest = 1;
        grid.highest = 255;
        return grid;
    }

    if (kind == GRID_BYTE)
    {
        float scale = stored_scale(__fdiv_rn(fmaxf(fabsf(low), fabsf(high)), 127.0f), type, flags);
        grid.zero = 128;
        grid.lowest = scale == 0 ? 128 : 0;
        grid.highest = scale == 0 ? 128 : 255;
        grid.scale = scale == 0 ? 1 : scale;
        return grid;
    }

    if (kind == GRID_SHIFTED)
    {
        float scale = stored_scale(__fdiv_rn(__fsub_rn(high, low), levels), type, flags);
        grid.origin = stored_scale(low, type, flags);
        grid.scale = scale == 0 ? 1 : scale;
        grid.highest = scale == 0 ? 0 : levels;
        return grid;
    }

    low = fminf(low, 0.0f);
    high = fmaxf(high, 0.0f);
    bool symmetric = kind == GRID_SYMMETRIC;
    float ideal = symmetric ? __fdiv_rn(fmaxf(high, -low), levels / 2) : __fdiv_rn(__fsub_rn(high, low), levels);
    float scale = stored_scale(ideal, type, flags);
    if (scale == 0)
    {
        grid.zero = grid.lowest = grid.highest = symmetric ? middle : 0;
        return grid;
    }

    grid.scale = scale;
    // + 0 turns −0 into 0, as it reads back from a file.
    grid.zero = symmetric ? middle : fminf(fmaxf(rintf(__fdiv_rn(-low, scale)), 0.0f), levels) + 0.0f;
    return grid;
}

__device__ inline Grid given_grid(float scale, float offset, int kind, int bits)
{
    Grid grid = {0, scale, offset, 0, (float)((1 << bits) - 1)};
    if (kind == GRID_TERNARY)
    {
        grid.zero = 1;
        grid.highest = 2;
    }

    if (kind == GRID_REAL_ZERO)
    {
        // A real zero point times the scale is the value of code 0.
        grid.origin = -__fmul_rn(offset, scale);
        grid.zero = 0;
    }

    return grid;
}
