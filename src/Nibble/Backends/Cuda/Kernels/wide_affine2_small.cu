// Products of many rows with weights of the format affine2 in groups of 32 columns.
#include "wide.cuh"

WIDE_FORMAT(affine2_small, Affine<2>, true, 4, 4, 4)
