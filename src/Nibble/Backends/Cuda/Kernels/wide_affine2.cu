// Products of many rows with weights of the format affine2.
#include "wide.cuh"

WIDE_FORMAT(affine2, Affine<2>, false, 4, 5, 4)
