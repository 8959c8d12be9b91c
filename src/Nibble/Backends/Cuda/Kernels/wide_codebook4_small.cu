// Products of many rows with weights of the format codebook4 in groups of 32 columns.
#include "wide.cuh"

WIDE_FORMAT(codebook4_small, Codebook, true, 3, 3, 3)
