// Products of many rows with weights of the format codebook4.
#include "wide.cuh"

WIDE_FORMAT(codebook4, Codebook, 3, 4)
