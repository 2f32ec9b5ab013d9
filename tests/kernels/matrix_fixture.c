#include "tests/kernels/matrix_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_MAX 256

static struct {
    const char *op, *dtype, *shapes;
    unsigned n_cases;
} lines[LINES_MAX];
static size_t n_lines;

void matrix_passed(const char *op, const char *dtype, const char *shapes)
{
    size_t i = 0;
    while (i < n_lines && (strcmp(lines[i].op, op) != 0 || strcmp(lines[i].dtype, dtype) != 0 ||
                           strcmp(lines[i].shapes, shapes) != 0))
        i++;
    assert_true(i < LINES_MAX);
    if (i == n_lines) {
        lines[i].op = op;
        lines[i].dtype = dtype;
        lines[i].shapes = shapes;
        n_lines++;
    }
    lines[i].n_cases++;
}

int matrix_run(const struct CMUnitTest *tails, size_t n_tails, const struct CMUnitTest *medium,
               size_t n_medium)
{
    const char *shapes = getenv("QUIRE_SHAPES");
    bool is_medium = shapes != NULL && strcmp(shapes, "medium") == 0;
    int n_failed = is_medium ? _cmocka_run_group_tests("medium", medium, n_medium, NULL, NULL)
                             : _cmocka_run_group_tests("tails", tails, n_tails, NULL, NULL);
    for (size_t i = 0; i < n_lines; i++)
        printf("matrix|%s|%s|%s|%u\n", lines[i].op, lines[i].dtype, lines[i].shapes,
               lines[i].n_cases);
    return n_failed;
}
