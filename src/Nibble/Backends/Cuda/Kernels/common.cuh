// What all kernels share. No header of the CUDA toolkit is included: NVRTC compiles these sources without one, and the tests compile
// them with a C++ compiler for the processor (NIBBLE_HOST, tests/Nibble.Tests/Cuda/cuda-host-shim.h), where a block's threads are fibers.
#pragma once

#ifdef NIBBLE_HOST
#include "cuda-host-shim.h"
#else
#define NIBBLE_SHARED(type, name) \
    extern __shared__ __align__(16) unsigned char nibble_shared[]; \
    type* name = (type*)nibble_shared
#endif

// A prefix of its own: names like norm are functions of CUDA's library too.
#define KERNEL(name) extern "C" __global__ void nibble_##name
#define FULL_WARP 0xffffffffu

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

// How numbers are stored; the values are those of CudaNumber in C#.
enum { NUMBER_F32 = 0, NUMBER_F16 = 1, NUMBER_BF16 = 2, NUMBER_U8 = 3 };

// Where many tensors go through one launch, a block takes PART_ELEMENTS of one tensor, from `begin` on; PartEntry in C# has the same layout.
#define PART_ELEMENTS 16384

struct PartEntry
{
    i64 begin;
    int tensor, unused;
};

// A launch may begin while the kernel before it still runs (LaunchShape.Overlaps): until await_previous() it must write nothing, and it may
// read only what no kernel that calls allow_next() writes, nor the one launched right before. allow_next() lets the next such launch begin as
// soon as there is room.
__device__ inline void await_previous()
{
#if !defined(NIBBLE_HOST) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void allow_next()
{
#if !defined(NIBBLE_HOST) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// What was written before is there for all blocks before what comes after.
__device__ inline void fence()
{
#ifndef NIBBLE_HOST
    __threadfence();
#endif
}

// A number that stays in its register. Where registers are short the compiler would rather ask again for a thread's number and work it out from there,
// each time in the middle of a loop, behind all loads from shared memory.
__device__ inline u32 kept(u32 value)
{
#ifndef NIBBLE_HOST
    asm volatile("" : "+r"(value));
#endif
    return value;
}

__device__ inline float infinity() { return __uint_as_float(0x7f800000u); }

__device__ inline float from_bf16(u16 bits) { return __uint_as_float((u32)bits << 16); }

// Round to nearest, ties to even; NaN stays NaN.
__device__ inline u16 to_bf16(float value)
{
    u32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

__device__ inline float from_f16(u16 bits)
{
#ifdef NIBBLE_HOST
    return nibble_half_to_float(bits);
#else
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#endif
}

__device__ inline u16 to_f16(float value)
{
#ifdef NIBBLE_HOST
    return nibble_float_to_half(value);
#else
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#endif
}

__device__ inline float read_number(const void* numbers, int type, i64 index)
{
    switch (type)
    {
        case NUMBER_F32: return ((const float*)numbers)[index];
        case NUMBER_F16: return from_f16(((const u16*)numbers)[index]);
        case NUMBER_BF16: return from_bf16(((const u16*)numbers)[index]);
        default: return (float)((const u8*)numbers)[index];
    }
}

template <class T>
__device__ inline T warp_sum(T value)
{
    for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(FULL_WARP, value, offset);
    return value;
}

__device__ inline float warp_max(float value)
{
    for (int offset = 16; offset > 0; offset >>= 1) value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, offset));
    return value;
}

// The sum over a block, the same in all threads and in an order that depends on the block's size alone; scratch has one value a warp.
template <class T>
__device__ inline T block_sum(T value, T* scratch)
{
    value = warp_sum(value);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = value;
    __syncthreads();
    T total = 0;
    for (int warp = 0; warp < (int)(blockDim.x >> 5); warp++) total += scratch[warp];
    return total;
}

__device__ inline float block_max(float value, float* scratch)
{
    value = warp_max(value);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = value;
    __syncthreads();
    float largest = scratch[0];
    for (int warp = 1; warp < (int)(blockDim.x >> 5); warp++) largest = fmaxf(largest, scratch[warp]);
    return largest;
}

// The mean, and 1/√(mean of squared distances + ε) of a row; centered is 0 for RMSNorm.
__device__ inline float row_statistics(const float* x, i64 columns, int centered, float epsilon, float* scratch, float* mean)
{
    float sum = 0;
    if (centered)
    {
        for (i64 i = threadIdx.x; i < columns; i += blockDim.x) sum += x[i];
        sum = block_sum(sum, scratch) / columns;
    }

    float squares = 0;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x) squares += (x[i] - sum) * (x[i] - sum);
    squares = block_sum(squares, scratch) / columns;
    *mean = sum;
    return 1.0f / sqrtf(squares + epsilon);
}

// for (i = first element of this thread; i < count; …) over a grid of any size.
#define GRID_STRIDE(i, count) \
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (i64)gridDim.x * blockDim.x)
