// Log-likelihood over blocks of the vocabulary, and cross-entropy with its gradient.
#include "common.cuh"

// What a row knows after some blocks of the vocabulary; LikelihoodState in C# has the same layout.
struct LikelihoodState
{
    double sum;
    float largest;
    float target;
    int best;
    int unused;
};

// The first index of the largest value in the block; NaN is never the largest.
__device__ inline void block_best(float& value, int& index, float* values, int* indices)
{
    for (int offset = 16; offset > 0; offset >>= 1)
    {
        float other = __shfl_xor_sync(FULL_WARP, value, offset);
        int other_index = __shfl_xor_sync(FULL_WARP, index, offset);
        if (other > value || (other == value && other_index < index)) { value = other; index = other_index; }
    }

    __syncthreads();
    if ((threadIdx.x & 31) == 0) { values[threadIdx.x >> 5] = value; indices[threadIdx.x >> 5] = index; }
    __syncthreads();
    value = values[0];
    index = indices[0];
    for (int warp = 1; warp < (int)(blockDim.x >> 5); warp++)
    {
        if (values[warp] > value || (values[warp] == value && indices[warp] < index)) { value = values[warp]; index = indices[warp]; }
    }
}

// Takes logits [rows, count] of the tokens first … into the states; a block owns a row. The last block of the vocabulary writes
// log p(target), 0 for targets below 0, and the most likely token.
KERNEL(log_likelihood)(
    const float* logits, LikelihoodState* states, const int* targets, float* result, int* best, i64 first, i64 count, i64 vocabulary)
{
    __shared__ float values[32];
    __shared__ int indices[32];
    const float* row = logits + (i64)blockIdx.x * count;
    LikelihoodState state;
    if (first == 0)
    {
        state.sum = 0;
        state.largest = -infinity();
        state.target = 0;
        state.best = 0;
        state.unused = 0;
    }
    else
    {
        state = states[blockIdx.x];
    }

    int target = targets[blockIdx.x];
    if (target >= first && target < first + count) state.target = row[target - first];
    float largest = -infinity();
    int index = 0x7fffffff;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x)
    {
        if (row[i] > largest) { largest = row[i]; index = (int)i; }
    }

    block_best(largest, index, values, indices);
    if (largest > state.largest)
    {
        state.sum *= state.largest == -infinity() ? 0.0 : exp((double)state.largest - largest);
        state.largest = largest;
        state.best = (int)first + index;
    }

    // With no finite logit yet there is nothing to shift by; e^(−∞) adds 0 and NaN stays NaN.
    float shift = state.largest == -infinity() ? 0 : state.largest, sum = 0;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) sum += expf(row[i] - shift);
    state.sum += block_sum(sum, values);
    if (threadIdx.x != 0) return;
    states[blockIdx.x] = state;
    if (first + count == vocabulary)
    {
        result[blockIdx.x] = target < 0 ? 0 : (float)((double)state.target - state.largest - log(state.sum));
        if (best) best[blockIdx.x] = state.best;
    }
}

// −log p(target) of a row of logits and, in its place, (softmax − one-hot)·scale; rows with targets below 0 become 0.
KERNEL(cross_entropy)(float* logits, const int* targets, float* losses, i64 columns, float scale)
{
    __shared__ float scratch[32];
    float* row = logits + (i64)blockIdx.x * columns;
    int target = targets[blockIdx.x];
    if (target < 0)
    {
        for (i64 i = threadIdx.x; i < columns; i += blockDim.x) row[i] = 0;
        if (threadIdx.x == 0) losses[blockIdx.x] = 0;
        return;
    }

    float largest = -infinity(), own = row[target], sum = 0;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x) largest = fmaxf(largest, row[i]);
    largest = block_max(largest, scratch);
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x) sum += expf(row[i] - largest);
    sum = block_sum(sum, scratch);
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        float gradient = expf(row[i] - largest) * (scale / sum);
        row[i] = i == target ? gradient - scale : gradient;
    }

    if (threadIdx.x == 0) losses[blockIdx.x] = (float)(log((double)sum) + largest - own);
}
