// Products of up to 8 rows with 8-bit weights, one scale a row, and x on the grid of 8-bit integers, in one launch: norm, rounding of rows, outlier
// columns, product and what follows it (the frame of few_rows in tensor_few.cuh; y is int8tensor.cu's). Every block rounds all rows by itself: they are
// few, and a launch of its own would take as long as the product.
#include "int8.cuh"

#define FEW_INT8_ROWS 8
#define FEW_INT8_SLOTS 16
#define FEW_INT8_DEPTH 4

// FewInt8Call in C# has the same layout.
struct FewInt8Call
{
    FewCall few;
    u64* counters[FEW_WEIGHTS];  // outlier columns so far, and all columns; or null
    float threshold;             // magnitude from which x is an outlier; none is if it is 0
    int unused;
};

// A block's rows of x; all in shared memory.
struct RoundedRows
{
    float mean[FEW_INT8_ROWS], factor[FEW_INT8_ROWS], absmax[FEW_INT8_ROWS], sums[FEW_INT8_ROWS];
    int outliers;
};

// Eight columns of a row as the product sees them.
__device__ inline EightColumns few_columns(const FewCall& call, const RoundedRows& rows, int row, i64 column, i64 columns)
{
    EightColumns eight;
    eight.load(call.x + row * columns, column, columns);
    if (call.norm != NORM_NONE) eight.normalize(call, column, columns, rows.mean[row], rows.factor[row]);
    return eight;
}

// Rounds the rows to `codes` [row, row_bytes]; zeros in outlier columns, which `list` has in order. `marks` has a bit for each column.
__device__ inline void few_round(const FewInt8Call& call, RoundedRows& rounded, u8* codes, int row_bytes, u32* marks, u16* list, float* scratch, int* counts)
{
    const FewCall& few = call.few;
    i64 columns = few.weights[0].columns;
    int units = (int)((columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS), pieces = units * (UNIT_COLUMNS / 8), words = units * (UNIT_COLUMNS / 32);
    for (int word = threadIdx.x; word < words; word += TENSOR_THREADS) marks[word] = 0;
    __syncthreads();
    for (int row = 0; row < few.rows; row++)
    {
        if (few.norm != NORM_NONE)
        {
            float mean, factor;
            few_statistics(few, few.x + row * columns, columns, scratch, &mean, &factor);
            if (threadIdx.x == 0) rounded.mean[row] = mean, rounded.factor[row] = factor;
            __syncthreads();
        }

        // NaN and infinity spoil the row: everything computed from it becomes NaN.
        float largest = 0;
#pragma unroll 2
        for (int piece = threadIdx.x; piece < pieces; piece += TENSOR_THREADS)
        {
            EightColumns eight = few_columns(few, rounded, row, 8 * (i64)piece, columns);
            u32 marked = 0;
#pragma unroll
            for (int e = 0; e < 8; e++)
            {
                float magnitude = fabsf(eight.v[e]);
                if (call.threshold > 0 && magnitude >= call.threshold) marked |= 1u << e;
                else largest = magnitude < infinity() ? fmaxf(largest, magnitude) : infinity();
            }

            if (marked) atomicOr(marks + (piece >> 2), marked << (8 * (piece & 3)));
        }

        largest = block_max(largest, scratch);
        if (threadIdx.x == 0) rounded.absmax[row] = largest < infinity() ? largest : __uint_as_float(0x7fc00000u);
    }

    __syncthreads();
    for (int row = 0; row < few.rows; row++)
    {
        // Below it 127/absmax overflows; such a row is zero next to anything.
        bool usable = rounded.absmax[row] >= 1e-35f;
        float inverse = usable ? __fdiv_rn(127.0f, rounded.absmax[row]) : 0;
        int sum = 0;
#pragma unroll 2
        for (int piece = threadIdx.x; piece < pieces; piece += TENSOR_THREADS)
        {
            EightColumns eight = few_columns(few, rounded, row, 8 * (i64)piece, columns);
            u32 marked = marks[piece >> 2] >> (8 * (piece & 3));
            Couple both = {{0, 0}};
#pragma unroll
            for (int e = 0; e < 8; e++)
            {
                int code = usable && !(marked >> e & 1) ? (int)rintf(__fmul_rn(eight.v[e], inverse)) : 0;
                sum += code;
                both.w[e >> 2] |= (u32)(code & 255) << (8 * (e & 3));
            }

            *(Couple*)(codes + row * row_bytes + 8 * piece) = both;
        }

        sum = block_sum(sum, counts);
        if (threadIdx.x == 0) rounded.sums[row] = (float)sum;
    }

    // A warp of 32 words at a time puts the marked columns in order.
    if (threadIdx.x < 32)
    {
        int before = 0;
        for (int start = 0; start < words; start += 32)
        {
            int word = start + threadIdx.x, own = 0, all;
            u32 bits = word < words ? marks[word] : 0;
            if (warp_sum((int)(bits != 0)) == 0) continue;
            for (int lane = 0; lane < 32; lane++)
            {
                int count = __shfl_sync(FULL_WARP, __popc(bits), lane);
                if (lane < (int)threadIdx.x) own += count;
            }

            all = warp_sum(__popc(bits));
            for (int place = before + own; bits; bits &= bits - 1) list[place++] = (u16)(32 * word + __popc((bits & (0u - bits)) - 1));
            before += all;
        }

        if (threadIdx.x == 0) rounded.outliers = before;
    }

    __syncthreads();
    if (blockIdx.x > 0 || threadIdx.x >= FEW_WEIGHTS || !call.counters[threadIdx.x]) return;
    atomicAdd(call.counters[threadIdx.x], (u64)rounded.outliers);
    atomicAdd(call.counters[threadIdx.x] + 1, (u64)columns);
}

// The product of outlier columns, 16 features by the rows of x: a thread takes a feature and every FEW_INT8_SLOTS-th column.
struct OutlierParts
{
    float part[FEW_INT8_ROWS];

    __device__ void add(const FewCall& call, const RoundedRows& rounded, const u16* list, const Packed& p, i64 feature, int slot)
    {
#pragma unroll
        for (int row = 0; row < FEW_INT8_ROWS; row++) part[row] = 0;
        feature = min(feature, p.rows - 1);
        for (int j = slot; j < rounded.outliers; j += FEW_INT8_SLOTS)
        {
            int column = list[j];
            float level = level_at(p, feature, column, zero_of(p, feature));
#pragma unroll
            for (int row = 0; row < FEW_INT8_ROWS; row++)
            {
                if (row >= call.rows) continue;
                float x = call.x[row * p.columns + column];
                if (call.norm != NORM_NONE)
                {
                    x = (x - rounded.mean[row]) * rounded.factor[row] * (call.norm_weight ? call.norm_weight[column] : 1.0f);
                    if (call.norm_bias) x += call.norm_bias[column];
                }

                part[row] = fmaf(x, level, part[row]);
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 2) nibble_few_int8(FewInt8Call call)
{
    __shared__ int results[2][TENSOR_WARPS][32][4];
    __shared__ float scratch[TENSOR_WARPS];
    __shared__ int counts[TENSOR_WARPS];
    __shared__ RoundedRows rounded;
    typedef float OutlierSums[FEW_INT8_SLOTS][FEW_INT8_ROWS][UNIT_ROWS];
    NIBBLE_SHARED(OutlierSums, kept);
    u8* codes = (u8*)(kept + 2);
    const FewCall& few = call.few;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, rows = few.rows;
    int units = (int)((few.weights[0].columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS);
    // 32 bytes more than whole lines: 16 lanes of 8 bytes then meet in no bank.
    int row_bytes = units * UNIT_COLUMNS + 32;
    u32* marks = (u32*)(codes + rows * row_bytes);
    u16* list = (u16*)(marks + units * (UNIT_COLUMNS / 32));
    int steps = (((units + TENSOR_WARPS - 1) / TENSOR_WARPS) + FEW_INT8_DEPTH - 1) / FEW_INT8_DEPTH * FEW_INT8_DEPTH;

    LaneCodes<8> ahead[FEW_INT8_DEPTH];
    FewPlace next = few_place(few, 0);
    int next_turn = 0, next_unit = warp;
    auto load = [&](LaneCodes<8>& slot)
    {
        const Packed& p = few.weights[next.weight];
        if (next.inside && next_unit < units) slot.load((const u32*)p.codes + next.tile * p.tile_words + next_unit * UnitOf<8>::WORDS, lane);
        next_unit += TENSOR_WARPS;
        if (next_unit >= steps * TENSOR_WARPS)
        {
            next_unit = warp;
            next = few_place(few, ++next_turn);
        }
    };
    allow_next();
#pragma unroll
    for (int d = 0; d < FEW_INT8_DEPTH; d++) load(ahead[d]);

    await_previous();
    few_round(call, rounded, codes, row_bytes, marks, list, scratch, counts);
    // What stands in the columns of an absent row of x reaches no result.
    const u8* own_input = codes + min(g, rows - 1) * row_bytes + 8 * t;
    float held = 0;
    FewPlace own = few_place(few, 0);
    for (int turn = 0; own.inside; own = few_place(few, ++turn))
    {
        const Packed& p = few.weights[own.weight];
        int half = turn & 1, slots = min(FEW_INT8_SLOTS, rounded.outliers), slot = threadIdx.x >> 4;
        OutlierParts parts;
        if (slot < slots) parts.add(few, rounded, list, p, (i64)own.tile * UNIT_ROWS + (threadIdx.x & 15), slot);
        int sums[4] = {0, 0, 0, 0};
        for (int step = 0; step < steps; step += FEW_INT8_DEPTH)
        {
#pragma unroll
            for (int d = 0; d < FEW_INT8_DEPTH; d++)
            {
                int unit = (step + d) * TENSOR_WARPS + warp;
                if (unit < units)
                {
#pragma unroll
                    for (int i = 0; i < 4; i++)
                    {
                        u32 a[4];
#pragma unroll
                        for (int j = 0; j < 4; j++) a[j] = ahead[d].word(j & 1, i, j >> 1) ^ 0x80808080u;
                        Couple b = *(const Couple*)(own_input + unit * UNIT_COLUMNS + 32 * i);
                        multiply_add_int8(sums, a, b.w[0], b.w[1]);
                    }
                }

                load(ahead[d]);
            }
        }

#pragma unroll
        for (int c = 0; c < 4; c++) results[half][warp][lane][c] = sums[c];
        if (slot < slots)
        {
#pragma unroll
            for (int row = 0; row < FEW_INT8_ROWS; row++) kept[half][slot][row][threadIdx.x & 15] = parts.part[row];
        }

        __syncthreads();
        int place = threadIdx.x >> 2, c = threadIdx.x & 3, n = 2 * (place & 3) + (c & 1), within = (place >> 2) + 8 * (c >> 1);
        i64 feature = (i64)own.tile * UNIT_ROWS + within;
        i64 begin = few.first, end = few.count > 0 ? begin + few.count : p.rows;
        if (threadIdx.x < 128 && n < rows && feature >= begin && feature < end)
        {
            int sum = 0;
            float of_outliers = 0;
#pragma unroll
            for (int w = 0; w < TENSOR_WARPS; w++) sum += results[half][w][place][c];
            for (int s = 0; s < slots; s++) of_outliers += kept[half][s][n][within];
            float zero = zero_of(p, feature), scale = read_number(p.scales, p.scale_type, feature);
            const float* bias = few.biases[own.weight];
            float value = ((float)sum + (128.0f - zero) * rounded.sums[n]) * __fdiv_rn(rounded.absmax[n], 127.0f) * scale + of_outliers * scale + (bias ? bias[feature] : 0);
            if (few.gated && own.weight == 0)
            {
                held = value;
                continue;
            }

            float* out = few.results[few.gated ? 0 : own.weight] + n * few.strides[own.weight] + feature - begin;
            if (few.gated) value *= held / (1.0f + expf(-held));
            *out = (few.add ? *out : 0) + value;
        }
    }
}
