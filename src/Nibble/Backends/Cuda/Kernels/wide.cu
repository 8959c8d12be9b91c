// Rows of x for the products of wide.cuh.
#include "wide.cuh"

// Rows of x as stages of BF16: [row tile, half unit, n, 64], zeros beyond the rows and columns. Four lanes share 32 columns; lane t reads the
// eight from 8·t on, whose pairs go to four pieces.
__device__ inline void wide_rows_of(const void* x, int type, i64 columns, int rows, int n, u8* stages)
{
    i64 halves = (columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS * 2, count = (i64)((rows + n - 1) / n) * halves * n * 8;
    allow_next();
    await_previous();
    GRID_STRIDE(at, count)
    {
        // A warp has four rows of a stage (n is a multiple of 8), so that no lane of it is missing.
        int eight = (int)at & 7, stage_row = (int)(at >> 3), within = stage_row % n, tile_half = stage_row / n;
        int t = eight & 3, row = tile_half / (int)halves * n + within;
        i64 column = (i64)(tile_half % (int)halves) * 64 + 8 * eight;
        Quad pairs = {{0, 0, 0, 0}};
        if (row < rows && type == NUMBER_BF16)
        {
            const u16* from = (const u16*)x + row * columns + column;
            if (((u64)from & 15) == 0 && column + 8 <= columns) pairs = *(const Quad*)from;
            else
            {
#pragma unroll
                for (int e = 0; e < 8; e++) pairs.w[e >> 1] |= column + e < columns ? (u32)from[e] << (16 * (e & 1)) : 0;
            }
        }
        else if (row < rows)
        {
            EightColumns read;
            read.load((const float*)x + row * columns, column, columns);
            float sum;
            pairs = read.round(&sum);
        }

        // Pair p stands in piece p of the 32 columns, at word t: the four lanes turn their words as a matrix.
        auto turn = [&](u32& first, u32& second, bool later, int mask)
        {
            u32 other = __shfl_xor_sync(FULL_WARP, later ? first : second, mask);
            first = later ? other : first;
            second = later ? second : other;
        };
        turn(pairs.w[0], pairs.w[1], t & 1, 1);
        turn(pairs.w[2], pairs.w[3], t & 1, 1);
        turn(pairs.w[0], pairs.w[2], t & 2, 2);
        turn(pairs.w[1], pairs.w[3], t & 2, 2);
        *(Quad*)(stages + (at - eight) * 16 + (eight ^ (within & 7)) * 16) = pairs;
    }
}

KERNEL(wide_rows)(const void* x, int type, i64 columns, int rows, int n, u8* stages) { wide_rows_of(x, type, columns, rows, n, stages); }
