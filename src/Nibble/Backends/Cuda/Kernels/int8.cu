// Activations on the grid of 8-bit integers: q = round(x·127/absmax), x ≈ q·absmax/127, absmax of the row. The product then takes
// q·absmax/127 as F32, which is the int8 product up to the rounding of its sum.
#include "common.cuh"

// Marks the columns with any value of magnitude ≥ threshold (LLM.int8, arXiv 2208.07339, section 3) and counts them; the second counter has all columns.
KERNEL(outlier_columns)(const float* x, i64 rows, i64 columns, float threshold, u8* marks, u64* counter)
{
    i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    bool outlier = false;
    for (i64 row = 0; row < rows; row++) outlier |= fabsf(x[row * columns + column]) >= threshold;
    marks[column] = outlier;
    if (outlier) atomicAdd(counter, 1ull);
    if (column == 0) atomicAdd(counter + 1, (u64)columns);
}

// Rounds a row; a block owns it. With marks, absmax is taken without the outliers, and marked columns stay as they are. A row with
// NaN or infinity becomes NaN: so does everything computed from it.
KERNEL(round_rows)(const float* x, float* y, i64 columns, const u8* marks, float threshold)
{
    __shared__ float scratch[32];
    const float* row = x + (i64)blockIdx.x * columns;
    float* out = y + (i64)blockIdx.x * columns;
    float absmax = 0, spoiled = 0;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        float magnitude = fabsf(row[i]);
        if (marks && magnitude >= threshold) continue;
        absmax = fmaxf(absmax, magnitude);
        // fmaxf ignores NaN.
        if (!(magnitude < infinity())) spoiled = 1;
    }

    absmax = block_max(absmax, scratch);
    spoiled = block_max(spoiled, scratch);
    // Below it 127/absmax overflows; such a row is zero next to anything.
    bool usable = absmax >= 1e-35f;
    float inverse = usable ? __fdiv_rn(127.0f, absmax) : 0, scale = __fdiv_rn(absmax, 127.0f);
    if (spoiled > 0) scale = __uint_as_float(0x7fc00000u);
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        bool kept = marks && marks[i];
        out[i] = kept ? row[i] : usable || spoiled > 0 ? rintf(__fmul_rn(row[i], inverse)) * scale : 0;
    }
}

// x = x + share·(x̂ − x) in place, x̂ as above: the forward pass of training with rounded activations.
KERNEL(round_rows_in_part)(float* x, i64 columns, float share)
{
    __shared__ float scratch[32];
    float* row = x + (i64)blockIdx.x * columns;
    float absmax = 0, spoiled = 0;
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        absmax = fmaxf(absmax, fabsf(row[i]));
        if (!(fabsf(row[i]) < infinity())) spoiled = 1;
    }

    absmax = block_max(absmax, scratch);
    spoiled = block_max(spoiled, scratch);
    bool usable = absmax >= 1e-35f;
    float inverse = usable ? __fdiv_rn(127.0f, absmax) : 0, scale = __fdiv_rn(absmax, 127.0f);
    if (spoiled > 0) scale = __uint_as_float(0x7fc00000u);
    for (i64 i = threadIdx.x; i < columns; i += blockDim.x)
    {
        float rounded = usable || spoiled > 0 ? rintf(__fmul_rn(row[i], inverse)) * scale : 0;
        row[i] = row[i] + share * (rounded - row[i]);
    }
}
