#include "tests/cuda_on_cpu/emu_launch.h"

#include <map>
#include <stdlib.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "tests/cuda_on_cpu/emu_chip.h"
#include "tests/cuda_on_cpu/emu_control.h"
#include "tests/cuda_on_cpu/emu_sanitizer.h"
#include "tests/cuda_on_cpu/emu_stream.h"

#define WORKERS_MAX 64

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != 0 ? strtoull(text, NULL, 10) : otherwise;
}

/* --- seeds --- */

static uint64_t chosen_seed;
static bool seed_is_chosen;

uint64_t emu_seed(void)
{
    return seed_is_chosen ? chosen_seed : number_of("EMU_SEED", 0);
}

void emu_set_seed(uint64_t seed)
{
    chosen_seed = seed;
    seed_is_chosen = true;
}

/* --- limits --- */

static std::map<const void *, size_t> &opt_ins(void)
{
    static std::map<const void *, size_t> map;
    return map;
}

static size_t dynamic_allowed(const void *kernel)
{
    auto found = opt_ins().find(kernel);
    return found != opt_ins().end() ? found->second : EMU_STATIC_SHARED_BYTES_MAX;
}

cudaError_t emu_allow_shared(const void *kernel, size_t dynamic_bytes)
{
    if (dynamic_bytes > emu_chip_shared_bytes_max())
        return cudaErrorInvalidValue;
    opt_ins()[kernel] = dynamic_bytes;
    return cudaSuccess;
}

cudaError_t emu_launch_check(const void *kernel, dim3 grid, dim3 block, size_t dynamic_bytes)
{
    uint64_t n_threads = (uint64_t)block.x * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || n_threads == 0)
        return cudaErrorInvalidConfiguration;
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    if (n_threads > EMU_THREADS_MAX || block.x > 1024 || block.y > 1024 || block.z > 64)
        return cudaErrorInvalidConfiguration;
    if (n_threads % EMU_WARP_LANES != 0) /* a rule of ours: no ragged warps */
        return cudaErrorInvalidConfiguration;
    if (dynamic_bytes > dynamic_allowed(kernel))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

/* --- running --- */

static struct emu_worker *worker_of(size_t idx)
{
    static struct emu_worker *workers[WORKERS_MAX];
    if (workers[idx] == NULL)
        workers[idx] = emu_worker_create();
    return workers[idx];
}

static cudaError_t grid_run(struct emu_grid *grid)
{
    uint64_t n = number_of("EMU_WORKERS", 1);
    n = n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : n;
    std::vector<struct emu_worker *> workers;
    for (size_t i = 0; i < n; i++)
        workers.push_back(worker_of(i));
    emu_note_release(&grid->begin_tag);
    std::vector<std::thread> others;
    for (size_t i = 1; i < n; i++)
        others.emplace_back(emu_worker_run, workers[i], grid);
    emu_worker_run(workers[0], grid);
    for (std::thread &other : others)
        other.join();
    emu_note_acquire(&grid->end_tag);
    return grid->failed ? cudaErrorLaunchFailure : cudaSuccess;
}

/* A device that is lost says so when work reaches it, and never again anything else. */
static bool is_lost(void)
{
    const char *path = getenv("EMU_LOSE_WHEN");
    return path != NULL && access(path, F_OK) == 0;
}

cudaError_t emu_launch(const void *kernel, dim3 grid_dim, dim3 block_dim, size_t dynamic_bytes,
                       cudaStream_t stream, std::function<void()> body)
{
    static uint64_t n_launches;
    cudaError_t error = emu_launch_check(kernel, grid_dim, block_dim, dynamic_bytes);
    if (error == cudaSuccess && emu_stream_device(stream) != emu_current_device())
        error = cudaErrorInvalidResourceHandle;
    if (error != cudaSuccess)
        return emu_fail(error);
    size_t allowed = dynamic_allowed(kernel);
    uint64_t number = n_launches++;
    emu_count(EMU_LAUNCHES);
    return emu_enqueue(stream, [=] {
        if (is_lost())
            return cudaErrorLaunchFailure;
        struct emu_grid grid = {};
        grid.grid_dim = grid_dim;
        grid.block_dim = block_dim;
        grid.dynamic_bytes = dynamic_bytes;
        grid.shared_bytes_max = emu_chip_shared_bytes_max();
        if (allowed <= EMU_STATIC_SHARED_BYTES_MAX)
            grid.shared_bytes_max = EMU_STATIC_SHARED_BYTES_MAX;
        grid.seed = emu_seed() == 0 ? 0 : emu_seed() + 2 * number; /* as odd or even as the seed */
        grid.body = body;
        grid.n_blocks = (uint64_t)grid_dim.x * grid_dim.y * grid_dim.z;
        return grid_run(&grid);
    });
}
