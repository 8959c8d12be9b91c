// Training in BF16: norms that leave what their gradient and the ops before them need, and sums over rows. Rows have a multiple of 8 columns
// and start at multiples of 16 bytes; a thread owns eight columns.
#include "eights.cuh"

#define SUM_WARPS 16

// LayerNorm or RMSNorm of a row of the residual stream. Beside y it writes x, rounded, and the row's mean and factor: the gradient reads those, and
// nobody need keep x.
KERNEL(norm_kept)(
    const float* x, const float* weight, const float* bias, u16* y, u16* kept, float* statistics, i64 columns, int centered, float epsilon)
{
    __shared__ float scratch[32];
    i64 i = 8 * threadIdx.x, at = (i64)blockIdx.x * columns + i;
    bool own = i < columns;
    Eight a = {}, w, b;
    if (own) a = load8(x + at);
    float sum = 0, squares = 0;
    EACH sum += a.v[e];
    float mean = centered ? block_sum(sum, scratch) / columns : 0;
    EACH squares += own ? (a.v[e] - mean) * (a.v[e] - mean) : 0;
    float factor = 1.0f / sqrtf(block_sum(squares, scratch) / columns + epsilon);
    if (threadIdx.x == 0)
    {
        statistics[2 * (i64)blockIdx.x] = mean;
        statistics[2 * (i64)blockIdx.x + 1] = factor;
    }

    if (!own) return;
    write8(kept + at, 8, a);
    if (weight) w = load8(weight + i);
    if (bias) b = load8(bias + i);
    EACH a.v[e] = (a.v[e] - mean) * factor * (weight ? w.v[e] : 1.0f) + (bias ? b.v[e] : 0.0f);
    write8(y + at, 8, a);
}

// Both sums over a block; scratch alternates from row to row, so that one barrier is enough.
__device__ inline void block_sums(float* a, float* b, float (*scratch)[32])
{
    *a = warp_sum(*a);
    *b = warp_sum(*b);
    if ((threadIdx.x & 31) == 0)
    {
        scratch[0][threadIdx.x >> 5] = *a;
        scratch[1][threadIdx.x >> 5] = *b;
    }

    __syncthreads();
    *a = *b = 0;
    for (int warp = 0; warp < (int)(blockDim.x >> 5); warp++)
    {
        *a += scratch[0][warp];
        *b += scratch[1][warp];
    }
}

// What a thread reads of a row.
struct NormRow
{
    Word4 kept, dy;
    Eight dx;

    __device__ inline void load(const u16* k, const u16* y, const float* x, int add)
    {
        kept = *(const Word4*)k;
        dy = *(const Word4*)y;
        EACH dx.v[e] = 0;
        if (add) dx = load8(x);
    }
};

// dx (+)= the gradient, see norm_gradient in rows.cu, over some rows; dx once more, rounded, if the op before wants it so. SUMS: of these rows
// Σ dy·n, Σ dy, and Σ dx, for the gradients of weight, bias, and the bias of the op before: partial [blocks, 3, columns].
template <bool SUMS>
__device__ inline void norm_kept_gradient_of(
    const u16* kept, const float* statistics, const float* weight, const u16* dy, float* dx, u16* rounded, float* partial, i64 columns, i64 rows, i64 rows_per_block,
    int centered, int add)
{
    __shared__ float scratch[2][2][32];
    i64 i = 8 * threadIdx.x, row = (i64)blockIdx.x * rows_per_block, end = min(rows, row + rows_per_block);
    bool own = i < columns;
    Eight w, d_weight = {}, d_bias = {}, d_before = {};
    EACH w.v[e] = own ? 1 : 0;
    if (own && weight) w = load8(weight + i);
    // A row is on its way while the one before is computed with.
    i64 next = row * columns + (own ? i : 0);
    NormRow ahead;
    ahead.load(kept + next, dy + next, dx + next, add);
    for (; row < end; row++)
    {
        i64 at = next;
        Eight n = widen8(ahead.kept), d = widen8(ahead.dy), old = ahead.dx;
        next += columns;
        if (row + 1 < end) ahead.load(kept + next, dy + next, dx + next, add);
        float mean = statistics[2 * row], factor = statistics[2 * row + 1], sum = 0, slope = 0;
        EACH
        {
            n.v[e] = (n.v[e] - mean) * factor;
            if (SUMS)
            {
                d_weight.v[e] += d.v[e] * n.v[e];
                d_bias.v[e] += d.v[e];
            }

            d.v[e] *= w.v[e];
            sum += d.v[e];
            slope += d.v[e] * n.v[e];
        }

        block_sums(&sum, &slope, scratch[row & 1]);
        sum = centered ? sum / columns : 0;
        slope /= columns;
        EACH
        {
            old.v[e] += (d.v[e] - sum - n.v[e] * slope) * factor;
            if (SUMS) d_before.v[e] += old.v[e];
        }

        if (own)
        {
            write8(dx + at, 8, old);
            if (rounded) write8(rounded + at, 8, old);
        }
    }

    if (SUMS && own)
    {
        float* sums = partial + 3 * (i64)blockIdx.x * columns + i;
        write8(sums, 8, d_weight);
        write8(sums + columns, 8, d_bias);
        write8(sums + 2 * columns, 8, d_before);
    }
}

KERNEL(norm_kept_gradient)(
    const u16* kept, const float* statistics, const float* weight, const u16* dy, float* dx, u16* rounded, float* partial, i64 columns, i64 rows, i64 rows_per_block,
    int centered, int add)
{ norm_kept_gradient_of<false>(kept, statistics, weight, dy, dx, rounded, partial, columns, rows, rows_per_block, centered, add); }
KERNEL(norm_kept_gradient_sums)(
    const u16* kept, const float* statistics, const float* weight, const u16* dy, float* dx, u16* rounded, float* partial, i64 columns, i64 rows, i64 rows_per_block,
    int centered, int add)
{ norm_kept_gradient_of<true>(kept, statistics, weight, dy, dx, rounded, partial, columns, rows, rows_per_block, centered, add); }

// Σ x over chunks of rows: partial [chunks, columns].
KERNEL(sum_row_eights)(const u16* x, float* partial, i64 columns, i64 rows, i64 rows_per_chunk)
{
    i64 column = 8 * ((i64)blockIdx.x * blockDim.x + threadIdx.x), row = (i64)blockIdx.y * rows_per_chunk, end = min(rows, row + rows_per_chunk);
    if (column >= columns) return;
    Eight sum = {};
    for (; row + 8 <= end; row += 8)
    {
        Eight part[8];
        EACH part[e] = load8(x + (row + e) * columns + column);
#pragma unroll
        for (int r = 0; r < 8; r++) { EACH sum.v[e] += part[r].v[e]; }
    }

    for (; row < end; row++)
    {
        Eight part = load8(x + row * columns + column);
        EACH sum.v[e] += part.v[e];
    }

    write8(partial + (i64)blockIdx.y * columns + column, 8, sum);
}

// y += Σ of rows that stand stride apart; for up to three y at once, whose rows stand columns apart; the last is written. A block owns 32
// columns of one, its warps take rows in turn and their sums are added in order.
KERNEL(sum_partial_rows)(const float* x, float* y0, float* y1, float* y2, i64 columns, i64 rows, i64 stride)
{
    __shared__ float sums[SUM_WARPS][32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    i64 column = (i64)blockIdx.x * 32 + lane;
    float* y = blockIdx.y == 0 ? y0 : blockIdx.y == 1 ? y1 : y2;
    if (!y) return;
    x += blockIdx.y * columns + column;
    float sum = 0;
    if (column < columns)
    {
#pragma unroll 8
        for (i64 row = warp; row < rows; row += SUM_WARPS) sum += x[row * stride];
    }

    sums[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || column >= columns) return;
    for (int w = 1; w < SUM_WARPS; w++) sum += sums[w][lane];
    y[column] = blockIdx.y == 2 ? sum : y[column] + sum;
}

// All elements of many tensors become 0: a block takes a part of one.
struct ClearEntry
{
    float* values;
    i64 count;
};

KERNEL(clear_many)(const ClearEntry* entries, const PartEntry* parts)
{
    PartEntry part = parts[blockIdx.x];
    ClearEntry t = entries[part.tensor];
    i64 end = min(t.count, part.begin + PART_ELEMENTS);
    for (i64 i = part.begin + threadIdx.x; i < end; i += blockDim.x) t.values[i] = 0;
}
