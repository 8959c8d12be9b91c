// Weights of one format on tensor cores: a source of its own, because each takes seconds to compile.
#include "tensor.cuh"

TENSOR_PACKED(codebook4, Codebook, 4)
