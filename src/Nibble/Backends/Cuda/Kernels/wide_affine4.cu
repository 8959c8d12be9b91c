// Products of many rows with weights of the format affine4.
#include "wide.cuh"

WIDE_FORMAT(affine4, Affine<4>, false, 4, 5, 4)
