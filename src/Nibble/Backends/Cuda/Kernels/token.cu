// One new token in one launch: its query and key turn (arXiv 2104.09864), key and value go to the cache, and the query attends to all of it
// (flash decoding: blocks share a long cache, the last of a head to end joins their parts, in order).
//
// Caches hold BF16, or 8-bit codes with a scale before each row. A block takes TOKEN_KEYS keys of one head: eight lanes share a key, each
// owns up to two pieces of eight elements. All of a block's keys and values are on their way before the first is used.
#include "mma.cuh"

#define TOKEN_KEYS 64
#define TOKEN_THREADS 128
#define TOKEN_GROUPS (TOKEN_THREADS / 8)
#define TOKEN_TURNS (TOKEN_KEYS / TOKEN_GROUPS)

struct __align__(16) Piece { u32 w[4]; };

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

template <int WIDTH>
__device__ inline void attend_token(const TokenCall& c)
{
    const int OWN = WIDTH / 64;
    __shared__ float query[WIDTH], sums[TOKEN_GROUPS][WIDTH + 2];
    __shared__ __align__(16) u16 new_key[WIDTH], new_value[WIDTH];
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
    i64 cache = ((i64)batch * c.kv_heads + kv_head) * c.capacity * c.dim;
    u16 *keys = (u16*)c.keys + cache, *values = (u16*)c.values + cache;

    // Keys and values of the cache do not wait for the rotation.
    Piece key_pieces[TOKEN_TURNS][OWN], value_pieces[TOKEN_TURNS][OWN];
#pragma unroll
    for (int turn = 0; turn < TOKEN_TURNS; turn++)
    {
        int slot = begin + turn * TOKEN_GROUPS + group;
#pragma unroll
        for (int o = 0; o < OWN; o++)
        {
            int column = 8 * (sub + 8 * o);
            bool read = slot >= first && slot < last && column < c.dim;
            Piece none = {{0, 0, 0, 0}};
            key_pieces[turn][o] = read ? *(const Piece*)(keys + (i64)slot * c.dim + column) : none;
            value_pieces[turn][o] = read ? *(const Piece*)(values + (i64)slot * c.dim + column) : none;
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
        new_key[thread] = to_bf16(k0 * cosine - k1 * sine);
        new_key[thread + half] = to_bf16(k1 * cosine + k0 * sine);
    }

    if (thread < c.dim) new_value[thread] = newest ? to_bf16(c.value[batch * c.key_stride + kv_head * c.dim + thread]) : 0;
    __syncthreads();
    if (newest && head % shared_by == 0 && thread < c.dim)
    {
        keys[(i64)last * c.dim + thread] = new_key[thread];
        values[(i64)last * c.dim + thread] = new_value[thread];
    }

    float score[TOKEN_TURNS], largest = -infinity();
    bool seen[TOKEN_TURNS];
#pragma unroll
    for (int turn = 0; turn < TOKEN_TURNS; turn++)
    {
        int slot = begin + turn * TOKEN_GROUPS + group;
        seen[turn] = slot >= first && slot <= last;
        float sum = 0;
#pragma unroll
        for (int o = 0; o < OWN; o++)
        {
            int column = 8 * (sub + 8 * o);
            if (column >= c.dim) continue;
            if (slot == last)
            {
                key_pieces[turn][o] = *(const Piece*)(new_key + column);
                value_pieces[turn][o] = *(const Piece*)(new_value + column);
            }

#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                u32 pair = key_pieces[turn][o].w[e];
                sum = fmaf(query[column + 2 * e], __uint_as_float(pair << 16), sum);
                sum = fmaf(query[column + 2 * e + 1], __uint_as_float(pair & 0xffff0000u), sum);
            }
        }

        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        sum += __shfl_xor_sync(FULL_WARP, sum, 4);
        score[turn] = sum;
        if (seen[turn]) largest = fmaxf(largest, sum);
    }

    float total = 0, own[OWN][8];
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
        float weight = expf(score[turn] - largest);
        total += weight;
#pragma unroll
        for (int o = 0; o < OWN; o++)
        {
#pragma unroll
            for (int e = 0; e < 4; e++)
            {
                u32 pair = value_pieces[turn][o].w[e];
                own[o][2 * e] = fmaf(weight, __uint_as_float(pair << 16), own[o][2 * e]);
                own[o][2 * e + 1] = fmaf(weight, __uint_as_float(pair & 0xffff0000u), own[o][2 * e + 1]);
            }
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
    float most = -infinity();
    for (int g = 0; g < TOKEN_GROUPS; g++) most = fmaxf(most, sums[g][0]);
    float share = 0, result = 0;
    for (int g = 0; g < TOKEN_GROUPS; g++)
    {
        if (sums[g][0] == -infinity()) continue;
        float factor = expf(sums[g][0] - most);
        share += factor * sums[g][1];
        if (thread < c.dim) result += factor * sums[g][2 + thread];
    }

    float* out = c.output + ((i64)batch * c.heads + head) * c.dim;
    int parts = last / TOKEN_KEYS + 1;
    if (parts == 1)
    {
        // A query that sees no key gets zeros.
        if (thread < c.dim) out[thread] = share > 0 ? result / share : 0;
        return;
    }

    float* of_head = c.parts + (i64)blockIdx.y * gridDim.x * (2 + c.dim);
    float* part = of_head + (i64)blockIdx.x * (2 + c.dim);
    if (thread == 0)
    {
        part[0] = most;
        part[1] = share;
    }

    if (thread < c.dim) part[2 + thread] = result;
    fence();
    __syncthreads();
    if (thread == 0) arrived = atomicAdd(c.counters + blockIdx.y, 1u);
    __syncthreads();
    if (arrived != (u32)parts - 1) return;
    fence();
    if (thread == 0) c.counters[blockIdx.y] = 0;
    most = -infinity();
    for (int n = 0; n < parts; n++) most = fmaxf(most, of_head[(i64)n * (2 + c.dim)]);
    share = result = 0;
    for (int n = 0; n < parts; n++)
    {
        const float* one = of_head + (i64)n * (2 + c.dim);
        if (one[0] == -infinity()) continue;
        float factor = expf(one[0] - most);
        share += factor * one[1];
        if (thread < c.dim) result += factor * one[2 + thread];
    }

    if (thread < c.dim) out[thread] = share > 0 ? result / share : 0;
}

#define ATTEND_TOKEN(width) \
    KERNEL(attend_token_##width)(TokenCall call) { attend_token<width>(call); }

ATTEND_TOKEN(64)
ATTEND_TOKEN(128)
