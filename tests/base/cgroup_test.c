#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cgroup.h"

static char root[64]; /* a tree of files as the kernel would show it */

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    strcpy(root, "/tmp/quire-cgroup-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int tear_down(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static const char *at(const char *name)
{
    static char paths[2][256];
    static int turn;
    turn = !turn;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", root, name);
    return paths[turn];
}

static void test_cgroup__takes_the_smallest_limit_up_to_the_root(void **state)
{
    write_file("self", "0::/a/b\n");
    write_file("mount/a/b/cpu.max", "400000 100000\n");
    write_file("mount/a/cpu.max", "150000 100000\n");
    write_file("mount/cpu.max", "max 100000\n");
    write_file("mount/a/b/memory.max", "max\n");
    write_file("mount/a/memory.max", "1073741824\n");
    write_file("mount/memory.max", "2147483648\n");
    double cores = 0;
    uint64_t bytes = 0;
    assert_true(cgroup_cores(at("mount"), at("self"), &cores));
    assert_true(cores == 1.5);
    assert_true(cgroup_memory(at("mount"), at("self"), &bytes));
    assert_int_equal(bytes, 1073741824);
}

static void test_cgroup__reads_the_root_of_a_container(void **state)
{
    write_file("self", "0::/\n");
    write_file("mount/cpu.max", "50000 100000\n");
    write_file("mount/memory.max", "4096\n");
    double cores = 0;
    uint64_t bytes = 0;
    assert_true(cgroup_cores(at("mount"), at("self"), &cores));
    assert_true(cores == 0.5);
    assert_true(cgroup_memory(at("mount"), at("self"), &bytes));
    assert_int_equal(bytes, 4096);
}

static void test_cgroup__knows_version_1(void **state)
{
    write_file("self", "7:cpu,cpuacct:/box\n4:memory:/box\n1:name=systemd:/box\n0::/\n");
    write_file("mount/cpu/box/cpu.cfs_quota_us", "300000\n");
    write_file("mount/cpu/box/cpu.cfs_period_us", "100000\n");
    write_file("mount/cpu/cpu.cfs_quota_us", "-1\n");
    write_file("mount/cpu/cpu.cfs_period_us", "100000\n");
    write_file("mount/memory/memory.limit_in_bytes", "9223372036854771712\n");
    double cores = 0;
    uint64_t bytes = 0;
    assert_true(cgroup_cores(at("mount"), at("self"), &cores));
    assert_true(cores == 3);
    assert_false(cgroup_memory(at("mount"), at("self"), &bytes)); /* so it writes "unlimited" */
    write_file("mount/memory/box/memory.limit_in_bytes", "65536\n");
    assert_true(cgroup_memory(at("mount"), at("self"), &bytes));
    assert_int_equal(bytes, 65536);
}

static void test_cgroup__a_group_that_is_not_shown_here_falls_back_to_the_mount(void **state)
{
    write_file("self", "3:cpu:/docker/0123\n0::/../outside\n");
    write_file("mount/cpu/cpu.cfs_quota_us", "200000\n");
    write_file("mount/cpu/cpu.cfs_period_us", "100000\n");
    double cores = 0;
    assert_true(cgroup_cores(at("mount"), at("self"), &cores));
    assert_true(cores == 2);
}

static void test_cgroup__what_cannot_be_read_limits_nothing(void **state)
{
    double cores = 7;
    uint64_t bytes = 7;
    assert_false(cgroup_cores(at("mount"), at("none"), &cores));
    write_file("self", "0::/\n");
    assert_false(cgroup_cores(at("mount"), at("self"), &cores));
    write_file("self", "nonsense\n:\n::\n0:\n");
    write_file("mount/memory.max", "");
    write_file("mount/cpu.max", "100000\n");
    assert_false(cgroup_memory(at("mount"), at("self"), &bytes));
    assert_false(cgroup_cores(at("mount"), at("self"), &cores));
    write_file("self", "0::/\n");
    write_file("mount/cpu.max", "100000 0\n");
    assert_false(cgroup_cores(at("mount"), at("self"), &cores));
    assert_true(cores == 7 && bytes == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cgroup__takes_the_smallest_limit_up_to_the_root,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cgroup__reads_the_root_of_a_container, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_cgroup__knows_version_1, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_cgroup__a_group_that_is_not_shown_here_falls_back_to_the_mount, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cgroup__what_cannot_be_read_limits_nothing, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
