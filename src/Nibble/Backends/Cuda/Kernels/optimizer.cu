// The steps of optimizers: AdamW, also with 8-bit moments, and Muon.
#include "common.cuh"

#define BLOCK 256

// How many of the 255 half-way points lie below a value: its code.
__device__ inline int nearest(const float* bounds, float value)
{
    int code = 0;
    for (int step = 128; step > 0; step >>= 1) code += bounds[code + step - 1] < value ? step : 0;
    return code;
}

// A moment is a code of the dynamic map times its block's largest magnitude (arXiv 2110.02861); a block of threads owns one. maps:
// the signed and the unsigned levels, then the half-way points of both, 256 numbers each. The caller has folded the bias corrections
// into step and epsilon, and the decay into keep.
KERNEL(adamw8bit)(
    float* values, const float* gradient, u8* first, float* first_scales, u8* second, float* second_scales, const float* maps, float scale,
    float beta1, float beta2, float epsilon, float keep, float step, i64 count)
{
    __shared__ float scratch[32];
    i64 i = (i64)blockIdx.x * BLOCK + threadIdx.x;
    float mean = 0, square = 0;
    if (i < count)
    {
        float slope = gradient[i] * scale;
        mean = maps[first[i]] * first_scales[blockIdx.x] * beta1 + (1 - beta1) * slope;
        square = maps[256 + second[i]] * second_scales[blockIdx.x] * beta2 + (1 - beta2) * slope * slope;
        values[i] = (values[i] - step * (mean / (sqrtf(square) + epsilon))) * keep;
    }

    float largest_mean = block_max(fabsf(mean), scratch), largest_square = block_max(square, scratch);
    if (threadIdx.x == 0)
    {
        first_scales[blockIdx.x] = largest_mean;
        second_scales[blockIdx.x] = largest_square;
    }

    if (i >= count) return;
    float share = largest_mean > 0 ? mean / largest_mean : 0;
    int code = nearest(maps + 512, share);
    // A mean keeps its sign: it would otherwise push nowhere, or the other way.
    first[i] = (u8)(share < 0 && maps[code] >= 0 ? code - 1 : share > 0 && maps[code] < 0 ? code + 1 : code);
    second[i] = (u8)nearest(maps + 768, largest_square > 0 ? square / largest_square : 0);
}

// One tensor of a step; AdamWEntry in C# has the same layout.
struct AdamWEntry
{
    float* values;
    const float* gradient;
    float *first, *second;
    i64 count;
    float scale, beta1, beta2, epsilon, keep, step, root;
    int unused;
};

struct __align__(16) Four { float v[4]; };

__device__ inline void adamw_of(const AdamWEntry& t, float g, float* m, float* v, float* value)
{
    g *= t.scale;
    *m = *m + (g - *m) * (1 - t.beta1);
    *v = *v * t.beta2 + g * g * (1 - t.beta2);
    *value = *value * t.keep - t.step * (*m / (sqrtf(*v) / t.root + t.epsilon));
}

// adamw of elementwise.cu for many tensors: a block takes a part of one, a thread four elements at a time.
KERNEL(adamw_many)(const AdamWEntry* entries, const PartEntry* parts)
{
    PartEntry part = parts[blockIdx.x];
    AdamWEntry t = entries[part.tensor];
    i64 end = min(t.count, part.begin + PART_ELEMENTS);
    bool whole = (((u64)t.values | (u64)t.gradient | (u64)t.first | (u64)t.second) & 15) == 0;
    i64 fours = whole ? part.begin + (end - part.begin) / 4 * 4 : part.begin;
#pragma unroll 2
    for (i64 i = part.begin + 4 * threadIdx.x; i < fours; i += 4 * blockDim.x)
    {
        Four g = *(const Four*)(t.gradient + i), m = *(const Four*)(t.first + i), v = *(const Four*)(t.second + i), w = *(const Four*)(t.values + i);
#pragma unroll
        for (int e = 0; e < 4; e++) adamw_of(t, g.v[e], m.v + e, v.v + e, w.v + e);
        *(Four*)(t.first + i) = m;
        *(Four*)(t.second + i) = v;
        *(Four*)(t.values + i) = w;
    }

    for (i64 i = fours + threadIdx.x; i < end; i += blockDim.x) adamw_of(t, t.gradient[i], t.first + i, t.second + i, t.values + i);
}

// Σ x² of each part, in double precision; the host adds the parts up in order.
KERNEL(sum_of_squares_many)(const AdamWEntry* entries, const PartEntry* parts, double* sums)
{
    __shared__ double scratch[32];
    PartEntry part = parts[blockIdx.x];
    const float* x = entries[part.tensor].gradient;
    i64 end = min(entries[part.tensor].count, part.begin + PART_ELEMENTS);
    double sum = 0;
    for (i64 i = part.begin + threadIdx.x; i < end; i += blockDim.x) sum += (double)x[i] * x[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// A matrix of a step of Muon; MuonEntry of CudaMuon.cs has the same layout. place: its first element among those of its shape.
struct MuonEntry
{
    float *values, *gradient, *velocity;
    i64 place;
    int rows, columns, first_sum, unused;
    float scale, momentum, keep, step;
};

// Where an element stands in the matrix that is no higher than wide.
__device__ inline i64 muon_place(const MuonEntry& t, i64 i) { return t.place + (t.rows <= t.columns ? i : i % t.columns * t.rows + i / t.columns); }

// v = momentum·v + g; the direction g + momentum·v takes the gradient's place. sums: its squares, by part.
KERNEL(muon_velocity)(const MuonEntry* entries, const PartEntry* parts, double* sums)
{
    __shared__ double scratch[32];
    PartEntry part = parts[blockIdx.x];
    MuonEntry t = entries[part.tensor];
    i64 end = min((i64)t.rows * t.columns, part.begin + PART_ELEMENTS);
    double sum = 0;
    for (i64 i = part.begin + threadIdx.x; i < end; i += blockDim.x)
    {
        float g = t.gradient[i] * t.scale;
        float v = t.momentum * t.velocity[i] + g;
        float u = g + t.momentum * v;
        t.velocity[i] = v;
        t.gradient[i] = u;
        sum += (double)u * u;
    }

    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// x = direction / (norm + epsilon).
KERNEL(muon_start)(const MuonEntry* entries, const PartEntry* parts, const double* sums, void* x, int type, float epsilon)
{
    __shared__ double scratch[32];
    PartEntry part = parts[blockIdx.x];
    MuonEntry t = entries[part.tensor];
    i64 count = (i64)t.rows * t.columns, end = min(count, part.begin + PART_ELEMENTS);
    double sum = 0;
    for (i64 i = threadIdx.x; i < (count + PART_ELEMENTS - 1) / PART_ELEMENTS; i += blockDim.x) sum += sums[t.first_sum + i];
    float factor = (float)(1 / (sqrt(block_sum(sum, scratch)) + epsilon));
    for (i64 i = part.begin + threadIdx.x; i < end; i += blockDim.x)
    {
        float value = t.gradient[i] * factor;
        i64 at = muon_place(t, i);
        if (type == NUMBER_BF16) ((u16*)x)[at] = to_bf16(value);
        else ((float*)x)[at] = value;
    }
}

KERNEL(muon_finish)(const MuonEntry* entries, const PartEntry* parts, const void* x, int type)
{
    PartEntry part = parts[blockIdx.x];
    MuonEntry t = entries[part.tensor];
    i64 end = min((i64)t.rows * t.columns, part.begin + PART_ELEMENTS);
    for (i64 i = part.begin + threadIdx.x; i < end; i += blockDim.x) t.values[i] = t.values[i] * t.keep - t.step * read_number(x, type, muon_place(t, i));
}
