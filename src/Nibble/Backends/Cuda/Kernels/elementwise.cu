// Element by element: activations, gates, sums, copies, dropout, and their gradients.
#include "common.cuh"

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

KERNEL(add)(const float* x, float* y, i64 count)
{
    GRID_STRIDE(i, count) y[i] += x[i];
}

KERNEL(scale)(float* x, float factor, i64 count)
{
    GRID_STRIDE(i, count) x[i] *= factor;
}

KERNEL(fill)(float* x, float value, i64 count)
{
    GRID_STRIDE(i, count) x[i] = value;
}

KERNEL(gelu_exact)(const float* x, float* y, i64 count)
{
    GRID_STRIDE(i, count) y[i] = 0.5f * x[i] * erfcf(-0.70710678f * x[i]);
}

// x/(1 + e^(−2·inner)) is the tanh form without the tanh.
KERNEL(gelu_tanh)(const float* x, float* y, i64 count)
{
    GRID_STRIDE(i, count)
    {
        float v = x[i];
        y[i] = v * sigmoid(1.5957691216f * (v + 0.044715f * v * v * v));
    }
}

KERNEL(swiglu)(const float* gate, const float* up, float* y, i64 count)
{
    GRID_STRIDE(i, count) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

KERNEL(squared_relu_gate)(const float* gate, const float* up, float* y, i64 count)
{
    GRID_STRIDE(i, count)
    {
        // Not fmaxf: NaN must stay NaN.
        float positive = gate[i] < 0 ? 0 : gate[i];
        y[i] = positive * positive * up[i];
    }
}

KERNEL(gelu_exact_gradient)(const float* x, float* d, i64 count)
{
    GRID_STRIDE(i, count)
    {
        float v = x[i], normal = 0.5f * erfcf(-0.70710678f * v), density = 0.39894228f * expf(-0.5f * v * v);
        d[i] *= normal + v * density;
    }
}

KERNEL(gelu_tanh_gradient)(const float* x, float* d, i64 count)
{
    GRID_STRIDE(i, count)
    {
        float v = x[i], s = sigmoid(1.5957691216f * (v + 0.044715f * v * v * v));
        d[i] *= s + v * s * (1 - s) * 1.5957691216f * (1 + 3 * 0.044715f * v * v);
    }
}

KERNEL(swiglu_gradient)(const float* gate, const float* up, const float* dy, float* d_gate, float* d_up, i64 count)
{
    GRID_STRIDE(i, count)
    {
        float g = gate[i], u = up[i], d = dy[i], s = sigmoid(g);
        d_gate[i] = d * u * s * (1 + g * (1 - s));
        d_up[i] = d * g * s;
    }
}

KERNEL(squared_relu_gate_gradient)(const float* gate, const float* up, const float* dy, float* d_gate, float* d_up, i64 count)
{
    GRID_STRIDE(i, count)
    {
        float positive = gate[i] < 0 ? 0 : gate[i], u = up[i], d = dy[i];
        d_gate[i] = d * u * 2 * positive;
        d_up[i] = d * positive * positive;
    }
}

// Element i is dropped or not by (key, i) alone: the finalizer of SplitMix64, as CounterRandom in C#.
KERNEL(dropout)(float* x, u64 key, u64 threshold, float factor, i64 count)
{
    GRID_STRIDE(i, count)
    {
        u64 z = key + ((u64)i + 1) * 0x9E3779B97F4A7C15ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        z ^= z >> 31;
        x[i] = (z >> 32) < threshold ? 0 : x[i] * factor;
    }
}

KERNEL(to_bf16_copy)(const float* x, u16* y, i64 count)
{
    GRID_STRIDE(i, count) y[i] = to_bf16(x[i]);
}

KERNEL(to_f16_copy)(const float* x, u16* y, i64 count)
{
    GRID_STRIDE(i, count) y[i] = to_f16(x[i]);
}

// y[row, column] = bias[column], or 0: what a product with no columns leaves.
KERNEL(fill_rows)(const float* bias, float* y, i64 stride, i64 columns, i64 rows)
{
    GRID_STRIDE(i, rows * columns) y[(i / columns) * stride + i % columns] = bias ? bias[i % columns] : 0;
}

// One step of AdamW (arXiv 1711.05101, algorithm 2), in PyTorch's order of operations. The caller has folded the bias corrections
// into step and root, and the decay into keep.
KERNEL(adamw)(
    float* values, const float* gradient, float* first, float* second, float scale, float beta1, float beta2, float epsilon, float keep,
    float step, float root, i64 count)
{
    GRID_STRIDE(i, count)
    {
        float g = gradient[i] * scale;
        float m = first[i] + (g - first[i]) * (1 - beta1);
        float v = second[i] * beta2 + g * g * (1 - beta2);
        first[i] = m;
        second[i] = v;
        values[i] = values[i] * keep - step * (m / (sqrtf(v) / root + epsilon));
    }
}

// Σ x² of each block's share, in double precision; the host adds the blocks up in order.
KERNEL(sum_of_squares)(const float* x, double* sums, i64 count)
{
    __shared__ double scratch[32];
    double sum = 0;
    GRID_STRIDE(i, count) sum += (double)x[i] * x[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
