// Weights of 4 bits on tensor cores.
#include "tensor.cuh"

TENSOR_PACKED(codebook4, Codebook, 4)
TENSOR_PACKED(affine4, Affine<4>, 4)
