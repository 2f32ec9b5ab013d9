#include "kernels/cpu/cpu_device.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "kernels/cpu/cpu_ops.h"

#define HUGE_BYTES ((size_t)2 << 20)
#define HUGE_FROM ((size_t)4 << 20) /* allocations of this size and more ask for huge pages */
#define HOST_LINE ((size_t)64)      /* what memory of the host is aligned to */

/* The one place that decides how many workers a step gets when nobody says. */
static int default_n_threads(void)
{
    int n_cores = cores_allowed();
    return n_cores < TEAM_THREADS_MAX ? n_cores : TEAM_THREADS_MAX;
}

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Zeroed pages of their own, aligned to 2 MiB when they are many; NULL when the system has none. */
static uint8_t *map_pages(size_t bytes)
{
    size_t slack = bytes >= HUGE_FROM ? HUGE_BYTES : 0;
    uint8_t *mapped =
        mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    if (slack == 0)
        return mapped;
    uint8_t *base = (uint8_t *)round_up((uintptr_t)mapped, HUGE_BYTES);
    size_t before = (size_t)(base - mapped);
    if (before > 0)
        munmap(mapped, before);
    if (slack > before)
        munmap(base + bytes, slack - before);
    madvise(base, bytes, MADV_HUGEPAGE); /* a wish: without it all is the same, slower */
    return base;
}

static const struct device_backend cpu_backend;

int cpu_device_open(const struct device_options *options, struct device **out, struct why *why)
{
    int n_threads = options->n_threads == 0 ? default_n_threads() : options->n_threads;
    if (n_threads < 1 || n_threads > TEAM_THREADS_MAX)
        return refuse(why, STATUS_INVALID, "%d threads asked for; 1 to %d are possible (--threads)",
                      n_threads, TEAM_THREADS_MAX);
    struct cpu_device *device = calloc(1, sizeof *device);
    if (device == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a device (%zu bytes)", sizeof *device);

    size_t scratch_bytes = (size_t)n_threads * CPU_SCRATCH_BYTES;
    device->scratch = map_pages(scratch_bytes);
    if (device->scratch == NULL) {
        free(device);
        return refuse(why, STATUS_NO_MEMORY,
                      "no memory for the scratch of %d threads (%zu bytes); lower --threads",
                      n_threads, scratch_bytes);
    }
    int status = team_create(n_threads, options->pin, &device->cpu.team, why);
    if (status < 0) {
        munmap(device->scratch, scratch_bytes);
        free(device);
        return status;
    }
    device->base.backend = &cpu_backend;
    device->cpu.isa = options->isa;
    device->cpu.activations = options->activations;
    device->cpu.n_threads = n_threads;
    device->strict = options->strict;
    snprintf(device->name, sizeof device->name, "cpu %s, %d thread%s", isa_name(options->isa),
             n_threads, n_threads == 1 ? "" : "s");
    *out = &device->base;
    return STATUS_OK;
}

static void cpu_device_close(struct device *base)
{
    struct cpu_device *device = cpu_device_of(base);
    assert(device->n_blocks == 0);
    team_free(device->cpu.team);
    munmap(device->scratch, (size_t)device->cpu.n_threads * CPU_SCRATCH_BYTES);
    free(device->blocks);
    free(device);
}

static const char *cpu_device_name(const struct device *device)
{
    return cpu_device_of(device)->name;
}

static int cpu_device_n_threads(const struct device *device)
{
    return cpu_device_of(device)->cpu.n_threads;
}

const struct device_cpu *device_cpu(const struct device *device)
{
    return &cpu_device_of(device)->cpu;
}

static bool reserve_block(struct cpu_device *device)
{
    if (device->n_blocks < device->max_blocks)
        return true;
    size_t max_blocks = device->max_blocks == 0 ? 64 : 2 * device->max_blocks;
    struct cpu_block *blocks = realloc(device->blocks, max_blocks * sizeof *blocks);
    if (blocks == NULL)
        return false;
    device->blocks = blocks;
    device->max_blocks = max_blocks;
    return true;
}

static int refuse_memory(const struct cpu_device *device, size_t bytes, struct why *why)
{
    return refuse(why, STATUS_NO_MEMORY,
                  "%zu bytes of memory are needed and %llu are free; lower --kv-memory or take a "
                  "smaller model",
                  bytes, (unsigned long long)device_memory_free(&device->base));
}

static void protect(const struct cpu_block *block, int protection)
{
    int failed = mprotect(block->base, block->bytes, protection);
    assert(!failed);
    (void)failed;
}

static int cpu_device_alloc(struct device *base, size_t bytes, void **out, struct why *why)
{
    struct cpu_device *device = cpu_device_of(base);
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes > SIZE_MAX / 2)
        return refuse_memory(device, bytes, why);
    size_t mapped_bytes = round_up(bytes == 0 ? 1 : bytes, page_bytes);
    if (mapped_bytes >= HUGE_FROM && mapped_bytes > device_memory_free(base))
        return refuse_memory(device, bytes, why);
    if (!reserve_block(device))
        return refuse_memory(device, bytes, why);
    uint8_t *memory = map_pages(mapped_bytes);
    if (memory == NULL)
        return refuse_memory(device, bytes, why);
    device->blocks[device->n_blocks++] = (struct cpu_block){memory, mapped_bytes};
    if (device->strict && device->n_unlocks == 0)
        protect(&device->blocks[device->n_blocks - 1], PROT_NONE);
    *out = memory;
    return STATUS_OK;
}

static void cpu_device_free(struct device *base, void *memory)
{
    struct cpu_device *device = cpu_device_of(base);
    size_t i = 0;
    while (i < device->n_blocks && device->blocks[i].base != memory)
        i++;
    assert(i < device->n_blocks);
    munmap(memory, device->blocks[i].bytes);
    device->blocks[i] = device->blocks[--device->n_blocks];
}

static int cpu_device_alloc_host(struct device *device, size_t bytes, void **out, struct why *why)
{
    (void)device;
    if (bytes > SIZE_MAX - HOST_LINE)
        return refuse(why, STATUS_NO_MEMORY, "%zu bytes are more than there can be", bytes);
    size_t taken = round_up(bytes == 0 ? 1 : bytes, HOST_LINE);
    void *memory = aligned_alloc(HOST_LINE, taken);
    if (memory == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a block of %zu bytes", bytes);
    memset(memory, 0, taken);
    *out = memory;
    return STATUS_OK;
}

static void cpu_device_free_host(struct device *device, void *memory)
{
    (void)device;
    free(memory);
}

/* A line "name   123 kB" of a file of the kernel; 0 when it is not there. */
static uint64_t read_kilobytes(const char *path, const char *name)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    char line[256];
    size_t len = strlen(name);
    unsigned long long n = 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, len) == 0 && sscanf(line + len, "%llu", &n) == 1)
            break;
    fclose(file);
    return (uint64_t)n * 1024;
}

uint64_t cpu_memory_free(void)
{
    uint64_t allowed = memory_allowed();
    uint64_t resident = read_kilobytes("/proc/self/status", "VmRSS:");
    uint64_t available = read_kilobytes("/proc/meminfo", "MemAvailable:");
    uint64_t left = allowed > resident ? allowed - resident : 0;
    return available != 0 && available < left ? available : left;
}

static uint64_t cpu_device_memory_free(const struct device *device)
{
    (void)device;
    return cpu_memory_free();
}

static void protect_all(struct cpu_device *device, int protection)
{
    for (size_t i = 0; i < device->n_blocks; i++)
        protect(&device->blocks[i], protection);
}

void device_unlock(struct device *base)
{
    struct cpu_device *device = cpu_device_of(base);
    if (device->n_unlocks++ == 0 && device->strict)
        protect_all(device, PROT_READ | PROT_WRITE);
}

void device_lock(struct device *base)
{
    struct cpu_device *device = cpu_device_of(base);
    assert(device->n_unlocks > 0);
    if (--device->n_unlocks == 0 && device->strict)
        protect_all(device, PROT_NONE);
}

static int cpu_device_upload(struct device *device, void *device_to, const void *host_from,
                             size_t bytes)
{
    device_unlock(device);
    memcpy(device_to, host_from, bytes);
    device_lock(device);
    return STATUS_OK;
}

static int cpu_device_download(struct device *device, void *host_to, const void *device_from,
                               size_t bytes)
{
    device_unlock(device);
    memcpy(host_to, device_from, bytes);
    device_lock(device);
    return STATUS_OK;
}

static const struct device_backend cpu_backend = {
    .ops = &cpu_ops,
    .depth = 1,
    .close = cpu_device_close,
    .name = cpu_device_name,
    .n_threads = cpu_device_n_threads,
    .alloc = cpu_device_alloc,
    .free = cpu_device_free,
    .alloc_host = cpu_device_alloc_host,
    .free_host = cpu_device_free_host,
    .memory_free = cpu_device_memory_free,
    .upload = cpu_device_upload,
    .download = cpu_device_download,
    .stream_create = cpu_stream_create,
    .stream_free = cpu_stream_free,
    .stream_status = cpu_stream_status,
    .write = cpu_stream_write,
    .read = cpu_stream_read,
    .submit = cpu_stream_submit,
    .wait = cpu_stream_wait,
    .is_done = cpu_stream_is_done,
    .start = cpu_stream_start,
    .follow = cpu_stream_follow,
};
