#include "tools/peaks.h"

#include "base/clock.h"
#include "base/status.h"
#include "base/threads.h"
#include "tools/peak_forms.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define READ_BYTES ((size_t)256 << 20)
#define READ_STEP 512 /* bytes of one turn of the loop */
#define READ_AHEAD 16384
#define READ_REPEATS 8
#define COMPUTE_REPEATS 24

typedef uint64_t lane_pair __attribute__((vector_size(16)));

struct meter {
    struct peak_meter compute; /* first: what the forms take */
    struct team *team;
    const uint8_t *bytes; /* [READ_BYTES] */
    int n_threads;
};

static uint32_t sink;

void peak_keep(uint32_t result)
{
    __atomic_store_n(&sink, result, __ATOMIC_RELAXED); /* every worker writes it */
}

static void read_share(void *arg, int worker_idx)
{
    const struct meter *meter = arg;
    size_t share = READ_BYTES / (size_t)meter->n_threads / READ_STEP * READ_STEP;
    const uint8_t *at = meter->bytes + share * (size_t)worker_idx, *end = at + share;
    lane_pair acc[4] = {{0}};
    for (; at < end; at += READ_STEP) {
#pragma GCC unroll 8
        for (int i = 0; i < READ_STEP / 64; i++) {
            const lane_pair *line = (const lane_pair *)(at + 64 * i);
            __builtin_prefetch(at + 64 * i + READ_AHEAD);
            acc[0] ^= line[0];
            acc[1] ^= line[1];
            acc[2] ^= line[2];
            acc[3] ^= line[3];
        }
    }
    acc[0] ^= acc[1] ^ acc[2] ^ acc[3];
    peak_keep((uint32_t)acc[0][0]);
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

/* Operations a second of all threads: two for a product and its addition. */
static double ops_of(struct meter *meter, const struct peak_form *form)
{
    double n = 2.0 * PEAK_CHAINS * PEAK_TURNS * form->n_products * meter->n_threads;
    return n / best_seconds(meter, form->run, COMPUTE_REPEATS);
}

static void measure_compute(struct meter *meter, struct peaks *out)
{
    const struct peak_forms forms = peak_forms_widest();
    out->int8_ops = ops_of(meter, &forms.int8);
    out->fma_ops = ops_of(meter, &forms.fma);
    out->int8_how = forms.int8.how;
    out->fma_how = forms.fma.how;
}

void peaks_take_better(struct peaks *peaks, const struct peaks *other)
{
    peaks->read_bytes = fmax(peaks->read_bytes, other->read_bytes);
    peaks->int8_ops = fmax(peaks->int8_ops, other->int8_ops);
    peaks->fma_ops = fmax(peaks->fma_ops, other->fma_ops);
}

int peaks_measure(int n_threads, struct peaks *out, struct why *why)
{
    struct meter meter = {.n_threads = n_threads, .compute.seed = 3};
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
