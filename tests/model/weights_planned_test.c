/* What is told of a file's weights before they are loaded is what they take then. */
#include "gguf_fixture.h"

#include "base/status.h"
#include "kernels/cpu/cpu_tile.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/device.h"
#include "model/model.h"
#include "model/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define ASIDE_BYTES 100 /* a tensor: angles, biases that the file lacks */

static uint64_t cpu_matrix_bytes(uint32_t type, uint64_t n_in, uint64_t n_out)
{
    return (n_out + TILE_ROWS - 1) / TILE_ROWS * cpu_tile_bytes(type, (uint32_t)n_in);
}

static void assert_as_planned(struct gguf_writer *writer)
{
    struct device_options options = {.backend = BACKEND_CPU, .n_threads = 1, .isa = ISA_SCALAR};
    struct device *device;
    struct model *model;
    struct why why = {.text = ""};

    const char *path = gguf_write(writer, 0);
    if (device_open(&options, &device, &why) < 0 ||
        model_load(device, path, NULL, &model, &why) < 0)
        fail_msg("%s", why.text);
    uint64_t told = weights_planned_bytes(model_file(model), model_plan(model), cpu_matrix_bytes);
    uint64_t taken = model_weight_bytes(model);
    uint64_t aside = ASIDE_BYTES * gguf_n_tensors(model_file(model));
    if (told > taken + aside || taken > told + aside)
        fail_msg("%s: %llu bytes were told, %llu are taken", model_plan(model)->architecture,
                 (unsigned long long)told, (unsigned long long)taken);
    model_free(model);
    device_close(device);
    gguf_writer_release(writer);
}

static void test_weights_planned__of_dense_layers(void **state)
{
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    gguf_add_tiny_llama(&writer, &TINY_SHAPE);
    assert_as_planned(&writer);
}

static void test_weights_planned__of_experts_apart_and_fused(void **state)
{
    for (int is_fused = 0; is_fused < 2; is_fused++) {
        struct tiny_experts experts = TINY_EXPERTS;
        struct gguf_writer writer;
        experts.is_fused = is_fused;
        gguf_writer_init(&writer);
        gguf_add_tiny_experts(&writer, &TINY_SHAPE, &experts);
        assert_as_planned(&writer);
    }
}

/* Joined, a head's keys are kept as f32 and turned: other tiles. */
static void test_weights_planned__of_latent_vectors_apart_and_joined(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct gguf_writer writer;
        gguf_writer_init(&writer);
        gguf_add_tiny_latent(&writer,
                             &(struct tiny_latent){.is_joined = i & 1, .has_q_rank = i & 2});
        assert_as_planned(&writer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_planned__of_dense_layers),
        cmocka_unit_test(test_weights_planned__of_experts_apart_and_fused),
        cmocka_unit_test(test_weights_planned__of_latent_vectors_apart_and_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
