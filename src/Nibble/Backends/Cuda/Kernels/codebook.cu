// Codes of a table of up to 16 levels: NF4, FP4, any other.
#include "product.cuh"

PACKED(codebook4, Codebook)
