// How packed weights become A of wgmma for the products of wide.cuh.
#pragma once
#include "wide_end.cuh"

// The pairs of levels that bytes of a codebook's codes stand for, as a lane sees them. An entry has 256 bytes, with a copy of the pair for each lane, so
// that no two lanes meet in a bank; the table begins at a multiple of its size: then bytes make an address in one step. What comes before that place
// has LEVELS_BEFORE bytes at least: the card itself takes 1 KiB, a kernel's own variables a little more.
#define LEVEL_TABLE (1 << 16)
#define LEVELS_BEFORE (60 << 10)

#ifdef NIBBLE_HOST
inline int levels_offset(const void*) { return LEVELS_BEFORE; }
struct LevelTable
{
    const u8* own;
    LevelTable(const u8* table) : own(table + 4 * (threadIdx.x & 31)) {}
    u32 pair(u32 codes, int pair) const { return *(const u32*)(own + 256 * (codes >> (8 * pair) & 255)); }
};
#else
__device__ inline int levels_offset(const void* shared) { return (int)((0 - shared_address(shared)) & (LEVEL_TABLE - 1)); }
struct LevelTable
{
    u32 own;
    __device__ LevelTable(const u8* table) : own(shared_address(table) + 4 * (threadIdx.x & 31)) {}
    __device__ u32 pair(u32 codes, int pair) const
    {
        u32 levels;
        asm("ld.shared.u32 %0, [%1];" : "=r"(levels) : "r"(pick_bytes(codes, own, 0x7604 | pair << 4)));
        return levels;
    }
};
#endif

__device__ inline void fill_levels(const float* levels, u8* table)
{
    int entry = threadIdx.x;
    if (entry >= 256) return;
    u32 pair = pack_bf16(levels[entry & 15], levels[entry >> 4]);
    Quad copies = {{pair, pair, pair, pair}};
#pragma unroll
    for (int n = 0; n < 8; n++) *(Quad*)(table + entry * 256 + ((n + entry) & 7) * 16) = copies;
}

// A packed format for wide_product. Whoever fetches a weight prepares it for those who multiply: while tensor cores work, other instructions are slow, and
// what is prepared leaves few of them. Half a unit becomes A of four steps in two parts: `begin` asks shared memory, `finish` makes numbers of its answers.
template <class T>
struct WideFloats
{
    typedef float Sum;
    typedef typename T::Cursor Cursor;
    // Levels of a codebook are BF16: for their product with a scale, two numbers of BF16 stand for it.
    static const bool LEVELS = !T::OFFSETS, LOOKS_UP = LEVELS || T::CODE_BITS == 3;
    static const int HALVES = 2, PARTS = T::PARTS, PLANES = T::PLANES, UNIT_BYTES = T::UNIT_BYTES, TABLE_BYTES = LEVELS ? LEVEL_TABLE : LOOKS_UP ? T::TABLE_BYTES : 0, END_BYTES = TURNED_BYTES;
    typename T::Codes codes;
    u32 found[2][2][4];
    // Of each group of a half (PARTS), for rows g and g + 8: two numbers each, a scale's two parts or scale and offset.
    Quad scales[PARTS];

    __device__ static void fill_table(const Packed& p, u8* table)
    {
        if (LEVELS) fill_levels(p.levels, table);
        else if (LOOKS_UP) T::fill_table(p, table);
    }

    __device__ static bool plain(const Packed& p) { return T::plain(p); }
    template <bool PLAIN, class BRING>
    __device__ static void places(const Packed& p, const Cursor& at, const u32* groups, BRING bring) { T::template places<PLAIN>(p, at, groups, bring); }

    // What `begin` takes of a unit's scales, [half, part, g, h]: a thread makes of each what was fetched for it as words, planes of 32.
    template <bool PLAIN>
    __device__ static void prepare(const Packed& p, const Cursor& at, const u32* groups, const u32* words, const float* map, Couple* made)
    {
        T tile;
        u32 stored[PLANES];
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            stored[part] = words[32 * part];
            if (!PLAIN && p.nested_map) stored[PARTS + part] = words[32 * (PARTS + part)];
            if (T::OFFSETS && p.offsets) stored[2 * PARTS + part] = words[32 * (2 * PARTS + part)];
        }

        tile.template arrive_words<PLAIN>(p, at, groups, stored, map);
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            float scale = tile.scale[part];
            u32 both = split_bf16(scale);
            if (LEVELS) made[part] = {{pick_bytes(both, 0, 0x1010), pick_bytes(both, 0, 0x3232)}};
            else made[part] = {{__float_as_uint(scale), __float_as_uint(fmaf(-(float)T::Codes::BIAS, scale, tile.shift[part]))}};
        }
    }

    // Where a lane's number stands in what `prepare` makes.
    __device__ static int prepared_at(int lane, int part) { return (((lane >> 1 & 1) * PARTS + part) * 8 + (lane >> 2)) * 16 + 8 * (lane & 1); }

    __device__ void load(const u32* own_codes, int lane) { codes.template load<true>(own_codes, lane); }

    __device__ void begin(const PairTable& table, const LevelTable& levels, const LaneTurn& turn, bool turned, int half, int lane, const u32* words)
    {
        if (half == 0 && turned) codes.turn(turn);
#pragma unroll
        for (int n = 0; n < 2 && LOOKS_UP; n++)
        {
#pragma unroll
            for (int j = 0; j < 2; j++)
            {
#pragma unroll
                for (int w = 0; w < 4; w++)
                {
                    int h = w & 1, i = 2 * half + n, pair = 2 * j + (w >> 1);
                    found[n][j][w] = LEVELS ? levels.pair(codes.eight(h, i), pair) : codes.pair(h, i, pair, table);
                }
            }
        }

#pragma unroll
        for (int part = 0; part < PARTS; part++) scales[part] = *(const Quad*)(words + ((half * PARTS + part) * 8 + (lane >> 2)) * 4);
    }

    __device__ void finish(const PairTable& table, int half, u32 (*a)[4]) const
    {
#pragma unroll
        for (int n = 0; n < 2; n++)
        {
#pragma unroll
            for (int j = 0; j < 2; j++)
            {
#pragma unroll
                for (int w = 0; w < 4; w++)
                {
                    int h = w & 1, part = PARTS == 2 ? n : 0;
                    u32 pair = found[n][j][w], one = scales[part].w[2 * h], two = scales[part].w[2 * h + 1];
                    if (LEVELS)
                    {
                        a[2 * n + j][w] = multiply_add_bf16(pair, one, multiply_bf16(pair, two));
                        continue;
                    }

                    float first = __uint_as_float(pair << 16), second = __uint_as_float(pair & 0xffff0000u), scale = __uint_as_float(one), shift = __uint_as_float(two);
                    if (!LOOKS_UP) codes.numbers(h, 2 * half + n, 2 * j + (w >> 1), table, &first, &second);
                    a[2 * n + j][w] = pack_bf16(fmaf(first, scale, shift), fmaf(second, scale, shift));
                }
            }
        }
    }
};
