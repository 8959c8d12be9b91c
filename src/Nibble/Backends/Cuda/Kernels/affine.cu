// Affine codes of 8, 4, 3 and 2 bits, and ternary ones (2 bits, offset 1).
#include "product.cuh"

PACKED(affine8, Affine<8>)
PACKED(affine4, Affine<4>)
PACKED(affine3, Affine<3>)
PACKED(affine2, Affine<2>)
