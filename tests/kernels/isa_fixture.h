/* tests/kernels/isa_fixture.h: the named skip of what this machine cannot run. */
#ifndef QUIRE_TESTS_ISA_FIXTURE_H
#define QUIRE_TESTS_ISA_FIXTURE_H

#include "kernels/device.h"

/* True, after a line that says what is skipped and why, when this machine lacks the instruction
 * set. */
bool isa_is_skipped(enum isa isa);

#endif
