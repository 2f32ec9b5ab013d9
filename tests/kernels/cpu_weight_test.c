#include "tests/kernels/linear_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_product.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void test_cpu_weight__every_row_comes_back_exactly(void **state)
{
    enum { N_IN = 768, N_OUT = 37 };
    float want[N_IN], got[N_IN];
    for (int t = 0; t < N_LINEAR_TYPES; t++) {
        uint32_t type = linear_types[t];
        uint32_t n_in = tensor_type_is_float(type) ? N_IN - 7 : N_IN;
        struct rig rig = rig_open(ISA_SCALAR, ACTIVATIONS_16, 2);
        uint8_t *bytes = random_weight(type, n_in, N_OUT, 1);
        struct weight_source source = {type, n_in, N_OUT, bytes, "token_embd.weight"};
        struct weight *weight = rig_load(&rig, WEIGHT_PLAIN, &source, 1);
        size_t row_bytes = tensor_type_bytes(type, n_in, 1);
        device_unlock(rig.device);
        for (uint32_t row = 0; row < N_OUT; row++) {
            tensor_type_row_to_f32(type, bytes + row * row_bytes, n_in, want);
            cpu_weight_row(weight, row, got);
            assert_memory_equal(want, got, n_in * sizeof *got);
        }
        device_lock(rig.device);
        rig.ops->weight_free(rig.device, weight);
        rig_close(&rig);
        free(bytes);
    }
}

/* cpu_kernels.md 2: byte 4r + j of nibble group g: low w[8g + j], high w[8g + 4 + j]; of byte group
 * g: w[4g + j] ^ 0x80. */
static void test_cpu_weight__tiles_have_the_stated_bytes(void **state)
{
    static uint8_t tile[2 * 512 + 64];
    uint8_t *rows = random_weight(TENSOR_Q4_1, 32, 16, 2);
    cpu_tile_repack(TENSOR_Q4_1, 32, rows, 16, tile);
    for (int r = 0; r < 16; r++) {
        const uint8_t *q = rows + 20 * r + 4;
        for (int k = 0; k < 32; k++) {
            int nibble = k < 16 ? q[k] & 15 : q[k - 16] >> 4;
            uint8_t byte = tile[64 * (k / 8) + 4 * r + k % 4];
            assert_int_equal(k % 8 < 4 ? byte & 15 : byte >> 4, nibble);
        }
        assert_memory_equal(tile + 256 + 2 * r, rows + 20 * r, 2);
        assert_memory_equal(tile + 288 + 2 * r, rows + 20 * r + 2, 2);
    }
    free(rows);

    rows = random_weight(TENSOR_Q8_0, 32, 16, 3);
    cpu_tile_repack(TENSOR_Q8_0, 32, rows, 16, tile);
    for (int r = 0; r < 16; r++) {
        assert_memory_equal(tile + 2 * r, rows + 34 * r, 2);
        for (int k = 0; k < 32; k++)
            assert_int_equal(tile[64 + 64 * (k / 4) + 4 * r + k % 4], rows[34 * r + 2 + k] ^ 0x80);
    }
    free(rows);
}

static void test_cpu_weight__tiles_are_whole_lines_of_the_stated_sizes(void **state)
{
    assert_int_equal(cpu_tile_bytes(TENSOR_Q4_1, 576), 18 * 320);
    assert_int_equal(cpu_tile_bytes(TENSOR_Q4_0, 576), 18 * 288);
    assert_int_equal(cpu_tile_bytes(TENSOR_Q4_0, 32), 64 + 256);
    assert_int_equal(cpu_tile_bytes(TENSOR_Q8_0, 576), 9792);
    assert_int_equal(cpu_tile_bytes(TENSOR_F32, 3), 192);
    assert_int_equal(cpu_tile_bytes(TENSOR_F16, 3), 128);
    for (int t = 0; t < N_LINEAR_TYPES; t++)
        for (uint32_t n_in = 256; n_in < 4096; n_in += linear_width(linear_types[t], 1))
            assert_int_equal(cpu_tile_bytes(linear_types[t], n_in) % 64, 0);
}

/* The bytes that decode reads are those of the file, up to padding: tiles of 16 rows. */
static void test_cpu_weight__info_tells_shape_bytes_and_forms(void **state)
{
    struct rig rig = rig_open(ISA_SCALAR, ACTIVATIONS_16, 1);
    uint8_t *bytes = random_weight(TENSOR_Q4_1, 64, 40, 4);
    struct weight_source pair[2] = {{TENSOR_Q4_1, 64, 40, bytes, "gate"},
                                    {TENSOR_Q4_1, 64, 40, bytes, "up"}};
    struct weight *weight = rig_load(&rig, WEIGHT_GATE_UP, pair, 2);
    struct weight_info info = rig.ops->weight_info(weight);
    assert_int_equal(info.n_in, 64);
    assert_int_equal(info.n_out, 40);
    assert_int_equal(info.bytes, 2 * 3 * 640);
    assert_int_equal(info.act_forms, ACT_BLOCKS);
    rig.ops->weight_free(rig.device, weight);
    rig_close(&rig);

    rig = rig_open(ISA_SCALAR, ACTIVATIONS_F32, 1);
    weight = rig_load(&rig, WEIGHT_PLAIN, pair, 1);
    assert_int_equal(rig.ops->weight_info(weight).act_forms, ACT_FLOATS);
    rig.ops->weight_free(rig.device, weight);
    rig_close(&rig);
    free(bytes);
}

struct refused {
    enum weight_fuse fuse;
    struct weight_source sources[3];
    uint32_t n_sources, rank, n_ranks;
    int status;
    const char *says;
};

static void test_cpu_weight__what_cannot_be_loaded_is_refused_with_its_name(void **state)
{
    static const uint8_t bytes[1 << 16];
    const struct refused cases[] = {
        {WEIGHT_PLAIN,
         {{16, 256, 4, bytes, "blk.3.ffn_down_exps.weight"}},
         1,
         0,
         1,
         STATUS_UNSUPPORTED,
         "blk.3.ffn_down_exps.weight is IQ2_XXS"},
        {WEIGHT_PLAIN, {{5, 32, 4, bytes, "w"}}, 1, 0, 1, STATUS_UNSUPPORTED, "type 5"},
        {WEIGHT_PLAIN, {{TENSOR_Q4_1, 33, 4, bytes, "w"}}, 1, 0, 1, STATUS_INVALID, "33 values"},
        {WEIGHT_PLAIN, {{TENSOR_Q4_1, 32, 0, bytes, "w"}}, 1, 0, 1, STATUS_INVALID, "0 rows"},
        {WEIGHT_PLAIN, {{TENSOR_F32, 0, 4, bytes, NULL}}, 1, 0, 1, STATUS_INVALID, "0 values"},
        {WEIGHT_PLAIN,
         {{TENSOR_Q4_1, 32, 4, bytes, "w"}},
         1,
         1,
         2,
         STATUS_UNSUPPORTED,
         "rank 1 of 2"},
        {WEIGHT_PLAIN, {{TENSOR_Q4_1, 32, 4, bytes, "w"}}, 2, 0, 1, STATUS_INVALID, "not 2"},
        {WEIGHT_GATE_UP,
         {{TENSOR_Q4_1, 32, 4, bytes, "gate"}, {TENSOR_Q4_1, 32, 5, bytes, "up"}},
         2,
         0,
         1,
         STATUS_INVALID,
         "gate has 4 rows, up 5"},
        {WEIGHT_QKV,
         {{TENSOR_Q4_1, 32, 4, bytes, "q"}, {TENSOR_Q4_1, 64, 4, bytes, "k"}},
         2,
         0,
         1,
         STATUS_INVALID,
         "k has rows of 64 values"},
        {WEIGHT_QKV,
         {{TENSOR_F32, 1, UINT32_MAX, bytes, "q"}, {TENSOR_F32, 1, 2, bytes, "k"}},
         2,
         0,
         1,
         STATUS_TOO_LARGE,
         "2^32 rows"},
    };
    struct rig rig = rig_open(ISA_SCALAR, ACTIVATIONS_16, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct refused *c = &cases[i];
        struct weight *weight = (struct weight *)1;
        struct why why = {.text = ""};
        int status = rig.ops->weight_load(rig.device, c->fuse, c->sources, c->n_sources, c->rank,
                                          c->n_ranks, &weight, &why);
        assert_int_equal(status, c->status);
        assert_null(weight);
        if (strstr(why.text, c->says) == NULL)
            fail_msg("'%s' does not say '%s'", why.text, c->says);
    }
    rig_close(&rig);
}

static void test_cpu_weight__more_memory_than_there_is_is_refused(void **state)
{
    struct rig rig = rig_open(ISA_SCALAR, ACTIVATIONS_16, 1);
    struct weight_source source = {TENSOR_F32, 1u << 30, 1u << 20, NULL, "huge"};
    struct weight *weight;
    struct why why;
    int status = rig.ops->weight_load(rig.device, WEIGHT_PLAIN, &source, 1, 0, 1, &weight, &why);
    assert_int_equal(status, STATUS_NO_MEMORY);
    assert_non_null(strstr(why.text, "huge"));
    rig_close(&rig);
}

static void test_cpu_weight__sources_may_stand_at_any_alignment(void **state)
{
    enum { N_IN = 256, N_OUT = 3 };
    float want[N_IN], got[N_IN];
    struct rig rig = rig_open(ISA_SCALAR, ACTIVATIONS_16, 1);
    for (int t = 0; t < N_LINEAR_TYPES; t++) {
        uint8_t *bytes = random_weight(linear_types[t], N_IN, N_OUT, 6);
        size_t size = tensor_type_bytes(linear_types[t], N_IN, N_OUT);
        uint8_t *odd = malloc(size + 1);
        memcpy(odd + 1, bytes, size);
        struct weight_source source = {linear_types[t], N_IN, N_OUT, odd + 1, "w"};
        struct weight *weight = rig_load(&rig, WEIGHT_PLAIN, &source, 1);
        device_unlock(rig.device);
        cpu_weight_row(weight, 2, got);
        device_lock(rig.device);
        tensor_type_row_to_f32(linear_types[t], bytes + size / N_OUT * 2, N_IN, want);
        assert_memory_equal(want, got, sizeof got);
        rig.ops->weight_free(rig.device, weight);
        free(odd);
        free(bytes);
    }
    rig_close(&rig);
}

/* A tile that ends where memory does. */
static void test_cpu_weight__nothing_behind_a_tile_is_read(void **state)
{
    enum { N_IN = 256, ROOM = 1 << 16 };
    float want[N_IN], got[N_IN];
    const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint8_t *memory = mmap(NULL, 2 * ROOM, prot, flags, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(mprotect(memory + ROOM, ROOM, PROT_NONE), 0);
    _Alignas(64) static uint8_t wide[1 << 16];
    _Alignas(64) static float acc[TILE_ROWS], rows[N_IN];
    for (int t = 0; t < N_LINEAR_TYPES; t++) {
        uint32_t type = linear_types[t];
        uint8_t *bytes = random_weight(type, N_IN, TILE_ROWS, 9);
        uint8_t *tile = memory + ROOM - cpu_tile_bytes(type, N_IN);
        memset(memory, 0, ROOM);
        cpu_tile_repack(type, N_IN, bytes, TILE_ROWS, tile);
        for (uint32_t row = 0; row < TILE_ROWS; row++) {
            size_t row_bytes = tensor_type_bytes(type, N_IN, 1);
            tensor_type_row_to_f32(type, bytes + row * row_bytes, N_IN, want);
            for (uint32_t b = 0; b < N_IN / BLOCK_VALUES; b++)
                cpu_tile_block_to_f32(type, N_IN, tile, row, b, got + b * BLOCK_VALUES);
            assert_memory_equal(want, got, sizeof got);
        }
        struct cpu_span span = {.type = type, .activations = ACTIVATIONS_F32, .tile = tile,
                                .wide = wide, .n_in = N_IN, .m = 1, .end = N_IN / BLOCK_VALUES,
                                .rows = rows, .acc = acc};
        for (enum isa isa = ISA_AVX2; isa <= ISA_AVX512; isa++) {
            if (!isa_is_available(isa))
                continue;
            cpu_multiply *const *unpack = cpu_products(isa)->unpack[type];
            cpu_products(isa)->one[type][ACTIVATIONS_F32](&span);
            for (int i = 0; i < 2; i++)
                if (unpack[i] != NULL)
                    unpack[i](&span);
        }
        free(bytes);
    }
    munmap(memory, 2 * ROOM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_weight__every_row_comes_back_exactly),
        cmocka_unit_test(test_cpu_weight__tiles_have_the_stated_bytes),
        cmocka_unit_test(test_cpu_weight__tiles_are_whole_lines_of_the_stated_sizes),
        cmocka_unit_test(test_cpu_weight__info_tells_shape_bytes_and_forms),
        cmocka_unit_test(test_cpu_weight__what_cannot_be_loaded_is_refused_with_its_name),
        cmocka_unit_test(test_cpu_weight__more_memory_than_there_is_is_refused),
        cmocka_unit_test(test_cpu_weight__sources_may_stand_at_any_alignment),
        cmocka_unit_test(test_cpu_weight__nothing_behind_a_tile_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
