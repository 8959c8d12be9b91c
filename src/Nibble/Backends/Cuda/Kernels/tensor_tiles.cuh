// Weights as the fragments A of mma.m16n8k16, unit by unit: packed ones with their scales and offsets, and matrices of BF16.
#pragma once
#include "tensor_codes.cuh"

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

    // The same by way of shared memory, where a lane has a word in each of PLANES planes: one thread gives each word's place to `bring`, all read.
    static const int PLANES = PARTS * (OFFSETS ? 3 : 2);
    template <class BRING>
    __device__ static void places(const Packed& p, const Cursor& at, int unit, BRING bring)
    {
        Stored stored;
#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            u32 group = at.group_of(unit, part);
            bring(part, stored.place(at.scales + (group << Stored::log_size(p.nested_map ? (int)NUMBER_U8 : p.scale_type))));
            if (p.nested_map) bring(PARTS + part, (const u32*)p.nested_scales + at.nested_of(p, group));
            if (OFFSETS && p.offsets) bring(2 * PARTS + part, stored.place(at.offsets + (group << Stored::log_size(p.offset_type))));
        }
    }

    // What most weights have, of which each word is a number.
    __device__ static bool whole_words(const Packed& p)
    {
        return p.scale_type == NUMBER_F32 && !p.nested_map && !(OFFSETS && p.offsets && p.offset_type != NUMBER_F32);
    }

    // What was brought as words becomes numbers. `map` is the weight's nested_map or a copy of it.
    __device__ void arrive_words(const Packed& p, const Cursor& at, int unit, const u32* words, const float* map, bool whole)
    {
        if (whole)
        {
#pragma unroll
            for (int part = 0; part < PARTS; part++)
            {
                scale[part] = __uint_as_float(words[part]);
                if (OFFSETS) shift[part] = (p.offsets ? __uint_as_float(words[2 * PARTS + part]) : p.offset) * (p.bias_form ? 1 : -scale[part]);
            }

            return;
        }

#pragma unroll
        for (int part = 0; part < PARTS; part++)
        {
            scales[part].word = words[part];
            if (p.nested_map) nested[part] = __uint_as_float(words[PARTS + part]);
            if (OFFSETS && p.offsets) offsets[part].word = words[2 * PARTS + part];
            u32 group = at.group_of(unit, part);
            scales[part].place(at.scales + (group << Stored::log_size(p.nested_map ? (int)NUMBER_U8 : p.scale_type)));
            if (OFFSETS && p.offsets) offsets[part].place(at.offsets + (group << Stored::log_size(p.offset_type)));
        }

        arrive(p, map);
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
