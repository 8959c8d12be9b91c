// How products by warpgroups turn codes into A: a table of levels for codebooks, and what a lane does with half a unit.
#pragma once
#include "tensor.cuh"
#include "wgmma.cuh"

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

// What a warpgroup's sums pass through on their way to y: TURNED_ROWS rows of x by 64 features, twice. The stride keeps lanes out of each other's banks.
#define TURNED_ROWS 16
#define TURNED_STRIDE 68
#define TURNED_FLOATS (TURNED_ROWS * TURNED_STRIDE)
#define TURNED_BYTES 9216

// A packed format for wide_product: half a unit becomes A of four steps. What has to wait for memory (`load`, `begin`) is apart from what makes numbers
// of it (`finish`), so that a multiplication can be queued between them. While tensor cores work, other instructions are slow: their number is what
// decoding takes.
template <class T>
struct WideFloats
{
    typedef float Sum;
    typedef typename T::Cursor Cursor;
    // Levels of a codebook are BF16: for their product with a scale, two numbers of BF16 stand for it.
    static const bool LEVELS = !T::OFFSETS, LOOKS_UP = LEVELS || T::CODE_BITS == 3;
    // Codes of 8 bits fill so many registers that tiles of 256 rows want them before the multiplication is queued.
    static const bool LOADS_LATE = T::CODE_BITS < 8;
    static const int HALVES = 2, PARTS = T::PARTS, PLANES = T::PLANES, UNIT_BYTES = T::UNIT_BYTES, TABLE_BYTES = LEVELS ? LEVEL_TABLE : LOOKS_UP ? T::TABLE_BYTES : 0, END_BYTES = TURNED_BYTES;
    T tile;
    bool whole;
    // T::Codes::ABOVE in a register: as a constant it would take the place of those that pick bytes, which then come from registers, each time anew.
    u32 above;
    // Of each group of a half (PARTS) and each of a lane's two rows.
    u32 words[PLANES], own[PARTS], high[PARTS][2], low[PARTS][2], found[2][2][4];
    float scale[PARTS][2], shift[PARTS][2];

    __device__ static void fill_table(const Packed& p, u8* table)
    {
        if (LEVELS) fill_levels(p.levels, table);
        else if (LOOKS_UP) T::fill_table(p, table);
    }

    __device__ WideFloats(const Packed& p) : whole(T::whole_words(p)), above((u32)(T::Codes::ABOVE + min(p.group_size, 0))) {}

    template <class BRING>
    __device__ static void places(const Packed& p, const Cursor& at, int unit, BRING bring) { T::places(p, at, unit, bring); }

    template <class READ>
    __device__ void load(const Packed& p, int lane, const u32* codes, READ read)
    {
        tile.codes.template load<true>(codes, lane);
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            words[part] = read(part);
            if (!whole && p.nested_map) words[PARTS + part] = read(PARTS + part);
            if (T::OFFSETS && p.offsets) words[2 * PARTS + part] = read(2 * PARTS + part);
        }
    }

    // Scales of a half, and what its codes have in the table. With the first half a unit's scales become numbers.
    __device__ void begin(const Packed& p, const Cursor& at, int unit, const PairTable& table, const LevelTable& levels, const LaneTurn& turn, bool plain, int half, int lane, const float* map)
    {
        if (half == 0) tile.arrive_words(p, at, unit, words, map, whole);
        if (half == 0 && plain) tile.codes.turn(turn);
#pragma unroll
        for (int part = 0; part < PARTS && half == 0 && LEVELS; part++) own[part] = split_bf16(tile.scale[part]);
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
                    found[n][j][w] = LEVELS ? levels.pair(tile.codes.eight(h, i), pair) : tile.codes.pair(h, i, pair, table);
                }
            }
        }

#pragma unroll
        for (int own_part = 0; own_part < 2 * PARTS; own_part++)
        {
            int h = own_part & 1, part = own_part >> 1;
            if (LEVELS)
            {
                u32 both = __shfl_sync(FULL_WARP, own[part], (lane & ~3) + h + 2 * half);
                high[part][h] = pick_bytes(both, 0, 0x1010);
                low[part][h] = pick_bytes(both, 0, 0x3232);
                continue;
            }

            scale[part][h] = tile.scale_at(2 * half + part, h, lane);
            shift[part][h] = tile.shift_at(2 * half + part, h, lane);
            if (T::Codes::BIAS != 0) shift[part][h] = fmaf(-(float)T::Codes::BIAS, scale[part][h], shift[part][h]);
        }
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
                    u32 pair = found[n][j][w];
                    if (LEVELS)
                    {
                        a[2 * n + j][w] = multiply_add_bf16(pair, high[part][h], multiply_bf16(pair, low[part][h]));
                        continue;
                    }

                    float first = __uint_as_float(pair << 16), second = __uint_as_float(pair & 0xffff0000u);
                    if (!LOOKS_UP) tile.codes.numbers(h, 2 * half + n, 2 * j + (w >> 1), table, above, &first, &second);
                    a[2 * n + j][w] = pack_bf16(fmaf(first, scale[part][h], shift[part][h]), fmaf(second, scale[part][h], shift[part][h]));
                }
            }
        }
    }
};
