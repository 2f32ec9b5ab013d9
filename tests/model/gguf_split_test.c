/* Split sets: parts that belong together open as one file, all others are refused in words. */
#include "gguf_fixture.h"

#include "base/status.h"
#include "limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define N_PARTS 3

struct part { /* what a part says of its set, and its one tensor */
    uint16_t no, count;
    int32_t n_tensors;
    const char *tensor;
};

static const struct part sound[N_PARTS] = {
    {0, N_PARTS, N_PARTS, "a"}, {1, N_PARTS, N_PARTS, "b"}, {2, N_PARTS, N_PARTS, "c"}};

static char folder[64];

static const char *path_of(uint32_t no)
{
    static char paths[4][128];
    char *path = paths[no % 4];
    snprintf(path, sizeof paths[0], "%s/model-%05u-of-%05u.gguf", folder, no + 1, N_PARTS);
    return path;
}

static void write_part(const char *path, const struct part *part)
{
    struct gguf_writer writer;
    uint64_t dims[1] = {8};
    float values[8] = {(float)part->tensor[0]};

    gguf_writer_init(&writer);
    gguf_add_u32(&writer, "only.in.the.first", part->no == 0);
    gguf_add_raw(&writer, "split.no", GGUF_U16, &part->no, sizeof part->no);
    gguf_add_raw(&writer, "split.count", GGUF_U16, &part->count, sizeof part->count);
    gguf_add_raw(&writer, "split.tensors.count", GGUF_I32, &part->n_tensors,
                 sizeof part->n_tensors);
    gguf_add_tensor(&writer, part->tensor, 0, 1, dims, values, sizeof values);
    gguf_write_as(&writer, path, 0);
    gguf_writer_release(&writer);
}

static int make_set(void **state)
{
    strcpy(folder, "/tmp/quire-split-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    for (uint32_t i = 0; i < N_PARTS; i++)
        write_part(path_of(i), &sound[i]);
    return 0;
}

static int remove_set(void **state)
{
    for (uint32_t i = 0; i < N_PARTS; i++)
        unlink(path_of(i));
    return rmdir(folder);
}

static void assert_refused(const char *path, int status, const char *words)
{
    struct gguf *file = NULL;
    struct why why = {.text = ""};
    int got = gguf_open(path, &file, &why);
    if (got != status || strstr(why.text, words) == NULL)
        fail_msg("status %d (expected %d): \"%s\" should hold \"%s\"", got, status, why.text,
                 words);
}

static void test_gguf_split__the_parts_of_a_set_are_one_file(void **state)
{
    struct gguf *file = NULL;
    struct why why = {.text = ""};
    uint32_t is_first = 0;

    if (gguf_open(path_of(0), &file, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(gguf_n_files(file), N_PARTS);
    assert_int_equal(gguf_n_tensors(file), N_PARTS);
    for (uint32_t i = 0; i < N_PARTS; i++) {
        const struct gguf_tensor *tensor = gguf_tensor_find(file, sound[i].tensor);
        float value;
        assert_non_null(tensor);
        assert_int_equal(tensor->file_idx, i);
        memcpy(&value, tensor->bytes, sizeof value);
        assert_true(value == (float)sound[i].tensor[0]);
        assert_string_equal(gguf_file_path(file, i), path_of(i));
    }
    assert_int_equal(gguf_u32(file, "only.in.the.first", &is_first, &why), 1);
    assert_int_equal(is_first, 1);
    gguf_close(file);
}

static void test_gguf_split__another_part_is_refused_with_the_name_of_the_first(void **state)
{
    assert_refused(path_of(1), STATUS_INVALID, "is part 2 of a split model of 3");
    assert_refused(path_of(2), STATUS_INVALID, path_of(0));

    char elsewhere[128];
    snprintf(elsewhere, sizeof elsewhere, "%s/renamed.gguf", folder);
    assert_int_equal(rename(path_of(1), elsewhere), 0);
    assert_refused(elsewhere, STATUS_INVALID, "-00001-of-00003.gguf");
    unlink(elsewhere);
}

static void test_gguf_split__a_missing_part_is_named(void **state)
{
    unlink(path_of(2));
    assert_refused(path_of(0), STATUS_NOT_FOUND, "part 3 of 3");
    assert_refused(path_of(0), STATUS_NOT_FOUND, path_of(2));
}

static void test_gguf_split__parts_of_other_sets_are_refused_with_both_numbers(void **state)
{
    struct part other = sound[1];

    other.count = 4;
    write_part(path_of(1), &other);
    assert_refused(path_of(0), STATUS_CORRUPT, "split.no 1 of split.count 4, expected 1 of 3");
    write_part(path_of(1), &sound[2]); /* the names of two parts were exchanged */
    assert_refused(path_of(0), STATUS_CORRUPT, "split.no 2 of split.count 3, expected 1 of 3");
    other = sound[1];
    other.tensor = "a";
    write_part(path_of(1), &other);
    assert_refused(path_of(0), STATUS_CORRUPT, "tensor a stands twice");
}

static void test_gguf_split__the_tensors_of_all_parts_are_counted(void **state)
{
    struct part first = sound[0];

    first.n_tensors = 4;
    write_part(path_of(0), &first);
    assert_refused(path_of(0), STATUS_CORRUPT, "split.tensors.count is 4, the parts (3) hold 3");
    first.n_tensors = 0;
    write_part(path_of(0), &first);
    assert_refused(path_of(0), STATUS_CORRUPT, "split.tensors.count is 0");
    first.n_tensors = -1;
    write_part(path_of(0), &first);
    assert_refused(path_of(0), STATUS_CORRUPT, "split.tensors.count is -1");
}

static void test_gguf_split__numbers_that_name_no_part_are_refused(void **state)
{
    struct part first = sound[0];

    first.no = 3;
    write_part(path_of(0), &first);
    assert_refused(path_of(0), STATUS_CORRUPT, "split.no is 3 and split.count 3");
    first.no = 0;
    first.count = GGUF_SPLITS_MAX + 1;
    write_part(path_of(0), &first);
    assert_refused(path_of(0), STATUS_CORRUPT, "split.count is 1025; at most 1024");
    first.no = 1;
    first.count = 1;
    write_part(path_of(0), &first);
    assert_refused(path_of(0), STATUS_CORRUPT, "split.no is 1 and split.count 1");
}

static void test_gguf_split__a_first_part_of_another_name_is_told_so(void **state)
{
    char elsewhere[128];
    snprintf(elsewhere, sizeof elsewhere, "%s/renamed.gguf", folder);
    assert_int_equal(rename(path_of(0), elsewhere), 0);
    assert_refused(elsewhere, STATUS_INVALID, "does not end in -00001-of-00003.gguf");
    unlink(elsewhere);
}

static void test_gguf_split__a_set_of_one_is_a_plain_file(void **state)
{
    struct part alone = {0, 1, 1, "a"};
    char path[128];
    struct gguf *file = NULL;
    struct why why = {.text = ""};

    snprintf(path, sizeof path, "%s/alone.gguf", folder);
    write_part(path, &alone);
    if (gguf_open(path, &file, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(gguf_n_files(file), 1);
    gguf_close(file);
    unlink(path);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_set, remove_set)
    const struct CMUnitTest tests[] = {
        TEST(test_gguf_split__the_parts_of_a_set_are_one_file),
        TEST(test_gguf_split__another_part_is_refused_with_the_name_of_the_first),
        TEST(test_gguf_split__a_missing_part_is_named),
        TEST(test_gguf_split__parts_of_other_sets_are_refused_with_both_numbers),
        TEST(test_gguf_split__the_tensors_of_all_parts_are_counted),
        TEST(test_gguf_split__numbers_that_name_no_part_are_refused),
        TEST(test_gguf_split__a_first_part_of_another_name_is_told_so),
        TEST(test_gguf_split__a_set_of_one_is_a_plain_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
