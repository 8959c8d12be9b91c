// One new token in one launch: its query and key turn (arXiv 2104.09864), key and value go to the cache, and the query attends to all of it
// (flash decoding: blocks share a long cache, the last of a head to end joins their parts, in order).
//
// Caches hold BF16, or codes of 8 bits with a scale before each row. A block takes TOKEN_KEYS keys of one head: eight lanes share a key, each
// owns up to two pieces of eight elements. All of a block's keys and values are on their way before the first is used.
#include "mma.cuh"

#define TOKEN_KEYS 64
#define TOKEN_THREADS 128
#define TOKEN_GROUPS (TOKEN_THREADS / 8)
#define TOKEN_TURNS (TOKEN_KEYS / TOKEN_GROUPS)

struct __align__(16) Piece { u32 w[4]; };

// A row of a cache: a token's key or value of one head.
template <bool BYTES>
struct CacheRow;

template <>
struct CacheRow<false>
{
    Piece eight;
    __device__ static i64 bytes(int dim) { return 2 * (i64)dim; }
    __device__ static float scale(const u8*) { return 1; }
    __device__ void load(const u8* row, int column) { eight = *(const Piece*)(row + 2 * column); }
    __device__ void clear() { eight.w[0] = eight.w[1] = eight.w[2] = eight.w[3] = 0; }
    __device__ float value(int e) const { return __uint_as_float(e & 1 ? eight.w[e >> 1] & 0xffff0000u : eight.w[e >> 1] << 16); }
    __device__ static void store(u8* row, int column, float value, float) { ((u16*)row)[column] = to_bf16(value); }
};

// 8 bits with one F32 scale a row, which stands before the codes: x ≈ scale·(code − 128), scale = largest magnitude / 127. A row with NaN or
// infinity gives NaN.
template <>
struct CacheRow<true>
{
    u32 eight[2];
    __device__ static i64 bytes(int dim) { return dim + 4; }
    __device__ static float scale(const u8* row) { return *(const float*)row; }
    __device__ void load(const u8* row, int column)
    {
        eight[0] = *(const u32*)(row + 4 + column);
        eight[1] = *(const u32*)(row + 8 + column);
    }
    __device__ void clear() { eight[0] = eight[1] = 0; }
    __device__ float value(int e) const { return (float)(int)((eight[e >> 2] >> (8 * (e & 3))) & 255) - 128.0f; }
    __device__ static float scale_of(float largest) { return largest < infinity() ? largest / 127.0f : __uint_as_float(0x7fc00000u); }
    __device__ static void store(u8* row, int column, float value, float largest)
    {
        float inverse = largest > 0 && largest < infinity() ? 127.0f / largest : 0;
        if (column == 0) *(float*)row = scale_of(largest);
        row[4 + column] = inverse > 0 && inverse < infinity() ? (u8)(128 + (int)rintf(value * inverse)) : 128;
    }
};

// The largest magnitude; infinity if there is a NaN.
__device__ inline float largest_of(float a, float b)
{
    a = fabsf(a);
    b = fabsf(b);
    return a < infinity() && b < infinity() ? fmaxf(a, b) : infinity();
}

// TokenCall in C# has the same layout; strides in elements, from one row of the batch to the next.
struct TokenCall
{
    const float *query, *key, *value;
    float* output;
    void *keys, *values;                // [batch, kv_heads, capacity, dim]
    const int* positions;
    const float *cosines, *sines;       // [positions, dim/2], or null
    const int* first_keys;
    const int* slot;                    // where the token's place stands on the card, or null: `start`
    float* parts;                       // [batch, heads, parts, 2 + dim]
    u32* counters;                      // one a head, 0
    i64 query_stride, key_stride;
    int start, heads, kv_heads, capacity, dim, window;
    float scale;
    int unused;
};

// Parts (largest score, sum of weights, weighted values) added up in order. A part that saw no key has sum 0; NaN goes on.
struct Joined { float most, share, value; };

__device__ inline Joined join(const float* parts, i64 stride, int count, int dim)
{
    Joined all = {-infinity(), 0, 0};
    for (int n = 0; n < count; n++) all.most = fmaxf(all.most, parts[n * stride]);
    for (int n = 0; n < count; n++)
    {
        const float* one = parts + n * stride;
        if (one[1] == 0) continue;
        float factor = expf(one[0] - all.most);
        all.share += factor * one[1];
        if ((int)threadIdx.x < dim) all.value += factor * one[2 + threadIdx.x];
    }

    return all;
}

template <int WIDTH, bool BYTES>
__device__ inline void attend_token(const TokenCall& c)
{
    const int OWN = WIDTH / 64;
    typedef CacheRow<BYTES> Row;
    __shared__ float query[WIDTH], new_key[WIDTH], sums[TOKEN_GROUPS][WIDTH + 2], scratch[TOKEN_THREADS / 32];
    __shared__ __align__(16) u8 key_row[2 * WIDTH + 16], value_row[2 * WIDTH + 16];
    __shared__ u32 arrived;
    int thread = threadIdx.x, lane = thread & 31, sub = lane & 7, group = thread >> 3;
    int head = blockIdx.y % c.heads, batch = blockIdx.y / c.heads, shared_by = c.heads / c.kv_heads, kv_head = head / shared_by;
    allow_next();
    await_previous();
    int last = c.slot ? *c.slot : c.start, begin = blockIdx.x * TOKEN_KEYS;
    if (begin > last) return;
    int first = c.first_keys ? c.first_keys[batch] : 0;
    if (c.window > 0) first = max(first, last - c.window + 1);
    bool newest = last < begin + TOKEN_KEYS;
    i64 row_bytes = Row::bytes(c.dim), cache = ((i64)batch * c.kv_heads + kv_head) * c.capacity * row_bytes;
    u8 *keys = (u8*)c.keys + cache, *values = (u8*)c.values + cache;

    // Keys and values of the cache do not wait for the rotation.
    Row key_pieces[TOKEN_TURNS][OWN], value_pieces[TOKEN_TURNS][OWN];
    float key_scales[TOKEN_TURNS], value_scales[TOKEN_TURNS];
#pragma unroll
    for (int turn = 0; turn < TOKEN_TURNS; turn++)
    {
        int slot = begin + turn * TOKEN_GROUPS + group;
        bool read = slot >= first && slot < last;
        key_scales[turn] = read ? Row::scale(keys + slot * row_bytes) : 0;
        value_scales[turn] = read ? Row::scale(values + slot * row_bytes) : 0;
#pragma unroll
        for (int o = 0; o < OWN; o++)
        {
            int column = 8 * (sub + 8 * o);
            key_pieces[turn][o].clear();
            value_pieces[turn][o].clear();
            if (!read || column >= c.dim) continue;
            key_pieces[turn][o].load(keys + slot * row_bytes, column);
            value_pieces[turn][o].load(values + slot * row_bytes, column);
        }
    }

    const float *q = c.query + batch * c.query_stride + head * c.dim, *k = c.key + batch * c.key_stride + kv_head * c.dim;
    int half = c.dim / 2;
    if (thread < half)
    {
        float cosine = 1, sine = 0, q0 = q[thread], q1 = q[thread + half], k0 = 0, k1 = 0;
        if (newest) k0 = k[thread], k1 = k[thread + half];
        if (c.cosines)
        {
            i64 angle = (i64)c.positions[batch] * half + thread;
            cosine = c.cosines[angle];
            sine = c.sines[angle];
        }

        query[thread] = (q0 * cosine - q1 * sine) * c.scale;
        query[thread + half] = (q1 * cosine + q0 * sine) * c.scale;
        new_key[thread] = k0 * cosine - k1 * sine;
        new_key[thread + half] = k1 * cosine + k0 * sine;
    }

    __syncthreads();
    if (newest)
    {
        float own_key = thread < c.dim ? new_key[thread] : 0;
        float own_value = thread < c.dim ? c.value[batch * c.key_stride + kv_head * c.dim + thread] : 0, most_key = 0, most_value = 0;
        if (BYTES)
        {
            most_key = block_max(largest_of(own_key, 0), scratch);
            most_value = block_max(largest_of(own_value, 0), scratch);
        }

        if (thread < c.dim)
        {
            Row::store(key_row, thread, own_key, most_key);
            Row::store(value_row, thread, own_value, most_value);
            if (head % shared_by == 0)
            {
                Row::store(keys + last * row_bytes, thread, own_key, most_key);
                Row::store(values + last * row_bytes, thread, own_value, most_value);
            }
        }

        __syncthreads();
    }

    float score[TOKEN_TURNS], largest = -infinity();
    bool seen[TOKEN_TURNS];
#pragma unroll
    for (int turn = 0; turn < TOKEN_TURNS; turn++)
    {
        int slot = begin + turn * TOKEN_GROUPS + group;
        seen[turn] = slot >= first && slot <= last;
        if (slot == last)
        {
            key_scales[turn] = Row::scale(key_row);
            value_scales[turn] = Row::scale(value_row);
        }

        float sum = 0;
#pragma unroll
        for (int o = 0; o < OWN; o++)
        {
            int column = 8 * (sub + 8 * o);
            if (column >= c.dim) continue;
            if (slot == last)
            {
                key_pieces[turn][o].load(key_row, column);
                value_pieces[turn][o].load(value_row, column);
            }

#pragma unroll
            for (int e = 0; e < 8; e++) sum = fmaf(query[column + e], key_pieces[turn][o].value(e), sum);
        }

        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        sum += __shfl_xor_sync(FULL_WARP, sum, 4);
        score[turn] = BYTES ? sum * key_scales[turn] : sum;
        if (seen[turn]) largest = fmaxf(largest, score[turn]);
    }

    // Scores of −infinity alone have weights of 0, not of NaN.
    float shift = largest == -infinity() ? 0 : largest, total = 0, own[OWN][8];
#pragma unroll
    for (int o = 0; o < OWN; o++)
    {
#pragma unroll
        for (int e = 0; e < 8; e++) own[o][e] = 0;
    }

#pragma unroll
    for (int turn = 0; turn < TOKEN_TURNS; turn++)
    {
        // Only visible keys: 0 times a NaN of a hidden value would be NaN.
        if (!seen[turn]) continue;
        float weight = expf(score[turn] - shift);
        total += weight;
        if (BYTES) weight *= value_scales[turn];
#pragma unroll
        for (int o = 0; o < OWN; o++)
        {
#pragma unroll
            for (int e = 0; e < 8; e++) own[o][e] = fmaf(weight, value_pieces[turn][o].value(e), own[o][e]);
        }
    }

    if (sub == 0)
    {
        sums[group][0] = largest;
        sums[group][1] = total;
    }

#pragma unroll
    for (int o = 0; o < OWN; o++)
    {
#pragma unroll
        for (int e = 0; e < 8; e++) sums[group][2 + 8 * (sub + 8 * o) + e] = own[o][e];
    }

    __syncthreads();
    Joined all = join(sums[0], WIDTH + 2, TOKEN_GROUPS, c.dim);
    float* out = c.output + ((i64)batch * c.heads + head) * c.dim;
    int parts = last / TOKEN_KEYS + 1;
    if (parts == 1)
    {
        // A query that sees no key gets zeros.
        if (thread < c.dim) out[thread] = all.share == 0 ? 0 : all.value / all.share;
        return;
    }

    float* of_head = c.parts + (i64)blockIdx.y * gridDim.x * (2 + c.dim);
    float* part = of_head + (i64)blockIdx.x * (2 + c.dim);
    if (thread == 0)
    {
        part[0] = all.most;
        part[1] = all.share;
    }

    if (thread < c.dim) part[2 + thread] = all.value;
    fence();
    __syncthreads();
    if (thread == 0) arrived = atomicAdd(c.counters + blockIdx.y, 1u);
    __syncthreads();
    if (arrived != (u32)parts - 1) return;
    fence();
    if (thread == 0) c.counters[blockIdx.y] = 0;
    all = join(of_head, 2 + c.dim, parts, c.dim);
    if (thread < c.dim) out[thread] = all.share == 0 ? 0 : all.value / all.share;
}

#define ATTEND_TOKEN(width) \
    KERNEL(attend_token_##width)(TokenCall call) { attend_token<width, false>(call); } \
    KERNEL(attend_token_bytes_##width)(TokenCall call) { attend_token<width, true>(call); }

ATTEND_TOKEN(64)
ATTEND_TOKEN(128)

// New keys or values of many tokens into a cache of 8 bits: a warp writes a row. x [batch·length, heads, dim] is F32 or BF16.
KERNEL(append_bytes)(const void* x, int type, u8* cache, i64 rows, int length, int heads, int capacity, int dim, int start)
{
    int lane = threadIdx.x & 31;
    i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= rows) return;
    int head = (int)(row % heads);
    i64 token = row / heads, slot = ((token / length * heads + head) * capacity + start + token % length) * CacheRow<true>::bytes(dim);
    float largest = 0;
    for (int d = lane; d < dim; d += 32) largest = largest_of(largest, read_number(x, type, row * dim + d));
    largest = warp_max(largest);
    for (int d = lane; d < dim; d += 32) CacheRow<true>::store(cache + slot, d, read_number(x, type, row * dim + d), largest);
}

// The first slots of each head of such a cache as BF16, [batch·heads, slots, dim].
KERNEL(widen_bytes)(const u8* cache, u16* y, i64 count, int slots, int capacity, int dim)
{
    GRID_STRIDE(i, count)
    {
        i64 row = i / dim, head = row / slots;
        const u8* stored = cache + (head * capacity + row % slots) * CacheRow<true>::bytes(dim);
        y[i] = to_bf16(((float)stored[4 + i % dim] - 128.0f) * CacheRow<true>::scale(stored));
    }
}
