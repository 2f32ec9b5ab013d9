#include "tiny_file_fixture.h"

#include "kernels/tensor_type.h"
#include "tools/file_facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int gather(void (*change)(struct gguf_writer *), struct file_facts *facts, struct why *why)
{
    const char *path = tiny_file(change);
    int status = file_facts_gather(path, facts, why);
    unlink(path);
    return status;
}

static void test_file_facts__a_model_that_runs_is_counted_whole(void **state)
{
    struct file_facts *facts = malloc(sizeof *facts);
    struct why why = {.text = ""};

    assert_int_equal(gather(NULL, facts, &why), STATUS_OK);
    assert_int_equal(facts->status, STATUS_OK);
    assert_int_equal(facts->n_unsupported, 0);
    assert_true(facts->has_plan && facts->vocabulary != NULL);
    assert_int_equal(facts->n_types, 1);
    assert_int_equal(facts->types[0].type, TENSOR_F32);
    assert_int_equal(facts->types[0].n_bytes, 4 * facts->n_parameters);
    assert_int_equal(facts->kv_values, 2 * 2 * (16 + 16));
    assert_int_equal(facts->n_unused, 0);
    file_facts_release(facts);
    free(facts);
}

static void drop_tensors(struct gguf_writer *writer)
{
    writer->n_tensors = writer->n_infos_bytes = writer->n_data_bytes = 0;
}

static void test_file_facts__a_vocabulary_alone_is_sound(void **state)
{
    struct file_facts *facts = malloc(sizeof *facts);
    struct why why = {.text = ""};

    assert_int_equal(gather(drop_tensors, facts, &why), STATUS_OK);
    assert_int_equal(facts->status, STATUS_OK);
    assert_int_equal(facts->n_unsupported, 0);
    assert_true(facts->is_vocabulary && facts->vocabulary != NULL && !facts->has_plan);
    file_facts_release(facts);
    free(facts);
}

static void add_vector(struct gguf_writer *writer, const char *name)
{
    static const float values[8] = {1};
    uint64_t dims[] = {8};
    gguf_add_tensor(writer, name, TENSOR_F32, 1, dims, values, sizeof values);
}

static void add_stranger(struct gguf_writer *writer)
{
    add_vector(writer, "blk.0.mystery.weight");
}

static void add_angles(struct gguf_writer *writer)
{
    add_vector(writer, "blk.0.attn_rot_embd.weight");
}

static void test_file_facts__a_weight_that_nothing_would_use_is_unsupported(void **state)
{
    struct file_facts *facts = malloc(sizeof *facts);
    struct why why = {.text = ""};

    assert_int_equal(gather(add_stranger, facts, &why), STATUS_OK);
    assert_int_equal(facts->n_unsupported, 1);
    assert_non_null(strstr(facts->unsupported[0].text, "blk.0.mystery.weight"));
    file_facts_release(facts);
    free(facts);
}

static void test_file_facts__a_harmless_tensor_is_told_and_tolerated(void **state)
{
    struct file_facts *facts = malloc(sizeof *facts);
    struct why why = {.text = ""};

    assert_int_equal(gather(add_angles, facts, &why), STATUS_OK);
    assert_int_equal(facts->status, STATUS_OK);
    assert_int_equal(facts->n_unused, 1);
    uint64_t last = gguf_n_tensors(facts->file) - 1;
    assert_false(facts->plan.uses_tensor[last]);
    file_facts_release(facts);
    free(facts);
}

static void add_spiral(struct gguf_writer *writer)
{
    gguf_add_string(writer, "llama.rope.scaling.type", "spiral");
}

static void test_file_facts__what_this_build_cannot_run_is_described_all_the_same(void **state)
{
    struct file_facts *facts = malloc(sizeof *facts);
    struct why why = {.text = ""};

    assert_int_equal(gather(add_spiral, facts, &why), STATUS_OK);
    assert_int_equal(facts->status, STATUS_OK);
    assert_int_equal(facts->n_unsupported, 1);
    assert_non_null(strstr(facts->unsupported[0].text, "spiral"));
    assert_false(facts->has_plan);
    assert_true(facts->has_geometry); /* by the keys */
    assert_int_equal(facts->kv_values, 2 * 2 * (16 + 16));
    file_facts_release(facts);
    free(facts);
}

static void add_long_keys(struct gguf_writer *writer)
{
    gguf_add_u32(writer, "llama.attention.key_length", 4096);
}

static void test_file_facts__a_file_that_contradicts_itself_is_bad(void **state)
{
    struct file_facts *facts = malloc(sizeof *facts);
    struct why why = {.text = ""};

    assert_int_equal(gather(add_long_keys, facts, &why), STATUS_OK);
    assert_int_equal(facts->status, STATUS_CORRUPT);
    assert_non_null(strstr(facts->bad.text, "attention.key_length is 4096"));
    assert_int_equal(facts->n_unsupported, 0);
    assert_false(facts->has_geometry); /* no number out of a key that is beyond its range */
    file_facts_release(facts);
    free(facts);
}

static void test_file_facts__what_is_no_model_file_is_refused(void **state)
{
    struct file_facts *facts = malloc(sizeof *facts);
    struct why why = {.text = ""};

    assert_int_equal(file_facts_gather(SOURCE_DIR "/CMakeLists.txt", facts, &why), STATUS_CORRUPT);
    assert_non_null(strstr(why.text, "not a GGUF file"));
    assert_int_equal(file_facts_gather("/absent.gguf", facts, &why), STATUS_NOT_FOUND);
    free(facts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_facts__a_vocabulary_alone_is_sound),
        cmocka_unit_test(test_file_facts__a_model_that_runs_is_counted_whole),
        cmocka_unit_test(test_file_facts__a_weight_that_nothing_would_use_is_unsupported),
        cmocka_unit_test(test_file_facts__a_harmless_tensor_is_told_and_tolerated),
        cmocka_unit_test(test_file_facts__what_this_build_cannot_run_is_described_all_the_same),
        cmocka_unit_test(test_file_facts__a_file_that_contradicts_itself_is_bad),
        cmocka_unit_test(test_file_facts__what_is_no_model_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
