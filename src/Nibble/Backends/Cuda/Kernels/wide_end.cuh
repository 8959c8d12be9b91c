// How products by warpgroups end: a warpgroup's sums turned in shared memory, so that whole lines of y are written. A warp alone has 16 features, 32 bytes
// of a row of BF16: too short for the cache's lines; so all four meet.
#pragma once
#include "wide_decode.cuh"
#include "wide_call.cuh"

// Where a thread stands at a tile's end: it takes four features of every eighth row.
struct WideEnd
{
    float* column;               // of its sums in the memory that turns them
    const float* own;            // what it takes from there
    u8* place;                   // its first four numbers of y
    i64 line;                    // bytes from one row of y to the next
    i64 feature;                 // within y
    int left;                    // rows from its first one on
    float bias[4];
};

// Four numbers of y.
template <class NUMBER> struct FourNumbers;
template <>
struct FourNumbers<float>
{
    float4 four;
    __device__ void load(const void* place) { four = *(const float4*)place; }
    __device__ void store(void* place) const { *(float4*)place = four; }
    __device__ void widen(float* values) const { values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w; }
    __device__ void round(const float* values) { four.x = values[0], four.y = values[1], four.z = values[2], four.w = values[3]; }
};
template <>
struct FourNumbers<u16>
{
    Couple pairs;
    __device__ void load(const void* place) { pairs = *(const Couple*)place; }
    __device__ void store(void* place) const { *(Couple*)place = pairs; }
    __device__ void widen(float* values) const
    {
#pragma unroll
        for (int e = 0; e < 4; e++) values[e] = __uint_as_float(e & 1 ? pairs.w[e >> 1] & 0xffff0000u : pairs.w[e >> 1] << 16);
    }
    __device__ void round(const float* values)
    {
        pairs.w[0] = pack_bf16(values[0], values[1]);
        pairs.w[1] = pack_bf16(values[2], values[3]);
    }
};

// TURNED_ROWS rows of a warpgroup's sums to the memory that turns them.
__device__ inline void turn_sums(float* column, const float* sums)
{
#pragma unroll
    for (int n = 0; n < TURNED_ROWS / 8; n++)
    {
#pragma unroll
        for (int c = 0; c < 4; c++) column[(8 * n + (c & 1)) * TURNED_STRIDE + 8 * (c >> 1)] = sums[4 * n + c];
    }
}

// A tile whose features are all asked for and stand in whole pieces of y. No branch stands between its loads.
template <int N, class NUMBER, bool ADD>
__device__ inline void wide_write_whole(WideEnd end, const float* sums)
{
#pragma unroll
    for (int part = 0; part < N / TURNED_ROWS; part++)
    {
        int buffer = (part & 1) * TURNED_FLOATS;
        FourNumbers<NUMBER> before[TURNED_ROWS / 8];
        if (ADD)
        {
#pragma unroll
            for (int k = 0; k < TURNED_ROWS / 8; k++) before[k].load(end.place + (end.left > 8 * k ? 8 * k * end.line : 0));
        }

        turn_sums(end.column + buffer, sums + part * (TURNED_ROWS / 2));
        // Who has come here has read what stood in the other buffer.
        group_barrier(threadIdx.x >> 7);
        FourNumbers<float> values[TURNED_ROWS / 8];
#pragma unroll
        for (int k = 0; k < TURNED_ROWS / 8; k++) values[k].load(end.own + buffer + 8 * k * TURNED_STRIDE);
#pragma unroll
        for (int k = 0; k < TURNED_ROWS / 8; k++)
        {
            float four[4], others[4] = {0, 0, 0, 0};
            values[k].widen(four);
            if (ADD) before[k].widen(others);
#pragma unroll
            for (int e = 0; e < 4; e++) four[e] = others[e] + (four[e] + end.bias[e]);
            FourNumbers<NUMBER> result;
            result.round(four);
            if (end.left > 8 * k) result.store(end.place + 8 * k * end.line);
        }

        end.left -= TURNED_ROWS;
        if (end.left > 0) end.place += TURNED_ROWS * end.line;
    }
}

// The same of BF16 that nothing is added to: rounded before it is turned, 32 rows at a time as lines of 128 bytes, whose 16-byte pieces stand at their
// place xor (row mod 8).
template <int N>
__device__ inline void wide_write_rounded(const WideCall& call, const float* sums, i64 f, int r, u8* turned)
{
    const int ROWS = 32, LINE = 128, SIXTEEN = 16 * LINE;
    int lane = threadIdx.x & 31, thread = threadIdx.x & 127, warp = thread >> 5, line = thread >> 3, piece = thread & 7, left = call.rows - r - line;
    i64 feature = f - call.first, stride = call.stride * 2;
    // Where a lane's matrix of 8 rows × 8 features stands in a block of 16 rows.
    u8* given = turned + (8 * (lane >> 4) + (lane & 7)) * LINE + ((2 * warp + (lane >> 3 & 1)) ^ (lane & 7)) * 16;
    const u8* taken = turned + line * LINE + (piece ^ (line & 7)) * 16;
    u8* place = (u8*)call.y + (i64)(r + line) * stride + feature * 2 + 16 * piece;
    float bias[2];
#pragma unroll
    for (int h = 0; h < 2; h++) bias[h] = call.bias ? call.bias[f + 16 * warp + (lane >> 2) + 8 * h] : 0;
#pragma unroll
    for (int part = 0; part < N / ROWS; part++)
    {
        int buffer = (part & 1) * 2 * SIXTEEN;
#pragma unroll
        for (int k = 0; k < 2; k++)
        {
            const float* own = sums + part * (ROWS / 2) + 8 * k;
            u32 pairs[4];
#pragma unroll
            for (int m = 0; m < 4; m++) pairs[m] = pack_bf16(own[2 * m] + bias[m & 1], own[2 * m + 1] + bias[m & 1]);
            store_matrices_transposed((u16*)(given + buffer + k * SIXTEEN), pairs);
        }

        // Who has come here has read what stood in the other buffer.
        group_barrier(threadIdx.x >> 7);
        Quad eight[2];
#pragma unroll
        for (int k = 0; k < 2; k++) eight[k] = *(const Quad*)(taken + buffer + k * SIXTEEN);
#pragma unroll
        for (int k = 0; k < 2; k++)
        {
            if (left > part * ROWS + 16 * k) *(Quad*)(place + (part * ROWS + 16 * k) * stride) = eight[k];
        }
    }
}

// Any other tile, number by number.
template <int N>
__device__ inline void wide_write_any(const WideCall& call, WideEnd end, const float* sums)
{
#pragma unroll 1
    for (int part = 0; part < N / TURNED_ROWS; part++)
    {
        int buffer = (part & 1) * TURNED_FLOATS;
        // One of these is taken: sums stand in registers, which have no address.
#pragma unroll
        for (int which = 0; which < N / TURNED_ROWS; which++)
        {
            if (which == part) turn_sums(end.column + buffer, sums + which * (TURNED_ROWS / 2));
        }

        group_barrier(threadIdx.x >> 7);
#pragma unroll 1
        for (int k = 0; k < TURNED_ROWS / 8 && end.left > 0; k++, end.left -= 8, end.place += 8 * end.line)
        {
#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                if (end.feature + e < 0 || end.feature + e >= call.count) continue;
                float value = end.own[buffer + 8 * k * TURNED_STRIDE + e] + end.bias[e];
                if (call.type == NUMBER_F32) ((float*)end.place)[e] = (call.add ? ((const float*)end.place)[e] : 0) + value;
                else ((u16*)end.place)[e] = round_bf16((call.add ? from_bf16(((const u16*)end.place)[e]) : 0) + value);
            }
        }
    }
}

// A warpgroup's sums, of 64 features from f on and N rows of x from r on, to y, by way of shared memory (`turned`, TURNED_BYTES).
template <int N>
__device__ inline void wide_write(const WideCall& call, const float* sums, i64 f, int r, float* turned)
{
    i64 group = f - call.first;
    bool inside = group >= 0 && group + 64 <= call.count;
    if (inside && call.type == NUMBER_BF16 && !call.add && (((u64)call.y | (u64)(call.stride * 2) | (u64)(group * 2)) & 15) == 0)
    {
        wide_write_rounded<N>(call, sums, f, r, (u8*)turned);
        return;
    }

    int lane = threadIdx.x & 31, thread = threadIdx.x & 127, size = call.type == NUMBER_F32 ? 4 : 2, row = thread >> 4;
    WideEnd end;
    end.column = turned + 2 * (lane & 3) * TURNED_STRIDE + 16 * (thread >> 5) + (lane >> 2);
    end.own = turned + row * TURNED_STRIDE + 4 * (thread & 15);
    end.feature = f + 4 * (thread & 15) - call.first;
    end.line = call.stride * size;
    end.place = (u8*)call.y + (r + row) * end.line + end.feature * size;
    end.left = call.rows - r - row;
#pragma unroll
    for (int e = 0; e < 4; e++) end.bias[e] = call.bias && end.feature + e >= 0 && end.feature + e < call.count ? call.bias[call.first + end.feature + e] : 0;
    bool whole = inside && (((u64)call.y | (u64)end.line | (u64)(group * size)) & (4 * size - 1)) == 0;
    if (!whole)
    {
        wide_write_any<N>(call, end, sums);
        return;
    }

    if (end.left <= 0) end.place = (u8*)call.y;
    if (call.type == NUMBER_F32 && !call.add) wide_write_whole<N, float, false>(end, sums);
    else if (call.type == NUMBER_F32) wide_write_whole<N, float, true>(end, sums);
    else if (!call.add) wide_write_any<N>(call, end, sums);
    else wide_write_whole<N, u16, true>(end, sums);
}
