// Weights of BF16 on tensor cores, and what x must become for many rows.
#include "tensor.cuh"

TENSOR_ROWS(bf16, DenseTile, , 2)

KERNEL(half_rows)(const float* x, i64 columns, int rows, int padded, u16* half, float* sums) { half_rows(x, columns, rows, padded, half, sums); }
