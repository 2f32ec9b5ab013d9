/* In every test of a build for another processor: leaves out what tests/native.txt names for it, a
 * glob over the names of its tests in QUIRE_LEFT_OUT.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

__attribute__((constructor)) static void leave_out(void)
{
    const char *glob = getenv("QUIRE_LEFT_OUT");
    if (glob == NULL)
        return;
    print_message("skipped: %s, which tests/native.txt leaves out\n", glob);
    cmocka_set_skip_filter(glob);
}
