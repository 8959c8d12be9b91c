// Weights of one format on tensor cores: a source of its own, because each takes seconds to compile.
#include "tensor.cuh"

TENSOR_PACKED(affine8, Affine<8>, 2)
