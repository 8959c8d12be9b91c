// Products of 9 to 64 rows at a time, and what x must become for them.
#pragma once
#include "tensor_units.cuh"

#define MANY_STAGES 3
#define MANY_STRIDE 320

// Rows of x as BF16, with zeros up to `padded` rows and whole units: [padded, units·128]; and sums of 32 columns: [units·4, padded].
__device__ inline void half_rows(const float* x, i64 columns, int rows, int padded, u16* half, float* sums)
{
    int pieces = (int)((columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS) * (UNIT_COLUMNS / 8);
    i64 count = (i64)padded * pieces;
    allow_next();
    await_previous();
    for (i64 start = (i64)blockIdx.x * blockDim.x; start < count; start += (i64)gridDim.x * blockDim.x)
    {
        i64 n = min(start + threadIdx.x, count - 1);
        int row = (int)(n / pieces), piece = (int)(n % pieces);
        float sum = 0;
        Quad q = {{0, 0, 0, 0}};
        if (row < rows)
        {
            EightColumns eight;
            eight.load(x + row * columns, (i64)piece * 8, columns);
            q = eight.round(&sum);
        }

        // Pieces come in multiples of 16: four lanes of the same 32 columns go together.
        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        if (start + threadIdx.x >= count) continue;
        ((Quad*)half)[n] = q;
        if ((piece & 3) == 0) sums[(i64)(piece >> 2) * padded + row] = sum;
    }
}

// What the parts of a block's columns came to, in their order; all numbers of a part are on their way at once.
template <int NT, class N>
__device__ inline void add_parts(N (*sums)[4], const N* first)
{
#pragma unroll
    for (int n = 0; n < NT; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;
    for (int part = 0; part < (int)gridDim.y; part++)
    {
        N values[NT][4];
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++) values[n][c] = first[(((i64)part * NT + n) * 4 + c) * TENSOR_THREADS];
        }

#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++) sums[n][c] += values[n][c];
        }
    }
}

// Leaves a part of a block's columns in `parts` [block, part, n, c, thread]. True in the last block to end, whose sums are then those of all parts.
template <int NT, class N>
__device__ inline bool last_part(N (*sums)[4], N* parts, u32* counters)
{
    __shared__ u32 arrived;
    N* mine = parts + (i64)blockIdx.x * gridDim.y * NT * 4 * TENSOR_THREADS + threadIdx.x;
#pragma unroll
    for (int n = 0; n < NT; n++)
    {
#pragma unroll
        for (int c = 0; c < 4; c++) mine[(((i64)blockIdx.y * NT + n) * 4 + c) * TENSOR_THREADS] = sums[n][c];
    }

    fence();
    __syncthreads();
    if (threadIdx.x == 0) arrived = atomicAdd(counters + blockIdx.x, 1u);
    __syncthreads();
    if (arrived != gridDim.y - 1) return false;
    fence();
    if (threadIdx.x == 0) counters[blockIdx.x] = 0;
    add_parts<NT>(sums, mine);
    return true;
}

// The same for 8·NT rows of x, which `half_rows` has made. A block takes 128 features, a warp 16 of them, and the part blockIdx.y of the
// columns; x comes by asynchronous copies, MANY_STAGES units ahead. The last block of a part to end adds the parts up, in order.
template <class T, int NT>
__device__ inline void many_rows(
    const Packed& p, const u16* x, const float* x_sums, int rows, const float* bias, float* y, i64 y_stride, i64 first, i64 count, int add,
    float* parts, u32* counters)
{
    const int padded = 8 * NT;
    NIBBLE_SHARED(u8, shared);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tiles = (p.rows + UNIT_ROWS - 1) / UNIT_ROWS;
    i64 own = first / UNIT_ROWS + (i64)blockIdx.x * TENSOR_WARPS + warp, tile = min(own, tiles - 1);
    int from = (int)(units * blockIdx.y / gridDim.y), to = (int)(units * (blockIdx.y + 1) / gridDim.y);
    u8* table = shared;
    u8* stages = shared + T::TABLE_BYTES;
    auto fetch = [&](int unit)
    {
        u8* stage = stages + (unit - from) % MANY_STAGES * (padded * MANY_STRIDE);
        for (int n = threadIdx.x; unit < to && n < padded * 16; n += TENSOR_THREADS)
        {
            copy_async(stage + (n >> 4) * MANY_STRIDE + (n & 15) * 16, x + (n >> 4) * units * UNIT_COLUMNS + (i64)unit * UNIT_COLUMNS + (n & 15) * 8);
        }

        copies_commit();
    };
    allow_next();
    T ahead[2];
    typename T::Cursor cursor;
    cursor.open(p, tile, lane);
    if (from < to) ahead[0].load(p, cursor, from, lane);
    if (from + 1 < to) ahead[1].load(p, cursor, from + 1, lane);
    T::fill_table(p, table);
    PairTable pairs(table);
    await_previous();
    fetch(from);
    fetch(from + 1);
    float sums[NT][4];
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
            ahead[d].arrive(p);
            const u8* stage = stages + (unit - from) % MANY_STAGES * (padded * MANY_STRIDE);
            add_unit<T, NT>(
                ahead[d], pairs, lane, sums,
                [&](int n, int i) { return *(const Quad*)(stage + (8 * n + g) * MANY_STRIDE + 64 * i + 16 * t); },
                [&](int n, int i, int c) { return x_sums[((i64)unit * 4 + i) * padded + 8 * n + 2 * t + c]; });
            if (unit + 2 < to) ahead[d].load(p, cursor, unit + 2, lane);
        }
    }

    copies_wait<0>();
    // All are read before one is written: a store would make the next load wait.
    auto write = [&]()
    {
#pragma unroll
        for (int pass = 0; pass < 2; pass++)
        {
#pragma unroll
            for (int n = 0; n < NT; n++)
            {
#pragma unroll
                for (int c = 0; c < 4; c++)
                {
                    i64 feature = own * UNIT_ROWS + g + 8 * (c >> 1);
                    int row = 8 * n + 2 * t + (c & 1);
                    if (row >= rows || feature < first || feature >= first + count) continue;
                    float* out = y + row * y_stride + feature - first;
                    if (pass == 1) *out = sums[n][c];
                    else sums[n][c] = (add ? *out : 0) + sums[n][c] + (bias ? bias[feature] : 0);
                }
            }
        }
    };
    if (gridDim.y == 1)
    {
        write();
        return;
    }

    if (last_part<NT>(sums, parts, counters)) write();
}
