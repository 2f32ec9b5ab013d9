#include "tools/peaks.h"

#include "base/clock.h"
#include "base/status.h"
#include "base/threads.h"
#include "kernels/device.h"

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define READ_BYTES ((size_t)256 << 20)
#define READ_STEP 512 /* bytes of one turn of the loop */
#define COMPUTE_TURNS 500000u
#define CHAINS 12 /* independent, so that latency does not count */
#define READ_REPEATS 8
#define COMPUTE_REPEATS 24

struct meter {
    struct team *team;
    const uint8_t *bytes; /* [READ_BYTES] */
    int n_threads;
    uint32_t seed;
};

/* What was computed goes here, or the compiler would leave the work out. */
static uint32_t sink;

static void keep(uint32_t result)
{
    __atomic_store_n(&sink, result, __ATOMIC_RELAXED); /* every worker writes it */
}

__attribute__((target("avx512f,avx512vnni"))) static void int8_avx512(void *arg, int worker_idx)
{
    const struct meter *meter = arg;
    __m512i acc[CHAINS], a = _mm512_set1_epi32(worker_idx + 1);
    __m512i b = _mm512_set1_epi32((int)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < COMPUTE_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            __asm__ volatile("vpdpbusd %1, %2, %0" : "+v"(acc[i]) : "v"(a), "v"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_xor_si512(acc[0], acc[i]);
    keep((uint32_t)_mm512_reduce_add_epi32(acc[0]));
}

__attribute__((target("avx512f"))) static void fma_avx512(void *arg, int worker_idx)
{
    const struct meter *meter = arg;
    __m512 acc[CHAINS], a = _mm512_set1_ps(1e-9f * (float)(worker_idx + 1));
    __m512 b = _mm512_set1_ps((float)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < COMPUTE_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            __asm__ volatile("vfmadd231ps %1, %2, %0" : "+v"(acc[i]) : "v"(a), "v"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_add_ps(acc[0], acc[i]);
    keep((uint32_t)_mm512_reduce_add_ps(acc[0]));
}

/* The product alone: what a kernel adds to widen its sums is the kernel's cost. */
__attribute__((target("avx2"))) static void int8_avx2(void *arg, int worker_idx)
{
    const struct meter *meter = arg;
    __m256i acc[CHAINS], b = _mm256_set1_epi32((int)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm256_set1_epi32(worker_idx + i);
    for (uint32_t turn = 0; turn < COMPUTE_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            __asm__ volatile("vpmaddubsw %1, %0, %0" : "+x"(acc[i]) : "x"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm256_xor_si256(acc[0], acc[i]);
    keep((uint32_t)_mm256_extract_epi32(acc[0], 0));
}

__attribute__((target("avx2,fma"))) static void fma_avx2(void *arg, int worker_idx)
{
    const struct meter *meter = arg;
    __m256 acc[CHAINS], a = _mm256_set1_ps(1e-9f * (float)(worker_idx + 1));
    __m256 b = _mm256_set1_ps((float)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < COMPUTE_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            __asm__ volatile("vfmadd231ps %1, %2, %0" : "+x"(acc[i]) : "x"(a), "x"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm256_add_ps(acc[0], acc[i]);
    keep((uint32_t)_mm256_cvtss_f32(acc[0]));
}

/* Multiplication, then addition: what a machine without fused ones has. */
static void fma_sse2(void *arg, int worker_idx)
{
    const struct meter *meter = arg;
    __m128 acc[CHAINS], a = _mm_set1_ps(1e-9f * (float)(worker_idx + 1));
    __m128 b = _mm_set1_ps((float)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < COMPUTE_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            __m128 product = a;
            __asm__ volatile("mulps %2, %1\n\taddps %1, %0" : "+x"(acc[i]), "+x"(product) : "x"(b));
        }
    }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm_add_ps(acc[0], acc[i]);
    keep((uint32_t)_mm_cvtss_f32(acc[0]));
}

/* Pairs of 16-bit products: bytes widened first, which SSE2 has to do. */
static void int8_sse2(void *arg, int worker_idx)
{
    const struct meter *meter = arg;
    __m128i acc[CHAINS], b = _mm_set1_epi32((int)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm_set1_epi32(worker_idx + i);
    for (uint32_t turn = 0; turn < COMPUTE_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            __asm__ volatile("pmaddwd %1, %0" : "+x"(acc[i]) : "x"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm_xor_si128(acc[0], acc[i]);
    keep((uint32_t)_mm_cvtsi128_si32(acc[0]));
}

static void read_share(void *arg, int worker_idx)
{
    const struct meter *meter = arg;
    size_t share = READ_BYTES / (size_t)meter->n_threads / READ_STEP * READ_STEP;
    const uint8_t *at = meter->bytes + share * (size_t)worker_idx, *end = at + share;
    __m128i acc[4] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128(),
                      _mm_setzero_si128()};
    for (; at < end; at += READ_STEP) {
#pragma GCC unroll 8
        for (int i = 0; i < READ_STEP / 64; i++) {
            const __m128i *line = (const __m128i *)(at + 64 * i);
            _mm_prefetch((const char *)line + 16384, _MM_HINT_T0);
            acc[0] = _mm_xor_si128(acc[0], _mm_load_si128(line));
            acc[1] = _mm_xor_si128(acc[1], _mm_load_si128(line + 1));
            acc[2] = _mm_xor_si128(acc[2], _mm_load_si128(line + 2));
            acc[3] = _mm_xor_si128(acc[3], _mm_load_si128(line + 3));
        }
    }
    for (int i = 1; i < 4; i++)
        acc[0] = _mm_xor_si128(acc[0], acc[i]);
    keep((uint32_t)_mm_cvtsi128_si32(acc[0]));
}

static double best_seconds(struct meter *meter, void (*work)(void *arg, int worker_idx),
                           int n_repeats)
{
    double best = 1e9;
    for (int i = 0; i < n_repeats; i++) {
        int64_t began = clock_now(&clock_monotonic);
        team_run(meter->team, work, meter);
        double seconds = (double)(clock_now(&clock_monotonic) - began) / (double)NS_PER_S;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static void measure_compute(struct meter *meter, struct peaks *out)
{
    /* operations of all threads for one of each instruction: two for a product and its addition */
    double turns = 2.0 * CHAINS * COMPUTE_TURNS * meter->n_threads;

    if (isa_is_available(ISA_AVX512)) {
        out->int8_ops = 64 * turns / best_seconds(meter, int8_avx512, COMPUTE_REPEATS);
        out->fma_ops = 16 * turns / best_seconds(meter, fma_avx512, COMPUTE_REPEATS);
        out->int8_how = "vpdpbusd, 512 bits";
        out->fma_how = "vfmadd231ps, 512 bits";
    } else if (isa_is_available(ISA_AVX2)) {
        out->int8_ops = 32 * turns / best_seconds(meter, int8_avx2, COMPUTE_REPEATS);
        out->fma_ops = 8 * turns / best_seconds(meter, fma_avx2, COMPUTE_REPEATS);
        out->int8_how = "vpmaddubsw, 256 bits";
        out->fma_how = "vfmadd231ps, 256 bits";
    } else {
        out->int8_ops = 8 * turns / best_seconds(meter, int8_sse2, COMPUTE_REPEATS);
        out->fma_ops = 4 * turns / best_seconds(meter, fma_sse2, COMPUTE_REPEATS);
        out->int8_how = "pmaddwd, 128 bits";
        out->fma_how = "mulps and addps, 128 bits";
    }
}

void peaks_take_better(struct peaks *peaks, const struct peaks *other)
{
    peaks->read_bytes = fmax(peaks->read_bytes, other->read_bytes);
    peaks->int8_ops = fmax(peaks->int8_ops, other->int8_ops);
    peaks->fma_ops = fmax(peaks->fma_ops, other->fma_ops);
}

int peaks_measure(int n_threads, struct peaks *out, struct why *why)
{
    struct meter meter = {.n_threads = n_threads, .seed = 3};
    /* what is read ahead of the end is still ours */
    size_t bytes = READ_BYTES + 65536;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return refuse(why, STATUS_NO_MEMORY, "no memory to measure reads: %zu bytes", bytes);
    madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 1, bytes); /* pages that were never written are all the same one */
    meter.bytes = memory;

    int status = team_create(n_threads, false, &meter.team, why);
    if (status == STATUS_OK) {
        double share = (double)(READ_BYTES / (size_t)n_threads / READ_STEP * READ_STEP);
        out->read_bytes = share * n_threads / best_seconds(&meter, read_share, READ_REPEATS);
        measure_compute(&meter, out);
        team_free(meter.team);
    }
    munmap(memory, bytes);
    return status;
}
