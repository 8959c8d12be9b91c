// Eight numbers at once: 16 bytes of BF16, 32 of F32, computed with in F32.
#pragma once
#include "mma.cuh"

struct __align__(16) Word4 { u32 w[4]; };
struct Eight { float v[8]; };

__device__ inline bool wide(const void* p, i64 left) { return left >= 8 && ((u64)p & 15) == 0; }

// Elements p[0 … 7], as many as are left.
__device__ inline Eight read8(const u16* p, i64 left)
{
    Eight r;
    if (wide(p, left))
    {
        Word4 words = *(const Word4*)p;
#pragma unroll
        for (int e = 0; e < 4; e++)
        {
            r.v[2 * e] = __uint_as_float(words.w[e] << 16);
            r.v[2 * e + 1] = __uint_as_float(words.w[e] & 0xffff0000u);
        }

        return r;
    }

#pragma unroll
    for (int e = 0; e < 8; e++) r.v[e] = e < left ? from_bf16(p[e]) : 0;
    return r;
}

__device__ inline Eight read8(const float* p, i64 left)
{
    Eight r;
    if (wide(p, left))
    {
        Word4 low = ((const Word4*)p)[0], high = ((const Word4*)p)[1];
#pragma unroll
        for (int e = 0; e < 4; e++)
        {
            r.v[e] = __uint_as_float(low.w[e]);
            r.v[e + 4] = __uint_as_float(high.w[e]);
        }

        return r;
    }

#pragma unroll
    for (int e = 0; e < 8; e++) r.v[e] = e < left ? p[e] : 0;
    return r;
}

__device__ inline void write8(u16* p, i64 left, const Eight& x)
{
    if (wide(p, left))
    {
        Word4 words;
#pragma unroll
        for (int e = 0; e < 4; e++) words.w[e] = pack_bf16(x.v[2 * e], x.v[2 * e + 1]);
        *(Word4*)p = words;
        return;
    }

#pragma unroll
    for (int e = 0; e < 8; e++)
    {
        if (e < left) p[e] = to_bf16(x.v[e]);
    }
}

__device__ inline void write8(float* p, i64 left, const Eight& x)
{
    if (wide(p, left))
    {
        Word4 low, high;
#pragma unroll
        for (int e = 0; e < 4; e++)
        {
            low.w[e] = __float_as_uint(x.v[e]);
            high.w[e] = __float_as_uint(x.v[e + 4]);
        }

        ((Word4*)p)[0] = low;
        ((Word4*)p)[1] = high;
        return;
    }

#pragma unroll
    for (int e = 0; e < 8; e++)
    {
        if (e < left) p[e] = x.v[e];
    }
}

#define EIGHTS(i, count) \
    for (i64 i = 8 * ((i64)blockIdx.x * blockDim.x + threadIdx.x); i < (count); i += 8 * (i64)gridDim.x * blockDim.x)
#define EACH _Pragma("unroll") for (int e = 0; e < 8; e++)

// What stands at a multiple of 16 bytes, without a question: loads of several rows are then in flight together.
__device__ inline Eight widen8(const Word4& words)
{
    Eight r;
    EACH r.v[e] = e & 1 ? __uint_as_float(words.w[e / 2] & 0xffff0000u) : __uint_as_float(words.w[e / 2] << 16);
    return r;
}

__device__ inline Eight load8(const u16* p) { return widen8(*(const Word4*)p); }

__device__ inline Eight load8(const float* p)
{
    Eight r;
    Word4 low = ((const Word4*)p)[0], high = ((const Word4*)p)[1];
    EACH r.v[e] = __uint_as_float(e < 4 ? low.w[e % 4] : high.w[e % 4]);
    return r;
}
