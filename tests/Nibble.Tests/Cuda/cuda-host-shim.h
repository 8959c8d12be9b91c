// Runs CUDA kernels on the processor: a block's threads are fibers on one thread, blocks follow each other. Only what Nibble's kernels
// use is here. Cooperative switching hides races, so a launch can run its threads in reverse order: a missing barrier then gives another
// result. A barrier that not all threads reach is reported, dynamic shared memory starts as NaN.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __noinline__ __attribute__((noinline))
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__
#define NIBBLE_SHARED(type, name) type* name = (type*)nibble_host::shared_memory

using std::max;
using std::min;

struct dim3 { unsigned x, y, z; };
struct float4 { float x, y, z, w; };

namespace nibble_host
{
const int WARP = 32;
const int MAX_THREADS = 1024;
const size_t STACK = 128 << 10;

struct Warp { unsigned arrived = 0, generation = 0; uint64_t values[2][WARP]; };

struct Fiber
{
    void* stack_pointer;
    char* stack;
    dim3 thread;
    Warp* warp;
    bool alive;
    const unsigned* waits_for;
    unsigned generation;
};

inline Fiber fibers[MAX_THREADS];
inline Warp warps[MAX_THREADS / WARP];
inline Fiber* current;
inline void* scheduler;
inline dim3 grid, block, block_index;
inline unsigned threads, arrived, generation;
inline unsigned char* shared_memory;
inline void (*body)(void**);
inline void** arguments;
}

#if !defined(__x86_64__)
#error "the switch of fibers is written for x86-64"
#endif
extern "C" void nibble_switch(void** from, void* to);
asm(R"(
.text
.globl nibble_switch
.type nibble_switch,@function
nibble_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

namespace nibble_host
{
inline void leave() { nibble_switch(&current->stack_pointer, scheduler); }

inline void enter()
{
    body(arguments);
    current->alive = false;
    leave();
    abort();
}

inline void prepare(Fiber& fiber, unsigned index)
{
    if (!fiber.stack) fiber.stack = (char*)aligned_alloc(64, STACK);
    fiber.thread = {index % block.x, index / block.x % block.y, index / (block.x * block.y)};
    fiber.warp = &warps[index / WARP];
    fiber.alive = true;
    fiber.waits_for = nullptr;
    // Six registers, the address to return to, and one word so that the stack is aligned as after a call.
    void** top = (void**)(fiber.stack + STACK) - 2;
    *top = (void*)&enter;
    fiber.stack_pointer = top - 6;
}

inline void wait(const unsigned* counter, unsigned value)
{
    current->waits_for = counter;
    current->generation = value;
    leave();
}

inline void barrier(unsigned& count, unsigned& generation, unsigned expected)
{
    unsigned own = generation;
    if (++count == expected) { count = 0; generation++; return; }
    wait(&generation, own);
}

template <class T>
T exchange(T value, unsigned source)
{
    Warp& warp = *current->warp;
    unsigned lane = current->thread.x % WARP, half = warp.generation & 1;
    memcpy(&warp.values[half][lane], &value, sizeof(T));
    barrier(warp.arrived, warp.generation, WARP);
    T result;
    memcpy(&result, &warp.values[half][source], sizeof(T));
    return result;
}

inline const char* run_block(bool reverse)
{
    arrived = 0;
    for (unsigned i = 0; i < threads; i++) prepare(fibers[i], i);
    for (unsigned i = 0; i < threads / WARP; i++) warps[i].arrived = 0;
    for (unsigned alive = threads; alive > 0;)
    {
        bool progress = false;
        for (unsigned n = 0; n < threads; n++)
        {
            Fiber& fiber = fibers[reverse ? threads - 1 - n : n];
            if (!fiber.alive || (fiber.waits_for && *fiber.waits_for == fiber.generation)) continue;
            fiber.waits_for = nullptr;
            current = &fiber;
            nibble_switch(&scheduler, fiber.stack_pointer);
            progress = true;
            alive -= !fiber.alive;
        }

        if (!progress) return "some threads wait at a barrier or a shuffle that the others never reach";
    }

    return nullptr;
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** values, std::index_sequence<I...>) { kernel(*(A*)values[I]...); }

template <class... A>
void call(void (*kernel)(A...), void** values) { call(kernel, values, std::index_sequence_for<A...>()); }
}

#define threadIdx (nibble_host::current->thread)
#define blockIdx (nibble_host::block_index)
#define blockDim (nibble_host::block)
#define gridDim (nibble_host::grid)

inline void __syncthreads() { nibble_host::barrier(nibble_host::arrived, nibble_host::generation, nibble_host::threads); }

inline void __syncwarp() { nibble_host::Warp& warp = *nibble_host::current->warp; nibble_host::barrier(warp.arrived, warp.generation, nibble_host::WARP); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) { return nibble_host::exchange(value, (threadIdx.x % 32) ^ mask); }

template <class T>
T __shfl_sync(unsigned, T value, int lane) { return nibble_host::exchange(value, lane); }

inline unsigned __ballot_sync(unsigned, int value)
{
    unsigned bits = 0;
    for (int lane = 0; lane < 32; lane++) bits |= (unsigned)(nibble_host::exchange(value != 0, lane) ? 1 : 0) << lane;
    return bits;
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline unsigned atomicOr(unsigned* target, unsigned value) { unsigned old = *target; *target |= value; return old; }
inline unsigned atomicAdd(unsigned* target, unsigned value) { unsigned old = *target; *target += value; return old; }
inline unsigned long long atomicAdd(unsigned long long* target, unsigned long long value) { auto old = *target; *target += value; return old; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
inline unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }

inline float nibble_half_to_float(unsigned short bits)
{
    unsigned sign = (unsigned)(bits & 0x8000) << 16, exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | (fraction << 13));
    if (exponent != 0) return __uint_as_float(sign | ((exponent + 112) << 23) | (fraction << 13));
    float value = std::ldexp((float)fraction, -24);
    return sign ? -value : value;
}

inline unsigned short nibble_float_to_half(float value) { _Float16 half = (_Float16)value; unsigned short bits; memcpy(&bits, &half, 2); return bits; }

inline unsigned nibble_pick_bytes(unsigned a, unsigned b, unsigned selector)
{
    unsigned long long bytes = a | (unsigned long long)b << 32;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) result |= (unsigned)((bytes >> (8 * ((selector >> (4 * i)) & 7))) & 255) << (8 * i);
    return result;
}

struct NibbleKernel { const char* name; void (*run)(void**); };
#define NIBBLE_ENTRY(kernel) { #kernel, [](void** values) { nibble_host::call(&kernel, values); } }
extern NibbleKernel nibble_kernels[];

// Returns null, or what went wrong. One launch at a time.
extern "C" inline __attribute__((used, visibility("default"))) const char* nibble_launch(
    const char* name, const unsigned* grid, unsigned threads, unsigned shared_bytes, void** arguments, int reverse)
{
    using namespace nibble_host;
    NibbleKernel* kernel = nibble_kernels;
    while (kernel->name && strcmp(kernel->name, name)) kernel++;
    if (!kernel->name) return "no such kernel";
    if (threads == 0 || threads > MAX_THREADS || threads % WARP) return "a block must have a multiple of 32 threads, at most 1024";
    nibble_host::grid = {grid[0], grid[1], grid[2]};
    block = {threads, 1, 1};
    nibble_host::threads = threads;
    body = kernel->run;
    nibble_host::arguments = arguments;
    std::vector<double> memory(shared_bytes / sizeof(double) + 2);
    shared_memory = (unsigned char*)memory.data();
    for (unsigned z = 0; z < grid[2]; z++)
    {
        for (unsigned y = 0; y < grid[1]; y++)
        {
            for (unsigned x = 0; x < grid[0]; x++)
            {
                memset(shared_memory, 0xff, shared_bytes);
                block_index = {x, y, z};
                if (const char* problem = run_block(reverse != 0)) return problem;
            }
        }
    }

    return nullptr;
}
