// AWQ (arXiv 2306.00978): errors of rounding with columns scaled and ranges clipped, for many candidates.
#include "grids.cuh"

// What rounding w·factor to the grid of its group does, divided by the factor again: a warp a group. The range is cut to 1 − step / 20 of its
// largest magnitude, where each group may have a step of its own. Results that are null are not written; so are factors of 1.
KERNEL(scaled_errors)(
    const float* w, const float* factors, const int* steps, int step, float* errors, float* scales, float* offsets, i64 columns, int group, i64 per_row, i64 groups, int kind,
    int bits, int type, u32* flags)
{
    WarpGroup own(columns, group, per_row);
    int lane = threadIdx.x & 31;
    if (own.index >= groups) return;
    if (steps) step = steps[own.index];
    float low = infinity(), high = -infinity();
    for (int i = lane; i < own.length; i += 32)
    {
        float x = factors ? __fmul_rn(w[own.start + i], factors[own.first + i]) : w[own.start + i];
        low = fminf(low, x);
        high = fmaxf(high, x);
    }

    low = -warp_max(-low);
    high = warp_max(high);
    if (step > 0)
    {
        float limit = __fmul_rn(fmaxf(fabsf(low), fabsf(high)), 1 - step / 20.0f);
        low = fmaxf(low, -limit);
        high = fminf(high, limit);
    }

    Grid grid = range_grid(low, high, kind, bits, type, flags);
    if (lane == 0 && scales)
    {
        scales[own.index] = grid.scale;
        offsets[own.index] = grid.zero;
    }

    for (int i = lane; i < own.length && errors; i += 32)
    {
        float factor = factors ? factors[own.first + i] : 1, x = __fmul_rn(w[own.start + i], factor);
        float q = fminf(fmaxf(__fadd_rn(rintf(__fdiv_rn(x, grid.scale)), grid.zero), grid.lowest), grid.highest);
        errors[own.start + i] = __fdiv_rn(__fsub_rn(x, __fmul_rn(__fsub_rn(q, grid.zero), grid.scale)), factor);
    }
}

// |w| by the largest of its group: a warp a group.
KERNEL(shares_of_largest)(const float* w, float* shares, i64 columns, int group, i64 per_row, i64 groups)
{
    WarpGroup own(columns, group, per_row);
    int lane = threadIdx.x & 31;
    if (own.index >= groups) return;
    float largest = 0;
    for (int i = lane; i < own.length; i += 32) largest = fmaxf(largest, fabsf(w[own.start + i]));
    largest = warp_max(largest) + 1e-6f;
    for (int i = lane; i < own.length; i += 32) shares[own.start + i] = fabsf(w[own.start + i]) / largest;
}

// Σ a·b of each row.
KERNEL(row_dots)(const float* a, const float* b, double* dots, i64 columns)
{
    __shared__ double scratch[32];
    i64 start = (i64)blockIdx.x * columns;
    double sum = 0;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x) sum += (double)a[start + i] * b[start + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) dots[blockIdx.x] = sum;
}

// Keeps the step with the least Σ a·b of each group: a warp a group. Step 0 is always kept.
KERNEL(keep_least)(const float* a, const float* b, float* least, int* steps, int step, i64 columns, int group, i64 per_row, i64 groups)
{
    WarpGroup own(columns, group, per_row);
    int lane = threadIdx.x & 31;
    if (own.index >= groups) return;
    double sum = 0;
    for (int i = lane; i < own.length; i += 32) sum += (double)a[own.start + i] * b[own.start + i];
    float value = (float)warp_sum(sum);
    if (lane == 0 && (step == 0 || value < least[own.index]))
    {
        least[own.index] = value;
        steps[own.index] = step;
    }
}
