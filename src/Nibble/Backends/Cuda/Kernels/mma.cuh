// Tensor-core products of BF16 tiles with sums in F32 (mma.sync m16n8k16), and how tiles come into shared memory.
//
// A tile of shared memory has rows of WIDTH numbers; the 16-byte pieces of row r stand at their place xor (r mod 8), so that the eight
// rows that a matrix load reads at once lie in different banks.
#pragma once
#include "common.cuh"

#ifdef NIBBLE_HOST
// What the instructions do, by exchange within the emulated warp.
inline void copy_async(void* shared, const void* global) { memcpy(shared, global, 16); }
inline void copies_commit() {}
template <int PENDING> inline void copies_wait() {}

// What all lanes bring.
inline void gather(u64 value, u64* all)
{
    nibble_host::Warp& warp = *nibble_host::current->warp;
    unsigned half = warp.generation & 1;
    warp.values[half][threadIdx.x & 31] = value;
    nibble_host::barrier(warp.arrived, warp.generation, 32);
    memcpy(all, warp.values[half], sizeof(warp.values[half]));
}

inline void load_matrices(u32* r, const u16* row)
{
    u64 rows[32];
    gather((u64)row, rows);
    int lane = threadIdx.x & 31;
    for (int j = 0; j < 4; j++) memcpy(r + j, (const u16*)rows[8 * j + lane / 4] + 2 * (lane % 4), 4);
}

inline void load_matrices_transposed(u32* r, const u16* row)
{
    u64 rows[32];
    gather((u64)row, rows);
    int lane = threadIdx.x & 31;
    for (int j = 0; j < 4; j++)
    {
        const u64* pair = rows + 8 * j + 2 * (lane % 4);
        r[j] = ((const u16*)pair[0])[lane / 4] | (u32)((const u16*)pair[1])[lane / 4] << 16;
    }
}

inline void store_matrices_transposed(u16* row, const u32* r)
{
    u64 rows[32];
    gather((u64)row, rows);
    int lane = threadIdx.x & 31;
    for (int j = 0; j < 4; j++)
    {
        for (int e = 0; e < 2; e++) ((u16*)rows[8 * j + 2 * (lane % 4) + e])[lane / 4] = (u16)(r[j] >> (16 * e));
    }
}

// What a warp's lanes bring to a product: the rows of the first matrix, lane/4 and lane/4 + 8, and the columns of the second.
struct Fragments
{
    u64 upper[32], lower[32], columns[32];
    Fragments(const u32* a, u32 b0, u32 b1)
    {
        gather(a[0] | (u64)a[2] << 32, upper);
        gather(a[1] | (u64)a[3] << 32, lower);
        gather(b0 | (u64)b1 << 32, columns);
    }
};

inline void multiply_add(float* d, const u32* a, u32 b0, u32 b1)
{
    Fragments f(a, b0, b1);
    int lane = threadIdx.x & 31;
    for (int k = 0; k < 16; k++)
    {
        // Element k stands with lane k/2 mod 4 of its row, in the first or second word, in its lower or upper half.
        int owner = k / 2 % 4, shift = 32 * (k / 8) + 16 * (k % 2);
        float x[2] = {from_bf16((u16)(f.upper[lane / 4 * 4 + owner] >> shift)), from_bf16((u16)(f.lower[lane / 4 * 4 + owner] >> shift))};
        for (int i = 0; i < 4; i++)
        {
            d[i] += x[i >> 1] * from_bf16((u16)(f.columns[(2 * (lane % 4) + (i & 1)) * 4 + owner] >> shift));
        }
    }
}

inline u16 round_bf16(float value) { return to_bf16(value); }
inline u32 pack_bf16(float low, float high) { return to_bf16(low) | (u32)to_bf16(high) << 16; }
// Both numbers of a pair: rounded products, and products plus numbers, rounded once.
inline u32 multiply_bf16(u32 a, u32 b) { return pack_bf16(from_bf16((u16)a) * from_bf16((u16)b), from_bf16((u16)(a >> 16)) * from_bf16((u16)(b >> 16))); }
inline u32 multiply_add_bf16(u32 a, u32 b, u32 c)
{
    return pack_bf16(
        std::fmaf(from_bf16((u16)a), from_bf16((u16)b), from_bf16((u16)c)), std::fmaf(from_bf16((u16)(a >> 16)), from_bf16((u16)(b >> 16)), from_bf16((u16)(c >> 16))));
}
inline float exp2_fast(float x) { return std::exp2(x); }
#else
__device__ inline u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ inline void copy_async(void* shared, const void* global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
__device__ inline void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ inline void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

// Four 8 × 8 matrices: lane l names row l mod 8 of matrix l/8 and gets elements 2(l mod 4), +1 of row l/4 of each.
__device__ inline void load_matrices(u32* r, const u16* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

__device__ inline void load_matrices_transposed(u32* r, const u16* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// The other way, cards of 9.0: lane l names row l mod 8 of matrix l/8 in shared memory and brings, of each, elements l/4 of rows 2(l mod 4), +1.
__device__ inline void store_matrices_transposed(u16* row, const u32* r)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};"
        ::"r"(shared_address(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

// d[16 × 8] += a[16 × 16]·b[16 × 8].
__device__ inline void multiply_add(float* d, const u32* a, u32 b0, u32 b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline u16 round_bf16(float value)
{
    u16 rounded;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(value));
    return rounded;
}

__device__ inline u32 pack_bf16(float low, float high)
{
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

// Both numbers of a pair: rounded products, and products plus numbers, rounded once. For cards of 9.0.
__device__ inline u32 multiply_bf16(u32 a, u32 b)
{
    u32 product;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
    return product;
}

__device__ inline u32 multiply_add_bf16(u32 a, u32 b, u32 c)
{
    u32 sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}

__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

// A number as two of BF16, the nearer one in the lower half: their sum has 16 of its bits.
__device__ inline u32 split_bf16(float value)
{
    float first = from_bf16(round_bf16(value));
    return pack_bf16(first, value - first);
}

template <int WIDTH>
__device__ inline u16* tile_at(u16* tile, int row, int piece) { return tile + row * WIDTH + ((piece ^ (row & 7)) << 3); }

// Rows first … of a matrix as 64 rows of a tile; what is not there becomes 0.
template <int WIDTH>
__device__ inline void load_tile(u16* tile, const u16* source, i64 stride, int first, int end, int dim)
{
    const int PIECES = WIDTH / 8;
    for (int i = threadIdx.x; i < 64 * PIECES; i += blockDim.x)
    {
        int row = i / PIECES, piece = i % PIECES;
        u16* to = tile_at<WIDTH>(tile, row, piece);
        const u16* from = source + (i64)(first + row) * stride + piece * 8;
        if (first + row < end && piece * 8 + 8 <= dim && (dim & 7) == 0) copy_async(to, from);
        else
        {
            for (int e = 0; e < 8; e++) to[e] = first + row < end && piece * 8 + e < dim ? from[e] : 0;
        }
    }
}

// 16 rows of A, columns 16·step …, from a tile whose rows are A's.
template <int WIDTH>
__device__ inline void load_a(u32* a, u16* tile, int row, int step)
{
    int lane = threadIdx.x & 31;
    load_matrices(a, tile_at<WIDTH>(tile, row + (lane & 15), 2 * step + (lane >> 4)));
}

// B for two neighbours of 8 columns, k = 16·step …, from a tile whose rows are B's columns: b[0], b[1] and b[2], b[3].
template <int WIDTH>
__device__ inline void load_b(u32* b, u16* tile, int column, int step)
{
    int lane = threadIdx.x & 31;
    load_matrices(b, tile_at<WIDTH>(tile, column + (lane & 7) + ((lane >> 4) << 3), 2 * step + ((lane >> 3) & 1)));
}

// The same from a tile whose rows are B's rows (k).
template <int WIDTH>
__device__ inline void load_b_rows(u32* b, u16* tile, int k, int pair)
{
    int lane = threadIdx.x & 31;
    load_matrices_transposed(b, tile_at<WIDTH>(tile, k + (lane & 15), 2 * pair + (lane >> 4)));
}
