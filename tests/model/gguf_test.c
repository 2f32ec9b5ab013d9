#include "gguf_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_refused(const struct gguf_writer *writer, int status, const char *words)
{
    struct why why = {.text = ""};
    int got = gguf_open_written(writer, NULL, &why);
    if (got != status || strstr(why.text, words) == NULL)
        fail_msg("status %d (expected %d): \"%s\" should hold \"%s\"", got, status, why.text,
                 words);
}

static void test_gguf__keys_and_tensors_come_back(void **state)
{
    struct gguf_writer writer;
    struct gguf *file;
    struct why why;
    uint64_t dims[2] = {4, 2};
    float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct slice text;
    uint32_t number = 0;

    gguf_writer_init(&writer);
    gguf_add_string(&writer, "general.name", "a model");
    gguf_add_u32(&writer, "some.number", 42);
    gguf_add_strings(&writer, "some.words", (const char *const[]){"one", "", "three"}, 3);
    gguf_add_tensor(&writer, "t", 0, 2, dims, values, sizeof values);
    assert_int_equal(gguf_open_written(&writer, &file, &why), STATUS_OK);

    assert_int_equal(gguf_string(file, "general.name", &text, &why), 1);
    assert_true(slice_equal(text, slice_from("a model")));
    assert_int_equal(gguf_u32(file, "some.number", &number, &why), 1);
    assert_int_equal(number, 42);
    assert_int_equal(gguf_u32(file, "absent", &number, &why), 0);
    const struct gguf_value *words = gguf_find(file, "some.words");
    assert_int_equal(words->n, 3);
    assert_true(slice_equal(gguf_string_at(words, 2), slice_from("three")));
    assert_int_equal(gguf_string_at(words, 1).len, 0);
    const struct gguf_tensor *tensor = gguf_tensor_find(file, "t");
    assert_int_equal(tensor->n_bytes, sizeof values);
    assert_memory_equal(tensor->bytes, values, sizeof values);
    assert_null(gguf_tensor_find(file, "u"));
    gguf_close(file);
    gguf_writer_release(&writer);
}

static void test_gguf__integers_are_read_from_any_kind_that_fits(void **state)
{
    struct gguf_writer writer;
    struct gguf *file;
    struct why why;
    uint32_t number;
    int8_t minus = -1;
    uint64_t big = UINT64_C(1) << 33, fits = 7;

    gguf_writer_init(&writer);
    gguf_add_raw(&writer, "minus", GGUF_I8, &minus, 1);
    gguf_add_raw(&writer, "big", GGUF_U64, &big, 8);
    gguf_add_raw(&writer, "fits", GGUF_I64, &fits, 8);
    gguf_add_f32(&writer, "real", 1);
    assert_int_equal(gguf_open_written(&writer, &file, &why), STATUS_OK);

    assert_int_equal(gguf_u32(file, "fits", &number, &why), 1);
    assert_int_equal(number, 7);
    assert_int_equal(gguf_u32(file, "minus", &number, &why), STATUS_CORRUPT);
    assert_non_null(strstr(why.text, "minus is -1"));
    assert_int_equal(gguf_u32(file, "big", &number, &why), STATUS_CORRUPT);
    assert_int_equal(gguf_u32(file, "real", &number, &why), STATUS_CORRUPT);
    gguf_close(file);
    gguf_writer_release(&writer);
}

static void test_gguf__a_file_cut_anywhere_is_refused_or_whole(void **state)
{
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    gguf_add_tiny_llama(&writer, &(struct tiny_shape){1, 32, 1, 1, 32, 256});
    const char *path = gguf_write(&writer, 0);
    struct stat whole;
    assert_int_equal(stat(path, &whole), 0);

    for (size_t cut = 1; cut < (size_t)whole.st_size; cut += 1 + cut / 7) {
        struct why why;
        struct gguf *file = NULL;
        path = gguf_write(&writer, cut);
        assert_true(gguf_open(path, &file, &why) < 0);
        assert_true(strlen(why.text) > 10);
    }
    unlink(path);
    gguf_writer_release(&writer);
}

static void test_gguf__counts_beyond_the_file_are_refused_by_division(void **state)
{
    struct gguf_writer writer;
    uint8_t array[12];
    uint32_t element = GGUF_U64;
    uint64_t n = (UINT64_C(1) << 61) + 1;

    gguf_writer_init(&writer);
    memcpy(array, &element, 4);
    memcpy(array + 4, &n, 8);
    gguf_add_raw(&writer, "odd", GGUF_ARRAY, array, sizeof array);
    assert_refused(&writer, STATUS_CORRUPT, "odd");
    gguf_writer_release(&writer);

    gguf_writer_init(&writer);
    writer.n_keys = UINT64_C(1) << 60;
    assert_refused(&writer, STATUS_CORRUPT, "keys cannot stand");
    writer.n_keys = 0;
    writer.n_tensors = UINT64_C(1) << 60;
    assert_refused(&writer, STATUS_CORRUPT, "tensors cannot stand");
    gguf_writer_release(&writer);
}

static void test_gguf__a_name_that_stands_twice_is_refused(void **state)
{
    struct gguf_writer writer;
    uint64_t dims[1] = {8};
    float values[8] = {0};

    gguf_writer_init(&writer);
    gguf_add_u32(&writer, "k", 1);
    gguf_add_u32(&writer, "k", 1);
    assert_refused(&writer, STATUS_CORRUPT, "key k stands twice");
    gguf_writer_release(&writer);
    gguf_writer_init(&writer);
    gguf_add_tensor(&writer, "t", 0, 1, dims, values, sizeof values);
    gguf_add_tensor(&writer, "t", 0, 1, dims, values, sizeof values);
    assert_refused(&writer, STATUS_CORRUPT, "tensor t stands twice");
    gguf_writer_release(&writer);
}

static void test_gguf__versions_and_endianness_are_told_apart(void **state)
{
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    writer.version = 2;
    assert_int_equal(gguf_open_written(&writer, NULL, NULL), STATUS_OK);
    writer.version = 1;
    assert_refused(&writer, STATUS_UNSUPPORTED, "version 1");
    writer.version = 4;
    assert_refused(&writer, STATUS_UNSUPPORTED, "version 4");
    writer.version = 3u << 24;
    assert_refused(&writer, STATUS_UNSUPPORTED, "endianness");
    gguf_writer_release(&writer);
}

static void test_gguf__names_out_of_a_file_never_steer_a_terminal(void **state)
{
    struct gguf_writer writer;
    struct why why = {.text = ""};

    gguf_writer_init(&writer);
    gguf_add_raw(&writer, "\x1b[2Jodd", 99, "", 0);
    assert_int_equal(gguf_open_written(&writer, NULL, &why), STATUS_CORRUPT);
    assert_non_null(strstr(why.text, "odd"));
    assert_null(strchr(why.text, '\x1b'));
    gguf_writer_release(&writer);
}

static void test_gguf__what_is_cut_off_is_told_with_its_name(void **state)
{
    struct gguf_writer writer;
    struct why why = {.text = ""};
    struct gguf *file = NULL;

    gguf_writer_init(&writer);
    gguf_add_u32(&writer, "first", 1);
    gguf_add_u32(&writer, "second", 2);
    const char *path = gguf_write(&writer, 0);
    struct stat whole;
    assert_int_equal(stat(path, &whole), 0);
    size_t end = 4 + 4 + 8 + 8 + writer.n_keys_bytes; /* of the keys; padding follows */
    assert_int_equal(truncate(path, (off_t)(end - 2)), 0);

    assert_int_equal(gguf_open(path, &file, &why), STATUS_CORRUPT);
    assert_non_null(strstr(why.text, "key second"));
    unlink(path);
    gguf_writer_release(&writer);
}

static void test_gguf__a_pipe_is_refused_and_not_awaited(void **state)
{
    char path[] = "/tmp/quire-fifo-XXXXXX";
    struct gguf *file = NULL;
    struct why why = {.text = ""};

    close(mkstemp(path));
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(gguf_open(path, &file, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "not a file"));
    unlink(path);
}

static void test_gguf__a_changed_file_is_noticed(void **state)
{
    struct gguf_writer writer;
    struct gguf *file;
    struct why why;

    gguf_writer_init(&writer);
    gguf_add_u32(&writer, "k", 1);
    const char *path = gguf_write(&writer, 0);
    assert_int_equal(gguf_open(path, &file, &why), STATUS_OK);
    assert_int_equal(gguf_check_unchanged(file, &why), STATUS_OK);
    FILE *more = fopen(path, "ab");
    fputs("more", more);
    fclose(more);
    assert_int_equal(gguf_check_unchanged(file, &why), STATUS_CORRUPT);
    assert_non_null(strstr(why.text, "changed"));
    unlink(path);
    gguf_close(file);
    gguf_writer_release(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf__keys_and_tensors_come_back),
        cmocka_unit_test(test_gguf__integers_are_read_from_any_kind_that_fits),
        cmocka_unit_test(test_gguf__a_file_cut_anywhere_is_refused_or_whole),
        cmocka_unit_test(test_gguf__counts_beyond_the_file_are_refused_by_division),
        cmocka_unit_test(test_gguf__a_name_that_stands_twice_is_refused),
        cmocka_unit_test(test_gguf__versions_and_endianness_are_told_apart),
        cmocka_unit_test(test_gguf__names_out_of_a_file_never_steer_a_terminal),
        cmocka_unit_test(test_gguf__what_is_cut_off_is_told_with_its_name),
        cmocka_unit_test(test_gguf__a_pipe_is_refused_and_not_awaited),
        cmocka_unit_test(test_gguf__a_changed_file_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
