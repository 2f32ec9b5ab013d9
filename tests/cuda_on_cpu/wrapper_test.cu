/* What platform.cuh promises beside matrix layouts (layout_test.cu): shuffles, votes, bits, narrow
 * floats, barriers of a part, copies, mbarriers, atomics. Expected values are written down.
 */
#include "tests/cuda_on_cpu/cuda_test.h"

#include <math.h>

static int device_sm(void)
{
    struct cudaDeviceProp properties;
    expect_success(cudaGetDeviceProperties(&properties, 0));
    return properties.major * 10 + properties.minor;
}

/* Runs a kernel of one block that writes n words. */
static std::vector<uint32_t> words_of(void (*kernel)(uint32_t *), unsigned threads, size_t n)
{
    device_array<uint32_t> out(n);
    expect_success(launch(kernel, 1, threads, 0, NULL, out.at));
    return out.read();
}

/* --- warps --- */

static __global__ void shuffles(uint32_t *out)
{
    uint32_t lane = lane_idx(), *mine = out + 8 * lane;
    mine[0] = __shfl_sync(ALL_LANES, lane, 5);
    mine[1] = __shfl_sync(ALL_LANES, lane, 13, 8);
    mine[2] = __shfl_up_sync(ALL_LANES, lane, 3);
    mine[3] = __shfl_down_sync(ALL_LANES, lane, 3);
    mine[4] = __shfl_down_sync(ALL_LANES, lane, 3, 16);
    mine[5] = __shfl_xor_sync(ALL_LANES, lane, 17);
    mine[6] = __float_as_uint(__shfl_xor_sync(ALL_LANES, (float)lane, 1));
    mine[7] = lane < 7 ? __shfl_sync(0x7fu, lane, 6) : 77;
}

static void test_wrapper__shuffles_name_their_lanes(void **)
{
    std::vector<uint32_t> out = words_of(shuffles, 32, 256);
    const uint32_t lane_2[8] = {5, 5, 2, 5, 5, 19, 0x40400000, 6};
    const uint32_t lane_14[8] = {5, 13, 11, 17, 14, 31, 0x41700000, 77};
    const uint32_t lane_30[8] = {5, 29, 27, 30, 30, 15, 0x41f80000, 77};
    assert_memory_equal(&out[8 * 2], lane_2, sizeof lane_2);
    assert_memory_equal(&out[8 * 14], lane_14, sizeof lane_14);
    assert_memory_equal(&out[8 * 30], lane_30, sizeof lane_30);
}

static __global__ void votes(uint32_t *out)
{
    uint32_t lane = lane_idx();
    int odd = (int)(lane % 2);
    uint32_t words[8] = {
        __ballot_sync(ALL_LANES, odd),
        (uint32_t)__any_sync(ALL_LANES, lane == 40),
        (uint32_t)__any_sync(ALL_LANES, lane == 4),
        (uint32_t)__all_sync(ALL_LANES, lane < 32),
        __reduce_add_sync(ALL_LANES, lane),
        (uint32_t)__reduce_min_sync(ALL_LANES, 3 - (int)lane),
        __reduce_max_sync(ALL_LANES, 3 - lane),
        (uint32_t)__reduce_max_sync(ALL_LANES, 3 - (int)lane),
    };
    if (lane == 9)
        for (int i = 0; i < 8; i++)
            out[i] = words[i];
}

static void test_wrapper__votes_and_sums_are_of_the_whole_warp(void **)
{
    std::vector<uint32_t> out = words_of(votes, 32, 8);
    const uint32_t want[8] = {0xaaaaaaaa, 0, 1, 1, 496, (uint32_t)-28, 0xffffffff, 3};
    assert_memory_equal(out.data(), want, sizeof want);
}

/* --- arithmetic --- */

static __global__ void bits(uint32_t *out)
{
    uint32_t zero = threadIdx.x; /* keeps the compiler from folding */
    if (zero != 0)
        return;
    out[0] = __byte_perm(0x33221100 + zero, 0x77665544, 0x7250);
    out[1] = __byte_perm(0x33228100 + zero, 0x77665544, 0x9999);
    out[2] = lop3<0xea>(0x12345678 + zero, 0x000f000f, 0x64006400);
    out[3] = lop3<0x96>(0xff00ff00 + zero, 0x0ff00ff0, 0x33333333);
    out[4] = (uint32_t)__popc(0xf0f00001 + zero);
    out[5] = (uint32_t)__clz((int)(0x00010000 + zero));
    out[6] = (uint32_t)__ffs((int)(0x00010000 + zero));
    out[7] = __umulhi(0x80000001 + zero, 6);
    out[8] = (uint32_t)(__umul64hi(0x8000000000000001ull + zero, 6) & 0xffffffff);
    out[9] = __float_as_uint(__fdiv_rn(1.0f + (float)zero, 3.0f));
    out[10] = __float_as_uint(__fmaf_rn(1.0f + (float)zero, 0x1.000002p0f, -1.0f));
    out[11] = __float_as_uint(max(nanf("") + (float)zero, 2.0f));
    out[12] = (uint32_t)min(-3 + (int)zero, 2);
}

static void test_wrapper__bits_and_rounding(void **)
{
    std::vector<uint32_t> out = words_of(bits, 1 * WARP_LANES, 13);
    const uint32_t want[13] = {
        0x77225500, 0x81818181, 0x64046408, 0xc3c3c3c3, 9,          15,         17,
        3,          3,          0x3eaaaaab, 0x34000000, 0x40000000, (uint32_t)-3,
    };
    for (size_t i = 0; i < 13; i++)
        assert_int_equal(out[i], want[i]);
}

static __global__ void exponents(float *out)
{
    out[threadIdx.x] = exp2_approx((float)threadIdx.x - 16.5f);
}

static void test_wrapper__exp2_is_near(void **)
{
    device_array<float> out(32);
    expect_success(launch(exponents, 1, 32, 0, NULL, out.at));
    std::vector<float> got = out.read();
    for (int i = 0; i < 32; i++) {
        double want = exp2(i - 16.5);
        assert_true(fabs((double)got[(size_t)i] - want) <= want * 0x1p-21);
    }
}

static __global__ void narrow_floats(uint32_t *out)
{
    out[threadIdx.x] = f16x2_of_e4m3x2((uint16_t)(0x0138 + 0x0100 * threadIdx.x));
}

static void test_wrapper__e4m3_becomes_f16_exactly(void **)
{
    if (device_sm() < 89)
        skip_because("wrapper of e4m3", "it needs compute capability 8.9");
    std::vector<uint32_t> out = words_of(narrow_floats, 32, 32);
    assert_int_equal(out[0], 0x18003c00);  /* 2^-9, the least; 1 */
    assert_int_equal(out[6], 0x23003c00);  /* 7 * 2^-9, the greatest subnormal */
    assert_int_equal(out[7], 0x24003c00);  /* 2^-6 */
    assert_int_equal(out[31], 0x30003c00); /* 2^-3 */
}

/* --- memory --- */

/* Two warps of four exchange through memory by a barrier of their own. */
static __global__ void partial_barrier(uint32_t *out)
{
    SHARED(uint32_t[128], words);
    uint32_t pair = warp_idx() / 2, place = threadIdx.x % 64;
    words[threadIdx.x] = threadIdx.x;
    barrier_sync(1 + pair, 64);
    out[threadIdx.x] = words[64 * pair + 63 - place];
}

static void test_wrapper__a_barrier_of_a_part_orders_that_part(void **)
{
    std::vector<uint32_t> out = words_of(partial_barrier, 128, 128);
    for (uint32_t i = 0; i < 128; i++)
        assert_int_equal(out[i], i / 64 * 64 + 63 - i % 64);
}

/* The first warp arrives and goes on; the second waits for what it wrote. */
static __global__ void arrival(uint32_t *out)
{
    SHARED(uint32_t[32], words);
    if (warp_idx() == 0) {
        words[lane_idx()] = 3 * lane_idx();
        barrier_arrive(2, 64);
    } else {
        barrier_sync(2, 64);
        out[lane_idx()] = words[31 - lane_idx()];
    }
}

static void test_wrapper__who_arrives_does_not_wait(void **)
{
    std::vector<uint32_t> out = words_of(arrival, 64, 32);
    for (uint32_t i = 0; i < 32; i++)
        assert_int_equal(out[i], 3 * (31 - i));
}

/* Stage i of three holds tile i; odd chunks are masked and must become zeros. */
static __global__ void pipeline(const uint32_t *in, uint32_t *out, uint32_t n_tiles)
{
    SHARED(uint32_t[3][128], tiles);
    uint32_t lane = threadIdx.x;
    for (uint32_t i = 0; i < 2; i++) {
        cp_async_16(&tiles[i][4 * lane], in + 128 * i + 4 * lane, lane % 2 == 0);
        cp_async_commit();
    }
    for (uint32_t i = 0; i < n_tiles; i++) {
        cp_async_wait<1>();
        __syncthreads();
        if (i + 2 < n_tiles)
            cp_async_16(&tiles[(i + 2) % 3][4 * lane], in + 128 * (i + 2) + 4 * lane,
                        lane % 2 == 0);
        cp_async_commit();
        for (uint32_t j = 0; j < 4; j++)
            out[128 * i + 32 * j + lane] = tiles[i % 3][32 * j + lane];
    }
}

static void test_wrapper__cp_async_fills_a_ring_and_masks_with_zeros(void **)
{
    std::vector<uint32_t> values(128 * 7);
    for (size_t i = 0; i < values.size(); i++)
        values[i] = (uint32_t)i + 1;
    device_array<uint32_t> in(values), out(values.size());
    expect_success(launch(pipeline, 1, 32, 0, NULL, in.at, out.at, 7u));
    std::vector<uint32_t> got = out.read();
    for (size_t i = 0; i < got.size(); i++)
        assert_int_equal(got[i], i / 4 % 2 == 0 ? i + 1 : 0);
}

struct mailbox {
    uint32_t words[3][32];
    uint64_t full[3], empty[3];
};

/* A warp fills a ring of mailboxes by bulk copies, another empties it. */
static __global__ void mailboxes(const uint32_t *in, uint32_t *out, uint32_t n)
{
    DYNAMIC_SHARED(struct mailbox, box);
    if (threadIdx.x == 0) {
        for (int s = 0; s < 3; s++) {
            mbarrier_init(&box->full[s], 1);
            mbarrier_init(&box->empty[s], WARP_LANES);
        }
        fence_mbarrier_init();
    }
    __syncthreads();
    for (uint32_t i = 0; i < n; i++) {
        uint32_t s = i % 3, turn = i / 3;
        if (warp_idx() == 1) {
            mbarrier_wait(&box->full[s], turn % 2);
            out[32 * i + lane_idx()] = box->words[s][31 - lane_idx()];
            fence_async_proxy();
            mbarrier_arrive(&box->empty[s]);
        } else if (lane_idx() == 0) {
            if (turn > 0)
                mbarrier_wait(&box->empty[s], (turn - 1) % 2);
            mbarrier_arrive_expect_bytes(&box->full[s], sizeof box->words[s]);
            bulk_copy(box->words[s], in + 32 * i, sizeof box->words[s], &box->full[s]);
        }
    }
}

static void test_wrapper__mbarriers_guard_a_ring_of_bulk_copies(void **)
{
    if (device_sm() < 90)
        skip_because("wrapper of bulk copies", "they need compute capability 9.0");
    std::vector<uint32_t> values(32 * 11);
    for (size_t i = 0; i < values.size(); i++)
        values[i] = 7 * (uint32_t)i;
    device_array<uint32_t> in(values), out(values.size());
    expect_success(launch(mailboxes, 1, 64, sizeof(struct mailbox), NULL, in.at, out.at, 11u));
    std::vector<uint32_t> got = out.read();
    for (size_t i = 0; i < got.size(); i++)
        assert_int_equal(got[i], 7 * (i / 32 * 32 + 31 - i % 32));
}

/* words: sum, ticket, greatest, least, sum as the last block saw it */
static __global__ void tickets(unsigned *words)
{
    SHARED(unsigned, last);
    atomicAdd(&words[0], threadIdx.x);
    atomicMax(&words[2], blockIdx.x * 1000 + threadIdx.x);
    atomicMin(&words[3], blockIdx.x * 1000 + threadIdx.x + 7);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(&words[1], 1u) == gridDim.x * gridDim.y - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x == 0)
        words[4] = atomicExch(&words[0], 5u) + atomicCAS(&words[1], 6u, 99u);
}

static void test_wrapper__the_last_block_sees_what_all_have_added(void **)
{
    device_array<unsigned> words(std::vector<unsigned>{0, 0, 0, 100000, 0});
    expect_success(launch(tickets, dim3(3, 2), 64, 0, NULL, words.at));
    std::vector<unsigned> got = words.read();
    const unsigned want[5] = {5, 99, 2063, 7, 6 * 2016 + 6};
    assert_memory_equal(got.data(), want, sizeof want);
}

static __global__ void places(uint32_t *out)
{
    uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    uint32_t place = block * blockDim.x * blockDim.y * blockDim.z + thread;
    out[place] = place;
}

static void test_wrapper__grids_and_blocks_have_three_dimensions(void **)
{
    device_array<uint32_t> out(2 * 3 * 4 * 96);
    expect_success(launch(places, dim3(2, 3, 4), dim3(8, 6, 2), 0, NULL, out.at));
    std::vector<uint32_t> got = out.read();
    for (size_t i = 0; i < got.size(); i++)
        assert_int_equal(got[i], i);
}

/* --- launches --- */

static __global__ void far_end(uint32_t *out, uint32_t n)
{
    DYNAMIC_SHARED(uint32_t, words);
    words[n - 1 - threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = words[n - WARP_LANES + threadIdx.x];
}

static void test_wrapper__a_kernel_gets_the_shared_memory_that_it_was_allowed(void **)
{
    const size_t bytes = 96u << 10;
    device_array<uint32_t> out(WARP_LANES);
    expect_success(allow_shared(far_end, bytes));
    expect_success(launch(far_end, 1, WARP_LANES, bytes, NULL, out.at, bytes / 4));
    std::vector<uint32_t> got = out.read();
    for (uint32_t i = 0; i < WARP_LANES; i++)
        assert_int_equal(got[i], WARP_LANES - 1 - i);
    assert_int_not_equal(allow_shared(far_end, 228u << 10), cudaSuccess);
    cudaGetLastError();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrapper__shuffles_name_their_lanes),
        cmocka_unit_test(test_wrapper__votes_and_sums_are_of_the_whole_warp),
        cmocka_unit_test(test_wrapper__bits_and_rounding),
        cmocka_unit_test(test_wrapper__exp2_is_near),
        cmocka_unit_test(test_wrapper__e4m3_becomes_f16_exactly),
        cmocka_unit_test(test_wrapper__a_barrier_of_a_part_orders_that_part),
        cmocka_unit_test(test_wrapper__who_arrives_does_not_wait),
        cmocka_unit_test(test_wrapper__cp_async_fills_a_ring_and_masks_with_zeros),
        cmocka_unit_test(test_wrapper__mbarriers_guard_a_ring_of_bulk_copies),
        cmocka_unit_test(test_wrapper__the_last_block_sees_what_all_have_added),
        cmocka_unit_test(test_wrapper__grids_and_blocks_have_three_dimensions),
        cmocka_unit_test(test_wrapper__a_kernel_gets_the_shared_memory_that_it_was_allowed),
    };
    return run_cuda_tests("wrappers", tests, sizeof tests / sizeof tests[0]);
}
