/* tests/cuda_on_cpu/cuda_test.h: cmocka and arrays on the device, for tests written in CUDA C++.
 * They compile under nvcc too, and then run on a GPU.
 */
#ifndef QUIRE_CUDA_TEST_H
#define QUIRE_CUDA_TEST_H

#include "kernels/cuda/platform.cuh"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#define expect_success(call)                                                                       \
    do {                                                                                           \
        cudaError_t expected_ = (call);                                                            \
        if (expected_ != cudaSuccess) {                                                            \
            print_error("%s: %s\n", #call, cudaGetErrorString(expected_));                         \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

/* What main returns: 77, which ctest takes for skipped, when there is no device to run on. */
static inline int run_cuda_tests(const char *name, const struct CMUnitTest *tests, size_t n)
{
    int n_devices = 0;
    cudaError_t error = cudaGetDeviceCount(&n_devices);
    if (error != cudaSuccess || n_devices == 0) {
        printf("skipped: %s, %s\n", name, cudaGetErrorString(error));
        return 77;
    }
    return _cmocka_run_group_tests(name, tests, n, NULL, NULL);
}

/* Ends the test; scripts/test repeats the line. */
static inline void skip_because(const char *name, const char *reason)
{
    print_message("skipped: %s: %s\n", name, reason);
    skip();
}

/* n values on the device, unwritten (poison under the emulation) or copied from the host. */
template <class T> struct device_array {
    T *at;
    size_t n;

    explicit device_array(size_t count) : at(NULL), n(count)
    {
        expect_success(cudaMalloc((void **)&at, n * sizeof(T)));
    }
    explicit device_array(const std::vector<T> &values) : device_array(values.size())
    {
        expect_success(cudaMemcpy(at, values.data(), n * sizeof(T), cudaMemcpyHostToDevice));
    }
    ~device_array()
    {
        cudaFree(at);
    }
    device_array(const device_array &) = delete;
    device_array &operator=(const device_array &) = delete;

    std::vector<T> read() const
    {
        std::vector<T> values(n);
        expect_success(cudaMemcpy(values.data(), at, n * sizeof(T), cudaMemcpyDeviceToHost));
        return values;
    }
};

#endif
