/* tests/kernels/matrix_fixture.h: the cases of an op that have passed, for the table of
 * tests/cuda_on_cpu/matrix.py; and the two kinds of shapes that a test of an op knows.
 *
 *   tails    the smallest shapes that have each end of a tile, a page, a block
 *   medium   shapes as a model has them; run instead with QUIRE_SHAPES=medium in the environment
 */
#ifndef QUIRE_TESTS_MATRIX_FIXTURE_H
#define QUIRE_TESTS_MATRIX_FIXTURE_H

#include <stddef.h>

struct CMUnitTest;

/* A case has passed: behind its last assertion. Texts that last. */
void matrix_passed(const char *op, const char *dtype, const char *shapes);

/* What main returns: runs the tests of one kind, then prints a line for each op, dtype and kind of
 * shapes: "matrix|op|dtype|shapes|cases". */
int matrix_run(const struct CMUnitTest *tails, size_t n_tails, const struct CMUnitTest *medium,
               size_t n_medium);

#endif
