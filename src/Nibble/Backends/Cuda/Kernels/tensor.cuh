// Products on tensor cores: BF16 numbers, sums in F32. A weight's unit (packed.cuh) is the fragment A of eight mma.m16n8k16, x is B.
//
// Codes become BF16 by a table of pairs that stands in shared memory once for each lane, so that no two lanes meet in a bank. The scale
// of a group multiplies the sums over its columns, in F32; an offset multiplies the sum of x over the group: Σ (q − z)·s·x =
// s·Σ q·x − s·z·Σ x. Codes and levels are exact in BF16 or rounded to it; nothing else of a weight is rounded.
#pragma once
#include "mma.cuh"
#include "packed.cuh"

struct __align__(16) Quad { u32 w[4]; };
struct __align__(8) Couple { u32 w[2]; };

#ifdef NIBBLE_HOST
template <class T> inline T load_once(const T* p) { return *p; }
inline u32 pick_bytes(u32 a, u32 b, u32 selector) { return nibble_pick_bytes(a, b, selector); }
inline void keep(u32&) {}

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
// A value that stays in its register: the compiler must not compute it again where it is used.
__device__ inline void keep(u32& value) { asm volatile("" : "+r"(value)); }

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
        first = t & 2 ? 0x5410 : 0x7632;
        second = t & 1 ? 0x6240 : 0x7351;
        last = t == 0 ? 0x5140 : t == 1 ? 0x1504 : t == 2 ? 0x4051 : 0x0415;
        keep(first);
        keep(second);
        keep(last);
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
    // The same as numbers BIAS larger: a code in the last bits of 128 as BF16.
    static const int BIAS = 128;
    __device__ void numbers(int h, int i, int pair, const PairTable&, float* low, float* high) const
    {
        u32 word = q[h].w[i];
        *low = __uint_as_float(((pair < 2 ? word << (16 - 8 * pair) : word >> (8 * pair - 16)) & 0xf0000u) | 0x43000000u);
        *high = __uint_as_float(((pair < 2 ? word << (12 - 8 * pair) : word >> (8 * pair - 12)) & 0xf0000u) | 0x43000000u);
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
    static const int BIAS = 0;
    __device__ void numbers(int h, int i, int at, const PairTable& table, float* low, float* high) const
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
    static const int BIAS = 128;
    __device__ void numbers(int h, int i, int pair, const PairTable&, float* low, float* high) const
    {
        u32 codes = q.w[2 * h + (i >> 1)] >> (16 * (i & 1) + 4 * pair);
        *low = __uint_as_float(((codes & 3) << 16) | 0x43000000u);
        *high = __uint_as_float(((codes & 12) << 14) | 0x43000000u);
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
    static const int BIAS = 0;
    __device__ void numbers(int h, int i, int pair, const PairTable&, float* low, float* high) const
    {
        u32 codes = word(h, i, pair >> 1);
        *low = __uint_as_float(pick_bytes(codes, 0x4b000000u, pair & 1 ? 0x7542 : 0x7540)) - 8388608.0f;
        *high = __uint_as_float(pick_bytes(codes, 0x4b000000u, pair & 1 ? 0x7543 : 0x7541)) - 8388608.0f;
    }
    __device__ u32 pair(int h, int i, int pair, const PairTable& table) const
    {
        float low, high;
        numbers(h, i, pair, table, &low, &high);
        return pack_bf16(low, high);
    }
    __device__ u32 code(int h, int i, int e) const { return (word(h, i, e >> 2) >> (8 * (e & 3))) & 255; }
    __device__ static int of_entry(int, int) { return 0; }
};

// A number of any type, loaded as the aligned word that holds it: the load has no branch, so it can be on its way for long.
struct Stored
{
    u32 word;
    int shift;
    __device__ static int log_size(int type) { return type == NUMBER_F32 ? 2 : type == NUMBER_U8 ? 0 : 1; }
    __device__ void load(u64 address) { word = *place(address); }
    // The aligned word, for those who bring it by other ways.
    __device__ const u32* place(u64 address)
    {
        shift = (int)(address & 3) * 8;
        return (const u32*)(address & ~3ull);
    }
    __device__ u32 byte() const { return (word >> shift) & 255; }
    __device__ float value(int type) const
    {
        if (type == NUMBER_F32) return __uint_as_float(word);
        if (type == NUMBER_U8) return (float)byte();
        return type == NUMBER_F16 ? from_f16((u16)(word >> shift)) : from_bf16((u16)(word >> shift));
    }
};

// A packed format on tensor cores. SMALL: groups of 32 columns; otherwise of a multiple of 64.
template <class F, bool SMALL_GROUPS>
struct PackedTile
{
    typedef LaneCodes<F::CODE_BITS> Codes;
    static const bool SCALED = true, OFFSETS = F::HAS_OFFSETS, SMALL = SMALL_GROUPS;
    static const int PARTS = SMALL ? 2 : 1, TABLE_BYTES = Codes::ENTRIES * 128, CODE_BITS = F::CODE_BITS, UNIT_BYTES = F::Unit::WORDS * 4;
    Codes codes;
    // Of row g + 8·(t & 1) and columns from 64·(t >> 1) on, as they are stored.
    Stored scales[PARTS], offsets[PARTS];
    float nested[PARTS];
    // What to multiply Σ q·x with, and Σ x.
    float scale[PARTS], shift[PARTS];

    // Where a lane's part of 16 rows starts.
    struct Cursor
    {
        const u32* codes;
        u64 scales, offsets;
        u32 group;
        int column, last, shift;

        __device__ void open(const Packed& p, i64 tile, int lane)
        {
            int t = lane & 3;
            i64 row = min(tile * UNIT_ROWS + (lane >> 2) + 8 * (t & 1), p.rows - 1), first = row * p.groups_per_row;
            codes = (const u32*)p.codes + tile * p.tile_words;
            scales = (u64)p.scales + ((u64)first << Stored::log_size(p.nested_map ? (int)NUMBER_U8 : p.scale_type));
            if (OFFSETS && p.offsets) offsets = (u64)p.offsets + ((u64)first << Stored::log_size(p.offset_type));
            group = (u32)first;
            column = 64 * (t >> 1);
            last = (int)p.columns - 1;
            shift = min(p.group_shift, 31);
        }

        __device__ u32 group_of(int unit, int part) const { return (u32)min(unit * UNIT_COLUMNS + column + 32 * part, last) >> shift; }
        __device__ u32 nested_of(const Packed& p, u32 own) const { return p.nested_shift > 0 ? (group + own) >> (p.nested_shift - 1) : (group + own) / (u32)p.nested_size; }
    };

    __device__ void load(const Packed& p, const Cursor& at, int unit, int lane)
    {
        codes.load(at.codes + unit * F::Unit::WORDS, lane);
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            u32 group = at.group_of(unit, part);
            scales[part].load(at.scales + (group << Stored::log_size(p.nested_map ? (int)NUMBER_U8 : p.scale_type)));
            if (p.nested_map) nested[part] = p.nested_scales[at.nested_of(p, group)];
            if (OFFSETS && p.offsets) offsets[part].load(at.offsets + (group << Stored::log_size(p.offset_type)));
        }
    }

    // The same by way of shared memory, where a lane has a word in each of PLANES planes: one thread gives each word's place to `bring`, all read. `groups` are
    // the cursor's groups of a unit. PLAIN: scales and offsets are F32 as they stand, what most weights have.
    static const int PLANES = PARTS * (OFFSETS ? 3 : 2);
    __device__ static bool plain(const Packed& p) { return p.scale_type == NUMBER_F32 && !p.nested_map && !(OFFSETS && p.offsets && p.offset_type != NUMBER_F32); }
    template <bool PLAIN, class BRING>
    __device__ static void places(const Packed& p, const Cursor& at, const u32* groups, BRING bring)
    {
        Stored stored;
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            u64 group = groups[part];
            bring(part, stored.place(at.scales + (group << (PLAIN ? 2 : Stored::log_size(p.nested_map ? (int)NUMBER_U8 : p.scale_type)))));
            if (!PLAIN && p.nested_map) bring(PARTS + part, (const u32*)p.nested_scales + at.nested_of(p, groups[part]));
            if (OFFSETS && p.offsets) bring(2 * PARTS + part, stored.place(at.offsets + (group << (PLAIN ? 2 : Stored::log_size(p.offset_type)))));
        }
    }

    // What was brought as words becomes numbers. `map` is the weight's nested_map or a copy of it.
    template <bool PLAIN>
    __device__ void arrive_words(const Packed& p, const Cursor& at, const u32* groups, const u32* words, const float* map)
    {
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            scales[part].word = words[part];
            if (OFFSETS && p.offsets) offsets[part].word = words[2 * PARTS + part];
            if (PLAIN)
            {
                scale[part] = __uint_as_float(scales[part].word);
                if (!OFFSETS) continue;
                shift[part] = p.offsets ? __uint_as_float(offsets[part].word) : p.offset;
                if (!p.bias_form) shift[part] *= -scale[part];
                continue;
            }

            u64 group = groups[part];
            scales[part].place(at.scales + (group << Stored::log_size(p.nested_map ? (int)NUMBER_U8 : p.scale_type)));
            if (OFFSETS && p.offsets) offsets[part].place(at.offsets + (group << Stored::log_size(p.offset_type)));
            if (p.nested_map) nested[part] = __uint_as_float(words[PARTS + part]);
        }

        if (!PLAIN) arrive(p, map);
    }

    // Turns what was stored into numbers, when it has arrived. `map` is the weight's nested_map or a copy of it.
    __device__ void arrive(const Packed& p) { arrive(p, p.nested_map); }
    __device__ void arrive(const Packed& p, const float* map)
    {
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            scale[part] = p.nested_map ? __fadd_rn(__fmul_rn(map[scales[part].byte()], nested[part]), p.nested_offset) : scales[part].value(p.scale_type);
            if (!OFFSETS) continue;
            shift[part] = p.offsets ? offsets[part].value(p.offset_type) : p.offset;
            if (!p.bias_form) shift[part] *= -scale[part];
        }
    }

    __device__ void fragment(int i, int j, const PairTable& table, u32* a) const
    {
        a[0] = codes.pair(0, i, 2 * j, table);
        a[1] = codes.pair(1, i, 2 * j, table);
        a[2] = codes.pair(0, i, 2 * j + 1, table);
        a[3] = codes.pair(1, i, 2 * j + 1, table);
    }

    // Of row g + 8·h and the columns of i.
    __device__ float scale_at(int i, int h, int lane) const { return __shfl_sync(FULL_WARP, scale[SMALL ? i & 1 : 0], (lane & ~3) + h + 2 * (i >> 1)); }
    __device__ float shift_at(int i, int h, int lane) const { return __shfl_sync(FULL_WARP, shift[SMALL ? i & 1 : 0], (lane & ~3) + h + 2 * (i >> 1)); }

    // A thread makes an entry and writes its 32 copies, each in turn at another place so that no two threads meet in a bank.
    __device__ static void fill_table(const Packed& p, u8* table)
    {
        int entry = threadIdx.x;
        if (entry >= Codes::ENTRIES) return;
        u32 pair = pack_bf16(F::level(p.levels, Codes::of_entry(entry, 0)), F::level(p.levels, Codes::of_entry(entry, 1)));
        Quad copies = {{pair, pair, pair, pair}};
#pragma unroll
        for (int n = 0; n < 8; n++) *(Quad*)(table + entry * 128 + ((n + entry) & 7) * 16) = copies;
    }
};

// A row-major matrix of BF16, whose columns are a multiple of 8.
struct DenseTile
{
    static const bool SCALED = false, OFFSETS = false, SMALL = false;
    static const int TABLE_BYTES = 0;
    Quad q[2][4];

    struct Cursor
    {
        const u16* rows[2];
        int column, columns;

        __device__ void open(const Packed& p, i64 tile, int lane)
        {
#pragma unroll
            for (int h = 0; h < 2; h++) rows[h] = (const u16*)p.codes + min(tile * UNIT_ROWS + (lane >> 2) + 8 * h, p.rows - 1) * p.columns;
            column = 8 * (lane & 3);
            columns = (int)p.columns;
        }
    };

    __device__ void load(const Packed&, const Cursor& at, int unit, int)
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            int column = unit * UNIT_COLUMNS + 32 * i + at.column;
#pragma unroll
            for (int h = 0; h < 2; h++)
            {
                // x is 0 beyond the last column; the weight must only be finite there.
                q[h][i] = load_once((const Quad*)(at.rows[h] + (column < at.columns ? column : 0)));
                if (column >= at.columns) q[h][i].w[0] = q[h][i].w[1] = q[h][i].w[2] = q[h][i].w[3] = 0;
            }
        }
    }

    __device__ void arrive(const Packed&) {}
    __device__ void fragment(int i, int j, const PairTable&, u32* a) const
    {
        a[0] = q[0][i].w[2 * j];
        a[1] = q[1][i].w[2 * j];
        a[2] = q[0][i].w[2 * j + 1];
        a[3] = q[1][i].w[2 * j + 1];
    }

    __device__ float scale_at(int, int, int) const { return 1; }
    __device__ float shift_at(int, int, int) const { return 0; }
    __device__ static void fill_table(const Packed&, u8*) {}
};

#define TENSOR_WARPS 8
#define TENSOR_THREADS 256

#define FEW_AHEAD 3

// Eight columns of x; those beyond the last are 0.
struct EightColumns
{
    float v[8];

    __device__ void load(const float* row, i64 column, i64 columns)
    {
        if (((u64)(row + column) & 15) == 0 && column + 8 <= columns)
        {
            *(float4*)v = *(const float4*)(row + column);
            *(float4*)(v + 4) = *(const float4*)(row + column + 4);
            return;
        }

#pragma unroll
        for (int e = 0; e < 8; e++) v[e] = column + e < columns ? row[column + e] : 0;
    }

    // As a normalized row has them.
    template <class CALL>
    __device__ void normalize(const CALL& call, i64 column, i64 columns, float mean, float factor)
    {
#pragma unroll
        for (int e = 0; e < 8; e++)
        {
            if (column + e >= columns) continue;
            v[e] = (v[e] - mean) * factor * (call.norm_weight ? call.norm_weight[column + e] : 1.0f);
            if (call.norm_bias) v[e] += call.norm_bias[column + e];
        }
    }

    // As BF16, and their sum after rounding.
    __device__ Quad round(float* sum) const
    {
        Quad q;
        *sum = 0;
#pragma unroll
        for (int e = 0; e < 4; e++)
        {
            q.w[e] = pack_bf16(v[2 * e], v[2 * e + 1]);
            *sum += __uint_as_float(q.w[e] << 16) + __uint_as_float(q.w[e] & 0xffff0000u);
        }

        return q;
    }
};

// Adds a unit's products for 8·NT rows of x: x_at(n, i) gives the lane's part of x, sum_at(n, i, c) the sum of x over 32 columns.
template <class T, int NT, class X, class S>
__device__ inline void add_unit(const T& tile, const PairTable& table, int lane, float (*sums)[4], X x_at, S sum_at)
{
    const int span = T::SMALL ? 1 : 2;
    float part[NT][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        if (i % span == 0)
        {
#pragma unroll
            for (int n = 0; n < NT; n++) part[n][0] = part[n][1] = part[n][2] = part[n][3] = 0;
        }

        u32 a[2][4];
        tile.fragment(i, 0, table, a[0]);
        tile.fragment(i, 1, table, a[1]);
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
            Quad b = x_at(n, i);
            float* c = T::SCALED ? part[n] : sums[n];
            multiply_add(c, a[0], b.w[0], b.w[1]);
            multiply_add(c, a[1], b.w[2], b.w[3]);
        }

        if (!T::SCALED || (i + 1) % span != 0) continue;
        float scale0 = tile.scale_at(i, 0, lane), scale1 = tile.scale_at(i, 1, lane);
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++) sums[n][c] = fmaf(c < 2 ? scale0 : scale1, part[n][c], sums[n][c]);
        }

        if (!T::OFFSETS) continue;
        float shift0 = tile.shift_at(i, 0, lane), shift1 = tile.shift_at(i, 1, lane);
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++)
            {
                float of_x = sum_at(n, i, c & 1) + (span == 2 ? sum_at(n, i - 1, c & 1) : 0);
                sums[n][c] = fmaf(c < 2 ? shift0 : shift1, of_x, sums[n][c]);
            }
        }
    }
}

#define FEW_WEIGHTS 3
enum { NORM_NONE = 0, NORM_RMS = 1, NORM_LAYER = 2 };

// A product of few rows; FewCall in C# has the same layout. Up to three weights of one format and width read the same x.
struct FewCall
{
    Packed weights[FEW_WEIGHTS];
    const float* biases[FEW_WEIGHTS];
    float* results[FEW_WEIGHTS];
    i64 strides[FEW_WEIGHTS];        // from one row of a result to the next
    int tiles[FEW_WEIGHTS];          // of 16 features
    int rows;
    const float* x;
    const float* norm_weight;        // x is normalized first
    const float* norm_bias;
    i64 first, count;                // features of the only weight
    int norm;
    float epsilon;
    int add;
    int gated;                       // results[0] = silu(x·W0ᵀ)·(x·W1ᵀ)
};

struct FewPlace { int weight, tile; bool inside; };

// What a block does in its turns: every gridDim.x-th tile of all weights, or that of both gated weights, one after the other.
__device__ inline FewPlace few_place(const FewCall& call, int turn)
{
    FewPlace place;
    if (call.gated)
    {
        place.weight = turn & 1;
        place.tile = blockIdx.x + (turn >> 1) * gridDim.x;
        place.inside = place.tile < call.tiles[0];
        return place;
    }

    place.weight = 0;
    place.tile = blockIdx.x + turn * gridDim.x;
    while (place.weight < FEW_WEIGHTS - 1 && place.tile >= call.tiles[place.weight]) place.tile -= call.tiles[place.weight++];
    place.inside = place.tile < call.tiles[place.weight];
    place.tile += (int)(call.first / UNIT_ROWS);
    return place;
}

// Mean and 1/√(variance + ε) of a row, for all threads of the block.
__device__ inline void few_statistics(const FewCall& call, const float* row, i64 columns, float* scratch, float* mean, float* factor)
{
    auto sum_of = [&](float center, bool squares)
    {
        float sum = 0;
        if (((u64)row & 15) == 0 && (columns & 3) == 0)
        {
#pragma unroll 4
            for (int i = 4 * threadIdx.x; i < (int)columns; i += 4 * TENSOR_THREADS)
            {
                float4 v = *(const float4*)(row + i);
                float a = v.x - center, b = v.y - center, c = v.z - center, d = v.w - center;
                sum += squares ? (a * a + b * b) + (c * c + d * d) : (a + b) + (c + d);
            }
        }
        else
        {
            for (int i = threadIdx.x; i < (int)columns; i += TENSOR_THREADS) sum += squares ? (row[i] - center) * (row[i] - center) : row[i];
        }

        return block_sum(sum, scratch) / columns;
    };
    *mean = call.norm == NORM_LAYER ? sum_of(0, false) : 0;
    *factor = 1.0f / sqrtf(sum_of(*mean, true) + call.epsilon);
}

// y[r, feature] (+)= Σ x[r, k]·W[feature, k] + bias for up to 8 rows. A block takes 16 features at a time and splits the columns over
// its warps; the warps' sums are added in order. x stands in shared memory as BF16. While a warp works on a unit, DEPTH − 1 others are
// on their way, those of the next 16 features included; the first ones before the kernel before this one has ended.
template <class T, int DEPTH>
__device__ inline void few_rows(const FewCall& call)
{
    __shared__ float results[2][TENSOR_WARPS][32][4];
    __shared__ float scratch[TENSOR_WARPS];
    NIBBLE_SHARED(u8, shared);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, rows = call.rows;
    i64 columns = call.weights[0].columns;
    int units = (int)((columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS);
    // 64 bytes more than whole lines: eight lanes of 16 bytes then meet in no bank.
    int row_bytes = units * UNIT_COLUMNS * 2 + 64;
    u8* table = shared;
    u8* inputs = shared + T::TABLE_BYTES;
    float* input_sums = (float*)(inputs + rows * row_bytes);
    int steps = (((units + TENSOR_WARPS - 1) / TENSOR_WARPS) + DEPTH - 1) / DEPTH * DEPTH;

    T ahead[DEPTH];
    FewPlace next = few_place(call, 0);
    typename T::Cursor cursor;
    if (next.inside) cursor.open(call.weights[next.weight], next.tile, lane);
    int next_turn = 0, next_unit = warp;
    auto load = [&](T& slot)
    {
        if (next.inside && next_unit < units) slot.load(call.weights[next.weight], cursor, next_unit, lane);
        next_unit += TENSOR_WARPS;
        if (next_unit >= steps * TENSOR_WARPS)
        {
            next_unit = warp;
            next = few_place(call, ++next_turn);
            if (next.inside) cursor.open(call.weights[next.weight], next.tile, lane);
        }
    };
    allow_next();
#pragma unroll
    for (int d = 0; d < DEPTH; d++) load(ahead[d]);

    T::fill_table(call.weights[0], table);
    await_previous();
    int pieces = units * (UNIT_COLUMNS / 8);
    float mean = 0, factor = 1;
    for (int row = 0; row < rows; row++)
    {
        const float* x = call.x + row * columns;
        if (call.norm != NORM_NONE) few_statistics(call, x, columns, scratch, &mean, &factor);
        for (int start = 0; start < pieces; start += FEW_AHEAD * TENSOR_THREADS)
        {
            int base = start + threadIdx.x;
            // Reads first, so that they wait together.
            EightColumns read[FEW_AHEAD];
#pragma unroll
            for (int k = 0; k < FEW_AHEAD; k++) read[k].load(x, (i64)min(base + k * TENSOR_THREADS, pieces - 1) * 8, columns);

#pragma unroll
            for (int k = 0; k < FEW_AHEAD; k++)
            {
                int piece = base + k * TENSOR_THREADS;
                if (call.norm != NORM_NONE) read[k].normalize(call, (i64)min(piece, pieces - 1) * 8, columns, mean, factor);
                float sum;
                Quad rounded = read[k].round(&sum);
                if (T::OFFSETS)
                {
                    // Pieces come in multiples of 16: four lanes of the same 32 columns go together.
                    sum += __shfl_xor_sync(FULL_WARP, sum, 1);
                    sum += __shfl_xor_sync(FULL_WARP, sum, 2);
                }

                if (piece >= pieces) continue;
                *(Quad*)(inputs + row * row_bytes + piece * 16) = rounded;
                if (T::OFFSETS && (piece & 3) == 0) input_sums[(piece >> 2) * 8 + row] = sum;
            }
        }
    }

    __syncthreads();
    PairTable pairs(table);
    // What stands in the columns of an absent row of x reaches no result.
    const u8* own_input = inputs + min(g, rows - 1) * row_bytes + 16 * t;
    float held = 0;
    FewPlace own = few_place(call, 0);
    for (int turn = 0; own.inside; own = few_place(call, ++turn))
    {
        const Packed& p = call.weights[own.weight];
        float sums[1][4] = {{0, 0, 0, 0}};
        for (int step = 0; step < steps; step += DEPTH)
        {
#pragma unroll
            for (int d = 0; d < DEPTH; d++)
            {
                int unit = (step + d) * TENSOR_WARPS + warp;
                if (unit < units)
                {
                    ahead[d].arrive(p);
                    add_unit<T, 1>(
                        ahead[d], pairs, lane, sums,
                        [&](int, int i) { return *(const Quad*)(own_input + unit * (UNIT_COLUMNS * 2) + 64 * i); },
                        [&](int, int i, int c) { return input_sums[(unit * 4 + i) * 8 + 2 * t + c]; });
                }

                load(ahead[d]);
            }
        }

        int half = turn & 1;
#pragma unroll
        for (int c = 0; c < 4; c++) results[half][warp][lane][c] = sums[0][c];
        __syncthreads();
        int place = threadIdx.x >> 2, c = threadIdx.x & 3, n = 2 * (place & 3) + (c & 1);
        i64 feature = (i64)own.tile * UNIT_ROWS + (place >> 2) + 8 * (c >> 1);
        i64 begin = call.first, end = call.count > 0 ? begin + call.count : p.rows;
        if (threadIdx.x < 128 && n < rows && feature >= begin && feature < end)
        {
            const float* bias = call.biases[own.weight];
            float sum = 0;
#pragma unroll
            for (int w = 0; w < TENSOR_WARPS; w++) sum += results[half][w][place][c];
            sum += bias ? bias[feature] : 0;
            if (call.gated && own.weight == 0)
            {
                held = sum;
                continue;
            }

            float* out = call.results[call.gated ? 0 : own.weight] + n * call.strides[own.weight] + feature - begin;
            if (call.gated) sum *= held / (1.0f + expf(-held));
            *out = (call.add ? *out : 0) + sum;
        }
    }
}

#define MANY_STAGES 3
#define MANY_STRIDE 320

// Rows of x as BF16, with zeros up to `padded` rows and whole units: [padded, units·128]; and sums of 32 columns: [units·4, padded].
__device__ inline void half_rows(const float* x, i64 columns, int rows, int padded, u16* half, float* sums)
{
    int pieces = (int)((columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS) * (UNIT_COLUMNS / 8);
    i64 count = (i64)padded * pieces;
    allow_next();
    await_previous();
    for (i64 start = (i64)blockIdx.x * blockDim.x; start < count; start += (i64)gridDim.x * blockDim.x)
    {
        i64 n = min(start + threadIdx.x, count - 1);
        int row = (int)(n / pieces), piece = (int)(n % pieces);
        float sum = 0;
        Quad q = {{0, 0, 0, 0}};
        if (row < rows)
        {
            EightColumns eight;
            eight.load(x + row * columns, (i64)piece * 8, columns);
            q = eight.round(&sum);
        }

        // Pieces come in multiples of 16: four lanes of the same 32 columns go together.
        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        if (start + threadIdx.x >= count) continue;
        ((Quad*)half)[n] = q;
        if ((piece & 3) == 0) sums[(i64)(piece >> 2) * padded + row] = sum;
    }
}

// What the parts of a block's columns came to, in their order; all numbers of a part are on their way at once.
template <int NT, class N>
__device__ inline void add_parts(N (*sums)[4], const N* first)
{
#pragma unroll
    for (int n = 0; n < NT; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;
    for (int part = 0; part < (int)gridDim.y; part++)
    {
        N values[NT][4];
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++) values[n][c] = first[(((i64)part * NT + n) * 4 + c) * TENSOR_THREADS];
        }

#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++) sums[n][c] += values[n][c];
        }
    }
}

// Leaves a part of a block's columns in `parts` [block, part, n, c, thread]. True in the last block to end, whose sums are then those of all parts.
template <int NT, class N>
__device__ inline bool last_part(N (*sums)[4], N* parts, u32* counters)
{
    __shared__ u32 arrived;
    N* mine = parts + (i64)blockIdx.x * gridDim.y * NT * 4 * TENSOR_THREADS + threadIdx.x;
#pragma unroll
    for (int n = 0; n < NT; n++)
    {
#pragma unroll
        for (int c = 0; c < 4; c++) mine[(((i64)blockIdx.y * NT + n) * 4 + c) * TENSOR_THREADS] = sums[n][c];
    }

    fence();
    __syncthreads();
    if (threadIdx.x == 0) arrived = atomicAdd(counters + blockIdx.x, 1u);
    __syncthreads();
    if (arrived != gridDim.y - 1) return false;
    fence();
    if (threadIdx.x == 0) counters[blockIdx.x] = 0;
    add_parts<NT>(sums, mine);
    return true;
}

// The same for 8·NT rows of x, which `half_rows` has made. A block takes 128 features, a warp 16 of them, and the part blockIdx.y of the
// columns; x comes by asynchronous copies, MANY_STAGES units ahead. The last block of a part to end adds the parts up, in order.
template <class T, int NT>
__device__ inline void many_rows(
    const Packed& p, const u16* x, const float* x_sums, int rows, const float* bias, float* y, i64 y_stride, i64 first, i64 count, int add,
    float* parts, u32* counters)
{
    const int padded = 8 * NT;
    NIBBLE_SHARED(u8, shared);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tiles = (p.rows + UNIT_ROWS - 1) / UNIT_ROWS;
    i64 own = first / UNIT_ROWS + (i64)blockIdx.x * TENSOR_WARPS + warp, tile = min(own, tiles - 1);
    int from = (int)(units * blockIdx.y / gridDim.y), to = (int)(units * (blockIdx.y + 1) / gridDim.y);
    u8* table = shared;
    u8* stages = shared + T::TABLE_BYTES;
    auto fetch = [&](int unit)
    {
        u8* stage = stages + (unit - from) % MANY_STAGES * (padded * MANY_STRIDE);
        for (int n = threadIdx.x; unit < to && n < padded * 16; n += TENSOR_THREADS)
        {
            copy_async(stage + (n >> 4) * MANY_STRIDE + (n & 15) * 16, x + (n >> 4) * units * UNIT_COLUMNS + (i64)unit * UNIT_COLUMNS + (n & 15) * 8);
        }

        copies_commit();
    };
    allow_next();
    T ahead[2];
    typename T::Cursor cursor;
    cursor.open(p, tile, lane);
    if (from < to) ahead[0].load(p, cursor, from, lane);
    if (from + 1 < to) ahead[1].load(p, cursor, from + 1, lane);
    T::fill_table(p, table);
    PairTable pairs(table);
    await_previous();
    fetch(from);
    fetch(from + 1);
    float sums[NT][4];
#pragma unroll
    for (int n = 0; n < NT; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;

    for (int base = from; base < to; base += 2)
    {
#pragma unroll
        for (int d = 0; d < 2; d++)
        {
            int unit = base + d;
            if (unit >= to) continue;
            copies_wait<MANY_STAGES - 2>();
            __syncthreads();
            fetch(unit + 2);
            ahead[d].arrive(p);
            const u8* stage = stages + (unit - from) % MANY_STAGES * (padded * MANY_STRIDE);
            add_unit<T, NT>(
                ahead[d], pairs, lane, sums,
                [&](int n, int i) { return *(const Quad*)(stage + (8 * n + g) * MANY_STRIDE + 64 * i + 16 * t); },
                [&](int n, int i, int c) { return x_sums[((i64)unit * 4 + i) * padded + 8 * n + 2 * t + c]; });
            if (unit + 2 < to) ahead[d].load(p, cursor, unit + 2, lane);
        }
    }

    copies_wait<0>();
    // All are read before one is written: a store would make the next load wait.
    auto write = [&]()
    {
#pragma unroll
        for (int pass = 0; pass < 2; pass++)
        {
#pragma unroll
            for (int n = 0; n < NT; n++)
            {
#pragma unroll
                for (int c = 0; c < 4; c++)
                {
                    i64 feature = own * UNIT_ROWS + g + 8 * (c >> 1);
                    int row = 8 * n + 2 * t + (c & 1);
                    if (row >= rows || feature < first || feature >= first + count) continue;
                    float* out = y + row * y_stride + feature - first;
                    if (pass == 1) *out = sums[n][c];
                    else sums[n][c] = (add ? *out : 0) + sums[n][c] + (bias ? bias[feature] : 0);
                }
            }
        }
    };
    if (gridDim.y == 1)
    {
        write();
        return;
    }

    if (last_part<NT>(sums, parts, counters)) write();
}

// Rows of a weight as a row-major matrix of BF16, `columns` a multiple of 8: a warp writes a unit, each value rounded once.
template <class T, class F>
__device__ inline void expand_rows(const Packed& p, i64 first, i64 count, u16* matrix)
{
    __shared__ float levels[16];
    if (p.levels && threadIdx.x < 16) levels[threadIdx.x] = p.levels[threadIdx.x];
    __syncthreads();
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, t = lane & 3;
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tile = first / UNIT_ROWS + blockIdx.x;
    typename T::Cursor cursor;
    cursor.open(p, tile, lane);
    for (i64 unit = (i64)blockIdx.y * TENSOR_WARPS + warp; unit < units; unit += (i64)gridDim.y * TENSOR_WARPS)
    {
        T part;
        part.load(p, cursor, (int)unit, lane);
        part.arrive(p);
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            i64 row = tile * UNIT_ROWS + (lane >> 2) + 8 * h;
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                i64 column = unit * UNIT_COLUMNS + 32 * i + 8 * t;
                float scale = part.scale_at(i, h, lane), shift = T::OFFSETS ? part.shift_at(i, h, lane) : 0, v[8];
                if (row < first || row >= first + count || column >= p.columns) continue;
                Quad pairs;
#pragma unroll
                for (int e = 0; e < 8; e++) v[e] = fmaf(F::level(levels, part.codes.code(h, i, e)), scale, shift);
#pragma unroll
                for (int e = 0; e < 4; e++) pairs.w[e] = pack_bf16(v[2 * e], v[2 * e + 1]);
                *(Quad*)(matrix + (row - first) * p.columns + column) = pairs;
            }
        }
    }
}

// Two blocks share a multiprocessor.
#define TENSOR_MANY(name, tile, suffix, nt) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 2) nibble_many_##name##suffix##_##nt( \
        Packed p, const u16* x, const float* x_sums, int rows, const float* bias, float* y, i64 y_stride, i64 first, i64 count, int add, \
        float* parts, u32* counters) \
    { many_rows<tile, nt>(p, x, x_sums, rows, bias, y, y_stride, first, count, add, parts, counters); }

#define TENSOR_FEW(name, tile, suffix, depth) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 2) nibble_few_##name##suffix(FewCall call) { few_rows<tile, depth>(call); }

// The same with three blocks on a multiprocessor, where their memory has room.
#define TENSOR_FEW3(name, tile, depth) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 3) nibble_few3_##name(FewCall call) { few_rows<tile, depth>(call); }

#define TENSOR_ROWS(name, tile, suffix, depth) \
    TENSOR_FEW(name, tile, suffix, depth) \
    TENSOR_MANY(name, tile, suffix, 2) \
    TENSOR_MANY(name, tile, suffix, 4) \
    TENSOR_MANY(name, tile, suffix, 8)

#define TENSOR_FORMAT(name, format, suffix, small, depth) \
    typedef PackedTile<format, small> tile_##name##suffix; \
    TENSOR_ROWS(name, tile_##name##suffix, suffix, depth) \
    KERNEL(expand_##name##suffix)(Packed p, i64 first, i64 count, u16* matrix) \
    { expand_rows<tile_##name##suffix, format>(p, first, count, matrix); }

#define TENSOR_PACKED(name, format, depth) \
    TENSOR_FORMAT(name, format, , false, depth) \
    TENSOR_FORMAT(name, format, _small, true, 2)
