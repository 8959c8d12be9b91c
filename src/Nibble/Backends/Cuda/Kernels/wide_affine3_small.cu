// Products of many rows with weights of the format affine3 in groups of 32 columns.
#include "wide.cuh"

WIDE_FORMAT(affine3_small, Affine<3>, true, 4, 4, 4)
