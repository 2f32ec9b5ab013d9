/* That the emulation is not blind: each defect must be noticed by the builds that the table names
 * (any seed unless one is given), and the same kernel without it by none. Each runs in a child of
 * its own, since sanitizers end the program.
 */
#include "tests/cuda_on_cpu/cuda_test.h"

#include <fcntl.h>
#include <string.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cuda_on_cpu/emu_control.h"
#include "tests/cuda_on_cpu/emu_sanitizer.h"
#include "tests/cuda_on_cpu/fault_kernels.cuh"

#define THREADS 64

enum build { PLAIN = 1, ASAN = 2, TSAN = 4, EVERY = 7 };

#if defined(EMU_ASAN)
#define THIS_BUILD ASAN
#elif defined(EMU_TSAN)
#define THIS_BUILD TSAN
#else
#define THIS_BUILD PLAIN
#endif

/* --- what runs in the child: exits with 0 when all is well --- */

static void expect_in_child(cudaError_t error)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "error: %s\n", cudaGetErrorName(error));
    exit(1);
}

static float *device_floats(size_t n, float value)
{
    float *memory = NULL;
    std::vector<float> values(n, value);
    expect_in_child(cudaMalloc((void **)&memory, n * sizeof(float)));
    expect_in_child(cudaMemcpy(memory, values.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    return memory;
}

static void expect_floats(const float *device, size_t n, float value)
{
    std::vector<float> values(n);
    expect_in_child(
        cudaMemcpy(values.data(), device, n * sizeof(float), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++) {
        if (values[i] == value)
            continue;
        fprintf(stderr, "wrong values: %g, not %g\n", (double)values[i], (double)value);
        exit(1);
    }
}

typedef void out_kernel(float *out);
typedef void out_one_kernel(float *out, int one);
typedef void in_out_kernel(const float *in, float *out);

template <out_kernel *kernel> static void run_out(void)
{
    float *out = device_floats(THREADS, 0.0f);
    expect_in_child(launch(kernel, 1, THREADS, 0, NULL, out));
    expect_floats(out, THREADS, 1.0f);
    cudaFree(out);
}

template <out_one_kernel *kernel> static void run_out_one(void)
{
    float *out = device_floats(THREADS, 0.0f);
    expect_in_child(launch(kernel, 1, THREADS, THREADS * sizeof(float), NULL, out, 1));
    expect_floats(out, THREADS, 1.0f);
    cudaFree(out);
}

template <in_out_kernel *kernel> static void run_in_out(void)
{
    float *in = device_floats(256, 1.0f), *out = device_floats(THREADS, 0.0f);
    expect_in_child(launch(kernel, 1, THREADS, 0, NULL, in, out));
    expect_floats(out, THREADS, 1.0f);
    cudaFree(in);
    cudaFree(out);
}

template <bool broken> static void run_misaligned_copy(void)
{
    float *in = device_floats(256, 1.0f), *out = device_floats(THREADS, 0.0f);
    expect_in_child(launch(misaligned_copy<broken>, 1, THREADS, 0, NULL, in, out, 1));
    expect_floats(out, THREADS, 1.0f);
    cudaFree(in);
    cudaFree(out);
}

/* The second tile holds twos. */
template <bool broken> static void run_copy_overwrites(void)
{
    std::vector<float> values(512, 1.0f);
    for (size_t i = 256; i < 512; i++)
        values[i] = 2.0f;
    float *in = device_floats(512, 1.0f), *out = device_floats(2 * THREADS, 0.0f);
    expect_in_child(cudaMemcpy(in, values.data(), 512 * sizeof(float), cudaMemcpyHostToDevice));
    expect_in_child(launch(copy_overwrites<broken>, 1, THREADS, 0, NULL, in, out));
    expect_floats(out, 2 * THREADS, 1.0f);
    cudaFree(in);
    cudaFree(out);
}

template <bool broken> static void run_race_between_blocks(void)
{
    float *out = device_floats(4, 1.0f);
    expect_in_child(launch(race_between_blocks<broken>, 4, THREADS, 0, NULL, out));
    expect_floats(out, 4, 1.0f);
    cudaFree(out);
}

template <bool broken> static void run_last_block_sums(void)
{
    float *parts = device_floats(4, 0.0f), *out = device_floats(1, 0.0f);
    unsigned *ticket = (unsigned *)device_floats(1, 0.0f);
    expect_in_child(launch(last_block_sums<broken>, 4, THREADS, 0, NULL, parts, ticket, out));
    expect_floats(out, 1, 1.0f);
    cudaFree(parts);
    cudaFree(ticket);
    cudaFree(out);
}

/* Tiles of 1, 2, 3 ...: a tile in another's place changes the sum. */
template <int fault> static void run_ring(void)
{
    std::vector<float> values;
    for (int i = 0; i < 5 * 64; i++)
        values.push_back((float)(1 << 2 * (i / 64)));
    float *in = device_floats(values.size(), 0.0f), *out = device_floats(WARP_LANES, 0.0f);
    expect_in_child(
        cudaMemcpy(in, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
    expect_in_child(
        launch(ring_of_tiles<fault>, 1, THREADS, sizeof(struct ring), NULL, in, out, 5));
    expect_floats(out, WARP_LANES, 2.0f * (1 + 4 + 16 + 64 + 256));
    cudaFree(in);
    cudaFree(out);
}

static void run_newer(void)
{
    float *out = device_floats(WARP_LANES, 0.0f);
    expect_in_child(launch(newer_than_the_chip, 1, WARP_LANES, 0, NULL, out));
    expect_floats(out, WARP_LANES, 1.0f);
    cudaFree(out);
}

template <unsigned threads, unsigned shared_bytes> static void run_launch(void)
{
    float *out = device_floats(1024, 1.0f);
    expect_in_child(launch(ones, 1, threads, shared_bytes, NULL, out));
    expect_floats(out, 1024, 1.0f);
    cudaFree(out);
}

/* --- the table --- */

struct fault {
    const char *name;
    void (*sound)(void);   /* NULL: the next fault's, or there is none */
    void (*broken)(void);
    int builds;            /* that must notice */
    int seed;              /* with this seed; -1: with any */
    int sm_from, sm_to;
    const char *says;      /* part of what is printed */
};

#define TWICE(run) run<false>, run<true>
#define KERNEL(run, kernel) run<kernel<false>>, run<kernel<true>>

static const struct fault faults[] = {
    {"a write past global memory", KERNEL(run_out_one, past_global), ASAN, -1, 80, 120,
     "heap-buffer-overflow"},
    {"a write past static shared memory", KERNEL(run_out_one, past_static), ASAN, -1, 80, 120,
     "heap-buffer-overflow"},
    {"a write past dynamic shared memory", KERNEL(run_out_one, past_dynamic), ASAN, -1, 80, 120,
     "heap-buffer-overflow"},
    {"a misaligned vector", KERNEL(run_out_one, misaligned_vector), ASAN, -1, 80, 120,
     "misaligned address"},
    {"a misaligned cp.async", TWICE(run_misaligned_copy), EVERY, -1, 80, 120,
     "misaligned address"},
    {"shared memory read unwritten", KERNEL(run_out, unwritten_shared), EVERY, -1, 80, 120,
     "wrong values: -nan"},
    {"barriers on two lines", KERNEL(run_out, divergent_barrier), EVERY, -1, 80, 120,
     "divergent barrier"},
    {"a thread that never comes to the barrier", KERNEL(run_out, absent_at_barrier), EVERY, -1, 80,
     120, "1 of 64 threads have returned"},
    {"half a warp at a shuffle", KERNEL(run_out, half_a_warp), EVERY, -1, 80, 120,
     "16 lanes (0000ffff) wait at __shfl_xor_sync"},
    {"a lane outside of its own mask", KERNEL(run_out, foreign_mask), EVERY, -1, 80, 120,
     "is not in its own mask"},
    {"an arrival that is lost", KERNEL(run_out, lost_arrival), EVERY, -1, 80, 120,
     "wait at an mbarrier"},
    {"an mbarrier without init", KERNEL(run_out, unready_mbarrier), EVERY, -1, 80, 120,
     "not initialised"},
    {"a race in a block", KERNEL(run_out, race_in_block), TSAN, -1, 80, 120, "data race"},
    {"a race in a warp", KERNEL(run_out, race_in_warp), TSAN, -1, 80, 120, "data race"},
    {"a race between blocks", TWICE(run_race_between_blocks), TSAN, -1, 80, 120, "data race"},
    {"a ticket without a fence", TWICE(run_last_block_sums), TSAN, -1, 80, 120, "data race"},
    {"cp.async read before it is waited for", KERNEL(run_in_out, copy_read_early), EVERY, 0, 80,
     120, "wrong values: -nan"},
    {"cp.async over what is still read", TWICE(run_copy_overwrites), EVERY, 1, 80, 120,
     "wrong values: 2, not 1"},
    {"cp.async that nobody waits for", KERNEL(run_in_out, copy_left_behind), EVERY, -1, 80, 120,
     "1 cp.async not waited for"},
    {"a bulk copy read before it is waited for", run_ring<RING_SOUND>, run_ring<RING_READS_EARLY>,
     PLAIN | ASAN, 0, 90, 120, "wrong values"},
    {"a ring read before it is full, as a race", NULL, run_ring<RING_READS_EARLY>, TSAN, 0, 90, 120,
     "data race"},
    {"a ring overwritten before it is empty", NULL, run_ring<RING_OVERWRITES>, EVERY, 1, 90, 120,
     "wait at an mbarrier"},
    {"mbarriers without their fence", NULL, run_ring<RING_UNFENCED>, EVERY, -1, 90, 120,
     "4 mbarriers are initialised and not fenced"},
    {"an instruction newer than the chip", NULL, run_newer, EVERY, -1, 80, 89,
     "stmatrix needs sm_90"},
    {"a block of 1056 threads", (run_launch<1024, 0>), (run_launch<1056, 0>), EVERY, -1, 80, 120,
     "cudaErrorInvalidConfiguration"},
    {"a block that is no whole warps", NULL, run_launch<48, 0>, EVERY, -1, 80, 120,
     "cudaErrorInvalidConfiguration"},
    {"more than 48 KiB that nobody allowed", (run_launch<1024, 49152>), (run_launch<1024, 49168>),
     EVERY, -1, 80, 120, "cudaErrorInvalidValue"},
};

/* --- running it --- */

/* Runs it in a child with that seed; what the child printed goes to *said. */
static int status_of_child(void (*run)(void), int seed, std::string *said)
{
    char name[] = "/tmp/quire-fault-XXXXXX";
    int file = mkstemp(name);
    assert_true(file >= 0);
    unlink(name);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(file, STDERR_FILENO);
        if (seed >= 0)
            emu_set_seed((uint64_t)seed);
        run();
        exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    char text[4096];
    said->clear();
    lseek(file, 0, SEEK_SET);
    for (ssize_t n; (n = read(file, text, sizeof text)) > 0;)
        said->append(text, (size_t)n);
    close(file);
    return status;
}

/* Others must be noticed by another build, or on another chip. */
static bool is_for_this_build(const struct fault &fault)
{
    return (fault.builds & THIS_BUILD) != 0 && QUIRE_SM >= fault.sm_from && QUIRE_SM <= fault.sm_to;
}

static void check_fault(void **state)
{
    const struct fault *fault = (const struct fault *)*state;
    static std::string said; /* a failure leaves by longjmp */
    if (fault->sound != NULL) {
        int status = status_of_child(fault->sound, fault->seed, &said);
        if (status != 0 || !said.empty()) {
            print_error("without the fault: status %d\n%s\n", status, said.c_str());
            fail();
        }
    }
    int status = status_of_child(fault->broken, fault->seed, &said);
    if (status == 0 || said.find(fault->says) == std::string::npos) {
        print_error("status %d, and not a word of \"%s\":\n%s\n", status, fault->says,
                    said.c_str());
        fail();
    }
}

int main(void)
{
    std::vector<struct CMUnitTest> tests;
    for (const struct fault &fault : faults)
        if (is_for_this_build(fault))
            tests.push_back(
                {fault.name, check_fault, NULL, NULL, const_cast<struct fault *>(&fault)});
    return run_cuda_tests("faults", tests.data(), tests.size());
}
