// Methods that need no data: the arithmetic of Nibble.Quantization.Methods, operation by operation, so that codes are the processor's.
#include "grids.cuh"

// Anything to F32; flags[0] becomes 1 where a value is NaN or infinite.
KERNEL(widen)(const void* x, int type, float* y, i64 count, u32* flags)
{
    GRID_STRIDE(i, count)
    {
        float value = read_number(x, type, i);
        if (not_finite(value)) flags[0] = 1;
        y[i] = value;
    }
}

// NF4, FP4: a warp a block of the flattened matrix. tables: 15 bounds between sorted levels. The last block is divided where whole ones are
// multiplied, as bitsandbytes does.
KERNEL(codebook_codes)(const float* w, const float* bounds, const u8* code_of_rank, u8* codes, float* absmax, i64 count, int block_size)
{
    i64 block = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), start = block * block_size;
    int lane = threadIdx.x & 31;
    if (start >= count) return;
    int length = (int)min((i64)block_size, count - start);
    bool whole = length == block_size;
    float largest = 0, bound[15];
    for (int i = 0; i < 15; i++) bound[i] = bounds[i];
    for (int i = lane; i < length; i += 32) largest = fmaxf(largest, fabsf(w[start + i]));
    largest = warp_max(largest);
    float divisor = fmaxf(largest, 1e-38f), factor = 1.0f / divisor;
    for (int i = lane; i < length; i += 32)
    {
        float x = whole ? __fmul_rn(w[start + i], factor) : __fdiv_rn(w[start + i], divisor);
        int rank = 0;
        for (int b = 0; b < 15; b++) rank += x > bound[b] ? 1 : 0;
        codes[start + i] = code_of_rank[rank];
    }

    if (lane == 0) absmax[block] = whole ? largest : divisor;
}

KERNEL(codebook_values)(const u8* codes, const float* levels, const float* absmax, float* values, i64 count, int block_size)
{
    GRID_STRIDE(i, count) values[i] = __fmul_rn(levels[codes[i]], absmax[i / block_size]);
}

// Affine codes of runs of columns of a row (or of the whole matrix as one row of runs): a warp a group. Kinds that are given read scales and
// offsets; the others write them. flags[1] becomes 1 where a scale does not fit its dtype.
KERNEL(affine_codes)(
    const float* w, u8* codes, float* scales, float* offsets, i64 columns, int group, i64 per_row, i64 groups, int kind, int bits, int scale_type, u32* flags)
{
    WarpGroup own(columns, group, per_row);
    int lane = threadIdx.x & 31;
    if (own.index >= groups) return;
    Grid grid;
    float factor = 0;
    if (kind >= GRID_GIVEN)
    {
        grid = given_grid(scales[own.index], offsets ? offsets[own.index] : 0, kind, bits);
    }
    else
    {
        float low = infinity(), high = -infinity();
        for (int i = lane; i < own.length; i += 32)
        {
            low = fminf(low, w[own.start + i]);
            high = fmaxf(high, w[own.start + i]);
        }

        low = -warp_max(-low);
        high = warp_max(high);
        grid = range_grid(low, high, kind, bits, scale_type, flags);
        float largest = fmaxf(fabsf(low), fabsf(high));
        factor = 127.0f / largest;
        if (not_finite(factor)) factor = 0;
        if (lane == 0)
        {
            scales[own.index] = kind == GRID_INT8 ? __fdiv_rn(largest, 127.0f) : grid.scale;
            if (offsets) offsets[own.index] = kind == GRID_SHIFTED ? grid.origin : grid.zero;
        }
    }

    for (int i = lane; i < own.length; i += 32)
    {
        float x = w[own.start + i];
        float q = kind == GRID_INT8 ? rintf(__fmul_rn(x, factor)) : rintf(__fdiv_rn(__fsub_rn(x, grid.origin), grid.scale));
        codes[own.start + i] = (u8)fminf(fmaxf(__fadd_rn(q, grid.zero), grid.lowest), grid.highest);
    }
}

// What codes stand for. Groups: 0 along rows (by a map of columns where there is one), 1 of the flattened matrix, 2 with a stride.
KERNEL(affine_values)(
    const u8* codes, const float* scales, const float* offsets, const int* map, float* values, i64 count, i64 columns, int group, i64 groups, int mode, int bias)
{
    i64 per_row = (columns + group - 1) / group;
    GRID_STRIDE(i, count)
    {
        i64 at = mode == 1 ? i / group : i % groups;
        if (mode == 0)
        {
            i64 row = i / columns, column = i % columns;
            at = row * per_row + (map ? map[column] : column / group);
        }

        float q = codes[i];
        values[i] = bias ? __fadd_rn(__fmul_rn(q, scales[at]), offsets[at]) : __fmul_rn(__fsub_rn(q, offsets[at]), scales[at]);
    }
}

// What a pass of a training through a quantizer computes with: w + share * (rounded - w), without a fused step.
KERNEL(blend_values)(const float* w, const float* rounded, float* y, float share, i64 count)
{
    GRID_STRIDE(i, count) y[i] = share == 1 ? rounded[i] : __fadd_rn(w[i], __fmul_rn(share, __fsub_rn(rounded[i], w[i])));
}

// HQQ's solver: a warp a group, all rounds at once; which round counts depends on the error of the whole matrix and is chosen afterwards.
// zeros and errors are [rounds, groups].
KERNEL(hqq_solve)(const float* w, float* inverses, float* zeros, float* errors, i64 groups, int group, int bits, int rounds)
{
    i64 index = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    int lane = threadIdx.x & 31;
    if (index >= groups) return;
    const float* x = w + index * group;
    float levels = (float)((1 << bits) - 1), low = infinity(), high = -infinity();
    for (int i = lane; i < group; i += 32)
    {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }

    low = -warp_max(-low);
    high = warp_max(high);
    float range = high - low, inverse = range <= 1e-4f ? 1 : fminf(__fdiv_rn(levels, range), 2e4f), zero = __fmul_rn(-low, inverse);
    if (bits == 4) zero = rintf(zero);
    const float shrink = 1.0f / 10;
    for (int round = 0; round < rounds; round++)
    {
        float error = 0, sum = 0;
        for (int i = lane; i < group; i += 32)
        {
            float q = fminf(fmaxf(rintf(__fadd_rn(__fmul_rn(x[i], inverse), zero)), 0.0f), levels);
            float difference = __fsub_rn(x[i], __fdiv_rn(__fsub_rn(q, zero), inverse)), size = fabsf(difference);
            // |x|^(p − 1): infinite for 0, so that the shrunk value is 0 as it must be.
            float power = size > 0 ? expf((0.7f - 1) * logf(size)) : infinity();
            float kept = fmaxf(__fsub_rn(size, __fmul_rn(power, shrink)), 0.0f);
            sum += __fsub_rn(q, __fmul_rn(__fsub_rn(x[i], copysignf(kept, difference)), inverse));
            error += size;
        }

        error = warp_sum(error);
        zero = warp_sum(sum) / group;
        if (lane == 0)
        {
            errors[round * groups + index] = error;
            zeros[round * groups + index] = zero;
        }
    }

    if (lane == 0) inverses[index] = inverse;
}

// Σ of each round's errors, in an order that depends on the count alone.
KERNEL(hqq_sum)(const float* errors, double* sums, i64 groups)
{
    __shared__ double scratch[32];
    double sum = 0;
    for (i64 i = threadIdx.x; i < groups; i += blockDim.x) sum += errors[blockIdx.x * groups + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The zeros of the first round whose error did not fall, or of the last one; both numbers rounded to the dtype in which they are stored.
KERNEL(hqq_finish)(const float* inverses, const float* zeros, const double* sums, float* scales, float* offsets, i64 groups, int rounds, int type, u32* flags)
{
    int last = 0;
    while (last < rounds - 1 && (last == 0 || sums[last] < sums[last - 1])) last++;
    GRID_STRIDE(i, groups)
    {
        scales[i] = stored_scale(1.0f / inverses[i], type, flags);
        offsets[i] = stored_scale(zeros[last * groups + i], type, flags) + 0.0f;
    }
}

// Ternary: the common magnitude of a row where there is one (0: the row is zero, NaN: there are several) and the sum of magnitudes, added
// up as they stand. A warp has 32 rows: it reads them together and each lane adds up its own.
KERNEL(row_magnitudes)(const float* w, float* common, double* sums, i64 rows, i64 columns)
{
    __shared__ float tile[32][33];
    int lane = threadIdx.x;
    i64 first = (i64)blockIdx.x * 32;
    double sum = 0;
    float one = 0;
    for (i64 start = 0; start < columns; start += 32)
    {
        int width = (int)min((i64)32, columns - start);
        for (int r = 0; r < 32; r++) tile[r][lane] = first + r < rows && lane < width ? w[(first + r) * columns + start + lane] : 0;
        __syncthreads();
        for (int i = 0; i < width; i++)
        {
            float size = fabsf(tile[lane][i]);
            sum += size;
            if (size != 0 && size != one) one = one == 0 ? size : __uint_as_float(0x7fc00000u);
        }

        __syncthreads();
    }

    if (first + lane < rows)
    {
        common[first + lane] = one;
        sums[first + lane] = sum;
    }
}

// Σ (w − ŵ)², Σ w² and the largest |w − ŵ| of each row, each added up as it stands: the processor's numbers, bit for bit.
KERNEL(weight_error)(const float* w, const float* values, double* results, i64 rows, i64 columns)
{
    __shared__ float dense[32][33], made[32][33];
    int lane = threadIdx.x;
    i64 first = (i64)blockIdx.x * 32;
    double error = 0, norm = 0, largest = 0;
    for (i64 start = 0; start < columns; start += 32)
    {
        int width = (int)min((i64)32, columns - start);
        for (int r = 0; r < 32; r++)
        {
            bool inside = first + r < rows && lane < width;
            i64 at = (first + r) * columns + start + lane;
            dense[r][lane] = inside ? w[at] : 0;
            made[r][lane] = inside ? values[at] : 0;
        }

        __syncthreads();
        for (int i = 0; i < width; i++)
        {
            double d = dense[lane][i], difference = d - (double)made[lane][i];
            error = __dadd_rn(error, __dmul_rn(difference, difference));
            norm = __dadd_rn(norm, __dmul_rn(d, d));
            largest = fmax(largest, fabs(difference));
        }

        __syncthreads();
    }

    if (first + lane < rows)
    {
        results[first + lane] = error;
        results[rows + first + lane] = norm;
        results[2 * rows + first + lane] = largest;
    }
}

template <class T>
__device__ inline void turn(const T* x, T* y, i64 rows, i64 columns)
{
    __shared__ T tile[32][33];
    int lane = threadIdx.x & 31, line = threadIdx.x >> 5;
    i64 tiles = (rows + 31) / 32, row = blockIdx.x % tiles * 32, column = blockIdx.x / tiles * 32;
    for (int r = line; r < 32; r += 8)
    {
        if (row + r < rows && column + lane < columns) tile[r][lane] = x[(row + r) * columns + column + lane];
    }

    __syncthreads();
    for (int r = line; r < 32; r += 8)
    {
        if (column + r < columns && row + lane < rows) y[(column + r) * rows + row + lane] = tile[lane][r];
    }
}

// Rows become columns; 256 threads.
KERNEL(turn_f32)(const float* x, float* y, i64 rows, i64 columns) { turn(x, y, rows, columns); }
KERNEL(turn_u8)(const u8* x, u8* y, i64 rows, i64 columns) { turn(x, y, rows, columns); }
