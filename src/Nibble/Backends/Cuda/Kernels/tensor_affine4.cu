// Weights of one format on tensor cores: a source of its own, because each takes seconds to compile.
#include "tensor.cuh"

TENSOR_PACKED(affine4, Affine<4>, 2)
TENSOR_FEW3(affine4, tile_affine4, 2)
