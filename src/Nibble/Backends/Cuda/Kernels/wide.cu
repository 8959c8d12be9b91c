// Rows of x for the products of wide.cuh.
#include "wide.cuh"

KERNEL(wide_rows)(const void* x, int type, i64 columns, int rows, int n, u8* stages) { wide_rows_of(x, type, columns, rows, n, stages); }
