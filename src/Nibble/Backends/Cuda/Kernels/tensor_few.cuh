// Products of up to 8 rows, up to three weights in one launch, with a norm before them and a gate behind.
#pragma once
#include "tensor_units.cuh"

#define FEW_AHEAD 3
#define FEW_WEIGHTS 3
enum { NORM_NONE = 0, NORM_RMS = 1, NORM_LAYER = 2 };

// A product of few rows; FewCall in C# has the same layout. Up to three weights of one format and width read the same x.
struct FewCall
{
    Packed weights[FEW_WEIGHTS];
    const float* biases[FEW_WEIGHTS];
    float* results[FEW_WEIGHTS];
    i64 strides[FEW_WEIGHTS];        // from one row of a result to the next
    int tiles[FEW_WEIGHTS];          // of 16 features
    int rows;
    const float* x;
    const float* norm_weight;        // x is normalized first
    const float* norm_bias;
    i64 first, count;                // features of the only weight
    int norm;
    float epsilon;
    int add;
    int gated;                       // results[0] = silu(x·W0ᵀ)·(x·W1ᵀ)
};

struct FewPlace { int weight, tile; bool inside; };

// What a block does in its turns: every gridDim.x-th tile of all weights, or that of both gated weights, one after the other.
__device__ inline FewPlace few_place(const FewCall& call, int turn)
{
    FewPlace place;
    if (call.gated)
    {
        place.weight = turn & 1;
        place.tile = blockIdx.x + (turn >> 1) * gridDim.x;
        place.inside = place.tile < call.tiles[0];
        return place;
    }

    place.weight = 0;
    place.tile = blockIdx.x + turn * gridDim.x;
    while (place.weight < FEW_WEIGHTS - 1 && place.tile >= call.tiles[place.weight]) place.tile -= call.tiles[place.weight++];
    place.inside = place.tile < call.tiles[place.weight];
    place.tile += (int)(call.first / UNIT_ROWS);
    return place;
}

// Mean and 1/√(variance + ε) of a row, for all threads of the block.
__device__ inline void few_statistics(const FewCall& call, const float* row, i64 columns, float* scratch, float* mean, float* factor)
{
    auto sum_of = [&](float center, bool squares)
    {
        float sum = 0;
        if (((u64)row & 15) == 0 && (columns & 3) == 0)
        {
#pragma unroll 4
            for (int i = 4 * threadIdx.x; i < (int)columns; i += 4 * TENSOR_THREADS)
            {
                float4 v = *(const float4*)(row + i);
                float a = v.x - center, b = v.y - center, c = v.z - center, d = v.w - center;
                sum += squares ? (a * a + b * b) + (c * c + d * d) : (a + b) + (c + d);
            }
        }
        else
        {
            for (int i = threadIdx.x; i < (int)columns; i += TENSOR_THREADS) sum += squares ? (row[i] - center) * (row[i] - center) : row[i];
        }

        return block_sum(sum, scratch) / columns;
    };
    *mean = call.norm == NORM_LAYER ? sum_of(0, false) : 0;
    *factor = 1.0f / sqrtf(sum_of(*mean, true) + call.epsilon);
}

// y[r, feature] (+)= Σ x[r, k]·W[feature, k] + bias for up to 8 rows. A block takes 16 features at a time and splits the columns over
// its warps; the warps' sums are added in order. x stands in shared memory as BF16. While a warp works on a unit, DEPTH − 1 others are
// on their way, those of the next 16 features included; the first ones before the kernel before this one has ended.
template <class T, int DEPTH>
__device__ inline void few_rows(const FewCall& call)
{
    __shared__ float results[2][TENSOR_WARPS][32][4];
    __shared__ float scratch[TENSOR_WARPS];
    NIBBLE_SHARED(u8, shared);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, rows = call.rows;
    i64 columns = call.weights[0].columns;
    int units = (int)((columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS);
    // 64 bytes more than whole lines: eight lanes of 16 bytes then meet in no bank.
    int row_bytes = units * UNIT_COLUMNS * 2 + 64;
    u8* table = shared;
    u8* inputs = shared + T::TABLE_BYTES;
    float* input_sums = (float*)(inputs + rows * row_bytes);
    int steps = (((units + TENSOR_WARPS - 1) / TENSOR_WARPS) + DEPTH - 1) / DEPTH * DEPTH;

    T ahead[DEPTH];
    FewPlace next = few_place(call, 0);
    typename T::Cursor cursor;
    if (next.inside) cursor.open(call.weights[next.weight], next.tile, lane);
    int next_turn = 0, next_unit = warp;
    auto load = [&](T& slot)
    {
        if (next.inside && next_unit < units) slot.load(call.weights[next.weight], cursor, next_unit, lane);
        next_unit += TENSOR_WARPS;
        if (next_unit >= steps * TENSOR_WARPS)
        {
            next_unit = warp;
            next = few_place(call, ++next_turn);
            if (next.inside) cursor.open(call.weights[next.weight], next.tile, lane);
        }
    };
    allow_next();
#pragma unroll
    for (int d = 0; d < DEPTH; d++) load(ahead[d]);

    T::fill_table(call.weights[0], table);
    await_previous();
    int pieces = units * (UNIT_COLUMNS / 8);
    float mean = 0, factor = 1;
    for (int row = 0; row < rows; row++)
    {
        const float* x = call.x + row * columns;
        if (call.norm != NORM_NONE) few_statistics(call, x, columns, scratch, &mean, &factor);
        for (int start = 0; start < pieces; start += FEW_AHEAD * TENSOR_THREADS)
        {
            int base = start + threadIdx.x;
            // Reads first, so that they wait together.
            EightColumns read[FEW_AHEAD];
#pragma unroll
            for (int k = 0; k < FEW_AHEAD; k++) read[k].load(x, (i64)min(base + k * TENSOR_THREADS, pieces - 1) * 8, columns);

#pragma unroll
            for (int k = 0; k < FEW_AHEAD; k++)
            {
                int piece = base + k * TENSOR_THREADS;
                if (call.norm != NORM_NONE) read[k].normalize(call, (i64)min(piece, pieces - 1) * 8, columns, mean, factor);
                float sum;
                Quad rounded = read[k].round(&sum);
                if (T::OFFSETS)
                {
                    // Pieces come in multiples of 16: four lanes of the same 32 columns go together.
                    sum += __shfl_xor_sync(FULL_WARP, sum, 1);
                    sum += __shfl_xor_sync(FULL_WARP, sum, 2);
                }

                if (piece >= pieces) continue;
                *(Quad*)(inputs + row * row_bytes + piece * 16) = rounded;
                if (T::OFFSETS && (piece & 3) == 0) input_sums[(piece >> 2) * 8 + row] = sum;
            }
        }
    }

    __syncthreads();
    PairTable pairs(table);
    // What stands in the columns of an absent row of x reaches no result.
    const u8* own_input = inputs + min(g, rows - 1) * row_bytes + 16 * t;
    float held = 0;
    FewPlace own = few_place(call, 0);
    for (int turn = 0; own.inside; own = few_place(call, ++turn))
    {
        const Packed& p = call.weights[own.weight];
        float sums[1][4] = {{0, 0, 0, 0}};
        for (int step = 0; step < steps; step += DEPTH)
        {
#pragma unroll
            for (int d = 0; d < DEPTH; d++)
            {
                int unit = (step + d) * TENSOR_WARPS + warp;
                if (unit < units)
                {
                    ahead[d].arrive(p);
                    add_unit<T, 1>(
                        ahead[d], pairs, lane, sums,
                        [&](int, int i) { return *(const Quad*)(own_input + unit * (UNIT_COLUMNS * 2) + 64 * i); },
                        [&](int, int i, int c) { return input_sums[(unit * 4 + i) * 8 + 2 * t + c]; });
                }

                load(ahead[d]);
            }
        }

        int half = turn & 1;
#pragma unroll
        for (int c = 0; c < 4; c++) results[half][warp][lane][c] = sums[0][c];
        __syncthreads();
        int place = threadIdx.x >> 2, c = threadIdx.x & 3, n = 2 * (place & 3) + (c & 1);
        i64 feature = (i64)own.tile * UNIT_ROWS + (place >> 2) + 8 * (c >> 1);
        i64 begin = call.first, end = call.count > 0 ? begin + call.count : p.rows;
        if (threadIdx.x < 128 && n < rows && feature >= begin && feature < end)
        {
            const float* bias = call.biases[own.weight];
            float sum = 0;
#pragma unroll
            for (int w = 0; w < TENSOR_WARPS; w++) sum += results[half][w][place][c];
            sum += bias ? bias[feature] : 0;
            if (call.gated && own.weight == 0)
            {
                held = sum;
                continue;
            }

            float* out = call.results[call.gated ? 0 : own.weight] + n * call.strides[own.weight] + feature - begin;
            if (call.gated) sum *= held / (1.0f + expf(-held));
            *out = (call.add ? *out : 0) + sum;
        }
    }
}
