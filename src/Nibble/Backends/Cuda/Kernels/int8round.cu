// Rows of x on the grid of 8-bit integers, in one launch: what x is made from (a norm, a gate), the largest magnitude of each row, its codes and their
// sum, and which columns are outliers (LLM.int8, arXiv 2208.07339, section 3): those in which any row has a magnitude of the threshold or more.
//
// A block reads a row once and keeps it in shared memory. Outliers are no part of their own row's largest magnitude, and have code 0. The last
// block to end lists the columns that all rows have marked, and drops their codes in the other rows (int8.cuh).
#include "int8.cuh"

#define MOST_ROUND_THREADS 512

// RoundCall in C# has the same layout.
struct RoundCall
{
    const float* x;
    const float* up;             // silu(x)·up is rounded, or null
    const float* norm_weight;
    const float* norm_bias;
    float* made;                 // the rows as they are rounded, where x is not; may be x
    float* absmax;               // NaN for a row with NaN or infinity: so does everything computed from it become
    u32* codes;                  // as word_of_codes has them, with zeros around
    int* sums;
    int* outliers;               // how many columns, and which, in order; or null
    u32* marks;                  // a bit for each column, all 0 between launches; before them how many blocks have ended
    u64* counters[FEW_WEIGHTS];  // outlier columns so far, and all columns; or null
    i64 columns, padded;
    int rows, tile_rows;
    int norm;
    int held;                    // how many rows fit shared memory: x, and up
    int drops;                   // whether the last block drops codes
    float threshold, epsilon;
    int unused;
};

// Four columns of a row as they are rounded.
struct RoundedColumns
{
    float v[4];

    __device__ RoundedColumns(const float* row, i64 column, i64 columns) { *this = four_columns(row, column, columns); }
    __device__ void operator=(const float4& four) { v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w; }

    __device__ void normalize(const RoundCall& call, i64 column, float mean, float factor)
    {
#pragma unroll
        for (int e = 0; e < 4; e++)
        {
            if (column + e >= call.columns) continue;
            float value = (v[e] - mean) * factor * (call.norm_weight ? call.norm_weight[column + e] : 1.0f);
            v[e] = value + (call.norm_bias ? call.norm_bias[column + e] : 0.0f);
        }
    }

    __device__ void gate(const RoundedColumns& up)
    {
#pragma unroll
        for (int e = 0; e < 4; e++) v[e] = v[e] * (1.0f / (1.0f + expf(-v[e]))) * up.v[e];
    }

    __device__ void store(float* row, i64 column, i64 columns) const
    {
        if (((u64)(row + column) & 15) == 0 && column + 4 <= columns)
        {
            *(float4*)(row + column) = {v[0], v[1], v[2], v[3]};
            return;
        }

#pragma unroll
        for (int e = 0; e < 4; e++)
        {
            if (column + e < columns) row[column + e] = v[e];
        }
    }
};

// How many of the block's counts stand before this thread's own, and all of them together.
__device__ inline int count_before(int own, int* found, int* scratch, int* all)
{
    found[threadIdx.x] = own;
    int of_warp = warp_sum(own), lane = threadIdx.x & 31, warp = threadIdx.x >> 5, before = 0;
    __syncthreads();
    if (lane == 0) scratch[warp] = of_warp;
    __syncthreads();
    for (int n = threadIdx.x - lane; n < (int)threadIdx.x; n++) before += found[n];
    *all = 0;
    for (int w = 0; w < (int)(blockDim.x >> 5); w++)
    {
        if (w < warp) before += scratch[w];
        *all += scratch[w];
    }

    return before;
}

// In the last block to end: the list of marked columns, and what follows from it.
__device__ inline void list_outliers(const RoundCall& call, int* scratch)
{
    __shared__ int found[MOST_ROUND_THREADS], listed[MOST_ROUND_THREADS];
    __shared__ u32 arrived;
    fence();
    __syncthreads();
    if (threadIdx.x == 0) arrived = atomicAdd(call.marks, 1u);
    __syncthreads();
    if (arrived != gridDim.x - 1) return;
    fence();
    u32* marks = call.marks + 1;
    // A thread owns neighbours; before its own come those of the warps and lanes before it.
    int words = (int)(call.padded / 32), each = (words + blockDim.x - 1) / blockDim.x, from = threadIdx.x * each, to = min(from + each, words), own = 0, all;
    for (int word = from; word < to; word++) own += __popc(marks[word]);
    int place = count_before(own, found, scratch, &all);
    for (int word = from; own > 0 && word < to; word++)
    {
        for (u32 bits = marks[word]; bits; bits &= bits - 1)
        {
            int column = 32 * word + __popc((bits & (0u - bits)) - 1);
            if (place < MOST_ROUND_THREADS) listed[place] = column;
            call.outliers[1 + place++] = column;
        }

        marks[word] = 0;
    }

    if (threadIdx.x == 0) call.outliers[0] = all, call.marks[0] = 0;
    if (threadIdx.x < FEW_WEIGHTS && call.counters[threadIdx.x])
    {
        atomicAdd(call.counters[threadIdx.x], (u64)all);
        atomicAdd(call.counters[threadIdx.x] + 1, (u64)call.columns);
    }

    if (!call.drops || all == 0) return;
    __syncthreads();
    drop_outliers(
        all <= MOST_ROUND_THREADS ? listed : call.outliers + 1, all, (u8*)call.codes, call.sums, call.rows, call.padded, call.tile_rows, threadIdx.x >> 5, blockDim.x >> 5);
}

// A row on its way to shared memory.
__device__ inline void fetch_row(float* held, const float* row, i64 columns)
{
    bool whole = ((u64)row & 15) == 0;
    for (i64 i = 4 * threadIdx.x; i < columns; i += 4 * blockDim.x)
    {
        if (whole && i + 4 <= columns) copy_async(held + i, row + i);
        else for (int e = 0; e < 4 && i + e < columns; e++) held[i + e] = row[i + e];
    }
}

KERNEL(int8_round)(RoundCall call)
{
    __shared__ float scratch[32];
    __shared__ int counts[32];
    NIBBLE_SHARED(float, held);
    allow_next();
    await_previous();
    int row = blockIdx.x, sum = 0;
    i64 columns = call.columns;
    bool inside = row < call.rows, usable = false;
    float inverse = 0;
    const float* rounded = nullptr;
    if (inside)
    {
        const float *source = call.x + row * columns, *up = call.up ? call.up + row * columns : nullptr;
        float* made = call.made ? call.made + row * columns : nullptr;
        if (call.held > 0) fetch_row(held, source, columns), source = held;
        if (call.held > 1) fetch_row(held + call.padded, up, columns), up = held + call.padded;
        copies_commit();
        copies_wait<0>();
        __syncthreads();
        float mean = 0, factor = 1, largest = 0;
        if (call.norm != NORM_NONE) factor = row_statistics(source, columns, call.norm == NORM_LAYER, call.epsilon, scratch, &mean);
        for (i64 i = 4 * threadIdx.x; i < columns; i += 4 * blockDim.x)
        {
            RoundedColumns four(source, i, columns);
            if (call.norm != NORM_NONE) four.normalize(call, i, mean, factor);
            if (up) four.gate(RoundedColumns(up, i, columns));
            if (made) four.store(made, i, columns);
            if (call.held && (made || up || call.norm != NORM_NONE)) four.store(held, i, columns);
            u32 marked = 0;
#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                float magnitude = fabsf(four.v[e]);
                if (call.threshold > 0 && magnitude >= call.threshold) marked |= 1u << e;
                // fmaxf ignores NaN.
                else largest = magnitude < infinity() ? fmaxf(largest, magnitude) : infinity();
            }

            if (marked) atomicOr(call.marks + 1 + i / 32, marked << (i & 31));
        }

        largest = block_max(largest, scratch);
        if (threadIdx.x == 0) call.absmax[row] = largest < infinity() ? largest : __uint_as_float(0x7fc00000u);
        // Below it 127/absmax overflows; such a row is zero next to anything.
        usable = largest >= 1e-35f && largest < infinity();
        inverse = usable ? __fdiv_rn(127.0f, largest) : 0;
        rounded = call.held ? held : made ? made : source;
    }

    // A thread reads again what it has made itself.
#pragma unroll 4
    for (i64 word = threadIdx.x; word < call.padded / 4; word += blockDim.x)
    {
        u32 four = 0;
        if (usable && 4 * word < columns)
        {
            RoundedColumns values(rounded, 4 * word, columns);
#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                bool kept = call.threshold > 0 && fabsf(values.v[e]) >= call.threshold;
                int code = kept ? 0 : (int)rintf(__fmul_rn(values.v[e], inverse));
                sum += code;
                four |= (u32)(code & 255) << (8 * e);
            }
        }

        call.codes[word_of_codes(row, word, call.padded, call.tile_rows)] = four;
    }

    sum = block_sum(sum, counts);
    if (threadIdx.x == 0) call.sums[row] = sum;
    if (call.marks) list_outliers(call, counts);
}
