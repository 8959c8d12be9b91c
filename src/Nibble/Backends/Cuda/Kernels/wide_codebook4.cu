// Products of many rows with weights of the format codebook4.
#include "wide.cuh"

WIDE_FORMAT(codebook4, Codebook, false, 3, 4, 4)
