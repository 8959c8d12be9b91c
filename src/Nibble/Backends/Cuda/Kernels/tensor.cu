// Weights of 2, 3 and 8 bits and of BF16 on tensor cores, and what x must become for many rows.
#include "tensor.cuh"

TENSOR_PACKED(affine2, Affine<2>, 4)
TENSOR_PACKED(affine3, Affine<3>, 2)
TENSOR_PACKED(affine8, Affine<8>, 2)
TENSOR_ROWS(bf16, DenseTile, , 2)

KERNEL(half_rows)(const float* x, i64 columns, int rows, int padded, u16* half, float* sums) { half_rows(x, columns, rows, padded, half, sums); }
