// Dense weights of F32, F16 and BF16, row-major.
#include "product.cuh"

struct DenseF32
{
    typedef float Element;
    __device__ static float value(float bits) { return bits; }
};

struct DenseF16
{
    typedef u16 Element;
    __device__ static float value(u16 bits) { return from_f16(bits); }
};

struct DenseBF16
{
    typedef u16 Element;
    __device__ static float value(u16 bits) { return from_bf16(bits); }
};

// Sixteen bytes of a row.
template <class E>
struct __align__(16) Vector
{
    E items[16 / sizeof(E)];
};

template <class F, int ROWS>
__device__ inline void dense_gemv(
    const Packed& p, const float* x, int rows, const float* bias, float* y, i64 y_stride, i64 first, i64 count, int add)
{
    typedef typename F::Element Element;
    const int width = 16 / sizeof(Element);
    int lane = threadIdx.x & 31;
    i64 feature = (i64)blockIdx.x * WARPS_PER_BLOCK + (threadIdx.x >> 5);
    if (feature >= count) return;
    i64 row = first + feature;
    const Element* weights = (const Element*)p.codes + row * p.columns;
    const float* inputs[ROWS];
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        inputs[r] = x + (i64)min(r, rows - 1) * p.columns;
        sums[r] = 0;
    }

    // Rows that start on 16 bytes are read so: 512 bytes a warp and load.
    i64 column = 0;
    if (p.columns % width == 0)
    {
#pragma unroll 2
        for (column = (i64)lane * width; column < p.columns; column += 32 * width)
        {
            Vector<Element> vector = *(const Vector<Element>*)(weights + column);
#pragma unroll
            for (int i = 0; i < width; i++)
            {
                float value = F::value(vector.items[i]);
#pragma unroll
                for (int r = 0; r < ROWS; r++) sums[r] = fmaf(value, inputs[r][column + i], sums[r]);
            }
        }
    }
    else
    {
        for (column = lane; column < p.columns; column += 32)
        {
            float value = F::value(weights[column]);
#pragma unroll
            for (int r = 0; r < ROWS; r++) sums[r] = fmaf(value, inputs[r][column], sums[r]);
        }
    }

#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        float sum = warp_sum(sums[r]);
        if (lane == 0 && r < rows)
        {
            float* out = y + r * y_stride + feature;
            *out = (add ? *out : 0) + sum + (bias ? bias[row] : 0);
        }
    }
}

template <class F>
__device__ inline void dense_rows(const Packed& p, const int* ids, i64 first, void* destination, int type)
{
    i64 row = ids ? ids[blockIdx.x] : first + blockIdx.x;
    if (row < 0) return;
    const typename F::Element* weights = (const typename F::Element*)p.codes + row * p.columns;
    for (i64 column = threadIdx.x; column < p.columns; column += blockDim.x)
    {
        float value = F::value(weights[column]);
        i64 at = (i64)blockIdx.x * p.columns + column;
        if (type == NUMBER_BF16) ((u16*)destination)[at] = to_bf16(value);
        else ((float*)destination)[at] = value;
    }
}

#define DENSE_GEMV(name, format, count) \
    KERNEL(gemv_##name##_##count)( \
        Packed p, const float* x, int rows, const float* bias, float* y, i64 y_stride, i64 first, i64 features, int add) \
    { dense_gemv<format, count>(p, x, rows, bias, y, y_stride, first, features, add); }

#define DENSE(name, format) \
    DENSE_GEMV(name, format, 1) \
    DENSE_GEMV(name, format, 2) \
    DENSE_GEMV(name, format, 4) \
    DENSE_GEMV(name, format, 8) \
    KERNEL(rows_##name)(Packed p, const int* ids, i64 first, void* destination, int type) \
    { dense_rows<format>(p, ids, first, destination, type); }

DENSE(f32, DenseF32)
DENSE(f16, DenseF16)
DENSE(bf16, DenseBF16)
