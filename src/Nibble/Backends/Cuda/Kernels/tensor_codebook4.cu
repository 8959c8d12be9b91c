// Weights of one format on tensor cores: a source of its own, because each takes seconds to compile.
#include "tensor.cuh"

TENSOR_PACKED(codebook4, Codebook, 2)
TENSOR_FEW3(codebook4, tile_codebook4, 2)
