#include "tools/npy.h"

#include "base/status.h"

#include <stdint.h>
#include <stdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static int make_file(void **state)
{
    strcpy(path, "/tmp/quire-npy-XXXXXX");
    int fd = mkstemp(path);
    close(fd);
    return fd < 0;
}

static int remove_file(void **state)
{
    unlink(path);
    return 0;
}

static size_t read_back(uint8_t *out, size_t cap)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(out, 1, cap, file);
    fclose(file);
    return n;
}

static void test_npy__a_file_is_a_padded_header_and_the_rows(void **state)
{
    static const float rows[6] = {1, 2, 3, -4, 0.5f, 1e-9f};
    uint8_t bytes[512];
    struct npy npy;
    struct why why = {.text = ""};

    assert_int_equal(npy_open(path, 2, 3, &npy, &why), STATUS_OK);
    assert_int_equal(npy_write(&npy, rows, 3, &why), STATUS_OK);
    assert_int_equal(npy_write(&npy, rows + 3, 3, &why), STATUS_OK);
    assert_int_equal(npy_close(&npy, &why), STATUS_OK);

    size_t n = read_back(bytes, sizeof bytes);
    assert_memory_equal(bytes, "\x93NUMPY\x01\x00", 8);
    size_t begin = 10 + bytes[8] + 256u * bytes[9];
    assert_int_equal(begin % 64, 0); /* the format asks for it */
    assert_int_equal(n, begin + sizeof rows);
    assert_int_equal(bytes[begin - 1], '\n');
    bytes[begin - 1] = 0;
    assert_non_null(strstr((char *)bytes + 10, "'descr': '<f4'"));
    assert_non_null(strstr((char *)bytes + 10, "'fortran_order': False"));
    assert_non_null(strstr((char *)bytes + 10, "'shape': (2, 3)"));
    assert_memory_equal(bytes + begin, rows, sizeof rows);
}

static void test_npy__the_largest_shape_fits_its_header(void **state)
{
    struct npy npy;
    struct why why = {.text = ""};
    assert_int_equal(npy_open(path, UINT64_MAX / 2, UINT64_MAX / 2, &npy, &why), STATUS_OK);
    npy_abandon(&npy);
}

static void test_npy__a_file_that_lacks_rows_is_removed(void **state)
{
    float row[3] = {1, 2, 3};
    struct npy npy;
    struct why why = {.text = ""};

    assert_int_equal(npy_open(path, 2, 3, &npy, &why), STATUS_OK);
    assert_int_equal(npy_write(&npy, row, 3, &why), STATUS_OK);
    npy_abandon(&npy);
    assert_int_equal(access(path, F_OK), -1);
    npy_abandon(&npy); /* a second time does nothing */
}

static void test_npy__a_device_is_never_removed(void **state)
{
    float row[1] = {1};
    struct npy npy;
    struct why why = {.text = ""};

    assert_int_equal(npy_open("/dev/null", 1, 1, &npy, &why), STATUS_OK);
    assert_int_equal(npy_write(&npy, row, 1, &why), STATUS_OK);
    npy_abandon(&npy);
    assert_int_equal(access("/dev/null", F_OK), 0);
}

static void test_npy__a_link_is_never_removed(void **state)
{
    char link[80];
    struct npy npy;
    struct why why = {.text = ""};

    snprintf(link, sizeof link, "%s-link", path);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(npy_open(link, 2, 3, &npy, &why), STATUS_OK);
    npy_abandon(&npy);
    assert_int_equal(access(link, F_OK), 0); /* /dev/stdout is a link too */
    unlink(link);
}

static void test_npy__a_file_that_took_the_name_meanwhile_is_not_removed(void **state)
{
    struct npy npy;
    struct why why = {.text = ""};

    assert_int_equal(npy_open(path, 2, 3, &npy, &why), STATUS_OK);
    unlink(path);
    FILE *other = fopen(path, "wb");
    assert_non_null(other);
    npy_abandon(&npy);
    assert_int_equal(access(path, F_OK), 0);
    fclose(other);
}

static void test_npy__a_full_disk_is_told_with_the_path(void **state)
{
    struct npy npy;
    struct why why = {.text = ""};

    assert_int_equal(npy_open("/dev/full", 1, 1, &npy, &why), STATUS_IO);
    assert_non_null(strstr(why.text, "/dev/full"));
    assert_int_equal(npy_open("/absent/folder/out.npy", 1, 1, &npy, &why), STATUS_IO);
    assert_non_null(strstr(why.text, "/absent/folder/out.npy"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_file, remove_file)
    const struct CMUnitTest tests[] = {
        TEST(test_npy__a_file_is_a_padded_header_and_the_rows),
        TEST(test_npy__the_largest_shape_fits_its_header),
        TEST(test_npy__a_file_that_lacks_rows_is_removed),
        TEST(test_npy__a_device_is_never_removed),
        TEST(test_npy__a_link_is_never_removed),
        TEST(test_npy__a_file_that_took_the_name_meanwhile_is_not_removed),
        TEST(test_npy__a_full_disk_is_told_with_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
