// Row by row: norms, softmax, rotary embedding, copies of rows and columns; a block owns a row where it must sum over it.
#include "common.cuh"

// LayerNorm (arXiv 1607.06450, eq. 4) or RMSNorm (arXiv 1910.07467, eq. 4); weight and bias may be null, y may be x.
KERNEL(norm)(const float* x, const float* weight, const float* bias, float* y, i64 columns, int centered, float epsilon)
{
    __shared__ float scratch[32];
    const float* row = x + (i64)blockIdx.x * columns;
    float mean, factor = row_statistics(row, columns, centered, epsilon, scratch, &mean);
    float* out = y + (i64)blockIdx.x * columns;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        float value = (row[i] - mean) * factor * (weight ? weight[i] : 1.0f);
        out[i] = value + (bias ? bias[i] : 0.0f);
    }
}

// dx += (g − mean(g) − n·mean(g·n))·factor with n the normalized row and g = dy·weight; the term mean(g) is LayerNorm's alone.
// Writes mean and factor of each row for norm_gradient_weight.
KERNEL(norm_gradient)(
    const float* x, const float* weight, const float* dy, float* dx, float* statistics, i64 columns, int centered, float epsilon)
{
    __shared__ float scratch[32];
    i64 first = (i64)blockIdx.x * columns;
    float mean, factor = row_statistics(x + first, columns, centered, epsilon, scratch, &mean);
    float sum = 0, slope = 0;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        float g = dy[first + i] * (weight ? weight[i] : 1.0f);
        sum += g;
        slope += g * (x[first + i] - mean) * factor;
    }

    sum = centered ? block_sum(sum, scratch) / columns : 0;
    slope = block_sum(slope, scratch) / columns;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        float g = dy[first + i] * (weight ? weight[i] : 1.0f), n = (x[first + i] - mean) * factor;
        dx[first + i] += (g - sum - n * slope) * factor;
    }

    if (threadIdx.x == 0)
    {
        statistics[2 * (i64)blockIdx.x] = mean;
        statistics[2 * (i64)blockIdx.x + 1] = factor;
    }
}

// Σ dy·n and Σ dy over a chunk of rows: a thread owns a column, blockIdx.y the chunk. Partial sums [chunks, 2, columns].
KERNEL(norm_gradient_weight)(
    const float* x, const float* dy, const float* statistics, float* partial, i64 columns, i64 rows, i64 rows_per_chunk)
{
    i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    i64 end = min(rows, ((i64)blockIdx.y + 1) * rows_per_chunk);
    float weight = 0, bias = 0;
    for (i64 row = (i64)blockIdx.y * rows_per_chunk; row < end; row++)
    {
        float d = dy[row * columns + column];
        weight += d * (x[row * columns + column] - statistics[2 * row]) * statistics[2 * row + 1];
        bias += d;
    }

    partial[(2 * (i64)blockIdx.y) * columns + column] = weight;
    partial[(2 * (i64)blockIdx.y + 1) * columns + column] = bias;
}

// y += Σ of rows that stand stride apart. A block of 256 owns 32 columns: a warp takes every eighth row, the eight sums are added in order.
KERNEL(sum_rows)(const float* x, float* y, i64 columns, i64 rows, i64 stride)
{
    __shared__ float sums[8][32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    i64 column = (i64)blockIdx.x * 32 + lane;
    float sum = 0;
    for (i64 row = warp; column < columns && row < rows; row += 8) sum += x[row * stride + column];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || column >= columns) return;
    for (int w = 1; w < 8; w++) sum += sums[w][lane];
    y[column] += sum;
}

// x = x·factor + shift by columns; shift may be null.
KERNEL(scale_columns)(float* x, const float* factor, const float* shift, i64 columns, i64 count)
{
    GRID_STRIDE(i, count) x[i] = x[i] * factor[i % columns] + (shift ? shift[i % columns] : 0);
}

// Σ x (∘ y) over chunks of rows, for sums of many: partial[chunk, column]; y may be null.
KERNEL(sum_row_chunks)(const float* x, const float* y, float* partial, i64 columns, i64 rows, i64 rows_per_chunk)
{
    i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    i64 end = min(rows, ((i64)blockIdx.y + 1) * rows_per_chunk);
    float sum = 0;
    for (i64 row = (i64)blockIdx.y * rows_per_chunk; row < end; row++) sum += x[row * columns + column] * (y ? y[row * columns + column] : 1);
    partial[(i64)blockIdx.y * columns + column] = sum;
}

KERNEL(softmax)(float* x, i64 columns)
{
    __shared__ float scratch[32];
    float* row = x + (i64)blockIdx.x * columns;
    float largest = -infinity();
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x) largest = fmaxf(largest, row[i]);
    largest = block_max(largest, scratch);
    float sum = 0;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        float e = expf(row[i] - largest);
        row[i] = e;
        sum += e;
    }

    sum = block_sum(sum, scratch);
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x) row[i] = row[i] / sum;
}

// Element j turns with j + half (arXiv 2104.09864); sign −1 turns back.
KERNEL(rope)(float* x, const int* positions, const float* cosines, const float* sines, i64 rows, int heads, int half, float sign)
{
    GRID_STRIDE(i, rows * heads * half)
    {
        i64 head = i / half, row = head / heads;
        int j = (int)(i % half);
        i64 angle = (i64)positions[row] * half + j;
        float c = cosines[angle], s = sign * sines[angle];
        float* a = x + head * 2 * half + j;
        float first = a[0], second = a[half];
        a[0] = first * c - second * s;
        a[half] = second * c + first * s;
    }
}

// cache[batch, head, start + token, d] = x[batch·length + token, head, d]; `slot`, if there is one, holds the start on the card.
KERNEL(append_to_cache)(const float* x, float* cache, i64 count, int length, int heads, int capacity, int dim, int first, const int* slot)
{
    int start = slot ? *slot : first;
    GRID_STRIDE(i, count)
    {
        i64 row = i / ((i64)heads * dim);
        int head = (int)(i / dim % heads), d = (int)(i % dim);
        cache[((row / length * heads + head) * capacity + start + row % length) * dim + d] = x[i];
    }
}

// dx += the gradient of those slots.
KERNEL(append_to_cache_gradient)(const float* d_cache, float* dx, i64 count, int length, int heads, int capacity, int dim, int first, const int* slot)
{
    int start = slot ? *slot : first;
    GRID_STRIDE(i, count)
    {
        i64 row = i / ((i64)heads * dim);
        int head = (int)(i / dim % heads), d = (int)(i % dim);
        dx[i] += d_cache[((row / length * heads + head) * capacity + start + row % length) * dim + d];
    }
}

KERNEL(copy_columns)(const float* x, float* y, i64 count, i64 first, i64 columns, i64 stride)
{
    GRID_STRIDE(i, count) y[i] = x[(i / columns) * stride + first + i % columns];
}

KERNEL(copy_columns_gradient)(const float* dy, float* dx, i64 count, i64 first, i64 columns, i64 stride)
{
    GRID_STRIDE(i, count) dx[(i / columns) * stride + first + i % columns] += dy[i];
}

// Row ids[r] of d_table += row r of dy, negative ids left out. The block of the first row of an id adds all rows of it, in their order;
// the others leave.
KERNEL(gather_gradient)(const float* dy, const int* ids, float* d_table, i64 rows, i64 columns)
{
    __shared__ int earlier;
    __shared__ u32 found[8];
    int id = ids[blockIdx.x], lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    if (threadIdx.x == 0) earlier = 0;
    __syncthreads();
    for (i64 row = threadIdx.x; row < blockIdx.x; row += blockDim.x)
    {
        if (ids[row] == id) earlier = 1;
    }

    __syncthreads();
    if (earlier || id < 0) return;
    for (i64 base = blockIdx.x; base < rows; base += blockDim.x)
    {
        u32 same = __ballot_sync(FULL_WARP, base + threadIdx.x < rows && ids[base + threadIdx.x] == id);
        __syncthreads();
        if (lane == 0) found[warp] = same;
        __syncthreads();
        for (int w = 0; w < warps; w++)
        {
            for (u32 left = found[w]; left; left &= left - 1)
            {
                i64 row = base + 32 * w + __ffs((int)left) - 1;
                for (i64 column = threadIdx.x; column < columns; column += blockDim.x) d_table[id * columns + column] += dy[row * columns + column];
            }
        }
    }
}
