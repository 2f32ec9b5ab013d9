/* page_seal on a GPU: the codes and scales of the CPU's op, wherever they stand. */
#include "kernels/cuda/cuda_page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_page.h"
#include "kernels/tensor_type.h"
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/scene_fixture.h"
#include "tests/kernels/twin_fixture.h"

#define N_SEQS 4
#define N_PAGES 3 /* of each sequence */
#define LAYER 1
#define LAYERS 2

/* Of a head's plane what is hard: all alike, zeros of both signs, the ends of f16, its smallest
 * values, no numbers among others, no number at all; and what is not. */
static uint16_t half_of(uint32_t version, uint32_t page, bool is_k, uint32_t token, uint32_t d)
{
    uint32_t run = is_k ? d : token, i = is_k ? token : d;
    switch (run % 9) {
    case 0:
        return f16_from_f32(-3.25f);
    case 1:
        return i % 2 == 0 ? 0x8000 : 0;
    case 2:
        return i % 3 == 0 ? 0xfbff : 0x7bff;
    case 3:
        return (uint16_t)(i % 7);
    case 4:
        return i % 5 == 0 ? 0x7e00 : f16_from_f32(scene_value(page, i, run));
    case 5:
        return 0x7e00;
    default:
        return f16_from_f32(scene_value(page + 10 * version, i, run) * (run % 2 == 0 ? 1 : 300));
    }
}

struct sealed { /* a group of one device, whose pages are in the order of their sequences */
    struct twin twin;
    bool is_cuda;
    struct kv_group_view group;
    size_t open_bytes, full_bytes; /* of all pages */
};

/* Where this device has a value of a page as it is written, from the layer's start. */
static size_t open_at(const struct sealed *sealed, bool is_k, uint32_t head, uint32_t token,
                      uint32_t d)
{
    const struct kv_shape *shape = &sealed->group.shape;
    if (sealed->is_cuda)
        return (is_k ? cuda_page_k_at(shape, KV_F16, head, token)
                     : cuda_page_v_at(shape, KV_F16, head, token)) + 2 * (size_t)d;
    struct cpu_head_layout layout = cpu_page_head(shape, KV_F16);
    size_t k = layout.k + 2 * ((size_t)d * PAGE_TOKENS + token);
    size_t v = layout.v + 2 * ((size_t)token * shape->v_dim + d);
    return head * layout.bytes + (is_k ? k : v);
}

static void write_open(struct sealed *sealed, uint32_t version)
{
    const struct kv_group_view *group = &sealed->group;
    const struct kv_shape *shape = &group->shape;
    uint8_t *host = malloc(sealed->open_bytes);
    memset(host, 0xff, sealed->open_bytes);
    for (uint32_t page = 0; page < N_SEQS * N_PAGES; page++)
        for (uint32_t head = 0; head < shape->n_kv_heads; head++)
            for (int is_k = shape->v_in_k; is_k <= 1; is_k++)
                for (uint32_t token = 0; token < PAGE_TOKENS; token++)
                    for (uint32_t d = 0; d < (is_k ? shape->k_dim : shape->v_dim); d++) {
                        uint16_t half = half_of(version, page + head, is_k, token, d);
                        memcpy(host + page * group->open.page_stride +
                                   LAYER * group->open.layer_stride +
                                   open_at(sealed, is_k, head, token, d),
                               &half, sizeof half);
                    }
    device_upload(sealed->twin.device, group->open.base, host, sealed->open_bytes);
    free(host);
}

static struct sealed sealed_open(enum backend backend, const struct kv_shape *shape,
                                 enum kv_dtype dtype)
{
    struct sealed sealed = {.twin = twin_open(backend), .is_cuda = backend == BACKEND_CUDA};
    struct twin *twin = &sealed.twin;
    page_id table[N_SEQS * N_PAGES];
    uint32_t first_page[N_SEQS] = {0};
    for (uint32_t i = 0; i < N_SEQS * N_PAGES; i++)
        table[i] = i;
    size_t open = twin->ops->page_layer_bytes(shape, KV_F16);
    size_t full = twin->ops->page_layer_bytes(shape, dtype);
    sealed.open_bytes = open * LAYERS * N_SEQS * N_PAGES;
    sealed.full_bytes = full * LAYERS * N_SEQS * N_PAGES;
    sealed.group = (struct kv_group_view){
        .shape = *shape,
        .dtype_open = KV_F16,
        .dtype_full = dtype,
        .base = twin_alloc(twin, sealed.full_bytes),
        .page_stride = full * LAYERS,
        .layer_stride = full,
        .table = twin_upload(twin, table, sizeof table),
        .first_page = twin_upload(twin, first_page, sizeof first_page),
        .table_stride = N_PAGES,
    };
    sealed.group.open = (struct kv_open_view){
        .base = twin_alloc(twin, sealed.open_bytes),
        .page_stride = open * LAYERS,
        .layer_stride = open,
        .table = sealed.group.table,
        .first_page = sealed.group.first_page,
        .table_stride = N_PAGES,
    };
    return sealed;
}

/* Rows of sequence 0 from 60 to 127 fill pages 0 and 1, that of sequence 1 its page 2, and of
 * sequence 3, the last of the step, its page 0; what sequence 2 has, 0 to 62, fills none. */
static int seal(struct sealed *sealed)
{
    static const struct scene_rows items[] = {{0, 60, 68}, {1, 191, 1}, {2, 0, 63}, {3, 63, 1}};
    uint32_t position[256], row_seq[256], begin[N_SEQS + 1], n = 0;
    struct twin *twin = &sealed->twin;
    for (uint32_t i = 0; i < N_SEQS; i++) {
        begin[i] = n;
        for (uint32_t r = 0; r < items[i].n; r++, n++) {
            position[n] = items[i].position + r;
            row_seq[n] = items[i].seq;
        }
    }
    begin[N_SEQS] = n;
    struct page_seal_args args = {
        .rows = {n, N_SEQS, twin_upload(twin, position, n * sizeof *position),
                 twin_upload(twin, row_seq, n * sizeof *row_seq),
                 twin_upload(twin, begin, sizeof begin), 191},
        .group = sealed->group,
        .layer_idx = LAYER,
    };
    twin->ops->page_seal(twin->stream, &args);
    return twin_run(twin);
}

static bool is_filled(uint32_t page)
{
    return page == 0 || page == 1 || page == N_PAGES + 2 || page == 3 * N_PAGES;
}

struct code {
    uint32_t code;
    float least, step;
};

static struct code cpu_code(const struct kv_shape *shape, enum kv_dtype dtype,
                            const uint8_t *layer, bool is_k, uint32_t head, uint32_t token,
                            uint32_t d)
{
    struct cpu_head_layout layout = cpu_page_head(shape, dtype);
    uint32_t run = is_k ? d : token, i = is_k ? token : d;
    struct code out;
    layer += head * layout.bytes;
    memcpy(&out.least, layer + (is_k ? layout.k_least : layout.v_least) + 4 * run, 4);
    memcpy(&out.step, layer + (is_k ? layout.k_step : layout.v_step) + 4 * run, 4);
    const uint8_t *row = layer + (is_k ? layout.k : layout.v) +
                         run * cpu_page_row_bytes(is_k ? PAGE_TOKENS : shape->v_dim, dtype);
    uint8_t both = dtype == KV_Q4 ? row[i / 32 * 16 + i % 16] : 0;
    out.code = dtype == KV_Q8 ? row[i] : i % 32 < 16 ? both & 15 : both >> 4;
    return out;
}

static struct code cuda_code(const struct kv_shape *shape, enum kv_dtype dtype,
                             const uint8_t *layer, bool is_k, uint32_t head, uint32_t token,
                             uint32_t d)
{
    uint32_t run = is_k ? d : token, n_runs = is_k ? shape->k_dim : PAGE_TOKENS;
    const uint8_t *scales = layer + (is_k ? cuda_page_k_head(shape, dtype, head)
                                          : cuda_page_v_head(shape, dtype, head));
    struct code out;
    memcpy(&out.least, scales + 4 * run, 4);
    memcpy(&out.step, scales + 4 * (n_runs + run), 4);
    out.code = is_k ? cuda_page_code(layer + cuda_page_k_at(shape, dtype, head, token),
                                     cuda_page_k_code(dtype, d), dtype)
                    : cuda_page_code(layer + cuda_page_v_at(shape, dtype, head, token),
                                     cuda_page_v_code(dtype, d), dtype);
    return out;
}

static void assert_same_plane(const struct kv_shape *shape, enum kv_dtype dtype,
                              const uint8_t *cpu, const uint8_t *cuda, bool is_k, uint32_t head)
{
    for (uint32_t token = 0; token < PAGE_TOKENS; token++)
        for (uint32_t d = 0; d < (is_k ? shape->k_dim : shape->v_dim); d++) {
            struct code want = cpu_code(shape, dtype, cpu, is_k, head, token, d);
            struct code got = cuda_code(shape, dtype, cuda, is_k, head, token, d);
            if (memcmp(&want, &got, sizeof want) != 0)
                fail_msg("%s of head %u, token %u, dim %u: %u x %.9g + %.9g, not %u x %.9g + %.9g",
                         is_k ? "K" : "V", head, token, d, got.code, (double)got.step,
                         (double)got.least, want.code, (double)want.step, (double)want.least);
        }
}

static void assert_zeros_behind(const struct kv_shape *shape, enum kv_dtype dtype,
                                const uint8_t *cuda, bool is_k)
{
    uint32_t n = is_k ? shape->k_dim : shape->v_dim;
    uint32_t n_dims = cuda_page_row_bytes(n, dtype) * (dtype == KV_Q4 ? 2 : 1);
    for (uint32_t token = 0; token < PAGE_TOKENS; token++) {
        const uint8_t *row = cuda + (is_k ? cuda_page_k_at(shape, dtype, 0, token)
                                          : cuda_page_v_at(shape, dtype, 0, token));
        for (uint32_t d = n; d < n_dims; d++)
            assert_int_equal(cuda_page_code(row, is_k ? cuda_page_k_code(dtype, d)
                                                      : cuda_page_v_code(dtype, d), dtype), 0);
    }
}

/* Pages that no row fills hold what they held, and those that are filled the codes of the CPU, with
 * zeros in what blocks have beyond the last dim. */
static void assert_same_pages(struct sealed *cpu, struct sealed *cuda)
{
    const struct kv_shape *shape = &cpu->group.shape;
    enum kv_dtype dtype = cpu->group.dtype_full;
    uint8_t *want = twin_download(&cpu->twin, cpu->group.base, cpu->full_bytes);
    uint8_t *got = twin_download(&cuda->twin, cuda->group.base, cuda->full_bytes);
    for (uint32_t page = 0; page < N_SEQS * N_PAGES; page++) {
        const uint8_t *ours = want + page * cpu->group.page_stride;
        const uint8_t *theirs = got + page * cuda->group.page_stride;
        size_t untouched = is_filled(page) ? cuda->group.layer_stride : cuda->group.page_stride;
        for (size_t i = 0; i < untouched; i++)
            assert_int_equal(theirs[i], 0xff);
        ours += LAYER * cpu->group.layer_stride;
        theirs += LAYER * cuda->group.layer_stride;
        for (uint32_t head = 0; head < shape->n_kv_heads && is_filled(page); head++)
            for (int is_k = shape->v_in_k; is_k <= 1; is_k++)
                assert_same_plane(shape, dtype, ours, theirs, is_k, head);
        for (int is_k = shape->v_in_k; is_k <= 1 && is_filled(page); is_k++)
            assert_zeros_behind(shape, dtype, theirs, is_k);
    }
    free(want);
    free(got);
}

static const struct kv_shape shapes[] = {
    {2, 64, 64, false}, {1, 40, 72, false}, {1, 300, 256, true}};

/* And again, when a page's guesses were taken back and others came. */
static void test_cuda_page_seal__makes_the_codes_and_scales_of_the_cpu(void **state)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int dtype = KV_Q8; dtype <= KV_Q4; dtype++) {
            struct sealed cpu = sealed_open(BACKEND_CPU, &shapes[i], (enum kv_dtype)dtype);
            struct sealed cuda = sealed_open(BACKEND_CUDA, &shapes[i], (enum kv_dtype)dtype);
            for (uint32_t version = 0; version < (i == 0 ? 2 : 1); version++) {
                write_open(&cpu, version);
                write_open(&cuda, version);
                assert_int_equal(seal(&cpu), STATUS_OK);
                assert_int_equal(seal(&cuda), STATUS_OK);
                assert_same_pages(&cpu, &cuda);
            }
            matrix_passed("page_seal", kv_dtype_name((enum kv_dtype)dtype),
                          shapes[i].v_in_k ? "latent" : "hard values");
            twin_close(&cpu.twin);
            twin_close(&cuda.twin);
        }
}

static void test_cuda_page_seal__a_missing_page_sticks_to_the_stream(void **state)
{
    struct sealed sealed = sealed_open(BACKEND_CUDA, &shapes[0], KV_Q8);
    write_open(&sealed, 0);
    sealed.group.table_stride = 2; /* and sequence 1 fills its third page */
    assert_int_equal(seal(&sealed), STATUS_INTERNAL);
    twin_close(&sealed.twin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_page_seal__makes_the_codes_and_scales_of_the_cpu),
        cmocka_unit_test(test_cuda_page_seal__a_missing_page_sticks_to_the_stream),
    };
    return twin_has_cuda() ? matrix_run(tests, sizeof tests / sizeof *tests, NULL, 0)
                           : TWIN_SKIPPED;
}
