/* The emulated runtime's promises: work runs as late as it may, so that a missing wait shows;
 * events and graphs order it; what a capture forbids is refused; errors stick; counts are true.
 */
#include "tests/cuda_on_cpu/cuda_test.h"

#include <string.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "tests/cuda_on_cpu/emu_control.h"

#define N 64

static __global__ void add_one(float *values)
{
    values[threadIdx.x] += 1.0f;
}

static __global__ void copy_values(const float *from, float *to)
{
    to[threadIdx.x] = from[threadIdx.x];
}

struct scene {
    cudaStream_t stream, other;
    cudaEvent_t event;
    float *device, *pinned;
};

/* Device and pinned memory of N floats, the device's zero. */
static int scene_begin(void **state)
{
    struct scene *scene = new struct scene();
    expect_success(cudaStreamCreateWithFlags(&scene->stream, cudaStreamNonBlocking));
    expect_success(cudaStreamCreateWithFlags(&scene->other, cudaStreamNonBlocking));
    expect_success(cudaEventCreateWithFlags(&scene->event, cudaEventDisableTiming));
    expect_success(cudaMalloc((void **)&scene->device, N * sizeof(float)));
    expect_success(cudaMallocHost((void **)&scene->pinned, N * sizeof(float)));
    expect_success(cudaMemsetAsync(scene->device, 0, N * sizeof(float), scene->stream));
    expect_success(cudaStreamSynchronize(scene->stream));
    *state = scene;
    return 0;
}

static int scene_end(void **state)
{
    struct scene *scene = (struct scene *)*state;
    expect_success(cudaFree(scene->device));
    expect_success(cudaFreeHost(scene->pinned));
    expect_success(cudaEventDestroy(scene->event));
    expect_success(cudaStreamDestroy(scene->stream));
    expect_success(cudaStreamDestroy(scene->other));
    delete scene;
    return 0;
}

static void read_back(struct scene *scene, cudaStream_t stream)
{
    expect_success(cudaMemcpyAsync(scene->pinned, scene->device, N * sizeof(float),
                                   cudaMemcpyDeviceToHost, stream));
}

/* --- lateness --- */

static void test_emulated_runtime__a_pinned_buffer_read_early_is_as_it_was(void **state)
{
    struct scene *scene = (struct scene *)*state;
    scene->pinned[0] = 17.0f;
    expect_success(launch(add_one, 1, N, 0, scene->stream, scene->device));
    read_back(scene, scene->stream);
    assert_true(scene->pinned[0] == 17.0f);
    expect_success(cudaStreamSynchronize(scene->stream));
    assert_true(scene->pinned[0] == 1.0f);
}

static void test_emulated_runtime__who_does_not_wait_for_an_event_finds_poison(void **state)
{
    struct scene *scene = (struct scene *)*state;
    float *fresh = NULL;
    expect_success(cudaMalloc((void **)&fresh, N * sizeof(float)));
    expect_success(launch(copy_values, 1, N, 0, scene->stream, scene->device, fresh));
    expect_success(cudaEventRecord(scene->event, scene->stream));
    expect_success(launch(copy_values, 1, N, 0, scene->other, fresh, scene->pinned));
    expect_success(cudaStreamSynchronize(scene->other));
    assert_true(scene->pinned[3] != scene->pinned[3]);

    expect_success(cudaStreamWaitEvent(scene->other, scene->event, 0));
    expect_success(launch(copy_values, 1, N, 0, scene->other, fresh, scene->pinned));
    expect_success(cudaStreamSynchronize(scene->other));
    assert_true(scene->pinned[3] == 0.0f);
    expect_success(cudaFree(fresh));
}

static void test_emulated_runtime__polling_an_event_comes_to_its_end(void **state)
{
    struct scene *scene = (struct scene *)*state;
    for (int i = 0; i < 3; i++)
        expect_success(launch(add_one, 1, N, 0, scene->stream, scene->device));
    read_back(scene, scene->stream);
    expect_success(cudaEventRecord(scene->event, scene->stream));
    int polls = 1;
    while (cudaEventQuery(scene->event) == cudaErrorNotReady)
        polls++;
    assert_int_equal(polls, 5);
    assert_true(scene->pinned[N - 1] == 3.0f);
}

static void test_emulated_runtime__pageable_memory_is_taken_at_once(void **state)
{
    struct scene *scene = (struct scene *)*state;
    float values[N] = {4.0f};
    expect_success(cudaMemcpyAsync(scene->device, values, sizeof values, cudaMemcpyHostToDevice,
                                   scene->stream));
    values[0] = 5.0f;
    read_back(scene, scene->stream);
    expect_success(cudaStreamSynchronize(scene->stream));
    assert_true(scene->pinned[0] == 4.0f);
}

/* --- graphs --- */

/* One kernel on the stream, one on the other, joined again. */
static cudaGraphExec_t captured(struct scene *scene)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    expect_success(cudaStreamBeginCapture(scene->stream, cudaStreamCaptureModeThreadLocal));
    expect_success(launch(add_one, 1, N, 0, scene->stream, scene->device));
    expect_success(cudaEventRecord(scene->event, scene->stream));
    expect_success(cudaStreamWaitEvent(scene->other, scene->event, 0));
    expect_success(launch(add_one, 1, N, 0, scene->other, scene->device));
    expect_success(cudaEventRecord(scene->event, scene->other));
    expect_success(cudaStreamWaitEvent(scene->stream, scene->event, 0));
    expect_success(cudaStreamEndCapture(scene->stream, &graph));
    expect_success(cudaGraphInstantiate(&exec, graph, 0));
    expect_success(cudaGraphDestroy(graph));
    return exec;
}

static void test_emulated_runtime__a_graph_runs_when_launched_and_as_often(void **state)
{
    struct scene *scene = (struct scene *)*state;
    cudaGraphExec_t exec = captured(scene);
    read_back(scene, scene->stream);
    expect_success(cudaStreamSynchronize(scene->stream));
    assert_true(scene->pinned[5] == 0.0f);

    for (int i = 0; i < 3; i++)
        expect_success(cudaGraphLaunch(exec, scene->stream));
    read_back(scene, scene->stream);
    expect_success(cudaGraphExecDestroy(exec));
    expect_success(cudaStreamSynchronize(scene->stream));
    assert_true(scene->pinned[5] == 6.0f);
}

static void test_emulated_runtime__a_capture_refuses_memory_and_waiting(void **state)
{
    struct scene *scene = (struct scene *)*state;
    cudaGraph_t graph = NULL;
    void *memory = NULL;
    expect_success(cudaStreamBeginCapture(scene->stream, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(scene->stream, &graph),
                     cudaErrorStreamCaptureInvalidated);
    assert_null(graph);

    expect_success(cudaStreamBeginCapture(scene->stream, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(cudaStreamSynchronize(scene->stream), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(scene->stream, &graph),
                     cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

static void test_emulated_runtime__a_capture_refuses_pageable_memory(void **state)
{
    struct scene *scene = (struct scene *)*state;
    cudaGraph_t graph = NULL;
    float pageable[N] = {0.0f};
    expect_success(cudaStreamBeginCapture(scene->stream, cudaStreamCaptureModeThreadLocal));
    read_back(scene, scene->stream);
    expect_success(cudaStreamEndCapture(scene->stream, &graph));
    expect_success(cudaGraphDestroy(graph));

    expect_success(cudaStreamBeginCapture(scene->stream, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(cudaMemcpyAsync(scene->device, pageable, sizeof pageable,
                                     cudaMemcpyHostToDevice, scene->stream),
                     cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(scene->stream, &graph),
                     cudaErrorStreamCaptureInvalidated);
    cudaGetLastError();
}

static void test_emulated_runtime__a_capture_wants_its_streams_joined(void **state)
{
    struct scene *scene = (struct scene *)*state;
    cudaGraph_t graph = NULL;
    expect_success(cudaStreamBeginCapture(scene->stream, cudaStreamCaptureModeThreadLocal));
    expect_success(cudaEventRecord(scene->event, scene->stream));
    expect_success(cudaStreamWaitEvent(scene->other, scene->event, 0));
    expect_success(launch(add_one, 1, N, 0, scene->other, scene->device));
    assert_int_equal(cudaStreamEndCapture(scene->stream, &graph), cudaErrorStreamCaptureUnjoined);
    cudaGetLastError();
}

/* --- memory --- */

static void test_emulated_runtime__copies_stay_within_allocations(void **state)
{
    struct scene *scene = (struct scene *)*state;
    static float values[N + 1];
    assert_int_equal(cudaMemcpy(scene->device, values, sizeof values, cudaMemcpyHostToDevice),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(values, scene->device + 1, N * sizeof(float),
                                cudaMemcpyDeviceToHost),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(values, scene->pinned, 4, cudaMemcpyDeviceToHost),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(scene->device + 1, 0, N * sizeof(float), scene->stream),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaFree(scene->device + 1), cudaErrorInvalidValue);
    cudaGetLastError();
}

static void test_emulated_runtime__memory_comes_to_an_end(void **state)
{
    size_t free_bytes = 0, total_bytes = 0, later = 0;
    void *memory = NULL, *more = NULL;
    setenv("EMU_DEVICE_MBYTES", "4", 1);
    expect_success(cudaMemGetInfo(&free_bytes, &total_bytes));
    assert_int_equal(total_bytes, 4u << 20);
    assert_int_equal(cudaMalloc(&memory, free_bytes + 1), cudaErrorMemoryAllocation);
    expect_success(cudaMalloc(&memory, free_bytes));
    assert_int_equal(cudaMalloc(&more, 1), cudaErrorMemoryAllocation);
    expect_success(cudaFree(memory));
    expect_success(cudaMemGetInfo(&later, &total_bytes));
    assert_int_equal(later, free_bytes);
    unsetenv("EMU_DEVICE_MBYTES");
    cudaGetLastError();
}

static void test_emulated_runtime__a_machine_may_have_no_device(void **state)
{
    int n = 7;
    struct cudaDeviceProp properties;
    setenv("EMU_DEVICES", "0", 1);
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    assert_int_equal(n, 0);
    assert_int_equal(cudaGetDeviceProperties(&properties, 0), cudaErrorInvalidDevice);
    unsetenv("EMU_DEVICES");
    expect_success(cudaGetDeviceProperties(&properties, 0));
    assert_int_equal(properties.major, QUIRE_SM / 10);
    assert_int_equal(cudaSetDevice(1), cudaErrorInvalidDevice);
    cudaGetLastError();
}

static void test_emulated_runtime__an_old_driver_and_none_are_told_apart(void **state)
{
    int n = 7, version = 7;
    setenv("EMU_DRIVER", "12080", 1);
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    assert_int_equal(n, 0);
    assert_int_equal(cudaSetDevice(0), cudaErrorInsufficientDriver);
    expect_success(cudaDriverGetVersion(&version));
    assert_int_equal(version, 12080);
    setenv("EMU_DRIVER", "0", 1);
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    expect_success(cudaDriverGetVersion(&version));
    assert_int_equal(version, 0);
    unsetenv("EMU_DRIVER");
    expect_success(cudaGetDeviceCount(&n));
    cudaGetLastError();
}

/* Each thread begins with device 0, whatever another one has chosen. */
static void test_emulated_runtime__a_stream_is_of_the_device_that_was_current(void **state)
{
    struct scene *scene = (struct scene *)*state;
    cudaStream_t second = NULL;
    int elsewhere = 7;
    setenv("EMU_DEVICES", "2", 1);
    expect_success(cudaSetDevice(1));
    expect_success(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    assert_int_equal(launch(add_one, 1, N, 0, scene->stream, scene->device),
                     cudaErrorInvalidResourceHandle);
    expect_success(launch(add_one, 1, N, 0, second, scene->device));
    assert_int_equal(cudaEventRecord(scene->event, second), cudaErrorInvalidResourceHandle);
    expect_success(cudaStreamSynchronize(second));
    std::thread([&] { cudaGetDevice(&elsewhere); }).join();
    assert_int_equal(elsewhere, 0);
    expect_success(cudaSetDevice(0));
    expect_success(cudaStreamDestroy(second));
    unsetenv("EMU_DEVICES");
    cudaGetLastError();
}

/* --- counts and errors --- */

static void test_emulated_runtime__counts_what_a_step_must_not_do(void **state)
{
    struct scene *scene = (struct scene *)*state;
    uint64_t waits = emu_counted(EMU_SYNCHRONISATIONS), takes = emu_counted(EMU_ALLOCATIONS);
    uint64_t launches = emu_counted(EMU_LAUNCHES);
    expect_success(launch(add_one, 1, N, 0, scene->stream, scene->device));
    read_back(scene, scene->stream);
    expect_success(cudaEventRecord(scene->event, scene->stream));
    while (cudaEventQuery(scene->event) == cudaErrorNotReady)
        continue;
    assert_int_equal(emu_counted(EMU_SYNCHRONISATIONS), waits);
    assert_int_equal(emu_counted(EMU_ALLOCATIONS), takes);
    assert_int_equal(emu_counted(EMU_LAUNCHES), launches + 1);

    void *memory = NULL;
    expect_success(cudaMalloc(&memory, 16));
    expect_success(cudaFree(memory));
    assert_int_equal(emu_counted(EMU_ALLOCATIONS), takes + 2);
}

static void test_emulated_runtime__counts_what_waits_and_what_may_wait(void **state)
{
    struct scene *scene = (struct scene *)*state;
    float pageable[N] = {0.0f};
    uint64_t waits = emu_counted(EMU_SYNCHRONISATIONS);
    expect_success(cudaMemcpyAsync(scene->device, scene->pinned, sizeof pageable,
                                   cudaMemcpyHostToDevice, scene->stream));
    read_back(scene, scene->stream);
    while (cudaStreamQuery(scene->stream) == cudaErrorNotReady)
        continue;
    assert_int_equal(emu_counted(EMU_SYNCHRONISATIONS), waits);

    expect_success(cudaMemcpyAsync(scene->device, pageable, sizeof pageable, cudaMemcpyHostToDevice,
                                   scene->stream));
    assert_int_equal(emu_counted(EMU_SYNCHRONISATIONS), waits + 1);
    expect_success(cudaMemcpyAsync(pageable, scene->device, sizeof pageable, cudaMemcpyDeviceToHost,
                                   scene->stream));
    assert_int_equal(emu_counted(EMU_SYNCHRONISATIONS), waits + 2);
    expect_success(cudaMemcpy(pageable, scene->device, sizeof pageable, cudaMemcpyDeviceToHost));
    assert_int_equal(emu_counted(EMU_SYNCHRONISATIONS), waits + 3);
    expect_success(cudaStreamSynchronize(scene->stream));
    expect_success(cudaEventSynchronize(scene->event));
    expect_success(cudaDeviceSynchronize());
    assert_int_equal(emu_counted(EMU_SYNCHRONISATIONS), waits + 6);
}

static void test_emulated_runtime__counts_events_and_the_work_that_stood_behind_them(void **state)
{
    struct scene *scene = (struct scene *)*state;
    uint64_t events = emu_counted(EMU_EVENTS), ahead = emu_counted(EMU_EVENTS_AHEAD);
    for (int n_behind = 0; n_behind <= 1; n_behind++) {
        read_back(scene, scene->stream);
        expect_success(cudaEventRecord(scene->event, scene->stream));
        for (int i = 0; i < n_behind; i++)
            expect_success(launch(add_one, 1, N, 0, scene->stream, scene->device));
        while (cudaEventQuery(scene->event) == cudaErrorNotReady)
            continue;
        expect_success(cudaEventQuery(scene->event)); /* asked again: no news */
        assert_int_equal(emu_counted(EMU_EVENTS), events + 1 + n_behind);
        assert_int_equal(emu_counted(EMU_EVENTS_AHEAD), ahead + n_behind);
    }
}

static __global__ void never_meets(float *values)
{
    if (threadIdx.x == 0)
        return;
    __syncthreads();
    values[threadIdx.x] = 1.0f;
}

/* In children: the error ends their use of the device. */
static void test_emulated_runtime__a_lost_device_says_nothing_else(void **state)
{
    struct scene *scene = (struct scene *)*state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        void *memory = NULL;
        bool right = launch(add_one, 1, N, 0, scene->stream, scene->device) == cudaSuccess &&
                     cudaStreamSynchronize(scene->stream) == cudaSuccess;
        setenv("EMU_LOSE_WHEN", "/", 1);
        right = right && launch(add_one, 1, N, 0, scene->stream, scene->device) == cudaSuccess &&
                cudaEventRecord(scene->event, scene->stream) == cudaSuccess &&
                cudaStreamSynchronize(scene->stream) == cudaErrorLaunchFailure;
        unsetenv("EMU_LOSE_WHEN");
        right = right && cudaEventQuery(scene->event) == cudaErrorLaunchFailure &&
                cudaMalloc(&memory, 16) == cudaErrorLaunchFailure;
        _exit(right ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_emulated_runtime__an_error_of_a_kernel_sticks(void **state)
{
    struct scene *scene = (struct scene *)*state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        bool right = launch(never_meets, 1, N, 0, scene->stream, scene->device) == cudaSuccess &&
                     cudaStreamSynchronize(scene->stream) == cudaErrorLaunchFailure &&
                     cudaGetLastError() == cudaErrorLaunchFailure &&
                     launch(add_one, 1, N, 0, scene->other, scene->device) ==
                         cudaErrorLaunchFailure &&
                     cudaGetLastError() == cudaErrorLaunchFailure;
        _exit(right ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, scene_begin, scene_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_emulated_runtime__a_pinned_buffer_read_early_is_as_it_was),
        SCENE(test_emulated_runtime__who_does_not_wait_for_an_event_finds_poison),
        SCENE(test_emulated_runtime__polling_an_event_comes_to_its_end),
        SCENE(test_emulated_runtime__pageable_memory_is_taken_at_once),
        SCENE(test_emulated_runtime__a_graph_runs_when_launched_and_as_often),
        SCENE(test_emulated_runtime__a_capture_refuses_memory_and_waiting),
        SCENE(test_emulated_runtime__a_capture_refuses_pageable_memory),
        SCENE(test_emulated_runtime__a_capture_wants_its_streams_joined),
        SCENE(test_emulated_runtime__copies_stay_within_allocations),
        SCENE(test_emulated_runtime__memory_comes_to_an_end),
        SCENE(test_emulated_runtime__a_machine_may_have_no_device),
        SCENE(test_emulated_runtime__an_old_driver_and_none_are_told_apart),
        SCENE(test_emulated_runtime__a_stream_is_of_the_device_that_was_current),
        SCENE(test_emulated_runtime__counts_what_a_step_must_not_do),
        SCENE(test_emulated_runtime__counts_what_waits_and_what_may_wait),
        SCENE(test_emulated_runtime__a_lost_device_says_nothing_else),
        SCENE(test_emulated_runtime__counts_events_and_the_work_that_stood_behind_them),
        SCENE(test_emulated_runtime__an_error_of_a_kernel_sticks),
    };
    return run_cuda_tests("emulated runtime", tests, sizeof tests / sizeof tests[0]);
}
