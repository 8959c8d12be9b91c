// Weights of one format on tensor cores: a source of its own, because each takes seconds to compile.
#include "tensor.cuh"

TENSOR_PACKED(affine3, Affine<3>, 2)
