// Causal attention over a key-value cache with grouped heads, and its gradient: online softmax (FlashAttention, arXiv 2205.14135).
//
// The query heads that share a key-value head are rows of one tile: row = token·group + head in group. A block takes 16 rows (4 warps
// of 4) through tiles of 32 keys in shared memory; lane j of a warp computes the score of key j, then owns elements lane, lane + 32 …
// of the row's sum. Rows of keys stand dim + 1 apart, so that lanes that read down a column use different banks.
#include "common.cuh"

#define WARPS 4
#define ROWS_PER_WARP 4
#define TILE_ROWS (WARPS * ROWS_PER_WARP)
#define TILE_KEYS 32

// AttentionShape in C# has the same layout.
struct AttentionShape
{
    int length, start, heads, kv_heads, capacity, dim, window;
    float scale;
    int first_of_queries;        // first_keys has a slot for each query, not only for each row of the batch
};

// One block's part: batch row, key-value head, and where their data starts.
struct Part
{
    int group, rows, kv_head, batch;
    const int* first_keys;
    i64 cache;
};

__device__ inline Part part_of(const AttentionShape& s, const int* first_keys)
{
    Part part;
    part.group = s.heads / s.kv_heads;
    part.rows = s.length * part.group;
    part.kv_head = blockIdx.y % s.kv_heads;
    part.batch = blockIdx.y / s.kv_heads;
    part.first_keys = first_keys ? first_keys + (i64)part.batch * (s.first_of_queries ? s.length : 1) : nullptr;
    part.cache = ((i64)part.batch * s.kv_heads + part.kv_head) * s.capacity * s.dim;
    return part;
}

// Where row r (token·group + head in group) of the queries starts.
__device__ inline i64 query_at(const AttentionShape& s, const Part& part, int row)
{
    int token = row / part.group, head = part.kv_head * part.group + row % part.group;
    return (((i64)part.batch * s.length + token) * s.heads + head) * s.dim;
}

// Statistics of row r: [batch, heads, length] would do as well; the row's own order is simplest.
__device__ inline i64 statistics_at(const AttentionShape& s, const Part& part, int row) { return 3 * (query_at(s, part, row) / s.dim); }

__device__ inline int last_key(const AttentionShape& s, const Part& part, int row) { return s.start + row / part.group; }

__device__ inline int first_key(const AttentionShape& s, const Part& part, int row)
{
    int first = !part.first_keys ? 0 : part.first_keys[s.first_of_queries ? row / part.group : 0];
    return s.window > 0 ? max(first, last_key(s, part, row) - s.window + 1) : first;
}

__device__ inline void load_tile(float* tile, const float* source, int rows, int dim, int stride)
{
    for (int i = threadIdx.x; i < rows * dim; i += blockDim.x) tile[(i / dim) * stride + i % dim] = source[i];
}

__device__ inline void load_queries(float* tile, const float* source, const AttentionShape& s, const Part& part, int first, int rows, int stride)
{
    for (int i = threadIdx.x; i < rows * s.dim; i += blockDim.x)
    {
        tile[(i / s.dim) * stride + i % s.dim] = source[query_at(s, part, first + i / s.dim) + i % s.dim];
    }
}

__device__ inline float dot(const float* a, const float* b, int dim)
{
    float sum = 0;
#pragma unroll 4
    for (int d = 0; d < dim; d++) sum = fmaf(a[d], b[d], sum);
    return sum;
}

// DIMS: elements of a row that a lane owns, ≥ dim/32.
template <int DIMS>
__device__ inline void attend(
    const AttentionShape& s, const float* query, const float* keys, const float* values, float* output, const int* first_keys)
{
    NIBBLE_SHARED(float, shared);
    Part part = part_of(s, first_keys);
    int stride = s.dim + 1, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float *queries = shared, *key_tile = queries + TILE_ROWS * s.dim, *value_tile = key_tile + TILE_KEYS * stride;
    int first_row = blockIdx.x * TILE_ROWS, rows = min(TILE_ROWS, part.rows - first_row);
    load_queries(queries, query, s, part, first_row, rows, s.dim);
    float sum[ROWS_PER_WARP][DIMS], largest[ROWS_PER_WARP], total[ROWS_PER_WARP];
    for (int i = 0; i < ROWS_PER_WARP; i++)
    {
        largest[i] = -infinity();
        total[i] = 0;
        for (int d = 0; d < DIMS; d++) sum[i][d] = 0;
    }

    int end = last_key(s, part, first_row + rows - 1) + 1;
    for (int key = max(0, first_key(s, part, first_row)); key < end; key += TILE_KEYS)
    {
        int count = min(TILE_KEYS, end - key);
        __syncthreads();
        load_tile(key_tile, keys + part.cache + (i64)key * s.dim, count, s.dim, stride);
        load_tile(value_tile, values + part.cache + (i64)key * s.dim, count, s.dim, s.dim);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ROWS_PER_WARP; i++)
        {
            int row = warp * ROWS_PER_WARP + i;
            if (row >= rows) continue;
            int low = max(0, first_key(s, part, first_row + row) - key), high = min(count, last_key(s, part, first_row + row) + 1 - key);
            if (low >= high) continue;
            bool visible = lane >= low && lane < high;
            float score = visible ? s.scale * dot(queries + row * s.dim, key_tile + lane * stride, s.dim) : -infinity();
            float most = fmaxf(largest[i], warp_max(score));
            float shrink = largest[i] == -infinity() ? 0 : expf(largest[i] - most);
            float weight = visible ? expf(score - most) : 0;
            largest[i] = most;
            total[i] = total[i] * shrink + warp_sum(weight);
#pragma unroll
            for (int d = 0; d < DIMS; d++) sum[i][d] *= shrink;
            // Only visible keys: 0 times a NaN of a hidden value would be NaN.
            for (int t = low; t < high; t++)
            {
                float w = __shfl_sync(FULL_WARP, weight, t);
#pragma unroll
                for (int d = 0; d < DIMS; d++)
                {
                    if (lane + 32 * d < s.dim) sum[i][d] = fmaf(w, value_tile[t * s.dim + lane + 32 * d], sum[i][d]);
                }
            }
        }
    }

#pragma unroll
    for (int i = 0; i < ROWS_PER_WARP; i++)
    {
        int row = warp * ROWS_PER_WARP + i;
        if (row >= rows) continue;
        bool seen = first_key(s, part, first_row + row) <= last_key(s, part, first_row + row);
        float* out = output + query_at(s, part, first_row + row);
#pragma unroll
        for (int d = 0; d < DIMS; d++)
        {
            if (lane + 32 * d < s.dim) out[lane + 32 * d] = seen ? sum[i][d] / total[i] : 0;
        }
    }
}

// Backward, per query: the row's largest score, the sum of its exponentials and delta = Σ P∘dP go to statistics, then
// dQ += Σ P∘(dP − delta)·scale·K in a second pass over the keys.
template <int DIMS>
__device__ inline void attend_gradient_query(
    const AttentionShape& s, const float* query, const float* keys, const float* values, const float* d_output, float* d_query,
    float* statistics, const int* first_keys)
{
    NIBBLE_SHARED(float, shared);
    Part part = part_of(s, first_keys);
    int stride = s.dim + 1, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float *queries = shared, *d_outputs = queries + TILE_ROWS * s.dim;
    float *key_tile = d_outputs + TILE_ROWS * s.dim, *value_tile = key_tile + TILE_KEYS * stride;
    int first_row = blockIdx.x * TILE_ROWS, rows = min(TILE_ROWS, part.rows - first_row);
    load_queries(queries, query, s, part, first_row, rows, s.dim);
    load_queries(d_outputs, d_output, s, part, first_row, rows, s.dim);
    float sum[ROWS_PER_WARP][DIMS], largest[ROWS_PER_WARP], total[ROWS_PER_WARP], delta[ROWS_PER_WARP];
    for (int i = 0; i < ROWS_PER_WARP; i++)
    {
        largest[i] = -infinity();
        total[i] = 0;
        delta[i] = 0;
        for (int d = 0; d < DIMS; d++) sum[i][d] = 0;
    }

    int begin = max(0, first_key(s, part, first_row)), end = last_key(s, part, first_row + rows - 1) + 1;
    for (int pass = 0; pass < 2; pass++)
    {
        for (int key = begin; key < end; key += TILE_KEYS)
        {
            int count = min(TILE_KEYS, end - key);
            __syncthreads();
            load_tile(key_tile, keys + part.cache + (i64)key * s.dim, count, s.dim, stride);
            load_tile(value_tile, values + part.cache + (i64)key * s.dim, count, s.dim, stride);
            __syncthreads();
#pragma unroll
            for (int i = 0; i < ROWS_PER_WARP; i++)
            {
                int row = warp * ROWS_PER_WARP + i;
                if (row >= rows) continue;
                int low = max(0, first_key(s, part, first_row + row) - key), high = min(count, last_key(s, part, first_row + row) + 1 - key);
                if (low >= high) continue;
                bool visible = lane >= low && lane < high;
                float score = visible ? s.scale * dot(queries + row * s.dim, key_tile + lane * stride, s.dim) : -infinity();
                float slope = visible ? dot(d_outputs + row * s.dim, value_tile + lane * stride, s.dim) : 0;
                if (pass == 0)
                {
                    float most = fmaxf(largest[i], warp_max(score));
                    float shrink = largest[i] == -infinity() ? 0 : expf(largest[i] - most);
                    float weight = visible ? expf(score - most) : 0;
                    largest[i] = most;
                    total[i] = total[i] * shrink + warp_sum(weight);
                    delta[i] = delta[i] * shrink + warp_sum(weight * slope);
                    continue;
                }

                float weight = visible ? expf(score - largest[i]) / total[i] * (slope - delta[i]) * s.scale : 0;
                for (int t = low; t < high; t++)
                {
                    float w = __shfl_sync(FULL_WARP, weight, t);
#pragma unroll
                    for (int d = 0; d < DIMS; d++)
                    {
                        if (lane + 32 * d < s.dim) sum[i][d] = fmaf(w, key_tile[t * stride + lane + 32 * d], sum[i][d]);
                    }
                }
            }
        }

        for (int i = 0; pass == 0 && i < ROWS_PER_WARP; i++) delta[i] = total[i] > 0 ? delta[i] / total[i] : 0;
    }

#pragma unroll
    for (int i = 0; i < ROWS_PER_WARP; i++)
    {
        int row = warp * ROWS_PER_WARP + i;
        if (row >= rows) continue;
        i64 at = query_at(s, part, first_row + row);
#pragma unroll
        for (int d = 0; d < DIMS; d++)
        {
            if (lane + 32 * d < s.dim) d_query[at + lane + 32 * d] += sum[i][d];
        }

        if (lane == 0)
        {
            float* out = statistics + statistics_at(s, part, first_row + row);
            out[0] = largest[i];
            out[1] = total[i];
            out[2] = delta[i];
        }
    }
}

// Backward, per key: dV += Pᵀ·dO and dK += (P∘(dP − delta)·scale)ᵀ·Q. A block owns 16 keys (4 warps of 4) and goes through tiles of
// 32 queries; lane t of a warp stands for query t.
template <int DIMS>
__device__ inline void attend_gradient_keys(
    const AttentionShape& s, const float* query, const float* keys, const float* values, const float* d_output, const float* statistics,
    float* d_keys, float* d_values, const int* first_keys)
{
    NIBBLE_SHARED(float, shared);
    Part part = part_of(s, first_keys);
    int stride = s.dim + 1, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float *key_tile = shared, *value_tile = key_tile + TILE_ROWS * s.dim;
    float *queries = value_tile + TILE_ROWS * s.dim, *d_outputs = queries + TILE_KEYS * stride;
    int begin = blockIdx.x * TILE_ROWS, count = min(TILE_ROWS, s.start + s.length - begin);
    load_tile(key_tile, keys + part.cache + (i64)begin * s.dim, count, s.dim, s.dim);
    load_tile(value_tile, values + part.cache + (i64)begin * s.dim, count, s.dim, s.dim);
    float d_key[ROWS_PER_WARP][DIMS], d_value[ROWS_PER_WARP][DIMS];
    for (int i = 0; i < ROWS_PER_WARP; i++)
    {
        for (int d = 0; d < DIMS; d++) d_key[i][d] = d_value[i][d] = 0;
    }

    // Queries before the first key of this block do not see it.
    int first_row = max(0, begin - s.start) * part.group;
    for (int row = first_row; row < part.rows; row += TILE_KEYS)
    {
        int rows = min(TILE_KEYS, part.rows - row);
        __syncthreads();
        load_queries(queries, query, s, part, row, rows, stride);
        load_queries(d_outputs, d_output, s, part, row, rows, stride);
        __syncthreads();
        int low = 0, high = -1;
        float largest = 0, total = 1, delta = 0;
        if (lane < rows)
        {
            const float* stored = statistics + statistics_at(s, part, row + lane);
            low = first_key(s, part, row + lane);
            high = last_key(s, part, row + lane);
            largest = stored[0];
            total = stored[1];
            delta = stored[2];
        }

#pragma unroll
        for (int i = 0; i < ROWS_PER_WARP; i++)
        {
            int key = begin + warp * ROWS_PER_WARP + i;
            if (key >= begin + count) continue;
            const float *own_key = key_tile + (key - begin) * s.dim, *own_value = value_tile + (key - begin) * s.dim;
            bool visible = key >= low && key <= high;
            float weight = visible ? expf(s.scale * dot(queries + lane * stride, own_key, s.dim) - largest) / total : 0;
            float slope = visible ? weight * (dot(d_outputs + lane * stride, own_value, s.dim) - delta) * s.scale : 0;
            for (int t = 0; t < rows; t++)
            {
                float w = __shfl_sync(FULL_WARP, weight, t), g = __shfl_sync(FULL_WARP, slope, t);
#pragma unroll
                for (int d = 0; d < DIMS; d++)
                {
                    if (lane + 32 * d >= s.dim) continue;
                    d_value[i][d] = fmaf(w, d_outputs[t * stride + lane + 32 * d], d_value[i][d]);
                    d_key[i][d] = fmaf(g, queries[t * stride + lane + 32 * d], d_key[i][d]);
                }
            }
        }
    }

#pragma unroll
    for (int i = 0; i < ROWS_PER_WARP; i++)
    {
        int key = begin + warp * ROWS_PER_WARP + i;
        if (key >= begin + count) continue;
        i64 at = part.cache + (i64)key * s.dim;
#pragma unroll
        for (int d = 0; d < DIMS; d++)
        {
            if (lane + 32 * d >= s.dim) continue;
            d_keys[at + lane + 32 * d] += d_key[i][d];
            d_values[at + lane + 32 * d] += d_value[i][d];
        }
    }
}

// One new token: a block takes TOKEN_KEYS keys of one head, so that many blocks share a long cache; the parts (largest score, sum of
// weights, weighted sum of values) go to [row, head, part, 2 + dim]. With `slot`, the token's place comes from the card's memory: a
// recorded launch serves every step.
#define TOKEN_KEYS 64
#define TOKEN_WARPS 4

template <int DIMS>
__device__ inline void attend_token(
    const AttentionShape& s, const float* query, const float* keys, const float* values, const int* first_keys, const int* slot, float* parts)
{
    __shared__ float scratch[TOKEN_WARPS][2 + 32 * DIMS];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, head = blockIdx.y % s.heads, batch = blockIdx.y / s.heads;
    int last = slot ? *slot : s.start, first = first_keys ? first_keys[batch] : 0;
    if (s.window > 0) first = max(first, last - s.window + 1);
    i64 cache = ((i64)batch * s.kv_heads + head / (s.heads / s.kv_heads)) * s.capacity * s.dim;
    float q[DIMS], sum[DIMS], largest = -infinity(), total = 0;
#pragma unroll
    for (int d = 0; d < DIMS; d++)
    {
        q[d] = lane + 32 * d < s.dim ? query[(i64)blockIdx.y * s.dim + lane + 32 * d] * s.scale : 0;
        sum[d] = 0;
    }

    const int each = 4;
    int end = min(last, (int)(blockIdx.x + 1) * TOKEN_KEYS - 1);
    for (int base = blockIdx.x * TOKEN_KEYS + warp * each; base <= end; base += TOKEN_WARPS * each)
    {
        float scores[each], value[each][DIMS];
#pragma unroll
        for (int k = 0; k < each; k++)
        {
            scores[k] = 0;
            i64 at = cache + (i64)min(base + k, last) * s.dim;
#pragma unroll
            for (int d = 0; d < DIMS; d++)
            {
                bool inside = lane + 32 * d < s.dim;
                scores[k] += inside ? q[d] * keys[at + lane + 32 * d] : 0;
                value[k][d] = inside ? values[at + lane + 32 * d] : 0;
            }
        }

#pragma unroll
        for (int k = 0; k < each; k++)
        {
            float score = warp_sum(scores[k]);
            if (base + k < first || base + k > end) continue;
            // Scores of −infinity alone have weights of 0, not of NaN.
            float most = fmaxf(largest, score), keep = largest == most ? 1.0f : expf(largest - most);
            float shift = most == -infinity() ? 0 : most, weight = expf(score - shift);
            largest = most;
            total = total * keep + weight;
#pragma unroll
            for (int d = 0; d < DIMS; d++) sum[d] = sum[d] * keep + weight * value[k][d];
        }
    }

    float* own = scratch[warp];
    own[0] = largest;
    own[1] = total;
#pragma unroll
    for (int d = 0; d < DIMS; d++) own[2 + lane + 32 * d] = sum[d];
    __syncthreads();
    float most = -infinity();
    for (int w = 0; w < TOKEN_WARPS; w++) most = fmaxf(most, scratch[w][0]);
    float* out = parts + ((i64)blockIdx.y * gridDim.x + blockIdx.x) * (2 + s.dim);
    for (int n = threadIdx.x; n < 1 + s.dim; n += blockDim.x)
    {
        float result = 0;
        for (int w = 0; w < TOKEN_WARPS; w++) result += scratch[w][1] == 0 ? 0 : expf(scratch[w][0] - most) * scratch[w][1 + n];
        out[1 + n] = result;
    }

    if (threadIdx.x == 0) out[0] = most;
}

// Joins the parts of a head. A part that saw no key has sum 0; NaN goes on. A query that sees no key gets zeros.
KERNEL(attention_join)(const float* parts, float* output, int count, int dim)
{
    const float* own = parts + (i64)blockIdx.x * count * (2 + dim);
    float most = -infinity(), total = 0;
    for (int part = 0; part < count; part++) most = fmaxf(most, own[(i64)part * (2 + dim)]);
    for (int part = 0; part < count; part++)
    {
        const float* one = own + (i64)part * (2 + dim);
        total += one[1] == 0 ? 0 : expf(one[0] - most) * one[1];
    }

    for (int n = threadIdx.x; n < dim; n += blockDim.x)
    {
        float sum = 0;
        for (int part = 0; part < count; part++)
        {
            const float* one = own + (i64)part * (2 + dim);
            if (one[1] != 0) sum += expf(one[0] - most) * one[2 + n];
        }

        output[(i64)blockIdx.x * dim + n] = total != 0 ? sum / total : 0;
    }
}

#define ATTENTION(DIMS) \
    KERNEL(attention_token_##DIMS)( \
        AttentionShape s, const float* query, const float* keys, const float* values, const int* first_keys, const int* slot, float* parts) \
    { attend_token<DIMS>(s, query, keys, values, first_keys, slot, parts); } \
    KERNEL(attention_##DIMS)(AttentionShape s, const float* query, const float* keys, const float* values, float* output, const int* first_keys) \
    { attend<DIMS>(s, query, keys, values, output, first_keys); } \
    KERNEL(attention_gradient_query_##DIMS)( \
        AttentionShape s, const float* query, const float* keys, const float* values, const float* d_output, float* d_query, \
        float* statistics, const int* first_keys) \
    { attend_gradient_query<DIMS>(s, query, keys, values, d_output, d_query, statistics, first_keys); } \
    KERNEL(attention_gradient_keys_##DIMS)( \
        AttentionShape s, const float* query, const float* keys, const float* values, const float* d_output, const float* statistics, \
        float* d_keys, float* d_values, const int* first_keys) \
    { attend_gradient_keys<DIMS>(s, query, keys, values, d_output, statistics, d_keys, d_values, first_keys); }

ATTENTION(1)
ATTENTION(2)
ATTENTION(4)
ATTENTION(8)
