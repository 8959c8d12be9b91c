// Products of 8-bit weights, one scale a row, with x on the grid of 8-bit integers: exact sums of integers on tensor cores, scales and
// the columns that stay as they are (LLM.int8, arXiv 2208.07339, section 3) at the end.
//
// y[n, o] = sx[n]·sw[o]·(Σ q[n, k]·(c[o, k] − 128) + (128 − z[o])·Σ q[n, k]) + Σ x[n, j]·w[o, j] over outlier columns j + bias[o]. The codes c stand
// in units as tensor.cuh reads them; of 32 columns a lane holds eight, which are the k of mma.m16n8k32 in another order.
#include "tensor.cuh"

#define INT8_STRIDE 160
#define OUTLIERS_AT_ONCE 32
#define SCALE_ROWS 32

#ifdef NIBBLE_HOST
inline void multiply_add_int8(int* d, const u32* a, u32 b0, u32 b1)
{
    u64 upper[32], lower[32], columns[32];
    gather(a[0] | (u64)a[2] << 32, upper);
    gather(a[1] | (u64)a[3] << 32, lower);
    gather(b0 | (u64)b1 << 32, columns);
    int lane = threadIdx.x & 31;
    for (int k = 0; k < 32; k++)
    {
        int owner = k / 4 % 4, shift = 32 * (k / 16) + 8 * (k % 4);
        int x[2] = {(signed char)(upper[lane / 4 * 4 + owner] >> shift), (signed char)(lower[lane / 4 * 4 + owner] >> shift)};
        for (int i = 0; i < 4; i++) d[i] += x[i >> 1] * (signed char)(columns[(2 * (lane % 4) + (i & 1)) * 4 + owner] >> shift);
    }
}
#else
// d[16 × 8] += a[16 × 32]·b[32 × 8].
__device__ inline void multiply_add_int8(int* d, const u32* a, u32 b0, u32 b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// absmax of each row, without outliers; NaN for a row with NaN or infinity: so does everything computed from it become. Marks the columns
// of outliers.
KERNEL(int8_absmax)(const float* x, i64 columns, float threshold, float* absmax, u8* marks)
{
    __shared__ float scratch[32];
    allow_next();
    await_previous();
    const float* row = x + (i64)blockIdx.x * columns;
    float largest = 0, spoiled = 0;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        float magnitude = fabsf(row[i]);
        if (threshold > 0 && magnitude >= threshold)
        {
            marks[i] = 1;
            continue;
        }

        largest = fmaxf(largest, magnitude);
        // fmaxf ignores NaN.
        if (!(magnitude < infinity())) spoiled = 1;
    }

    largest = block_max(largest, scratch);
    spoiled = block_max(spoiled, scratch);
    if (threadIdx.x == 0) absmax[blockIdx.x] = spoiled > 0 ? __uint_as_float(0x7fc00000u) : largest;
}

// The codes of x, [padded rows, padded columns] with zeros around them and in marked columns; their sums; and the marked columns in order:
// outliers[0] of them.
KERNEL(int8_codes)(
    const float* x, i64 columns, int rows, i64 padded, const float* absmax, const u8* marks, u32* codes, int* sums, int* outliers, u64* counter)
{
    __shared__ int scratch[32];
    __shared__ int found;
    allow_next();
    await_previous();
    int row = blockIdx.x;
    // Below it 127/absmax overflows; such a row is zero next to anything.
    bool usable = row < rows && absmax[row] >= 1e-35f;
    float inverse = usable ? __fdiv_rn(127.0f, absmax[row]) : 0;
    int sum = 0;
    for (i64 word = threadIdx.x; word < padded / 4; word += blockDim.x)
    {
        u32 four = 0;
        for (int e = 0; e < 4; e++)
        {
            i64 column = 4 * word + e;
            if (!usable || column >= columns || (marks && marks[column])) continue;
            int code = (int)rintf(__fmul_rn(x[row * columns + column], inverse));
            sum += code;
            four |= (u32)(code & 255) << (8 * e);
        }

        codes[row * (padded / 4) + word] = four;
    }

    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[row] = sum;
    if (row > 0 || !marks) return;
    if (threadIdx.x == 0) found = 0;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    for (i64 base = 0; base < columns; base += blockDim.x)
    {
        i64 column = base + threadIdx.x;
        bool marked = column < columns && marks[column];
        u32 same = __ballot_sync(FULL_WARP, marked);
        __syncthreads();
        if (lane == 0) scratch[warp] = __popc(same);
        __syncthreads();
        int before = found, all = 0;
        for (int w = 0; w < warps; w++)
        {
            if (w < warp) before += scratch[w];
            all += scratch[w];
        }

        if (marked) outliers[1 + before + __popc(same & ((1u << lane) - 1))] = (int)column;
        __syncthreads();
        if (threadIdx.x == 0) found += all;
    }

    __syncthreads();
    if (threadIdx.x == 0)
    {
        outliers[0] = found;
        if (counter) atomicAdd(counter, (u64)found);
    }
}

// What the end of a product needs; Int8End in C# has the same layout.
struct Int8End
{
    const float* x;
    const float* absmax;         // of the rows of x
    const int* sums;             // of their codes
    const int* outliers;         // how many columns, and which; or null
    const float* bias;
    float* y;
    i64 y_stride;
    i64 first, count;            // features
    int rows;
    int add;
};

__device__ inline float zero_of(const Packed& p, i64 feature) { return p.offsets ? read_number(p.offsets, p.offset_type, feature) : p.offset; }

// The number of a weight before its scale.
__device__ inline float level_at(const Packed& p, i64 feature, int column, float zero)
{
    const u32* unit = (const u32*)p.codes + feature / UNIT_ROWS * p.tile_words + (i64)(column / UNIT_COLUMNS) * UnitOf<8>::WORDS;
    int row = (int)(feature % UNIT_ROWS), within = column % UNIT_COLUMNS;
    return (float)UnitOf<8>::code(unit, row >> 3, 4 * (row & 7) + (within & 31) / 8, within / 32, within & 7) - zero;
}

__device__ inline void end_int8(const Packed& p, const Int8End& end, int row, i64 feature, int sum, float kept)
{
    float zero = zero_of(p, feature), scale = read_number(p.scales, p.scale_type, feature);
    float value = ((float)sum + (128.0f - zero) * (float)end.sums[row]) * __fdiv_rn(end.absmax[row], 127.0f) * scale + kept * scale;
    float* out = end.y + row * end.y_stride + feature - end.first;
    *out = (end.add ? *out : 0) + value + (end.bias ? end.bias[feature] : 0);
}

// A block takes 128 features, a warp 16 of them, and the part blockIdx.y of the columns; x [8·NT, padded] comes by asynchronous copies. The last
// block of a part to end adds the parts up: integers, so in any order.
template <int NT>
__device__ inline void int8_rows(const Packed& p, const u8* x, const Int8End& end, int* parts, u32* counters)
{
    const int padded = 8 * NT;
    NIBBLE_SHARED(u8, shared);
    __shared__ u32 arrived;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tiles = (p.rows + UNIT_ROWS - 1) / UNIT_ROWS;
    i64 own = end.first / UNIT_ROWS + (i64)blockIdx.x * TENSOR_WARPS + warp, tile = min(own, tiles - 1);
    int from = (int)(units * blockIdx.y / gridDim.y), to = (int)(units * (blockIdx.y + 1) / gridDim.y);
    auto fetch = [&](int unit)
    {
        u8* stage = shared + (unit - from) % MANY_STAGES * (padded * INT8_STRIDE);
        for (int n = threadIdx.x; unit < to && n < padded * 8; n += TENSOR_THREADS)
        {
            copy_async(stage + (n >> 3) * INT8_STRIDE + (n & 7) * 16, x + ((n >> 3) * units + unit) * UNIT_COLUMNS + (n & 7) * 16);
        }

        copies_commit();
    };
    allow_next();
    const u32* codes = (const u32*)p.codes + tile * p.tile_words;
    LaneCodes<8> ahead[2];
    if (from < to) ahead[0].load(codes + from * UnitOf<8>::WORDS, lane);
    if (from + 1 < to) ahead[1].load(codes + (from + 1) * UnitOf<8>::WORDS, lane);
    await_previous();
    fetch(from);
    fetch(from + 1);
    int sums[NT][4];
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
            const u8* stage = shared + (unit - from) % MANY_STAGES * (padded * INT8_STRIDE) + g * INT8_STRIDE + 8 * t;
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                u32 a[4];
#pragma unroll
                for (int j = 0; j < 4; j++) a[j] = ahead[d].word(j & 1, i, j >> 1) ^ 0x80808080u;
#pragma unroll
                for (int n = 0; n < NT; n++)
                {
                    Couple b = *(const Couple*)(stage + 8 * n * INT8_STRIDE + 32 * i);
                    multiply_add_int8(sums[n], a, b.w[0], b.w[1]);
                }
            }

            if (unit + 2 < to) ahead[d].load(codes + (unit + 2) * UnitOf<8>::WORDS, lane);
        }
    }

    copies_wait<0>();
    auto write = [&](int n, int c, int sum)
    {
        i64 feature = own * UNIT_ROWS + g + 8 * (c >> 1);
        int row = 8 * n + 2 * t + (c & 1);
        if (row >= end.rows || feature < end.first || feature >= end.first + end.count) return;
        float kept = 0;
        int outliers = end.outliers ? end.outliers[0] : 0;
        float zero = outliers > 0 ? zero_of(p, feature) : 0;
        for (int j = 0; j < outliers; j++)
        {
            int column = end.outliers[1 + j];
            kept = fmaf(end.x[row * p.columns + column], level_at(p, feature, column, zero), kept);
        }

        end_int8(p, end, row, feature, sum, kept);
    };
    if (gridDim.y > 1)
    {
        // [block, part, n, c, thread]
        int* mine = parts + (i64)blockIdx.x * gridDim.y * NT * 4 * TENSOR_THREADS + threadIdx.x;
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
        if (arrived != gridDim.y - 1) return;
        fence();
        if (threadIdx.x == 0) counters[blockIdx.x] = 0;
#pragma unroll
        for (int n = 0; n < NT; n++)
        {
#pragma unroll
            for (int c = 0; c < 4; c++)
            {
                sums[n][c] = 0;
                for (int part = 0; part < (int)gridDim.y; part++) sums[n][c] += mine[(((i64)part * NT + n) * 4 + c) * TENSOR_THREADS];
            }
        }
    }

#pragma unroll
    for (int n = 0; n < NT; n++)
    {
#pragma unroll
        for (int c = 0; c < 4; c++) write(n, c, sums[n][c]);
    }
}

#define INT8_ROWS(nt) \
    extern "C" __global__ void __launch_bounds__(TENSOR_THREADS, 2) nibble_int8_rows_##nt(Packed p, const u8* x, Int8End end, int* parts, u32* counters) \
    { int8_rows<nt>(p, x, end, parts, counters); }

INT8_ROWS(1)
INT8_ROWS(2)
INT8_ROWS(4)
INT8_ROWS(8)

// Rows of a weight as a row-major matrix of signed codes, [features, padded]: a warp writes a unit.
KERNEL(int8_matrix)(Packed p, i64 first, i64 count, u8* matrix)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    i64 units = (p.columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS, tile = first / UNIT_ROWS + blockIdx.x;
    for (i64 unit = (i64)blockIdx.y * TENSOR_WARPS + warp; unit < units; unit += (i64)gridDim.y * TENSOR_WARPS)
    {
        LaneCodes<8> codes;
        codes.load((const u32*)p.codes + tile * p.tile_words + unit * UnitOf<8>::WORDS, lane);
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            i64 row = tile * UNIT_ROWS + (lane >> 2) + 8 * h - first;
            if (row < 0 || row >= count) continue;
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                Couple pair = {{codes.word(h, i, 0) ^ 0x80808080u, codes.word(h, i, 1) ^ 0x80808080u}};
                *(Couple*)(matrix + (row * units + unit) * UNIT_COLUMNS + 32 * i + 8 * (lane & 3)) = pair;
            }
        }
    }
}

// The end of a product whose sums [rows, count] another kernel has made: a block takes 256 features and SCALE_ROWS rows.
KERNEL(int8_end)(Packed p, Int8End end, const int* sums)
{
    __shared__ float kept_x[SCALE_ROWS][OUTLIERS_AT_ONCE];
    i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x, feature = end.first + at;
    int from = blockIdx.y * SCALE_ROWS, rows = min(SCALE_ROWS, end.rows - from), outliers = end.outliers ? end.outliers[0] : 0;
    bool inside = at < end.count;
    float kept[SCALE_ROWS], zero = inside ? zero_of(p, feature) : 0;
#pragma unroll
    for (int r = 0; r < SCALE_ROWS; r++) kept[r] = 0;
    for (int start = 0; start < outliers; start += OUTLIERS_AT_ONCE)
    {
        int some = min(OUTLIERS_AT_ONCE, outliers - start);
        __syncthreads();
        for (int n = threadIdx.x; n < SCALE_ROWS * OUTLIERS_AT_ONCE; n += blockDim.x)
        {
            int r = n / OUTLIERS_AT_ONCE, j = n % OUTLIERS_AT_ONCE;
            kept_x[r][j] = r < rows && j < some ? end.x[(i64)(from + r) * p.columns + end.outliers[1 + start + j]] : 0;
        }

        __syncthreads();
        for (int j = 0; j < some; j++)
        {
            float level = inside ? level_at(p, feature, end.outliers[1 + start + j], zero) : 0;
#pragma unroll
            for (int r = 0; r < SCALE_ROWS; r++) kept[r] = fmaf(kept_x[r][j], level, kept[r]);
        }
    }

#pragma unroll
    for (int r = 0; r < SCALE_ROWS; r++)
    {
        if (inside && r < rows) end_int8(p, end, from + r, feature, sums[(i64)(from + r) * end.count + at], kept[r]);
    }
}
