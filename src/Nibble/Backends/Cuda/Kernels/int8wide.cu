// Products of many rows with 8-bit weights, one scale a row, and x on the grid of 8-bit integers: the frame of wide.cuh with sums of integers,
// which are exact, and the end of int8tensor.cu in registers.
#include "int8.cuh"
#include "wide.cuh"

// Outlier columns whose x is gathered for all tiles.
#define KEPT_OUTLIERS 32

// x in outlier columns, [outlier, padded rows].
KERNEL(int8_kept)(const float* x, i64 columns, int rows, int padded, const int* outliers, float* kept)
{
    allow_next();
    await_previous();
    int count = min(outliers[0], KEPT_OUTLIERS);
    GRID_STRIDE(at, (i64)count * padded)
    {
        int row = (int)(at % padded);
        kept[at] = row < rows ? x[row * columns + outliers[1 + at / padded]] : 0;
    }
}

// Codes of 8 bits are A as they stand: a unit is four steps of 32 columns.
struct WideIntegers
{
    typedef int Sum;
    static const int HALVES = 1, PLANES = 0, UNIT_BYTES = UnitOf<8>::WORDS * 4, TABLE_BYTES = 0;
    struct Cursor
    {
        __device__ void open(const Packed&, i64, int) {}
    };
    LaneCodes<8> codes;

    __device__ static void fill_table(const Packed&, u8*) {}
    template <class BRING>
    __device__ static void places(const Packed&, const Cursor&, int, BRING) {}
    template <class READ>
    __device__ void load(const Packed&, const Cursor&, int, int lane, const u32* unit, const float*, READ) { codes.load<true>(unit, lane); }
    __device__ void decode(const PairTable&, int, int, u32 (*a)[4]) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
#pragma unroll
            for (int j = 0; j < 4; j++) a[i][j] = codes.word(j & 1, i, j >> 1) ^ 0x80808080u;
        }
    }
};

template <int N>
__device__ inline void wide_end_int8(const WideCall& call, const Int8End& end, const float* kept, int padded, const int* sums, i64 f, int r, u8* turned)
{
    const Packed& p = call.weight;
    float values[N / 2], zero[2], scale[2];
#pragma unroll
    for (int h = 0; h < 2; h++)
    {
        i64 feature = min(f + 8 * h, p.rows - 1);
        zero[h] = zero_of(p, feature);
        scale[h] = read_number(p.scales, p.scale_type, feature);
    }

    // absmax and sums have room for whole tiles.
#pragma unroll
    for (int n = 0; n < N / 8; n++)
    {
        Couple largest = *(const Couple*)(end.absmax + r + 8 * n), of_codes = *(const Couple*)(end.sums + r + 8 * n);
#pragma unroll
        for (int c = 0; c < 2; c++)
        {
            float of_row = __fdiv_rn(__uint_as_float(largest.w[c]), 127.0f), sum = (float)(int)of_codes.w[c];
#pragma unroll
            for (int h = 0; h < 2; h++) values[4 * n + 2 * h + c] = ((float)sums[4 * n + 2 * h + c] + (128.0f - zero[h]) * sum) * of_row * scale[h];
        }
    }

    int outliers = end.outliers ? end.outliers[0] : 0;
#pragma unroll 1
    for (int j = 0; j < outliers; j++)
    {
        int column = end.outliers[1 + j];
        float level[2];
#pragma unroll
        for (int h = 0; h < 2; h++) level[h] = level_at(p, min(f + 8 * h, p.rows - 1), column, zero[h]) * scale[h];
        if (j < KEPT_OUTLIERS)
        {
            const float* line = kept + (i64)j * padded + r;
#pragma unroll
            for (int n = 0; n < N / 8; n++)
            {
                Couple x = *(const Couple*)(line + 8 * n);
#pragma unroll
                for (int c = 0; c < 4; c++) values[4 * n + c] = fmaf(__uint_as_float(x.w[c & 1]), level[c >> 1], values[4 * n + c]);
            }

            continue;
        }

#pragma unroll
        for (int n = 0; n < N / 8; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++)
            {
                int row = r + 8 * n + (c & 1);
                if (row < call.rows) values[4 * n + c] = fmaf(end.x[row * p.columns + column], level[c >> 1], values[4 * n + c]);
            }
        }
    }

    wide_write<N>(call, values, f, r, turned);
}

#define INT8_WIDE(n, x_stages, w_stages) \
    extern "C" __global__ void __launch_bounds__(WideShape<WideIntegers, n, 2, 1, x_stages, w_stages>::THREADS, 1) nibble_int8_wide_##n( \
        WideCall call, Int8End end, const float* kept, int padded) \
    { \
        WIDE_BODY(wide_product<WideIntegers, n, 2, 1, x_stages, w_stages>( \
            call, [&](int* sums, i64 f, int r, u8* turned) { wide_end_int8<n>(call, end, kept, padded, sums, f, r, turned); })); \
    }

INT8_WIDE(128, 7, 4)
INT8_WIDE(256, 4, 3)
