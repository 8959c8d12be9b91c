// Products of many rows with weights of the format affine8.
#include "wide.cuh"

WIDE_FORMAT(affine8, Affine<8>, false, 3, 5, 4)
