// Products on tensor cores: BF16 numbers, sums in F32. A weight's unit (packed.cuh) is the fragment A of eight mma.m16n8k16, x is B.
//
// Codes become BF16 by a table of pairs that stands in shared memory once for each lane, so that no two lanes meet in a bank. The scale
// of a group multiplies the sums over its columns, in F32; an offset multiplies the sum of x over the group: Σ (q − z)·s·x =
// s·Σ q·x − s·z·Σ x. Codes and levels are exact in BF16 or rounded to it; nothing else of a weight is rounded.
#pragma once
#include "tensor_few.cuh"
#include "tensor_many.cuh"

// Rows of a weight as a row-major matrix of BF16, `columns` a multiple of 8: a warp writes a unit, each value rounded once.
template <class T, class F>
__device__ inline void expand_rows(const Packed& p, i64 first, i64 count, u16* matrix)
{
    __shared__ float levels[16];
    if (p.levels && threadIdx.x < 16) levels[threadIdx.x] = p.levels[threadIdx.x];
    __syncthreads();
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, t = lane & 3;
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tile = first / UNIT_ROWS + blockIdx.x;
    typename T::Cursor cursor;
    cursor.open(p, tile, lane);
    for (i64 unit = (i64)blockIdx.y * TENSOR_WARPS + warp; unit < units; unit += (i64)gridDim.y * TENSOR_WARPS)
    {
        T part;
        part.load(p, cursor, (int)unit, lane);
        part.arrive(p);
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            i64 row = tile * UNIT_ROWS + (lane >> 2) + 8 * h;
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                i64 column = unit * UNIT_COLUMNS + 32 * i + 8 * t;
                float scale = part.scale_at(i, h, lane), shift = T::OFFSETS ? part.shift_at(i, h, lane) : 0, v[8];
                if (row < first || row >= first + count || column >= p.columns) continue;
                Quad pairs;
#pragma unroll
                for (int e = 0; e < 8; e++) v[e] = fmaf(F::level(levels, part.codes.code(h, i, e)), scale, shift);
#pragma unroll
                for (int e = 0; e < 4; e++) pairs.w[e] = pack_bf16(v[2 * e], v[2 * e + 1]);
                *(Quad*)(matrix + (row - first) * p.columns + column) = pairs;
            }
        }
    }
}

// Two blocks share a multiprocessor.
#define TENSOR_MANY(name, tile, suffix, nt) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 2) nibble_many_##name##suffix##_##nt( \
        Packed p, const u16* x, const float* x_sums, int rows, const float* bias, float* y, i64 y_stride, i64 first, i64 count, int add, \
        float* parts, u32* counters) \
    { many_rows<tile, nt>(p, x, x_sums, rows, bias, y, y_stride, first, count, add, parts, counters); }

#define TENSOR_FEW(name, tile, suffix, depth) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 2) nibble_few_##name##suffix(FewCall call) { few_rows<tile, depth>(call); }

// The same with three blocks on a multiprocessor, where their memory has room.
#define TENSOR_FEW3(name, tile, depth) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 3) nibble_few3_##name(FewCall call) { few_rows<tile, depth>(call); }

#define TENSOR_ROWS(name, tile, suffix, depth) \
    TENSOR_FEW(name, tile, suffix, depth) \
    TENSOR_MANY(name, tile, suffix, 2) \
    TENSOR_MANY(name, tile, suffix, 4) \
    TENSOR_MANY(name, tile, suffix, 8)

#define TENSOR_FORMAT(name, format, suffix, small, depth) \
    typedef PackedTile<format, small> tile_##name##suffix; \
    TENSOR_ROWS(name, tile_##name##suffix, suffix, depth) \
    KERNEL(expand_##name##suffix)(Packed p, i64 first, i64 count, u16* matrix) \
    { expand_rows<tile_##name##suffix, format>(p, first, count, matrix); }

#define TENSOR_PACKED(name, format, depth) \
    TENSOR_FORMAT(name, format, , false, depth) \
    TENSOR_FORMAT(name, format, _small, true, 2)
