// Products of many rows with weights of the format affine4 in groups of 32 columns.
#include "wide.cuh"

WIDE_FORMAT(affine4_small, Affine<4>, true, 4, 4, 4)
