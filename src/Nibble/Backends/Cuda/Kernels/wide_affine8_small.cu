// Products of many rows with weights of the format affine8 in groups of 32 columns.
#include "wide.cuh"

WIDE_FORMAT(affine8_small, Affine<8>, true, 3, 4, 4)
