// GPTQ (arXiv 2210.17323, algorithm 1): second moments of inputs, the inverse factor in double precision, and the walk along the columns.
#include "grids.cuh"

// The other triangle: value[row, column] = value[column, row] for column < row.
KERNEL(mirror)(float* gram, i64 n)
{
    __shared__ float tile[32][33];
    i64 tiles = (n + 31) / 32, row = blockIdx.x / tiles * 32, column = blockIdx.x % tiles * 32;
    int lane = threadIdx.x & 31, line = threadIdx.x >> 5;
    if (column < row) return;
    for (int r = line; r < 32; r += 8)
    {
        if (row + r < n && column + lane < n) tile[r][lane] = gram[(row + r) * n + column + lane];
    }

    __syncthreads();
    for (int r = line; r < 32; r += 8)
    {
        if (column + r < n && row + lane < n && column + r > row + lane) gram[(column + r) * n + row + lane] = tile[lane][r];
    }
}

KERNEL(diagonal)(const float* matrix, float* values, i64 n) { GRID_STRIDE(i, n) values[i] = matrix[i * n + i]; }

// Σ |x| by columns over a chunk of rows; x is F32 or BF16.
KERNEL(magnitude_chunks)(const void* x, int type, float* partial, i64 columns, i64 rows, i64 rows_per_chunk)
{
    i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    i64 end = min(rows, ((i64)blockIdx.y + 1) * rows_per_chunk);
    float sum = 0;
    for (i64 row = (i64)blockIdx.y * rows_per_chunk; row < end; row++) sum += fabsf(read_number(x, type, row * columns + column));
    partial[(i64)blockIdx.y * columns + column] = sum;
}

KERNEL(add_magnitudes)(const float* partial, double* sums, i64 columns, i64 chunks)
{
    GRID_STRIDE(i, columns)
    {
        double sum = sums[i];
        for (i64 chunk = 0; chunk < chunks; chunk++) sum += partial[chunk * columns + i];
        sums[i] = sum;
    }
}

// The damped Hessian in double precision, rows and columns in the reverse of the order of visiting: with UᵀU its factorization, U⁻¹ turned
// back is the factor that GPTQ wants.
KERNEL(damped_hessian)(const float* gram, const int* order, double* h, i64 n, double added)
{
    GRID_STRIDE(i, n * n)
    {
        i64 row = order[n - 1 - i / n], column = order[n - 1 - i % n];
        double value = gram[row * n + column];
        // A dead input says nothing about its column: any positive number keeps the matrix regular.
        h[i] = row != column ? value : value == 0 ? 1 : value + added;
    }
}

// One block of the factorization: A = UᵀU of width columns from start on, and its inverse D, upper triangular, row after row of 64. One block
// of 256 threads. flag becomes 1 where a pivot is not positive.
KERNEL(factor_block)(const double* a, double* inverse, i64 n, i64 start, int width, u32* flag)
{
    const int stride = 65;
    NIBBLE_SHARED(double, u);
    double* d = u + 64 * stride;
    for (int i = threadIdx.x; i < 64 * 64; i += blockDim.x)
    {
        int row = i / 64, column = i % 64;
        bool inside = row < width && column < width && column >= row;
        u[row * stride + column] = inside ? a[(start + row) * n + start + column] : row == column ? 1 : 0;
        d[row * stride + column] = 0;
    }

    for (int k = 0; k < width; k++)
    {
        __syncthreads();
        double pivot = u[k * stride + k];
        bool good = pivot > 0 && pivot < 1e300;
        if (!good && threadIdx.x == 0) *flag = 1;
        double scale = good ? 1 / sqrt(pivot) : 1;
        __syncthreads();
        for (int j = k + threadIdx.x; j < width; j += blockDim.x) u[k * stride + j] *= scale;
        __syncthreads();
        for (int i = k + 1 + (threadIdx.x >> 6); i < width; i += blockDim.x >> 6)
        {
            int j = threadIdx.x & 63;
            if (j >= i && j < width) u[i * stride + j] -= u[k * stride + i] * u[k * stride + j];
        }
    }

    __syncthreads();
    // A thread owns a column of the inverse.
    if ((int)threadIdx.x < width)
    {
        int column = threadIdx.x;
        for (int i = column; i >= 0; i--)
        {
            double sum = i == column ? 1 : 0;
            for (int k = i + 1; k <= column; k++) sum -= u[i * stride + k] * d[k * stride + column];
            d[i * stride + column] = sum / u[i * stride + i];
        }
    }

    __syncthreads();
    for (int i = threadIdx.x; i < width * width; i += blockDim.x) inverse[i] = d[i / width * stride + i % width];
}

KERNEL(place_block)(const double* source, double* target, i64 rows, i64 columns, i64 source_stride, i64 target_stride)
{
    GRID_STRIDE(i, rows * columns) target[i / columns * target_stride + i % columns] = source[i / columns * source_stride + i % columns];
}

// factor[i, j] = a[n − 1 − j, n − 1 − i] for j ≥ i, 0 below.
KERNEL(turn_factor)(const double* a, float* factor, i64 n)
{
    __shared__ float tile[32][33];
    i64 tiles = (n + 31) / 32, row = blockIdx.x / tiles * 32, column = blockIdx.x % tiles * 32;
    int lane = threadIdx.x & 31, line = threadIdx.x >> 5;
    for (int r = line; r < 32; r += 8)
    {
        // Row n − 1 − (column + r) of a, read backwards along the rows of the factor.
        i64 i = row + lane, j = column + r;
        tile[r][lane] = i < n && j < n && j >= i ? (float)a[(n - 1 - j) * n + n - 1 - i] : 0;
    }

    __syncthreads();
    for (int r = line; r < 32; r += 8)
    {
        if (row + r < n && column + lane < n) factor[(row + r) * n + column + lane] = tile[lane][r];
    }
}

// The weights with columns in visiting order; columns of dead inputs become zero.
KERNEL(visit_columns)(const float* w, const int* order, const float* squares, float* visited, i64 count, i64 n)
{
    GRID_STRIDE(i, count)
    {
        int column = order[i % n];
        visited[i] = squares[column] == 0 ? 0 : w[i / n * n + column];
    }
}

KERNEL(place_codes)(const u8* codes, const int* order, u8* placed, i64 count, i64 n)
{
    GRID_STRIDE(i, count) placed[i / n * n + order[i % n]] = codes[i];
}

struct Extent { float low, high; };

struct SeeExtent
{
    Extent* extent;

    __device__ void operator()(float x) const
    {
        extent->low = fminf(extent->low, x);
        extent->high = fmaxf(extent->high, x);
    }
};

struct SeeLoss
{
    Grid grid;
    float* sum;

    __device__ void operator()(float x) const
    {
        float q = fminf(fmaxf(rintf(__fdiv_rn(x, grid.scale)) + grid.zero, grid.lowest), grid.highest);
        float error = fabsf((q - grid.zero) * grid.scale - x);
        *sum += error > 0 ? error * error * expf(0.4f * logf(error)) : 0;
    }
};

template <class Each>
__device__ inline float loss_of(const Each& each, const Grid& grid)
{
    float sum = 0;
    each(SeeLoss{grid, &sum});
    return warp_sum(sum);
}

// The grid of a group whose values a warp has: `each` calls its argument with every value that the lane owns. With mse the range is shrunk
// where that lessens Σ |w − ŵ|^2.4: ClipSearch.GridOf.
template <class Each>
__device__ inline Grid warp_grid(const Each& each, int kind, int bits, int type, int mse, u32* flags)
{
    Extent extent = {infinity(), -infinity()};
    each(SeeExtent{&extent});
    float low = -warp_max(-extent.low), high = warp_max(extent.high);
    Grid best = range_grid(low, high, kind, bits, type, flags);
    if (!mse) return best;
    float least = loss_of(each, best), levels = (float)((1 << bits) - 1);
    bool symmetric = kind == GRID_SYMMETRIC;
    low = fminf(low, 0.0f);
    high = fmaxf(high, 0.0f);
    float range = symmetric ? 2 * fmaxf(high, -low) : high - low, zero = best.zero;
    for (int i = 1; i < 80 && least > 0; i++)
    {
        float share = 1 - i / 100.0f;
        Grid grid = {0, stored_scale(share * range / levels, type, flags), zero, 0, levels};
        if (grid.scale == 0) break;
        if (!symmetric) grid.zero = fminf(fmaxf(rintf(-share * low / grid.scale), 0.0f), levels) + 0.0f;
        float loss = loss_of(each, grid);
        if (loss < least)
        {
            best = grid;
            least = loss;
        }
    }

    return best;
}

// The values of a group that stand side by side in memory.
struct RunOfColumns
{
    const float* x;
    int length;

    template <class See>
    __device__ void operator()(See see) const
    {
        for (int i = threadIdx.x & 31; i < length; i += 32) see(x[i]);
    }
};

// The values of a group of which columns first … end of the panel stand in the lanes' registers, and those from width on in memory.
struct ColumnsOfPanel
{
    float v0, v1, v2, v3;
    const float* line;
    int first, end, width;

    template <class See>
    __device__ void operator()(See see) const
    {
        int lane = threadIdx.x & 31, last = min(end, width);
        if (lane >= first && lane < last) see(v0);
        if (lane + 32 >= first && lane + 32 < last) see(v1);
        if (lane + 64 >= first && lane + 64 < last) see(v2);
        if (lane + 96 >= first && lane + 96 < last) see(v3);
        for (int i = width + lane; i < end; i += 32) see(line[i]);
    }
};

// Grids of groups that stand side by side, from the weights as they are: a warp a group.
KERNEL(group_grids)(const float* w, float* scales, float* offsets, i64 columns, int group, i64 per_row, i64 groups, int kind, int bits, int type, int mse, u32* flags)
{
    WarpGroup own(columns, group, per_row);
    if (own.index >= groups) return;
    Grid grid = warp_grid(RunOfColumns{w + own.start, own.length}, kind, bits, type, mse, flags);
    if ((threadIdx.x & 31) == 0)
    {
        scales[own.index] = grid.scale;
        offsets[own.index] = grid.zero;
    }
}

// Rounds the columns start … start + width (at most 128) one after another: a warp has a row, a lane four of its columns. The error of each
// goes to the columns of the panel behind it; errors [rows, 128] take what the others get by a product of matrices. group_of: the group of a
// visited column where grids are there already, else null and grids are found when a group comes up.
KERNEL(gptq_panel)(
    const float* weights, const float* factor, u8* codes, float* errors, float* scales, float* offsets, const int* group_of, i64 rows, i64 n, i64 start, int width,
    int group, i64 per_row, int kind, int bits, int type, int mse, u32* flags)
{
    NIBBLE_SHARED(float, u);
    for (int i = threadIdx.x; i < 128 * 128; i += blockDim.x)
    {
        int line = i >> 7, column = i & 127;
        u[i] = line < width && column < width ? factor[(start + line) * n + start + column] : 0;
    }

    __syncthreads();
    int lane = threadIdx.x & 31;
    i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= rows) return;
    const float* line = weights + row * n + start;
    float v[4], e[4], levels = (float)((1 << bits) - 1), scale = 1, zero = 0;
    u8 q[4];
#pragma unroll
    for (int s = 0; s < 4; s++)
    {
        int column = lane + 32 * s;
        v[s] = column < width ? line[column] : 0;
        e[s] = 0;
        q[s] = 0;
    }

    if (!group_of && start % group != 0)
    {
        // A group longer than a panel: an earlier one found its grid.
        scale = scales[row * per_row + start / group];
        zero = offsets[row * per_row + start / group];
    }

#pragma unroll
    for (int slot = 0; slot < 4; slot++)
    {
        for (int owner = 0; owner < 32; owner++)
        {
            int j = 32 * slot + owner;
            if (j >= width) break;
            if (group_of)
            {
                i64 at = row * per_row + group_of[start + j];
                scale = scales[at];
                zero = offsets[at];
            }
            else if ((start + j) % group == 0)
            {
                int end = (int)min((i64)j + group, n - start);
                Grid grid = warp_grid(ColumnsOfPanel{v[0], v[1], v[2], v[3], line, j, end, width}, kind, bits, type, mse, flags);
                scale = grid.scale;
                zero = grid.zero;
                if (lane == 0)
                {
                    i64 at = row * per_row + (start + j) / group;
                    scales[at] = scale;
                    offsets[at] = zero;
                }
            }

            float x = __shfl_sync(FULL_WARP, v[slot], owner);
            float code = fminf(fmaxf(rintf(__fadd_rn(__fdiv_rn(x, scale), zero)), 0.0f), levels);
            float error = __fdiv_rn(__fmul_rn(code - zero, scale) - x, u[129 * j]);
            if (lane == owner)
            {
                q[slot] = (u8)code;
                e[slot] = error;
            }

            // What stands left of the diagonal is zero.
#pragma unroll
            for (int s = slot; s < 4; s++) v[s] = fmaf(error, u[128 * j + lane + 32 * s], v[s]);
        }
    }

#pragma unroll
    for (int s = 0; s < 4; s++)
    {
        int column = lane + 32 * s;
        if (column < width) codes[row * n + start + column] = q[s];
        errors[row * 128 + column] = e[s];
    }
}
