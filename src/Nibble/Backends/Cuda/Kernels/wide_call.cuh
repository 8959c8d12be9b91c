// A product by warpgroups as a call, and what its blocks do in their turns.
#pragma once
#include "packed.cuh"

// WideCall in C# has the same layout.
struct WideCall
{
    Packed weight;
    const u8* x;                 // stages [row tile, half unit]
    const float* bias;
    void* y;
    i64 stride;                  // from one row of y to the next
    i64 first, count;            // features
    float* parts;
    u32* counters;
    int rows, row_tiles;
    int tiles;
    int whole, splits;           // tiles whose columns stay together come first; those of the others are split
    int type;                    // of y
    int add;
    int plain;                   // x is a matrix of BF16 as it stands; `x` is not used
    int lead;                    // units that the last part of a tile's columns has more than the others
};

struct WideItem { int tile, row_tile, feature_tile, split, from, to; };

// What a block does in its turns, and where its warps find it.
struct WidePlan
{
    int units, items;
    i64 tiles;

    __device__ WidePlan(const WideCall& call)
    {
        units = (int)((call.weight.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS);
        items = call.whole + (call.tiles - call.whole) * call.splits;
        tiles = (call.weight.rows + UNIT_ROWS - 1) / UNIT_ROWS;
    }

    __device__ WideItem item(const WideCall& call, int n) const
    {
        int rest = n - call.whole, tile = rest < 0 ? n : call.whole + rest / call.splits, splits = rest < 0 ? 1 : call.splits, split = rest < 0 ? 0 : rest % call.splits;
        // Who has the last part adds all of them up: it is longer by what the others take to write theirs.
        int even = splits > 1 ? units - call.lead : units, to = split + 1 == splits ? units : even * (split + 1) / splits;
        return {tile, tile % call.row_tiles, tile / call.row_tiles, split, even * split / splits, to};
    }

    __device__ i64 tile(const WideCall& call, const WideItem& item, int warps, int warp) const
    {
        return min(call.first / UNIT_ROWS + (i64)item.feature_tile * warps + warp, tiles - 1);
    }
};
