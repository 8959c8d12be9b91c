// Products of many rows with weights of the format affine3.
#include "wide.cuh"

WIDE_FORMAT(affine3, Affine<3>, false, 4, 5, 4)
