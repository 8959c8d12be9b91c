// The kernels of training with activations in BF16: the same definitions as in elementwise.cu, rows.cu and loss.cu, computed in F32, eight
// elements a thread. A name's end says what its tensors hold, in the order of its arguments: b is BF16, f F32.
#include "eights.cuh"

__device__ inline float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }

// Copies with another number type, and sums: TYPES instantiates each for pairs.
template <class X, class Y>
__device__ inline void copy_as(const X* x, Y* y, i64 count)
{
    EIGHTS(i, count) write8(y + i, count - i, read8(x + i, count - i));
}

template <class X, class Y>
__device__ inline void add_as(const X* x, Y* y, i64 count)
{
    EIGHTS(i, count)
    {
        Eight a = read8(x + i, count - i), b = read8(y + i, count - i);
        EACH b.v[e] += a.v[e];
        write8(y + i, count - i, b);
    }
}

struct CopyEntry
{
    const float* source;
    u16* target;
    i64 count;
};

// A block takes a part of one matrix.
KERNEL(copy_many_fb)(const CopyEntry* entries, const PartEntry* parts)
{
    PartEntry part = parts[blockIdx.x];
    CopyEntry t = entries[part.tensor];
    i64 end = min(t.count, part.begin + PART_ELEMENTS);
    for (i64 i = part.begin + 8 * threadIdx.x; i < end; i += 8 * blockDim.x) write8(t.target + i, end - i, read8(t.source + i, end - i));
}

KERNEL(copy_fb)(const float* x, u16* y, i64 count) { copy_as(x, y, count); }
KERNEL(copy_bf)(const u16* x, float* y, i64 count) { copy_as(x, y, count); }
KERNEL(add_fb)(const float* x, u16* y, i64 count) { add_as(x, y, count); }
KERNEL(add_bf)(const u16* x, float* y, i64 count) { add_as(x, y, count); }
KERNEL(add_bb)(const u16* x, u16* y, i64 count) { add_as(x, y, count); }

KERNEL(scale_b)(u16* x, float factor, i64 count)
{
    EIGHTS(i, count)
    {
        Eight a = read8(x + i, count - i);
        EACH a.v[e] *= factor;
        write8(x + i, count - i, a);
    }
}

// See dropout: element i is dropped or not by (key, i) alone.
KERNEL(dropout_b)(u16* x, u64 key, u64 threshold, float factor, i64 count)
{
    GRID_STRIDE(i, count)
    {
        u64 z = key + ((u64)i + 1) * 0x9E3779B97F4A7C15ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        z ^= z >> 31;
        x[i] = (z >> 32) < threshold ? 0 : to_bf16(from_bf16(x[i]) * factor);
    }
}

#define UNARY(name, expression) \
    KERNEL(name)(const u16* x, u16* y, i64 count) \
    { \
        EIGHTS(i, count) \
        { \
            Eight a = read8(x + i, count - i); \
            EACH { float v = a.v[e]; a.v[e] = expression; } \
            write8(y + i, count - i, a); \
        } \
    }

UNARY(gelu_exact_b, 0.5f * v * erfcf(-0.70710678f * v))
UNARY(gelu_tanh_b, v * sigmoid_of(1.5957691216f * (v + 0.044715f * v * v * v)))

__device__ inline float gelu_exact_slope(float v) { return 0.5f * erfcf(-0.70710678f * v) + v * 0.39894228f * expf(-0.5f * v * v); }
__device__ inline float gelu_tanh_slope(float v)
{
    float s = sigmoid_of(1.5957691216f * (v + 0.044715f * v * v * v));
    return s + v * s * (1 - s) * 1.5957691216f * (1 + 3 * 0.044715f * v * v);
}

#define UNARY_GRADIENT(name, slope) \
    KERNEL(name)(const u16* x, u16* d, i64 count) \
    { \
        EIGHTS(i, count) \
        { \
            Eight a = read8(x + i, count - i), b = read8(d + i, count - i); \
            EACH b.v[e] *= slope(a.v[e]); \
            write8(d + i, count - i, b); \
        } \
    }

UNARY_GRADIENT(gelu_exact_gradient_b, gelu_exact_slope)
UNARY_GRADIENT(gelu_tanh_gradient_b, gelu_tanh_slope)

#define GATE(name, expression) \
    KERNEL(name)(const u16* gate, const u16* up, u16* y, i64 count) \
    { \
        EIGHTS(i, count) \
        { \
            Eight a = read8(gate + i, count - i), b = read8(up + i, count - i); \
            EACH { float g = a.v[e], u = b.v[e]; a.v[e] = expression; } \
            write8(y + i, count - i, a); \
        } \
    }

GATE(swiglu_b, g * sigmoid_of(g) * u)
GATE(squared_relu_gate_b, g < 0 ? 0 : g * g * u)

#define GATE_GRADIENT(name, of_gate, of_up) \
    KERNEL(name)(const u16* gate, const u16* up, const u16* dy, u16* d_gate, u16* d_up, i64 count) \
    { \
        EIGHTS(i, count) \
        { \
            Eight a = read8(gate + i, count - i), b = read8(up + i, count - i), c = read8(dy + i, count - i); \
            EACH \
            { \
                float g = a.v[e], u = b.v[e], d = c.v[e], s = sigmoid_of(g); \
                a.v[e] = of_gate; \
                b.v[e] = of_up; \
            } \
            write8(d_gate + i, count - i, a); \
            write8(d_up + i, count - i, b); \
        } \
    }

GATE_GRADIENT(swiglu_gradient_b, d * u * s * (1 + g * (1 - s)), d * g * s)
GATE_GRADIENT(squared_relu_gate_gradient_b, g < 0 ? 0 : d * u * 2 * g, g < 0 ? 0 : d * g * g)

// The mean of a row, and 1/√(mean of squared distances + ε); the row comes from the first-level cache the second time.
template <class X>
__device__ inline float statistics_of(const X* row, i64 columns, int centered, float epsilon, float* scratch, float* mean)
{
    float sum = 0, squares = 0;
    for (i64 i = 8 * threadIdx.x; centered && i < columns; i += 8 * blockDim.x)
    {
        Eight a = read8(row + i, columns - i);
        EACH sum += a.v[e];
    }

    sum = centered ? block_sum(sum, scratch) / columns : 0;
    for (i64 i = 8 * threadIdx.x; i < columns; i += 8 * blockDim.x)
    {
        Eight a = read8(row + i, columns - i);
        EACH squares += i + e < columns ? (a.v[e] - sum) * (a.v[e] - sum) : 0;
    }

    *mean = sum;
    return 1.0f / sqrtf(block_sum(squares, scratch) / columns + epsilon);
}

template <class X>
__device__ inline void norm_as(const X* x, const float* weight, const float* bias, u16* y, i64 columns, int centered, float epsilon)
{
    __shared__ float scratch[32];
    i64 first = (i64)blockIdx.x * columns;
    float mean, factor = statistics_of(x + first, columns, centered, epsilon, scratch, &mean);
    for (i64 i = 8 * threadIdx.x; i < columns; i += 8 * blockDim.x)
    {
        i64 left = columns - i;
        Eight a = read8(x + first + i, left), w, b;
        if (weight) w = read8(weight + i, left);
        if (bias) b = read8(bias + i, left);
        EACH a.v[e] = (a.v[e] - mean) * factor * (weight ? w.v[e] : 1.0f) + (bias ? b.v[e] : 0.0f);
        write8(y + first + i, left, a);
    }
}

KERNEL(norm_fb)(const float* x, const float* weight, const float* bias, u16* y, i64 columns, int centered, float epsilon)
{ norm_as(x, weight, bias, y, columns, centered, epsilon); }
KERNEL(norm_bb)(const u16* x, const float* weight, const float* bias, u16* y, i64 columns, int centered, float epsilon)
{ norm_as(x, weight, bias, y, columns, centered, epsilon); }

// dx += the gradient, see norm_gradient in rows.cu; x and dx hold the same numbers.
template <class X>
__device__ inline void norm_gradient_as(
    const X* x, const float* weight, const u16* dy, X* dx, float* statistics, i64 columns, int centered, float epsilon)
{
    __shared__ float scratch[32];
    i64 first = (i64)blockIdx.x * columns;
    float mean, factor = statistics_of(x + first, columns, centered, epsilon, scratch, &mean), sum = 0, slope = 0;
    for (i64 i = 8 * threadIdx.x; i < columns; i += 8 * blockDim.x)
    {
        i64 left = columns - i;
        Eight a = read8(x + first + i, left), d = read8(dy + first + i, left), w;
        if (weight) w = read8(weight + i, left);
        EACH
        {
            float g = d.v[e] * (weight ? w.v[e] : 1.0f);
            sum += g;
            slope += g * (a.v[e] - mean) * factor;
        }
    }

    sum = centered ? block_sum(sum, scratch) / columns : 0;
    slope = block_sum(slope, scratch) / columns;
    for (i64 i = 8 * threadIdx.x; i < columns; i += 8 * blockDim.x)
    {
        i64 left = columns - i;
        Eight a = read8(x + first + i, left), d = read8(dy + first + i, left), old = read8(dx + first + i, left), w;
        if (weight) w = read8(weight + i, left);
        EACH old.v[e] += (d.v[e] * (weight ? w.v[e] : 1.0f) - sum - (a.v[e] - mean) * factor * slope) * factor;
        write8(dx + first + i, left, old);
    }

    if (threadIdx.x == 0)
    {
        statistics[2 * (i64)blockIdx.x] = mean;
        statistics[2 * (i64)blockIdx.x + 1] = factor;
    }
}

KERNEL(norm_gradient_fb)(
    const float* x, const float* weight, const u16* dy, float* dx, float* statistics, i64 columns, int centered, float epsilon)
{ norm_gradient_as(x, weight, dy, dx, statistics, columns, centered, epsilon); }
KERNEL(norm_gradient_bb)(
    const u16* x, const float* weight, const u16* dy, u16* dx, float* statistics, i64 columns, int centered, float epsilon)
{ norm_gradient_as(x, weight, dy, dx, statistics, columns, centered, epsilon); }

// Sums over chunks of rows; a thread owns a column. Partial sums [chunks, 2, columns] and [chunks, columns].
template <class X>
__device__ inline void norm_gradient_weight_as(
    const X* x, const u16* dy, const float* statistics, float* partial, i64 columns, i64 rows, i64 rows_per_chunk)
{
    i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    i64 end = min(rows, ((i64)blockIdx.y + 1) * rows_per_chunk);
    float weight = 0, bias = 0;
    for (i64 row = (i64)blockIdx.y * rows_per_chunk; row < end; row++)
    {
        float d = from_bf16(dy[row * columns + column]);
        Eight a;
        a.v[0] = read_number(x, sizeof(X) == 2 ? NUMBER_BF16 : NUMBER_F32, row * columns + column);
        weight += d * (a.v[0] - statistics[2 * row]) * statistics[2 * row + 1];
        bias += d;
    }

    partial[(2 * (i64)blockIdx.y) * columns + column] = weight;
    partial[(2 * (i64)blockIdx.y + 1) * columns + column] = bias;
}

KERNEL(norm_gradient_weight_fb)(
    const float* x, const u16* dy, const float* statistics, float* partial, i64 columns, i64 rows, i64 rows_per_chunk)
{ norm_gradient_weight_as(x, dy, statistics, partial, columns, rows, rows_per_chunk); }
KERNEL(norm_gradient_weight_bb)(
    const u16* x, const u16* dy, const float* statistics, float* partial, i64 columns, i64 rows, i64 rows_per_chunk)
{ norm_gradient_weight_as(x, dy, statistics, partial, columns, rows, rows_per_chunk); }

KERNEL(sum_row_chunks_b)(const u16* x, const u16* y, float* partial, i64 columns, i64 rows, i64 rows_per_chunk)
{
    i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    i64 end = min(rows, ((i64)blockIdx.y + 1) * rows_per_chunk);
    float sum = 0;
    for (i64 row = (i64)blockIdx.y * rows_per_chunk; row < end; row++)
    {
        sum += from_bf16(x[row * columns + column]) * (y ? from_bf16(y[row * columns + column]) : 1);
    }

    partial[(i64)blockIdx.y * columns + column] = sum;
}

// A thread turns eight pairs where half a head is a multiple of 8.
KERNEL(rope_b)(u16* x, const int* positions, const float* cosines, const float* sines, i64 rows, int heads, int half, float sign)
{
    int step = half % 8 == 0 ? 8 : 1;
    for (i64 i = step * ((i64)blockIdx.x * blockDim.x + threadIdx.x); i < rows * heads * half; i += step * (i64)gridDim.x * blockDim.x)
    {
        i64 head = i / half, row = head / heads;
        int j = (int)(i % half);
        i64 angle = (i64)positions[row] * half + j;
        Eight c = read8(cosines + angle, step), s = read8(sines + angle, step);
        u16* p = x + head * 2 * half + j;
        Eight a = read8(p, step), b = read8(p + half, step), t;
        EACH
        {
            t.v[e] = a.v[e] * c.v[e] - sign * b.v[e] * s.v[e];
            b.v[e] = b.v[e] * c.v[e] + sign * a.v[e] * s.v[e];
        }

        write8(p, step, t);
        write8(p + half, step, b);
    }
}

// Where element i of x [batch·length, heads, dim] stands in a cache.
__device__ inline i64 slot_of(i64 i, int length, int heads, int capacity, int dim, int start)
{
    i64 row = i / ((i64)heads * dim);
    int head = (int)(i / dim % heads), d = (int)(i % dim);
    return ((row / length * heads + head) * capacity + start + row % length) * dim + d;
}

template <class X>
__device__ inline void append_as(const X* x, u16* cache, i64 count, int length, int heads, int capacity, int dim, int start)
{
    i64 step = dim % 8 == 0 ? 8 : 1;
    for (i64 i = step * ((i64)blockIdx.x * blockDim.x + threadIdx.x); i < count; i += step * gridDim.x * blockDim.x)
    {
        write8(cache + slot_of(i, length, heads, capacity, dim, start), step, read8(x + i, step));
    }
}

template <class X>
__device__ inline void append_gradient_as(const u16* d_cache, X* dx, i64 count, int length, int heads, int capacity, int dim, int start)
{
    i64 step = dim % 8 == 0 ? 8 : 1;
    for (i64 i = step * ((i64)blockIdx.x * blockDim.x + threadIdx.x); i < count; i += step * gridDim.x * blockDim.x)
    {
        Eight d = read8(d_cache + slot_of(i, length, heads, capacity, dim, start), step), old = read8(dx + i, step);
        EACH old.v[e] += d.v[e];
        write8(dx + i, step, old);
    }
}

KERNEL(append_to_cache_fb)(const float* x, u16* cache, i64 count, int length, int heads, int capacity, int dim, int start)
{ append_as(x, cache, count, length, heads, capacity, dim, start); }
KERNEL(append_to_cache_bb)(const u16* x, u16* cache, i64 count, int length, int heads, int capacity, int dim, int start)
{ append_as(x, cache, count, length, heads, capacity, dim, start); }
KERNEL(append_to_cache_gradient_bf)(const u16* d_cache, float* dx, i64 count, int length, int heads, int capacity, int dim, int start)
{ append_gradient_as(d_cache, dx, count, length, heads, capacity, dim, start); }
KERNEL(append_to_cache_gradient_bb)(const u16* d_cache, u16* dx, i64 count, int length, int heads, int capacity, int dim, int start)
{ append_gradient_as(d_cache, dx, count, length, heads, capacity, dim, start); }

KERNEL(copy_columns_b)(const u16* x, u16* y, i64 count, i64 first, i64 columns, i64 stride)
{
    i64 step = columns % 8 == 0 ? 8 : 1;
    for (i64 i = step * ((i64)blockIdx.x * blockDim.x + threadIdx.x); i < count; i += step * gridDim.x * blockDim.x)
    {
        write8(y + i, step, read8(x + (i / columns) * stride + first + i % columns, step));
    }
}

KERNEL(copy_columns_gradient_b)(const u16* dy, u16* dx, i64 count, i64 first, i64 columns, i64 stride)
{
    i64 step = columns % 8 == 0 ? 8 : 1;
    for (i64 i = step * ((i64)blockIdx.x * blockDim.x + threadIdx.x); i < count; i += step * gridDim.x * blockDim.x)
    {
        u16* to = dx + (i / columns) * stride + first + i % columns;
        Eight d = read8(dy + i, step), old = read8(to, step);
        EACH old.v[e] += d.v[e];
        write8(to, step, old);
    }
}

// See cross_entropy: the logits' gradient takes their place. The row is read twice, its largest and the sum of exponentials together.
KERNEL(cross_entropy_b)(u16* logits, const int* targets, float* losses, i64 columns, i64 stride, float scale)
{
    __shared__ float scratch[32];
    u16* row = logits + (i64)blockIdx.x * stride;
    int target = targets[blockIdx.x];
    // Rows of odd lengths start anywhere: the first elements up to a whole 16 bytes go one by one.
    i64 lead = min(columns, (i64)((16 - ((u64)row & 15)) & 15) / 2), tail = lead + (columns - lead) / 8 * 8;
    if (target < 0)
    {
        for (i64 i = threadIdx.x; i < columns; i += blockDim.x) row[i] = 0;
        if (threadIdx.x == 0) losses[blockIdx.x] = 0;
        return;
    }

    float largest = -infinity(), own = from_bf16(row[target]), sum = 0;
    for (i64 i = lead + 8 * threadIdx.x; i < tail; i += 8 * blockDim.x)
    {
        Eight a = read8(row + i, 8);
        float most = largest;
        EACH most = fmaxf(most, a.v[e]);
        if (most > largest)
        {
            sum *= largest == -infinity() ? 0 : expf(largest - most);
            largest = most;
        }

        EACH sum += a.v[e] == -infinity() ? 0 : expf(a.v[e] - largest);
    }

    for (i64 i = threadIdx.x; i < lead + columns - tail; i += blockDim.x)
    {
        float v = from_bf16(row[i < lead ? i : i - lead + tail]), most = fmaxf(largest, v);
        sum = (largest == -infinity() ? 0 : sum * expf(largest - most)) + (v == -infinity() ? 0 : expf(v - most));
        largest = most;
    }

    float most = block_max(largest, scratch);
    sum = block_sum(largest == -infinity() ? sum : sum * expf(largest - most), scratch);
    float factor = scale / sum;
    __syncthreads();
    for (i64 i = lead + 8 * threadIdx.x; i < tail; i += 8 * blockDim.x)
    {
        Eight a = read8(row + i, 8);
        EACH a.v[e] = expf(a.v[e] - most) * factor - (i + e == target ? scale : 0);
        write8(row + i, 8, a);
    }

    for (i64 j = threadIdx.x; j < lead + columns - tail; j += blockDim.x)
    {
        i64 i = j < lead ? j : j - lead + tail;
        row[i] = to_bf16(expf(from_bf16(row[i]) - most) * factor - (i == target ? scale : 0));
    }

    if (threadIdx.x == 0) losses[blockIdx.x] = (float)(log((double)sum) + most - own);
}
