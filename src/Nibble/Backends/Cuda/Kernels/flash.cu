// Causal attention and its gradient in BF16 on tensor cores, sums and softmax in F32 (FlashAttention-2, arXiv 2307.08691). The gradient
// takes two kernels, one that owns queries and one that owns keys: no atomics, the same bits every time.
#include "mma.cuh"

#define FLASH_ROWS 64
#define LOG2_E 1.4426950408889634f

// FlashShape in C# has the same layout; strides in elements. Gradients stand as what they are gradients of.
struct FlashShape
{
    i64 query_row, query_head, query_batch, key_row, key_head, key_batch, out_row, out_head, out_batch;
    int length, start, heads, kv_heads, dim, window, first_of_queries;
    float scale;
};

__device__ inline int first_visible(const FlashShape& s, const int* firsts, int query)
{
    int first = firsts ? firsts[s.first_of_queries ? query : 0] : 0;
    return s.window > 0 ? max(first, s.start + query - s.window + 1) : first;
}

__device__ inline const int* firsts_of(const FlashShape& s, const int* firsts, int batch)
{
    return firsts ? firsts + (i64)batch * (s.first_of_queries ? s.length : 1) : nullptr;
}

// c[16·TILES × 64] = rows of A's tile times the rows of B's tile; what is read of B serves all of A.
template <int WIDTH, int TILES>
__device__ inline void scores(float (*c)[8][4], u16* a_tile, int row, u16* b_tile)
{
#pragma unroll
    for (int m = 0; m < TILES; m++)
    {
#pragma unroll
        for (int n = 0; n < 8; n++) c[m][n][0] = c[m][n][1] = c[m][n][2] = c[m][n][3] = 0;
    }

#pragma unroll
    for (int k = 0; k < WIDTH / 16; k++)
    {
        u32 a[TILES][4];
#pragma unroll
        for (int m = 0; m < TILES; m++) load_a<WIDTH>(a[m], a_tile, row + 16 * m, k);
#pragma unroll
        for (int n = 0; n < 4; n++)
        {
            u32 b[4];
            load_b<WIDTH>(b, b_tile, 16 * n, k);
#pragma unroll
            for (int m = 0; m < TILES; m++)
            {
                multiply_add(c[m][2 * n], a[m], b[0], b[1]);
                multiply_add(c[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// sum[16·TILES × WIDTH] += P[16·TILES × 64]·tile, P in the registers of the product that made it.
template <int WIDTH, int TILES>
__device__ inline void add_weighted(float (*sum)[WIDTH / 8][4], const float (*p)[8][4], u16* tile)
{
#pragma unroll
    for (int k = 0; k < 4; k++)
    {
        u32 a[TILES][4];
#pragma unroll
        for (int m = 0; m < TILES; m++)
        {
            a[m][0] = pack_bf16(p[m][2 * k][0], p[m][2 * k][1]);
            a[m][1] = pack_bf16(p[m][2 * k][2], p[m][2 * k][3]);
            a[m][2] = pack_bf16(p[m][2 * k + 1][0], p[m][2 * k + 1][1]);
            a[m][3] = pack_bf16(p[m][2 * k + 1][2], p[m][2 * k + 1][3]);
        }

#pragma unroll
        for (int n = 0; n < WIDTH / 16; n++)
        {
            u32 b[4];
            load_b_rows<WIDTH>(b, tile, 16 * k, n);
#pragma unroll
            for (int m = 0; m < TILES; m++)
            {
                multiply_add(sum[m][2 * n], a[m], b[0], b[1]);
                multiply_add(sum[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// Writes (or adds) 16 rows × WIDTH of a warp: row `row` and row + 8 of this lane.
template <int WIDTH>
__device__ inline void write_rows(u16* out, i64 stride, int row, int end, int dim, const float (*sum)[4], float upper, float lower, int add)
{
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        int r = row + 8 * half;
        if (r >= end) continue;
        float factor = half ? lower : upper;
        u16* to = out + (i64)r * stride + 2 * (lane & 3);
        int left = dim - 2 * (lane & 3);
        // All are read before one is written: a store would make the next load wait.
        u32 old[WIDTH / 8];
#pragma unroll
        for (int n = 0; n < WIDTH / 8; n++)
        {
            old[n] = 0;
            if (add && 8 * n + 1 < left && (dim & 1) == 0) old[n] = *(u32*)(to + 8 * n);
            else if (add && 8 * n < left) old[n] = to[8 * n] | (8 * n + 1 < left ? (u32)to[8 * n + 1] << 16 : 0);
        }

#pragma unroll
        for (int n = 0; n < WIDTH / 8; n++)
        {
            float low = sum[n][2 * half] * factor, high = sum[n][2 * half + 1] * factor;
            u32 both = add ? pack_bf16(low + from_bf16((u16)old[n]), high + from_bf16((u16)(old[n] >> 16))) : pack_bf16(low, high);
            if (8 * n + 1 < left && (dim & 1) == 0) *(u32*)(to + 8 * n) = both;
            else
            {
                if (8 * n < left) to[8 * n] = (u16)both;
                if (8 * n + 1 < left) to[8 * n + 1] = (u16)(both >> 16);
            }
        }
    }
}

// log_sums[batch, length, heads] gets log2 of each row's sum of exponentials, for the gradient; it may be null.
template <int WIDTH>
__device__ inline void flash_forward(
    const FlashShape& s, const u16* query, const u16* keys, const u16* values, u16* output, float* log_sums, const int* firsts)
{
    const int TILES = 2, QUERIES = 64 * TILES;
    NIBBLE_SHARED(u16, shared);
    u16 *query_tile = shared, *key_tile = query_tile + QUERIES * WIDTH, *value_tile = key_tile + FLASH_ROWS * WIDTH;
    // The tiles with most keys come first.
    int first_query = (gridDim.x - 1 - blockIdx.x) * QUERIES, head = blockIdx.y % s.heads, batch = blockIdx.y / s.heads;
    i64 own = batch * s.query_batch + head * s.query_head, cache = batch * s.key_batch + head / (s.heads / s.kv_heads) * s.key_head;
    i64 out = batch * s.out_batch + head * s.out_head;
    firsts = firsts_of(s, firsts, batch);
    int last_query = min(first_query + QUERIES, s.length) - 1, end = s.start + last_query + 1;
    int begin = max(0, first_visible(s, firsts, first_query)) / FLASH_ROWS * FLASH_ROWS;
    int lane = threadIdx.x & 31, warp_row = (threadIdx.x >> 5) * 16 * TILES, row = first_query + warp_row + (lane >> 2);
    float most[TILES][2], total[TILES][2], sum[TILES][WIDTH / 8][4];
#pragma unroll
    for (int m = 0; m < TILES; m++)
    {
        most[m][0] = most[m][1] = -infinity();
        total[m][0] = total[m][1] = 0;
#pragma unroll
        for (int n = 0; n < WIDTH / 8; n++) sum[m][n][0] = sum[m][n][1] = sum[m][n][2] = sum[m][n][3] = 0;
    }

    int warp_last = min(first_query + warp_row + 16 * TILES - 1, last_query), latest = first_visible(s, firsts, warp_last);
    float factor = s.scale * LOG2_E;
#pragma unroll
    for (int m = 0; m < TILES; m++)
    {
        load_tile<WIDTH>(query_tile + 64 * m * WIDTH, query + own, s.query_row, first_query + 64 * m, s.length, s.dim);
    }

    load_tile<WIDTH>(key_tile, keys + cache, s.key_row, begin, end, s.dim);
    copies_commit();
    for (int key = begin; key < end; key += FLASH_ROWS)
    {
        copies_wait<0>();
        __syncthreads();
        load_tile<WIDTH>(value_tile, values + cache, s.key_row, key, end, s.dim);
        copies_commit();
        // A warp whose queries all come before these keys, or see later ones only, has nothing to do.
        bool works = key <= s.start + warp_last && key + FLASH_ROWS > first_visible(s, firsts, min(first_query + warp_row, last_query));
        float p[TILES][8][4];
        if (works) scores<WIDTH, TILES>(p, query_tile, warp_row, key_tile);
        __syncthreads();
        if (key + FLASH_ROWS < end) load_tile<WIDTH>(key_tile, keys + cache, s.key_row, key + FLASH_ROWS, end, s.dim);
        copies_commit();
        if (works)
        {
            if (key + FLASH_ROWS - 1 > s.start + first_query + warp_row || key < latest)
            {
#pragma unroll
                for (int m = 0; m < TILES; m++)
                {
#pragma unroll
                    for (int h = 0; h < 2; h++)
                    {
                        int q = min(row + 16 * m + 8 * h, last_query), low = first_visible(s, firsts, q), high = s.start + q;
#pragma unroll
                        for (int n = 0; n < 8; n++)
                        {
                            int column = key + 8 * n + 2 * (lane & 3);
                            if (column < low || column > high) p[m][n][2 * h] = -infinity();
                            if (column + 1 < low || column + 1 > high) p[m][n][2 * h + 1] = -infinity();
                        }
                    }
                }
            }

#pragma unroll
            for (int m = 0; m < TILES; m++)
            {
#pragma unroll
                for (int h = 0; h < 2; h++)
                {
                    float largest = most[m][h];
#pragma unroll
                    for (int n = 0; n < 8; n++) largest = fmaxf(largest, fmaxf(p[m][n][2 * h], p[m][n][2 * h + 1]));
                    largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 1));
                    largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 2));
                    float base = largest == -infinity() ? 0 : largest * factor, shrink = exp2_fast(most[m][h] * factor - base), part = 0;
                    most[m][h] = largest;
#pragma unroll
                    for (int n = 0; n < 8; n++)
                    {
                        p[m][n][2 * h] = exp2_fast(p[m][n][2 * h] * factor - base);
                        p[m][n][2 * h + 1] = exp2_fast(p[m][n][2 * h + 1] * factor - base);
                        part += p[m][n][2 * h] + p[m][n][2 * h + 1];
                    }

                    total[m][h] = total[m][h] * shrink + part;
#pragma unroll
                    for (int n = 0; n < WIDTH / 8; n++)
                    {
                        sum[m][n][2 * h] *= shrink;
                        sum[m][n][2 * h + 1] *= shrink;
                    }
                }
            }
        }

        copies_wait<1>();
        __syncthreads();
        if (works) add_weighted<WIDTH, TILES>(sum, p, value_tile);
    }

#pragma unroll
    for (int m = 0; m < TILES; m++)
    {
#pragma unroll
        for (int h = 0; h < 2; h++)
        {
            int q = row + 16 * m + 8 * h;
            total[m][h] += __shfl_xor_sync(FULL_WARP, total[m][h], 1);
            total[m][h] += __shfl_xor_sync(FULL_WARP, total[m][h], 2);
            if (log_sums && (lane & 3) == 0 && q < s.length)
            {
                // A query that sees nothing: infinity makes all its weights 0.
                log_sums[((i64)batch * s.length + q) * s.heads + head] = total[m][h] > 0 ? most[m][h] * factor + log2f(total[m][h]) : infinity();
            }
        }

        float upper = total[m][0] > 0 ? 1 / total[m][0] : 0, lower = total[m][1] > 0 ? 1 / total[m][1] : 0;
        write_rows<WIDTH>(output + out, s.out_row, row + 16 * m, s.length, s.dim, sum[m], upper, lower, 0);
    }
}

// d_query = Σ P∘(dP − delta)·scale·K; delta = Σ dO∘O of each row goes to deltas, for the kernel of the keys.
template <int WIDTH>
__device__ inline void flash_gradient_query(
    const FlashShape& s, const u16* query, const u16* keys, const u16* values, const u16* output, const u16* d_output, const float* log_sums,
    float* deltas, u16* d_query, const int* firsts, int add)
{
    NIBBLE_SHARED(u16, shared);
    __shared__ float delta_tile[FLASH_ROWS];
    u16 *query_tile = shared, *d_tile = query_tile + FLASH_ROWS * WIDTH, *pairs = d_tile + FLASH_ROWS * WIDTH;
    int first_query = (gridDim.x - 1 - blockIdx.x) * FLASH_ROWS, head = blockIdx.y % s.heads, batch = blockIdx.y / s.heads;
    i64 own = batch * s.query_batch + head * s.query_head, cache = batch * s.key_batch + head / (s.heads / s.kv_heads) * s.key_head;
    i64 out = batch * s.out_batch + head * s.out_head;
    firsts = firsts_of(s, firsts, batch);
    int last_query = min(first_query + FLASH_ROWS, s.length) - 1, end = s.start + last_query + 1;
    int begin = max(0, first_visible(s, firsts, first_query)) / FLASH_ROWS * FLASH_ROWS;
    load_tile<WIDTH>(query_tile, query + own, s.query_row, first_query, s.length, s.dim);
    load_tile<WIDTH>(d_tile, d_output + out, s.out_row, first_query, s.length, s.dim);
    load_tile<WIDTH>(pairs, keys + cache, s.key_row, begin, end, s.dim);
    load_tile<WIDTH>(pairs + FLASH_ROWS * WIDTH, values + cache, s.key_row, begin, end, s.dim);
    copies_commit();
    {
        // Two threads a row.
        int r = threadIdx.x >> 1, q = first_query + r;
        float delta = 0;
        for (int d = (threadIdx.x & 1) * 8; q < s.length && d < s.dim; d += 16)
        {
            i64 at = out + q * s.out_row + d;
            for (int e = 0; e < 8 && d + e < s.dim; e++) delta += from_bf16(output[at + e]) * from_bf16(d_output[at + e]);
        }

        delta += __shfl_xor_sync(FULL_WARP, delta, 1);
        if ((threadIdx.x & 1) == 0)
        {
            delta_tile[r] = delta;
            if (q < s.length) deltas[((i64)batch * s.length + q) * s.heads + head] = delta;
        }
    }

    __syncthreads();
    int lane = threadIdx.x & 31, warp_row = (threadIdx.x >> 5) * 16, row = first_query + warp_row + (lane >> 2);
    int low[2], high[2];
    float log_sum[2], delta[2], sum[1][WIDTH / 8][4];
#pragma unroll
    for (int h = 0; h < 2; h++)
    {
        int q = min(row + 8 * h, last_query);
        low[h] = first_visible(s, firsts, q);
        high[h] = s.start + q;
        log_sum[h] = log_sums[((i64)batch * s.length + q) * s.heads + head];
        delta[h] = delta_tile[warp_row + (lane >> 2) + 8 * h];
    }

#pragma unroll
    for (int n = 0; n < WIDTH / 8; n++) sum[0][n][0] = sum[0][n][1] = sum[0][n][2] = sum[0][n][3] = 0;
    float factor = s.scale * LOG2_E;
    for (int key = begin; key < end; key += FLASH_ROWS)
    {
        // The next pair of tiles is on its way while this one is used.
        int turn = (key - begin) / FLASH_ROWS & 1;
        u16 *key_tile = pairs + turn * 2 * FLASH_ROWS * WIDTH, *value_tile = key_tile + FLASH_ROWS * WIDTH, *next = pairs + (turn ^ 1) * 2 * FLASH_ROWS * WIDTH;
        if (key + FLASH_ROWS < end)
        {
            load_tile<WIDTH>(next, keys + cache, s.key_row, key + FLASH_ROWS, end, s.dim);
            load_tile<WIDTH>(next + FLASH_ROWS * WIDTH, values + cache, s.key_row, key + FLASH_ROWS, end, s.dim);
        }

        copies_commit();
        copies_wait<1>();
        __syncthreads();
        float p[1][8][4], slope[1][8][4];
        scores<WIDTH, 1>(p, query_tile, warp_row, key_tile);
        scores<WIDTH, 1>(slope, d_tile, warp_row, value_tile);
#pragma unroll
        for (int n = 0; n < 8; n++)
        {
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                int column = key + 8 * n + 2 * (lane & 3) + (i & 1), h = i >> 1;
                bool visible = column >= low[h] && column <= high[h];
                p[0][n][i] = visible ? exp2_fast(p[0][n][i] * factor - log_sum[h]) * (slope[0][n][i] - delta[h]) * s.scale : 0;
            }
        }

        add_weighted<WIDTH, 1>(sum, p, key_tile);
        __syncthreads();
    }

    write_rows<WIDTH>(d_query + own, s.query_row, row, s.length, s.dim, sum[0], 1, 1, add);
}

// d_values = Σ Pᵀ·dO and d_keys = Σ (P∘(dP − delta)·scale)ᵀ·Q over all query heads that share the keys.
template <int WIDTH>
__device__ inline void flash_gradient_keys(
    const FlashShape& s, const u16* query, const u16* keys, const u16* values, const u16* d_output, const float* log_sums, const float* deltas,
    u16* d_keys, u16* d_values, const int* firsts, int add)
{
    NIBBLE_SHARED(u16, shared);
    __shared__ float log_tiles[2][FLASH_ROWS], delta_tiles[2][FLASH_ROWS];
    __shared__ int low_tiles[2][FLASH_ROWS];
    u16 *key_tile = shared, *value_tile = key_tile + FLASH_ROWS * WIDTH, *pairs = value_tile + FLASH_ROWS * WIDTH;
    int kv_head = blockIdx.y % s.kv_heads, batch = blockIdx.y / s.kv_heads, group = s.heads / s.kv_heads;
    int first_key = blockIdx.x * FLASH_ROWS, all = s.start + s.length;
    i64 cache = batch * s.key_batch + kv_head * s.key_head;
    firsts = firsts_of(s, firsts, batch);
    load_tile<WIDTH>(key_tile, keys + cache, s.key_row, first_key, all, s.dim);
    load_tile<WIDTH>(value_tile, values + cache, s.key_row, first_key, all, s.dim);
    copies_commit();
    int lane = threadIdx.x & 31, warp_row = (threadIdx.x >> 5) * 16, row = first_key + warp_row + (lane >> 2);
    float d_key[1][WIDTH / 8][4], d_value[1][WIDTH / 8][4], factor = s.scale * LOG2_E;
#pragma unroll
    for (int n = 0; n < WIDTH / 8; n++)
    {
        d_key[0][n][0] = d_key[0][n][1] = d_key[0][n][2] = d_key[0][n][3] = 0;
        d_value[0][n][0] = d_value[0][n][1] = d_value[0][n][2] = d_value[0][n][3] = 0;
    }

    // Queries before `begin` come before these keys, those from `end` on start after them.
    int begin = max(0, first_key - s.start) / FLASH_ROWS * FLASH_ROWS, tiles = 0;
    while (begin + tiles * FLASH_ROWS < s.length && first_visible(s, firsts, begin + tiles * FLASH_ROWS) < first_key + FLASH_ROWS) tiles++;
    auto load = [&](int step)
    {
        int head = kv_head * group + step / tiles, first_query = begin + step % tiles * FLASH_ROWS, turn = step & 1;
        i64 own = batch * s.query_batch + head * s.query_head;
        u16* query_tile = pairs + turn * 2 * FLASH_ROWS * WIDTH;
        load_tile<WIDTH>(query_tile, query + own, s.query_row, first_query, s.length, s.dim);
        load_tile<WIDTH>(query_tile + FLASH_ROWS * WIDTH, d_output + batch * s.out_batch + head * s.out_head, s.out_row, first_query, s.length, s.dim);
        for (int i = threadIdx.x; i < FLASH_ROWS; i += blockDim.x)
        {
            int q = first_query + i;
            i64 at = ((i64)batch * s.length + q) * s.heads + head;
            log_tiles[turn][i] = q < s.length ? log_sums[at] : infinity();
            delta_tiles[turn][i] = q < s.length ? deltas[at] : 0;
            low_tiles[turn][i] = q < s.length ? first_visible(s, firsts, q) : 0x7fffffff;
        }
    };
    int steps = group * tiles;
    if (steps > 0) load(0);
    copies_commit();
    for (int step = 0; step < steps; step++)
    {
        // The next pair of tiles is on its way while this one is used.
        if (step + 1 < steps) load(step + 1);
        copies_commit();
        copies_wait<1>();
        __syncthreads();
        int turn = step & 1, first_query = begin + step % tiles * FLASH_ROWS;
        u16 *query_tile = pairs + turn * 2 * FLASH_ROWS * WIDTH, *d_tile = query_tile + FLASH_ROWS * WIDTH;
        float p[1][8][4], slope[1][8][4];
        scores<WIDTH, 1>(p, key_tile, warp_row, query_tile);
        scores<WIDTH, 1>(slope, value_tile, warp_row, d_tile);
#pragma unroll
        for (int n = 0; n < 8; n++)
        {
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                int column = 8 * n + 2 * (lane & 3) + (i & 1), key = row + 8 * (i >> 1);
                bool visible = key >= low_tiles[turn][column] && key <= s.start + first_query + column;
                p[0][n][i] = visible ? exp2_fast(p[0][n][i] * factor - log_tiles[turn][column]) : 0;
                slope[0][n][i] = p[0][n][i] * (slope[0][n][i] - delta_tiles[turn][column]) * s.scale;
            }
        }

        add_weighted<WIDTH, 1>(d_value, p, d_tile);
        add_weighted<WIDTH, 1>(d_key, slope, query_tile);
        __syncthreads();
    }

    copies_wait<0>();
    write_rows<WIDTH>(d_keys + cache, s.key_row, row, all, s.dim, d_key[0], 1, 1, add);
    write_rows<WIDTH>(d_values + cache, s.key_row, row, all, s.dim, d_value[0], 1, 1, add);
}

#define TILED_KERNEL(name) extern "C" __global__ void __launch_bounds__(128) nibble_##name

#define FLASH(WIDTH) \
    TILED_KERNEL(flash_forward_##WIDTH)( \
        FlashShape s, const u16* query, const u16* keys, const u16* values, u16* output, float* log_sums, const int* firsts) \
    { flash_forward<WIDTH>(s, query, keys, values, output, log_sums, firsts); } \
    TILED_KERNEL(flash_gradient_query_##WIDTH)( \
        FlashShape s, const u16* query, const u16* keys, const u16* values, const u16* output, const u16* d_output, const float* log_sums, \
        float* deltas, u16* d_query, const int* firsts, int add) \
    { flash_gradient_query<WIDTH>(s, query, keys, values, output, d_output, log_sums, deltas, d_query, firsts, add); } \
    TILED_KERNEL(flash_gradient_keys_##WIDTH)( \
        FlashShape s, const u16* query, const u16* keys, const u16* values, const u16* d_output, const float* log_sums, const float* deltas, \
        u16* d_keys, u16* d_values, const int* firsts, int add) \
    { flash_gradient_keys<WIDTH>(s, query, keys, values, d_output, log_sums, deltas, d_keys, d_values, firsts, add); }

FLASH(64)
FLASH(128)
