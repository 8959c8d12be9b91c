// Products of a warpgroup (four warps) on tensor cores of cards of 9.0: 64 rows of A from registers, N columns of B from shared memory, sums in
// registers (wgmma, sm_90a), and the ring of shared memory that B comes through.
//
// A stage of the ring has N rows of 128 bytes: what a column of B has of a block of k. The 16-byte pieces of row n stand at their place xor
// (n mod 8), the layout that wgmma calls 128-byte swizzle; whoever writes B writes it so, and one bulk copy brings a stage.
#pragma once
#include "mma.cuh"

#define STAGE_ROW 128

// A matrix of BF16 whose rows copies bring as stages, in the matrix's own order of columns, zeros beyond it. The driver makes it; in the emulation it
// says where the matrix stands. StageMap in C# has the same size.
#ifdef NIBBLE_HOST
struct StageMap { u64 words[16]; };
// Threads of a warpgroup meet as those of a block do. A step computes at once, so that commits and waits have nothing to do.
struct HostGroup { unsigned arrived = 0, generation = 0; u32 values[2][128][4]; };
inline HostGroup nibble_groups[8];

inline void group_barrier(int group) { nibble_host::barrier(nibble_groups[group].arrived, nibble_groups[group].generation, 128); }
template <int GROUPS> inline void groups_barrier() { nibble_host::barrier(nibble_groups[GROUPS].arrived, nibble_groups[GROUPS].generation, 128 * GROUPS); }

struct StageBarrier { unsigned generation, pending, count, unused; };
struct BarrierRing
{
    StageBarrier* first;
    BarrierRing(StageBarrier* barriers) : first(barriers) {}
    void init(int stage, int count) const { first[stage] = {0, (unsigned)count, (unsigned)count, 0}; }
    void arrive(int stage) const
    {
        StageBarrier& barrier = first[stage];
        if (--barrier.pending > 0) return;
        barrier.pending = barrier.count;
        barrier.generation++;
    }
    void wait(int stage, u32 parity) const
    {
        while ((first[stage].generation & 1) == parity) nibble_host::wait(&first[stage].generation, first[stage].generation);
    }
    void expect(int stage, int) const { arrive(stage); }
    void arrive_copied(int stage) const { arrive(stage); }
};
inline void barriers_are_ready() {}
inline void fetch_bytes(void* shared, const void* source, int bytes, const BarrierRing&, int) { memcpy(shared, source, bytes); }
inline void fetch_rows(u8* stage, const StageMap* map, int column, int row, int n, const BarrierRing&, int)
{
    const u16* matrix = (const u16*)map->words[0];
    for (int at = 0; at < 64 * n; at++)
    {
        int r = at / 64, c = at % 64;
        bool inside = row + r < (int)map->words[1] && column + c < (int)map->words[2];
        *(u16*)(stage + r * STAGE_ROW + ((c / 8) ^ (r & 7)) * 16 + c % 8 * 2) = inside ? matrix[(i64)(row + r) * (i64)map->words[2] + column + c] : 0;
    }
}
inline void fetch_word(void* shared, const void* source) { memcpy(shared, source, 4); }
template <int COUNT> inline void group_registers_more() {}
template <int COUNT> inline void group_registers_less() {}

inline int stages_offset(const void*) { return 0; }
inline void group_fence() {}
inline void group_commit() {}
template <int PENDING> inline void group_wait() {}

// A's words of all lanes of the warpgroup.
inline const u32 (*gather_group(const u32* a))[4]
{
    int place = threadIdx.x & 127;
    HostGroup& group = nibble_groups[threadIdx.x >> 7];
    unsigned half = group.generation & 1;
    memcpy(group.values[half][place], a, 16);
    group_barrier(threadIdx.x >> 7);
    return group.values[half];
}

typedef const u8* StageMatrix;
inline StageMatrix stage_matrix(const u8* stages) { return stages; }
inline StageMatrix stage_matrix_at(StageMatrix stages, int bytes) { return stages + bytes; }
inline const u8* stage_piece(const u8* stage, int n, int byte) { return stage + n * STAGE_ROW + ((byte / 16) ^ (n & 7)) * 16 + byte % 16; }

template <int N>
inline void group_multiply(float* d, const u32* a, StageMatrix stage, int step)
{
    const u32 (*all)[4] = gather_group(a);
    int lane = threadIdx.x & 31, first = threadIdx.x & 96;
    for (int n = 0; n < N; n++)
    {
        if (n % 8 / 2 != lane % 4) continue;
        for (int h = 0; h < 2; h++)
        {
            for (int k = 0; k < 16; k++)
            {
                u32 word = all[first + lane / 4 * 4 + k / 2 % 4][2 * (k / 8) + h];
                d[n / 8 * 4 + 2 * h + n % 2] += from_bf16((u16)(word >> (16 * (k % 2)))) * from_bf16(*(const u16*)stage_piece(stage, n, 32 * step + 2 * k));
            }
        }
    }
}

template <int N>
inline void group_multiply(int* d, const u32* a, StageMatrix stage, int step)
{
    const u32 (*all)[4] = gather_group(a);
    int lane = threadIdx.x & 31, first = threadIdx.x & 96;
    for (int n = 0; n < N; n++)
    {
        if (n % 8 / 2 != lane % 4) continue;
        for (int h = 0; h < 2; h++)
        {
            for (int k = 0; k < 32; k++)
            {
                u32 word = all[first + lane / 4 * 4 + k / 4 % 4][2 * (k / 16) + h];
                d[n / 8 * 4 + 2 * h + n % 2] += (signed char)(word >> (8 * (k % 4))) * (signed char)*stage_piece(stage, n, 32 * step + k);
            }
        }
    }
}
#else
struct __align__(64) StageMap { u64 words[16]; };
#endif

#if !defined(NIBBLE_HOST) && (defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__))
typedef u64 StageBarrier;
// Barriers of a ring by the address of the first: a warp makes no address of its own each time it meets one.
struct BarrierRing
{
    u32 first;
    __device__ BarrierRing(StageBarrier* barriers) : first(shared_address(barriers)) {}
    __device__ u32 at(int stage) const { return first + 8 * stage; }
    __device__ void init(int stage, int count) const { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at(stage)), "r"(count) : "memory"); }
    __device__ void arrive(int stage) const { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at(stage)) : "memory"); }
    __device__ void wait(int stage, u32 parity) const
    {
        asm volatile(
            "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra ready;\nbra again;\nready:\n}"
            ::"r"(at(stage)), "r"(parity) : "memory");
    }
    // One arrival, and as many bytes as copies will bring.
    __device__ void expect(int stage, int bytes) const
    {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at(stage)), "r"(bytes) : "memory");
    }
    // An arrival as soon as the words that this thread fetches are there.
    __device__ void arrive_copied(int stage) const { asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(at(stage)) : "memory"); }
};
__device__ inline void barriers_are_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void fetch_bytes(void* shared, const void* source, int bytes, const BarrierRing& ring, int stage)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
        ::"r"(shared_address(shared)), "l"(source), "r"(bytes), "r"(ring.at(stage)) : "memory");
}
// 64 columns of n rows: the map has n.
__device__ inline void fetch_rows(void* stage, const StageMap* map, int column, int row, int, const BarrierRing& ring, int place)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
        ::"r"(shared_address(stage)), "l"(map), "r"(column), "r"(row), "r"(ring.at(place)) : "memory");
}
__device__ inline void fetch_word(void* shared, const void* source)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(shared)), "l"(source) : "memory");
}

// How many registers a thread of this warpgroup has from now on.
template <int COUNT> __device__ inline void group_registers_more() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> __device__ inline void group_registers_less() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }

// Up to where the swizzle repeats.
__device__ inline int stages_offset(const void* shared) { return (int)((0 - shared_address(shared)) & 1023); }
__device__ inline void group_barrier(int group) { asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory"); }
// The first GROUPS warpgroups of a block meet.
template <int GROUPS> __device__ inline void groups_barrier() { asm volatile("bar.sync %0, %1;" ::"n"(GROUPS + 1), "n"(128 * GROUPS) : "memory"); }
__device__ inline void group_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void group_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ inline void group_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }

// A stage as wgmma names it: the lower word; the upper is STAGE_LAYOUT (128-byte swizzle, eight rows are 1,024 bytes). A step of k is 32 bytes. What is
// the same for all lanes stays in uniform registers only if nothing of a thread's own goes into it.
typedef u32 StageMatrix;
#define STAGE_LAYOUT "0x40000040"
__device__ inline StageMatrix stage_matrix(const u8* stages) { return 1u << 16 | (shared_address(stages) & 0x3ffff) >> 4; }
__device__ inline StageMatrix stage_matrix_at(StageMatrix stages, int bytes) { return stages + (bytes >> 4); }

#define TEN(p) "%" #p "0,%" #p "1,%" #p "2,%" #p "3,%" #p "4,%" #p "5,%" #p "6,%" #p "7,%" #p "8,%" #p "9,"
#define EIGHT(type, i) type(d[i]), type(d[i + 1]), type(d[i + 2]), type(d[i + 3]), type(d[i + 4]), type(d[i + 5]), type(d[i + 6]), type(d[i + 7])
#define SUMS_32(type) EIGHT(type, 0), EIGHT(type, 8), EIGHT(type, 16), EIGHT(type, 24)
#define SUMS_64(type) SUMS_32(type), EIGHT(type, 32), EIGHT(type, 40), EIGHT(type, 48), EIGHT(type, 56)
#define SUMS_128(type) SUMS_64(type), EIGHT(type, 64), EIGHT(type, 72), EIGHT(type, 80), EIGHT(type, 88), EIGHT(type, 96), EIGHT(type, 104), EIGHT(type, 112), EIGHT(type, 120)

// d[64 × N] += a[64 × 16]·b[16 × N] of BF16, or a[64 × 32]·b[32 × N] of integers of 8 bits: of a stage the part `step` of k.
template <int N> __device__ void group_multiply(float* d, const u32* a, StageMatrix stage, int step);
template <int N> __device__ void group_multiply(int* d, const u32* a, StageMatrix stage, int step);

#define GROUP_MULTIPLY_ONE(n, type, sums, kind, flags, names, four, matrix) \
    template <> __device__ __forceinline__ void group_multiply<n>(type* d, const u32* a, StageMatrix stage, int step) \
    { \
        asm volatile("{\n.reg .pred add;\n.reg .b64 matrix;\nsetp.ne.b32 add, 1, 0;\nmov.b64 matrix, {" matrix ", " STAGE_LAYOUT "};\n" \
            "wgmma.mma_async.sync.aligned.m64n" #n kind " {" names "}, " four ", matrix, add" flags ";\n}" \
            : sums : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(stage + 2 * step) : "memory"); \
    }
#define GROUP_MULTIPLY(n, sums, names, four, matrix) \
    GROUP_MULTIPLY_ONE(n, float, sums("+f"), "k16.f32.bf16.bf16", ", 1, 1, 0", names, four, matrix) \
    GROUP_MULTIPLY_ONE(n, int, sums("+r"), "k32.s32.s8.s8", "", names, four, matrix)

GROUP_MULTIPLY(64, SUMS_32, TEN() TEN(1) TEN(2) "%30,%31", "{%32,%33,%34,%35}", "%36")
GROUP_MULTIPLY(128, SUMS_64, TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60,%61,%62,%63", "{%64,%65,%66,%67}", "%68")
GROUP_MULTIPLY(256, SUMS_128, TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11)
    "%120,%121,%122,%123,%124,%125,%126,%127", "{%128,%129,%130,%131}", "%132")
#endif
