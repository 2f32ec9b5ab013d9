/* kernels/cuda/platform_ptx.cuh: all inline PTX: one instruction, one function. The twins of the
 * same names stand in tests/cuda_on_cpu/emu_*.h.
 *
 * Pointers are generic; the 32-bit address of shared memory is made inside. An instruction that is
 * newer than QUIRE_SM traps: kernels choose by QUIRE_SM before they get there.
 */
#ifndef QUIRE_KERNELS_CUDA_PLATFORM_PTX_CUH
#define QUIRE_KERNELS_CUDA_PLATFORM_PTX_CUH

static __device__ __forceinline__ uint32_t shared_address(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/* --- barriers of a part of the block --- */

static __device__ __forceinline__ void barrier_sync(uint32_t id, uint32_t n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

static __device__ __forceinline__ void barrier_arrive(uint32_t id, uint32_t n_threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

/* --- asynchronous copies --- */

/* 16 bytes, or nothing and zeros; both addresses at multiples of 16, global_from in bounds even if
 * nothing is copied. */
static __device__ __forceinline__ void cp_async_16(void *shared_to, const void *global_from,
                                                   bool valid = true)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared_to)),
                 "l"(__cvta_generic_to_global(global_from)), "r"(valid ? 16 : 0)
                 : "memory");
}

static __device__ __forceinline__ void cp_async_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int groups_left> static __device__ __forceinline__ void cp_async_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(groups_left) : "memory");
}

/* A multiple of 16 bytes; they are told to the mbarrier. sm_90. */
static __device__ __forceinline__ void bulk_copy(void *shared_to, const void *global_from,
                                                 uint32_t bytes, uint64_t *mbarrier)
{
#if QUIRE_SM >= 90
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(shared_address(shared_to)),
                 "l"(__cvta_generic_to_global(global_from)), "r"(bytes),
                 "r"(shared_address(mbarrier))
                 : "memory");
#else
    __trap();
#endif
}

/* --- mbarriers --- */

static __device__ __forceinline__ void mbarrier_init(uint64_t *mbarrier, uint32_t count)
{
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(mbarrier)), "r"(count)
                 : "memory");
}

static __device__ __forceinline__ void mbarrier_arrive(uint64_t *mbarrier)
{
    asm volatile("{\n\t"
                 ".reg .b64 state;\n\t"
                 "mbarrier.arrive.shared.b64 state, [%0];\n\t"
                 "}" ::"r"(shared_address(mbarrier))
                 : "memory");
}

/* sm_90 */
static __device__ __forceinline__ void mbarrier_arrive_expect_bytes(uint64_t *mbarrier,
                                                                    uint32_t bytes)
{
#if QUIRE_SM >= 90
    asm volatile("{\n\t"
                 ".reg .b64 state;\n\t"
                 "mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;\n\t"
                 "}" ::"r"(shared_address(mbarrier)),
                 "r"(bytes)
                 : "memory");
#else
    __trap();
#endif
}

/* True once the phase of that parity has ended; may come back before, after some time. */
static __device__ __forceinline__ bool mbarrier_try_wait(uint64_t *mbarrier, uint32_t parity)
{
    uint32_t passed;
#if QUIRE_SM >= 90
    asm volatile("{\n\t"
                 ".reg .pred passed;\n\t"
                 "mbarrier.try_wait.parity.shared.b64 passed, [%1], %2;\n\t"
                 "selp.u32 %0, 1, 0, passed;\n\t"
                 "}"
                 : "=r"(passed)
                 : "r"(shared_address(mbarrier)), "r"(parity)
                 : "memory");
#else
    asm volatile("{\n\t"
                 ".reg .pred passed;\n\t"
                 "mbarrier.test_wait.parity.shared.b64 passed, [%1], %2;\n\t"
                 "selp.u32 %0, 1, 0, passed;\n\t"
                 "}"
                 : "=r"(passed)
                 : "r"(shared_address(mbarrier)), "r"(parity)
                 : "memory");
#endif
    return passed != 0;
}

/* Waits until the phase of that parity has ended. */
static __device__ __forceinline__ void mbarrier_wait(uint64_t *mbarrier, uint32_t parity)
{
    while (!mbarrier_try_wait(mbarrier, parity))
        continue;
}

/* Makes initialised mbarriers visible to the copying unit. sm_90 */
static __device__ __forceinline__ void fence_mbarrier_init(void)
{
#if QUIRE_SM >= 90
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    __trap();
#endif
}

/* Orders this thread's accesses to shared memory before those of the copying unit. sm_90 */
static __device__ __forceinline__ void fence_async_proxy(void)
{
#if QUIRE_SM >= 90
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
    __trap();
#endif
}

/* --- matrix tiles of 8x8 16-bit values; the first 8, 16 or 32 lanes give addresses of rows --- */

static __device__ __forceinline__ void ldmatrix_x1(uint32_t (&registers)[1], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(registers[0])
                 : "r"(shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldmatrix_x2(uint32_t (&registers)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldmatrix_x4(uint32_t (&registers)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldmatrix_x1_trans(uint32_t (&registers)[1], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(registers[0])
                 : "r"(shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&registers)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&registers)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* sm_90 */
static __device__ __forceinline__ void stmatrix_x1(void *row, const uint32_t (&registers)[1])
{
#if QUIRE_SM >= 90
    asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(shared_address(row)),
                 "r"(registers[0])
                 : "memory");
#else
    __trap();
#endif
}

static __device__ __forceinline__ void stmatrix_x2(void *row, const uint32_t (&registers)[2])
{
#if QUIRE_SM >= 90
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(
                     shared_address(row)),
                 "r"(registers[0]), "r"(registers[1])
                 : "memory");
#else
    __trap();
#endif
}

static __device__ __forceinline__ void stmatrix_x4(void *row, const uint32_t (&registers)[4])
{
#if QUIRE_SM >= 90
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     shared_address(row)),
                 "r"(registers[0]), "r"(registers[1]), "r"(registers[2]), "r"(registers[3])
                 : "memory");
#else
    __trap();
#endif
}

static __device__ __forceinline__ void stmatrix_x4_trans(void *row, const uint32_t (&registers)[4])
{
#if QUIRE_SM >= 90
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     shared_address(row)),
                 "r"(registers[0]), "r"(registers[1]), "r"(registers[2]), "r"(registers[3])
                 : "memory");
#else
    __trap();
#endif
}

/* --- d += a b, 16x8: k is 16 for 16-bit operands, 32 for 8-bit ones --- */

#define MMA(shape_and_types, sum, d, a, b)                                                         \
    asm volatile("mma.sync.aligned." shape_and_types " {%0, %1, %2, %3}, {%4, %5, %6, %7}, "       \
                 "{%8, %9}, {%0, %1, %2, %3};"                                                     \
                 : sum(d[0]), sum(d[1]), sum(d[2]), sum(d[3])                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

static __device__ __forceinline__ void mma_f16(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
{
    MMA("m16n8k16.row.col.f32.f16.f16.f32", "+f", d, a, b);
}

static __device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2])
{
    MMA("m16n8k16.row.col.f32.bf16.bf16.f32", "+f", d, a, b);
}

static __device__ __forceinline__ void mma_s8(int32_t (&d)[4], const uint32_t (&a)[4],
                                              const uint32_t (&b)[2])
{
    MMA("m16n8k32.row.col.s32.s8.s8.s32", "+r", d, a, b);
}

/* sm_89; twice an f16 mma on sm_90 and sm_100, an instruction of its own on sm_89 and sm_120 */
static __device__ __forceinline__ void mma_e4m3(float (&d)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2])
{
#if QUIRE_SM >= 89
    MMA("m16n8k32.row.col.f32.e4m3.e4m3.f32", "+f", d, a, b);
#else
    __trap();
#endif
}

#undef MMA

/* --- arithmetic --- */

/* Any function of three bits, bit by bit: table bit a * 4 + b * 2 + c. */
template <int table>
static __device__ __forceinline__ uint32_t lop3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t out;
    asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(out) : "r"(a), "r"(b), "r"(c), "n"(table));
    return out;
}

/* 2^a to about 2 ulp, subnormal results flushed. */
static __device__ __forceinline__ float exp2_approx(float a)
{
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(a));
    return out;
}

/* Two e4m3 to two halves, the lower byte to the lower half. sm_89 */
static __device__ __forceinline__ uint32_t f16x2_of_e4m3x2(uint16_t pair)
{
#if QUIRE_SM >= 89
    uint32_t out;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(out) : "h"(pair));
    return out;
#else
    __trap();
    return 0;
#endif
}

#endif
