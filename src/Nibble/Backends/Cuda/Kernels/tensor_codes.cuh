// Codes of a unit (packed.cuh) as the lanes of a warp hold them, and how they become numbers of BF16: by a table of pairs that stands in shared
// memory once for each lane, so that no two lanes meet in a bank, or by arithmetic.
#pragma once
#include "mma.cuh"
#include "packed.cuh"

struct __align__(16) Quad { u32 w[4]; };
struct __align__(8) Couple { u32 w[2]; };

#ifdef NIBBLE_HOST
template <class T> inline T load_once(const T* p) { return *p; }
inline u32 pick_bytes(u32 a, u32 b, u32 selector) { return nibble_pick_bytes(a, b, selector); }

// A table of pairs in shared memory, as a lane sees it.
struct PairTable
{
    const u8* own;
    PairTable(const u8* table) : own(table + 4 * (threadIdx.x & 31)) {}
    u32 at(u32 place) const { return *(const u32*)(own + place); }
};
#else
// A weight is read once: it should not push x out of the cache.
__device__ inline Quad load_once(const Quad* p)
{
    Quad q;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(q.w[0]), "=r"(q.w[1]), "=r"(q.w[2]), "=r"(q.w[3]) : "l"(p));
    return q;
}
__device__ inline Couple load_once(const Couple* p)
{
    Couple q;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(q.w[0]), "=r"(q.w[1]) : "l"(p));
    return q;
}
__device__ inline u32 pick_bytes(u32 a, u32 b, u32 selector) { return __byte_perm(a, b, selector); }

// A table of pairs in shared memory, as a lane sees it: the number of the lane comes from the hardware, so that place, lane and table make an
// address in one step.
struct PairTable
{
    u32 table, own;
    __device__ PairTable(const u8* shared) : table(shared_address(shared))
    {
        u32 lane;
        asm("mov.u32 %0, %%laneid;" : "=r"(lane));
        own = 4 * lane;
    }
    __device__ u32 at(u32 place) const
    {
        u32 pair;
        asm volatile("ld.shared.u32 %0, [%1];" : "=r"(pair) : "r"(table + (place | own)));
        return pair;
    }
};
#endif

// A unit stands in the card's memory, or was brought to shared memory.
template <bool SHARED, class T>
__device__ inline T load_codes(const T* p)
{
    if (SHARED) return *p;
    return load_once(p);
}

// Of 32 columns a lane t of four holds those from 8·t on, four pairs. Turned, it holds pair t of each of the four lanes: what mma's fragments have of
// columns in their own order. Bytes are pairs of codes of 4 bits; which bytes go where depends on the lane.
struct LaneTurn
{
    u32 first, second, last;

    __device__ LaneTurn(int lane)
    {
        int t = lane & 3;
        first = kept(t & 2 ? 0x5410 : 0x7632);
        second = kept(t & 1 ? 0x6240 : 0x7351);
        last = kept(t == 0 ? 0x5140 : t == 1 ? 0x1504 : t == 2 ? 0x4051 : 0x0415);
    }

    // Two words at once: a half of each goes to lane t xor 2, then half of what is there to t xor 1.
    __device__ void turn(u32& a, u32& b) const
    {
        u32 kept = pick_bytes(a, b, first ^ 0x2222), met = __shfl_xor_sync(FULL_WARP, pick_bytes(a, b, first), 2);
        u32 own = pick_bytes(kept, met, second ^ 0x1111), other = __shfl_xor_sync(FULL_WARP, pick_bytes(kept, met, second), 1);
        a = pick_bytes(own, other, last);
        b = pick_bytes(own, other, last + 0x2222);
    }
};

// A byte below 128 of a word, as a number 128 larger (`above`, whose bytes it joins).
__device__ inline float byte_above_128(u32 word, u32 above, int byte) { return __uint_as_float(pick_bytes(word, above, 0x7044u | (u32)byte << 8)); }

// What a lane holds of a unit, and the pair of codes (2·pair, 2·pair + 1) of (h, i): as the place in the table, or as numbers.
template <int BITS>
struct LaneCodes;

template <>
struct LaneCodes<4>
{
    static const int ENTRIES = 256;
    Quad q[2];
    template <bool SHARED = false>
    __device__ void load(const u32* unit, int lane)
    {
        q[0] = load_codes<SHARED>((const Quad*)unit + lane);
        q[1] = load_codes<SHARED>((const Quad*)unit + 32 + lane);
    }
    __device__ u32 pair(int h, int i, int pair, const PairTable& table) const
    {
        u32 word = q[h].w[i], place = pair == 0 ? word << 7 : word >> (8 * pair - 7);
        return table.at(place & 0x7f80u);
    }
    // The same as numbers BIAS larger: a code in the last bits of 128 as BF16. A word's even and odd codes become bytes at once.
    static const int BIAS = 128, ABOVE = 0x43000000;
    __device__ void numbers(int h, int i, int pair, const PairTable&, u32 above, float* low, float* high) const
    {
        u32 word = q[h].w[i];
        *low = byte_above_128(word & 0x0f0f0f0fu, above, pair);
        *high = byte_above_128(word >> 4 & 0x0f0f0f0fu, above, pair);
    }
    __device__ u32 code(int h, int i, int e) const { return (q[h].w[i] >> (4 * e)) & 15; }
    __device__ u32 eight(int h, int i) const { return q[h].w[i]; }
    __device__ void turn(const LaneTurn& turn)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) turn.turn(q[0].w[i], q[1].w[i]);
    }
    __device__ static int of_entry(int entry, int which) { return (entry >> (4 * which)) & 15; }
};

template <>
struct LaneCodes<3>
{
    // Only codes of 4 bits have tables of bytes, and are turned.
    __device__ u32 eight(int, int) const { return 0; }
    __device__ void turn(const LaneTurn&) {}
    static const int ENTRIES = 64;
    Couple q[3];
    template <bool SHARED = false>
    __device__ void load(const u32* unit, int lane)
    {
#pragma unroll
        for (int plane = 0; plane < 3; plane++) q[plane] = load_codes<SHARED>((const Couple*)unit + 32 * plane + lane);
    }
    __device__ u32 pair(int h, int i, int pair, const PairTable& table) const
    {
        int shift = 8 * i + 2 * pair;
        u32 entry = ((q[0].w[h] >> shift) & 3) | (((q[1].w[h] >> shift) & 3) << 2) | (((q[2].w[h] >> shift) & 3) << 4);
        return table.at(entry * 128);
    }
    static const int BIAS = 0, ABOVE = 0;
    __device__ void numbers(int h, int i, int at, const PairTable& table, u32, float* low, float* high) const
    {
        u32 both = pair(h, i, at, table);
        *low = __uint_as_float(both << 16);
        *high = __uint_as_float(both & 0xffff0000u);
    }
    __device__ u32 code(int h, int i, int e) const
    {
        int shift = 8 * i + e;
        return ((q[0].w[h] >> shift) & 1) | (((q[1].w[h] >> shift) & 1) << 1) | (((q[2].w[h] >> shift) & 1) << 2);
    }
    __device__ static int of_entry(int entry, int which)
    {
        return ((entry >> which) & 1) | (((entry >> (2 + which)) & 1) << 1) | (((entry >> (4 + which)) & 1) << 2);
    }
};

template <>
struct LaneCodes<2>
{
    // Only codes of 4 bits have tables of bytes, and are turned.
    __device__ u32 eight(int, int) const { return 0; }
    __device__ void turn(const LaneTurn&) {}
    static const int ENTRIES = 16;
    Quad q;
    template <bool SHARED = false>
    __device__ void load(const u32* unit, int lane) { q = load_codes<SHARED>((const Quad*)unit + lane); }
    __device__ u32 pair(int h, int i, int pair, const PairTable& table) const
    {
        u32 entry = (q.w[2 * h + (i >> 1)] >> (16 * (i & 1) + 4 * pair)) & 15;
        return table.at(entry * 128);
    }
    static const int BIAS = 128, ABOVE = 0x43000000;
    __device__ void numbers(int h, int i, int pair, const PairTable&, u32 above, float* low, float* high) const
    {
        // A byte has two pairs.
        u32 word = q.w[2 * h + (i >> 1)] >> 4 * (pair & 1);
        int at = 2 * (i & 1) + (pair >> 1);
        *low = byte_above_128(word & 0x03030303u, above, at);
        *high = byte_above_128(word >> 2 & 0x03030303u, above, at);
    }
    __device__ u32 code(int h, int i, int e) const { return (q.w[2 * h + (i >> 1)] >> (16 * (i & 1) + 2 * e)) & 3; }
    __device__ static int of_entry(int entry, int which) { return (entry >> (2 * which)) & 3; }
};

template <>
struct LaneCodes<8>
{
    // Only codes of 4 bits have tables of bytes, and are turned.
    __device__ u32 eight(int, int) const { return 0; }
    __device__ void turn(const LaneTurn&) {}
    static const int ENTRIES = 0;
    Quad q[4];
    template <bool SHARED = false>
    __device__ void load(const u32* unit, int lane)
    {
#pragma unroll
        for (int part = 0; part < 4; part++) q[part] = load_codes<SHARED>((const Quad*)unit + 32 * part + lane);
    }
    // Four codes of (h, i) from 4·half on.
    __device__ u32 word(int h, int i, int half) const { return q[2 * h + (i >> 1)].w[2 * (i & 1) + half]; }
    // 2²³ + code as F32, less 2²³: exact, and codes of 8 bits are exact in BF16.
    static const int BIAS = 0, ABOVE = 0x4b000000;
    __device__ void numbers(int h, int i, int pair, const PairTable&, u32 above, float* low, float* high) const
    {
        u32 codes = word(h, i, pair >> 1);
        *low = __uint_as_float(pick_bytes(codes, above, pair & 1 ? 0x7542 : 0x7540)) - 8388608.0f;
        *high = __uint_as_float(pick_bytes(codes, above, pair & 1 ? 0x7543 : 0x7541)) - 8388608.0f;
    }
    __device__ u32 pair(int h, int i, int pair, const PairTable& table) const
    {
        float low, high;
        numbers(h, i, pair, table, ABOVE, &low, &high);
        return pack_bf16(low, high);
    }
    __device__ u32 code(int h, int i, int e) const { return (word(h, i, e >> 2) >> (8 * (e & 3))) & 255; }
    __device__ static int of_entry(int, int) { return 0; }
};
