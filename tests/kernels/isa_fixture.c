#include "tests/kernels/isa_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

bool isa_is_skipped(enum isa isa)
{
    if (isa_is_available(isa))
        return false;
    print_message("skipped: %s, because this machine has no %s\n", isa_name(isa), isa_name(isa));
    return true;
}
