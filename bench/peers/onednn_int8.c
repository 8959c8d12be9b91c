/*
 * oneDNN's product of bytes, u8 * s8 with 32-bit sums and packed weights: prints the seconds of a call.
 *   cc -O2 bench/peers/onednn_int8.c -ldnnl -o PROGRAM;  OMP_NUM_THREADS is set from THREADS;  PROGRAM M N K THREADS
 * For `bench igemm --peer onednn=PROGRAM`.
 */
#define _GNU_SOURCE
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void must(dnnl_status_t status)
{
    if (status != dnnl_success) {
        fprintf(stderr, "oneDNN: %d\n", status);
        exit(1);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static dnnl_memory_t memory(dnnl_engine_t engine, const dnnl_memory_desc_t *desc)
{
    dnnl_memory_t result;
    void *data;
    must(dnnl_memory_create(&result, desc, engine, DNNL_MEMORY_ALLOCATE));
    must(dnnl_memory_get_data_handle(result, &data));
    memset(data, 3, dnnl_memory_desc_get_size(desc));
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    /* OpenMP reads the number of threads once, at the start of a process. */
    if (!getenv("OMP_NUM_THREADS")) {
        setenv("OMP_NUM_THREADS", argv[4], 1);
        execv("/proc/self/exe", argv);
    }
    dnnl_dim_t m = atol(argv[1]), n = atol(argv[2]), k = atol(argv[3]);
    dnnl_dims_t a = {m, k}, b = {k, n}, c = {m, n};
    dnnl_memory_desc_t source, weights, result;
    must(dnnl_memory_desc_init_by_tag(&source, 2, a, dnnl_u8, dnnl_ab));
    must(dnnl_memory_desc_init_by_tag(&weights, 2, b, dnnl_s8, dnnl_format_tag_any));
    must(dnnl_memory_desc_init_by_tag(&result, 2, c, dnnl_s32, dnnl_ab));
    dnnl_matmul_desc_t description;
    must(dnnl_matmul_desc_init(&description, &source, &weights, NULL, &result));
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t chosen;
    dnnl_primitive_t product;
    must(dnnl_engine_create(&engine, dnnl_cpu, 0));
    must(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    must(dnnl_primitive_desc_create(&chosen, &description, NULL, engine, NULL));
    must(dnnl_primitive_create(&product, chosen));
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(chosen, dnnl_query_weights_md, 0);
    dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, memory(engine, &source)}, {DNNL_ARG_WEIGHTS, memory(engine, packed)}, {DNNL_ARG_DST, memory(engine, &result)}};
    for (int i = 0; i < 3; i++)
        must(dnnl_primitive_execute(product, stream, 3, arguments));
    must(dnnl_stream_wait(stream));
    int calls = 0;
    double start = now(), seconds;
    do {
        must(dnnl_primitive_execute(product, stream, 3, arguments));
        must(dnnl_stream_wait(stream));
        calls++;
        seconds = now() - start;
    } while (seconds < 0.1);
    const char *name;
    must(dnnl_primitive_desc_query(chosen, dnnl_query_impl_info_str, 0, &name));
    if (getenv("SAY"))
        fprintf(stderr, "%s\n", name);
    printf("%.9f\n", seconds / calls);
    return 0;
}
